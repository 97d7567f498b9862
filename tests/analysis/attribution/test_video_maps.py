from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.labels import token_labels
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.stored import stored_video_map
from analysis.attribution.target import LogRisk
from analysis.attribution.video import video_map
from analysis.attribution.within import explain_modality
from analysis.store import ResultStore
from tests.analysis.attribution.toys_cardiac import case_of, ecg, loop, run_of

RISK = LogRisk()
# A summary is the mean of a view's eight cells; one of them holds 200.
CELL = 200 / 8


@pytest.fixture
def case(tmp_path: Path) -> Case:
    loops = {"A4C": loop((0, 1, 0)), "A2C": loop((1, 0, 1))}
    return case_of(tmp_path, run_of(echo=(1.0, 2.0)), loops=loops)


def test_the_map_lies_in_the_view_and_block_that_count(case: Case) -> None:
    assert case.value(RISK)[0] == pytest.approx(CELL + 2 * CELL, rel=1e-3)
    made = video_map(case, "echo", RISK, "hirescam")
    assert made.views == ("A4C", "A2C")
    assert made.values.shape == (2, 2, 2, 2)
    assert (made.frames, made.stride) == (2, 2)
    lit = {tuple(int(i) for i in cell) for cell in np.argwhere(made.values > 1)}
    assert lit == {(0, 0, 1, 0), (1, 1, 0, 1)}
    assert made.values.sum() == pytest.approx(made.whole, rel=1e-3)
    assert made.peak_view == "A2C"
    assert made.by_view().set_index("view")["share"]["A2C"] == pytest.approx(2 / 3, rel=1e-3)


def test_a_map_comes_back_on_the_frames_of_the_file(case: Case) -> None:
    """Its second half of time, upper right quarter: frames 4 to 7, rows 0 to 3, columns 4 to 7."""
    whole = video_map(case, "echo", RISK, "hirescam").on("A2C", frames=10, size=8)
    assert whole.shape == (10, 8, 8)
    assert np.unravel_index(whole.argmax(), whole.shape)[0] >= 4
    assert whole[6:8, :2, 6:].min() > 0.9 * whole.max()
    assert whole[:2].max() < 0.1 * whole.max()
    assert not whole[8:].any()


def test_a_missing_view_is_left_out(tmp_path: Path) -> None:
    case = case_of(tmp_path, run_of(echo=(1.0, 2.0)), loops={"A2C": loop((1, 0, 1))})
    made = video_map(case, "echo", RISK, "gradcam_plus_plus")
    assert made.views == ("A2C",)
    labels = token_labels(case, "echo")
    assert set(labels["view"]) == {"A2C"}
    assert labels.loc[7, ["frame", "row", "column"]].tolist() == [2, 1, 1]


def test_shapley_values_of_views_are_their_terms(case: Case) -> None:
    found = explain_modality(case, "echo", RISK)
    assert list(found.parts["view"]) == ["A4C", "A2C"]
    assert found.values[:, 0] == pytest.approx([CELL, 2 * CELL], rel=1e-3)


def test_signal_and_video_share_one_ledger(tmp_path: Path) -> None:
    run = run_of(ecg=(2.0, 3.0, 5.0), echo=(1.0, 2.0))
    case = case_of(tmp_path, run, ecg(), {"A4C": loop((0, 0, 0))})
    ledger = modality_ledger(case, RISK)
    assert float(ledger.share("ecg")[0]) == pytest.approx(1.25)
    assert float(ledger.share("echo")[0]) == pytest.approx(CELL, rel=1e-3)


def test_a_stored_map_is_the_same_map(case: Case, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    made, found = (stored_video_map(case, "echo", RISK, store, method="hirescam") for _ in range(2))
    np.testing.assert_array_equal(made.values, found.values)
    assert found.views == made.views
    assert found.subject == made.subject


def test_what_cannot_be_done_is_said(case: Case) -> None:
    with pytest.raises(AttributionError, match="no video method 'occlusion'"):
        video_map(case, "echo", RISK, "occlusion")
    with pytest.raises(AttributionError, match="has no layer 'nowhere'"):
        video_map(case, "echo", RISK, "gradcam", "nowhere")
