"""Pretraining of the encoders that are then frozen: CT on radiology targets, EHR on next codes."""

from __future__ import annotations

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


def _hard_bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of lesion voxels and of the voxels most easily taken for one.

    Lesions are 0.05% of the voxels. With all other voxels as the counterpart a network learns
    where clots may lie, the arteries, and stops; against the hardest ones (ten for each lesion
    voxel, at least 0.1%) it has to tell a clot from blood.
    """
    losses = []
    for lesion in range(truth.shape[1]):
        x, t = logits[:, lesion].flatten(), truth[:, lesion].flatten() > 0.5
        outside = x[~t]
        k = max(10 * int(t.sum()), len(outside) // 1000)
        losses.append(F.softplus(outside.topk(min(k, len(outside))).values).mean())
        losses.append(0.1 * F.softplus(outside).mean())
        if bool(t.any()):
            losses.append(F.softplus(-x[t]).mean())
    return torch.stack(losses).sum() / truth.shape[1]


def _dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice over the whole batch, per lesion, where the lesion occurs at all."""
    probability = torch.sigmoid(logits)
    axes = (0, 2, 3, 4)
    overlap = (probability * truth).sum(axes)
    total = probability.sum(axes) + truth.sum(axes)
    loss = 1 - (2 * overlap + 1) / (total + 1)
    return loss[truth.sum(axes) > 0].sum() / len(LESIONS)


def radiology_loss(encoder: CTResNet, batch: RadiologyBatch) -> dict[str, Tensor]:
    """Presence (binary), size (squared error) and location (hard-negative BCE + Dice) losses."""
    # Not in bfloat16: its gradients agree with float32's to a cosine of 0.8 only, and the
    # network then never learns the small lesions.
    readings, where = encoder.read_radiology(batch.volume)
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
    return {**losses, **_location_losses(where, batch.lesions)}


def _location_losses(where: Tensor, lesions: Tensor) -> dict[str, Tensor]:
    ratio = [a // b for a, b in zip(lesions.shape[2:], where.shape[2:], strict=True)]
    truth = F.max_pool3d(lesions.float(), ratio, ratio)
    return {"location": _hard_bce(where, truth), "overlap": _dice_loss(where, truth)}


def location_loss(encoder: CTResNet, batch: RadiologyBatch) -> dict[str, Tensor]:
    """Location losses alone, on the middle of the scans: all that lies about heart and hila.

    A fifth of the voxels hold all the lesions, so this is where the fine features are learnt
    first, at a fifth of the cost.
    """
    d, h, w = batch.volume.shape[2:]
    crop = (..., slice(d // 6, d - d // 6), slice(h // 4, h - h // 4), slice(w // 6, w - w // 6))
    middle = batch.volume[crop].contiguous(memory_format=torch.channels_last_3d)
    _, _, where = encoder.lesion_features(encoder.stages(middle))
    return _location_losses(where, batch.lesions[crop])


def _in_memory_format(encoder: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the five-dimensional weights out for 3-D convolutions; no number changes."""
    for parameter in encoder.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


Losses = Callable[[CTResNet, RadiologyBatch], dict[str, Tensor]]


def pretrain_ct(
    encoder: CTResNet,
    batches: Iterator[RadiologyBatch],
    steps: int,
    *,
    losses_of: Losses = radiology_loss,
    learning_rate: float = 3e-3,
    report: Report | None = None,
) -> None:
    """Train `encoder` in place for `steps` batches with a learning rate that falls linearly."""
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=1e-3)
    encoder.train()
    _in_memory_format(encoder, torch.channels_last_3d)
    running: dict[str, float] = {}
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * max(0.02, 1 - step / steps)
        batch = next(batches)
        volume = batch.volume.contiguous(memory_format=torch.channels_last_3d)
        losses = losses_of(encoder, replace(batch, volume=volume))
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
                warm = min(1.0, (step + 1) / max(1, min(100, steps // 10)))
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
