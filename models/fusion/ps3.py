"""PS3-style fusion: a few prototypes a modality, all in one cross-modal transformer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.attention import TransformerLayer
from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Head, Stream
from models.fusion.base import StreamWidths as Widths
from models.fusion.guidance import SlotPool


class PS3Config(FusionConfig):
    """prototypes: a modality's tokens in the transformer. layers: of the transformer."""

    prototypes: int = Field(default=8, gt=0)
    layers: int = Field(default=2, gt=0)


@STRATEGIES.register("ps3")
class PS3(FusionStrategy):
    """Token-level cross-modal transformer over prototypes (PS3-style, Raza et al. 2025).

    Modalities differ in tokens by orders of magnitude, so each is first told by the same number
    of prototypes; a transformer then lets every prototype look at those of all modalities a
    patient has, and the means of each modality's prototypes are read side by side. A
    re-implementation of the idea: the prototypes here are learnt queries for any kind of
    modality (PS3's come from mixture models of slides, pathways and reports). An absent
    modality's prototypes are seen by nobody; the head reads its learnt absent vector.
    """

    title = "PS3-style transformer"
    Config = PS3Config
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: PS3Config) -> None:
        super().__init__(streams, outputs, config)
        width = config.width
        self.prototypes = nn.ModuleDict({n: SlotPool(width, config.prototypes) for n in streams})
        self.origin = nn.ParameterDict({n: nn.Parameter(torch.randn(width) * 0.1) for n in streams})
        # Always there, so that a patient without anything has something to look at.
        self.null = nn.Parameter(torch.randn(width) * 0.1)
        self.layers = nn.ModuleList(
            TransformerLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = Head(len(streams) * width, width, outputs, config.dropout)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Prototypes of all modalities, mixed, and their means read together."""
        made, masks = [], []
        for name, stream in streams.items():
            told = self.prototypes[name](stream.tokens, stream.mask) + self.origin[name]
            made.append(told)
            masks.append(stream.mask.any(dim=1)[:, None].expand(told.shape[:2]))
        rows, slots = made[0].shape[:2]
        x = torch.cat([*made, self.null.expand(rows, 1, -1)], dim=1)
        mask = torch.cat([*masks, torch.ones_like(masks[0][:, :1])], dim=1)
        for layer in self.layers:
            x = layer(x, mask)
        mixed = self.norm(x).split([slots] * len(made) + [1], dim=1)[:-1]
        after = {
            name: torch.where(there[:, :1], part.mean(dim=1), stream.summary)
            for (name, stream), part, there in zip(streams.items(), mixed, masks, strict=True)
        }
        fused = torch.cat(list(after.values()), dim=1)
        return Combined(prediction=self.head(fused), after=after, fused=fused)
