"""Mean and concatenate: each modality's tokens averaged, then read side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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


@STRATEGIES.register("mean_concat")
class MeanConcat(FusionStrategy):
    """Feature-level concatenation (Steyaert et al. 2023), 'Meancat' of Zhang et al. 2025.

    The mean of a modality's tokens, all modalities side by side, one head. An absent modality is
    its learnt absent vector. Nothing decides what matters before the head.
    """

    title = "Mean and concatenate"

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: FusionConfig) -> None:
        super().__init__(streams, outputs, config)
        width = config.width
        self.head = Head(len(streams) * width, width, outputs, config.dropout)

    def alignment(self) -> Alignment:
        """Means of tokens; they meet in the head only."""
        return Alignment(
            "the mean of each modality's tokens, as the head reads them side by side; nothing was "
            "aligned."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """One head on the means."""
        means = {name: mean_of(stream) for name, stream in streams.items()}
        fused = torch.cat(list(means.values()), dim=1)
        return Combined(prediction=self.head(fused), after=means, fused=fused)


def mean_of(stream: Stream) -> Tensor:
    """(B, D) mean of a modality's real tokens; its learnt absent vector where it is absent.

    A modality that is there without a single token is told by its summary.
    """
    counts = stream.mask.sum(dim=1, keepdim=True)
    mean = (stream.tokens * stream.mask[..., None]).sum(dim=1) / counts.clamp(min=1)
    return torch.where(counts > 0, mean, stream.summary)
