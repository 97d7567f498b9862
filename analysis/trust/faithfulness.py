"""Does the prediction follow the map? Deletion and insertion against random order.

Parts are removed in the order of their attribution, most positive first, and the explained
number is read after each step (deletion); or all parts are removed and put back in that order
(insertion). Petsiuk et al., RISE, BMVC 2018. Attributions are signed, so a faithful order makes
the number fall at once, and rise at once.

The area is the mean height of a curve over the fraction of parts. Advantage over random:

    deletion    (mean area of random orders - area) / |f(x) - f(all removed)|
    insertion   (area - mean area of random orders) / |f(x) - f(all removed)|

Higher is more faithful, 0 is a random order, below 0 is worse than random. It may exceed 1 where
positive and negative parts cancel. Putting parts back in an order is removing them in the
reversed one, and a reversed random order is a random order: both advantages share one baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from analysis.attribution.case import Case
from analysis.attribution.result import VolumeMap
from analysis.attribution.target import Target
from analysis.cohort.readers.volume import AIR_HU
from analysis.trust.estimate import N_RESAMPLES, Estimate, ratio_interval
from models.contracts import ModalityInput, VoxelGrid

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Value = Callable[[npt.NDArray[np.bool_]], Floats]
"""(n, P) bool, true where a part is kept -> (n,) the explained number."""


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Curves of one attribution of one patient.

    removed: (S,) parts removed, 0 .. P. deletion: (S,) the number after removing so many.
    insertion: (S,) the number with so many put back. random: (R, S) deletion in random orders.
    """

    removed: Ints
    deletion: Floats
    insertion: Floats
    random: Floats

    @property
    def span(self) -> float:
        """f(x) - f(all removed), signed, in the unit of the explained number."""
        return float(self.deletion[0] - self.deletion[-1])

    @property
    def random_area(self) -> float:
        """Mean area of the random orders."""
        return float(np.mean([area(self.removed, curve) for curve in self.random]))

    @property
    def deletion_gain(self) -> float:
        """Deletion advantage before division by |span|."""
        return self.random_area - area(self.removed, self.deletion)

    @property
    def insertion_gain(self) -> float:
        """Insertion advantage before division by |span|."""
        return area(self.removed, self.insertion) - self.random_area

    @property
    def random_gains(self) -> Floats:
        """(R,) what each random order gains over the others, before division by |span|."""
        areas = np.array([area(self.removed, curve) for curve in self.random])
        others = (areas.sum() - areas) / max(len(areas) - 1, 1)
        return np.asarray(others - areas)

    @property
    def deletion_advantage(self) -> float:
        """Higher is more faithful, 0 is random; nan where removing everything changes nothing."""
        return self.deletion_gain / abs(self.span) if self.span else float("nan")

    @property
    def insertion_advantage(self) -> float:
        """Higher is more faithful, 0 is random; nan where removing everything changes nothing."""
        return self.insertion_gain / abs(self.span) if self.span else float("nan")


def area(removed: Ints, curve: Floats) -> float:
    """Mean height of a curve over the fraction removed (trapezoid)."""
    return float(np.trapezoid(curve, removed / removed[-1]))


def schedule(n_parts: int, n_points: int = 24) -> Ints:
    """How many parts are removed at each step: 0 .. n_parts, at most about `n_points` of them.

    One by one where that is few enough; else in steps that double from both ends, since what
    matters most (and least) sits there. Symmetric, so insertion and deletion see the same steps.
    """
    if n_parts < 1:
        raise ValueError("there is no part to remove.")
    if n_parts + 1 <= n_points:
        return np.arange(n_parts + 1)
    half = np.geomspace(1, n_parts / 2, max(2, (n_points - 1) // 2))
    ends = np.unique(np.round(half).astype(np.int64))
    return np.unique(np.concatenate([[0], ends, n_parts - ends, [n_parts]]))


def curve(value: Value, order: Ints, removed: Ints) -> Floats:
    """(S,) the explained number after removing the first `removed[s]` parts of `order`."""
    kept = np.ones((len(removed), len(order)), bool)
    for row, count in enumerate(removed):
        kept[row, order[:count]] = False
    return np.asarray(value(kept), np.float64)


def faithfulness(
    value: Value,
    attributions: Mapping[str, npt.ArrayLike],
    *,
    n_points: int = 24,
    n_random: int = 5,
    seed: int = 0,
) -> dict[str, Faithfulness]:
    """Curves of several attributions (P,) of one patient, against the same random orders.

    Equal attributions are ordered at random, so a constant map is a random order. Uses about
    n_points x (2 x attributions + n_random) evaluations of `value`.
    """
    scores = {name: np.asarray(a, np.float64) for name, a in attributions.items()}
    n_parts = len(next(iter(scores.values())))
    removed = schedule(n_parts, n_points)
    rng = np.random.default_rng(seed)
    random = np.stack([curve(value, rng.permutation(n_parts), removed) for _ in range(n_random)])
    made = {}
    for name, score in scores.items():
        if score.shape != (n_parts,):
            raise ValueError(f"attribution '{name}' has {score.shape}, not {(n_parts,)} parts.")
        order = np.lexsort((rng.random(n_parts), -score))
        deletion = curve(value, order, removed)
        # Putting back k parts of `order` is removing the other P - k, the last ones first.
        insertion = curve(value, order[::-1], removed)[::-1]
        made[name] = Faithfulness(removed, deletion, insertion, random)
    return made


def summarise(patients: list[Faithfulness], seed: int = 0) -> dict[str, Estimate]:
    """Advantages over patients: sum of gains over sum of |span|, so no tiny span decides.

    random_range: 95% range of the same number when every patient gets a random order instead.
    """
    span = [abs(p.span) for p in patients]
    total = sum(span)
    low, high = _random_range(patients, seed) if total else (0.0, 0.0)
    return {
        "deletion": ratio_interval([p.deletion_gain for p in patients], span, seed),
        "insertion": ratio_interval([p.insertion_gain for p in patients], span, seed),
        "random_range": {
            "low": low / total if total else None,
            "high": high / total if total else None,
        },
        "mean_span": {"value": total / len(span) if span else None, "n": len(span)},
    }


def _random_range(patients: list[Faithfulness], seed: int) -> tuple[float, float]:
    """Of the sum over patients, one of each patient's random orders drawn at a time."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(N_RESAMPLES)
    for patient in patients:
        drawn += rng.choice(patient.random_gains, N_RESAMPLES)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


# ---------------------------------------------------------------- volumes


class Blocks:
    """A scan cut into blocks that can be removed: the value function of a volume.

    A removed block shows the scan blurred by a Gaussian (`blur_mm` standard deviation), which
    takes away what is focal and leaves the body in place; with blur_mm None it is air, which is
    harsher and unlike any scan. Blocks are half a token of the encoder along each axis, where
    that divides the volume. Every evaluation encodes the scan again.
    """

    def __init__(
        self,
        case: Case,
        modality: str,
        target: Target,
        *,
        blur_mm: float | None = 15.0,
        batch: int = 8,
    ) -> None:
        self.case, self.modality, self.target, self.batch = case, modality, target, batch
        self.volume = case.raw(modality).fields["volume"]
        self.scan = case.scan(modality)
        self.shape = self._blocks()
        self.n_parts = int(np.prod(self.shape))
        self.fill = self._fill(blur_mm)

    def _blocks(self) -> tuple[int, int, int]:
        voxels = self.volume.shape[2:]
        layout = self.case.encoded[self.modality].layout
        tokens = layout.shape if isinstance(layout, VoxelGrid) else (4, 4, 4)
        counts = [
            next(k for k in (2 * t, t, 1) if n % k == 0)
            for n, t in zip(voxels, tokens, strict=True)
        ]
        return counts[0], counts[1], counts[2]

    def _fill(self, blur_mm: float | None) -> torch.Tensor:
        if blur_mm is None:
            return torch.full_like(self.volume, AIR_HU)
        sigma = [blur_mm / mm for mm in self.scan.spacing_mm]
        blurred = ndimage.gaussian_filter(self.volume[0, 0].numpy(), sigma, mode="nearest")
        return torch.from_numpy(blurred)[None, None]

    def parts(self, shown: VolumeMap) -> Floats:
        """(P,) the map summed over each block, on the encoder's grid."""
        values = shown.on(self.scan).astype(np.float64)
        split = [k for n, b in zip(values.shape, self.shape, strict=True) for k in (b, n // b)]
        summed: Floats = values.reshape(split).sum(axis=(1, 3, 5)).reshape(-1)
        return summed

    def __call__(self, kept: npt.NDArray[np.bool_]) -> Floats:
        """(n, P) bool -> (n,) the explained number."""
        found = []
        for rows in np.array_split(kept, max(1, -(-len(kept) // self.batch))):
            mask = torch.from_numpy(rows.reshape(len(rows), 1, *self.shape))
            for axis, (n, b) in enumerate(zip(self.volume.shape[2:], self.shape, strict=True)):
                mask = mask.repeat_interleave(n // b, dim=axis + 2)
            volume = torch.where(mask, self.volume, self.fill)
            kind = self.case.kind(self.modality)
            item = ModalityInput(kind, {"volume": volume}, torch.ones(len(rows), dtype=torch.bool))
            with torch.inference_mode():
                encoded = self.case.model.encode_modality(self.modality, item)
                output = self.case.fuse(**{self.modality: encoded})
            found.append(self.target(output.prediction)[:, 0].double().numpy())
        return np.concatenate(found)
