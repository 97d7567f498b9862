"""Estimates with the intervals that one set of resamples gives them.

A resample says how often each patient occurs (`concordance.resample_weights`); every measure of
an evaluation is taken on the same resamples, so that any two of them can be subtracted within
them (paired bootstrap, percentile intervals: Efron & Tibshirani 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.survival.comparison import LEVEL, ConfidenceInterval, two_sided_p
from analysis.survival.data import Floats

# Bounds from a minority of the resamples would describe luckier patients than these.
LEAST_KNOWN = 0.5
_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class PointwiseBand:
    """A curve `value` over `at`, with 95% bounds at each place by itself; all (T,), nan where none.

    A place has bounds where at least half of the resamples have a value there.
    """

    at: Floats
    value: Floats
    low: Floats
    high: Floats


def pointwise(at: Floats, value: Floats, sample: Floats) -> PointwiseBand:
    """The curve value (T,) with percentile bounds of its resamples (B, T)."""
    low, high = np.full(value.shape, _NAN), np.full(value.shape, _NAN)
    known = ~np.isnan(sample)
    some = ~np.isnan(value) & (known.mean(axis=0) >= LEAST_KNOWN)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    whole = some & known.all(axis=0)
    if whole.any():
        low[whole], high[whole] = np.quantile(sample[:, whole], tails, axis=0)
    for place in np.flatnonzero(some & ~whole):
        low[place], high[place] = np.quantile(sample[known[:, place], place], tails)
    return PointwiseBand(at, value, low, high)


def interval(value: float, sample: Floats) -> ConfidenceInterval:
    """One value with percentile bounds of its resamples (B,); nan as in `PointwiseBand`."""
    found = pointwise(np.zeros(1), np.array([value], np.float64), sample[:, None])
    return ConfidenceInterval(float(value), float(found.low[0]), float(found.high[0]))


def difference_p(sample: Floats) -> float:
    """Two-sided bootstrap p of resampled differences (B,), those without a value left out."""
    known = sample[~np.isnan(sample)]
    if known.size < LEAST_KNOWN * sample.size:
        return _NAN
    return two_sided_p(known)
