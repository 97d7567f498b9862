"""Pretraining of the encoders that are then frozen: CT on radiology targets, EHR on next codes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.contracts import ModalityInput
from models.encoders.clmbr import CLMBR
from models.encoders.volume import LESIONS, RADIOLOGY_TARGETS, CTResNet

Report = Callable[[int, int, dict[str, float]], None]
"""(steps done, steps in all, running means of the losses)."""


@dataclass(frozen=True)
class RadiologyBatch:
    """Scans with what a radiologist would report, never with an outcome.

    volume (B, 1, D, H, W) HU. targets (B, 5) in the order of RADIOLOGY_TARGETS, on the training
    scale; NaN where the scan cannot show it (no RV/LV ratio without contrast). lesions
    (B, 2, D, H, W) bool masks of embolus and calcium.
    """

    volume: Tensor
    targets: Tensor
    lesions: Tensor


def _dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice over the whole batch, per lesion, where the lesion occurs at all."""
    probability = torch.sigmoid(logits)
    axes = (0, 2, 3, 4)
    overlap = (probability * truth).sum(axes)
    total = probability.sum(axes) + truth.sum(axes)
    loss = 1 - (2 * overlap + 1) / (total + 1)
    return loss[truth.sum(axes) > 0].sum() / len(LESIONS)


def radiology_loss(encoder: CTResNet, batch: RadiologyBatch) -> dict[str, Tensor]:
    """Presence (binary), size (squared error) and location (weighted BCE + Dice) losses."""
    # Half the time of float32 on a CPU with bfloat16 units; the losses themselves stay float32.
    with torch.autocast(batch.volume.device.type, torch.bfloat16):
        readings, where = encoder.read_radiology(batch.volume)
    readings = {name: value.float() for name, value in readings.items()}
    where = where.float()
    losses = {}
    for i, name in enumerate(RADIOLOGY_TARGETS):
        truth = batch.targets[:, i]
        known = ~truth.isnan()
        if not bool(known.any()):
            continue
        guess, truth = readings[name][known], truth[known]
        if name.endswith("present"):
            losses[name] = 0.5 * F.binary_cross_entropy_with_logits(guess, truth)
        else:
            losses[name] = 2.0 * F.mse_loss(guess, truth)
    ratio = [a // b for a, b in zip(batch.lesions.shape[2:], where.shape[2:], strict=True)]
    truth = F.max_pool3d(batch.lesions.float(), ratio, ratio)
    weight = torch.tensor(20.0, device=where.device)
    losses["location"] = F.binary_cross_entropy_with_logits(where, truth, pos_weight=weight)
    losses["overlap"] = _dice_loss(where, truth)
    return losses


def _in_memory_format(encoder: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the five-dimensional weights out for 3-D convolutions; no number changes."""
    for parameter in encoder.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def pretrain_ct(
    encoder: CTResNet,
    batches: Iterator[RadiologyBatch],
    steps: int,
    *,
    learning_rate: float = 3e-3,
    report: Report | None = None,
    max_seconds: float | None = None,
) -> None:
    """Train `encoder` in place for `steps` batches, or until the time is up.

    The schedule follows whichever of the two is further on, so a stopped clock still ends with
    a small learning rate.
    """
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=1e-3)
    encoder.train()
    _in_memory_format(encoder, torch.channels_last_3d)
    started = time.perf_counter()
    running: dict[str, float] = {}
    for step in range(steps):
        done = step / steps
        if max_seconds is not None:
            done = max(done, (time.perf_counter() - started) / max_seconds)
        if done >= 1:
            break
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * max(0.02, (1 - done) ** 1.0)
        batch = next(batches)
        volume = batch.volume.to(memory_format=torch.channels_last_3d)
        losses = radiology_loss(encoder, replace(batch, volume=volume))
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimizer.step()
        for name, value in losses.items():
            now = float(value.detach())
            running[name] = 0.97 * running.get(name, now) + 0.03 * now
        if report is not None:
            report(step + 1, steps, running)
    encoder.eval()
    _in_memory_format(encoder, torch.contiguous_format)


def pretrain_clmbr(
    encoder: CLMBR,
    inputs: ModalityInput,
    *,
    epochs: int = 25,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    report: Report | None = None,
) -> None:
    """Next-code and next-value pretraining in place on training patients' events.

    Patients are batched by length, so that little of a batch is padding.
    """
    rows = torch.nonzero(inputs.present)[:, 0]
    lengths = inputs.fields["mask"].sum(dim=1)[rows]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=0.01)
    per_epoch = (len(rows) + batch_size - 1) // batch_size
    steps = epochs * per_epoch
    encoder.train()
    running: dict[str, float] = {}
    step = 0
    for _ in range(epochs):
        jitter = lengths + 8 * torch.rand(len(rows), generator=generator)
        chunks = torch.split(rows[torch.argsort(jitter)], batch_size)
        for pick in torch.randperm(len(chunks), generator=generator).tolist():
            for group in optimizer.param_groups:
                warm = min(1.0, (step + 1) / 100)
                group["lr"] = learning_rate * warm * max(0.02, 1 - step / steps)
            batch = trim(inputs.take(chunks[pick]))
            losses = encoder.pretraining_loss(batch)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            step += 1
            for name, value in losses.items():
                now = float(value.detach())
                running[name] = 0.97 * running.get(name, now) + 0.03 * now
            if report is not None:
                report(step, steps, running)
    encoder.eval()


def trim(inputs: ModalityInput) -> ModalityInput:
    """An events input without the columns that are padding for every patient."""
    longest = max(int(inputs.fields["mask"].sum(dim=1).max()), 1)
    fields = {name: tensor[:, :longest] for name, tensor in inputs.fields.items()}
    return ModalityInput(inputs.kind, fields, inputs.present)
