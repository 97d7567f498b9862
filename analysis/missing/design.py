"""Which combinations of modalities a run is asked with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

Combination = tuple[str, ...]
MOST_ALL = 7
N_SAMPLED = 128


def subsets(modalities: Sequence[str]) -> tuple[Combination, ...]:
    """All non-empty combinations, single ones first, the whole last, in the given order."""
    names = tuple(modalities)
    return tuple(c for size in range(1, len(names) + 1) for c in combinations(names, size))


@dataclass(frozen=True)
class Design:
    """The combinations that are asked, the empty one first and the whole last.

    all_of_them: whether these are all 2^M; else they are a sample, drawn with `seed`.
    """

    modalities: tuple[str, ...]
    combinations: tuple[Combination, ...]
    all_of_them: bool
    seed: int

    def code(self, names: Iterable[str]) -> int:
        """A combination as a whole number: bit i stands for modality i."""
        return sum(1 << self.modalities.index(name) for name in set(names))

    def __contains__(self, names: object) -> bool:
        return isinstance(names, tuple) and names in set(self.combinations)

    @property
    def parameters(self) -> dict[str, Any]:
        """Names the design among all designs of a run."""
        if self.all_of_them:
            return {"combinations": "all"}
        return {"combinations": len(self.combinations), "seed": self.seed}

    @property
    def words(self) -> str:
        """The design in a sentence."""
        m, n = len(self.modalities), len(self.combinations) - 1
        if self.all_of_them:
            return f"All {n} combinations of {m} modalities."
        return (
            f"{n} of the {2**m - 1:,} combinations of {m} modalities: each alone, all but one, all "
            f"of them, and of every size between equally many, drawn with seed {self.seed}."
        )


def design_of(modalities: Sequence[str], seed: int = 0, n_sampled: int = N_SAMPLED) -> Design:
    """All combinations of up to 7 modalities; of more, a sample stratified by size.

    The sample holds nothing, each one alone, all but one, all, and then of each size from 2 to
    M - 2 in turn one more, drawn without replacement, until there are `n_sampled`.
    """
    names = tuple(modalities)
    m = len(names)
    if m <= MOST_ALL:
        return Design(names, ((), *subsets(names)), True, seed)
    rng = np.random.default_rng(seed)
    fixed = [(), *((n,) for n in names), *combinations(names, m - 1), names]
    queues = {}
    for size in range(2, m - 1):
        pool = list(combinations(names, size))
        queues[size] = [pool[i] for i in rng.permutation(len(pool))]
    drawn: list[Combination] = []
    while len(fixed) + len(drawn) < n_sampled and any(queues.values()):
        for size in queues:
            if queues[size] and len(fixed) + len(drawn) < n_sampled:
                drawn.append(queues[size].pop())
    order = {c: i for i, c in enumerate((*fixed, *drawn))}
    found = sorted(order, key=lambda c: (len(c), [names.index(n) for n in c]))
    return Design(names, tuple(found), False, seed)
