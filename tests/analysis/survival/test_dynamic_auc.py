import numpy as np
import pytest
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

from analysis.survival.concordance import resample_weights
from analysis.survival.data import SurvivalData
from analysis.survival.dynamic_auc import (
    auc_with_band,
    dynamic_auc,
    mean_auc,
    resampled_auc,
    why_no_auc,
)
from analysis.survival.observed import once
from tests.analysis.survival.reference import PREDICTED, R, repeated


def both(data: SurvivalData):
    return Surv.from_arrays(data.event, data.time_days)


@pytest.fixture
def case(cohort):
    train, _ = cohort(300, seed=1)
    whole, risks = cohort(120, seed=2, scores=2)
    return train, whole.censored_at(train.time_days.max() - 7), risks


def test_equals_scikit_survival_on_tied_days_and_risks(case) -> None:
    train, test, risks = case
    times = np.arange(20.0, 500, 23.5)
    assert len(np.unique(risks[0])) < test.n
    for risk in risks:
        areas, mean = dynamic_auc(train, test, risk, times)
        theirs, their_mean = cumulative_dynamic_auc(
            both(train), both(test), risk, times, tied_tol=0
        )
        np.testing.assert_allclose(areas, theirs, rtol=1e-12)
        assert mean == pytest.approx(their_mean, rel=1e-12)


def test_equals_risk_regression() -> None:
    score = R["score"]
    data = SurvivalData(score["time"], R["lung"]["event"])
    for name, risk in PREDICTED.items():
        areas, _ = dynamic_auc(data, data, risk, score["times"])
        np.testing.assert_allclose(areas, score["auc"][name], rtol=1e-3)


def test_a_weighted_copy_is_its_repeated_rows(case) -> None:
    train, test, risks = case
    times = np.array([40.0, 120.0, 300.0])
    weights = resample_weights(test.n, 70, seed=3)  # more than one block of lanes
    areas = resampled_auc(train, test, risks, times, weights)
    means = mean_auc(test, areas, times, weights)
    for b in (0, 33, 69):
        copy, rows = repeated(test, weights[b])
        for k in range(2):
            expected, mean = dynamic_auc(train, copy, risks[k][rows], times)
            np.testing.assert_allclose(areas[k, b], expected, rtol=1e-10)
            assert means[k, b] == pytest.approx(mean, rel=1e-10)


def test_solved_by_hand() -> None:
    data = SurvivalData([1, 2, 3, 4], [1, 0, 1, 0])
    # By day 3.5: cases 1 (weight 1) and 3 (censoring: 1 of 3 on day 2, weight 1.5), control 4.
    # Case 1 ranks above the control, case 3 ties with it: (1 + 1.5 / 2) / 2.5.
    areas, mean = dynamic_auc(data, data, [5, 1, 2, 2], [1.5, 3.5])
    # By day 1.5: case 1 above all three controls.
    np.testing.assert_allclose(areas, [1.0, 1.75 / 2.5])
    # Kaplan-Meier falls by 1/4, then by 3/8, of 5/8 in all.
    assert mean == pytest.approx((1 / 4 + 3 / 8 * 0.7) / (5 / 8))


def test_turned_risks_give_one_minus_it(case) -> None:
    train, test, risks = case
    up, _ = dynamic_auc(train, test, risks[0], [100.0, 200.0])
    down, _ = dynamic_auc(train, test, -risks[0], [100.0, 200.0])
    np.testing.assert_allclose(up, 1 - down)


def test_what_cannot_be_had_says_why(case) -> None:
    train, _, _ = case
    nobody = SurvivalData([5, 9, 12], [0, 0, 0])
    times = np.array([4.0, 8.0])
    areas = resampled_auc(train, nobody, [[1, 2, 3]], times, once(3))
    mean = mean_auc(nobody, areas, times, once(3))
    assert np.isnan(areas).all()
    assert np.isnan(mean).all()
    found = auc_with_band(nobody, times, areas[0, 0], areas[0], float(mean[0, 0]), mean[0])
    assert "None of the 3 patients had the event by 8 days" in (found.undefined or "")
    assert np.isnan(found.curve.low).all()
    early = SurvivalData([2, 2, 3], [1, 0, 0])
    assert "no control" in (why_no_auc(early, np.array([3.0, 4.0])) or "")
    with pytest.raises(ValueError, match="increasing"):
        dynamic_auc(train, nobody, [1, 2, 3], [8, 4])
