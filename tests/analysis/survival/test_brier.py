import numpy as np
import pytest
from sksurv.metrics import brier_score, integrated_brier_score
from sksurv.util import Surv

from analysis.survival.baseline import breslow, survival_curve
from analysis.survival.brier import (
    brier,
    integrated_brier,
    last_usable_day,
    over_time,
    resampled_brier,
)
from analysis.survival.concordance import resample_weights
from analysis.survival.curves import kaplan_meier
from analysis.survival.data import SurvivalData
from tests.analysis.survival.reference import PREDICTED, R, repeated


@pytest.fixture
def case(cohort):
    train, (train_risk,) = cohort(300, seed=1)
    whole, (risk,) = cohort(120, seed=2)
    # scikit-survival refuses test patients followed longer than the training patients.
    test = whole.censored_at(train.time_days.max() - 7)
    times = np.arange(20.0, 500, 23.5)
    # Shrunk by half, the simulated score is close to calibrated, so it beats the reference.
    survival = survival_curve(breslow(train, train_risk / 2), risk / 2, times)
    return train, test, survival, times


def both(data: SurvivalData):
    return Surv.from_arrays(data.event, data.time_days)


def test_equals_scikit_survival(case) -> None:
    train, test, survival, times = case
    ours = brier(train, test, survival, times)
    _, theirs = brier_score(both(train), both(test), survival, times)
    np.testing.assert_allclose(ours.score, theirs, rtol=1e-12)
    _, km = brier_score(
        both(train), both(test), np.tile(kaplan_meier(train).at(times), (test.n, 1)), times
    )
    np.testing.assert_allclose(ours.reference, km, rtol=1e-12)
    total = integrated_brier(train, test, survival, times)
    assert total.value == pytest.approx(
        integrated_brier_score(both(train), both(test), survival, times), rel=1e-12
    )
    assert total.skill == pytest.approx(1 - total.value / total.reference)
    assert total.value < total.reference
    assert (total.start_days, total.end_days) == (times[0], times[-1])


def test_without_censoring_it_is_the_mean_squared_error() -> None:
    data = SurvivalData([1, 2, 3, 4], [1, 1, 1, 1])
    predicted = np.array([[0.2], [0.3], [0.9], [0.6]])
    # At day 2.5 two have died and two live.
    expected = (0.2**2 + 0.3**2 + 0.1**2 + 0.4**2) / 4
    result = brier(data, data, predicted, [2.5])
    assert result.score[0] == pytest.approx(expected)
    assert result.reference[0] == pytest.approx(0.25)


def test_censored_patients_hand_their_weight_on() -> None:
    # One of three is censored at day 1: the others weigh 1 / (2/3) each at day 1.5.
    data = SurvivalData([1, 2, 3], [0, 1, 1])
    result = brier(data, data, np.full((3, 1), 0.4), [1.5])
    assert result.score[0] == pytest.approx(2 * 1.5 * 0.6**2 / 3)


def test_test_patients_followed_longer_than_training_patients_are_no_obstacle() -> None:
    train = SurvivalData([1, 2, 3, 5], [1, 0, 1, 0])
    test = SurvivalData([1, 4, 50, 60], [1, 1, 1, 0])
    capped = test.censored_at(5)
    times, survival = [0.5, 2.5, 4.5], np.full((4, 3), 0.7)
    np.testing.assert_allclose(
        brier(train, test, survival, times).score, brier(train, capped, survival, times).score
    )


@pytest.mark.parametrize(
    ("survival", "times", "message"),
    [
        (np.full((3, 1), 0.5), [10], "ends at 9 days in the test and 8 in the training"),
        (np.full((3, 1), 0.5), [8], "not possible"),
        (np.full((3, 1), 0.5), [-1], "not possible"),
        (np.full((3, 2), 0.5), [4, 2], "increase"),
        (np.full((3, 2), 0.5), [2], r"shape \(3, 2\)"),
        (np.full((3, 1), 1.5), [2], "probabilities"),
        (np.full((3, 1), np.nan), [2], "probabilities"),
        (np.full((3, 0), 0.5), [], "at least one"),
    ],
)
def test_what_follow_up_or_shape_forbids_is_said(survival, times, message: str) -> None:
    train, test = SurvivalData([2, 5, 8], [1, 0, 1]), SurvivalData([2, 5, 9], [1, 1, 0])
    with pytest.raises(ValueError, match=message):
        brier(train, test, survival, times)
    assert 7.99 < last_usable_day(train, test) < 8


def test_an_integral_needs_two_times() -> None:
    data = SurvivalData([1, 2, 3], [1, 1, 0])
    with pytest.raises(ValueError, match="at least 2 times"):
        integrated_brier(data, data, np.full((3, 1), 0.5), [1.5])


def test_copies_are_repeated_rows(case) -> None:
    train, test, survival, times = case
    weights = resample_weights(test.n, 5, seed=0)
    score, reference = resampled_brier(train, test, survival, times, weights)
    for b in range(5):
        copy, rows = repeated(test, weights[b])
        # A copy may end earlier, where no more times are allowed.
        inside = times <= last_usable_day(train, copy)
        expected = brier(train, copy, survival[rows][:, inside], times[inside])
        np.testing.assert_allclose(score[b, inside], expected.score, rtol=1e-12)
        np.testing.assert_allclose(reference[b, inside], expected.reference, rtol=1e-12)
    mean = over_time(score, times)
    assert mean[0] == pytest.approx(np.trapezoid(score[0], times) / (times[-1] - times[0]))


def test_equals_risk_regression() -> None:
    score = R["score"]
    data = SurvivalData(score["time"], R["lung"]["event"])
    for name, p in PREDICTED.items():
        found = brier(data, data, np.tile(1 - p[:, None], (1, 2)), score["times"])
        np.testing.assert_allclose(found.score, score["brier"][name], rtol=2e-3)
        np.testing.assert_allclose(found.reference, score["brier"]["null"], rtol=2e-3)
        np.testing.assert_allclose(1 - found.score / found.reference, score["ipa"][name], atol=2e-3)
