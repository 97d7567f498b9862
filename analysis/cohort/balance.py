"""How far two groups of patients differ in one variable: the standardised mean difference.

Continuous and binary: Austin, Stat Med 2009; 28:3083, difference of the means over the root of the
mean of both variances. More than two categories: Yang & Dalton, SAS Global Forum 2012, paper 335,
the Mahalanobis distance of the vectors of shares. 0 is no difference; 0.1 is often called small.
It does not grow with the number of patients, as a p-value does.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def smd_numbers(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Of a continuous variable, >= 0. Missing values (nan) are left out.

    None where it is not defined: fewer than two values in a group, or no spread and other means.
    """
    a, b = _given(first), _given(second)
    if len(a) < 2 or len(b) < 2:
        return None
    return _ratio(float(a.mean() - b.mean()), float(a.var(ddof=1) + b.var(ddof=1)) / 2)


def smd_shares(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Of a variable with K >= 2 categories, from (K,) counts of both groups, >= 0.

    None where it is not defined: an empty group, or categories that only one group has and no
    spread to measure them by.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"counts of the same categories are needed, not {a.shape} and {b.shape}.")
    kept = (a + b) > 0
    a, b = a[kept], b[kept]
    if not a.sum() or not b.sum():
        return None
    if len(a) < 2:
        return 0.0
    p, q = a / a.sum(), b / b.sum()
    if len(p) == 2:
        return _ratio(float(p[1] - q[1]), float(p[1] * p[0] + q[1] * q[0]) / 2)
    gap = (p - q)[1:]
    spread = (_covariance(p) + _covariance(q))[1:, 1:] / 2
    if not gap.any():
        return 0.0
    if np.linalg.matrix_rank(spread) < len(gap):
        return None
    return math.sqrt(float(gap @ np.linalg.solve(spread, gap)))


def _given(values: npt.ArrayLike) -> Floats:
    numbers = np.asarray(values, np.float64)
    return numbers[~np.isnan(numbers)]


def _covariance(shares: Floats) -> Floats:
    """Of one draw of a multinomial."""
    return np.diag(shares) - np.outer(shares, shares)


def _ratio(gap: float, variance: float) -> float | None:
    if variance > 0:
        return abs(gap) / math.sqrt(variance)
    return 0.0 if gap == 0 else None
