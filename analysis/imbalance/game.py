"""Exact Shapley values as a linear map of what every coalition is worth.

A game of m players is its values v (2^m,): v[s] is what the players whose bits are set in s are
worth together. Shapley values (Shapley 1953), and interaction indices of pairs (Grabisch &
Roubens 1999), are sums of v with weights that depend on m alone. One matrix product gives them
for all patients or all resamples at once.
"""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def shapley_weights(m: int) -> Floats:
    """(m, 2^m) W, so that W @ v are the Shapley values of m players.

    phi_i = sum over S without i of |S|! (m - |S| - 1)! / m! (v(S + i) - v(S)). Rows sum to 0, and
    the sum of all players' values is v(everybody) - v(nobody).
    """
    weights = np.zeros((m, 1 << m))
    for i in range(m):
        for s in _without(m, i):
            weight = _weight(s, m, 1)
            weights[i, s | 1 << i] += weight
            weights[i, s] -= weight
    return weights


def shapley(values: npt.ArrayLike) -> Floats:
    """(m, ...) Shapley values of games (2^m, ...), exactly 0 for who never changes anything."""
    v = np.asarray(values, np.float64)
    m = len(v).bit_length() - 1
    phi = np.zeros((m, *v.shape[1:]))
    for i in range(m):
        for s in _without(m, i):
            phi[i] += _weight(s, m, 1) * (v[s | 1 << i] - v[s])
    return phi


def interaction_weights(m: int) -> dict[tuple[int, int], Floats]:
    """{(i, j): (2^m,) w}, i < j, so that w @ v is the pair's Shapley interaction index.

    Sum over S without i, j of |S|! (m - |S| - 2)! / (m - 1)!
    (v(S + i + j) - v(S + i) - v(S + j) + v(S)): above 0 where the two together are worth more
    than each adds alone, below where they tell the same.
    """
    found = {}
    for i, j in combinations(range(m), 2):
        weights = np.zeros(1 << m)
        for s in _without(m, i, j):
            weight = _weight(s, m, 2)
            weights[s | 1 << i | 1 << j] += weight
            weights[s] += weight
            weights[s | 1 << i] -= weight
            weights[s | 1 << j] -= weight
        found[i, j] = weights
    return found


def last_weights(m: int) -> Floats:
    """(m, 2^m) W, so that W @ v is what each player adds to all the others."""
    weights = np.zeros((m, 1 << m))
    everybody = (1 << m) - 1
    for i in range(m):
        weights[i, everybody] = 1.0
        weights[i, everybody & ~(1 << i)] = -1.0
    return weights


def balance(shares: npt.ArrayLike) -> Floats:
    """Normalised entropy of (m, ...) shares over the first axis, in [0, 1].

    1: all players carry alike; 0: one carries everything. Negative shares count as none; nan
    where no share is above 0.
    """
    carried = np.maximum(np.asarray(shares, np.float64), 0.0)
    total = carried.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = carried / total
        entropy = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=0) / np.log(len(carried))
    return np.asarray(np.where(total > 0, np.clip(entropy, 0.0, 1.0), np.nan), np.float64)


def _without(m: int, *members: int) -> list[int]:
    hidden = sum(1 << i for i in members)
    return [s for s in range(1 << m) if not s & hidden]


def _weight(s: int, m: int, joining: int) -> float:
    """The Shapley weight of a coalition that `joining` players join."""
    size = s.bit_count()
    return factorial(size) * factorial(m - size - joining) / factorial(m - joining + 1)
