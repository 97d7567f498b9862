from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.attribution.case import AttributionError, open_case
from analysis.attribution.game import Game, cell_blocks, contexts_of
from analysis.attribution.target import LogRisk, Survival
from analysis.cohort.cohort import Cohort
from analysis.external import is_external
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import load_run
from models.contracts import Encoded, VoxelGrid
from models.fusion.base import STRATEGIES
from tests.analysis.attribution.toys_ehr import EVENTS, ct_case, fused_case, write_cohort

FUSIONS = [name for name in STRATEGIES if name != "unimodal"]
BASELINE = BaselineHazard(np.array([10.0, 100.0, 900.0]), np.array([0.1, 0.4, 1.2]))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("toys") / "cohort")


@pytest.mark.parametrize("events", ["onehot", "clmbr"])
@pytest.mark.parametrize("strategy", FUSIONS)
def test_with_all_parts_it_is_the_shown_number_and_with_none_the_absent_state(
    cohort, strategy, events
):
    case = fused_case(cohort, strategy, events=events)
    for modality in case.present:
        game = Game(case, modality, LogRisk())
        absent = case.encoded[modality].without(torch.tensor([True]))
        gone = case.model.fuse({**case.encoded, modality: absent}).prediction
        np.testing.assert_allclose(game.everything, case.value(LogRisk()), atol=1e-5)
        np.testing.assert_allclose(game.nothing, gone[0].numpy(), atol=1e-6)
        # A coalition of one is not the absent state, whatever its neighbours in the batch.
        ends = game(np.concatenate([np.zeros((1, game.n_parts)), np.eye(game.n_parts)]))
        np.testing.assert_allclose(ends[0], game.nothing)
        assert (np.abs(ends[1:] - ends[0]) > 1e-6).any()


@pytest.mark.parametrize("events", ["onehot", "clmbr"])
def test_a_removed_event_is_as_if_it_had_never_been_recorded(tmp_path, cohort, events):
    """The coalition's number is the prediction for a cohort without those events."""
    case = fused_case(cohort, "co_attention", events=events)
    keep = np.array([True, True, False, True, True, False, True, False, True])
    other = write_cohort(tmp_path / "fewer", [e for e, k in zip(EVENTS, keep, strict=True) if k])
    fewer = open_case(case.run, other, 1)
    beside = {n: e for n, e in case.encoded.items() if n != "ehr"}
    expected = case.model.fuse({**beside, "ehr": fewer.encoded["ehr"]}).prediction[0].numpy()
    got = Game(case, "ehr", LogRisk())(keep[None])[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert abs(got[0] - case.value(LogRisk())[0]) > 1e-3


def test_batches_and_order_change_nothing_and_equal_coalitions_cost_once(cohort, monkeypatch):
    case = fused_case(cohort, "cross_attention", events="clmbr")
    masks = np.random.default_rng(0).random((70, 9)) < 0.5
    game = Game(case, "ehr", LogRisk())
    together = game(masks)
    before = game.evaluations
    alone = np.concatenate([Game(case, "ehr", LogRisk())(m[None]) for m in masks])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    game(np.repeat(masks[:1], 50, axis=0))
    assert game.evaluations == before + 1
    with pytest.raises(ValueError, match=r"\(n, 9\)"):
        game(np.ones((2, 8), bool))


def test_all_horizons_come_from_the_same_evaluations(cohort):
    case = fused_case(cohort, "late")
    target = Survival(BASELINE, (0.0, 50.0, 500.0))
    game = Game(case, "ehr", target)
    values = game(np.eye(9, dtype=bool))
    assert values.shape == (9, 3)
    assert game.evaluations == 9
    np.testing.assert_allclose(values[:, 0], 1)
    np.testing.assert_allclose(game.everything, case.value(target), atol=1e-6)


def test_a_table_column_left_out_is_missing_or_another_patients(cohort):
    case = fused_case(cohort, "late")
    row = case.raw("labs").fields["values"][0].numpy()
    own = Game(case, "labs", LogRisk(), background=row[None])
    np.testing.assert_allclose(own.nothing, own.everything, atol=1e-6)
    rows = np.stack([row, row + np.array([5, 0, 0])])
    game = Game(case, "labs", LogRisk(), background=rows)
    apart = [Game(case, "labs", LogRisk(), background=r[None]).nothing for r in rows]
    np.testing.assert_allclose(game.nothing, np.mean(apart, axis=0), atol=1e-6)
    # Missing in the background is missing here.
    blank = np.full((1, 3), np.nan)
    masks = np.array([[True, False, True]])
    missing = Game(case, "labs", LogRisk())(masks)
    filled = Game(case, "labs", LogRisk(), background=blank)(masks)
    np.testing.assert_allclose(missing, filled, atol=1e-6)


def test_cells_of_a_volume_and_their_blocks():
    case = ct_case()
    game = Game(case, "ct", LogRisk())
    assert game.n_parts == 16
    np.testing.assert_allclose(game.everything, case.value(LogRisk()), atol=1e-6)
    half = np.arange(16) < 8
    blocks = Game(case, "ct", LogRisk(), block=2)
    assert blocks.n_parts == 2
    np.testing.assert_allclose(blocks([[True, False]]), game(half[None]), atol=1e-6)
    tokens = case.encoded["ct"].tokens[:, :8]
    pooled = torch.cat([tokens.mean(1), tokens.amax(1)], 1).half().float()
    here = torch.ones(1, dtype=torch.bool)
    part = Encoded(tokens, here.expand(1, 8), pooled, here, VoxelGrid((2, 2, 2), (1, 1, 1)))
    expected = case.model.fuse({"ct": part}).prediction[0].numpy()
    np.testing.assert_allclose(blocks([[True, False]])[0], expected, atol=1e-5)


def test_blocks_cover_a_grid_in_order():
    owner = cell_blocks(VoxelGrid((6, 6, 6), (1, 1, 1)), 2).reshape(6, 6, 6)
    assert np.bincount(owner.ravel()).tolist() == [8] * 27
    assert owner[0, 0, 2] == 1
    assert owner[0, 2, 0] == 3
    assert owner[2, 0, 0] == 9
    uneven = cell_blocks(VoxelGrid((3, 2, 2), (1, 1, 1)), 2)
    assert np.bincount(uneven).tolist() == [8, 4]


def test_contexts_are_the_shapley_weights_of_what_the_patient_has(cohort):
    case = fused_case(cohort, "late")
    found = {c.others: c.weight for c in contexts_of(case, "ehr", "ledger")}
    sixth = pytest.approx(1 / 6)
    third = pytest.approx(1 / 3)
    both = ("labs", "tiles")
    assert found == {(): third, ("labs",): sixth, ("tiles",): sixth, both: third}
    assert [c.others for c in contexts_of(case, "ehr", "given")] == [both]
    without_ehr = fused_case(cohort, "late", subject=12)
    assert len(contexts_of(without_ehr, "labs", "ledger")) == 2


def test_what_cannot_be_explained_is_said(cohort):
    case = fused_case(cohort, "late", subject=12)
    with pytest.raises(AttributionError, match="has no 'ehr'"):
        Game(case, "ehr", LogRisk())
    with pytest.raises(AttributionError, match="3 columns"):
        Game(case, "labs", LogRisk(), background=np.zeros((2, 4)))
    with pytest.raises(AttributionError, match="for tables"):
        Game(case, "tiles", LogRisk(), background=np.zeros((2, 3)))
    with pytest.raises(AttributionError, match="ledger"):
        Game(case, "labs", LogRisk(), contexts="ledger", background=np.zeros((2, 3)))


def test_it_explains_the_shown_number_of_every_run_that_ships(tiny_workspace):
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    subject = int(cohort.subject_ids("internal")[0])
    seen = 0
    for folder in sorted((tiny_workspace / "runs").glob("pe-*")):
        if is_external(folder):
            continue
        run = load_run(folder, [tiny_workspace / "encoders"])
        case = open_case(run, cohort, subject)
        for modality in case.present:
            game = Game(case, modality, LogRisk(), block=2)
            np.testing.assert_allclose(game.everything, case.value(LogRisk()), atol=1e-4)
            seen += 1
    assert seen > 10
