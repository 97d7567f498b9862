from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.attribution.case import AttributionError
from analysis.attribution.shapley import (
    exact,
    neighbour_tree,
    pair_masks,
    pair_shares,
    permutation,
    rank_agreement,
    shap_partition,
    shap_permutation,
)
from tests.analysis.attribution.toys_ehr import SetGame, brute_force

WEIGHTS = np.array([3.0, -1.0, 0.5, 0.0, 2.0, 2.0, -4.0])
METHODS = {
    "exact": exact,
    "permutation": lambda v: permutation(v, budget=4000, seed=1),
    "shap_permutation": lambda v: shap_permutation(v, budget=400),
    "shap_partition": lambda v: shap_partition(v, budget=400),
}


def additive(m):
    return WEIGHTS[m].sum()


def rough(m):
    """Interactions of all orders; part 3 is a dummy, parts 4 and 5 are alike."""
    x = m * np.array([0.9, -0.4, 0.7, 0.0, 0.5, 0.5, -0.8])
    return np.sin(2 * x.sum()) + 3 * m[0] * m[1] * m[2] - 2 * m[4] * m[5] + m[:3].all()


@pytest.mark.parametrize("method", METHODS)
def test_an_additive_game_gives_its_weights_exactly(method):
    found = METHODS[method](SetGame(7, additive))
    np.testing.assert_allclose(found.values[:, 0], WEIGHTS, atol=1e-9)
    assert found.everything[0] == pytest.approx(WEIGHTS.sum())
    assert found.nothing[0] == 0


def test_three_parts_by_hand():
    """v = a + 2b + 3ab + 6abc - 3[any]: shares a 1 + 1.5 + 2 - 1, b 2 + 1.5 + 2 - 1, c 2 - 1."""

    def v(m):
        a, b, c = m.astype(float)
        return a + 2 * b + 3 * a * b + 6 * a * b * c - 3 * m.any()

    np.testing.assert_allclose(exact(SetGame(3, v)).values[:, 0], [3.5, 4.5, 1.0])
    many = permutation(SetGame(3, v), budget=6000, agreement=1.01)
    np.testing.assert_allclose(many.values[:, 0], [3.5, 4.5, 1.0], atol=0.15)


def test_one_antithetic_pair_is_exact_for_pairwise_interactions():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(6, 6))
    game = SetGame(6, lambda m: m @ q @ m)
    order = rng.permutation(6)
    f = game(pair_masks(order))
    ahead, behind = pair_shares(order, f)
    np.testing.assert_allclose((ahead + behind) / 2, exact(game).values)
    assert np.abs(ahead - behind).max() > 0.1


@pytest.mark.parametrize("p", [1, 2, 5])
def test_pair_masks_are_two_walks(p):
    order = np.random.default_rng(p).permutation(p)
    masks = pair_masks(order)
    assert masks.shape == (2 * p, p)
    assert masks[: p + 1].sum(axis=1).tolist() == list(range(p + 1))
    assert masks[p + 1 :].sum(axis=1).tolist() == list(range(1, p))
    assert len(np.unique(masks, axis=0)) == 2 * p
    for k in range(1, p):
        assert set(np.flatnonzero(masks[k])) == set(order[:k])
        assert set(np.flatnonzero(masks[p + k])) == set(order[p - k :])


def test_the_axioms_hold_on_a_rough_game():
    game = SetGame(7, rough)
    found = exact(game)
    by_definition = brute_force(lambda s: rough(np.isin(np.arange(7), list(s))), range(7))
    np.testing.assert_allclose(found.values[:, 0], [by_definition[i] for i in range(7)])
    assert found.values[3, 0] == pytest.approx(0, abs=1e-12)
    assert found.values[4, 0] == pytest.approx(found.values[5, 0])
    assert found.evaluations == 2**7
    assert found.agreement is None


def test_sampling_converges_to_the_exact_shares_and_always_adds_up():
    truth = exact(SetGame(7, rough)).values
    errors = []
    for budget in (28, 280, 14000):
        found = permutation(SetGame(7, rough), budget=budget, agreement=1.01, seed=4)
        errors.append(np.abs(found.values - truth).max())
        gap = found.values.sum(axis=0) - (found.everything - found.nothing)
        assert np.abs(gap).max() < 1e-12
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_the_step_from_absent_to_present_is_shared_evenly_at_once():
    """v = additive + 5 [any]: without the control a few parts would carry it."""
    game = SetGame(7, lambda m: additive(m) + 5 * m.any())
    found = permutation(game, budget=32, agreement=1.01)
    np.testing.assert_allclose(found.values[:, 0], WEIGHTS + 5 / 7)
    ahead, behind = pair_shares(np.arange(7), game(pair_masks(np.arange(7))))
    assert np.abs((ahead + behind)[:, 0] / 2 - WEIGHTS - 5 / 7).max() > 1.5


def test_sampling_is_unbiased_where_the_step_is_not_even():
    game = SetGame(7, lambda m: rough(m) + 2 * m[2:].any())
    truth = exact(game).values
    seeds = [permutation(game, budget=32, agreement=1.01, seed=s).values for s in range(400)]
    error = np.std(seeds, axis=0) / 20
    assert (np.abs(np.mean(seeds, axis=0) - truth) < 4 * error + 1e-9).all()


def test_short_coalitions_are_sampled_more_where_they_vary_more(monkeypatch):
    """v = mean of the parts that are there: x_i / P + (x_i - mean of others) (H - 1) / P
    by hand, with H the P-th harmonic number.
    """
    p = 64
    x = np.random.default_rng(0).normal(size=p)
    game = SetGame(p, lambda m: x[m].mean() if m.any() else 0.0)
    others = (x.sum() - x) / (p - 1)
    truth = x / p + (x - others) * ((1 / np.arange(1, p + 1)).sum() - 1) / p

    def error():
        runs = [permutation(game, budget=2600, agreement=1.01, seed=s) for s in range(8)]
        for found in runs:
            assert abs(found.values.sum() - x.mean()) < 1e-12
            assert 2000 < found.evaluations <= 2600
        return np.sqrt(np.mean([(found.values[:, 0] - truth) ** 2 for found in runs]))

    with_heads = error()
    monkeypatch.setattr("analysis.attribution.shapley.MOST_HEADS", 0)
    assert with_heads < 0.75 * error()


def noisy(m):
    """Nothing but interactions: no order of the parts is to be found in a few evaluations."""
    key = np.packbits(m).astype(np.int64) @ 31 ** np.arange(5)
    return np.random.default_rng(int(key)).normal()


def test_sampling_stops_early_when_the_halves_agree_and_at_the_budget_when_not():
    calm = permutation(SetGame(40, lambda m: np.arange(40)[m].sum()), budget=10000)
    assert calm.agreement == pytest.approx(1)
    assert calm.evaluations == 4 * 40 + 4
    assert np.allclose(calm.spread, 0)
    rounds = []
    lost = permutation(
        SetGame(40, noisy), budget=1000, progress=lambda done, total: rounds.append((done, total))
    )
    assert lost.agreement < 0.9
    assert 1000 - 164 < lost.evaluations <= 1000
    assert lost.spread.max() > 0.05
    assert rounds[-1] == (1000, 1000)
    assert rounds[0] == (164, 1000)


def test_a_budget_of_one_pair_has_its_two_orders_as_halves():
    found = permutation(SetGame(7, rough), budget=14)
    assert found.evaluations == 14
    assert found.agreement is not None
    with pytest.raises(AttributionError, match="at least 14"):
        permutation(SetGame(7, rough), budget=13)


def test_the_same_seed_gives_the_same_shares_and_numpy_keeps_its_stream():
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    for method in (permutation, shap_permutation):
        once = [method(SetGame(7, rough), budget=60, seed=s).values for s in (1, 1, 2)]
        np.testing.assert_array_equal(once[0], once[1])
        assert np.abs(once[0] - once[2]).max() > 1e-6
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002


def test_shaps_permutation_explainer_agrees_with_exact_in_the_long_run():
    truth = exact(SetGame(7, rough)).values
    found = shap_permutation(SetGame(7, rough), budget=6000)
    np.testing.assert_allclose(found.values, truth, atol=0.2)
    assert found.agreement > 0.8
    assert shap_permutation(SetGame(7, rough), budget=15).agreement is None


def test_partition_shares_add_up_and_follow_the_tree():
    found = shap_partition(SetGame(7, rough), budget=2000)
    total = found.everything - found.nothing
    np.testing.assert_allclose(found.values.sum(axis=0), total, atol=1e-6)
    tree = neighbour_tree(5)
    assert tree[:2, :2].tolist() == [[0, 1], [2, 3]]
    assert tree[-1, 2] == 5
    # Two outputs at once.
    both = shap_partition(SetGame(7, lambda m: np.array([additive(m), rough(m)])), budget=2000)
    np.testing.assert_allclose(both.values[:, 0], WEIGHTS, atol=1e-6)
    np.testing.assert_allclose(both.values[:, 1], found.values[:, 0], atol=1e-6)


def test_rank_agreement_is_spearmans_and_takes_the_worst_output():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 1))
    assert rank_agreement(a, b) == pytest.approx(spearmanr(a[:, 0], b[:, 0])[0], abs=1e-9)
    assert rank_agreement(np.c_[a, a], np.c_[a, b]) == pytest.approx(rank_agreement(a, b))
    zeros = np.zeros((30, 1))
    assert rank_agreement(zeros, zeros + 1e-9) == 1
    assert rank_agreement(zeros, a) == 0
    assert rank_agreement(a, -a) == pytest.approx(-1)
