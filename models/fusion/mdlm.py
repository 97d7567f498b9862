"""MDLM-style late fusion: risk scores learnt apart, then aggregated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Head, Stream
from models.fusion.base import StreamWidths as Widths
from models.pooling import masked_softmax


@STRATEGIES.register("mdlm")
class MDLM(FusionStrategy):
    """Modality-specific risk scores, aggregated (MDLM-style, Tian et al. 2025).

    Each modality's score is learnt on the outcome by itself (`unimodal`); the aggregate learns
    only how much each score counts, its loss changes no score. The weights are a softmax over
    the modalities that a patient has, times one common slope: an absent modality has no score and
    no stand-in, the others count more. `late` differs in both: its branches learn from the sum as
    well, and an absent one adds a learnt constant. A re-implementation of the idea for any number
    of modalities; a patient without any has the prediction 0 (the bias, for classes).
    """

    title = "MDLM-style risk scores"
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: FusionConfig) -> None:
        super().__init__(streams, outputs, config)
        self.heads = nn.ModuleDict(
            {name: Head(config.width, config.width, outputs, config.dropout) for name in streams}
        )
        self.weight = nn.Parameter(torch.zeros(len(streams)))
        # softplus(0.54) is 1: the aggregate starts as the mean of the scores.
        self.slope = nn.Parameter(torch.tensor(1.0).expm1().log())
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=outputs > 1)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Weighted scores; in training their gradient ends at the weights."""
        scores = {}
        for name, stream in streams.items():
            score = self.heads[name](stream.summary)
            scores[name] = score + linear[name] if name in linear else score
        present = torch.stack([stream.present for stream in streams.values()], dim=1)
        weights = masked_softmax(self.weight.expand(present.shape), present)
        stacked = torch.stack(list(scores.values()), dim=1)
        if self.training:
            stacked = stacked.detach()
        total = (weights[..., None] * stacked).sum(dim=1) * F.softplus(self.slope) + self.bias
        return Combined(
            prediction=total,
            after={},
            fused=torch.cat([stream.summary for stream in streams.values()], dim=1),
            gates=dict(zip(streams, weights.T, strict=True)),
            unimodal=scores,
            includes_linear=True,
        )
