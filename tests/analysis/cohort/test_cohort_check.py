from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

from analysis.cohort.check import check_cohort

SUBJ, OUT, IMG = "subjects.parquet", "outcomes.parquet", "imaging.parquet"
CODES, SHARD = "ehr/metadata/codes.parquet", "ehr/data/0.parquet"
LABS, BAG, CT = "tables/labs.parquet", "bags/tma.parquet", "ct/2.nii.gz"
Frame = pd.DataFrame


def test_a_sound_cohort_has_no_problem(cohort_folder: Path) -> None:
    assert check_cohort(cohort_folder) == []
    assert check_cohort(cohort_folder, deep=True) == []


def at(column: str, row: int, value: object) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame.infer_objects()

    return change


def more(**cells: object) -> Callable[[Frame], Frame]:
    """One more row, a copy of the first with some cells changed."""

    def change(frame: Frame) -> Frame:
        row = frame.iloc[[0]].copy()
        for name, value in cells.items():
            row[name] = [value]
        return pd.concat([frame, row], ignore_index=True)

    return change


def only(task: str, **cells: object) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        for name, value in cells.items():
            frame.loc[frame["task"] == task, name] = value
        return frame

    return change


EDITS = [
    # file edited, edit, severity, file and words of the problem
    (SUBJ, more(), "error", SUBJ, "1 subject: 1 listed twice"),
    (SUBJ, more(split="tuning"), "error", SUBJ, "1 subject: 1 in two splits"),
    (SUBJ, more(subject_id=9, split="tuning"), "error", SUBJ, "same person .* two splits"),
    (SUBJ, more(subject_id=9), "warning", SUBJ, "two subject_ids"),
    (
        SUBJ,
        more(subject_id=9, source_id="P9"),
        "error",
        SUBJ,
        "1 subject: 9 without any modality",
    ),
    (SUBJ, at("split", 0, "test"), "error", SUBJ, "unknown split test"),
    (SUBJ, at("age_years", 0, 640.0), "warning", SUBJ, "age outside"),
    (
        SUBJ,
        at("index_time", 1, None),
        "error",
        SUBJ,
        "1 subject: 2 with events but no index_time",
    ),
    (SUBJ, lambda f: f.assign(index_time="June"), "error", SUBJ, "does not hold times"),
    (SUBJ, lambda f: f.drop(columns="split"), "error", SUBJ, "'split' is missing"),
    (
        SUBJ,
        lambda f: f.assign(split="tuning"),
        "error",
        SUBJ,
        "no subject is in split train",
    ),
    (SUBJ, lambda f: f.iloc[:0], "error", SUBJ, "lists no subjects"),
    (OUT, at("time_days", 0, float("nan")), "error", OUT, "missing or infinite time"),
    (OUT, at("time_days", 0, float("inf")), "error", OUT, "missing or infinite time"),
    (OUT, at("time_days", 1, -3.0), "error", OUT, "1 subject: 2 with a negative time"),
    (OUT, at("event", 0, 2.0), "error", OUT, "event that is not 0 or 1"),
    (OUT, only("death", event=0), "error", OUT, "no subject has the event"),
    (OUT, lambda f: f[f["task"] != "death"], "error", OUT, "has no outcomes"),
    (OUT, at("event", 0, 0.0), None, OUT, ""),
    (OUT, more(), "error", OUT, "with two outcomes"),
    (OUT, more(subject_id=77), "error", OUT, "1 subject: 77 not in subjects"),
    (OUT, more(task="fall"), "error", OUT, "unknown task fall"),
    (OUT, only("stage", label=2), "error", OUT, "label outside 0 to 1"),
    (OUT, only("stage", label=1), "warning", OUT, "no subject has class low"),
    (OUT, lambda f: f.drop(columns="event"), "error", OUT, "'event' is missing"),
    ("folds.parquet", more(), "error", "folds.parquet", "in two folds"),
    ("folds.parquet", more(subject_id=77), "error", "folds.parquet", "77 not in subjects"),
    ("folds.parquet", at("fold", 0, -1), "error", "folds.parquet", "something else"),
    ("folds.parquet", lambda f: f.iloc[1:], "warning", "folds.parquet", "1 subject: 1 in no fold"),
    (IMG, at("path", 0, "ct/none.nii.gz"), "error", IMG, "'ct/none.nii.gz' is missing"),
    (IMG, at("path", 0, "../../etc/passwd"), "error", IMG, "leaves the cohort folder"),
    (IMG, at("path", 0, "/etc/passwd"), "error", IMG, "leaves the cohort folder"),
    (IMG, at("subject_id", 0, 77), "error", IMG, "1 subject: 77 not in subjects"),
    (IMG, lambda f: f.assign(modality="mri"), "error", IMG, "lists no files"),
    (
        IMG,
        at("acquired", 0, pd.Timestamp("2021-01-01")),
        "warning",
        IMG,
        "after the index day",
    ),
    (SHARD, more(subject_id=77), "error", "ehr", "1 subject: 77 not in subjects"),
    (SHARD, lambda f: f.iloc[::-1], "warning", "ehr", "not sorted"),
    (SHARD, lambda f: f.iloc[:0], "error", "ehr", "holds no events"),
    (SHARD, at("time", 5, pd.Timestamp("2025-01-01")), "warning", "ehr", "only after the index"),
    (SHARD, at("numeric_value", 1, np.inf), "warning", "ehr", "infinite values"),
    (CODES, lambda f: f.iloc[1:], "warning", CODES, "1 of 4 codes are not listed"),
    (CODES, lambda f: f.assign(description=None), "warning", CODES, "4 codes have no description"),
    (LABS, lambda f: f.drop(columns="sodium"), "error", LABS, "is missing"),
    (LABS, lambda f: f.assign(sodium=140.0), "warning", LABS, "same for everybody"),
    (LABS, lambda f: f.assign(sodium=np.nan), "warning", LABS, "no value at all"),
    (LABS, lambda f: f.assign(sodium="low"), "error", LABS, "'sodium' holds text"),
    (LABS, at("smoker", 0, 3.0), "error", LABS, "'smoker' is binary"),
    (LABS, at("site", 0, "ear"), "error", LABS, "'ear', which is not among"),
    (LABS, lambda f: f.assign(extra=1), "warning", LABS, "extra are not in cohort.yaml"),
    (LABS, more(), "error", LABS, "listed twice"),
    (LABS, more(subject_id=77), "error", LABS, "77 not in subjects"),
    (BAG, lambda f: f.assign(features=[[1.0, 2]] * 4), "error", BAG, "not 3 wide"),
    (BAG, lambda f: f.assign(features=[[1.0, 2, np.nan]] * 4), "error", BAG, "NaN"),
    (BAG, lambda f: f.assign(features=1.0), "error", BAG, "holds double"),
    (BAG, more(subject_id=77), "error", BAG, "77 not in subjects"),
    (BAG, more(), "warning", BAG, "an instance twice"),
]


@pytest.mark.parametrize(("file", "change", "severity", "where", "says"), EDITS)
def test_each_problem_is_named(
    cohort_folder: Path, edit, file: str, change, severity: str | None, where: str, says: str
) -> None:
    edit(cohort_folder / file, change)
    problems = check_cohort(cohort_folder)
    if severity is None:
        assert problems == []
        return
    hits = [p for p in problems if p.file == where and re.search(says, f"{p.where} {p.what}")]
    assert hits, [str(p) for p in problems]
    assert hits[0].severity == severity
    assert hits[0].remedy
    assert str(cohort_folder) not in str(hits[0])


@pytest.mark.parametrize("file", [SUBJ, OUT, IMG, SHARD, CODES, LABS, BAG, CT, "folds.parquet"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "folder"])
def test_damaged_files_never_raise(cohort_folder: Path, file: str, damage: str) -> None:
    path = cohort_folder / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path.write_bytes(b"%PDF-1.7 not what you think" * 40)
    else:
        path.mkdir()
    problems = check_cohort(cohort_folder, deep=True)
    parents = {file, "ehr"} if file in (SHARD, CODES) else {file}
    assert [p for p in problems if p.file in parents], [str(p) for p in problems]


def test_volume_problems_are_listed_one_by_one(cohort_folder: Path) -> None:
    raw = bytearray(gzip.decompress((cohort_folder / CT).read_bytes()))
    raw[84:88] = np.float32(0).tobytes()
    (cohort_folder / CT).write_bytes(gzip.compress(bytes(raw)))
    whole = (cohort_folder / "ct/3.nii.gz").read_bytes()
    (cohort_folder / "ct/3.nii.gz").write_bytes(whole[:-20])
    nan = nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4))
    nib.save(nan, cohort_folder / "ct/1.nii.gz")
    shallow = {p.file: p.what for p in check_cohort(cohort_folder)}
    assert "spacing" in shallow[CT]
    assert "ct/1.nii.gz" not in shallow
    deep = {p.file: p.what for p in check_cohort(cohort_folder, deep=True)}
    assert set(deep) == {"ct/1.nii.gz", CT, "ct/3.nii.gz"}
    assert "NaN" in deep["ct/1.nii.gz"]


def test_spec_problems_all_at_once(cohort_folder: Path) -> None:
    path = cohort_folder / "cohort.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["modalities"]["labs"]["path"] = "../labs.parquet"
    spec["modalities"]["tma"]["feature_width"] = None
    spec["colour"] = "red"
    path.write_text(yaml.safe_dump(spec))
    problems = check_cohort(cohort_folder)
    assert {p.where for p in problems} >= {"modalities.labs.path", "modalities.tma", "colour"}
    path.write_text("{{{{")
    assert [p.file for p in check_cohort(cohort_folder)] == ["cohort.yaml"]
    path.unlink()
    assert "no cohort.yaml" in check_cohort(cohort_folder)[0].what
    assert check_cohort(cohort_folder / "nowhere")


def test_several_files_broken_at_once_are_all_listed(cohort_folder: Path) -> None:
    for name in (OUT, LABS, BAG):
        (cohort_folder / name).write_bytes(b"")
    (cohort_folder / CT).unlink()
    (cohort_folder / "ehr/data/0.parquet").unlink()
    files = {p.file for p in check_cohort(cohort_folder)}
    assert files == {OUT, LABS, BAG, IMG, "ehr"}


def test_missing_modality_file_unless_features_stand_in(cohort_folder: Path) -> None:
    (cohort_folder / BAG).unlink()
    assert [(p.file, p.severity) for p in check_cohort(cohort_folder)] == [(BAG, "error")]
    home = cohort_folder / "features" / "tma"
    home.mkdir(parents=True)
    save_file({"subject_id": np.array([1, 2, 6], np.int64)}, home / "f.safetensors")
    assert check_cohort(cohort_folder) == []
    save_file({"subject_id": np.array([1, 99], np.int64)}, home / "f.safetensors")
    what = {p.file: p.what for p in check_cohort(cohort_folder)}
    assert "99 not in" in what["features/tma/f.safetensors"]
    (home / "f.safetensors").write_bytes(b"cut")
    files = {p.file for p in check_cohort(cohort_folder)}
    assert "features/tma/f.safetensors" in files


def test_errors_come_before_warnings_and_read_as_sentences(cohort_folder: Path, edit) -> None:
    edit(cohort_folder / LABS, lambda f: f.assign(extra=1, sodium=140.0))
    edit(cohort_folder / OUT, at("time_days", 1, -3.0))
    problems = check_cohort(cohort_folder)
    assert [p.severity for p in problems] == ["error", "warning", "warning"]
    assert str(problems[0]) == (
        "error: outcomes.parquet (task death): 1 subject: 2 with a negative time_days; "
        "correct the dates or remove the rows."
    )
