"""CMTA: each modality is translated into the others, and translations are held to the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.contracts import AttentionMap
from models.fusion.attention import CrossAttention, FeedForward, without_maps
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


class CMTAConfig(FusionConfig):
    """alignment_weight: of the distance between a translation and what it should be."""

    alignment_weight: float = Field(default=1.0, ge=0)


class ClassTokenLayer(nn.Module):
    """One transformer layer over a learnt class token and a modality's tokens."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(width) * 0.1)
        self.norm_in = nn.LayerNorm(width)
        self.attend = CrossAttention(width, heads)
        self.feed = FeedForward(width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor, *, summary_only: bool) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D), mask (B, N) -> class token (B, D) and tokens (B, N, D).

        summary_only: the class token alone asks and no tokens come back (B, 0, D), which gives
        the same class token for a fraction of the time.
        """
        x = torch.cat([self.token.expand(len(tokens), 1, -1), tokens], dim=1)
        there = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        keys = self.norm_in(x)
        asking = 1 if summary_only else x.shape[1]
        # These weights are within a modality, so nobody looks at them.
        with without_maps():
            answer, _ = self.attend(keys[:, :asking], keys, there)
        x = self.norm(self.feed(x[:, :asking] + answer))
        return x[:, 0], x[:, 1:] * mask[:, : asking - 1, None]


@STRATEGIES.register("cmta")
class CMTA(FusionStrategy):
    """Cross-modal translation and alignment (CMTA, Zhou & Chen 2023; as in Zhang et al. 2025).

    An encoder sums each modality up in a class token. The tokens of a modality then gather those
    of another one, and a decoder makes of them a translation of the class token; an L1 loss draws
    it to the encoder's own (which takes no gradient of it). The head reads the mean of the two.

    Written for two modalities; for M of them pairs go round in a cycle, each in both directions,
    and a modality's translations are averaged first. Without its partner a modality is read by
    its encoder alone; an absent one is its learnt absent vector, never a translation.
    """

    title = "CMTA (translation and alignment)"
    Config = CMTAConfig

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: CMTAConfig) -> None:
        super().__init__(streams, outputs, config)
        names, width = self.modalities, config.width
        self.alignment_weight = config.alignment_weight
        cycle = [(name, names[(i + 1) % len(names)]) for i, name in enumerate(names)]
        pairs = cycle if len(names) > 2 else cycle[:1]
        # (translated modality, the one it is read from)
        self.directions = tuple(d for a, b in pairs for d in ((a, b), (b, a)))
        parts = (width, config.heads, config.dropout)
        self.encoder = nn.ModuleDict({name: ClassTokenLayer(*parts) for name in names})
        keys = [f"{into}<{source}" for into, source in self.directions]
        self.gather = nn.ModuleDict({key: CrossAttention(width, config.heads) for key in keys})
        self.null = nn.ParameterDict({n: nn.Parameter(torch.randn(width) * 0.1) for n in names})
        self.decoder = nn.ModuleDict({key: ClassTokenLayer(*parts) for key in keys})
        self.head = Head(len(names) * width, width, outputs, config.dropout)

    def alignment(self) -> Alignment:
        """Class tokens and their translations, which the L1 loss brings together."""
        return Alignment(
            "the mean of each modality's class token and its translations from the others.",
            "L1 distance of every translation to the class token that it stands for",
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Class tokens and their translations, averaged; the alignment loss beside them."""
        own, tokens = {}, {}
        for name, stream in streams.items():
            own[name], tokens[name] = self.encoder[name](
                stream.tokens, stream.mask, summary_only=False
            )
        maps = []
        translated: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in streams}
        for into, source in self.directions:
            key = f"{into}<{source}"
            both = streams[into].present & streams[source].present
            keys = with_null_key(replace(streams[source], tokens=tokens[source]), self.null[source])
            gathered, weights = self.gather[key](tokens[into], keys.tokens, keys.mask)
            summed, _ = self.decoder[key](gathered, streams[into].mask, summary_only=True)
            translated[into].append((summed, both))
            if weights is not None:
                maps.append(AttentionMap(f"{into} to {source}", into, source, weights, True))
        after, distances = {}, []
        for name, stream in streams.items():
            made = torch.stack([z for z, _ in translated[name]], dim=1)
            there = torch.stack([both for _, both in translated[name]], dim=1)
            count = there.sum(dim=1, keepdim=True)
            mean = (made * there[..., None]).sum(dim=1) / count.clamp(min=1)
            read = torch.where(count > 0, (own[name] + mean) / 2, own[name])
            after[name] = torch.where(stream.present[:, None], read, stream.summary)
            if bool(there.any()):
                target = own[name].detach()[:, None].expand_as(made)
                distances.append(F.l1_loss(made[there], target[there]))
        losses = {}
        if self.training and self.alignment_weight and distances:
            losses["alignment"] = self.alignment_weight * torch.stack(distances).mean()
        fused = torch.cat(list(after.values()), dim=1)
        return Combined(
            prediction=self.head(fused),
            after=after,
            fused=fused,
            attention=tuple(maps),
            losses=losses,
        )
