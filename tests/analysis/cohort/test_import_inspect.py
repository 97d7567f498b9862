"""INSPECT's tables and scans become a cohort: one row a study, times in the unit that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_add import How
from analysis.cohort.importers.inspect_labels import find_unit, three_valued
from analysis.cohort.importers.inspect_study import import_inspect
from analysis.cohort.importers.meds import import_meds
from analysis.cohort.importers.study import DEATH, Study
from analysis.cohort.readers.volume import read_volume
from analysis.cohort.schema import CohortError
from app.cli import cli
from tests.analysis.cohort.imaging_sources import holding, nifti

KEY = b"0123456789abcdef0123456789abcdef"
N = 12
SCAN = pd.Timestamp("2018-05-06 07:08:09")


def release(
    full: Path,
    factor: float = 1440.0,
    change: Callable[[dict[str, pd.DataFrame]], None] | None = None,
) -> Path:
    """Twelve studies of eleven persons: person 100 has studies 0 and 1.

    Days to death or last seen: 40 times the study's number, even numbers died; so studies 2 to 8
    died within a year, 10 later.
    """
    full.mkdir(parents=True)
    studies = np.arange(N)
    days = 40.0 * studies
    died = studies % 2 == 0
    month = np.where(days < 30, "TRUE", "FALSE").astype(object)
    month[3] = "Censored"
    year = np.where(died & (days <= 365), "TRUE", np.where(days > 365, "FALSE", "Censored"))
    labels = pd.DataFrame(
        {
            "impression_id": studies + 5000,
            "pe_positive_nlp": np.where(studies % 3 == 0, "TRUE", "FALSE"),
            "12_month_mortality": year,
            "1_month_mortality": month,
            "tte_mortality": days * factor,
            "is_censored_mortality": np.where(died, "FALSE", "TRUE"),
            "tte_PH": days * factor,
            "is_censored_PH": "TRUE",
            "tte_Edema": days * factor,
            "is_censored_Edema": "FALSE",
        }
    )  # fmt: skip
    labels.loc[2, "is_censored_PH"] = "FALSE"
    labels = labels.assign(tte_readmission="", is_censored_readmission="Censored")
    times = [f"{SCAN + pd.Timedelta(days=int(s)):%Y-%m-%dT%H:%M:%S}" for s in studies]
    mapping = pd.DataFrame(
        {
            "impression_id": studies + 5000,
            "image_id": [f"PE{s:x}c0ffee" for s in studies],
            "person_id": [100, *(99 + studies[1:])],
            "procedure_DATETIME": [*times[:-1], None],
        }
    )
    splits = pd.DataFrame(
        {
            "impression_id": studies + 5000,
            "split": ["train"] * 8 + ["valid"] * 2 + ["test"] * 2,
        }
    )
    tables = {"labels": labels, "study_mapping": mapping, "splits": splits}
    if change is not None:
        change(tables)
    for name, table in tables.items():
        date = "20250418" if name == "splits" else "20250611"
        table.to_csv(full / f"{name}_{date}.tsv", sep="\t", index=False)
    for study in range(5):
        nifti(full / "CTPA" / f"PE{study:x}c0ffee.nii.gz", study)
    return full


def test_every_study_is_a_row_with_its_scan_and_outcomes(tmp_path: Path) -> None:
    full = release(tmp_path / "inspect" / "full")
    told: list[str] = []
    cohort = import_inspect(tmp_path / "inspect", tmp_path / "out", how=How(note=told.append))
    subjects = cohort.subjects
    assert subjects.index.tolist() == list(range(5000, 5000 + N))
    assert subjects["source_id"].tolist()[:3] == ["100", "100", "101"]
    assert subjects["study_id"].tolist()[0] == "5000"
    assert subjects["split"].value_counts().to_dict() == {"train": 8, "tuning": 2, "internal": 2}
    assert subjects["index_time"][5003] == SCAN + pd.Timedelta(days=3)
    assert subjects["index_time"].isna().sum() == 1
    death = cohort.outcomes("mortality", subjects.index)
    np.testing.assert_allclose(death.time_days, 40.0 * np.arange(N))
    assert death.event.tolist() == [s % 2 == 0 for s in range(N)]
    assert cohort.spec.tasks["mortality"].horizon_days == 365
    assert cohort.outcomes("pulmonary_hypertension", [5002, 5003]).event.tolist() == [True, False]
    # Censored is missing, never 'no'.
    month = cohort.outcomes("mortality_1_month", subjects.index)
    assert month.without == (5003,)
    assert month.label.tolist() == [1, *([0] * (N - 2))]
    assert cohort.outcomes("pe", subjects.index).label.sum() == 4
    assert "edema" not in cohort.spec.tasks
    assert "readmission" not in cohort.spec.tasks
    assert any("nobody in train has the event: readmission" in text for text in told)
    assert sorted(cohort.volumes("ct")) == [5000, 5001, 5002, 5003, 5004]
    source = read_volume(full / "CTPA" / "PE3c0ffee.nii.gz")
    np.testing.assert_array_equal(read_volume(cohort.volumes("ct")[5003]).array, source.array)
    assert any("Unit of tte_*: minutes" in text and "100.0%" in text for text in told)
    assert any("7 of 12 studies have no scan" in text for text in told)
    assert any("1 of 12 studies have no time" in text for text in told)
    assert any("--index-offset-days -1" in text for text in told)
    found = [str(p) for p in check_cohort(tmp_path / "out") if p.severity == "error"]
    assert [text for text in found if "without any modality" not in text] == []


@pytest.mark.parametrize(("factor", "unit"), [(86400, "seconds"), (1440, "minutes"), (1, "days")])
def test_unit_is_the_one_that_agrees_with_the_labels(
    tmp_path: Path, factor: float, unit: str
) -> None:
    full = release(tmp_path / "full", factor)
    told: list[str] = []
    frame = pd.read_csv(full / "labels_20250611.tsv", sep="\t", dtype=str)
    assert find_unit(frame, told.append) == unit
    assert unit in told[0]


def test_unit_that_cannot_be_told_is_refused_until_it_is_stated(tmp_path: Path) -> None:
    def shuffled(tables: dict[str, pd.DataFrame]) -> None:
        labels = tables["labels"]
        labels["12_month_mortality"] = np.where(labels.index % 2 == 0, "TRUE", "FALSE")
        labels["tte_mortality"] = labels["tte_mortality"].to_numpy()[::-1]

    release(tmp_path / "full", change=shuffled)
    with pytest.raises(CohortError, match=r"unit of tte_mortality cannot be told.*%.*--unit"):
        import_inspect(tmp_path / "full", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    cohort = import_inspect(tmp_path / "full", tmp_path / "out", unit="minutes")
    assert cohort.outcomes("mortality", [5000]).time_days.tolist() == [440.0]


def test_person_in_two_splits_is_an_error_with_evidence_and_a_remedy(tmp_path: Path) -> None:
    def moved(tables: dict[str, pd.DataFrame]) -> None:
        tables["splits"].loc[1, "split"] = "test"

    release(tmp_path / "full", change=moved)
    with pytest.raises(CohortError, match=r"person 100: study 5000 in train and study 5001"):
        import_inspect(tmp_path / "full", tmp_path / "out")
    cohort = import_inspect(tmp_path / "full", tmp_path / "out", keep_test=True)
    assert 5000 not in cohort.subjects.index
    assert cohort.subjects["split"][5001] == "internal"


def test_day_before_moves_time_zero_and_the_times_and_keeps_the_scan(tmp_path: Path) -> None:
    release(tmp_path / "full")
    cohort = import_inspect(
        tmp_path / "full", tmp_path / "out", index_offset_days=-1, tasks=["pe", "mortality"]
    )
    assert list(cohort.spec.tasks) == ["pe", "mortality"]
    assert cohort.spec.index_event == "1 day before CT pulmonary angiography"
    assert cohort.subjects["index_time"][5000] == SCAN - pd.Timedelta(days=1)
    assert cohort.outcomes("mortality", [5002]).time_days.tolist() == [81.0]
    assert len(cohort.volumes("ct")) == 5


def test_key_hides_ids_and_moves_times_by_person(tmp_path: Path) -> None:
    release(tmp_path / "full")
    who = Identities(KEY)
    cohort = import_inspect(tmp_path / "full", tmp_path / "out", identities=who)
    subjects = cohort.subjects
    assert not set(subjects.index) & set(range(5000, 5000 + N))
    assert holding(tmp_path / "full", "c0ffee")
    for secret in ("c0ffee", "2018-05-0", "nib_", "impression"):
        assert holding(tmp_path / "out", secret) == []
    assert subjects["source_id"].value_counts()[who.name("100")] == 2
    both = subjects[subjects["source_id"] == who.name("100")].sort_values("index_time")
    gap = both["index_time"].iloc[1] - both["index_time"].iloc[0]
    assert gap == pd.Timedelta(days=1)
    assert both["index_time"].iloc[0] - SCAN == pd.Timedelta(microseconds=who.shift_us("100"))
    assert sorted(cohort.outcomes("mortality", subjects.index).time_days) == [
        40.0 * s for s in range(N)
    ]
    with pytest.raises(CohortError, match="--link"):
        import_inspect(tmp_path / "full", tmp_path / "out2", identities=who, how=How(link=True))


def test_records_of_persons_go_to_each_of_their_dated_studies(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    import_inspect(release(tmp_path / "full"), out, how=How())
    record = tmp_path / "record.parquet"
    pd.DataFrame(
        {
            "subject_id": [100, 110],
            "time": [SCAN - pd.Timedelta(days=9)] * 2,
            "code": ["LOINC/2160-0", "LOINC/2951-2"],
            "numeric_value": [1.5, 140.0],
        }
    ).to_parquet(record)
    study = Study(
        name="inspect", title="INSPECT", tasks={"m": {"title": "Death", "codes": [DEATH]}}
    )
    said: list[str] = []
    import_meds(record, out, study, note=said.append)
    cohort = Cohort.open(out)
    own = cohort.subjects.index[cohort.subjects["source_id"] == "100"]
    assert len(own) == 2
    assert set(cohort.having("ehr")) == set(own), "the study without a time has no events"
    assert any("no time zero" in sentence for sentence in said)
    assert not [p for p in check_cohort(out) if p.severity == "error" and "index_time" in p.where]


def test_linked_scans_are_the_files_themselves(tmp_path: Path) -> None:
    full = release(tmp_path / "full")
    cohort = import_inspect(full, tmp_path / "out", how=How(link=True))
    assert cohort.volumes("ct")[5001].samefile(full / "CTPA" / "PE1c0ffee.nii.gz")


def test_of_several_images_the_one_with_most_slices(tmp_path: Path) -> None:
    def second(tables: dict[str, pd.DataFrame]) -> None:
        row = tables["study_mapping"].iloc[[0]].assign(image_id="PEbig")
        tables["study_mapping"] = pd.concat([tables["study_mapping"], row])

    full = release(tmp_path / "full", change=second)
    nifti(full / "CTPA" / "PEbig.nii.gz", 9, (8, 7, 20))
    cohort = import_inspect(full, tmp_path / "out")
    assert nib.load(cohort.volumes("ct")[5000]).shape[2] == 20
    assert len(cohort.subjects) == N


def test_older_master_file(tmp_path: Path) -> None:
    full = tmp_path / "old"
    full.mkdir()
    pd.DataFrame(
        {
            "PatientID": [31, 31, 32, 33],
            "StudyTime": ["2015-01-02T03:04:05", "2016-01-02T03:04:05", "2015-05-05T05:05:00", ""],
            "split": ["train", "train", "valid", "test"],
            "1_month_mortality": ["True", "Censor", "False", "False"],
            "pe_positive_nlp": [True, False, True, False],
        }
    ).to_csv(full / "cohort_0.2.0_master_file_anon.csv", index=False)
    nifti(full / "CTPA" / "31_2016-01-02_03_04_05.nii.gz")
    cohort = import_inspect(full, tmp_path / "out")
    subjects = cohort.subjects
    assert list(cohort.spec.tasks) == ["pe", "mortality_1_month"]
    assert subjects["source_id"].tolist().count("31") == 2
    (scanned,) = cohort.volumes("ct")
    assert subjects["index_time"][scanned] == pd.Timestamp("2016-01-02 03:04:05")
    assert cohort.outcomes("mortality_1_month", [scanned]).without == (scanned,)


def test_bad_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="'odd'"):
        three_valued(pd.Series(["TRUE", "odd"]), "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="neither labels_"):
        import_inspect(tmp_path / "empty", tmp_path / "out")
    full = release(tmp_path / "full")
    with pytest.raises(CohortError, match=r"no outcome of task 'pe_acute'.*edema"):
        import_inspect(full, tmp_path / "out", tasks=["pe_acute"])
    (full / "splits_20250418.tsv").unlink()
    answer = CliRunner().invoke(cli, ["import", "inspect", str(full), str(tmp_path / "out")])
    assert answer.exit_code == 2
    assert "splits_<date>.tsv is missing" in answer.output.replace("\n", "")
    assert not (tmp_path / "out").exists()
