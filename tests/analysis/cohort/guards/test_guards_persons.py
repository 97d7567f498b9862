"""Persons, files, rows and events that are there twice."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.content import full_content, part_of_content, size_of_content
from analysis.cohort.write import write_signal, write_volume
from models.contracts import Kind


def _with_scans(toy, subjects: tuple[int, ...] = (1, 2, 3, 4)) -> None:
    rng = np.random.default_rng(5)
    for subject in subjects:
        scan = rng.integers(-1000, 400, (8, 10, 12)).astype(np.int16)
        write_volume(toy.folder / "ct" / f"{subject}.nii.gz", scan, (3.0, 2.0, 2.0))
        toy.files.append(("ct", subject, f"ct/{subject}.nii.gz"))
    toy.kinds["ct"] = Kind.VOLUME


def test_ids_that_differ_by_zeros_and_case(toy) -> None:
    toy.subjects["source_id"] = [f"{i:04d}" for i in toy.subjects["subject_id"]]
    assert toy.problems() == []
    toy.subjects.loc[2, "source_id"] = "1 "  # of split tuning; subject 1 is '0001', train
    (problem,) = toy.problems()
    assert problem.severity == "warning"
    assert "1 of 79 persons are in two splits" in problem.what
    assert "'0001' in train, '1 ' in tuning" in problem.what


def test_a_person_in_two_folds(toy) -> None:
    ids = toy.subjects["subject_id"]
    toy.folds = pd.DataFrame({"subject_id": ids, "fold": ids % 5})
    assert toy.problems() == []
    toy.subjects.loc[1, "source_id"] = toy.subjects.loc[0, "source_id"]
    errors = [p for p in toy.problems() if p.severity == "error"]
    assert [(p.file, p.where) for p in errors] == [("folds.parquet", "fold")]
    assert "P0001" in errors[0].what


@pytest.mark.parametrize(("copy", "severity"), [(3, "error"), (2, "warning")])
def test_one_scan_under_two_subjects(toy, copy: int, severity: str) -> None:
    _with_scans(toy)
    assert toy.problems() == []
    packed = (toy.folder / "ct/1.nii.gz").read_bytes()
    # The same voxels in another packing: other bytes, another length.
    again = gzip.compress(gzip.decompress(packed), compresslevel=9, mtime=99)
    assert again != packed
    (toy.folder / f"ct/{copy}.nii.gz").write_bytes(again)
    (problem,) = toy.problems()
    split = {3: "tuning", 2: "train"}[copy]
    assert problem.severity == severity
    assert problem.what.startswith("2 subjects ")
    assert f"subject 1 in train (ct/1.nii.gz) and subject {copy} in {split}" in problem.what


def test_one_recording_under_two_names(toy) -> None:
    rng = np.random.default_rng(1)
    for subject in (1, 4):
        write_signal(
            toy.folder / f"ecg/{subject}.hea", rng.normal(0, 0.4, (2, 5000)), ["I", "V1"], 500
        )
        toy.files.append(("ecg", subject, f"ecg/{subject}.hea"))
    toy.kinds["ecg"] = Kind.SIGNAL
    assert not [p for p in toy.problems() if "same" in p.what]
    shutil.copy(toy.folder / "ecg/1.dat", toy.folder / "ecg/4.dat")
    (problem,) = [p for p in toy.problems() if "same file content" in p.what]
    assert problem.severity == "error"
    assert "subject 4 in internal (ecg/4.hea)" in problem.what


def test_content_is_told_apart_where_size_and_ends_agree(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 600_000, np.uint8)
    one, other = tmp_path / "a.nii", tmp_path / "b.nii"
    one.write_bytes(data.tobytes())
    data[200_000] ^= 1
    other.write_bytes(data.tobytes())
    assert size_of_content(one) == size_of_content(other)
    assert part_of_content(one) == part_of_content(other)
    assert full_content(one) != full_content(other)


def test_rows_of_a_table(toy) -> None:
    names = [n for n in toy.labs if n != "subject_id"]
    toy.labs.loc[6, names] = toy.labs.loc[0, names].to_numpy()  # subjects 1 and 7, train, tuning
    (problem,) = toy.problems()
    assert problem.severity == "error"
    assert "subject 1 in train and subject 7 in tuning" in problem.what
    toy.labs.loc[[8, 9], names] = toy.labs.loc[0, names].to_numpy()
    (problem,) = toy.problems()
    assert problem.severity == "warning"
    assert "4 of 80 rows agree" in problem.what
    assert "4 subjects: 1, 7, 9, 10" in problem.what


def test_zeros_are_no_fingerprint(toy) -> None:
    names = [n for n in toy.labs if n != "subject_id"]
    toy.labs.loc[:30, names] = 0.0
    assert toy.problems() == []


def test_events_there_twice(toy) -> None:
    once = len(toy.events)
    toy.events = pd.concat([toy.events, toy.events.iloc[:60]]).sort_values(["subject_id", "time"])
    (problem,) = toy.problems()
    assert problem.severity == "warning"
    assert f"60 of {once + 60} events" in problem.what
    toy.events = toy.events.drop_duplicates()
    assert toy.problems() == []


def test_codes_spelled_twice(toy) -> None:
    rows = toy.events.index[toy.events["code"] == "LAB/3"]
    toy.events.loc[rows[:5], "code"] = "lab/3 "
    (problem,) = toy.problems()
    assert problem.severity == "warning"
    assert "'lab/3 ' (5 events)" in problem.what
    assert f"'LAB/3' ({len(rows) - 5} events)" in problem.what


def test_a_record_that_lies_after_time_zero(toy) -> None:
    toy.subjects["index_time"] -= pd.Timedelta(days=200)
    (problem,) = [p for p in toy.problems() if "hidden" in p.what]
    late = toy.events.merge(toy.subjects[["subject_id", "index_time"]])
    late = late[late["code"] != "MEDS_DEATH"]
    after = int((late["time"] > late["index_time"]).sum())
    assert f"{after} of {len(late)} dated events" in problem.what
    assert "80 of 80 patients" in problem.what
    assert problem.severity == "warning"
