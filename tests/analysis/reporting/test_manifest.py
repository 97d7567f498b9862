from __future__ import annotations

import json

import pytest

from analysis.reporting.manifest import (
    Manifest,
    ManifestError,
    Settings,
    changed_hashes,
    differences,
    library_versions,
    numbers_of,
    read_manifest,
    write_manifest,
)

CONTENT = {"runs": [{"c": 0.7, "n": 10, "name": "a"}, {"c": None}], "ok": True, "bad": float("nan")}


def manifest(**numbers: float | None) -> Manifest:
    return Manifest(
        created="2026-01-01T00:00:00+00:00",
        command="fusionlens report",
        cohort="pe",
        cohort_fingerprint="f" * 16,
        settings=Settings(task="mortality", runs={"a": "b"}, splits=("internal",), n_resamples=10),
        versions=library_versions(),
        numbers=numbers,
    )


def test_every_number_has_its_place() -> None:
    assert dict(numbers_of(CONTENT)) == {
        "runs.0.c": 0.7,
        "runs.0.n": 10.0,
        "runs.1.c": None,
        "ok": 1.0,
        "bad": None,
    }


def test_a_replay_finds_what_changed() -> None:
    told = dict(numbers_of(CONTENT))
    assert differences(told, CONTENT) == []
    other = {**CONTENT, "runs": [{"c": 0.7 + 1e-9, "n": 11}, {}], "new": 1}
    found = {d.place: (d.told, d.found) for d in differences(told, other)}
    assert found == {"runs.0.n": (10, 11), "runs.1.c": (None, None), "new": (None, 1)}


def test_a_manifest_is_read_as_it_was_written(tmp_path) -> None:
    path = tmp_path / "report.manifest.json"
    write_manifest(manifest(a=1 / 3, b=None), path)
    assert read_manifest(path) == manifest(a=1 / 3, b=None)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no such file"),
        ("{", "not JSON text"),
        ('{"version": 2}', "field 'version'"),
        (json.dumps({"version": 1, "numbers": {"a": "x"}}), "field 'created'"),
    ],
)
def test_a_bad_manifest_is_refused_in_one_sentence(tmp_path, text, says) -> None:
    path = tmp_path / "m.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ManifestError, match=says) as error:
        read_manifest(path)
    assert "fusionlens report" in str(error.value)
    assert "\n" not in str(error.value)


def test_changed_runs_are_named() -> None:
    assert changed_hashes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4"}) == [
        "Run 'b' is not the one of the report: 4, not 2.",
        "Run 'c' is not there.",
    ]
