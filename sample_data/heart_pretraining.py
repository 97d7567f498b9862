"""Simulated ECGs and echoes for pretraining their encoders: fresh hearts, measured, no outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.contracts import Kind, ModalityInput
from models.encoders.base import ModalityEncoder
from models.pretraining_cardiac import ECG_TARGETS, ECHO_TARGETS, ReadingBatch
from sample_data.ecg_signal import render_ecg
from sample_data.echo_loop import render_loop
from sample_data.heart import VIEWS, Heart
from sample_data.heart_encoding import ecg_input, echo_input
from sample_data.heart_outcomes import t_inversion_shown

# Far from any cohort's seeds, so that no pretraining heart is also a cohort's.
_PRETRAINING_STREAM = 990_002
# Views rendered of a heart: a few of many hearts teach more than all of a few.
_VIEWS_A_HEART = 4
DOPPLER = tuple(view for view in VIEWS if "Doppler" in view)
_LEAD_LOST = 0.15

Example = tuple[dict[str, np.ndarray], np.ndarray]


def draw_heart(rng: np.random.Generator) -> Heart:
    """A heart for pretraining: findings independent of each other and spread widely."""
    block = str(rng.choice(["none", "left", "right"], p=[0.66, 0.2, 0.14]))
    qrs = rng.uniform(76, 118) if block == "none" else rng.uniform(124, 180)
    af = bool(rng.random() < 0.25)
    inversion = float(np.clip(rng.uniform(-0.6, 1.0), 0.0, 1.0)) if block != "left" else 0.0
    return Heart(
        rate_bpm=float(rng.uniform(48, 130)),
        rhythm="af" if af else "sinus",
        pr_ms=float(rng.uniform(115, 260)),
        qrs_ms=float(qrs),
        qtc_ms=float(rng.uniform(375, 500)),
        axis_deg=float(rng.uniform(-65, 105)),
        block=block,  # type: ignore[arg-type]
        voltage=float(rng.uniform(0.6, 1.95)),
        t_inversion=inversion,
        st_mv=float(np.clip(-0.06 * inversion + 0.04 * rng.normal(), -0.2, 0.15)),
        noise_mv=float(0.01 * np.exp(0.4 * rng.normal())),
        wander_mv=float(0.05 * np.exp(0.5 * rng.normal())),
        ejection_fraction=float(rng.uniform(0.15, 0.75)),
        lv_diameter_mm=float(rng.uniform(38, 70)),
        wall_mm=float(rng.uniform(6.5, 17)),
        la_diameter_mm=float(rng.uniform(27, 60)),
        rv_diameter_mm=float(rng.uniform(23, 48)),
        regurgitation=float(np.clip(rng.uniform(-0.4, 1.0), 0.0, 1.0)),
        gain=float(np.exp(0.12 * rng.normal())),
        depth_mm=float(rng.uniform(138, 188)),
    )


def ecg_measurements(heart: Heart) -> dict[str, float]:
    """What is measured on the heart's ECG; NaN where it cannot be."""
    af = heart.rhythm == "af"
    return {
        "rate_bpm": heart.rate_bpm,
        "pr_ms": float("nan") if af else heart.pr_ms,
        "qrs_ms": heart.qrs_ms,
        "qtc_ms": heart.qtc_ms,
        "axis_deg": heart.axis_deg,
        "af": float(af),
        "lbbb": float(heart.block == "left"),
        "rbbb": float(heart.block == "right"),
        "voltage": heart.voltage,
        "t_inversion": t_inversion_shown(heart),
        # A bundle branch block shifts ST by itself.
        "st_mv": heart.st_mv if heart.block == "none" else float("nan"),
    }


def echo_measurements(heart: Heart) -> dict[str, float]:
    """What is measured on the heart's echo; regurgitation needs a colour Doppler view."""
    seen = any(view in DOPPLER for view in heart.views)
    return {
        "ejection_fraction": heart.ejection_fraction,
        "lv_diameter_mm": heart.lv_diameter_mm,
        "wall_mm": heart.wall_mm,
        "la_diameter_mm": heart.la_diameter_mm,
        "rv_diameter_mm": heart.rv_diameter_mm,
        "regurgitation": heart.regurgitation if seen else float("nan"),
    }


def ecg_example(encoder: ModalityEncoder, rng: np.random.Generator) -> Example:
    """A fresh ECG as the encoder reads it, with its measurements; now and then a lead is off."""
    heart = draw_heart(rng)
    item = ecg_input(encoder, render_ecg(heart, rng).array)
    signal, mask = item.fields["signal"][0].numpy(), item.fields["mask"][0].numpy()
    if rng.random() < _LEAD_LOST:
        lost = rng.choice(len(mask), size=int(rng.integers(1, 4)), replace=False)
        mask[lost], signal[lost] = False, 0
    measured = ecg_measurements(heart)
    return {"signal": signal, "mask": mask}, _row(measured, [t.name for t in ECG_TARGETS])


def echo_example(encoder: ModalityEncoder, rng: np.random.Generator) -> Example:
    """A fresh echo of a few views, as uint8 so that many fit into memory."""
    heart = draw_heart(rng)
    chosen = rng.choice(len(VIEWS), size=_VIEWS_A_HEART, replace=False)
    heart = replace(heart, views=tuple(VIEWS[i] for i in sorted(chosen)))
    loops = {view: render_loop(heart, view, rng).frames for view in heart.views}
    item = echo_input(encoder, loops)
    there = item.fields["mask"][0]
    video = item.fields["video"][0][there].numpy().astype(np.uint8)
    measured = _row(echo_measurements(heart), [t.name for t in ECHO_TARGETS])
    return {"video": video, "mask": there.numpy()}, measured


def _row(measured: dict[str, float], names: list[str]) -> np.ndarray:
    return np.array([measured[name] for name in names], np.float32)


@dataclass(frozen=True)
class _Source:
    """What a stream draws: which example, for which encoder."""

    draw: Callable[[ModalityEncoder, np.random.Generator], Example]
    encoder: ModalityEncoder


class _Hearts(IterableDataset[Example]):
    """Endless examples; every worker has a stream of its own."""

    def __init__(self, source: _Source, seed: int) -> None:
        self.source = source
        self.seed = seed

    def __iter__(self) -> Iterator[Example]:
        torch.set_num_threads(1)
        info = get_worker_info()
        rng = np.random.default_rng([_PRETRAINING_STREAM, self.seed, info.id if info else 0])
        while True:
            yield self.source.draw(self.source.encoder, rng)


def ecg_batches(
    encoder: ModalityEncoder, seed: int, batch_size: int = 24, *, workers: int = 1
) -> Iterator[ReadingBatch]:
    """Endless batches of ECGs with `ECG_TARGETS`."""
    names = [target.name for target in ECG_TARGETS]
    source = _Source(ecg_example, encoder)
    for examples in _mixed(source, seed, batch_size, batch_size // 2, 4000, workers):
        fields = {
            key: torch.from_numpy(np.stack([inputs[key] for inputs, _ in examples]))
            for key in ("signal", "mask")
        }
        present = torch.ones(len(examples), dtype=torch.bool)
        yield ReadingBatch(ModalityInput(Kind.SIGNAL, fields, present), _targets(examples, names))


def echo_batches(
    encoder: ModalityEncoder, seed: int, batch_size: int = 8, *, workers: int = 1
) -> Iterator[ReadingBatch]:
    """Endless batches of echoes of a few views with `ECHO_TARGETS`."""
    names = [target.name for target in ECHO_TARGETS]
    source = _Source(echo_example, encoder)
    for examples in _mixed(source, seed, batch_size, max(batch_size // 3, 1), 600, workers):
        masks = np.stack([inputs["mask"] for inputs, _ in examples])
        first = examples[0][0]["video"]
        video = torch.zeros(*masks.shape, *first.shape[1:])
        for row, (inputs, _) in enumerate(examples):
            video[row, torch.from_numpy(inputs["mask"])] = torch.from_numpy(inputs["video"]).float()
        fields = {"video": video, "mask": torch.from_numpy(masks)}
        present = torch.ones(len(examples), dtype=torch.bool)
        yield ReadingBatch(ModalityInput(Kind.VIDEO, fields, present), _targets(examples, names))


def _targets(examples: list[Example], names: list[str]) -> dict[str, torch.Tensor]:
    rows = torch.from_numpy(np.stack([measured for _, measured in examples]))
    return {name: rows[:, i] for i, name in enumerate(names)}


def _as_drawn(example: Example) -> Example:
    return example


def _mixed(
    source: _Source, seed: int, batch_size: int, fresh: int, memory: int, workers: int
) -> Iterator[list[Example]]:
    """`fresh` new examples a batch, the rest drawn from the latest `memory` ones."""
    rng = np.random.default_rng([_PRETRAINING_STREAM, seed, 7])
    loader = DataLoader(
        _Hearts(source, seed),
        batch_size=None,
        collate_fn=_as_drawn,
        num_workers=workers,
        prefetch_factor=16 if workers else None,
    )
    stream = iter(loader)
    kept: deque[Example] = deque(maxlen=memory)
    while True:
        new = [next(stream) for _ in range(fresh if len(kept) >= 4 * batch_size else batch_size)]
        old = [kept[i] for i in rng.integers(0, max(len(kept), 1), batch_size - len(new))]
        kept.extend(new)
        yield [*new, *old]
