"""Simulated scans for pretraining the CT encoder: fresh patients every step, no outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.encoders.volume import RADIOLOGY_TARGETS
from models.pretraining import RadiologyBatch
from sample_data.phantom import ChestParameters, ChestPhantom, render_chest

# Far from any cohort's seeds, so that no pretraining patient is also a cohort's patient.
_PRETRAINING_STREAM = 990_001


def draw_parameters(rng: np.random.Generator) -> ChestParameters:
    """A patient for radiology pretraining: findings independent of each other and balanced."""
    contrast = bool(rng.random() < 0.65)
    clot = float(rng.beta(1.0, 1.6)) if contrast and rng.random() < 0.6 else 0.0
    calcium_share = 0.2 if contrast else 0.65
    return ChestParameters(
        contrast=contrast,
        clot_burden=clot,
        rv_lv_ratio=float(rng.uniform(0.65, 2.0)),
        calcium=float(rng.beta(1.0, 1.3)) if rng.random() < calcium_share else 0.0,
        age_years=float(rng.uniform(30, 90)),
        female=bool(rng.random() < 0.5),
        noise_hu=float(rng.uniform(8, 28)),
        effusion=float(rng.random()) if rng.random() < 0.2 else 0.0,
    )


def radiology_targets(phantom: ChestPhantom, contrast: bool) -> np.ndarray:
    """(5,) float32 in the order of RADIOLOGY_TARGETS, on the training scale.

    clot_burden: sqrt(percent / 100). rv_lv_ratio: ratio - 1, NaN without contrast. calcium:
    log(1 + Agatston) / 8.
    """
    measures = phantom.measures
    values = {
        "embolus_present": float(phantom.embolus.any()) if contrast else np.nan,
        "clot_burden": (measures["clot_burden_percent"] / 100) ** 0.5 if contrast else np.nan,
        "rv_lv_ratio": measures["rv_lv_ratio"] - 1 if contrast else np.nan,
        "calcium_present": float(phantom.calcium.any()),
        "calcium": float(np.log1p(measures["calcium_agatston"])) / 8,
    }
    return np.array([values[name] for name in RADIOLOGY_TARGETS], dtype=np.float32)


class _Scans(IterableDataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """Endless scans; every worker has a stream of its own."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        info = get_worker_info()
        rng = np.random.default_rng([_PRETRAINING_STREAM, self.seed, info.id if info else 0])
        while True:
            parameters = draw_parameters(rng)
            phantom = render_chest(parameters, rng)
            yield (
                phantom.volume[None],
                radiology_targets(phantom, parameters.contrast),
                np.stack([phantom.embolus, phantom.calcium]),
            )


def radiology_batches(
    seed: int, batch_size: int = 8, fresh: int = 3, memory: int = 1500, workers: int = 1
) -> Iterator[RadiologyBatch]:
    """Endless batches: `fresh` new scans each, the rest drawn from the latest `memory` ones.

    Drawing a scan costs as much as learning from it, and a scan is worth more than one look.
    The first batches are all new.
    """
    rng = np.random.default_rng([_PRETRAINING_STREAM, seed, 7])
    scans = DataLoader(_Scans(seed), batch_size=None, num_workers=workers, prefetch_factor=16)
    source = iter(scans)
    kept: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=memory)
    while True:
        new = [next(source) for _ in range(fresh if len(kept) >= 8 * batch_size else batch_size)]
        old = [kept[i] for i in rng.integers(0, max(len(kept), 1), batch_size - len(new))]
        kept.extend(new)
        volume, targets, lesions = zip(*new, *old, strict=True)
        yield RadiologyBatch(
            torch.from_numpy(np.stack([np.asarray(v) for v in volume])).float(),
            torch.from_numpy(np.stack([np.asarray(t) for t in targets])),
            torch.from_numpy(np.stack([np.asarray(m) for m in lesions])),
        )
