"""Missing tokens: what a patient lacks is a learnt token that the others can look at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.attention import TransformerLayer
from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Head, Stream
from models.fusion.base import StreamWidths as Widths
from models.fusion.guidance import SlotPool


class MissingTokenConfig(FusionConfig):
    """slots: tokens a modality always has."""

    slots: int = Field(default=4, gt=0)


@STRATEGIES.register("missing_token")
class MissingToken(FusionStrategy):
    """Learnt missing tokens, no mask (the mask token of Devlin et al. 2019, for modalities).

    Every modality always has the same number of tokens: its own, drawn together by learnt
    queries, or, where it is absent, as many learnt missing tokens. One transformer layer mixes
    all tokens without any mask and the head reads them all, concatenated. So absence is an
    input like any other: the tokens of other modalities see it and answer to it. Elsewhere here
    an absent modality is one learnt vector that only the head reads, and no tokens; `maria`
    is the opposite choice, which leaves what is missing out.
    """

    title = "Missing tokens"
    Config = MissingTokenConfig
    min_modalities = 1

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: MissingTokenConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        width, slots = config.width, config.slots
        self.slots = nn.ModuleDict({name: SlotPool(width, slots) for name in streams})
        self.missing = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(slots, width)) for name in streams}
        )
        self.origin = nn.ParameterDict({n: nn.Parameter(torch.randn(width) * 0.1) for n in streams})
        self.mix = TransformerLayer(width, config.heads, config.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = Head(len(streams) * slots * width, width, outputs, config.dropout)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Own or missing tokens of all modalities, mixed and read together."""
        parts = []
        for name, stream in streams.items():
            own = self.slots[name](stream.tokens, stream.mask)
            there = stream.mask.any(dim=1)[:, None, None]
            parts.append(torch.where(there, own, self.missing[name]) + self.origin[name])
        x = torch.cat(parts, dim=1)
        x = self.norm(self.mix(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)))
        slots = parts[0].shape[1]
        after = dict(zip(streams, (p.mean(dim=1) for p in x.split(slots, dim=1)), strict=True))
        fused = x.flatten(1)
        return Combined(prediction=self.head(fused), after=after, fused=fused)
