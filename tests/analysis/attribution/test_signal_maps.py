from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.labels import token_labels
from analysis.attribution.parts import part_table
from analysis.attribution.signal import segment_shares, signal_map
from analysis.attribution.stored import stored_signal_map
from analysis.attribution.target import LogRisk
from analysis.attribution.within import explain_modality
from analysis.store import ResultStore
from tests.analysis.attribution.toys_cardiac import LEADS, case_of, ecg, run_of

RISK = LogRisk()
WEIGHTS = (2.0, 3.0, 5.0)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return case_of(tmp_path, run_of(ecg=WEIGHTS), ecg())


def test_the_prediction_is_the_one_solved_by_hand(case: Case) -> None:
    """Steps of half a second: I has 2 of 8 at 1 mV, II 1 of 8 at 2 mV, V1 only a negative one."""
    assert case.value(RISK)[0] == pytest.approx(2 * 2 / 8 + 3 * 2 / 8)


@pytest.mark.parametrize("method", ["hirescam", "gradcam", "gradcam_plus_plus"])
def test_layer_maps_lie_on_leads_and_steps(case: Case, method: str) -> None:
    made = signal_map(case, "ecg", RISK, method)
    assert made.leads == LEADS
    assert made.values.shape == (3, 8)
    assert made.step_s == 0.5
    assert not made.signed
    lit = {(made.leads[row], int(step)) for row, step in zip(*np.nonzero(made.values), strict=True)}
    assert lit == {("I", 0), ("I", 1), ("II", 7)}


def test_hirescam_gives_each_cell_its_share(case: Case) -> None:
    made = signal_map(case, "ecg", RISK, "hirescam")
    assert made.values[0, :2] == pytest.approx([2 / 8, 2 / 8])
    assert made.values[1, 7] == pytest.approx(2 * 3 / 8)
    assert made.values.sum() == pytest.approx(case.value(RISK)[0])
    assert made.peak == ("II", 3.75)
    shares = made.by_lead().set_index("lead")["share"]
    assert shares.to_dict() == pytest.approx({"II": 0.6, "I": 0.4, "V1": 0.0})


def test_gradcam_weighs_channels_by_their_mean_gradient(case: Case) -> None:
    """One channel for all leads: its gradient is 2/8, 3/8 and 5/8 by lead, 10/24 in the mean."""
    made = signal_map(case, "ecg", RISK, "gradcam")
    assert made.values[0, 0] == pytest.approx(10 / 24)
    assert made.values[1, 7] == pytest.approx(20 / 24)


def test_integrated_gradients_of_the_signal_add_up(case: Case) -> None:
    made = signal_map(case, "ecg", RISK, "integrated_gradients")
    assert made.values.shape == (3, 40)
    assert made.step_s == pytest.approx(0.1)
    assert made.signed
    assert made.reference == 0
    assert made.values.sum() == pytest.approx(made.whole, abs=1e-5)
    assert made.values[0, :10] == pytest.approx(np.full(10, 0.05))
    assert not made.values[2].any()


def test_a_lead_that_was_not_recorded_has_no_map(tmp_path: Path) -> None:
    signal = ecg()
    signal[1] = np.nan
    case = case_of(tmp_path, run_of(ecg=WEIGHTS), signal)
    assert not signal_map(case, "ecg", RISK, "hirescam").values[1].any()
    assert list(part_table(case, "ecg")["lead"]) == ["I", "V1"]


def test_shapley_values_of_leads_are_their_terms(case: Case) -> None:
    """The model adds up over leads, so a lead's share is what it adds."""
    found = explain_modality(case, "ecg", RISK)
    assert list(found.parts["lead"]) == list(LEADS)
    assert found.values[:, 0] == pytest.approx([0.5, 0.75, 0.0], abs=1e-6)
    assert found.gap < 1e-6


def test_time_between_steps_is_read_linearly(case: Case) -> None:
    made = signal_map(case, "ecg", RISK, "hirescam")
    at = made.on([0.25, 0.75, 1.0, 1.25, 3.75, 4.5])
    assert at[0] == pytest.approx([0.25, 0.25, 0.125, 0.0, 0.0, 0.0])
    assert at[1, 4] == pytest.approx(0.75)


def test_segments_share_the_map_by_time(case: Case) -> None:
    made = signal_map(case, "ecg", RISK, "hirescam")
    segments = pd.DataFrame(
        {
            "beat": [0, 0, 1],
            "segment": ["QRS", "T", "QRS"],
            "start_s": [0.0, 0.5, 3.5],
            "end_s": [0.5, 1.0, 4.0],
        }
    )
    found = segment_shares(made, segments).set_index("segment")
    assert found["share"].to_dict() == pytest.approx({"QRS": 0.8, "T": 0.2, "between": 0.0})
    assert found["time"].to_dict() == pytest.approx({"QRS": 0.25, "T": 0.125, "between": 0.625})
    assert found.loc["QRS", "density"] == pytest.approx(3.2)
    with pytest.raises(AttributionError, match="no beats were found"):
        segment_shares(made, segments.iloc[:0])


def test_tokens_are_named_by_lead_and_time(case: Case) -> None:
    labels = token_labels(case, "ecg")
    assert labels.loc[0, "title"] == "I, 0.0 s"
    assert labels.loc[15, ["lead", "start_s", "end_s"]].tolist() == ["II", 3.5, 4.0]


def test_a_stored_map_is_the_same_map(case: Case, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    made, found = (stored_signal_map(case, "ecg", RISK, store, method="hirescam") for _ in range(2))
    np.testing.assert_array_equal(made.values, found.values)
    assert {k: v for k, v in vars(made).items() if k != "values"} == {
        k: v for k, v in vars(found).items() if k != "values"
    }


@pytest.mark.parametrize(
    ("method", "layer", "words"),
    [
        ("magic", None, "there is no signal method 'magic'"),
        ("gradcam", "nowhere", "has no layer 'nowhere'"),
        ("integrated_gradients", "act", "leave the layer 'act' out"),
    ],
)
def test_what_cannot_be_done_is_said(
    case: Case, method: str, layer: str | None, words: str
) -> None:
    with pytest.raises(AttributionError, match=words):
        signal_map(case, "ecg", RISK, method, layer)
