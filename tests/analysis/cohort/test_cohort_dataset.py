from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import (
    BagReading,
    CohortDataset,
    EventReading,
    TableReading,
    VolumeReading,
    all_inputs,
    collate,
    event_rows,
    fit_vocabulary,
)
from analysis.cohort.readers.events import read_events
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_imaging, write_meds, write_subjects
from models.vocabulary import Vocabulary

WORDS = Vocabulary(("DX//PE", "LAB//NA"), (0.0, 135.0), (1.0, 5.0))
READINGS = {
    "ct": VolumeReading((2.0, 2.0, 2.0), (4, 6, 4)),
    "ehr": EventReading(WORDS),
    "labs": TableReading(),
    "tma": BagReading(),
}


def test_open_and_ask(cohort_folder: Path) -> None:
    cohort = Cohort.open(cohort_folder)
    assert cohort.subject_ids().tolist() == [1, 2, 3, 4, 5, 6]
    assert cohort.subject_ids("train").tolist() == [1, 2, 3]
    assert cohort.subject_ids(task="death").tolist() == [1, 2, 3, 4, 5]
    assert cohort.subjects["site"].isna().all()
    assert cohort.codes["LAB//NA"].description == "sodium"
    assert cohort.codes["LAB//NA"].parents == ("LAB",)
    assert cohort.folds is not None
    assert cohort.folds.loc[4] == 1
    assert len(cohort.fingerprint) == 16
    with pytest.raises(CohortError, match="no split 'test'"):
        cohort.subject_ids("test")
    with pytest.raises(CohortError, match="no task 'x'"):
        cohort.outcomes("x", [1])
    with pytest.raises(CohortError, match="no modality 'x'"):
        cohort.modality("x")
    with pytest.raises(CohortError, match="is table, not bag"):
        cohort.bag("labs")


def test_outcomes_keep_the_order_and_say_who_is_without(cohort_folder: Path) -> None:
    outcomes = Cohort.open(cohort_folder).outcomes("death", [5, 6, 2])
    assert outcomes.subject_ids.tolist() == [5, 2]
    assert outcomes.time_days is not None
    assert outcomes.time_days.tolist() == [50.0, 20.0]
    assert outcomes.event is not None
    assert outcomes.event.tolist() == [True, False]
    assert outcomes.event.dtype == bool
    assert outcomes.without == (6,)
    stage = Cohort.open(cohort_folder).outcomes("stage", [6, 1])
    assert stage.label is not None
    assert stage.label.tolist() == [1, 0]
    assert stage.time_days is None


def test_availability_counts_usable_data_and_cached_features(cohort_folder: Path) -> None:
    expected = {"ct": [1, 2, 3], "ehr": [1, 2, 4], "labs": [1, 5], "tma": [1, 2, 6]}
    frame = Cohort.open(cohort_folder).availability()
    assert {name: frame.index[frame[name]].tolist() for name in frame} == expected
    home = cohort_folder / "features" / "ct"
    home.mkdir(parents=True)
    features = {
        "subject_id": np.array([1, 4, 77], np.int64),
        "tokens": np.zeros((3, 2, 2), np.float32),
    }
    save_file(features, home / "abc.safetensors")
    (cohort_folder / "ct" / "3.nii.gz").unlink()
    cohort = Cohort.open(cohort_folder)
    assert cohort.availability()["ct"].tolist() == [True, True, False, True, False, False]
    with pytest.raises(CohortError, match=r"1 subjects \(first 4\) have 'ct' only as cached"):
        CohortDataset(cohort, [1, 4], {"ct": READINGS["ct"]})
    save_file({"tokens": np.zeros(2, np.float32)}, home / "abc.safetensors")
    with pytest.raises(CohortError, match="tensor 'subject_id'"):
        Cohort.open(cohort_folder).availability()


def test_samples_and_padding(cohort_folder: Path) -> None:
    cohort = Cohort.open(cohort_folder)
    dataset = CohortDataset(cohort, [1, 2, 3, 4, 5, 6], READINGS, "death")
    assert dataset.without_outcome == (6,)
    batch = all_inputs(dataset)
    assert batch.subject_ids.tolist() == [1, 2, 3, 4, 5]
    assert batch.time_days is not None
    assert batch.time_days.dtype == torch.float64
    assert batch.event is not None
    assert batch.event.tolist() == [True, False, True, False, True]
    assert batch.label is None

    ct = batch.inputs["ct"]
    assert ct.present.tolist() == [True, True, True, False, False]
    assert ct.fields["volume"].shape == (5, 1, 4, 6, 4)
    assert ct.fields["volume"].dtype == torch.float32
    volume = ct.fields["volume"][1, 0]
    assert (volume[:, 0] == -1024).all()  # one row of air; 6 slices cut to 4
    assert (volume[:, 1:] == -998).all()
    assert (ct.fields["volume"][3:] == 0).all()

    ehr = batch.inputs["ehr"]
    assert ehr.present.tolist() == [True, True, False, True, False]
    assert ehr.fields["codes"].tolist() == [[1, 3, 2], [3, 0, 0], [0, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert ehr.fields["days_before"][0].tolist() == [10, 10, 0]  # static: as old as the oldest
    assert ehr.fields["values"][0].tolist() == [0, 140, 0]
    assert ehr.fields["has_value"].tolist()[0] == [False, True, False]
    assert ehr.fields["mask"].sum(1).tolist() == [3, 1, 0, 1, 0]
    assert ehr.fields["codes"].dtype == torch.int64
    assert ehr.fields["days_before"].dtype == torch.float32

    labs = batch.inputs["labs"]
    assert labs.present.tolist() == [True, False, False, False, True]
    assert labs.fields["values"][0].tolist() == [140, 1, 1]  # tongue is category 1
    assert labs.fields["mask"].tolist()[4] == [True, True, False]
    assert not labs.fields["mask"][1:4].any()

    tma = batch.inputs["tma"]
    assert tma.present.tolist() == [True, True, False, False, False]
    assert tma.fields["features"][0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tma.fields["mask"].tolist()[:3] == [[True, True], [True, False], [False, False]]


def test_a_batch_wholly_without_a_modality_still_has_its_shape(cohort_folder: Path) -> None:
    dataset = CohortDataset(Cohort.open(cohort_folder), [3], READINGS, "stage")
    batch = collate([dataset[0]])
    assert batch.label is not None
    assert batch.label.tolist() == [0]
    assert batch.time_days is None
    assert batch.inputs["ehr"].fields["codes"].shape == (1, 1)
    assert batch.inputs["tma"].fields["features"].shape == (1, 1, 3)
    assert batch.inputs["labs"].fields["values"].shape == (1, 3)
    absent = [name for name, item in batch.inputs.items() if not item.present.any()]
    assert absent == ["ehr", "labs", "tma"]


def test_neighbours_do_not_change_a_sample(cohort_folder: Path) -> None:
    dataset = CohortDataset(Cohort.open(cohort_folder), [1, 2, 3], READINGS)
    alone, together = collate([dataset[1]]), all_inputs(dataset)
    for name, item in alone.inputs.items():
        for field, tensor in item.fields.items():
            row = together.inputs[name].fields[field][1]
            if field in ("codes", "values", "days_before", "features") and name != "labs":
                row = row[: tensor.shape[1]]
            elif name in ("ehr", "tma"):
                assert not row[tensor.shape[1] :].any()
                row = row[: tensor.shape[1]]
            torch.testing.assert_close(row, tensor[0])


def many_events(folder: Path, static: int, timed: int) -> Cohort:
    zero = pd.Timestamp("2020-06-01 12:00:00")
    times = [pd.NaT] * static + [zero - pd.Timedelta(days=timed - 1 - i) for i in range(timed)]
    times.append(zero + pd.Timedelta(seconds=1))
    codes = [f"S{i}" for i in range(static)] + [f"T{i}" for i in range(timed)] + ["LATER"]
    events = pd.DataFrame({"subject_id": 1, "time": times, "code": codes})
    write_meds(folder / "ehr", events, pd.DataFrame({"code": []}))
    return Cohort.open(folder)


@pytest.mark.parametrize(
    ("static", "timed", "kept"),
    [
        (1, 20, ["S0", *(f"T{i}" for i in range(13, 20))]),
        (5, 20, ["S0", "S1", *(f"T{i}" for i in range(14, 20))]),
        (9, 3, ["S0", "S1", "S2", "S3", "S4", "T0", "T1", "T2"]),
        (9, 0, [f"S{i}" for i in range(8)]),
    ],
)
def test_latest_events_are_kept_and_later_ones_never(
    cohort_folder: Path, static: int, timed: int, kept: list[str]
) -> None:
    cohort = many_events(cohort_folder, static, timed)
    table = cohort.events("ehr")
    rows = event_rows(table, cohort.usable_events("ehr"), 1, 8)
    assert [table.codes[i] for i in table.code_index[rows]] == kept
    words = fit_vocabulary(cohort, "ehr", [1])
    assert "LATER" not in words.codes
    dataset = CohortDataset(cohort, [1], {"ehr": EventReading(words, max_events=8)})
    item = dataset[0].inputs["ehr"]
    assert item.fields["codes"][0].tolist() == words.ids(kept)
    days = item.fields["days_before"][0]
    assert (days.diff() <= 0).all()
    oldest = float(min(timed, 8 - min(static, 2)) - 1) if timed else 0.0
    assert days[0] == oldest


def test_events_without_index_time_are_refused(cohort_folder: Path) -> None:
    subjects = Cohort.open(cohort_folder).subjects.copy()
    subjects.loc[2, "index_time"] = pd.NaT
    write_subjects(cohort_folder, subjects)
    cohort = Cohort.open(cohort_folder)
    assert not cohort.availability().loc[2, "ehr"]
    with pytest.raises(CohortError, match="subject 2 has events but no index_time"):
        CohortDataset(cohort, [1, 2], {"ehr": EventReading(WORDS)})
    CohortDataset(cohort, [1, 3], {"ehr": EventReading(WORDS)})


def test_scans_after_the_index_day_are_not_used(cohort_folder: Path) -> None:
    rows = [
        ("ct", 1, "ct/1.nii.gz", "2020-05-01"),
        ("ct", 1, "ct/2.nii.gz", "2020-06-01 18:00"),  # same day: used
        ("ct", 1, "ct/3.nii.gz", "2020-06-02"),
        ("ct", 2, "ct/3.nii.gz", "2020-07-01"),
    ]
    frame = pd.DataFrame(rows, columns=["modality", "subject_id", "path", "acquired"])
    frame["acquired"] = pd.to_datetime(frame["acquired"], format="mixed")
    write_imaging(cohort_folder, frame)
    cohort = Cohort.open(cohort_folder)
    assert {s: p.name for s, p in cohort.volumes("ct").items()} == {1: "2.nii.gz"}
    frame["path"] = "../secret.nii.gz"
    write_imaging(cohort_folder, frame)
    with pytest.raises(CohortError, match="leaves the cohort folder"):
        Cohort.open(cohort_folder).volumes("ct")


def test_vocabulary_from_training_patients_only(cohort_folder: Path) -> None:
    cohort = Cohort.open(cohort_folder)
    words = fit_vocabulary(cohort, "ehr", [1, 2])
    assert words.codes == ("DX//PE", "LAB//NA", "SEX//F")  # no MEDS_DEATH: after the index time
    assert words.value_mean == (0.0, 135.0, 0.0)
    assert words.value_sd == (1.0, 5.0, 1.0)
    assert fit_vocabulary(cohort, "ehr", [1, 2], min_patients=2).codes == ("LAB//NA",)


def test_wrong_readings(cohort_folder: Path) -> None:
    cohort = Cohort.open(cohort_folder)
    with pytest.raises(CohortError, match="'labs' is table, not bag"):
        CohortDataset(cohort, [1], {"labs": BagReading()})
    with pytest.raises(CohortError, match="no subject 99"):
        CohortDataset(cohort, [99], {})
    with pytest.raises(CohortError, match="no subjects are left"):
        all_inputs(CohortDataset(cohort, [6], {}, "death"))


def test_real_meds_as_a_modality(real_data, tmp_path: Path, cohort_folder: Path) -> None:
    source = real_data("mimic_iv_demo_meds/events.parquet")
    table = read_events(source)
    half = {}
    for subject in table.subject_ids:
        times = table.time_us[table.rows(int(subject))]
        half[int(subject)] = np.datetime64(int(times[len(times) // 2]), "us")
    write_subjects(
        cohort_folder,
        pd.DataFrame(
            {"subject_id": list(half), "split": "train", "index_time": list(half.values())}
        ),
    )
    text = (cohort_folder / "cohort.yaml").read_text().replace("path: ehr", "path: ev.parquet")
    (cohort_folder / "cohort.yaml").write_text(text)
    (cohort_folder / "ev.parquet").symlink_to(source)
    cohort = Cohort.open(cohort_folder)
    words = fit_vocabulary(cohort, "ehr", cohort.subject_ids()[:50], min_patients=5)
    dataset = CohortDataset(cohort, cohort.subject_ids(), {"ehr": EventReading(words, 256)})
    item = all_inputs(dataset).inputs["ehr"]
    assert item.fields["codes"].shape == (100, 256)
    assert item.present.all()
    assert (item.fields["days_before"] >= 0).all()
    assert "MEDS_DEATH" not in words.codes
