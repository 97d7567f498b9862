"""Calibration of a class's probability with a smooth curve: the twin of `survival.calibration`.

Intercept and slope are those of `label_calibration`, by the same likelihood; the curve is a
logistic regression on a restricted cubic spline of the logit (Harrell 2015; ICI, E50 and E90:
Austin & Steyerberg, Stat Med 2019; 38:4051). Intervals are percentiles over resampled patients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.classification.data import Floats
from analysis.classification.observed import ByLabel
from analysis.survival.calibration import (
    LEAST_EVENTS,
    SUREST,
    Calibration,
    Fit,
    calibration,
    fit_glm,
    places_of,
    regression_line,
    spline_of,
)
from analysis.survival.concordance import Multiplicities
from analysis.survival.decision_curve import checked_probability


def label_calibration_curve(
    observed: ByLabel, probability: npt.ArrayLike, weights: Multiplicities
) -> Calibration:
    """Calibration of probabilities (n,) of the class, intervals over the copies (B, n).

    Raises ValueError for a probability that does not fit.
    """
    chances = checked_probability(observed.n, probability)
    outcome, prior = observed.positive.astype(np.float64), np.ones(observed.n)
    places = places_of(chances)
    scale, at = _logit(chances), _logit(places)
    shape = spline_of(scale, at)
    rarer = min(observed.n_events, observed.n - observed.n_events)
    smooth: Fit | str
    if rarer < LEAST_EVENTS:
        smooth = (
            f"{rarer} patients of the rarer class are too few for a curve; it needs {LEAST_EVENTS}."
        )
    elif isinstance(shape, str):
        smooth = shape
    else:
        smooth = _logistic_curve(outcome, prior, *shape)
    line = regression_line(outcome, prior, scale, cloglog=False)
    return calibration(observed, chances, weights, line, smooth, places)


def _logit(chances: Floats) -> Floats:
    inside = chances.clip(SUREST, 1 - SUREST)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)


def _logistic_curve(outcome: Floats, prior: Floats, design: Floats, at: Floats) -> Fit:
    columns = np.column_stack([np.ones(len(design)), design])
    everywhere = np.concatenate([columns, np.column_stack([np.ones(len(at)), at])])

    def fit(weights: Multiplicities) -> Floats:
        beta = fit_glm(weights, prior, outcome, columns, np.zeros(len(outcome)), False)
        return np.asarray(np.exp(-np.logaddexp(0.0, -(beta @ everywhere.T))), np.float64)

    return fit
