import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from analysis.survival.baseline import BaselineHazard, breslow, survival_curve
from analysis.survival.data import SurvivalData


def test_by_hand() -> None:
    # exp(log-risk) is 1, 2, 4. Day 1: patient 0 of 7; day 5: patient 2 of 4.
    data = SurvivalData([1, 3, 5], [1, 0, 1])
    base = breslow(data, np.log([1, 2, 4])).relative_to(0)
    assert base.time_days.tolist() == [1, 3, 5]
    np.testing.assert_allclose(base.cumulative_hazard, [1 / 7, 1 / 7, 1 / 7 + 1 / 4])
    curve = survival_curve(base, np.log([1, 2]), [0, 1, 4.9, 5])
    np.testing.assert_allclose(curve[0], np.exp([0, -1 / 7, -1 / 7, -11 / 28]))
    np.testing.assert_allclose(curve[1], curve[0] ** 2)


def test_without_covariates_it_is_nelson_aalen() -> None:
    data = SurvivalData([1, 2, 2, 3], [1, 1, 1, 0])
    base = breslow(data, np.zeros(4))
    np.testing.assert_allclose(base.cumulative_hazard, [1 / 4, 1 / 4 + 2 / 3, 1 / 4 + 2 / 3])


def test_equals_scikit_survival(cohort) -> None:
    data, (risk,) = cohort(200)
    X = np.c_[risk, np.random.default_rng(0).normal(5, 1, 200)]
    model = CoxPHSurvivalAnalysis().fit(X, Surv.from_arrays(data.event, data.time_days))
    predictor = X @ model.coef_
    ours = breslow(data, predictor)
    at_zero = ours.relative_to(0)
    np.testing.assert_array_equal(at_zero.time_days, model.cum_baseline_hazard_.x)
    np.testing.assert_allclose(at_zero.cumulative_hazard, model.cum_baseline_hazard_.y, rtol=1e-10)
    times = np.array([7, 50.5, 140, 400])
    theirs = np.array([f(times) for f in model.predict_survival_function(X[:9])])
    for base in (ours, at_zero):
        np.testing.assert_allclose(survival_curve(base, predictor[:9], times), theirs, rtol=1e-9)


@pytest.mark.parametrize("shift", [-2000.0, 0.0, 1e3, 1e5])
def test_an_offset_of_the_score_changes_no_probability(cohort, shift: float) -> None:
    data, (risk,) = cohort(100)
    times = [30, 200]
    plain = survival_curve(breslow(data, risk), risk, times)
    shifted = survival_curve(breslow(data, risk + shift), risk + shift, times)
    np.testing.assert_allclose(shifted, plain, rtol=1e-8)
    assert ((plain > 0) & (plain < 1)).all()


def test_a_wide_spread_neither_overflows_nor_divides_by_zero() -> None:
    # The low scores are at risk last: a plain sum minus what left would cancel to 0 there.
    data = SurvivalData([1, 2, 3], [1, 1, 1])
    base = breslow(data, [300, 0, -300])
    assert np.isfinite(base.cumulative_hazard).all()
    np.testing.assert_allclose(base.cumulative_hazard[2], np.exp(300))
    assert survival_curve(base, [-300], [3])[0, 0] == pytest.approx(np.exp(-1))
    assert survival_curve(base, [1e6, -1e6], [3])[:, 0].tolist() == [0, 1]


def test_beyond_follow_up_is_unknown() -> None:
    base = breslow(SurvivalData([1, 9], [1, 0]), [0, 0])
    assert np.isnan(survival_curve(base, [0], [9, 9.5])[0]).tolist() == [False, True]


def test_probabilities_fall_with_time_and_with_risk(cohort) -> None:
    data, (risk,) = cohort(100)
    curve = survival_curve(breslow(data, risk), np.sort(risk), np.arange(0, 300, 10))
    assert (np.diff(curve, axis=0) <= 0).all()
    assert (np.diff(curve, axis=1) <= 0).all()
    assert (curve[:, 0] == 1).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no baseline hazard"):
        breslow(SurvivalData([1, 2], [0, 0]), [0, 0])
    with pytest.raises(ValueError, match="log_risk is missing"):
        breslow(SurvivalData([1], [1]), [np.nan])
    base = breslow(SurvivalData([1], [1]), [0])
    with pytest.raises(ValueError, match="missing or infinite"):
        survival_curve(base, [np.nan], [1])
    with pytest.raises(ValueError, match="0 upwards"):
        survival_curve(base, [0], [-1])
    for times, hazard in (([1, 1], [0, 1]), ([1, 2], [1, 0]), ([1], [1, 2]), ([], [])):
        with pytest.raises(ValueError, match="hazard"):
            BaselineHazard(times, hazard)
