"""Cross-attention: one modality asks, the others answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.contracts import AttentionMap
from models.fusion.attention import CrossAttention, FeedForward
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


class CrossAttentionConfig(FusionConfig):
    """query: the modality that asks; the first one if not said."""

    query: str | None = None


@STRATEGIES.register("cross_attention")
class CrossAttentionFusion(FusionStrategy):
    """Transformer cross-attention (Vaswani et al. 2017; Zhang et al. 2026).

    Tokens of the query modality attend to the tokens of each other modality, the answer is
    added to the query (residual) and passes a feed-forward layer; the enriched query tokens
    are pooled and read with the query's own summary. A query modality that is absent is
    replaced by its learnt absent vector as the only query; an absent key modality leaves only
    the null key.
    """

    title = "Cross-attention"
    Config = CrossAttentionConfig

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: CrossAttentionConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        self.query = config.query or self.modalities[0]
        if self.query not in self.modalities:
            raise ValueError(
                f"query modality '{self.query}' is not among {', '.join(self.modalities)}."
            )
        width = config.width
        self.others = tuple(name for name in self.modalities if name != self.query)
        self.norm_query = nn.LayerNorm(width)
        self.attend = nn.ModuleDict(
            {name: CrossAttention(width, config.heads) for name in self.others}
        )
        self.null = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width) * 0.1) for name in self.others}
        )
        self.feed = FeedForward(width, config.dropout)
        self.pool = GatedAttentionPool(width, width // 2)
        self.answer_pool = nn.ModuleDict(
            {name: GatedAttentionPool(width, width // 2) for name in self.others}
        )
        self.head = Head((2 + len(self.others)) * width, width, outputs, config.dropout)

    def alignment(self) -> Alignment:
        """What was read by cross-attention."""
        return Alignment(
            "the query modality's tokens after attention, and what it read from each of the "
            "others; no loss aligned them."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Query tokens enriched by every other modality."""
        asking = streams[self.query]
        # An absent query still asks once, with its learnt absent vector.
        queries, query_mask = asking.tokens, asking.mask.clone()
        stand_in = ~asking.present
        if stand_in.any():
            queries = queries.clone()
            queries[stand_in, 0] = asking.summary[stand_in].to(queries.dtype)
            query_mask[stand_in, 0] = True
        maps, answers, enriched = [], [], queries
        for name in self.others:
            keys = with_null_key(streams[name], self.null[name])
            answer, weights = self.attend[name](self.norm_query(queries), keys.tokens, keys.mask)
            pooled, _ = self.answer_pool[name](answer, query_mask)
            answers.append(pooled)
            enriched = enriched + answer
            if weights is not None:
                title = f"{self.query} to {name}"
                maps.append(AttentionMap(title, self.query, name, weights, True, residual=True))
        enriched = self.feed(enriched) * query_mask[..., None]
        pooled, _ = self.pool(enriched, query_mask)
        fused = torch.cat([pooled, asking.summary, *answers], dim=1)
        after = {self.query: pooled, **dict(zip(self.others, answers, strict=True))}
        return Combined(
            prediction=self.head(fused), after=after, fused=fused, attention=tuple(maps)
        )
