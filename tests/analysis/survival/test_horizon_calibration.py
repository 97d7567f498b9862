import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from analysis.survival.calibration import (
    _distances,
    fit_cox,
    fit_glm,
    horizon_calibration,
    known_by,
    spline,
)
from analysis.survival.concordance import resample_weights
from analysis.survival.data import SurvivalData
from analysis.survival.observed import ByHorizon, event_free, once
from tests.analysis.survival.reference import HORIZON, LUNG, PREDICTED, R, repeated

WEIGHTS = resample_weights(LUNG.n, 80, seed=0)


@pytest.mark.parametrize("name", ["first", "second"])
def test_equals_r(name: str) -> None:
    found = horizon_calibration(LUNG, ByHorizon(LUNG, HORIZON), PREDICTED[name], WEIGHTS)
    expected = R["calibration"][name]
    for measure in ("observed_to_expected", "intercept", "slope"):
        assert getattr(found, measure).value == pytest.approx(expected[measure], rel=1e-7)
    for measure in ("ici", "e50", "e90"):
        assert getattr(found.smooth, measure).value == pytest.approx(expected[measure], rel=1e-6)
        ci = getattr(found.smooth, measure)
        assert ci.low < ci.value < ci.high
    assert found.smooth.curve is not None
    shown = np.interp(PREDICTED[name], found.smooth.curve.at, found.smooth.curve.value)
    inside = (PREDICTED[name] >= found.smooth.curve.at[0]) & (
        PREDICTED[name] <= found.smooth.curve.at[-1]
    )
    np.testing.assert_allclose(shown[inside], np.array(expected["smooth"])[inside], atol=2e-4)
    assert found.undefined is None
    assert found.line_undefined is None


def test_groups_are_kaplan_meiers() -> None:
    p = PREDICTED["first"]
    found = horizon_calibration(LUNG, ByHorizon(LUNG, HORIZON), p, WEIGHTS)
    assert sum(group.n for group in found.groups) == LUNG.n
    first = found.groups[0]
    rows = p <= np.sort(p)[first.n - 1]
    km = KaplanMeierFitter().fit(LUNG.time_days[rows], LUNG.event[rows])
    assert first.n == rows.sum()
    assert first.observed.value == pytest.approx(1 - km.predict(HORIZON))
    assert first.predicted == pytest.approx(p[rows].mean())
    assert first.observed.low <= first.observed.value <= first.observed.high


def test_event_free_of_copies_is_kaplan_meier_of_repeated_rows(cohort) -> None:
    data, (risk,) = cohort(90, seed=5)
    weights = resample_weights(data.n, 70, seed=1)
    members = np.stack([risk > 0.5, risk <= 0.5, risk > risk.max(), np.ones(90, bool)])
    times = np.array([63.0, 250.0, 30.0, 5000.0])
    found = event_free(data, members, times, weights)
    for b in (0, 65):
        for g, (inside, time) in enumerate(zip(members, times, strict=True)):
            rows = np.repeat(np.arange(90), weights[b] * inside)
            if not len(rows):
                assert np.isnan(found[b, g])
                continue
            km = KaplanMeierFitter().fit(data.time_days[rows], data.event[rows])
            left = float(km.survival_function_.iloc[-1, 0])
            ended = time > data.time_days[rows].max() and left > 0
            expected = np.nan if ended else km.predict(time)
            np.testing.assert_allclose(found[b, g], expected, rtol=1e-12)


def test_cox_and_baseline_equal_scikit_survival(cohort) -> None:
    data, risks = cohort(150, seed=4, scores=2)
    weights = resample_weights(data.n, 3, seed=0)
    found = fit_cox(weights, data, risks.T)
    for b in range(3):
        copy, rows = repeated(data, weights[b])
        theirs = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(
            risks.T[rows], Surv.from_arrays(copy.event, copy.time_days)
        )
        np.testing.assert_allclose(found[b, :2], theirs.coef_, rtol=1e-5)
        np.testing.assert_allclose(found[b, 2], theirs.cum_baseline_hazard_.y[-1], rtol=1e-5)


def test_a_right_model_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=6000)
    event_time, loss = rng.exponential(1000 * np.exp(-z)), rng.exponential(1500, 6000)
    data = SurvivalData(np.minimum(event_time, loss), event_time <= loss)
    truth = 1 - np.exp(-500 * np.exp(z) / 1000)
    weights = resample_weights(6000, 40, seed=0)
    found = horizon_calibration(data, ByHorizon(data, 500), truth, weights)
    assert found.observed_to_expected.value == pytest.approx(1, abs=0.03)
    assert found.intercept.value == pytest.approx(0, abs=0.05)
    assert found.slope.value == pytest.approx(1, abs=0.05)
    assert found.smooth.ici.value < 0.015
    too_extreme = 1 - np.exp(-0.5 * np.exp(2 * z))
    wrong = horizon_calibration(data, ByHorizon(data, 500), too_extreme, weights)
    assert wrong.slope.value == pytest.approx(0.5, abs=0.03)
    assert wrong.slope.high < 1
    assert wrong.smooth.ici.low > 0.05


def test_follow_up_closed_at_the_horizon_costs_nobody() -> None:
    closed = LUNG.censored_at(HORIZON)
    outcome, weight = known_by(closed, closed, HORIZON)
    assert (weight[closed.time_days == HORIZON] > 0).all()
    whole, whole_weight = known_by(LUNG, LUNG, HORIZON)
    np.testing.assert_allclose(weight, whole_weight)
    np.testing.assert_array_equal(outcome, whole)
    # They stand for everybody: the weights of n patients sum to n but for ties.
    assert weight.sum() == pytest.approx(LUNG.n, rel=0.02)


def test_spline_is_linear_beyond_its_knots() -> None:
    x = np.linspace(-3, 3, 601)
    columns = spline(x, np.array([-1.0, 0.0, 1.0]))
    bend = np.diff(columns[:, 1], 2)
    assert np.abs(bend[(x[1:-1] < -1.01) | (x[1:-1] > 1.01)]).max() < 1e-12
    assert np.abs(bend).max() > 1e-6


def test_distances_are_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    p, smooth = rng.random(30), rng.random((4, 30))
    weights = resample_weights(30, 4, seed=0)
    found = _distances(smooth, p, weights)
    for b in range(4):
        gap = np.repeat(np.abs(smooth[b] - p), weights[b])
        expected = [gap.mean(), np.median(gap), np.quantile(gap, 0.9)]
        np.testing.assert_allclose(found[b], expected)


def test_separated_outcomes_have_no_line() -> None:
    outcome = np.array([0.0, 0, 1, 1])
    design = np.column_stack([np.ones(4), [-1.0, -0.5, 0.5, 1]])
    for cloglog in (True, False):
        found = fit_glm(once(4), np.ones(4), outcome, design, np.zeros(4), cloglog)
        assert np.isnan(found).all()


def test_what_cannot_be_had_says_why() -> None:
    rng = np.random.default_rng(0)
    weights = resample_weights(40, 20, seed=0)
    p, time = rng.random(40), rng.integers(1, 300, 40)
    nobody = SurvivalData(time, np.zeros(40))
    found = horizon_calibration(nobody, ByHorizon(nobody, 100), p, weights)
    assert found.undefined == "None of the 40 patients had the event by 100 days."
    assert np.isnan(found.slope.value)
    assert np.isnan(found.smooth.ici.value)
    short = SurvivalData(time, rng.random(40) < 0.5)
    late = horizon_calibration(short, ByHorizon(short, 400), p, weights)
    assert "Follow-up ends at" in (late.undefined or "")
    assert np.isnan(late.observed.value)
    few = SurvivalData(time, np.arange(40) < 4)
    assert "too few for a curve" in (
        horizon_calibration(few, ByHorizon(few, 200), p, weights).smooth.undefined or ""
    )
    same = horizon_calibration(short, ByHorizon(short, 100), np.full(40, 0.3), weights)
    assert same.smooth.curve is None
    assert same.line_undefined == "The recalibration has no maximum likelihood."
    assert len(same.groups) == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        horizon_calibration(short, ByHorizon(short, 100), p + 1, weights)
