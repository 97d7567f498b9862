"""Late fusion: each modality predicts alone, then the predictions are added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
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


@STRATEGIES.register("late")
class LateFusion(FusionStrategy):
    """Weighted sum of unimodal predictions (Zhang et al. 2026, late fusion).

    r = sum over present m of w_m r_m with learnt w_m > 0. Every branch is also trained on the
    outcome by itself (`unimodal`), so r_m is a prediction in its own right. An absent modality
    adds its branch's learnt constant.
    """

    title = "Late fusion"

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: FusionConfig) -> None:
        super().__init__(streams, outputs, config)
        self.heads = nn.ModuleDict(
            {name: Head(config.width, config.width, outputs, config.dropout) for name in streams}
        )
        start = torch.log(torch.expm1(torch.tensor(1.0)))
        self.raw_weight = nn.ParameterDict({name: nn.Parameter(start.clone()) for name in streams})

    def alignment(self) -> Alignment:
        """Nothing: the modalities meet as predictions only."""
        return Alignment(
            "there is no embedding after alignment: every modality predicts by itself, and only "
            "the predictions are added."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Sum of the weighted branches."""
        branches, weights, total = {}, {}, None
        for name, stream in streams.items():
            branch = self.heads[name](stream.summary)
            if name in linear:
                branch = branch + linear[name]
            weight = F.softplus(self.raw_weight[name])
            branches[name] = branch
            weights[name] = weight.expand(len(stream.present))
            total = weight * branch if total is None else total + weight * branch
        assert total is not None
        return Combined(
            prediction=total,
            after={},
            fused=torch.cat([stream.summary for stream in streams.values()], dim=1),
            gates=weights,
            unimodal=branches,
            includes_linear=True,
        )
