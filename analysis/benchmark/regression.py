"""The peers without a network: penalised regressions and forests of well-kept libraries.

Every estimator is fitted on the training folds alone; a penalty is chosen by cross-validation
inside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sksurv.ensemble import RandomSurvivalForest
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.util import Surv

from analysis.benchmark.design import Floats
from analysis.cohort.cohort import Outcomes
from analysis.survival.concordance import harrell_c
from analysis.survival.data import SurvivalData

INNER_FOLDS = 5
TREES = 500
# The forest looks at every distinct time for every split; months are fine enough and quick.
MONTH_DAYS = 365.25 / 12
NET_PENALTIES = (0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True)
class Fitted:
    """prediction (n,) of the test patients: a risk or a probability. chosen: penalties."""

    prediction: Floats
    chosen: Mapping[str, Any]


def _inner(seed: int) -> StratifiedKFold:
    return StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=seed)


def commonest(a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """The share of class 1 among the training patients, for everybody."""
    assert truth.label is not None
    share = float(truth.label.mean())
    return Fitted(np.full(len(b), share), {"share": share})


def logistic_ridge(a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """Ridge logistic regression, penalty by cross-validated likelihood."""
    model = LogisticRegressionCV(
        Cs=np.logspace(-5, 0, 11),
        l1_ratios=(0,),
        cv=_inner(seed),
        scoring="neg_log_loss",
        max_iter=2000,
        use_legacy_attributes=False,
    ).fit(a, truth.label)
    return Fitted(model.predict_proba(b)[:, 1], {"C": float(model.C_)})


def logistic_net(a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """Elastic-net logistic regression, penalty and mixture by cross-validated likelihood."""
    search = GridSearchCV(
        LogisticRegression(solver="saga", l1_ratio=0.5, max_iter=500, tol=1e-3, random_state=seed),
        {"C": NET_PENALTIES, "l1_ratio": (0.1, 0.5)},
        scoring="neg_log_loss",
        cv=_inner(seed),
    ).fit(a, truth.label)
    chosen = {name: float(value) for name, value in search.best_params_.items()}
    return Fitted(search.predict_proba(b)[:, 1], chosen)


def random_forest(a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """500 trees, at least 5 patients a leaf."""
    model = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=seed)
    return Fitted(model.fit(a, truth.label).predict_proba(b)[:, 1], {})


def coxnet(a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """Elastic-net Cox regression (l1_ratio 0.1), penalty by cross-validated C."""
    assert truth.time_days is not None
    assert truth.event is not None
    y = Surv.from_arrays(truth.event, truth.time_days)
    whole = CoxnetSurvivalAnalysis(l1_ratio=0.1, alpha_min_ratio=0.01, n_alphas=40).fit(a, y)
    scores = np.zeros(len(whole.alphas_))
    for kept, held in _inner(seed).split(a, truth.event):
        part = CoxnetSurvivalAnalysis(l1_ratio=0.1, alphas=whole.alphas_).fit(a[kept], y[kept])
        data = SurvivalData(truth.time_days[held], truth.event[held])
        scores += [harrell_c(data, part.predict(a[held], alpha=x)) for x in whole.alphas_]
    alpha = float(whole.alphas_[scores.argmax()])
    return Fitted(whole.predict(b, alpha=alpha), {"alpha": alpha, "l1_ratio": 0.1})


def survival_forest(a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """500 trees with log-rank splits, at least 10 patients a leaf, times in whole months."""
    assert truth.time_days is not None
    assert truth.event is not None
    model = RandomSurvivalForest(
        TREES, min_samples_leaf=10, max_features="sqrt", random_state=seed, low_memory=True
    )
    y = Surv.from_arrays(truth.event, np.ceil(truth.time_days / MONTH_DAYS))
    return Fitted(model.fit(a, y).predict(b), {})


Estimator = Callable[[Floats, Floats, Outcomes, int], Fitted]
ESTIMATORS: Mapping[str, Estimator] = {
    fit.__name__: fit
    for fit in (
        commonest,
        logistic_ridge,
        logistic_net,
        random_forest,
        coxnet,
        survival_forest,
    )
}


def fit_quietly(name: str, a: Floats, b: Floats, truth: Outcomes, seed: int) -> Fitted:
    """An estimator by name; the loosest penalties of a path may not converge, unnoticed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="sksurv")
        return ESTIMATORS[name](a, b, truth, seed)
