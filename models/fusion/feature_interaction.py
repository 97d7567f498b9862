"""Feature interaction: every pair of modalities multiplied, in a low rank."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Head, Stream
from models.fusion.base import StreamWidths as Widths


class FeatureInteractionConfig(FusionConfig):
    """rank: of a pair's bilinear form, the width of its interaction."""

    rank: int = Field(default=16, gt=0)


@STRATEGIES.register("feature_interaction")
class FeatureInteraction(FusionStrategy):
    """Pairwise bilinear interactions (in the manner of CustOmics, Benkirane et al. 2025).

    For each pair of modalities tanh(U x_a) * tanh(V x_b), a bilinear form of low rank (Kim et al.
    2017), stands beside each modality's own vector; one head reads all. A pair that is not
    complete has a learnt vector of its own, as an absent modality has. 'Simple feature
    interaction' of HAF's comparison; a re-implementation of the idea, not of CustOmics.
    """

    title = "Bilinear feature interaction"
    Config = FeatureInteractionConfig
    min_modalities = 1

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: FeatureInteractionConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        width, rank = config.width, config.rank
        self.pairs = tuple(combinations(self.modalities, 2))
        keys = [f"{a}|{b}" for a, b in self.pairs]
        self.left = nn.ModuleDict({key: nn.Linear(width, rank) for key in keys})
        self.right = nn.ModuleDict({key: nn.Linear(width, rank) for key in keys})
        self.alone = nn.ParameterDict({key: nn.Parameter(torch.randn(rank) * 0.1) for key in keys})
        read = len(streams) * width + len(keys) * rank
        self.head = Head(read, width, outputs, config.dropout)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Own vectors and products, side by side."""
        parts = [stream.summary for stream in streams.values()]
        for a, b in self.pairs:
            key = f"{a}|{b}"
            both = streams[a].present & streams[b].present
            left, right = self.left[key](streams[a].summary), self.right[key](streams[b].summary)
            product = torch.tanh(left) * torch.tanh(right)
            parts.append(torch.where(both[:, None], product, self.alone[key]))
        fused = torch.cat(parts, dim=1)
        return Combined(prediction=self.head(fused), after={}, fused=fused)
