"""Attention whose weights are kept, since people look at them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pooling import masked_softmax


class CrossAttention(nn.Module):
    """Multi-head attention of queries over keys; returns the mixed values and the weights."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = dropout

    def split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, Q, D), keys (B, N, D), key_mask (B, N) -> (B, Q, D), (B, heads, Q, N)."""
        q, k, v = (
            self.split(self.query(queries)),
            self.split(self.key(keys)),
            self.split(self.value(keys)),
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = masked_softmax(scores, key_mask[:, None, None, :].expand_as(scores))
        mixed = F.dropout(weights, self.dropout, self.training) @ v
        mixed = mixed.transpose(1, 2).reshape(queries.shape)
        return self.out(mixed), weights


class FeedForward(nn.Module):
    """Residual two-layer network after attention."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.net = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        fed: Tensor = self.net(self.norm(x))
        return x + fed


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, N, D), (B, N) -> (B, D); zeros where nothing is there."""
    total = (tokens * mask[..., None]).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp_min(1)


def renormalised(summary: Tensor, present: Tensor, absent: Tensor) -> Tensor:
    """The summary where the modality is present, its learnt absent vector elsewhere."""
    return torch.where(present[:, None], summary, absent)
