"""Net benefit, alerts and reclassification: what depends on Kaplan-Meier within groups."""

import numpy as np
import pytest

from analysis.survival.alerts import MEASURES, alert_shares, alerts
from analysis.survival.concordance import resample_weights
from analysis.survival.data import SurvivalData
from analysis.survival.decision_curve import decision_curve, net_benefit, treat_all
from analysis.survival.observed import ByHorizon, once
from analysis.survival.reclassification import improvement, reclassification
from tests.analysis.survival.reference import HORIZON, LUNG, PREDICTED, R, repeated

OBSERVED = ByHorizon(LUNG, HORIZON)
WEIGHTS = resample_weights(LUNG.n, 90, seed=0)


def test_net_benefit_equals_r() -> None:
    expected = R["benefit"]
    for name, p in PREDICTED.items():
        np.testing.assert_allclose(
            net_benefit(OBSERVED, p, expected["thresholds"])[0], expected[name], rtol=1e-9
        )
    np.testing.assert_allclose(
        treat_all(OBSERVED, expected["thresholds"])[0], expected["all"], rtol=1e-9
    )


def test_everybody_flagged_is_treating_all() -> None:
    np.testing.assert_allclose(
        net_benefit(OBSERVED, np.ones(LUNG.n), [0.2, 0.6]), treat_all(OBSERVED, [0.2, 0.6])
    )


def test_copies_are_repeated_rows_and_pair_the_runs() -> None:
    p, cuts = PREDICTED["first"], np.array([0.2, 0.45, 0.9])
    copies = net_benefit(OBSERVED, p, cuts, WEIGHTS)
    for b in (0, 88):
        copy, rows = repeated(LUNG, WEIGHTS[b])
        np.testing.assert_allclose(
            copies[b], net_benefit(ByHorizon(copy, HORIZON), p[rows], cuts)[0]
        )
    curve = decision_curve(OBSERVED, p, cuts, WEIGHTS)
    assert (curve.low[:2] < curve.value[:2]).all()
    assert (curve.value[:2] < curve.high[:2]).all()
    # Nobody is flagged at 0.9 or hardly anybody: the benefit is near 0, and defined.
    assert not np.isnan(curve.low).any()


def test_alerts_equal_r() -> None:
    for name, p in PREDICTED.items():
        found = alerts(OBSERVED, p, R["alerts"]["threshold"], WEIGHTS)
        for measure, value in R["alerts"][name].items():
            assert getattr(found, measure).value == pytest.approx(value, rel=1e-9)
        assert found.needed.value == pytest.approx(1 / found.ppv.value)
        assert (found.needed.low, found.needed.high) == (1 / found.ppv.high, 1 / found.ppv.low)
        assert found.undefined is None


def test_alerts_without_censoring_are_counts() -> None:
    data = SurvivalData([1, 1, 1, 9, 9, 9, 9, 9], [1, 1, 1, 0, 0, 1, 0, 0])
    flagged = np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)
    found = alert_shares(ByHorizon(data, 5), flagged, once(8))
    expected = {
        "alert_rate": 3 / 8, "sensitivity": 2 / 3, "specificity": 4 / 5, "ppv": 2 / 3, "npv": 4 / 5,
    }  # fmt: skip
    for name in MEASURES:
        assert found[name][0] == pytest.approx(expected[name])


def test_reclassification_equals_r() -> None:
    expected = R["reclassification"]
    found = reclassification(
        OBSERVED, PREDICTED["first"], PREDICTED["second"], [expected["cut"]], WEIGHTS
    )
    assert (found.n_up, found.n_down) == (expected["up"], expected["down"])
    assert found.events.value == pytest.approx(expected["events"], rel=1e-9)
    assert found.nonevents.value == pytest.approx(expected["nonevents"], rel=1e-9)
    assert found.total.value == pytest.approx(expected["events"] + expected["nonevents"], rel=1e-9)
    assert found.counts.sum() == LUNG.n
    assert found.counts[0, 1] == expected["up"]
    assert found.events.low < found.events.value < found.events.high


def test_reclassification_is_of_opposite_sign_the_other_way_round() -> None:
    one, other = PREDICTED["first"], PREDICTED["second"]
    there = reclassification(OBSERVED, one, other, [0.3, 0.6], WEIGHTS)
    back = reclassification(OBSERVED, other, one, [0.3, 0.6], WEIGHTS)
    np.testing.assert_array_equal(there.counts, back.counts.T)
    assert there.events.value == pytest.approx(-back.events.value)
    assert there.nonevents.low == pytest.approx(-back.nonevents.high)
    same = reclassification(OBSERVED, one, one, [0.5], WEIGHTS)
    assert (same.events.value, same.nonevents.value, same.p) == (0, 0, 1)


def test_reclassification_without_censoring_is_counted() -> None:
    data = SurvivalData([1] * 4 + [9] * 6, [1] * 4 + [0] * 6)
    up = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    down = np.array([0, 0, 1, 0, 0, 1, 1, 0, 0, 0], bool)
    events, nonevents = improvement(ByHorizon(data, 5), up, down, once(10))
    assert events[0] == pytest.approx(2 / 4 - 1 / 4)
    assert nonevents[0] == pytest.approx(2 / 6 - 1 / 6)


def test_what_cannot_be_had_says_why() -> None:
    weights = resample_weights(6, 30, seed=0)
    time, p = [2, 4, 6, 8, 10, 12], np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    nobody = ByHorizon(SurvivalData(time, [0] * 6), 9)
    found = alerts(nobody, p, 0.5, weights)
    assert found.undefined == "None of the 6 patients had the event by 9 days."
    assert np.isnan(found.sensitivity.value)
    assert found.alert_rate.value == 0.5
    some = ByHorizon(SurvivalData(time, [1, 0, 1, 1, 0, 0]), 9)
    unflagged = alerts(some, p, 0.95, weights)
    assert unflagged.undefined == "None of the 6 patients is flagged."
    assert np.isnan(unflagged.ppv.value)
    assert unflagged.sensitivity.value == 0
    # The last of the low risk is lost before the horizon: their risk by then is unknown.
    lost = ByHorizon(SurvivalData([2, 3, 4, 8, 10, 12], [0, 1, 0, 1, 0, 0]), 9)
    assert "not followed to the horizon" in (alerts(lost, p, 0.5, weights).undefined or "")
    moved = reclassification(lost, p, 1 - p, [0.5], weights)
    assert "not followed to the horizon" in (moved.undefined or "")
    assert np.isnan(moved.p)
    gone = alerts(ByHorizon(SurvivalData(time, [1, 0, 1, 1, 1, 1]), 12), p, 0.5, weights)
    assert gone.undefined == "By 12 days nobody is left without the event."
    assert np.isnan(gone.specificity.value)
    assert gone.ppv.value == 1
    with pytest.raises(ValueError, match="above 0 and below 1"):
        net_benefit(some, p, [0, 0.5])
    with pytest.raises(ValueError, match="must increase"):
        reclassification(some, p, p, [0.5, 0.2], weights)
    with pytest.raises(ValueError, match="6 patients need"):
        net_benefit(some, p[:5], [0.5])
    with pytest.raises(ValueError, match="horizon_days"):
        ByHorizon(SurvivalData(time, [0] * 6), 0)
