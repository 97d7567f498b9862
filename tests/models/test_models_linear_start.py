from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from models.linear_start import class_start, cox_start


def survival(n: int = 300, columns: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    true = np.zeros(columns)
    true[:2] = (0.8, -0.6)
    death, loss = rng.exponential(np.exp(-x @ true)), rng.exponential(2.0, n)
    return x, np.minimum(death, loss), death <= loss, true


def test_the_elastic_net_is_that_of_lifelines():
    """Same penalty, same optimum: lifelines minimises the mean loss plus its penalizer."""
    x, time, event, _ = survival()
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    start = cox_start(x, time, event, l1_ratios=(0.1,))
    fitter = CoxPHFitter(penalizer=start.penalty, l1_ratio=0.1)
    theirs = fitter.fit(pd.DataFrame(x).assign(t=time, e=event), "t", "e").params_.to_numpy()
    assert start.weight[:, 0] == pytest.approx(theirs, abs=0.02)


def test_signal_is_kept_and_noise_dropped():
    x, time, event, true = survival(300, 60)
    start = cox_start(x, time, event)
    weight = start.weight[:, 0]
    assert np.corrcoef(weight, true if len(true) == 60 else np.r_[true, np.zeros(48)])[0, 1] > 0.9
    assert (weight[:2] != 0).all()


def test_pure_noise_is_shrunk_away():
    x, _, _, _ = survival(120, 60)
    rng = np.random.default_rng(5)
    start = cox_start(x, rng.exponential(size=120), rng.random(120) < 0.5)
    assert np.abs(start.weight).max() < 0.1


def test_a_constant_column_gets_nothing():
    x, time, event, _ = survival()
    x[:, 5] = 3.0
    assert cox_start(x, time, event).weight[5, 0] == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_told_apart(classes):
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, 240)
    x = rng.normal(size=(240, 8))
    x[:, 0] += 2.0 * label
    start = class_start(x, label, 1 if classes == 2 else classes)
    assert start.weight.shape == (8, 1 if classes == 2 else classes)
    assert np.abs(start.weight[0]).max() > 3 * np.abs(start.weight[1:]).max()
    assert (start.intercept is None) == (classes == 3)
    if start.intercept is not None:
        # Scores of logistic regression: the mean probability is the share of class 1.
        probability = 1 / (1 + np.exp(-(x @ start.weight[:, 0] + start.intercept)))
        assert probability.mean() == pytest.approx(label.mean(), abs=1e-3)
