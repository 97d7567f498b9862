"""MARIA-style fusion: masked self-attention over what is there, nothing imputed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.attention import TransformerLayer
from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Head, Stream
from models.fusion.base import StreamWidths as Widths


class MARIAConfig(FusionConfig):
    """layers: of the shared transformer."""

    layers: int = Field(default=2, gt=0)


@STRATEGIES.register("maria")
class MARIA(FusionStrategy):
    """Masked self-attention over the present tokens (MARIA-style, Caruso et al. 2024).

    All tokens of all modalities and a learnt class token are one sequence; whatever a patient
    lacks, a modality or a single value of a table, is masked out of it. So no stand-in for a
    missing thing exists anywhere: the head reads the class token alone, which has looked at
    what is there. Hiding modalities while training (`modality_dropout`) is the paper's, too. A
    re-implementation of the idea in one shared transformer, where the paper first has one a
    modality.
    """

    title = "MARIA-style masked attention"
    Config = MARIAConfig
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: MARIAConfig) -> None:
        super().__init__(streams, outputs, config)
        width = config.width
        self.origin = nn.ParameterDict({n: nn.Parameter(torch.randn(width) * 0.1) for n in streams})
        self.token = nn.Parameter(torch.randn(width) * 0.1)
        self.layers = nn.ModuleList(
            TransformerLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = Head(width, width, outputs, config.dropout)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """The class token after it has looked at every present token."""
        parts = [stream.tokens + self.origin[name] for name, stream in streams.items()]
        masks = [stream.mask for stream in streams.values()]
        always = torch.ones(len(parts[0]), 1, dtype=torch.bool, device=parts[0].device)
        x = torch.cat([self.token.expand(len(parts[0]), 1, -1), *parts], dim=1)
        mask = torch.cat([always, *masks], dim=1)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        fused = x[:, 0]
        sizes = [part.shape[1] for part in parts]
        after = {
            name: masked_mean(part, there)
            for name, part, there in zip(streams, x[:, 1:].split(sizes, dim=1), masks, strict=True)
        }
        return Combined(prediction=self.head(fused), after=after, fused=fused)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, D) mean of tokens (B, N, D) where mask (B, N); 0 where there is none."""
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (tokens * mask[..., None]).sum(dim=1) / count
