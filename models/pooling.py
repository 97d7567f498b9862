"""Pools that turn a masked set of tokens into one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis where `mask` is true; rows without any token are all zero."""
    lowest = torch.finfo(scores.dtype).min
    weights = torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)
    return weights * mask


class GatedAttentionPool(nn.Module):
    """Gated-attention pooling (Ilse et al. 2018): a_n ~ exp(w . (tanh(V h_n) * sigm(U h_n)))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.tanh = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D), mask (B, N) -> pooled (B, D), weights (B, N) that sum to 1.

        A patient without tokens gets zeros in both; the caller knows it as absent.
        """
        hidden = torch.tanh(self.tanh(tokens)) * torch.sigmoid(self.gate(tokens))
        weights = masked_softmax(self.score(hidden)[..., 0], mask)
        return torch.einsum("bn,bnd->bd", weights, tokens), weights
