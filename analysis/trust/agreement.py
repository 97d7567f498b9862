"""Do different methods give one reason? Likeness of the maps of one patient, method by method.

Agreement proves nothing by itself: methods that share a flaw agree. Disagreement says that at
least one of them is not to be believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.attribution.attention import Method, attention_maps
from analysis.attribution.case import Case
from analysis.attribution.result import VolumeMap
from analysis.attribution.target import Target
from analysis.trust.sanity import spearman, top_overlap
from models.contracts import CodeVocabulary, EventPositions

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """names: (M,) methods. rank: (M, M) Spearman correlation of the magnitudes, -1..1; top:
    (M, M) share of the strongest parts that two methods have in common, 0..1. k: how many parts
    are "the strongest"; chance: expected overlap of unrelated methods.
    """

    names: tuple[str, ...]
    rank: Floats
    top: Floats
    k: int
    chance: float

    def as_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {
            "names": list(self.names),
            "rank": self.rank.tolist(),
            "top_overlap": self.top.tolist(),
            "k": self.k,
            "chance": self.chance,
        }


def agreement(maps: Mapping[str, npt.ArrayLike], k: int | None = None) -> Agreement:
    """Likeness of several maps of one shape, by magnitude (attention has no sign).

    k: default 1% of the parts, at least 5.
    """
    flat = {name: np.abs(np.ravel(np.asarray(v, np.float64))) for name, v in maps.items()}
    sizes = {values.size for values in flat.values()}
    if len(sizes) != 1:
        raise ValueError(f"the maps have {sorted(sizes)} parts; bring them on one grid first.")
    size = sizes.pop()
    top_k = min(k or max(5, round(0.01 * size)), size)
    names = tuple(flat)
    rank, top = np.eye(len(names)), np.eye(len(names))
    for i, first in enumerate(names):
        for j in range(i):
            rank[i, j] = rank[j, i] = spearman(flat[first], flat[names[j]])
            top[i, j] = top[j, i] = top_overlap(flat[first], flat[names[j]], top_k)
    return Agreement(names, rank, top, top_k, top_k / size)


def map_agreement(case: Case, maps: Mapping[str, VolumeMap]) -> Agreement:
    """Agreement of volume maps, each brought onto the grid that the encoder read."""
    modality = next(iter(maps.values())).modality
    scan = case.scan(modality)
    return agreement({name: shown.on(scan) for name, shown in maps.items()})


def attention_shares(case: Case, modality: str, target: Target | None = None) -> Floats | None:
    """(P,) what each event receives from the other modalities' tokens, averaged over queries.

    Head mean, or with a target the gradient-weighted attention (Chefer et al. 2021). Averaged
    over the maps that look at the modality; a code's attention is divided equally among its
    events. None where the strategy has no such map.
    """
    method: Method = "mean" if target is None else "gradient"
    maps = [m for m in attention_maps(case, target, method) if m.key == modality]
    if not maps:
        return None
    by_token = np.zeros(case.encoded[modality].mask.shape[1])
    for shown in maps:
        by_token[shown.columns["token"].to_numpy()] += shown.received / len(maps)
    return events_of_tokens(case, modality, by_token)


def events_of_tokens(case: Case, modality: str, by_token: Floats) -> Floats:
    """(N,) numbers of tokens -> (P,) of events; a code's number is divided among its events."""
    layout = case.encoded[modality].layout
    if isinstance(layout, EventPositions):
        return by_token[: case.raw(modality).fields["mask"].shape[1]]
    if not isinstance(layout, CodeVocabulary):
        raise ValueError(f"'{modality}' has no events.")
    codes = case.raw(modality).fields["codes"][0].numpy()
    ids = layout.code_ids[0].numpy()
    real = case.encoded[modality].mask[0].numpy()
    number = {int(i): float(x) for i, x, there in zip(ids, by_token, real, strict=True) if there}
    count = dict(zip(*np.unique(codes, return_counts=True), strict=True))
    return np.array([number.get(int(c), 0.0) / count[c] for c in codes])
