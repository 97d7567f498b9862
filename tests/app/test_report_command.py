"""`fusionlens report`: the very numbers of the other commands, a file that needs no network, and a
replay that finds what changed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from app import review, theme
from app.cli import cli
from app.commands import report as command
from models.checkpoint import read_config

RUNS = ("pe-late-onehot", "pe-ehr-onehot", "pe-ct")
LESS = ["--resamples", "40"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["report", *arguments])


@pytest.fixture(scope="module")
def home(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pulmonary embolism cohort with three runs, and head and neck cancer with two."""
    folder = tmp_path_factory.mktemp("report") / "workspace"
    for name in ("pe", "hnscc"):
        shutil.copytree(tiny_workspace / "cohorts" / name, folder / "cohorts" / name)
    for name in (*RUNS, "hnscc-5y-late", "hnscc-5y-haf"):
        shutil.copytree(tiny_workspace / "runs" / name, folder / "runs" / name)
    shutil.copytree(tiny_workspace / "encoders", folder / "encoders")
    return folder


@pytest.fixture(scope="module")
def made(home: Path) -> tuple[Path, dict[str, Any]]:
    """A report of the three runs, and what `--json` prints."""
    out = home.parent / "pe.html"
    given = [a for name in RUNS for a in ("--run", name)]
    found = run("--workspace", str(home), "--task", "mortality", *given, *LESS, "--out", str(out),
                "--json")  # fmt: skip
    assert found.exit_code == 0, found.output
    return out, json.loads(found.stdout)


def styles(home: Path, found: dict[str, Any]) -> dict[str, Any]:
    names = [row["run"] for row in found["about"]["runs"]]
    return {n: theme.run_style(read_config(home / "runs" / n)) for n in names}


def test_its_numbers_are_those_of_the_other_commands(home: Path, made: Any) -> None:
    _, found = made
    cohort = ["--cohort", str(home / "cohorts" / "pe"), *LESS, "--json"]
    folders = [str(home / "runs" / name) for name in RUNS]
    for split in ("internal", "external"):
        told = CliRunner().invoke(cli, ["evaluate", *folders, "--split", split, *cohort])
        assert found["splits"][split]["comparison"] == json.loads(told.stdout)
        told = CliRunner().invoke(cli, ["assess", *folders, "--split", split, *cohort])
        assert found["splits"][split]["assessment"] == json.loads(told.stdout)
    told = CliRunner().invoke(cli, ["missing", folders[0], *cohort])
    assert found["missing"][RUNS[0]]["drop"] == json.loads(told.stdout)["drop"]
    assert set(found["imbalance"]) == {RUNS[0]}
    told = CliRunner().invoke(
        cli, ["imbalance", folders[0], *cohort, "--unimodal", folders[1], "--unimodal", folders[2]]
    )
    single = {row["modality"]: row for row in json.loads(told.stdout)["shapley"]["modalities"]}
    for row in found["imbalance"][RUNS[0]]["shapley"]["modalities"]:
        # A sum in memory that lies elsewhere may differ in its last bit.
        assert row["value"] == pytest.approx(single[row["modality"]]["value"], abs=1e-12)


def test_every_question_has_an_answer(home: Path, made: Any) -> None:
    _, found = made
    sections = review.sections(found, styles(home, found))
    assert [one.number for one in sections] == list(range(1, 10))
    assert all(one.question.endswith("?") and one.answer for one in sections)
    names = [p.name for one in sections for p in one.parts if isinstance(p, review.Evidence)]
    assert len(set(names)) == len(names)
    for name in ("best", "calibration", "net benefit", "transfer", "subgroups"):
        assert name in names
    tables = {p.caption: p for one in sections for p in one.parts if isinstance(p, review.Rows)}
    shares = tables["What each modality carries"].data
    assert list(shares["Modality"]) == ["CT", "EHR"]


def test_the_file_is_whole_and_asks_nothing_of_any_network(made: Any) -> None:
    out, found = made
    text = out.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", text)
    for number in range(1, 10):
        assert f"<h2>{number}. " in text
    for row in found["about"]["runs"]:
        assert row["hash"] in text
    assert [p.name for p in out.parent.glob(".*partial")] == []


def test_a_replay_computes_every_number_anew(home: Path, made: Any) -> None:
    out, _ = made
    manifest = out.with_name("pe.manifest.json")
    found = run("--workspace", str(home), "--replay", str(manifest), "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["numbers"] > 500
    assert told["differences"] == []
    content = json.loads(manifest.read_text())
    place = "splits.internal.comparison.runs.0.c_index.value"
    content["numbers"][place] += 0.01
    manifest_2 = out.with_name("changed.manifest.json")
    manifest_2.write_text(json.dumps(content))
    found = run("--workspace", str(home), "--replay", str(manifest_2))
    assert found.exit_code == 1
    assert place in found.stdout
    content["settings"]["runs"][RUNS[1]] = "0" * 16
    manifest_2.write_text(json.dumps(content))
    found = run("--workspace", str(home), "--replay", str(manifest_2))
    assert found.exit_code == 2
    assert f"Run '{RUNS[1]}' is not the one of the report" in found.output.replace("\n", " ")


def test_a_class_task_has_a_report_too(home: Path) -> None:
    out = home.parent / "hnscc.html"
    found = run("--workspace", str(home), "--task", "hnscc/death_5y", *LESS, "--out", str(out))
    assert found.exit_code == 0, found.output
    assert "Which modality carries it?" in found.stdout
    assert "dead within five years" in out.read_text(encoding="utf-8")


def test_patients_without_an_event_are_told_of_in_words(home: Path, tmp_path: Path) -> None:
    """Nothing is scored, and nothing is claimed: neither balance, nor calibration, nor transfer."""
    folder = tmp_path / "workspace"
    shutil.copytree(home / "cohorts" / "pe", folder / "cohorts" / "pe")
    for name in RUNS:
        shutil.copytree(home / "runs" / name, folder / "runs" / name)
    shutil.copytree(home / "encoders", folder / "encoders")
    cohort = folder / "cohorts" / "pe"
    subjects = pd.read_parquet(cohort / "subjects.parquet").set_index("subject_id")["split"]
    outcomes = pd.read_parquet(cohort / "outcomes.parquet")
    internal = outcomes["subject_id"].map(subjects) == "internal"
    outcomes["event"] = outcomes["event"].where(~internal, 0).astype(outcomes["event"].dtype)
    outcomes.to_parquet(cohort / "outcomes.parquet", index=False)
    out = tmp_path / "r.html"
    found = run(
        "--workspace", str(folder), "--task", "mortality", *LESS, "--out", str(out), "--json"
    )
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    sections = {s.number: s for s in review.sections(told, styles(folder, told))}
    n = told["splits"]["internal"]["assessment"]["n"]
    for number in (2, 3, 4, 5, 6, 7):
        assert f"None of the {n} patients had the event" in " ".join(sections[number].answer)
    assert "beyond chance" not in " ".join(sections[7].answer)
    assert not sections[3].parts
    assert not sections[4].parts


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "nothing", "--out", "x.html"], "there is no task 'nothing'"),
        (["--task", "mortality"], "name a --task and a file"),
        (["--task", "mortality", "--run", "x", "--out", "x.html"], "run 'x': it is not among"),
        (["--replay", "nowhere.json"], "there is no such file"),
    ],
)
def test_bad_input_ends_in_one_sentence(home: Path, arguments: list[str], says: str) -> None:
    found = run("--workspace", str(home), *arguments)
    assert found.exit_code == 2
    assert says in " ".join(found.output.split())
    assert not Path("x.html").exists()


def test_a_pdf_needs_a_browser(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "BROWSERS", ())
    out = tmp_path / "r.html"
    found = run("--workspace", str(home), "--task", "mortality", "--pdf", "--out", str(out))
    assert found.exit_code == 2
    assert "--pdf needs a browser" in found.output
    assert list(tmp_path.iterdir()) == []
