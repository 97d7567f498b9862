"""An elastic net as the starting point of the linear path.

A few hundred patients and a few hundred columns, most of them without meaning, are a problem that
penalised regression solves well and that stochastic gradients solve badly: stopped early they
have hardly moved, later they have learnt the noise. So the linear path is the elastic net
solution (Simon et al. 2011 for Cox), its penalties chosen by cross-validation inside the training
patients, and the network learns what is left.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.util import Surv

from models.losses import cox_loss

Floats = npt.NDArray[np.float64]
L1_RATIOS = (0.1, 0.5, 0.9)
FOLDS = 5
# Fewer leave folds without an event, and a penalty that is chosen by chance.
FEWEST_EVENTS = 2 * FOLDS


@dataclass(frozen=True)
class LinearStart:
    """weight (P, K). penalty, l1_ratio: the chosen ones, as scikit-survival names them.

    intercept: (1,) of two classes, none otherwise: a log-risk has none, and with more classes
    the network's own head has one a class.
    """

    weight: Floats
    penalty: float
    l1_ratio: float
    intercept: Floats | None = None


def cox_start(
    x: Floats,
    time_days: Floats,
    event: npt.NDArray[np.bool_],
    *,
    l1_ratios: Sequence[float] = L1_RATIOS,
    seed: int = 0,
) -> LinearStart:
    """Elastic-net Cox regression of x (n, P); constant columns get 0.

    A held-out fold counts as the partial likelihood of all patients minus that of the others
    (Verweij and van Houwelingen 1993), since that of a small fold alone says little.
    """
    varies = x.std(axis=0) > 1e-9
    a = x[:, varies]
    y = Surv.from_arrays(event, time_days)
    folds = np.array_split(np.random.default_rng(seed).permutation(len(a)), FOLDS)
    best: tuple[float, float, Floats, Floats] | None = None
    for ratio in l1_ratios:
        whole = _path(a, y, ratio)
        scores = np.zeros(len(whole.alphas_))
        for held in folds:
            kept = np.setdiff1d(np.arange(len(a)), held)
            part = _path(a[kept], y[kept], ratio, whole.alphas_)
            predicted = a @ part.coef_
            for i in range(predicted.shape[1]):
                scores[i] += _total(predicted[:, i], time_days, event)
                scores[i] -= _total(predicted[kept, i], time_days[kept], event[kept])
        found = int(scores.argmin())
        if best is None or scores[found] < best[0]:
            best = (float(scores[found]), ratio, whole.coef_[:, found], whole.alphas_[found])
    assert best is not None
    weight = np.zeros((x.shape[1], 1))
    weight[varies, 0] = best[2]
    return LinearStart(weight, float(best[3]), best[1])


def _path(
    a: Floats, y: npt.NDArray[np.void], ratio: float, alphas: Floats | None = None
) -> CoxnetSurvivalAnalysis:
    with warnings.catch_warnings():
        # The loosest penalties of a path may not converge; they are never the chosen ones.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return CoxnetSurvivalAnalysis(
            l1_ratio=ratio, alphas=alphas, alpha_min_ratio=0.05, n_alphas=25, max_iter=20_000
        ).fit(a, y)


def _total(risk: Floats, time_days: Floats, event: npt.NDArray[np.bool_]) -> float:
    """Negative log partial likelihood."""
    if not event.any():
        return 0.0
    loss = cox_loss(torch.from_numpy(risk), torch.from_numpy(event), torch.from_numpy(time_days))
    return float(loss) * int(event.sum())


def class_start(x: Floats, label: npt.NDArray[np.int64], outputs: int) -> LinearStart:
    """Elastic-net logistic regression of x (n, P), penalty by cross-validated likelihood."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    counts = np.bincount(label)
    folds = min(FOLDS, int(counts[counts > 0].min()))
    model = LogisticRegression(solver="saga", l1_ratio=0.5, max_iter=500)
    search = GridSearchCV(
        model,
        {"C": [0.003, 0.01, 0.03, 0.1, 0.3], "l1_ratio": [0.1, 0.5]},
        scoring="neg_log_loss",
        cv=StratifiedKFold(max(folds, 2), shuffle=True, random_state=0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(x, label)
    coefficients = search.best_estimator_.coef_
    weight = np.zeros((x.shape[1], outputs))
    weight[:, : len(coefficients)] = coefficients.T
    return LinearStart(
        weight,
        1 / float(search.best_params_["C"]),
        float(search.best_params_["l1_ratio"]),
        search.best_estimator_.intercept_ if outputs == 1 else None,
    )
