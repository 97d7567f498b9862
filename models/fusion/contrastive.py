"""Contrastive fusion: modalities of one patient are pulled together, then read jointly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from pydantic import Field
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
from models.losses import info_nce


class ContrastiveConfig(FusionConfig):
    """temperature: start of the learnt InfoNCE temperature. alignment_weight: of its loss."""

    temperature: float = Field(default=0.2, gt=0)
    alignment_weight: float = Field(default=0.1, ge=0)


@STRATEGIES.register("contrastive")
class ContrastiveFusion(FusionStrategy):
    """InfoNCE alignment + outcome loss on the aligned embeddings (Zhang et al. 2026).

    Each summary is projected to a shared unit sphere; for every pair of modalities the
    symmetric InfoNCE loss (van den Oord et al. 2018) makes one patient's embeddings neighbours.
    The head reads the aligned embeddings together with their elementwise products, so that
    what modalities say jointly is as reachable as what each says alone.
    """

    title = "Contrastive alignment"
    Config = ContrastiveConfig

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: ContrastiveConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        width = config.width
        self.align = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
                for name in streams
            }
        )
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in streams})
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())
        self.alignment_weight = config.alignment_weight
        pairs = len(streams) * (len(streams) - 1) // 2
        self.scale = width**0.5
        self.head = Head((len(streams) + pairs) * width, width, outputs, config.dropout)

    def alignment(self) -> Alignment:
        """The shared sphere, and the loss that is taken on it."""
        return Alignment(
            "each modality projected onto one unit sphere, which the head reads.", "InfoNCE"
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Aligned embeddings, their products, one head; the alignment loss beside it."""
        after = {
            name: F.normalize(self.align[name](stream.summary), dim=1)
            for name, stream in streams.items()
        }
        read = {
            name: torch.where(streams[name].present[:, None], z * self.scale, self.absent[name])
            for name, z in after.items()
        }
        parts = list(read.values())
        parts += [read[a] * read[b] for a, b in combinations(read, 2)]
        fused = torch.cat(parts, dim=1)
        losses = {}
        if self.training and self.alignment_weight:
            temperature = self.log_temperature.exp().clamp(0.02, 2.0)
            terms = []
            for a, b in combinations(after, 2):
                both = streams[a].present & streams[b].present
                if int(both.sum()) > 1:
                    terms.append(info_nce(after[a][both], after[b][both], temperature))
            if terms:
                losses["alignment"] = self.alignment_weight * torch.stack(terms).mean()
        return Combined(prediction=self.head(fused), after=after, fused=fused, losses=losses)
