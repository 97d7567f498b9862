"""Does a map show the place, or the code, that really causes the outcome? Simulated cohorts only.

Volumes. Pointing game (Zhang et al., Excitation Backprop, IJCV 2018): the strongest point of the
positive map lies inside the lesion, grown by a tolerance. Chance is the grown lesion's share of
the scan. Energy inside (Wang et al., Score-CAM, CVPRW 2020): the share of the positive map's sum
that lies inside the lesion itself, here divided by the lesion's share of the scan: 1 is chance.

Events. AUROC of an event's share as a score for "this event carries a cause". 0.5 is chance.
Units, all reported, since they answer different questions:
    event          |share| of each event; a cause is an event with a causal code
    event_signed   the same by the share itself: does the cause raise the risk above the rest?
    code           |sum of shares| over all events of one code; a cause is a causal code
    code_gross     sum of |shares| over all events of one code
    code_signed    sum of shares
    code_known     as `code`, without codes that the run never saw in training: to the model they
                   are all one unknown code
    decisive       |share|, but of a causal code with values only the latest event counts as a
                   cause, since the hazard reads the index visit; older ones are left out
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.stats import rankdata

from analysis.attribution.result import VolumeMap
from analysis.cohort.readers.volume import Volume
from analysis.cohort.schema import CohortError
from analysis.trust.estimate import (
    Estimate,
    Floats,
    mean_interval,
    median_interval,
    proportion_interval,
    ratio_interval,
)

Mask = npt.NDArray[np.bool_]
UNITS = ("event", "event_signed", "code", "code_gross", "code_signed", "code_known", "decisive")


# ---------------------------------------------------------------- volumes


@dataclass(frozen=True)
class MapScore:
    """One map of one patient.

    pointing: 1 when the strongest point lies in the grown lesion, 0 when not; where several
    points are equally strong, the share of them that does. energy: share of the positive map's
    sum inside the lesion, 0..1. lesion_share, chance: the lesion's and the grown lesion's share
    of the scan. empty: the map has no positive value at all (counted as a miss, energy 0).
    """

    pointing: float
    energy: float
    lesion_share: float
    chance: float
    empty: bool


def grow(mask: Mask, spacing_mm: Sequence[float], tolerance_mm: Sequence[float]) -> Mask:
    """The mask with every voxel within `tolerance_mm` of it along each axis (a box)."""
    reach = [round(t / s) for t, s in zip(tolerance_mm, spacing_mm, strict=True)]
    grown: Mask = ndimage.maximum_filter(mask, size=[2 * r + 1 for r in reach], mode="constant")
    return grown


def score_values(values: npt.ArrayLike, mask: Mask, grown: Mask) -> MapScore:
    """Score a map that lies on the mask's own grid. Raises ValueError for an empty mask."""
    heat = np.maximum(np.asarray(values, np.float64), 0.0)
    if heat.shape != mask.shape:
        raise ValueError(f"the map is {heat.shape}, the mask {mask.shape}.")
    if not mask.any():
        raise ValueError("there is no lesion in the mask; leave the patient out.")
    total, top = float(heat.sum()), float(heat.max())
    share, chance = float(mask.mean()), float(grown.mean())
    if top <= 0:
        return MapScore(0.0, 0.0, share, chance, True)
    pointing = float(grown[heat == top].mean())
    return MapScore(pointing, float(heat[mask].sum()) / total, share, chance, False)


def score_map(shown: VolumeMap, scan: Volume, mask: Mask, grown: Mask) -> MapScore:
    """Score a map on the scan file's own grid, to which it is brought by millimetres."""
    if mask.shape != scan.array.shape:
        raise CohortError(
            f"the truth's mask has {mask.shape} voxels, the scan {scan.array.shape}; they must "
            "be on one grid."
        )
    return score_values(shown.on(scan), mask, grown)


def summarise_maps(scores: Sequence[MapScore], seed: int = 0) -> dict[str, Any]:
    """Over patients: pointing (Wilson), energy and its ratio to the lesion's share (bootstrap).

    energy_ratio: median over patients of energy / lesion share; energy_ratio_mean: their mean,
    which small lesions dominate; energy_ratio_pooled: sum of energies over sum of shares.
    """
    energy = np.array([s.energy for s in scores])
    share = np.array([s.lesion_share for s in scores])
    ratio = energy / share if len(scores) else energy
    return {
        "n": len(scores),
        "pointing": proportion_interval([s.pointing for s in scores]),
        "chance": float(np.mean([s.chance for s in scores])) if scores else None,
        "energy": mean_interval(energy, seed),
        "lesion_share": float(share.mean()) if len(scores) else None,
        "energy_ratio": median_interval(ratio, seed),
        "energy_ratio_mean": mean_interval(ratio, seed),
        "energy_ratio_pooled": ratio_interval(energy, share, seed),
        "no_positive_evidence": int(sum(s.empty for s in scores)),
    }


# ---------------------------------------------------------------- events


@dataclass(frozen=True)
class EventScore:
    """One event attribution of one patient.

    auroc: by unit, nan where the patient has no cause or nothing else. rank: mean place of the
    causal codes among the patient's codes by |sum of shares|, 0 (first) to 1 (last). first: the
    strongest code is a cause. by_term: AUROC (unit `code`) of each term's codes alone.
    """

    auroc: Mapping[str, float]
    rank: float
    first: float
    by_term: Mapping[str, float]
    n_causal: int
    n_codes: int


def auroc(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the ROC curve, ties count one half; nan without a positive or a negative."""
    truth = np.asarray(positive, bool)
    n, m = int(truth.sum()), int((~truth).sum())
    if not n or not m:
        return float("nan")
    ranks = rankdata(np.asarray(score, np.float64))
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * m))


def score_events(
    parts: pd.DataFrame,
    shares: Floats,
    causes: Mapping[str, Collection[str]],
    known: Collection[str] | None = None,
) -> EventScore:
    """Score the shares (P,) of events `parts` (columns `code`, `value`, oldest first).

    causes: {code: terms of the hazard that it carries}. known: the codes that the run saw in
    training; None for all.
    """
    codes = parts["code"].astype(str)
    causal = codes.isin(list(causes)).to_numpy()
    by_code = pd.DataFrame({"code": codes.to_numpy(), "net": shares, "gross": np.abs(shares)})
    by_code = by_code.groupby("code", sort=True)[["net", "gross"]].sum()
    cause = by_code.index.isin(list(causes))
    net = by_code["net"].to_numpy()
    decisive, counted = _decisive(parts, codes, causal)
    seen = np.ones(len(cause), bool) if known is None else by_code.index.isin(list(known))
    rank = rankdata(-np.abs(net))
    return EventScore(
        auroc={
            "event": auroc(np.abs(shares), causal),
            "event_signed": auroc(shares, causal),
            "code": auroc(np.abs(net), cause),
            "code_gross": auroc(by_code["gross"], cause),
            "code_signed": auroc(net, cause),
            "code_known": auroc(np.abs(net)[seen], cause[seen]),
            "decisive": auroc(np.abs(shares)[counted], decisive[counted]),
        },
        rank=_mean_place(rank, cause),
        first=float(cause[rank == rank.min()].mean()) if 0 < cause.sum() < len(cause) else np.nan,
        by_term=_by_term(by_code.index, np.abs(net), cause, causes),
        n_causal=int(cause.sum()),
        n_codes=len(cause),
    )


def _mean_place(rank: Floats, cause: Mask) -> float:
    if not 0 < cause.sum() < len(cause):
        return float("nan")
    return float((rank[cause].mean() - 1) / (len(rank) - 1))


def _decisive(parts: pd.DataFrame, codes: pd.Series[str], causal: Mask) -> tuple[Mask, Mask]:
    """Which events are decisive causes, and which events count at all."""
    valued = parts["value"].notna().to_numpy() if "value" in parts else np.zeros(len(parts), bool)
    latest = ~codes.duplicated(keep="last").to_numpy()
    stale = causal & valued & ~latest
    return causal & ~stale, ~stale


def _by_term(
    codes: pd.Index[Any], strength: Floats, cause: Mask, causes: Mapping[str, Collection[str]]
) -> dict[str, float]:
    found = {}
    for term in sorted({t for terms in causes.values() for t in terms}):
        own = np.array([term in causes.get(str(code), ()) for code in codes])
        kept = own | ~cause
        found[term] = auroc(strength[kept], own[kept])
    return found


def summarise_events(scores: Sequence[EventScore], seed: int = 0) -> dict[str, Any]:
    """Over patients: mean AUROC by unit, place of the causal codes, AUROC by term of the hazard.

    left_out: patients without any causal code, or with nothing else.
    """
    terms = sorted({term for s in scores for term in s.by_term})
    units: dict[str, Estimate] = {
        unit: mean_interval([s.auroc[unit] for s in scores], seed) for unit in UNITS
    }
    return {
        "n": sum(0 < s.n_causal < s.n_codes for s in scores),
        "left_out": sum(not 0 < s.n_causal < s.n_codes for s in scores),
        "auroc": units,
        "chance": 0.5,
        "mean_place": mean_interval([s.rank for s in scores], seed),
        "strongest_is_cause": mean_interval([s.first for s in scores], seed),
        "by_term": {t: mean_interval([s.by_term.get(t, np.nan) for s in scores]) for t in terms},
        "causal_codes": float(np.mean([s.n_causal for s in scores])) if scores else None,
        "codes": float(np.mean([s.n_codes for s in scores])) if scores else None,
    }
