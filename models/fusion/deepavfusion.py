"""DeepAVFusion: fusion tokens talk with every modality in every layer, from the first on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.attention import CrossAttention, FeedForward, without_maps
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
from models.fusion.guidance import SlotPool
from models.fusion.mean_concat import mean_of


class DeepAVFusionConfig(FusionConfig):
    """layers: of the fusion. fusion_tokens, summary_tokens: of all, and of each modality."""

    layers: int = Field(default=2, gt=0)
    fusion_tokens: int = Field(default=4, gt=0)
    summary_tokens: int = Field(default=4, gt=0)


class DenseLayer(nn.Module):
    """One layer: each modality reads itself and the fusion tokens, which read all interactions.

    Factorised: a modality is first drawn together in a few summary tokens; the interactions of a
    pair of modalities are all pairs of their summary tokens, one from each.
    """

    def __init__(self, names: tuple[str, ...], config: DeepAVFusionConfig) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.pairs = tuple(combinations(names, 2))
        self.norm = nn.ModuleDict({name: nn.LayerNorm(width) for name in names})
        self.attend = nn.ModuleDict({name: CrossAttention(width, heads) for name in names})
        self.feed = nn.ModuleDict({name: FeedForward(width, config.dropout) for name in names})
        self.summarise = nn.ModuleDict(
            {name: SlotPool(width, config.summary_tokens) for name in names}
        )
        self.interact = nn.ModuleDict(
            {
                f"{a}|{b}": nn.Sequential(nn.Linear(2 * width, width), nn.GELU())
                for a, b in self.pairs
            }
        )
        self.norm_fusion = nn.LayerNorm(width)
        self.attend_fusion = CrossAttention(width, heads)
        self.feed_fusion = FeedForward(width, config.dropout)

    def forward(
        self, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor], fusion: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """{modality: (B, N, D)}, {modality: (B, N)}, fusion (B, T, D) -> the next layer's."""
        always = torch.ones(fusion.shape[:2], dtype=torch.bool, device=fusion.device)
        beside = self.norm_fusion(fusion)
        enriched: dict[str, Tensor] = {}
        summaries: dict[str, Tensor] = {}
        for name, x in tokens.items():
            asked = self.norm[name](x)
            context = torch.cat([asked, beside], dim=1)
            answer, _ = self.attend[name](asked, context, torch.cat([masks[name], always], dim=1))
            enriched[name] = self.feed[name](x + answer) * masks[name][..., None]
            summaries[name] = self.summarise[name](enriched[name], masks[name])
        # The fusion tokens also see themselves, and only themselves where no pair is there.
        keys, there = [beside], [always]
        for a, b in self.pairs:
            slots = summaries[a].shape[1]
            left = summaries[a][:, :, None].expand(-1, -1, slots, -1)
            right = summaries[b][:, None].expand(-1, slots, -1, -1)
            met = self.interact[f"{a}|{b}"](torch.cat([left, right], dim=3)).flatten(1, 2)
            both = masks[a].any(dim=1) & masks[b].any(dim=1)
            keys.append(met)
            there.append(both[:, None].expand(met.shape[:2]))
        answer, _ = self.attend_fusion(beside, torch.cat(keys, dim=1), torch.cat(there, dim=1))
        return enriched, self.feed_fusion(fusion + answer)


@STRATEGIES.register("deepavfusion")
class DeepAVFusion(FusionStrategy):
    """Early fusion with dense, factorised interactions (Mo & Morgado 2024; Zhang et al. 2025).

    Learnt fusion tokens stand beside every modality's tokens in each layer and attend to the
    interactions of all pairs of modalities. Written for sound and picture; here for any number,
    with every pair. The modalities come from encoders that are shared by all strategies, so the
    layers start above them (the original interleaves them with the encoders' own). A pair that
    is not there is no key; an absent modality is its learnt absent vector in the head.
    """

    title = "DeepAVFusion (dense early fusion)"
    Config = DeepAVFusionConfig

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: DeepAVFusionConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        width = config.width
        self.fusion = nn.Parameter(torch.randn(config.fusion_tokens, width) * 0.1)
        self.layers = nn.ModuleList(
            DenseLayer(self.modalities, config) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = Head((1 + len(streams)) * width, width, outputs, config.dropout)

    def alignment(self) -> Alignment:
        """Tokens after the fusion layers."""
        return Alignment(
            "the mean of each modality's tokens after the dense fusion layers; no loss aligned "
            "them."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Dense layers, then the mean of the fusion tokens and of each modality's tokens."""
        rows = len(next(iter(streams.values())).present)
        tokens = {name: stream.tokens for name, stream in streams.items()}
        masks = {name: stream.mask for name, stream in streams.items()}
        fusion = self.fusion.expand(rows, -1, -1)
        # Maps of inner layers are not shown, and would hold all tokens squared.
        with without_maps():
            for layer in self.layers:
                tokens, fusion = layer(tokens, masks, fusion)
        after = {
            name: mean_of(Stream(tokens[name], s.mask, s.summary, s.present))
            for name, s in streams.items()
        }
        fused = torch.cat([self.norm(fusion).mean(dim=1), *after.values()], dim=1)
        return Combined(prediction=self.head(fused), after=after, fused=fused)
