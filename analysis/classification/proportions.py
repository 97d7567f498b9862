"""Shares of patients with their intervals, and two shares of the same patients compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from analysis.survival.comparison import LEVEL, ConfidenceInterval

_NAN = float("nan")
_Z = float(norm.ppf((1 + LEVEL) / 2))


def wilson(hits: int, n: int) -> ConfidenceInterval:
    """The share hits / n with Wilson's 95% score interval (JASA 1927; 22:209); nan where n is 0.

    Without continuity correction; it stays in [0, 1] and has a width at 0 and at n, too.
    """
    if n == 0:
        return ConfidenceInterval(_NAN, _NAN, _NAN)
    share = hits / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return ConfidenceInterval(share, max(0.0, float(centre - reach)), min(1.0, centre + reach))


@dataclass(frozen=True)
class McNemar:
    """Two runs' decisions on the same patients.

    first_only, second_only: patients whom just one run gets right. difference: accuracy of the
    first minus the second with a 95% interval. p: two-sided exact binomial test that a
    disagreement goes either way with the same chance (McNemar, Psychometrika 1947; 12:153).
    """

    first_only: int
    second_only: int
    difference: ConfidenceInterval
    p: float


def mcnemar(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> McNemar:
    """Compare (n,) bool decisions, true where right.

    The interval adds one to each kind of disagreement and two to the patients (Bonett & Price,
    J Educ Behav Stat 2012; 37:479). Raises ValueError for different lengths or no patients.
    """
    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(
            "Two runs are compared on the same patients, at least one; the decisions have shapes "
            f"{first.shape} and {second.shape}."
        )
    n, b, c = first.size, int((first & ~second).sum()), int((~first & second).sum())
    p1, p2 = (b + 1) / (n + 2), (c + 1) / (n + 2)
    reach = _Z * np.sqrt((p1 + p2 - (p1 - p2) ** 2) / (n + 2))
    p = float(binomtest(b, b + c).pvalue) if b + c else 1.0
    low, high = max(-1.0, float(p1 - p2 - reach)), min(1.0, float(p1 - p2 + reach))
    return McNemar(b, c, ConfidenceInterval((b - c) / n, low, high), p)
