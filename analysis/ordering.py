"""Which parts come first in several explanations of one input: their order, and nothing of size.

Explanations of two tasks are about two numbers. The sizes of their shares cannot be compared;
which part has the largest share in each, the second largest and so on, can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.trust.agreement import Agreement, agreement


@dataclass(frozen=True, eq=False)
class Ordering:
    """names: (P,) parts. ranks: {explanation: (P,) from 1, the largest absolute share}. signs:
    {explanation: (P,) -1, 0 or 1}. agreement: of the sizes' order.
    """

    names: tuple[str, ...]
    ranks: Mapping[str, npt.NDArray[np.int64]]
    signs: Mapping[str, npt.NDArray[np.int64]]
    agreement: Agreement

    def first(self, top: int) -> list[int]:
        """Positions of the parts among the `top` of any explanation, by their best rank."""
        best = np.min(list(self.ranks.values()), axis=0)
        among = np.flatnonzero(best <= top)
        return [int(i) for i in among[np.argsort(best[among], kind="stable")]]


def ordering(names: tuple[str, ...], shares: Mapping[str, npt.ArrayLike], top: int = 5) -> Ordering:
    """The order of the same parts in each of several explanations.

    names: (P,) of the parts. shares: {explanation: (P,)}. top: how many are "the strongest" of
    which the agreement counts those in common. Equal shares keep the parts' own order. Raises
    ValueError where an explanation is of other parts.
    """
    values = {name: np.asarray(v, np.float64) for name, v in shares.items()}
    wrong = [name for name, v in values.items() if v.shape != (len(names),)]
    if wrong or not values:
        raise ValueError(f"'{next(iter(wrong), '')}' is no explanation of these {len(names)} parts")
    ranks = {}
    for name, v in values.items():
        rank = np.empty(len(names), np.int64)
        rank[np.argsort(-np.abs(v), kind="stable")] = np.arange(1, len(names) + 1)
        ranks[name] = rank
    signs = {name: np.sign(v).astype(np.int64) for name, v in values.items()}
    return Ordering(tuple(names), ranks, signs, agreement(values, min(top, len(names))))
