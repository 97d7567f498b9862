"""PESI and simplified PESI of patients whose points are counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.clinical_codes import HISTORY, VITALS, diagnosis, matches
from analysis.clinical_scores import PESI, SPESI, clinical_score
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import (
    CohortError,
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import write_meds, write_outcomes, write_subjects, write_table
from analysis.external_import import import_predictions
from app.cli import cli
from models.contracts import Kind

ZERO = pd.Timestamp("2021-03-04 10:00")
NORMAL = {
    "LOINC/8867-4": 80.0,
    "LOINC/8480-6": 130.0,
    "LOINC/9279-1": 16.0,
    "LOINC/8310-5": 36.8,
    "LOINC/59408-5": 97.0,
}
# id: (age, sex, diagnoses {code: days before}, vital signs that differ from NORMAL, PESI, sPESI)
PATIENTS = {
    1: (50.9, "F", {}, {}, 50, 0),
    2: (64.0, "M", {"ICD10CM/C34.90": 900}, {"LOINC/8867-4": 110.0}, 64 + 10 + 30 + 20, 2),
    3: (
        81.2,
        "F",
        {"ICD10CM/I50.22": 300, "ICD10CM/J44.9": 20, "ICD10CM/F05": 0.2},
        {
            "LOINC/8480-6": 99.0,
            "LOINC/9279-1": 30.0,
            "LOINC/8310-5": 35.9,
            "LOINC/59408-5": 89.0,
        },
        81 + 10 + 10 + 60 + 30 + 20 + 20 + 20,
        1 + 1 + 1 + 1,  # age, cardiopulmonary once, pressure, saturation
    ),
    # at the thresholds, on the harmless side; a delirium of years ago is no altered state now
    4: (
        80.9,
        "M",
        {"ICD10CM/F05": 700, "ICD10CM/C44.31": 10, "ICD10CM/I11.9": 5},
        {
            "LOINC/8867-4": 109.0,
            "LOINC/8480-6": 100.0,
            "LOINC/9279-1": 29.0,
            "LOINC/8310-5": 36.0,
            "LOINC/59408-5": 90.0,
        },
        80 + 10,
        0,
    ),
    # other dialects: MIMIC's diagnoses, Fahrenheit (95.9 F is 35.5 C), a share, ICD-9
    5: (
        40.0,
        "M",
        {"DIAGNOSIS//ICD//9//V103": 400, "DIAGNOSIS//ICD//10//I509": 400},
        {"LOINC/8310-5": 95.9, "LOINC/59408-5": 0.88},
        40 + 10 + 30 + 10 + 20 + 20,
        3,
    ),
}
MISSING_PULSE, NO_RECORD, OLD_PULSE, NO_SEX = 6, 7, 8, 9


def events() -> pd.DataFrame:
    rows: list[tuple[int, object, str, float | None]] = []

    def add(subject: int, days: float, code: str, value: float | None = None) -> None:
        rows.append((subject, ZERO - pd.Timedelta(days=days), code, value))

    for subject, (_, _, diagnoses, differ, _, _) in PATIENTS.items():
        for code, days in diagnoses.items():
            add(subject, days, code)
        for code, value in {**NORMAL, **differ}.items():
            add(subject, 0.9, code, 777.0 if code == "LOINC/8867-4" else NORMAL[code])
            add(subject, 0.1, code, value)
        add(subject, -0.1, "LOINC/8867-4", 250.0)  # after the index time
        add(subject, -5.0, "ICD10CM/C50.919")
    for subject in (MISSING_PULSE, OLD_PULSE, NO_SEX):
        for code, value in NORMAL.items():
            if subject == NO_SEX or code != "LOINC/8867-4":
                add(subject, 0.5, code, value)
    add(OLD_PULSE, 3.0, "LOINC/8867-4", 120.0)
    add(NO_RECORD, -1.0, "ICD10CM/I50.9")
    return pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores") / "pe"
    folder.mkdir()
    ids = list(range(1, 10))
    ages = [PATIENTS[i][0] if i in PATIENTS else 60.0 for i in ids]
    sexes = [PATIENTS[i][1] if i in PATIENTS else "F" for i in ids]
    sexes[NO_SEX - 1] = None
    write_subjects(
        folder,
        pd.DataFrame(
            {
                "subject_id": ids,
                "split": ["train"] * 5 + ["internal"] * 4,
                "age_years": ages,
                "sex": sexes,
                "index_time": ZERO,
            }
        ),
    )
    write_outcomes(
        folder,
        pd.DataFrame(
            {"subject_id": ids, "task": "death", "time_days": np.arange(1.0, 10), "event": 1}
        ),
    )
    write_meds(folder / "ehr", events(), pd.DataFrame({"code": ["ICD10CM/C34.90"]}))
    write_spec(
        CohortSpec(
            name="pe",
            title="PE",
            modalities={"ehr": ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr")},
            tasks={"death": TaskSpec(kind="survival", title="Death", horizon_days=30)},
            provenance=Provenance(source="made for tests"),
        ),
        folder,
    )
    return folder


@pytest.mark.parametrize(("name", "at"), [("pesi", 4), ("spesi", 5)])
def test_points_are_those_counted_by_hand(folder: Path, name: str, at: int) -> None:
    made = clinical_score(Cohort.open(folder), name)
    expected = {subject: row[at] for subject, row in PATIENTS.items()}
    assert made.total.loc[list(PATIENTS)].to_dict() == expected
    assert made.points.loc[list(PATIENTS)].sum(axis=1).to_dict() == expected


def test_a_missing_vital_sign_leaves_no_score_unless_told(folder: Path) -> None:
    cohort = Cohort.open(folder)
    made = clinical_score(cohort, "pesi")
    assert made.total[[MISSING_PULSE, NO_RECORD, OLD_PULSE, NO_SEX]].isna().all()
    assert made.table()["subject_id"].tolist() == list(PATIENTS)
    assert made.report["missing"]["pulse"]["n"] == 2
    assert made.report["missing"]["male"]["n"] == 1
    assert made.report["without_record"] == 1
    assert made.report["scored"] == 5
    normal = clinical_score(cohort, "pesi", assume_normal=True)
    assert normal.total[[MISSING_PULSE, OLD_PULSE]].tolist() == [60, 60]
    assert normal.total[[NO_RECORD, NO_SEX]].isna().all(), "an unknown sex is not assumed"
    assert normal.report["missing"] == made.report["missing"], "what is assumed is still counted"
    anytime = clinical_score(cohort, "pesi", vitals_days=None)
    assert anytime.total[OLD_PULSE] == 80
    assert clinical_score(cohort, "spesi").total[NO_SEX] == 0, "which does not ask the sex"


def test_classes_are_those_published(folder: Path) -> None:
    made = clinical_score(Cohort.open(folder), "pesi")
    assert made.group[list(PATIENTS)].tolist() == ["I", "IV", "V", "III", "V"]
    simple = clinical_score(Cohort.open(folder), "spesi")
    assert simple.group[list(PATIENTS)].tolist() == ["low", "high", "high", "low", "high"]
    assert made.report["splits"]["train"]["classes"] == {"I": 1, "II": 0, "III": 1, "IV": 1, "V": 2}
    for score, edge in (
        (PESI, {65: 0, 66: 1, 85: 1, 86: 2, 125: 3, 126: 4}),
        (SPESI, {0: 0, 1: 1}),
    ):
        for points, number in edge.items():
            assert np.searchsorted(score.bounds, points) == number


def test_what_was_converted_or_cannot_be_is_said(folder: Path) -> None:
    notes = " ".join(clinical_score(Cohort.open(folder), "pesi").report["notes"])
    assert "Temperature below 36 °C: 1 values in degrees Fahrenheit converted" in notes
    assert "Oxygen saturation below 90 %: 1 values in shares of 1 converted" in notes
    assert "Pulse 110/min or more: 5 values that cannot be are left out" in notes


@pytest.mark.parametrize(
    ("code", "item", "there"),
    [
        ("ICD10CM/J45.20", "chronic_lung", True),
        ("ICD10CM/J18.9", "chronic_lung", False),
        ("ICD10PCS/021009W", "cancer", False),
        ("ICD10CM/Z85.118", "cancer", True),
        ("ICD10CM/Z85.828", "cancer", False),
        ("ICD9CM/173.3", "cancer", False),
        ("ICD9CM/174.9", "cancer", True),
        ("ICD9CM/428.0", "heart_failure", True),
        ("ICD10CM/428.0", "heart_failure", False),
        ("LOINC/8867-4", "cardiopulmonary", False),
        ("RxNorm/6809", "cancer", False),
    ],
)
def test_diagnoses_by_their_codes(code: str, item: str, there: bool) -> None:
    assert diagnosis(code, HISTORY[item]) is there


@pytest.mark.parametrize(
    ("code", "vital"),
    [
        ("LAB//220045//bpm", "heart_rate"),
        ("LAB//220179//mmHg", "sbp"),
        ("LAB//220210//insp/min", "respiratory_rate"),
        ("LAB//220277//%", "spo2"),
        ("LAB//223761//°F", "temperature"),
        ("LOINC/2708-6", "spo2"),
        ("LAB//228867//UNK", None),
        ("LAB//2200451//bpm", None),
    ],
)
def test_vital_signs_by_their_codes(code: str, vital: str | None) -> None:
    found = [name for name, sign in VITALS.items() if matches(code, sign.codes)]
    assert found == ([] if vital is None else [vital])


def test_a_broader_code_counts(folder: Path, tmp_path: Path) -> None:
    cohort = Cohort.open(folder)
    table = cohort.events("ehr")
    assert "DIAGNOSIS//ICD//10//I509" in table.codes
    codes = pd.DataFrame({"code": ["SNOMED/84114007"], "parent_codes": [["ICD10CM/I50.9"]]})
    more = pd.concat(
        [events(), pd.DataFrame([(1, ZERO - pd.Timedelta(days=9), "SNOMED/84114007", None)],
                                columns=["subject_id", "time", "code", "numeric_value"])]
    )  # fmt: skip
    other = tmp_path / "pe"
    other.mkdir()
    for name in ("cohort.yaml", "subjects.parquet", "outcomes.parquet"):
        (other / name).write_bytes((folder / name).read_bytes())
    write_meds(other / "ehr", more, codes)
    assert clinical_score(Cohort.open(other), "pesi").total[1] == 60


def test_command_writes_what_can_be_imported(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pesi.csv"
    asked = ["score", "pesi", "--cohort", str(folder), "--out", str(out), "--json"]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["scored"] == 5
    run = import_predictions(out, folder, "death", "pesi", tmp_path / "run", title="PESI")
    assert run.frame["value"].to_dict() == {i: row[4] for i, row in PATIENTS.items()}
    assert run.config.predictions.without == {"train": 0, "internal": 4}
    again = CliRunner().invoke(cli, asked)
    assert again.exit_code == 2
    assert "already exists" in again.output


def test_a_cohort_without_events_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    write_subjects(folder, pd.DataFrame({"subject_id": [1], "split": ["train"]}))
    write_outcomes(folder, pd.DataFrame({"subject_id": [1], "task": ["x"], "label": [0]}))
    columns = {"a": Column()}
    write_table(folder / "a.parquet", pd.DataFrame({"subject_id": [1], "a": [1.0]}), columns)
    write_spec(
        CohortSpec(
            name="tables",
            title="T",
            modalities={
                "a": ModalitySpec(kind=Kind.TABLE, title="A", path="a.parquet", columns=columns)
            },
            tasks={"x": TaskSpec(kind="classification", title="X", classes=("a", "b"))},
            provenance=Provenance(source="made for tests"),
        ),
        folder,
    )
    with pytest.raises(CohortError, match="has no events, from which the score is counted"):
        clinical_score(Cohort.open(folder), "pesi")
    with pytest.raises(CohortError, match="choose one of pesi, spesi"):
        clinical_score(Cohort.open(folder), "wells")
