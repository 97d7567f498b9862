from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.attribution.case import AttributionError, open_case
from analysis.attribution.labels import token_labels
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Column
from models.checkpoint import load_run
from models.contracts import Columns, Encoded, Kind, ModalityInput
from tests.analysis.attribution.toys_fusion import bag, plain_case


@pytest.fixture(scope="module")
def cohort(tiny_workspace):
    return Cohort.open(tiny_workspace / "cohorts" / "pe")


def case_in(workspace, cohort, name):
    run = load_run(workspace / "runs" / name)
    both = cohort.availability().all(axis=1)
    subject = int(both[both].index.intersection(cohort.subject_ids("internal"))[0])
    return open_case(run, cohort, subject)


def test_events_are_those_that_the_encoder_read(tiny_workspace, cohort):
    case = case_in(tiny_workspace, cohort, "pe-cross-attention-clmbr")
    frame = token_labels(case, "ehr")
    fields = case.raw("ehr").fields
    vocabulary = case.run.vocabularies["ehr"]
    assert vocabulary.ids(frame["code"]) == fields["codes"][0].tolist()
    value = fields["values"][0].numpy()
    has = fields["has_value"][0].numpy()
    np.testing.assert_array_equal(frame["value"].notna(), has)
    np.testing.assert_allclose(frame["value"][has], value[has], rtol=1e-6)
    timed = frame["date"].notna()
    days = fields["days_before"][0].numpy()
    np.testing.assert_allclose(frame["days_before"][timed], days[timed], rtol=1e-5, atol=1e-5)
    birth = frame[frame["code"] == "MEDS_BIRTH"].iloc[0]
    assert birth["description"] == "Birth"
    temperature = frame[frame["code"] == "LOINC/8310-5"]
    assert set(temperature["unit"]) <= {"Cel"}
    assert list(frame["token"]) == list(range(len(frame)))


def test_codes_are_the_patients_events_gathered(tiny_workspace, cohort):
    case = case_in(tiny_workspace, cohort, "pe-late-onehot")
    frame = token_labels(case, "ehr")
    events = token_labels(case_in(tiny_workspace, cohort, "pe-cross-attention-clmbr"), "ehr")
    assert frame["count"].sum() == len(events)
    for row in frame.itertuples():
        if row.code == "(unknown code)":
            continue
        own = events[events["code"] == row.code]
        assert row.count == len(own)
        values = own["value"].dropna()
        if row.code == "MEDS_BIRTH":
            assert row.value == pytest.approx(own["days_before"].max() / 365.25)
            assert row.unit == "years"
        elif len(values):
            assert row.value == values.iloc[-1]
        else:
            assert np.isnan(row.value)
        assert row.date == own["date"].max() or own["date"].isna().all()
    ids = case.encoded["ehr"].layout.code_ids[0][case.encoded["ehr"].mask[0]]
    assert [case.run.vocabularies["ehr"].code(int(i)) for i in ids] == list(frame["code"])


def test_columns_without_a_value_are_no_tokens():
    names = ("sodium", "smoker", "albumin")
    mask = torch.tensor([[True, False, True]])
    there = torch.ones(1, dtype=torch.bool)
    encoded = Encoded(torch.zeros(1, 3, 2), mask, torch.zeros(1, 2), there, Columns(names))
    case = plain_case(torch.nn.Identity(), {"labs": encoded})
    columns = {"sodium": Column(unit="mmol/L", title="Sodium"), "smoker": Column(kind="binary")}
    case.cohort.modality = lambda name: SimpleNamespace(columns=columns)
    fields = {"values": torch.tensor([[141.0, 0.0, 38.0]]), "mask": mask}
    case._raw["labs"] = ModalityInput(Kind.TABLE, fields, there)
    frame = token_labels(case, "labs")
    assert list(frame["token"]) == [0, 2]
    assert list(frame["title"]) == ["Sodium", "albumin"]
    assert list(frame["unit"]) == ["mmol/L", ""]
    assert list(frame["value"]) == [141.0, 38.0]


def test_regions_lie_in_the_scan(tiny_workspace, cohort):
    case = case_in(tiny_workspace, cohort, "pe-late-onehot")
    frame = token_labels(case, "ct")
    assert len(frame) == 216
    assert (frame["title"] != "").all()
    scan = case.scan("ct")
    d, h, w = scan.array.shape
    corners = scan.affine @ np.array([[-0.5, -0.5, -0.5, 1], [w - 0.5, h - 0.5, d - 0.5, 1]]).T
    for axis, name in enumerate(("x_mm", "y_mm", "z_mm")):
        low, high = sorted(corners[axis])
        size = frame[f"size_{name}"]
        assert frame[name].min() - size.iloc[0] / 2 == pytest.approx(low)
        assert frame[name].max() + size.iloc[0] / 2 == pytest.approx(high)
    # The last axis of the grid is the patient's right-left axis, and runs fastest.
    assert frame["x_mm"].iloc[1] != frame["x_mm"].iloc[0]
    assert frame["z_mm"].iloc[1] == frame["z_mm"].iloc[0]


def test_a_record_that_changed_since_it_was_encoded_is_refused():
    parts = {"a": bag(torch.ones(3, 2))}
    case = plain_case(torch.nn.Identity(), parts)
    whole = case.cohort.bag("a")
    case.cohort.bag = lambda name: type(whole)(
        whole.subject_ids, np.array([0, 2]), whole.instances[:2], whole.features[:2]
    )
    with pytest.raises(AttributionError, match="3 tokens and the cohort's files 2"):
        token_labels(case, "a")
