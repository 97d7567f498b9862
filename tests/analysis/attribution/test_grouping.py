from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.attribution.case import AttributionError
from analysis.attribution.grouping import GROUPINGS, NO_DATE, NO_PARENT, grouped, visits
from analysis.attribution.parts import code_group, code_unit, part_table
from analysis.attribution.target import LogRisk
from analysis.attribution.within import explain_modality
from tests.analysis.attribution.toys_ehr import EVENTS, ZERO, ct_case, fused_case, write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("toys") / "cohort")


@pytest.fixture(scope="module")
def shares(cohort):
    return explain_modality(fused_case(cohort, "late"), "ehr", LogRisk())


def test_parts_of_events_are_the_models_sequence(cohort):
    case = fused_case(cohort, "late")
    parts = part_table(case, "ehr")
    vocabulary = case.run.vocabularies["ehr"]
    assert case.raw("ehr").fields["codes"][0].tolist() == vocabulary.ids(parts["code"])
    assert parts["code"].tolist() == [code for _, code, _ in EVENTS]
    na = parts.iloc[3]
    assert (na["description"], na["group"], na["unit"]) == ("Sodium", "Laboratory", "mmol/L")
    assert (na["value"], na["days_before"]) == (131, 400)
    assert na["time"] == ZERO - pd.Timedelta(days=400)
    assert pd.isna(parts["time"][0])
    assert np.isnan(parts["days_before"][0])
    assert parts["description"][4] == "RxNorm/1"
    assert np.isnan(parts["value"][2])


def test_parts_of_other_kinds(cohort):
    case = fused_case(cohort, "late")
    labs = part_table(case, "labs")
    assert labs["name"].tolist() == ["troponin", "age", "stage"]
    assert labs["title"].tolist() == ["Troponin", "Age", "Stage"]
    assert labs["value"][2] in ("I", "II", "III")
    assert labs["unit"][0] == "ng/L"
    assert part_table(case, "tiles")["name"].tolist() == ["t0", "t1", "t2", "t3"]
    cells, blocks = (part_table(ct_case(), "ct", block) for block in (1, 2))
    assert len(cells) == 16
    assert blocks["cells"].tolist() == [8, 8]
    assert blocks["x_mm"].tolist() == pytest.approx([0, 0])
    assert blocks["z_mm"].tolist() == pytest.approx([-44.0, 44.0])
    assert blocks["size_x_mm"].tolist() == pytest.approx([32 * 3.6] * 2)
    assert blocks["name"].str.contains("lower").tolist() == [True, False]


@pytest.mark.parametrize(
    ("code", "group"),
    [
        ("ICD10CM/I50", "Diagnosis"),
        ("DIAGNOSIS//ICD//10//I509", "Diagnosis"),
        ("SNOMED/1", "Diagnosis"),
        ("LOINC/718-7", "Laboratory"),
        ("LAB//50912//mg/dL", "Laboratory"),
        ("RxNorm/1", "Medication"),
        ("MEDICATION//START//Heparin", "Medication"),
        ("CPT4/1", "Procedure"),
        ("ICD10PCS/0", "Procedure"),
        ("Visit/IP", "Visit"),
        ("HOSPITAL_ADMISSION//URGENT", "Visit"),
        ("Gender/F", "Demographics"),
        ("MEDS_BIRTH", "Demographics"),
        ("Blood Pressure Sitting", "Vital sign"),
        ("Weight (Lbs)", "Vital sign"),
        ("BMI (kg/m2)", "Vital sign"),
        ("SUBJECT_FLUID_OUTPUT//226560//ml", "Intake and output"),
        ("XYZ//1", "Other"),
    ],
)
def test_kinds_of_code(code, group):
    assert code_group(code) == group


def test_units_come_from_the_file_or_the_code():
    assert code_unit("LAB//1//mg/dL", {}) == "mg/dL"
    assert code_unit("LAB//1//UNK", {}) == ""
    assert code_unit("LAB//1//mg/dL", {"LAB//1//mg/dL": "g/L"}) == "g/L"
    assert code_unit("DIAGNOSIS//ICD//10", {}) == ""


@pytest.mark.parametrize("by", GROUPINGS)
def test_sums_are_kept_to_the_last_digit(cohort, shares, by):
    two = replace(
        shares,
        values=np.c_[shares.values, shares.values * -2],
        whole=np.r_[shares.whole, shares.whole],
        reference=np.r_[shares.reference, shares.reference],
    )
    found = grouped(two, by, cohort.codes)
    np.testing.assert_allclose(found.values.sum(axis=0), two.values.sum(axis=0), atol=1e-15)
    assert found.groups["events"].sum() == len(EVENTS)
    for row in range(len(found.groups)):
        mine = two.values[found.member == row]
        np.testing.assert_allclose(found.values[row], mine.sum(axis=0), atol=1e-15)
        assert found.groups["events"][row] == len(mine)
    largest = np.abs(found.values).max(axis=1)
    assert (np.diff(largest) <= 0).all()


def test_by_code_and_parent(cohort, shares):
    by_code = grouped(shares, "code", cohort.codes).groups.set_index("key")
    sodium = by_code.loc["LOINC/NA"]
    assert (sodium["title"], sodium["events"]) == ("Sodium", 3)
    assert sodium["first"] == ZERO - pd.Timedelta(days=400)
    assert sodium["last"] == ZERO - pd.Timedelta(days=0.5)
    assert pd.isna(by_code.loc["RACE/X", "first"])
    parents = grouped(shares, "parent", cohort.codes).groups.set_index("title")["events"]
    assert parents.to_dict() == {"Heart failure, any": 2, NO_PARENT: 7}
    kinds = grouped(shares, "group").groups.set_index("key")["events"]
    assert kinds["Laboratory"] == 3
    assert kinds["Demographics"] == 2


def test_visits_open_at_a_visit_code_or_after_a_day_without_events(cohort, shares):
    found = grouped(shares, "visit")
    titles = found.groups["title"].to_numpy()[found.member].tolist()
    assert titles == [
        "Demographics",
        "Demographics",
        "2019-04-28",
        "2019-04-28",
        "2019-04-28",
        "Inpatient, 2020-05-02",
        "Inpatient, 2020-05-02",
        "Inpatient, 2020-05-02",
        "2020-06-01",
    ]
    assert "24 hours" in found.rule


def test_stays_with_ends_hold_what_lies_between_whatever_the_pauses():
    hours = [0, 1, 2, 60, 100, 101, 110, 200]
    codes = "LAB//1 HOSPITAL_ADMISSION//U ICU_ADMISSION//M LAB//1 HOSPITAL_DISCHARGE//H LAB//1"
    codes = [*codes.split(), "Visit/OP", "NOTE//X"]
    parts = pd.DataFrame(
        {
            "code": codes,
            "description": codes,
            "group": [code_group(c) for c in codes],
            "time": [ZERO + pd.Timedelta(hours=h) for h in hours],
        }
    )
    parts.loc[7, "time"] = pd.NaT
    keys, titles = visits(parts)
    assert [len(set(keys[a:b])) for a, b in ((0, 1), (1, 5), (5, 6), (6, 7))] == [1, 1, 1, 1]
    assert keys.nunique() == 5
    assert titles[3] == "HOSPITAL_ADMISSION//U, 2020-06-01"
    assert titles[7] == NO_DATE


def test_only_events_are_grouped_and_only_so(cohort, shares):
    with pytest.raises(AttributionError, match="only events"):
        grouped(explain_modality(fused_case(cohort, "late"), "labs", LogRisk()), "code")
    with pytest.raises(AttributionError, match="choose one of code, visit"):
        grouped(shares, "colour")
