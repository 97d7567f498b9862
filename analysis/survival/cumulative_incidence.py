"""Risk of one event where another can come first: the Aalen-Johansen estimator.

Aalen & Johansen, Scand J Stat 1978; 5:141. One minus Kaplan-Meier, which censors patients at the
competing event, answers for a world without it and is too high in this one (Putter, Fiocco &
Geskus, Stat Med 2007; 26:2389).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.curves import Z95
from analysis.survival.data import Floats, Ints, SurvivalData

CENSORED = 0


@dataclass(frozen=True, eq=False)
class CumulativeIncidence:
    """Probability of the event of interest having come first, over time, a right-continuous step.

    time_days (m,) from 0, distinct, increasing; incidence, low, high (m,) in [0, 1], pointwise 95%
    bounds on the log-log scale, nan at 1; variance (m,) theirs; competing (m,) the probability of
    any other event having come first; at_risk (m,) just before that time. undefined: why it stays
    at 0.
    """

    time_days: Floats
    incidence: Floats
    low: Floats
    high: Floats
    competing: Floats
    variance: Floats
    at_risk: Ints
    n: int
    n_events: int
    n_competing: int
    undefined: str | None = None

    def at(self, time_days: npt.ArrayLike) -> Floats:
        """Incidence at any times >= 0; nan beyond the last patient's follow-up."""
        times = np.asarray(time_days, np.float64)
        place = np.searchsorted(self.time_days, times, side="right") - 1
        value: Floats = self.incidence[np.maximum(place, 0)]
        return np.where((times < 0) | (times > self.time_days[-1]), np.nan, value)


def cumulative_incidence(
    time_days: npt.ArrayLike, code: npt.ArrayLike, of_interest: int = 1
) -> CumulativeIncidence:
    """Aalen-Johansen estimate of (n,) times and event codes, 0 censored, any other an event.

    Tied days are taken as they are (lifelines' AalenJohansenFitter moves them apart by chance and
    is equal where none are). Variance by the delta method (Marubini & Valsecchi 1995, eq. 10.12),
    as lifelines'. Raises ValueError for codes that are no whole numbers >= 0, or `of_interest` 0.
    """
    codes = np.asarray(code)
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or (codes < 0).any():
        raise ValueError("code must be (n,) whole numbers from 0 (censored) upwards.")
    if of_interest == CENSORED:
        raise ValueError("The event of interest cannot be 0, which marks the censored.")
    data = SurvivalData(np.asarray(time_days, np.float64), codes != CENSORED)
    time, which = np.unique(data.time_days, return_inverse=True)
    left = np.bincount(which, minlength=time.size)
    mine = np.bincount(which[codes == of_interest], minlength=time.size)
    any_event = np.bincount(which[data.event], minlength=time.size)
    at_risk = data.n - np.cumsum(left) + left
    before = np.r_[1.0, np.cumprod(1 - any_event / at_risk)[:-1]]
    incidence = np.cumsum(before * mine / at_risk)
    others = np.cumsum(before * (any_event - mine) / at_risk)
    variance = _variance(incidence, before, at_risk, mine, any_event)
    low, high = _bounds(incidence, variance)
    # The curve begins on day 0 with nobody, unless somebody already left on that day.
    start = np.zeros(int(time[0] > 0))
    n_mine = int(mine.sum())
    return CumulativeIncidence(
        time_days=np.r_[start, time],
        incidence=np.r_[start, incidence],
        low=np.r_[start, low],
        high=np.r_[start, high],
        competing=np.r_[start, others],
        variance=np.r_[start, variance],
        at_risk=np.r_[start.astype(np.int64) + data.n, at_risk],
        n=data.n,
        n_events=n_mine,
        n_competing=data.n_events - n_mine,
        undefined=None
        if n_mine
        else f"None of the {data.n} patients had event {of_interest}: the curve stays at 0.",
    )


def _variance(
    incidence: Floats, before: Floats, at_risk: Ints, mine: Ints, any_event: Ints
) -> Floats:
    """Delta-method variance at each time, from running sums: O(m), not its square."""
    left = np.where(at_risk > any_event, at_risk - any_event, 1)
    # A last patient who has the event leaves nobody whose survival could vary.
    one = np.where(at_risk > any_event, any_event / (at_risk * left), 0.0)
    two = before**2 * mine * (at_risk - mine) / at_risk.astype(np.float64) ** 3
    cross = before * mine / at_risk.astype(np.float64) ** 2
    a, b, c = np.cumsum(one), np.cumsum(one * incidence), np.cumsum(one * incidence**2)
    spread = incidence**2 * a - 2 * incidence * b + c
    joint = incidence * np.cumsum(cross) - np.cumsum(cross * incidence)
    return np.asarray(np.maximum(spread + np.cumsum(two) - 2 * joint, 0.0), np.float64)


def _bounds(incidence: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Bounds on log(-log F), back-transformed (Choudhury, Stat Med 2002; 21:1129): in [0, 1]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        width = Z95 * np.sqrt(variance) / (incidence * np.log(incidence))
        low, high = incidence ** np.exp(-width), incidence ** np.exp(width)
    nobody, certain = incidence == 0, incidence >= 1
    low = np.where(nobody, 0.0, np.where(certain, np.nan, low))
    high = np.where(nobody, 0.0, np.where(certain, np.nan, high))
    return low, high
