from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import expon
from sklearn.metrics import log_loss as sklearn_log_loss

from analysis.classification.data import LabelData
from analysis.missing.loss import log_loss, survival_loss
from analysis.survival.baseline import BaselineHazard
from analysis.survival.data import SurvivalData


def test_differences_are_those_of_exponential_lifetimes():
    """H0(t) = t / 100: a patient of log-risk r lives exponentially with mean 100 exp(-r)."""
    rng = np.random.default_rng(0)
    n = 200
    days = np.arange(1.0, 301.0)
    baseline = BaselineHazard(days, days / 100, reference_log_risk=0.4)
    time, event = rng.integers(1, 300, n).astype(float), rng.random(n) < 0.5
    data = SurvivalData(time, event)
    one, two = rng.normal(0.4, 1, n), rng.normal(0.4, 1, n)

    def likelihood(risk):
        life = expon(scale=100 / np.exp(risk - 0.4))
        return np.where(event, life.logpdf(time), life.logsf(time))

    found = survival_loss(data, one, baseline) - survival_loss(data, two, baseline)
    np.testing.assert_allclose(found, likelihood(two) - likelihood(one), rtol=1e-9, atol=1e-12)


def test_the_truth_has_the_lowest_mean():
    rng = np.random.default_rng(1)
    risk = rng.normal(size=4000)
    death = rng.exponential(100 / np.exp(risk))
    data = SurvivalData(np.ceil(np.minimum(death, 150)), death <= 150)
    days = np.arange(1.0, 151.0)
    baseline = BaselineHazard(days, days / 100)
    means = {
        scale: survival_loss(data, scale * risk, baseline).mean() for scale in (0, 0.5, 1, 1.5)
    }
    assert min(means, key=means.__getitem__) == 1


def test_what_came_after_the_training_follow_up_does_not_count():
    baseline = BaselineHazard(np.array([10.0, 20.0]), np.array([0.1, 0.3]))
    data = SurvivalData(np.array([5.0, 10.0, 15.0, 20.0, 99.0]), np.ones(5, bool))
    risk = np.full(5, np.log(2.0))
    own = np.log(2.0)
    expected = [0 - own, 0.2 - own, 0.2 - own, 0.6 - own, 0.6]
    np.testing.assert_allclose(survival_loss(data, risk, baseline), expected)


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 50)
    given = rng.dirichlet(np.ones(3), 50)
    three = log_loss(LabelData(label, ("a", "b", "c")), given)
    assert three.mean() == pytest.approx(sklearn_log_loss(label, given, labels=[0, 1, 2]))
    two = log_loss(LabelData(label == 1, ("no", "yes")), given[:, 1])
    assert two.mean() == pytest.approx(sklearn_log_loss(label == 1, given[:, 1]))
    certain = log_loss(LabelData(np.array([0]), ("no", "yes")), [1.0])
    assert certain[0] == pytest.approx(-np.log(1e-12))
