import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.survival.comparison import compare, holm
from analysis.survival.concordance import bootstrap_c, harrell_c, resample_weights
from analysis.survival.data import SurvivalData


def test_intervals_and_p_come_from_the_same_paired_resamples(cohort) -> None:
    data, risks = cohort(150, scores=3)
    result = compare(data, dict(zip("abc", risks, strict=True)), n_resamples=200, seed=9)
    sample = bootstrap_c(data, risks, resample_weights(data.n, 200, seed=9))
    for k, run in enumerate(result.runs):
        assert run.c.value == harrell_c(data, risks[k])
        bounds = np.quantile(sample[k], [0.025, 0.975])
        assert (run.c.low, run.c.high) == pytest.approx(tuple(bounds), abs=1e-12)
    gap = sample[0] - sample[2]
    found = result.difference("a", "c")
    assert found.difference.value == pytest.approx(
        harrell_c(data, risks[0]) - harrell_c(data, risks[2])
    )
    bounds = np.quantile(gap, [0.025, 0.975])
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(bounds), abs=1e-12)
    assert found.p == min(1, 2 * (1 + min((gap <= 0).sum(), (gap >= 0).sum())) / 201)
    assert len(result.differences) == 3
    assert (result.n, result.n_events, result.seed) == (150, data.n_events, 9)
    assert (result.n_resamples, result.n_dropped, result.undefined) == (200, 0, None)


def test_same_seed_same_answer_and_order_of_runs_only_turns_the_sign(cohort) -> None:
    data, (a, b) = cohort(80, scores=2)
    one = compare(data, {"a": a, "b": b}, 100)
    assert one == compare(data, {"a": a, "b": b}, 100)
    other = compare(data, {"b": b, "a": a}, 100)
    assert other.runs == one.runs[::-1]
    forward, back = one.difference("a", "b"), other.difference("a", "b")
    assert back.difference.low == pytest.approx(forward.difference.low, abs=1e-12)
    assert back.p == forward.p


def test_equal_runs_do_not_differ_and_opposite_runs_do_to_the_floor(cohort) -> None:
    data, (risk,) = cohort(200)
    result = compare(data, {"a": risk, "same": risk * 2 + 1, "worse": -risk}, 300)
    same, opposite = result.difference("a", "same"), result.difference("a", "worse")
    assert (same.difference.value, same.difference.low, same.p) == (0, 0, 1)
    assert opposite.p == result.smallest_p == 2 / 301
    assert opposite.difference.low > 0
    # Two of the three pairs are at the floor; Holm multiplies the smallest by 3.
    assert opposite.p_holm == pytest.approx(3 * 2 / 301)


def test_p_is_uniform_when_runs_are_equally_good() -> None:
    # 60 cohorts in which both scores are the truth plus the same noise: about 5% below 0.05.
    small = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=120)
        data = SurvivalData(rng.exponential(np.exp(-z)), rng.random(120) < 0.7)
        a, b = z + rng.normal(size=120), z + rng.normal(size=120)
        small += compare(data, {"a": a, "b": b}, 200, seed).differences[0].p < 0.05
    assert small <= 8


def test_resamples_without_a_comparable_pair_are_dropped_and_counted() -> None:
    data = SurvivalData([1, 2, 3], [1, 0, 0])
    result = compare(data, {"a": [3, 2, 1]}, n_resamples=400)
    # The only event is missed with probability (2/3)^3, or everybody is the event: (1/3)^3.
    weights = resample_weights(3, 400, seed=0)
    lost = (weights[:, 0] == 0) | (weights[:, 0] == 3)
    assert result.n_dropped == lost.sum()
    assert 80 < result.n_dropped < 180
    assert result.runs[0].c.low == 1.0
    assert result.differences == ()


def test_no_events_is_nan_with_a_reason_not_an_error() -> None:
    result = compare(SurvivalData([1, 2], [0, 0]), {"a": [1, 2], "b": [2, 1]}, 50)
    assert math.isnan(result.runs[0].c.value)
    assert math.isnan(result.differences[0].p)
    assert math.isnan(result.differences[0].p_holm)
    assert result.n_dropped == 50
    assert "None of the 2 patients" in (result.undefined or "")


def test_errors_name_the_run(cohort) -> None:
    data, (risk,) = cohort(20)
    with pytest.raises(ValueError, match="no run"):
        compare(data, {})
    with pytest.raises(ValueError, match="run 'b' has 19 entries"):
        compare(data, {"a": risk, "b": risk[1:]})
    with pytest.raises(KeyError, match="there are a"):
        compare(data, {"a": risk}, 10).run("z")


def test_holm_by_hand() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03 0.06 0.06 0.02
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_array_equal(holm(np.array([0.9, np.nan])), [0.9, np.nan])


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8))
@settings(deadline=None)
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    raw = np.array(p)
    adjusted = holm(raw)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, raw * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
