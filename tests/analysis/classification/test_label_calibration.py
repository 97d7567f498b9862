from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from analysis.classification.calibration import label_calibration
from analysis.classification.data import LabelData, probability

TWO = ("no", "yes")


def sample(n, slope=1.0, shift=0.0, seed=0):
    """Labels that follow logits x, predictions that say slope * x + shift."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.4, 1.2, n)
    label = (rng.random(n) < probability(x[:, None])).astype(int)
    return LabelData(label, TWO), probability((slope * x + shift)[:, None])


def test_the_slope_equals_scikit_learn():
    data, p = sample(400, slope=1.7, shift=0.5)
    logit = np.log(p / (1 - p))[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(logit, data.label)
    assert label_calibration(data, p).slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-5)


def test_right_predictions_have_slope_one_and_intercept_zero():
    found = label_calibration(*sample(4000))
    assert found.slope.low < 1 < found.slope.high
    assert found.intercept.low < 0 < found.intercept.high
    assert found.observed_to_expected == pytest.approx(1, abs=0.05)
    assert sum(g.n for g in found.groups) == 4000
    assert len(found.groups) == 10
    assert sum(g.observed.low <= g.predicted <= g.observed.high for g in found.groups) >= 8


def test_too_extreme_and_too_high_predictions_are_named():
    """Logits doubled and raised by one: slope 1/2; raised alone: intercept -1."""
    extreme = label_calibration(*sample(4000, slope=2.0, shift=1.0))
    assert extreme.slope.value == pytest.approx(0.5, abs=0.05)
    high = label_calibration(*sample(4000, shift=1.0))
    assert high.intercept.value == pytest.approx(-1.0, abs=0.1)
    assert high.observed_to_expected < 0.8


def test_the_intercept_by_hand():
    """Three of four predicted at 0.5 have it: logit(3/4) = log 3, error 1 / sqrt(4 * 3/16)."""
    found = label_calibration(LabelData([1, 1, 1, 0], TWO), [0.5] * 4)
    assert found.intercept.value == pytest.approx(np.log(3))
    assert found.intercept.high - found.intercept.value == pytest.approx(1.959964 / np.sqrt(0.75))
    assert found.observed_to_expected == pytest.approx(1.5)
    assert np.isnan(found.slope.value)
    assert [(g.n, g.predicted, g.observed.value) for g in found.groups] == [(4, 0.5, 0.75)]


def test_what_has_no_maximum_is_unknown():
    apart = label_calibration(LabelData([0, 0, 1, 1], TWO), [0.1, 0.2, 0.8, 0.9])
    assert np.isnan(apart.slope.value)
    alone = label_calibration(LabelData([1, 1, 1], TWO), [0.1, 0.2, 1.0])
    assert np.isnan(alone.intercept.value)
    with pytest.raises(ValueError, match="two classes, not for 3"):
        label_calibration(LabelData([0, 1], ("a", "b", "c")), np.eye(3)[:2])
