"""MFMF-style fusion: the other modalities say where to look in one target modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.contracts import AttentionMap, Kind
from models.fusion.attention import CrossAttention
from models.fusion.base import (
    STRATEGIES,
    Combined,
    FusionConfig,
    FusionStrategy,
    Head,
    Stream,
    with_null_key,
)
from models.fusion.base import StreamWidths as Widths
from models.pooling import GatedAttentionPool


class MFMFConfig(FusionConfig):
    """target: the modality that is looked at; empty: the first bag, else the first modality."""

    target: str = ""


@STRATEGIES.register("mfmf")
class MFMF(FusionStrategy):
    """Auxiliary modalities compute attention over one target (MFMF-style, Dang et al. 2024).

    Tokens of each auxiliary modality ask, tokens of the target answer; all values come from the
    target, so the auxiliary ones change only what of it is seen. The answers of the auxiliary
    modalities that a patient has are averaged; with none of them the target's own summary is
    read. A patient without the target has a learnt null token as the only answer. A
    re-implementation of the idea: the paper's modalities are foundation models of one slide.
    """

    title = "MFMF-style target attention"
    Config = MFMFConfig
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: MFMFConfig) -> None:
        super().__init__(streams, outputs, config)
        self.target = config.target or next(
            (name for name, w in streams.items() if w.kind is Kind.BAG), self.modalities[0]
        )
        if self.target not in streams:
            raise ValueError(f"target '{self.target}' is not among {', '.join(streams)}.")
        width = config.width
        self.auxiliary = tuple(name for name in self.modalities if name != self.target)
        self.norm = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.auxiliary})
        self.attend = nn.ModuleDict(
            {name: CrossAttention(width, config.heads) for name in self.auxiliary}
        )
        self.null = nn.Parameter(torch.randn(width) * 0.1)
        self.pool = nn.ModuleDict(
            {name: GatedAttentionPool(width, width // 2) for name in self.auxiliary}
        )
        self.head = Head(width, width, outputs, config.dropout)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """The target as each auxiliary modality sees it, averaged."""
        target = streams[self.target]
        if not self.auxiliary:
            summary = target.summary
            return Combined(self.head(summary), after={self.target: summary}, fused=summary)
        keys = with_null_key(target, self.null)
        maps, answers, asked = [], [], []
        for name in self.auxiliary:
            asking = streams[name]
            answer, weights = self.attend[name](
                self.norm[name](asking.tokens), keys.tokens, keys.mask
            )
            answers.append(self.pool[name](answer, asking.mask)[0])
            asked.append(asking.mask.any(dim=1))
            if weights is not None:
                title = f"{name} to {self.target}"
                maps.append(AttentionMap(title, name, self.target, weights, True))
        seen, there = torch.stack(answers, dim=1), torch.stack(asked, dim=1)
        count = there.sum(dim=1, keepdim=True)
        mean = (seen * there[..., None]).sum(dim=1) / count.clamp(min=1)
        fused = torch.where(count > 0, mean, target.summary)
        return Combined(
            prediction=self.head(fused),
            after={self.target: fused, **dict(zip(self.auxiliary, answers, strict=True))},
            fused=fused,
            attention=tuple(maps),
        )
