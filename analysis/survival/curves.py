"""Kaplan-Meier curves and their numbers at risk (Kaplan & Meier, JASA 1958; 53:457)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from analysis.survival.data import Floats, Ints, SurvivalData

Z95 = float(norm.ppf(0.975))


@dataclass(frozen=True, eq=False, kw_only=True)
class LifeTable:
    """Deaths and losses on each distinct day of follow-up, in order of time.

    time_days: (m,) distinct observed times; at_risk: (m,) patients observed up to just before
    that time; events, censored: (m,) how many on that day.
    """

    time_days: Floats
    at_risk: Ints
    events: Ints
    censored: Ints

    def greenwood(self) -> Floats:
        """Return (m,) increments d / (r (r - d)) of Greenwood's variance; inf when all r die."""
        left = self.at_risk * (self.at_risk - self.events)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.events > 0, self.events / left, 0.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class KaplanMeierCurve:
    """Probability of being event-free over time, a right-continuous step function.

    time_days: (m,) from 0, distinct, increasing; survival, low, high: (m,) in [0, 1], the value
    from that time on, with pointwise 95% bounds by the log-log transform (nan where none exist:
    at survival 0). at_risk: (m,) just before that time; events, censored: (m,) at that time.
    censor_times: (n censored,) one entry a patient, for tick marks. median_days: first time at
    which half or fewer are event-free, nan if that is not reached within the curve.
    undefined: why there is no estimate beyond the constant 1, None otherwise.
    """

    time_days: Floats
    survival: Floats
    low: Floats
    high: Floats
    at_risk: Ints
    events: Ints
    censored: Ints
    censor_times: Floats
    median_days: float
    n: int
    n_events: int
    horizon_days: float | None = None
    undefined: str | None = None

    def at(self, time_days: npt.ArrayLike) -> Floats:
        """Return survival at any times >= 0; nan beyond the end of the curve unless it is at 0."""
        times = np.asarray(time_days, dtype=np.float64)
        position = np.searchsorted(self.time_days, times, side="right") - 1
        value: Floats = self.survival[np.maximum(position, 0)]
        unknown = (times < 0) | ((times > self.time_days[-1]) & (self.survival[-1] > 0))
        return np.where(unknown, np.nan, value)


@dataclass(frozen=True, eq=False, kw_only=True)
class AtRiskTable:
    """Counts under a survival figure; the three add up to n at every tick.

    ticks_days: (T,); at_risk: (T,) observed up to just before the tick; events, censored: (T,)
    so far, that is before the tick. Someone who leaves on the tick's own day is still at risk.
    """

    ticks_days: Floats
    at_risk: Ints
    events: Ints
    censored: Ints


def life_table(data: SurvivalData) -> LifeTable:
    """Return the `LifeTable` of the patients."""
    time, which = np.unique(data.time_days, return_inverse=True)
    left = np.bincount(which, minlength=len(time))
    events = np.bincount(which[data.event], minlength=len(time))
    at_risk = data.n - np.cumsum(left) + left
    return LifeTable(time_days=time, at_risk=at_risk, events=events, censored=left - events)


def kaplan_meier(data: SurvivalData, horizon_days: float | None = None) -> KaplanMeierCurve:
    """Return the Kaplan-Meier curve with 95% log-log intervals (Greenwood's variance).

    horizon_days: where the curve ends. It hides what happened later and changes nothing before
    it. Equal to lifelines' KaplanMeierFitter and R's survfit(conf.type="log-log"). Raises
    ValueError for a horizon <= 0.
    """
    shown = data if horizon_days is None else data.censored_at(horizon_days)
    table = life_table(shown)
    survival = np.cumprod(1 - table.events / table.at_risk, dtype=np.float64)
    low, high = _log_log_bounds(survival, np.cumsum(table.greenwood()))
    censored = table.censored.copy()
    censor_times = np.sort(shown.time_days[~shown.event])
    if horizon_days is not None:
        # Closing the curve at the horizon is not a loss to follow-up: no tick mark for it.
        really = ~data.event & (data.time_days <= horizon_days)
        censor_times = np.sort(data.time_days[really])
        if table.time_days[-1] == horizon_days:
            censored[-1] = int((censor_times == horizon_days).sum())
    # Half may be missed by one rounding error of the product: 0.5000000000000001.
    halved = np.flatnonzero(survival <= 0.5 + 1e-12)
    # A curve begins on day 0 with everybody, unless somebody already left on that day.
    start = np.zeros(int(table.time_days[0] > 0), dtype=np.int64)
    return KaplanMeierCurve(
        time_days=np.r_[start, table.time_days],
        survival=np.r_[start + 1, survival],
        low=np.r_[start + 1, low],
        high=np.r_[start + 1, high],
        at_risk=np.r_[start + data.n, table.at_risk],
        events=np.r_[start, table.events],
        censored=np.r_[start, censored],
        censor_times=censor_times,
        median_days=float(table.time_days[halved[0]]) if halved.size else float("nan"),
        n=data.n,
        n_events=shown.n_events,
        horizon_days=horizon_days,
        undefined=_why_flat(shown, horizon_days),
    )


def number_at_risk(data: SurvivalData, ticks_days: npt.ArrayLike) -> AtRiskTable:
    """Return how many are still observed just before each tick, and what became of the others.

    ticks_days: (T,) >= 0, any order. Raises ValueError for missing or negative ticks.
    """
    ticks = np.atleast_1d(np.asarray(ticks_days, dtype=np.float64))
    if not (np.isfinite(ticks) & (ticks >= 0)).all():
        raise ValueError("ticks_days must be numbers of days from 0 upwards.")
    events = np.searchsorted(np.sort(data.time_days[data.event]), ticks, side="left")
    censored = np.searchsorted(np.sort(data.time_days[~data.event]), ticks, side="left")
    return AtRiskTable(
        ticks_days=ticks, at_risk=data.n - events - censored, events=events, censored=censored
    )


def _log_log_bounds(survival: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Bounds on log(-log S), back-transformed (Kalbfleisch & Prentice 1980): stay in [0, 1]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        width = Z95 * np.sqrt(variance) / np.log(survival)
        low, high = survival ** np.exp(-width), survival ** np.exp(width)
    certain, gone = survival == 1, survival == 0
    low = np.where(certain, 1.0, np.where(gone, np.nan, low))
    high = np.where(certain, 1.0, np.where(gone, np.nan, high))
    return low, high


def _why_flat(shown: SurvivalData, horizon_days: float | None) -> str | None:
    if shown.n_events > 0:
        return None
    within = "" if horizon_days is None else f" within {horizon_days:g} days"
    return f"None of the {shown.n} patients had the event{within}: the curve stays at 1."
