import math

import numba.core.caching
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from sksurv.util import Surv

from analysis.survival import concordance as module
from analysis.survival.concordance import (
    bootstrap_c,
    harrell_c,
    resample_batches,
    resample_weights,
    uno_c,
    why_undefined,
)
from analysis.survival.data import SurvivalData


@st.composite
def tied_cohorts(draw: st.DrawFn) -> tuple[SurvivalData, np.ndarray, np.ndarray]:
    """Few distinct days and risks, so that every kind of tie occurs; and weights."""
    n = draw(st.integers(2, 25))
    column = st.lists(st.integers(0, 6), min_size=n, max_size=n)
    days, risk, weight = (np.array(draw(column), dtype=float) for _ in range(3))
    event = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    return SurvivalData(days, event), risk, weight.astype(int)


def slow_c(data: SurvivalData, risk: np.ndarray) -> float:
    """The definition, pair by pair."""
    good = pairs = 0.0
    for i in range(data.n):
        for j in range(data.n):
            longer = data.time_days[j] > data.time_days[i]
            as_long = data.time_days[j] == data.time_days[i] and not data.event[j]
            if data.event[i] and (longer or as_long):
                pairs += 1
                good += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return good / pairs if pairs else math.nan


def test_by_hand() -> None:
    # Patient 1 is censored on the day patient 2 has the event, so that pair counts.
    data = SurvivalData([1, 4, 4, 9], [1, 0, 1, 0])
    risk = [3, 5, 2, 2]
    # (0,1) no, (0,2) yes, (0,3) yes, (2,1) no, (2,3) tied: 2.5 of 5.
    assert harrell_c(data, risk) == 0.5
    assert harrell_c(data, [9, 0, 5, 1]) == 1.0


@given(tied_cohorts())
@settings(max_examples=150, deadline=None)
def test_equals_the_definition(case: tuple[SurvivalData, np.ndarray, np.ndarray]) -> None:
    data, risk, _ = case
    np.testing.assert_equal(harrell_c(data, risk), slow_c(data, risk))


@pytest.mark.parametrize("n", [30, 1098, 5000])
def test_equals_lifelines_and_scikit_survival(cohort, n: int) -> None:
    data, (risk,) = cohort(n)
    ours = harrell_c(data, risk)
    theirs = concordance_index_censored(data.event, data.time_days, risk, tied_tol=0)[0]
    assert ours == pytest.approx(concordance_index(data.time_days, -risk, data.event), abs=1e-12)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert 0.55 < ours < 0.9


@given(tied_cohorts(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_patients_is_irrelevant_and_negated_risk_gives_one_minus_c(case, random) -> None:
    data, risk, _ = case
    assume(why_undefined(data) is None)
    order = list(range(data.n))
    random.shuffle(order)
    assert harrell_c(data.subset(np.array(order)), risk[order]) == harrell_c(data, risk)
    assert harrell_c(data, -risk) == pytest.approx(1 - harrell_c(data, risk), abs=1e-12)
    assert harrell_c(data, np.exp(risk)) == harrell_c(data, risk)


@given(tied_cohorts())
@settings(max_examples=100, deadline=None)
def test_weights_equal_repeated_rows(case) -> None:
    data, risk, weight = case
    assume(weight.sum() > 0)
    rows = np.repeat(np.arange(data.n), weight)
    repeated = data.subset(rows)
    weighted = bootstrap_c(data, risk[None], weight[None])[0, 0]
    if why_undefined(repeated) is not None:
        assert math.isnan(weighted)
    else:
        theirs = concordance_index(repeated.time_days, -risk[rows], repeated.event)
        assert weighted == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("n_resamples", [1, 2, 63, 64, 65])
def test_a_batch_equals_lifelines_on_each_resample(cohort, n_resamples: int) -> None:
    data, risks = cohort(150, scores=3)
    weights = resample_weights(data.n, n_resamples, seed=3)
    ours = bootstrap_c(data, risks, weights)
    assert ours.shape == (3, n_resamples)
    for k, risk in enumerate(risks):
        for b, w in enumerate(weights):
            rows = np.repeat(np.arange(data.n), w)
            theirs = concordance_index(data.time_days[rows], -risk[rows], data.event[rows])
            assert ours[k, b] == pytest.approx(theirs, abs=1e-9)


def test_threads_do_not_change_the_answer(cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    data, risks = cohort(150, scores=2)
    weights = resample_weights(data.n, 150, seed=1)
    alone = bootstrap_c(data, risks, weights)
    monkeypatch.setattr(module, "_CELLS_WORTH_A_THREAD", 1)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 3)
    assert len(module._shares(150, 150 * 150)) == 3
    np.testing.assert_array_equal(bootstrap_c(data, risks, weights), alone)


def test_works_where_compiled_code_cannot_be_kept(cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    # A read-only installation without a home folder: numba finds no place for its cache.
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(module._sweep, "sweep_one", module._sweep._make_kernel(1))
    data, (risk,) = cohort(50)
    assert harrell_c(data, risk) == pytest.approx(slow_c(data, risk))


def test_large_cohort_needs_no_square_memory() -> None:
    # 100,000 x 100,000 bytes would be 10 GB; lifelines' tree is the slow twin.
    rng = np.random.default_rng(0)
    days, event, risk = (
        rng.exponential(size=100_000),
        rng.random(100_000) < 0.3,
        rng.random(100_000),
    )
    data = SurvivalData(days, event)
    theirs = concordance_index(days, -risk, event)
    assert harrell_c(data, risk) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("days", "event", "reason"),
    [
        ([5], [1], "only one patient"),
        ([5, 6, 7], [0, 0, 0], "None of the 3 patients"),
        ([5, 6, 7], [0, 0, 1], "longer than one with the event"),
        ([5, 5, 5], [1, 1, 1], "longer than one with the event"),
    ],
)
def test_without_a_comparable_pair_c_is_nan_and_says_why(days, event, reason: str) -> None:
    data = SurvivalData(days, event)
    assert math.isnan(harrell_c(data, np.arange(data.n)))
    assert reason in (why_undefined(data) or "")


def test_all_risks_tied_is_chance_not_undefined() -> None:
    data = SurvivalData([1, 2, 3], [1, 1, 0])
    assert harrell_c(data, [7, 7, 7]) == 0.5
    assert why_undefined(data) is None


def test_near_ties_are_not_ties() -> None:
    data = SurvivalData([1, 2], [1, 1])
    assert harrell_c(data, [1 + 1e-12, 1]) == 1.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3, int), "shape"),
        (np.ones((2, 2), int), "shape"),
        (np.ones((1, 3)), "whole numbers"),
        (np.array([[1, -1, 0]]), "negative"),
        (np.full((1, 3), 2**30), "exceed"),
    ],
)
def test_weights_that_are_no_multiplicities_are_refused(weights, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_c(SurvivalData([1, 2, 3], [1, 1, 0]), [[1, 2, 3]], weights)


def test_the_largest_weights_do_not_overflow() -> None:
    data = SurvivalData([1, 2, 3], [1, 1, 0])
    weights = np.array([[2**28, 2**28, 2**28]])
    assert bootstrap_c(data, [[3, 1, 2]], weights)[0, 0] == harrell_c(data, [3, 1, 2]) == 2 / 3


def test_resamples_are_whole_cohorts_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = resample_weights(37, 50, seed=5)
    assert (weights.sum(axis=1) == 37).all()
    assert weights.max() > 1
    np.testing.assert_array_equal(weights, resample_weights(37, 50, seed=5))
    assert (weights != resample_weights(37, 50, seed=6)).any()
    # The size of the blocks is a matter of memory and must not show in the numbers.
    monkeypatch.setattr(module, "_BATCH_CELLS", 37 * 7)
    blocks = list(resample_batches(37, 50, seed=5))
    assert [len(b) for b in blocks] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate(blocks), weights)


def test_every_patient_is_drawn_alike() -> None:
    # Mean multiplicity 1, variance 1 - 1/n; 20,000 draws leave a standard error of 0.007.
    weights = resample_weights(10, 20_000, seed=0)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.035)
    np.testing.assert_allclose(weights.var(axis=0), 0.9, atol=0.06)


def test_uno_equals_scikit_survival(cohort) -> None:
    train, _ = cohort(300, seed=1)
    test, (risk,) = cohort(120, seed=2)
    tau = 400.0
    theirs = concordance_index_ipcw(
        Surv.from_arrays(train.event, train.time_days),
        Surv.from_arrays(test.event, test.time_days),
        risk,
        tau=tau,
        tied_tol=0,
    )[0]
    ours = uno_c(train, test, risk, tau)
    assert ours.value == pytest.approx(theirs, abs=1e-12)
    assert (ours.tau_days, ours.note) == (tau, None)


def test_uno_without_censoring_is_harrell() -> None:
    rng = np.random.default_rng(4)
    data = SurvivalData(rng.permutation(50) + 1.0, np.ones(50))
    risk = rng.normal(size=50)
    assert uno_c(data, data, risk).value == pytest.approx(harrell_c(data, risk), abs=1e-12)


def test_uno_stops_where_training_follow_up_ends_and_says_so() -> None:
    train = SurvivalData([2, 5, 8, 10], [1, 0, 1, 0])
    test = SurvivalData([1, 3, 6, 20, 30], [1, 1, 0, 1, 0])
    result = uno_c(train, test, [5, 4, 3, 2, 1])
    assert result.tau_days == 10
    assert "Truncated at 10 days" in (result.note or "")
    assert result.value == 1.0


def test_uno_undefined_says_why() -> None:
    train = SurvivalData([2, 5], [1, 0])
    assert "None of the 2" in (uno_c(train, SurvivalData([1, 2], [0, 0]), [1, 2]).note or "")
    late = uno_c(train, SurvivalData([3, 4], [1, 0]), [1, 2], tau_days=2)
    assert math.isnan(late.value)
    assert "before 2 days" in (late.note or "")
