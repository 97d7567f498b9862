"""Samples of single subjects, and padded batches made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.contracts import Kind, ModalityInput


@dataclass(frozen=True)
class Sample:
    """One subject. inputs: a batch of one by modality. Outcomes are None where not asked for."""

    subject_id: int
    inputs: Mapping[str, ModalityInput]
    time_days: float | None
    event: bool | None
    label: int | None


@dataclass(frozen=True)
class Batch:
    """Several subjects, padded to the longest.

    subject_ids: (B,) int64. time_days: (B,) float64 and event: (B,) bool for a survival task,
    label: (B,) int64 for a classification task, None otherwise.
    """

    subject_ids: Tensor
    inputs: Mapping[str, ModalityInput]
    time_days: Tensor | None
    event: Tensor | None
    label: Tensor | None

    def __len__(self) -> int:
        return int(self.subject_ids.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {name: item.to(device) for name, item in self.inputs.items()}
        outcome = {
            name: None if tensor is None else tensor.to(device)
            for name, tensor in (
                ("time_days", self.time_days),
                ("event", self.event),
                ("label", self.label),
            )
        }
        return replace(self, subject_ids=self.subject_ids.to(device), inputs=moved, **outcome)


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch of samples; sequences are padded at the end to the longest (at least 1)."""
    first = samples[0]
    inputs = {name: _stack([s.inputs[name] for s in samples]) for name in first.inputs}
    survival = first.time_days is not None
    labelled = first.label is not None
    return Batch(
        subject_ids=torch.tensor([s.subject_id for s in samples], dtype=torch.int64),
        inputs=inputs,
        time_days=_column([s.time_days for s in samples], torch.float64) if survival else None,
        event=_column([s.event for s in samples], torch.bool) if survival else None,
        label=_column([s.label for s in samples], torch.int64) if labelled else None,
    )


def _column(values: Sequence[float | bool | None], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def _stack(items: Sequence[ModalityInput]) -> ModalityInput:
    kind = items[0].kind
    fields = {}
    for name in items[0].fields:
        tensors = [item.fields[name] for item in items]
        if kind in (Kind.EVENTS, Kind.BAG, Kind.TEXT):
            longest = max(1, *(tensor.shape[1] for tensor in tensors))
            tensors = [_padded(tensor, longest) for tensor in tensors]
        fields[name] = torch.cat(tensors)
    return ModalityInput(kind, fields, torch.cat([item.present for item in items]))


def _padded(tensor: Tensor, length: int) -> Tensor:
    if tensor.shape[1] == length:
        return tensor
    out = tensor.new_zeros((1, length, *tensor.shape[2:]))
    out[:, : tensor.shape[1]] = tensor
    return out
