"""MultiSurv's fusion: attention over modalities, apart for every feature dimension."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion.base import (
    STRATEGIES,
    Alignment,
    Combined,
    FusionConfig,
    FusionStrategy,
    Head,
    Stream,
)
from models.fusion.base import StreamWidths as Widths
from models.pooling import masked_softmax


@STRATEGIES.register("multisurv")
class MultiSurv(FusionStrategy):
    """Attentive fusion of modality vectors (Vale-Silva & Rohr 2021; as in Zhang et al. 2025).

    One linear layer and tanh score each dimension of each modality's vector; a softmax over the
    modalities makes weights for every dimension, and the fused vector is the weighted sum. Absent
    modalities get no weight, so the others' add up to 1 (the paper scales sums with zeros up
    instead). A patient without any modality has the fused vector 0.
    """

    title = "MultiSurv attention"

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: FusionConfig) -> None:
        super().__init__(streams, outputs, config)
        self.score = nn.Linear(config.width, config.width, bias=False)
        self.head = Head(config.width, config.width, outputs, config.dropout)

    def weights(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(B, M, D) weights over modalities for vectors (B, M, D), present (B, M)."""
        scores = torch.tanh(self.score(vectors)).transpose(1, 2)
        return masked_softmax(scores, present[:, None, :].expand_as(scores)).transpose(1, 2)

    def alignment(self) -> Alignment:
        """Weighted embeddings, whose sum the head reads."""
        return Alignment(
            "each modality's embedding times its attention weight, dimension by dimension; no loss "
            "aligned them."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """The weighted sum of the present summaries."""
        vectors = torch.stack([stream.summary for stream in streams.values()], dim=1)
        present = torch.stack([stream.present for stream in streams.values()], dim=1)
        weights = self.weights(vectors, present)
        fused = (weights * vectors).sum(dim=1)
        return Combined(
            prediction=self.head(fused),
            after={name: weights[:, i] * vectors[:, i] for i, name in enumerate(streams)},
            fused=fused,
            gates={name: weights[:, i].mean(dim=1) for i, name in enumerate(streams)},
        )
