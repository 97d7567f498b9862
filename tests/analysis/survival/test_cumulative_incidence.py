import numpy as np
import pytest
from lifelines import AalenJohansenFitter, KaplanMeierFitter

from analysis.survival.cumulative_incidence import cumulative_incidence
from tests.analysis.survival.reference import R


def test_equals_r_on_tied_days() -> None:
    given = R["competing"]
    time, code = np.array(given["time"]), np.array(given["code"])
    assert len(np.unique(time)) < len(time)
    np.testing.assert_allclose(
        cumulative_incidence(time, code).at(given["at"]), given["progression"], rtol=1e-9
    )
    np.testing.assert_allclose(
        cumulative_incidence(time, code, 2).at(given["at"]), given["death"], rtol=1e-9
    )


def test_equals_lifelines_with_its_variance() -> None:
    rng = np.random.default_rng(0)
    time, code = rng.random(150) * 900, rng.choice(3, 150, p=[0.4, 0.35, 0.25])
    theirs = AalenJohansenFitter(calculate_variance=True).fit(time, code, 1)
    found = cumulative_incidence(time, code)
    np.testing.assert_array_equal(found.time_days, theirs.cumulative_density_.index)
    np.testing.assert_allclose(
        found.incidence, theirs.cumulative_density_.to_numpy()[:, 0], rtol=1e-12, atol=1e-15
    )
    variance = np.asarray(theirs.variance_).ravel()
    known = ~np.isnan(variance)  # lifelines has none once nobody is left
    assert known[:-1].all()
    np.testing.assert_allclose(found.variance[known], variance[known], rtol=1e-8, atol=1e-14)
    bounds = theirs.confidence_interval_.to_numpy()
    shown = known & (found.incidence > 0)
    np.testing.assert_allclose(found.low[shown], bounds[shown].min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.high[shown], bounds[shown].max(axis=1), rtol=1e-6)


def test_all_states_sum_to_one_and_one_event_is_kaplan_meier() -> None:
    rng = np.random.default_rng(1)
    time, code = rng.integers(1, 40, 80), rng.choice(3, 80)
    found = cumulative_incidence(time, code)
    free = KaplanMeierFitter().fit(time, code > 0).predict(found.time_days).to_numpy()
    np.testing.assert_allclose(found.incidence + found.competing, 1 - free, atol=1e-12)
    assert found.n_events + found.n_competing == (code > 0).sum()
    alone = cumulative_incidence(time, (code == 1).astype(int))
    km = KaplanMeierFitter().fit(time, code == 1).predict(alone.time_days).to_numpy()
    np.testing.assert_allclose(alone.incidence, 1 - km, atol=1e-12)
    assert (alone.incidence >= found.at(alone.time_days) - 1e-12).all()


def test_by_hand() -> None:
    found = cumulative_incidence([1, 2, 3, 4], [2, 1, 0, 1])
    # Day 1: one of four dies of the other; day 2: one of three; day 4: the last.
    np.testing.assert_allclose(found.incidence, [0, 0, 1 / 4, 1 / 4, 3 / 4])
    np.testing.assert_allclose(found.competing, [0, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    assert np.isnan(found.at(5))


def test_bad_codes_and_no_events_are_said() -> None:
    none = cumulative_incidence([3, 4], [0, 2])
    assert none.undefined == "None of the 2 patients had event 1: the curve stays at 0."
    assert (none.incidence == 0).all()
    assert (none.high == 0).all()
    with pytest.raises(ValueError, match="whole numbers"):
        cumulative_incidence([1, 2], [0.5, 1])
    with pytest.raises(ValueError, match="cannot be 0"):
        cumulative_incidence([1, 2], [0, 1], 0)
