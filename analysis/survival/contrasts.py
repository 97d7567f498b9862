"""How far apart the survival of groups is: log-rank, restricted means, hazard ratio.

Each result carries `undefined`: the reason, in one sentence, where its numbers are nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm

from analysis.survival.curves import Z95, KaplanMeierCurve, kaplan_meier, life_table
from analysis.survival.data import Floats, SurvivalData, check_positive, pool

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class LogRank:
    """Log-rank test of equal hazards: chi2 on df degrees of freedom, p in [0, 1].

    observed, expected: events of each group, and those expected were the hazards equal.
    """

    chi2: float
    df: int
    p: float
    observed: tuple[float, ...]
    expected: tuple[float, ...]
    undefined: str | None = None


@dataclass(frozen=True, kw_only=True)
class RMST:
    """Mean event-free days within the first tau_days, with standard error and 95% bounds."""

    tau_days: float
    value: float
    se: float
    low: float
    high: float
    undefined: str | None = None


@dataclass(frozen=True, kw_only=True)
class RMSTDifference:
    """Event-free days of the first group minus the second, within tau_days; p by a z-test."""

    tau_days: float
    value: float
    se: float
    low: float
    high: float
    p: float
    undefined: str | None = None


@dataclass(frozen=True, kw_only=True)
class HazardRatio:
    """Hazard of the first group over the second; 1 is no difference, p by Wald's test."""

    value: float
    low: float
    high: float
    p: float
    undefined: str | None = None


def logrank(groups: Sequence[SurvivalData]) -> LogRank:
    """Test whether 2 or more groups have the same hazard (Mantel 1966; Peto & Peto 1972).

    Ties by the hypergeometric variance, as R's survdiff and lifelines. A group of which no event
    can be expected (it leaves before the first event) takes no part in the test, as in survdiff.
    Raises ValueError for fewer than 2 groups.
    """
    if len(groups) < 2:
        raise ValueError("The log-rank test needs at least 2 groups.")
    table = life_table(pool(groups))
    day = table.events > 0
    times, deaths, at_risk = table.time_days[day], table.events[day], table.at_risk[day]
    in_group = np.array([_at_risk(g, times) for g in groups], dtype=np.float64)  # (G, m)
    observed = np.array([float(g.n_events) for g in groups])
    share = in_group / at_risk
    expected = (share * deaths).sum(axis=1)
    # A last patient alone has no variance; without the guard it would be 0 / 0.
    spread = deaths * (at_risk - deaths) / np.maximum(at_risk - 1, 1)
    covariance = np.diag((share * spread).sum(axis=1)) - (share * spread) @ share.T
    counted = np.flatnonzero(expected > 0)

    reason = None
    if times.size == 0:
        reason = "No patient in any group had the event."
    elif counted.size < 2:
        reason = "Fewer than 2 groups still had patients under observation at any event."
    else:
        free = counted[:-1]  # the deviations sum to 0: one group is known from the others
        deviation = (observed - expected)[free]
        information = covariance[np.ix_(free, free)]
        if np.linalg.matrix_rank(information) < free.size:
            reason = "At every event only one group was under observation, or everybody had it."
    statistic, df = _NAN, 0
    if reason is None:
        statistic = float(deviation @ np.linalg.solve(information, deviation))
        df = int(free.size)
    return LogRank(
        chi2=statistic,
        df=df,
        p=float(chi2_distribution.sf(statistic, df)),
        observed=tuple(observed.tolist()),
        expected=tuple(expected.tolist()),
        undefined=reason,
    )


def rmst(data: SurvivalData, tau_days: float) -> RMST:
    """Return the restricted mean survival time: the area under Kaplan-Meier up to tau.

    Variance after Greenwood (Klein & Moeschberger 2003, eq. 4.5.2), as R's survfit prints; 95%
    interval by the normal approximation. nan when follow-up ends before tau with patients still
    event-free, where the area would have to be invented. Raises ValueError for a tau <= 0.
    """
    check_positive(tau_days, "tau_days")
    followed = float(data.time_days.max())
    curve = kaplan_meier(data)
    if followed < tau_days and curve.survival[-1] > 0:
        reason = f"Follow-up ends at {followed:g} days, before {tau_days:g}."
        return RMST(tau_days=tau_days, value=_NAN, se=_NAN, low=_NAN, high=_NAN, undefined=reason)
    area = _area_from(curve, tau_days)
    table = life_table(data)
    counted = (table.events > 0) & (table.time_days <= tau_days) & (table.at_risk > table.events)
    after_death = np.interp(table.time_days[counted], *area)
    variance = float((after_death**2 * table.greenwood()[counted]).sum())
    value, se = float(area[1][0]), float(np.sqrt(variance))
    return RMST(tau_days=tau_days, value=value, se=se, low=value - Z95 * se, high=value + Z95 * se)


def rmst_difference(first: SurvivalData, second: SurvivalData, tau_days: float) -> RMSTDifference:
    """Return RMST of first minus second within tau days (Royston & Parmar 2013).

    Negative when the first group loses event-free time. nan with a reason where either is.
    """
    a, b = rmst(first, tau_days), rmst(second, tau_days)
    value, se = a.value - b.value, float(np.hypot(a.se, b.se))
    reason = a.undefined or b.undefined
    if reason is None and se == 0:
        reason = f"There is no event within {tau_days:g} days, so no standard error."
    if reason is not None:
        return RMSTDifference(
            tau_days=tau_days, value=value, se=_NAN, low=_NAN, high=_NAN, p=_NAN, undefined=reason
        )
    p = float(2 * norm.sf(abs(value / se)))
    low, high = value - Z95 * se, value + Z95 * se
    return RMSTDifference(tau_days=tau_days, value=value, se=se, low=low, high=high, p=p)


def hazard_ratio(first: SurvivalData, second: SurvivalData) -> HazardRatio:
    """Return the Cox hazard ratio of first over second with its 95% Wald interval.

    Cox 1972, ties after Efron 1977, as R's coxph and lifelines' CoxPHFitter. The one-covariate
    likelihood is solved here because a general fitter costs 100 times as much and signals a
    ratio of 0 or infinity only by a warning. nan with a reason in that case.
    """
    both = life_table(pool((first, second)))
    day = both.events > 0
    times = both.time_days[day]
    risk_1, risk_0 = _at_risk(first, times), _at_risk(second, times)
    deaths_1, deaths_0 = _deaths(first, times), _deaths(second, times)
    reason = None
    if not (deaths_1[risk_0 > 0]).any():
        reason = "the first group had no event while the second was under observation"
    elif not (deaths_0[risk_1 > 0]).any():
        reason = "the second group had no event while the first was under observation"
    if reason is not None:
        text = f"The hazard ratio has no finite value: {reason}."
        return HazardRatio(value=_NAN, low=_NAN, high=_NAN, p=_NAN, undefined=text)

    deaths = deaths_1 + deaths_0
    # Efron: of d tied deaths, the l-th sees the risk set without l / d of the tied patients.
    row = np.repeat(np.arange(times.size), deaths)
    nth = np.arange(row.size) - np.repeat(np.cumsum(deaths) - deaths, deaths)
    gone = nth / deaths[row]
    set_1 = risk_1[row] - gone * deaths_1[row]
    set_0 = risk_0[row] - gone * deaths_0[row]
    beta, se = _solve_cox(set_1, set_0, float(deaths_1.sum()))
    return HazardRatio(
        value=float(np.exp(beta)),
        low=float(np.exp(beta - Z95 * se)),
        high=float(np.exp(beta + Z95 * se)),
        p=float(2 * norm.sf(abs(beta / se))),
    )


def _solve_cox(set_1: Floats, set_0: Floats, deaths_1: float) -> tuple[float, float]:
    """Return beta and its standard error: the root of the decreasing Cox score.

    Newton's step, replaced by halving the bracket wherever it would leave it.
    """
    low, high, beta = -1.0, 1.0, 0.0

    def score(b: float) -> tuple[float, float]:
        odds = set_1 * np.exp(b)
        chance = odds / (odds + set_0)
        return deaths_1 - float(chance.sum()), float((chance * (1 - chance)).sum())

    while score(low)[0] < 0:
        low *= 2
    while score(high)[0] > 0:
        high *= 2
    for _ in range(200):
        value, information = score(beta)
        low, high = (beta, high) if value > 0 else (low, beta)
        step = beta + value / information if information > 0 else np.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - beta) < 1e-12 * max(1.0, abs(beta)):
            break
        beta = following
    return beta, float(1 / np.sqrt(score(beta)[1]))


def _at_risk(data: SurvivalData, times: Floats) -> Floats:
    left = np.searchsorted(np.sort(data.time_days), times, side="left")
    return np.asarray(data.n - left, dtype=np.float64)


def _deaths(data: SurvivalData, times: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(np.searchsorted(times, data.time_days[data.event]), minlength=times.size)


def _area_from(curve: KaplanMeierCurve, tau_days: float) -> tuple[Floats, Floats]:
    """Return knots and the area under the curve from each knot to tau; linear in between."""
    inside = curve.time_days < tau_days
    knots = np.append(curve.time_days[inside], tau_days)
    pieces = np.diff(knots) * curve.survival[inside]
    return knots, np.append(np.cumsum(pieces[::-1])[::-1], 0.0)
