"""Do predicted risks by a day mean what they say, when some patients were censored before it?

In the large: observed risk (Kaplan-Meier) over the mean prediction. Weak: intercept and slope of
the observed on the predicted complementary log-log risk, events and survivors weighted by the
inverse probability of not being censored (McLernon et al., Ann Intern Med 2023; 176:105, by
weighting instead of pseudo-observations). Moderate: observed risk as a smooth function of the
predicted one by a Cox regression on a restricted cubic spline of its complementary log-log, and
the mean, median and 90th percentile of the distance between the two, ICI, E50 and E90 (Austin,
Harrell & van Klaveren, Stat Med 2020; 39:2714). Follow-up is closed at the horizon before that
regression, so that hazards need be proportional only until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival import _weighted
from analysis.survival.brier import uncensored
from analysis.survival.comparison import ConfidenceInterval
from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Floats, SurvivalData
from analysis.survival.decision_curve import checked_probability
from analysis.survival.observed import ByHorizon, Observed, once
from analysis.survival.resampled import PointwiseBand, interval, pointwise

N_GROUPS = 10
N_PLACES = 60
KNOTS = (0.1, 0.5, 0.9)
# A curve of two free terms through fewer events follows single patients.
LEAST_EVENTS = 10
# Probabilities of 0 and 1 have no logit; nothing is surer than this.
SUREST = 1e-9
_BLOCK_CELLS = 2_000_000
_NAN = float("nan")
UNKNOWN = ConfidenceInterval(_NAN, _NAN, _NAN)

Fit = Callable[[Multiplicities], Floats]
"""From copies (B, n) to estimates, one row a copy; nan where a copy has none."""


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of like predictions: their number, mean prediction and observed risk."""

    n: int
    predicted: float
    observed: ConfidenceInterval


@dataclass(frozen=True, eq=False)
class SmoothCalibration:
    """Observed risk along the predicted one (`curve.at`), and how far apart they are.

    ici, e50, e90: mean, median and 90th percentile over patients of |observed - predicted|, 0 is
    best. undefined: why there is no curve; curve is None then.
    """

    curve: PointwiseBand | None
    ici: ConfidenceInterval
    e50: ConfidenceInterval
    e90: ConfidenceInterval
    undefined: str | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """Agreement of predicted and observed risk.

    predicted: mean prediction. observed: risk of all. observed_to_expected: their ratio, 1 is
    right, above 1 where risk is predicted too low. intercept: 0 is right; slope: 1 is right,
    below 1 where predictions are too extreme. groups: by quantiles of the prediction, equal
    predictions together. undefined: why nothing could be had; line_undefined: why intercept or
    slope could not.
    """

    predicted: float
    observed: ConfidenceInterval
    observed_to_expected: ConfidenceInterval
    intercept: ConfidenceInterval
    slope: ConfidenceInterval
    groups: tuple[CalibrationGroup, ...]
    smooth: SmoothCalibration
    undefined: str | None = None
    line_undefined: str | None = None


def horizon_calibration(
    train: SurvivalData,
    observed: ByHorizon,
    probability: npt.ArrayLike,
    weights: Multiplicities,
) -> Calibration:
    """Calibration of predicted risks (n,) by the horizon, intervals over the copies (B, n).

    train gives the censoring distribution of the intercept and slope. Raises ValueError for a
    probability that does not fit.
    """
    chances = checked_probability(observed.n, probability)
    data, horizon = observed.data, observed.horizon_days
    inside = chances.clip(SUREST, 1 - SUREST)
    scale = np.log(-np.log1p(-inside))
    line: Fit | str
    if horizon > min(train.time_days.max(), data.time_days.max()):
        line = f"Follow-up ends before the horizon of {horizon:g} days."
    else:
        outcome, prior = known_by(train, data, horizon)
        line = regression_line(outcome, prior, scale, cloglog=True)
    places = places_of(chances)
    at = np.log(-np.log1p(-places.clip(SUREST, 1 - SUREST)))
    shape = spline_of(scale, at)
    smooth: Fit | str = _too_few(observed.n_events, "events")
    if not smooth:
        smooth = shape if isinstance(shape, str) else _hazard_curve(observed, *shape)
    return calibration(observed, chances, weights, line, smooth, places)


def calibration(
    observed: Observed,
    chances: Floats,
    weights: Multiplicities,
    line: Fit | str,
    smooth: Fit | str,
    places: Floats,
) -> Calibration:
    """Put a calibration together, for follow-up and labels alike.

    line gives (B, 2) intercept and slope; smooth gives (B, n + G) observed risk at every
    patient's prediction and at the G places of the curve; a sentence instead says why neither.
    """
    reason = observed.why_undefined()
    if reason is not None:
        line = smooth = reason
    numbers = [UNKNOWN, UNKNOWN]
    if not isinstance(line, str):
        value = line(once(observed.n))[0]
        sample = line(weights)
        numbers = [interval(float(v), sample[:, k]) for k, v in enumerate(value)]
        missing = bool(np.isnan(value).any())
        line = "The recalibration has no maximum likelihood." if missing else ""
    everyone = np.ones((1, observed.n), bool)
    risk = float(observed.risk(everyone, once(observed.n))[0, 0])
    each = weights.sum(axis=1)
    expected, expected_sample = float(chances.mean()), weights @ chances / each
    risk_sample = observed.risk(everyone, weights)[:, 0]
    return Calibration(
        predicted=expected,
        observed=interval(risk, risk_sample),
        observed_to_expected=interval(
            risk / expected if expected > 0 else _NAN,
            risk_sample / np.where(expected_sample > 0, expected_sample, np.nan),
        ),
        intercept=numbers[0],
        slope=numbers[1],
        groups=_groups(observed, chances, weights),
        smooth=_smooth(chances, places, weights, smooth),
        undefined=reason,
        line_undefined=line or None,
    )


def known_by(train: SurvivalData, data: SurvivalData, horizon_days: float) -> tuple[Floats, Floats]:
    """Event by the horizon (n,) 0 or 1, and weight (n,): 0 where censored before it.

    The weight is the inverse probability, in train, of not being censored before the event or the
    horizon. Who is censored on the horizon day is known to be event-free by then, as in
    Kaplan-Meier: follow-up that everybody ends on that day costs nobody.
    """
    until = np.minimum(data.time_days, horizon_days)
    chance = uncensored(train, np.nextafter(until, -np.inf))
    event = data.event & (data.time_days <= horizon_days)
    known = (event | (data.time_days >= horizon_days)) & (chance > 0)
    weight = np.where(known, 1 / np.where(known, chance, 1.0), 0.0)
    return event.astype(np.float64), weight


def regression_line(outcome: Floats, prior: Floats, scale: Floats, *, cloglog: bool) -> Fit:
    """Intercept with the slope held at 1, and slope, of outcome (n,) on scale (n,), as a `Fit`.

    Each by maximum likelihood, patients weighted by prior (n,). Copies start from the cohort's.
    """
    nothing, ones = np.zeros_like(scale), np.ones((scale.size, 1))
    both = np.column_stack([ones, scale])

    def fit(weights: Multiplicities) -> Floats:
        intercept = fit_glm(weights, prior, outcome, ones, scale, cloglog)[:, 0]
        slope = fit_glm(weights, prior, outcome, both, nothing, cloglog)[:, 1]
        return np.column_stack([intercept, slope])

    return fit


def fit_glm(
    weights: Multiplicities,
    prior: Floats,
    outcome: Floats,
    design: Floats,
    offset: Floats,
    cloglog: bool,
) -> Floats:
    """Coefficients (B, k) of a binomial regression in B copies; nan where there is no maximum."""
    k = design.shape[1]
    start = np.full((1, k), _NAN)
    fixed = (prior, outcome, np.ascontiguousarray(design), offset, cloglog)
    _weighted.glm(once(outcome.size), *fixed, np.zeros(k), start)
    out = np.full((len(weights), k), _NAN)
    if np.isnan(start).any():
        return out
    counts = np.ascontiguousarray(weights, np.int32)

    def run(part: slice) -> None:
        _weighted.glm(counts[part], *fixed, start[0], out[part])

    _weighted.in_parts(len(counts), 4 * counts.size, run)
    return out


def fit_cox(weights: Multiplicities, data: SurvivalData, design: Floats) -> Floats:
    """Cox coefficients, ties after Breslow, and baseline hazard at the end: (B, k + 1)."""
    k = design.shape[1]
    order = np.argsort(-data.time_days, kind="stable")
    ranked = np.ascontiguousarray(design[order])
    fixed = (order, data.time_days[order], data.event[order], ranked)
    start = np.full((1, k + 1), _NAN)
    _weighted.cox(once(data.n), *fixed, np.zeros(k), start)
    out = np.full((len(weights), k + 1), _NAN)
    if np.isnan(start).any():
        return out
    counts = np.ascontiguousarray(weights, np.int32)

    def run(part: slice) -> None:
        _weighted.cox(counts[part], *fixed, start[0, :k], out[part])

    _weighted.in_parts(len(counts), 4 * counts.size, run)
    return out


def spline(values: Floats, knots: Floats) -> Floats:
    """Restricted cubic spline (n, len(knots) - 1): the value and its non-linear terms.

    Linear beyond the outer knots (Harrell, Regression Modeling Strategies 2015, eq. 2.25), the
    non-linear terms over the squared span of the knots.
    """
    last, before = knots[-1], knots[-2]

    def cubed(x: Floats) -> Floats:
        return np.asarray(np.maximum(x, 0.0) ** 3, np.float64)

    terms = [values]
    for knot in knots[:-2]:
        bent = (
            cubed(values - knot)
            - cubed(values - before) * (last - knot) / (last - before)
            + cubed(values - last) * (before - knot) / (last - before)
        )
        terms.append(bent / (last - knots[0]) ** 2)
    return np.column_stack(terms)


def _hazard_curve(observed: ByHorizon, design: Floats, at: Floats) -> Fit:
    closed = observed.data.censored_at(observed.horizon_days)
    everywhere = np.concatenate([design, at])

    def fit(weights: Multiplicities) -> Floats:
        found = fit_cox(weights, closed, design)
        hazard = found[:, -1:] * np.exp((found[:, :-1] @ everywhere.T).clip(-50, 50))
        return np.asarray(-np.expm1(-hazard), np.float64)

    return fit


def places_of(chances: Floats) -> Floats:
    """Where the curve is drawn: from the 1st to the 99th percentile of the predictions."""
    first, last = np.quantile(chances, [0.01, 0.99]).tolist()
    return np.linspace(first, last, N_PLACES)


def spline_of(scale: Floats, at: Floats) -> tuple[Floats, Floats] | str:
    """Standardised columns for patients (n, k) and places (G, k); linear where knots coincide."""
    if np.ptp(scale) < 1e-12:
        return "All predictions are equal."
    knots = np.quantile(scale, KNOTS)
    apart = bool((np.diff(knots) > 1e-9 * max(1.0, float(np.ptp(scale)))).all())
    columns, drawn = (spline(x, knots) if apart else x[:, None] for x in (scale, at))
    centre, spread = columns.mean(axis=0), columns.std(axis=0)
    return (columns - centre) / spread, (drawn - centre) / spread


def _too_few(events: int, what: str) -> str:
    if events >= LEAST_EVENTS:
        return ""
    return f"{events} {what} are too few for a curve; it needs {LEAST_EVENTS}."


def _groups(
    observed: Observed, chances: Floats, weights: Multiplicities
) -> tuple[CalibrationGroup, ...]:
    edges = np.unique(np.quantile(chances, np.linspace(0, 1, N_GROUPS + 1)[1:-1]))
    number = np.searchsorted(edges, chances, side="left")
    members = number[None] == np.unique(number)[:, None]
    value = observed.risk(members, once(observed.n))[0]
    sample = observed.risk(members, weights)
    return tuple(
        CalibrationGroup(
            int(rows.sum()), float(chances[rows].mean()), interval(float(v), sample[:, k])
        )
        for k, (rows, v) in enumerate(zip(members, value, strict=True))
    )


def _smooth(
    chances: Floats, places: Floats, weights: Multiplicities, fit: Fit | str
) -> SmoothCalibration:
    if isinstance(fit, str):
        return SmoothCalibration(None, UNKNOWN, UNKNOWN, UNKNOWN, fit)
    whole = fit(once(chances.size))
    if np.isnan(whole).any():
        reason = "The curve has no maximum likelihood."
        return SmoothCalibration(None, UNKNOWN, UNKNOWN, UNKNOWN, reason)
    n = chances.size
    value = _distances(whole[:, :n], chances, once(n))[0]
    sample, curves = [], []
    for block in _blocks(weights):
        found = fit(block)
        sample.append(_distances(found[:, :n], chances, block))
        curves.append(found[:, n:])
    spread = np.concatenate(sample)
    ici, e50, e90 = (interval(float(v), spread[:, k]) for k, v in enumerate(value))
    return SmoothCalibration(pointwise(places, whole[0, n:], np.concatenate(curves)), ici, e50, e90)


def _blocks(weights: Multiplicities) -> Iterator[Multiplicities]:
    rows = max(1, _BLOCK_CELLS // weights.shape[1])
    for first in range(0, len(weights), rows):
        yield weights[first : first + rows]


def _distances(smooth: Floats, chances: Floats, weights: Multiplicities) -> Floats:
    """(B, 3): mean, median and 90th percentile of |smooth - chances| in copies of the patients."""
    gap = np.abs(smooth - chances)
    each = weights.sum(axis=1)
    mean = (gap * weights).sum(axis=1) / each
    order = np.argsort(gap, axis=1)
    ranked = np.take_along_axis(gap, order, axis=1)
    passed = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    rows = np.arange(len(gap))
    out = [mean]
    for share in (0.5, 0.9):
        place = (each - 1) * share
        below = np.floor(place).astype(np.int64)
        low = ranked[rows, (passed <= below[:, None]).sum(axis=1)]
        high = ranked[rows, (passed <= np.minimum(below + 1, each - 1)[:, None]).sum(axis=1)]
        out.append(low + (place - below) * (high - low))
    return np.column_stack(out)
