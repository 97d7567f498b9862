"""Do predicted probabilities mean what they say? For two classes.

Calibration in the large, intercept and slope (Cox, Biometrika 1958; 45:562; Van Calster et al.,
BMC Med 2019; 17:230), and the observed share of the class in groups of like predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from analysis.classification.data import Floats, LabelData, as_probability
from analysis.classification.proportions import wilson
from analysis.survival.comparison import LEVEL, ConfidenceInterval

N_GROUPS = 10
_NAN = float("nan")
_UNKNOWN = ConfidenceInterval(_NAN, _NAN, _NAN)
_STEPS = 50
# Probabilities of 0 and 1 have no logit; nothing is surer than this.
_SUREST = 1e-9


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of like predictions: their number, mean prediction and observed share."""

    n: int
    predicted: float
    observed: ConfidenceInterval


@dataclass(frozen=True)
class LabelCalibration:
    """How predicted and observed shares of the positive class agree.

    observed_to_expected: patients with the class over the sum of predictions, 1 is right.
    intercept: of logit(observed) = a + logit(predicted), 0 is right, negative where predictions
    are too high. slope: b of a + b logit(predicted), 1 is right, below 1 where predictions are
    too extreme. Intervals are Wald's, 95%; nan where the model has no maximum. groups: by
    quantiles of the prediction, equal predictions together.
    """

    observed_to_expected: float
    intercept: ConfidenceInterval
    slope: ConfidenceInterval
    groups: tuple[CalibrationGroup, ...]


def label_calibration(
    data: LabelData, given: npt.ArrayLike, n_groups: int = N_GROUPS
) -> LabelCalibration:
    """Calibration of the positive class's probability. Raises ValueError for K > 2 classes."""
    if not data.is_binary:
        raise ValueError(
            f"Calibration is given for two classes, not for {len(data.classes)}; judge one class "
            "against the rest."
        )
    p = as_probability(data, given)
    label = data.label.astype(np.float64)
    inside = p.clip(_SUREST, 1 - _SUREST)
    logit = np.log(inside / (1 - inside))
    ones = np.ones((data.n, 1))
    intercept = _fit(ones, label, logit)
    slope = _fit(np.column_stack([ones, logit]), label, np.zeros(data.n))
    return LabelCalibration(
        observed_to_expected=float(label.sum() / p.sum()) if p.sum() > 0 else _NAN,
        intercept=intercept[0],
        slope=slope[1],
        groups=_groups(label, p, n_groups),
    )


def _fit(design: Floats, label: Floats, offset: Floats) -> list[ConfidenceInterval]:
    """Maximum likelihood of a logistic regression by Newton's method; nan where it has none."""
    unknown = [_UNKNOWN] * design.shape[1]
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        linear = design @ weights + offset
        p = np.exp(-np.logaddexp(0.0, -linear))
        information = design.T @ (design * (p * (1 - p))[:, None])
        try:
            step = np.linalg.solve(information, design.T @ (label - p))
        except np.linalg.LinAlgError:
            return unknown
        weights = weights + step.clip(-5, 5)
        if np.abs(step).max() < 1e-9:
            break
    else:
        return unknown
    if np.linalg.cond(information) > 1e12:
        return unknown
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    reach = float(norm.ppf((1 + LEVEL) / 2)) * errors
    return [
        ConfidenceInterval(float(w), float(w - r), float(w + r))
        for w, r in zip(weights, reach, strict=True)
    ]


def _groups(label: Floats, p: Floats, n_groups: int) -> tuple[CalibrationGroup, ...]:
    edges = np.unique(np.quantile(p, np.linspace(0, 1, n_groups + 1)[1:-1]))
    number = np.searchsorted(edges, p, side="left")
    found = []
    for group in np.unique(number):
        rows = number == group
        observed = wilson(int(label[rows].sum()), int(rows.sum()))
        found.append(CalibrationGroup(int(rows.sum()), float(p[rows].mean()), observed))
    return tuple(found)
