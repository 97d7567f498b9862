from __future__ import annotations

import torch

from models.contracts import CodeVocabulary, Encoded, EventPositions, Kind, ModalityInput, VoxelGrid


def encoded(n: int, tokens: int, width: int, pooled: int, seed: int, missing: int = 0) -> Encoded:
    """Random tokens of random lengths; the first `missing` patients lack the modality."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (n,), generator=generator)
    present = torch.arange(n) >= missing
    mask = (torch.arange(tokens) < lengths[:, None]) & present[:, None]
    return Encoded(
        tokens=torch.randn(n, tokens, width, generator=generator) * mask[..., None],
        mask=mask,
        pooled=torch.randn(n, pooled, generator=generator) * present[:, None],
        present=present,
        layout=EventPositions(),
    )


def streams(n: int = 12, modalities: int = 2, seed: int = 0) -> dict[str, Encoded]:
    """Two or more modalities of one batch: patient 0 lacks the first, nobody lacks all."""
    shapes = [(6, 5, 7), (9, 4, 3), (4, 8, 8)]
    return {
        name: encoded(n, *shapes[i], seed=seed + i, missing=1 if i == 0 else 0)
        for i, name in enumerate(("ct", "ehr", "labs")[:modalities])
    }


def events(codes: list[list[int]], values: list[list[float | None]], days: list[list[float]]):
    """An events input from lists, padded with zeros."""
    longest = max(1, *map(len, codes))

    def pad(rows, dtype):
        return torch.tensor([list(r) + [0] * (longest - len(r)) for r in rows], dtype=dtype)

    return ModalityInput(
        Kind.EVENTS,
        {
            "codes": pad(codes, torch.int64),
            "values": pad([[v or 0.0 for v in r] for r in values], torch.float32),
            "has_value": pad([[v is not None for v in r] for r in values], torch.bool),
            "days_before": pad(days, torch.float32),
            "mask": pad([[1] * len(r) for r in codes], torch.bool),
        },
        torch.tensor([len(r) > 0 for r in codes]),
    )


__all__ = ["CodeVocabulary", "VoxelGrid", "encoded", "events", "streams"]
