"""Means over patients with 95% intervals, as plain JSON.

Patients are resampled (percentile bootstrap, Efron & Tibshirani 1993, ch. 13). A proportion gets
Wilson's interval instead: where every patient is a hit the bootstrap says "100 to 100".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Estimate = dict[str, Any]
"""value, low, high (None where undefined) and n, the patients behind it."""

N_RESAMPLES = 2000
_Z = 1.959963984540054


def mean_interval(values: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Mean over patients, bootstrap interval; nan values are left out and not counted."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return _interval(known.mean() if known.size else np.nan, known, np.ones_like(known), seed)


def ratio_interval(above: npt.ArrayLike, below: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Sum of `above` over sum of `below` (both one a patient), patients resampled in pairs."""
    top, bottom = np.asarray(above, np.float64), np.asarray(below, np.float64)
    keep = np.isfinite(top) & np.isfinite(bottom)
    top, bottom = top[keep], bottom[keep]
    total = bottom.sum() if bottom.size else 0.0
    return _interval(top.sum() / total if total > 0 else np.nan, top, bottom, seed)


def median_interval(values: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Median over patients, bootstrap interval; nan values are left out and not counted."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return _as_json(np.nan, np.nan, np.nan, 0)
    draws = np.median(known[_resamples(known.size, seed)], axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return _as_json(float(np.median(known)), low, high, known.size)


def proportion_interval(hits: npt.ArrayLike) -> Estimate:
    """Mean of hits in [0, 1] with Wilson's score interval (Wilson 1927)."""
    known = np.asarray(hits, np.float64)
    n = known.size
    if n == 0:
        return _as_json(np.nan, np.nan, np.nan, 0)
    p = float(known.mean())
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return _as_json(p, max(0.0, centre - half), min(1.0, centre + half), n)


def _resamples(n: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, (N_RESAMPLES, n))


def _interval(value: float, top: Floats, bottom: Floats, seed: int) -> Estimate:
    if not np.isfinite(value):
        return _as_json(np.nan, np.nan, np.nan, int(top.size))
    rows = _resamples(top.size, seed)
    below = bottom[rows].sum(axis=1)
    draws = top[rows].sum(axis=1)[below > 0] / below[below > 0]
    low, high = np.quantile(draws, [0.025, 0.975])
    return _as_json(value, low, high, top.size)


def _as_json(value: float, low: float, high: float, n: int) -> Estimate:
    def plain(x: float) -> float | None:
        return float(x) if np.isfinite(x) else None

    return {"value": plain(value), "low": plain(low), "high": plain(high), "n": int(n)}
