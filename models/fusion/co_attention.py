"""Co-attention: one shared affinity between two modalities, read in one direction or both."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.contracts import AttentionMap
from models.fusion.attention import FeedForward, attend, join_heads, maps_wanted, split_heads
from models.fusion.base import (
    STRATEGIES,
    Alignment,
    Combined,
    FusionConfig,
    FusionStrategy,
    Head,
    Stream,
    with_null_key,
)
from models.fusion.base import StreamWidths as Widths
from models.pooling import GatedAttentionPool


class CoAttentionConfig(FusionConfig):
    """guide: the guiding modality, or 'both' for all directions."""

    guide: str = Field(default="both")


class Affinity(nn.Module):
    """Affinity between two modalities' tokens: bilinear, per head, scaled by the root of d."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.a = nn.Linear(width, width)
        self.b = nn.Linear(width, width)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The two factors (B, heads, N, d) and (B, heads, M, d), whose product is the affinity."""
        return split_heads(self.a(a), self.heads), split_heads(self.b(b), self.heads)


@STRATEGIES.register("co_attention")
class CoAttentionFusion(FusionStrategy):
    """Guided co-attention (Lu et al. 2016; MCAT, Chen et al. 2021; Zhang et al. 2026).

    For every pair of modalities one affinity matrix is computed. The guide's tokens gather the
    other modality's tokens by a softmax over its columns ('image-guided': CT regions gather
    events; 'EHR-guided': events gather CT regions); 'both' reads the same affinity along both
    axes. The gathered and the guiding stream each pass a feed-forward layer and a
    gated-attention pool, and are read together. An absent modality leaves only its null token.
    """

    title = "Co-attention"
    Config = CoAttentionConfig

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: CoAttentionConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        names = self.modalities
        if config.guide != "both" and config.guide not in names:
            raise ValueError(
                f"guide '{config.guide}' is neither 'both' nor one of {', '.join(names)}."
            )
        width = config.width
        self.directions = tuple(
            (guide, other)
            for a, b in combinations(names, 2)
            for guide, other in ((a, b), (b, a))
            if config.guide in ("both", guide)
        )
        used = {frozenset(direction) for direction in self.directions}
        self.affinity = nn.ModuleDict(
            {
                f"{a}|{b}": Affinity(width, config.heads)
                for a, b in combinations(names, 2)
                if frozenset((a, b)) in used
            }
        )
        keys = [f"{guide}>{other}" for guide, other in self.directions]
        self.value = nn.ModuleDict({key: nn.Linear(width, width) for key in keys})
        self.gathered_feed = nn.ModuleDict(
            {key: FeedForward(width, config.dropout) for key in keys}
        )
        self.gathered_pool = nn.ModuleDict(
            {key: GatedAttentionPool(width, width // 2) for key in keys}
        )
        self.null = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width) * 0.1) for name in names}
        )
        self.heads = config.heads
        self.head = Head((len(keys) + len(names)) * width, width, outputs, config.dropout)

    def _gather(
        self, guide: str, other: str, streams: Mapping[str, Stream]
    ) -> tuple[Tensor, Tensor | None]:
        """The other modality as the guide's tokens see it, (B, N, D), and the weights."""
        a, b = (guide, other) if f"{guide}|{other}" in self.affinity else (other, guide)
        factors = dict(
            zip(
                (a, b),
                self.affinity[f"{a}|{b}"](streams[a].tokens, streams[b].tokens),
                strict=True,
            )
        )
        values = split_heads(self.value[f"{guide}>{other}"](streams[other].tokens), self.heads)
        mixed, weights = attend(
            factors[guide],
            factors[other],
            values,
            streams[other].mask,
            keep_weights=maps_wanted(self),
        )
        return join_heads(mixed), weights

    def alignment(self) -> Alignment:
        """What was gathered by co-attention."""
        return Alignment(
            "the mean of a modality's summary and what the guiding modality gathered from it by "
            "co-attention; no loss aligned them."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Gathered streams beside the modalities' own summaries."""
        padded = {name: with_null_key(s, self.null[name]) for name, s in streams.items()}
        maps, parts = [], []
        after = {name: [stream.summary] for name, stream in streams.items()}
        for guide, other in self.directions:
            key = f"{guide}>{other}"
            gathered, weights = self._gather(guide, other, padded)
            gathered = self.gathered_feed[key](gathered)
            pooled, _ = self.gathered_pool[key](gathered, padded[guide].mask)
            parts.append(pooled)
            after[other].append(pooled)
            # The guide's own null token asks too, but is no place in the input.
            if weights is not None:
                title = f"{guide} to {other}"
                seen = weights[:, :, :-1]
                maps.append(AttentionMap(title, guide, other, seen, True, source=weights))
        parts += [stream.summary for stream in streams.values()]
        fused = torch.cat(parts, dim=1)
        return Combined(
            prediction=self.head(fused),
            after={name: torch.stack(zs).mean(dim=0) for name, zs in after.items()},
            fused=fused,
            attention=tuple(maps),
        )
