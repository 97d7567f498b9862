"""Attention whose weights are kept, since people look at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch.nn.functional as F
from torch import Tensor, nn

from models.pooling import masked_softmax

_MAPS_WANTED: ContextVar[bool] = ContextVar("maps_wanted", default=True)


@contextmanager
def without_maps() -> Iterator[None]:
    """Inside, strategies in eval mode give no attention maps: the prediction alone is faster.

    The prediction is the same sum by a fused kernel; it differs in the last bits of a float32.
    """
    token = _MAPS_WANTED.set(False)
    try:
        yield
    finally:
        _MAPS_WANTED.reset(token)


def maps_wanted(module: nn.Module) -> bool:
    """Whether a strategy should keep its weights now: in eval mode, unless `without_maps`."""
    return not module.training and _MAPS_WANTED.get()


def attend(
    query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, *, keep_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention over split heads, with its weights where they are wanted.

    query (B, H, Q, d), key and value (B, H, N, d), key_mask (B, N) with at least one true each
    -> (B, H, Q, d) and weights (B, H, Q, N) or None. Without weights a fused kernel does the
    same sum without ever holding the Q x N matrix, which is what training needs.
    """
    mask = key_mask[:, None, None, :]
    if not keep_weights:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask), None
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = masked_softmax(scores, mask.expand_as(scores))
    return weights @ value, weights


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, N, heads d)."""
    return x.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Multi-head attention of queries over keys; in eval mode it also returns the weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, queries: Tensor, keys: Tensor, key_mask: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Queries (B, Q, D), keys (B, N, D), key_mask (B, N) -> (B, Q, D), (B, heads, Q, N)."""
        mixed, weights = attend(
            split_heads(self.query(queries), self.heads),
            split_heads(self.key(keys), self.heads),
            split_heads(self.value(keys), self.heads),
            key_mask,
            keep_weights=maps_wanted(self),
        )
        return self.out(join_heads(mixed)), weights


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


class TransformerLayer(nn.Module):
    """One layer of self-attention, norms before (Vaswani et al. 2017); its weights are not kept."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = CrossAttention(width, heads)
        self.drop = nn.Dropout(dropout)
        self.feed = FeedForward(width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D), mask (B, N) with at least one true each -> (B, N, D); masked ones ask only."""
        keys = self.norm(x)
        with without_maps():
            answer, _ = self.attend(keys, keys, mask)
        fed: Tensor = self.feed(x + self.drop(answer))
        return fed
