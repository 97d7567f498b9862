"""Shapley values of a value function over parts: exact, sampled until two halves agree, or shap's.

A value function takes coalitions (n, P) bool and gives (n, T) float64; all T outputs are
explained by the same evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import factorial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from analysis.attribution.case import AttributionError

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

EXACT_PARTS = 10
# Coalitions of one step of the exact values, after which a long computation can be left.
AT_ONCE = 128
# Fewer parts than this are one pair of orders; the head of an order is an eighth of its places.
MIN_PARTS = 3
HEAD_SHARE = 8
MOST_HEADS = 16
# Shares below a millionth of the numbers explained are rounding of float32: they have no order.
RESOLUTION = 1e-6


class ValueFunction(Protocol):
    """What the estimators ask. `evaluations` counts coalitions that cost a model evaluation."""

    evaluations: int

    @property
    def n_parts(self) -> int:
        """P."""
        ...

    def __call__(self, masks: npt.ArrayLike) -> Floats:
        """(n, P) bool -> (n, T)."""
        ...


@dataclass(frozen=True, eq=False)
class Estimate:
    """Shares (P, T) that add up to everything (T,) - nothing (T,).

    agreement: smallest rank correlation over the outputs of two halves of the sample, None where
    nothing was sampled or no second half could be afforded; spread: (P,) largest absolute
    difference of the halves over the outputs, None likewise.
    """

    values: Floats
    everything: Floats
    nothing: Floats
    agreement: float | None
    spread: Floats | None
    evaluations: int


def rank_agreement(a: Floats, b: Floats, scale: float = 1.0) -> float:
    """Smallest Spearman correlation over outputs of two estimates (P, T), in [-1, 1].

    Shares that differ by less than a millionth of `scale` are ties. Two estimates without any
    order agree fully (1), one without and one with do not (0).
    """
    lowest = 1.0
    for x, y in zip(a.T, b.T, strict=True):
        x, y = (np.round(v / (RESOLUTION * scale)) for v in (x, y))
        x, y = rankdata(x), rankdata(y)
        x, y = x - x.mean(), y - y.mean()
        norm = float(np.sqrt((x @ x) * (y @ y)))
        if norm == 0:
            same = not x.any() and not y.any()
            lowest = min(lowest, 1.0 if same else 0.0)
        else:
            lowest = min(lowest, float(x @ y) / norm)
    return float(np.clip(lowest, -1.0, 1.0))


# ---------------------------------------------------------------- exact


def exact(v: ValueFunction, progress: Progress | None = None) -> Estimate:
    """All 2^P coalitions (Shapley 1953). Raises AttributionError beyond 16 parts."""
    p = v.n_parts
    if p > 16:
        raise AttributionError(
            f"exact Shapley values of {p} parts need 2^{p} evaluations; use method 'permutation'."
        )
    before = v.evaluations
    number = np.arange(2**p)
    masks = (number[:, None] >> np.arange(p) & 1).astype(bool)
    sizes = masks.sum(axis=1)
    # Coalitions of like size together: they make batches without padding.
    order = np.argsort(sizes, kind="stable")
    found = []
    for start in range(0, len(order), AT_ONCE):
        found.append(v(masks[order[start : start + AT_ONCE]]))
        if progress is not None:
            progress(min(start + AT_ONCE, len(order)), len(order))
    f = np.concatenate(found)[np.argsort(order)]
    weights = np.array([factorial(s) * factorial(p - s - 1) / factorial(p) for s in range(p)])
    values = np.empty((p, f.shape[1]))
    for part in range(p):
        without = number[~masks[:, part]]
        gain = f[without | (1 << part)] - f[without]
        values[part] = weights[sizes[without]] @ gain
    return Estimate(values, f[-1], f[0], None, None, v.evaluations - before)


# ---------------------------------------------------------------- permutation sampling


def pair_masks(order: npt.NDArray[np.int64]) -> Masks:
    """(2P, P) coalitions of one antithetic pair: parts join in the order, then in its reverse.

    Rows 0..P hold the first 0..P of the order, rows P + 1..2P - 1 the last 1..P - 1.
    """
    p = len(order)
    rank = np.empty(p, np.int64)
    rank[order] = np.arange(p)
    forward = rank[None] < np.arange(p + 1)[:, None]
    backward = rank[None] >= (p - np.arange(1, p))[:, None]
    return np.concatenate([forward, backward])


def pair_shares(order: npt.NDArray[np.int64], f: Floats) -> tuple[Floats, Floats]:
    """Marginal contributions (P, T) of the forward and of the reverse order of `pair_masks`."""
    p = len(order)
    ahead, behind = np.empty((p, f.shape[1])), np.empty((p, f.shape[1]))
    ahead[order] = np.diff(f[: p + 1], axis=0)
    path = np.concatenate([f[:1], f[p + 1 :], f[p : p + 1]])
    behind[order[::-1]] = np.diff(path, axis=0)
    return ahead, behind


def second_masks(order: npt.NDArray[np.int64]) -> Masks:
    """(2, P): alone, the part that joins second in the order, and in its reverse."""
    masks = np.zeros((2, len(order)), bool)
    masks[[0, 1], order[[1, -2]]] = True
    return masks


class _Half:
    """Marginal contributions of the orders of one half of the sample.

    Kept apart for the first `head` places of an order and the others, since the first may be
    sampled more often. sums: {is head: (P, T)}. firsts: (P,) how often a part joined first.
    steps: (T,) sum over orders of v(a) + v(b) - v(ab) - v(none) for the first two parts: how much
    more a part brings when none is there yet than beside another one; 0 for an additive game.
    kept: whole orders with what their parts brought in turn, of which `roughness` is taken.
    """

    def __init__(self, p: int, t: int, head: int) -> None:
        self.head = head
        self.orders = {True: 0, False: 0}
        self.sums = {True: np.zeros((p, t)), False: np.zeros((p, t))}
        self.firsts = np.zeros(p)
        self.steps = np.zeros(t)
        self.kept: list[tuple[npt.NDArray[np.int64], Floats]] = []

    def add(self, order: npt.NDArray[np.int64], gains: Floats, second: Floats | None) -> None:
        """An order, or only its head.

        gains: (n, T) what each of its parts brought in turn. second: (T,) what its second part
        brings alone.
        """
        whole = len(order) > self.head
        self.orders[True] += 1
        self.sums[True][order[: self.head]] += gains[: self.head]
        self.firsts[order[0]] += 1
        if second is not None:
            self.steps += second - gains[1]
        if whole:
            self.orders[False] += 1
            self.sums[False][order[self.head :]] += gains[self.head :]
            self.kept.append((order, gains))

    def shares(self, other: _Half, total: Floats) -> Floats:
        """(P, T) estimated shares, with the other half's mean step as a control variate.

        Whichever part joins first brings the whole step from absent to present, far more than
        it ever brings later: by chance a few parts would carry it all. A game that is worth c
        as soon as any part is there has the shares c / P; it is taken off the sampled
        contributions and its shares are added, which keeps the mean and removes that noise. c
        comes from the other half, so that it is independent of what it is taken off. What is
        missing from the total because heads were sampled more often is 0 on average; it is
        spread evenly.
        """
        c = other.steps / other.orders[True]
        head = (self.sums[True] - self.firsts[:, None] * c) / self.orders[True]
        shares = head + self.sums[False] / max(self.orders[False], 1)
        return np.asarray(shares + (total - shares.sum(axis=0)) / len(shares))

    def roughness(self, shares: Floats) -> tuple[float, float]:
        """Mean squared difference of contributions from the shares: head (but the first), rest."""
        squares = [(gains - shares[order])[1:] ** 2 for order, gains in self.kept]
        place = np.mean([x.sum(axis=1) for x in squares], axis=0)
        return float(place[: self.head - 1].mean()), float(place[self.head - 1 :].mean())


def permutation(
    v: ValueFunction,
    *,
    budget: int,
    agreement: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> Estimate:
    """Antithetic permutation sampling (Mitchell et al. 2022) in two independent halves.

    Each half draws orders from its own stream; an order and its reverse make a pair, which alone
    is exact for games without interactions of more than two parts. The step from absent to
    present is evened out (`_Half.shares`). A round adds one pair to each half (4P + 4 evaluations
    less the ends). Where an encoder takes means, a part changes far more beside few others than
    beside many: if the first round shows that the first eighth of the places varies more than
    the rest, later rounds sample these short coalitions as much more often (Neyman's
    allocation over strata). It goes on until the rank correlation of the halves reaches
    `agreement`, or the next round would pass `budget` evaluations. What comes back is the mean of
    the halves, which adds up to everything - nothing.

    A smaller budget gives one pair (2P), with its forward and reverse orders as halves: they are
    not independent, and as opposite orders they differ more than two random ones would, so their
    agreement is on the careful side. Raises AttributionError when the budget is less than that.
    """
    p = v.n_parts
    before = v.evaluations
    if budget < 2 * p:
        raise AttributionError(
            f"{p} parts need a budget of at least {2 * p} evaluations, not {budget}; raise it."
        )
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2)]
    round_cost = 4 * p + 4
    if budget < round_cost or p < MIN_PARTS:
        return _one_pair(v, streams[0].permutation(p), progress, budget)
    halves: list[_Half] = []
    extra, head = 0, max(2, -(-p // HEAD_SHARE))
    while True:
        orders = [stream.permutation(p) for stream in streams]
        heads = [[s.permutation(p)[:head] for _ in range(extra)] for s in streams]
        # One call for both halves: their coalitions share batches of like length.
        asked = [_round_masks(o, h) for o, h in zip(orders, heads, strict=True)]
        f = v(np.concatenate(asked))
        ends = f[[p, 0]]
        halves = halves or [_Half(p, f.shape[1], head) for _ in range(2)]
        found = np.split(f, [len(asked[0])])
        for half, order, short, values in zip(halves, orders, heads, found, strict=True):
            _take_round(half, order, short, values)
        used = v.evaluations - before
        shares = _both(halves, ends)
        if rank_agreement(*shares, _scale(ends)) >= agreement:
            break
        if not extra:
            extra = _extra_heads(halves, shares)
        if used + round_cost + 2 * extra * (head + 1) > budget:
            break
        if progress is not None:
            progress(used, budget)
    return _estimate(shares, ends, used, progress, budget)


def _round_masks(order: npt.NDArray[np.int64], heads: list[npt.NDArray[np.int64]]) -> Masks:
    """A pair, the two parts that come second in it alone, and the walks of short heads."""
    p = len(order)
    short = [np.zeros((0, p), bool)]
    for head in heads:
        masks = np.zeros((len(head) + 1, p), bool)
        for k, part in enumerate(head):
            masks[k : len(head), part] = True
        masks[-1, head[1]] = True
        short.append(masks)
    return np.concatenate([pair_masks(order), second_masks(order), *short])


def _take_round(
    half: _Half,
    order: npt.NDArray[np.int64],
    heads: list[npt.NDArray[np.int64]],
    values: Floats,
) -> None:
    p = len(order)
    nothing = values[0]
    ahead, behind = pair_shares(order, values[: 2 * p])
    half.add(order, ahead[order], values[2 * p] - nothing)
    half.add(order[::-1], behind[order[::-1]], values[2 * p + 1] - nothing)
    rest = values[2 * p + 2 :].reshape(len(heads), half.head + 1, values.shape[1])
    for head, walk in zip(heads, rest, strict=True):
        gains = np.diff(np.concatenate([nothing[None], walk[:-1]]), axis=0)
        half.add(head, gains, walk[-1] - nothing)


def _extra_heads(halves: list[_Half], shares: tuple[Floats, Floats]) -> int:
    """Short walks for each pair of orders, so that places are sampled by how much they vary."""
    mean = (shares[0] + shares[1]) / 2
    rough = np.mean([half.roughness(mean) for half in halves], axis=0)
    ratio = float(np.sqrt(rough[0] / max(rough[1], 1e-30)))
    return int(np.clip(round(2 * (ratio - 1)), 0, MOST_HEADS))


def _one_pair(
    v: ValueFunction, order: npt.NDArray[np.int64], progress: Progress | None, budget: int
) -> Estimate:
    before = v.evaluations
    f = v(pair_masks(order))
    p = len(order)
    return _estimate(pair_shares(order, f), f[[p, 0]], v.evaluations - before, progress, budget)


def _both(halves: list[_Half], ends: Floats) -> tuple[Floats, Floats]:
    a, b = halves
    total = ends[0] - ends[1]
    return a.shares(b, total), b.shares(a, total)


def _scale(ends: Floats) -> float:
    return max(1.0, float(np.abs(ends).max()))


def _estimate(
    halves: tuple[Floats, Floats],
    ends: Floats,
    used: int,
    progress: Progress | None,
    budget: int,
) -> Estimate:
    a, b = halves
    if progress is not None:
        progress(budget, budget)
    return Estimate(
        values=(a + b) / 2,
        everything=ends[0],
        nothing=ends[1],
        agreement=rank_agreement(a, b, _scale(ends)),
        spread=np.asarray(np.abs(a - b).max(axis=1)),
        evaluations=used,
    )


# ---------------------------------------------------------------- shap's own explainers


@contextmanager
def _numpy_seed_restored() -> Iterator[None]:
    """Puts numpy's global stream, which shap seeds, back where its other users left it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _asked(v: ValueFunction) -> Callable[[npt.ArrayLike], Floats]:
    return lambda rows: v(np.asarray(rows) > 0.5)


def _ends(v: ValueFunction) -> Floats:
    full = np.ones((1, v.n_parts), bool)
    return v(np.concatenate([full, ~full]))


def shap_permutation(v: ValueFunction, *, budget: int, seed: int = 0) -> Estimate:
    """shap.PermutationExplainer over the same value function, run twice with half the budget.

    Each run needs 2P + 1 evaluations by shap's counting (ours counts less, since equal
    coalitions of a call are asked about once). With less than 2(2P + 1) there is one run and no
    agreement. Raises AttributionError when the budget is less than one run.
    """
    import shap  # seconds to import; most explanations never need it

    p = v.n_parts
    if budget < 2 * p + 1:
        raise AttributionError(
            f"{p} parts need a budget of at least {2 * p + 1} evaluations, not {budget}; raise it."
        )
    before = v.evaluations
    runs = 2 if budget >= 2 * (2 * p + 1) else 1
    halves = []
    with _numpy_seed_restored():
        for run in range(runs):
            masker = shap.maskers.Independent(np.zeros((1, p)))
            explainer = shap.PermutationExplainer(_asked(v), masker, seed=2 * seed + run)
            halves.append(_explained(explainer, p, budget // runs))
    ends = _ends(v)
    used = v.evaluations - before
    if runs == 1:
        return Estimate(halves[0], ends[0], ends[1], None, None, used)
    return _estimate((halves[0], halves[1]), ends, used, None, budget)


def shap_partition(v: ValueFunction, *, budget: int) -> Estimate:
    """shap.PartitionExplainer with a balanced tree of neighbours: parts next to each other in
    order (in time, for events) are split last.

    These are Owen values of that tree, not Shapley values, and not sampled: with too small a
    budget whole branches share evenly, and there is no second half that would tell.
    """
    import shap  # seconds to import; most explanations never need it

    before = v.evaluations
    p = v.n_parts
    if p == 1:
        return exact(v)
    masker = shap.maskers.Independent(np.zeros((1, p)))
    masker.clustering = neighbour_tree(p)
    explainer = shap.PartitionExplainer(_asked(v), masker)
    values = _explained(explainer, p, budget)
    ends = _ends(v)
    return Estimate(values, ends[0], ends[1], None, None, v.evaluations - before)


def _explained(explainer: Any, p: int, budget: int) -> Floats:
    found = explainer(np.ones((1, p)), max_evals=budget, batch_size=budget, silent=True)
    values = np.asarray(found.values, np.float64)[0]
    return np.asarray(values.reshape(p, -1))


def neighbour_tree(n: int) -> Floats:
    """(n - 1, 4) linkage in SciPy's form of a balanced binary tree over n leaves in order."""
    level = [(leaf, 1) for leaf in range(n)]
    rows: list[list[float]] = []
    while len(level) > 1:
        merged = []
        for (a, size_a), (b, size_b) in zip(level[::2], level[1::2], strict=False):
            size = size_a + size_b
            merged.append((n + len(rows), size))
            rows.append([a, b, size, size])
        level = merged + level[len(level) - len(level) % 2 :]
    return np.asarray(rows, np.float64).reshape(-1, 4)
