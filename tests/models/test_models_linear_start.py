from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter

from models.linear_start import ridge, ridge_path
from models.losses import cox_loss


def survival(n: int = 300, columns: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    true = np.zeros(columns)
    true[:2] = (0.8, -0.6)
    death, loss = rng.exponential(np.exp(-x @ true)), rng.exponential(2.0, n)
    time, event = np.minimum(death, loss), death <= loss
    return x, time, event, true


def losses(time, event):
    t, e = torch.tensor(time), torch.tensor(event)

    def loss(prediction, rows):
        return cox_loss(prediction, e[rows], t[rows])

    def total(prediction, rows):
        return loss(prediction, rows) * e[rows].sum()

    return loss, total


def test_ridge_equals_lifelines():
    """lifelines minimises the mean over patients plus 0.5 penalty |w|^2."""
    x, time, event, _ = survival()
    # lifelines penalises coefficients of standardised columns
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    loss, _ = losses(time, event)
    penalty = 0.05
    weight = ridge(
        torch.tensor(x), torch.arange(300), loss, penalty, torch.zeros(12, 1).double(), 200
    )
    frame = pd.DataFrame(x).assign(t=time, e=event)
    theirs = CoxPHFitter(penalizer=2 * penalty * event.mean(), l1_ratio=0.0).fit(frame, "t", "e")
    assert weight[:, 0].numpy() == pytest.approx(theirs.params_.to_numpy(), abs=2e-3)


def test_the_path_keeps_signal_and_shrinks_noise():
    x, time, event, true = survival()
    loss, total = losses(time, event)
    weight, penalty = ridge_path(torch.tensor(x).float(), loss, total, 1)
    assert np.corrcoef(weight[:, 0].numpy(), true)[0, 1] > 0.9
    assert 0.02 < penalty < 1


def test_pure_noise_is_shrunk_most():
    x, _, _, _ = survival(120, 60)
    rng = np.random.default_rng(5)
    loss, total = losses(rng.exponential(size=120), rng.random(120) < 0.5)
    weight, penalty = ridge_path(torch.tensor(x).float(), loss, total, 1)
    assert penalty >= 1.0
    assert weight.abs().max() < 0.1
