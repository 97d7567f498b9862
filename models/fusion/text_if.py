"""Text-IF's guidance: one modality scales and shifts the features of the others."""

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


class TextIFConfig(FusionConfig):
    """text: the modality that guides; the first one if not said."""

    text: str | None = None


@STRATEGIES.register("text_if")
class TextIF(FusionStrategy):
    """Semantic guidance by feature-wise affine change (Text-IF, Yi et al. 2024; Zhang et al. 2025).

    Every other modality's tokens gather those of the remaining ones by cross-attention; then the
    text's summary makes a scale and a shift for each feature, x -> (1 + gamma) x + beta, and the
    changed tokens and the summary pass a feed-forward layer and are pooled. As in the original the
    text is read through this change alone. The change starts near none, and is none where the text
    is absent. Of an absent other modality only its learnt absent vector is changed and read, so
    that the text speaks where it is all there is.
    """

    title = "Text-IF (affine guidance)"
    Config = TextIFConfig

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: TextIFConfig) -> None:
        super().__init__(streams, outputs, config)
        self.text = config.text or self.modalities[0]
        if self.text not in self.modalities:
            raise ValueError(
                f"text modality '{self.text}' is not among {', '.join(self.modalities)}."
            )
        width = config.width
        self.others = tuple(name for name in self.modalities if name != self.text)
        self.affine = nn.ModuleDict({name: nn.Linear(width, 2 * width) for name in self.others})
        for layer in self.affine.values():
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.directions = tuple((a, b) for a in self.others for b in self.others if a != b)
        keys = [f"{a}<{b}" for a, b in self.directions]
        self.gather = nn.ModuleDict({key: CrossAttention(width, config.heads) for key in keys})
        asked_of = {source for _, source in self.directions}
        self.null = nn.ParameterDict(
            {
                name: nn.Parameter(torch.randn(width) * 0.1)
                for name in self.others
                if name in asked_of
            }
        )
        self.feed = nn.ModuleDict({n: FeedForward(width, config.dropout) for n in self.others})
        self.pool = nn.ModuleDict({n: GatedAttentionPool(width, width // 2) for n in self.others})
        self.head = Head(len(self.others) * width, width, outputs, config.dropout)

    def modulate(self, name: str, tokens: Tensor, text: Stream) -> Tensor:
        """Tokens (B, N, D) of a modality, scaled and shifted by the text."""
        change = self.affine[name](text.summary) * text.present[:, None]
        gamma, beta = change[:, None].chunk(2, dim=2)
        changed: Tensor = (1.0 + gamma) * tokens + beta
        return changed

    def alignment(self) -> Alignment:
        """Embeddings changed by the text."""
        return Alignment(
            "the modalities after the text has changed them; the text itself stays as it was. No "
            "loss aligned them."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """The other modalities, fused with each other and changed by the text."""
        text = streams[self.text]
        enriched = {name: streams[name].tokens for name in self.others}
        maps = []
        for into, source in self.directions:
            keys = with_null_key(streams[source], self.null[source])
            key = f"{into}<{source}"
            answer, weights = self.gather[key](streams[into].tokens, keys.tokens, keys.mask)
            enriched[into] = enriched[into] + answer
            if weights is not None:
                title = f"{into} to {source}"
                maps.append(AttentionMap(title, into, source, weights, True, residual=True))
        after = {self.text: text.summary}
        for name in self.others:
            stream = streams[name]
            # The summary is read as one more token, also where it is the absent vector.
            tokens = torch.cat([enriched[name], stream.summary[:, None]], dim=1)
            mask = torch.cat([stream.mask, torch.ones_like(stream.mask[:, :1])], dim=1)
            changed = self.feed[name](self.modulate(name, tokens, text))
            after[name], _ = self.pool[name](changed * mask[..., None], mask)
        fused = torch.cat([after[name] for name in self.others], dim=1)
        return Combined(
            prediction=self.head(fused), after=after, fused=fused, attention=tuple(maps)
        )
