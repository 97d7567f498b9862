"""Modality dropout: hide modalities hard while training, and never put anything in their place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Stream
from models.fusion.base import StreamWidths as Widths


class ModalityDropoutConfig(FusionConfig):
    """modality_dropout: the base's, higher here (Wang et al. 2023 use 0.3 to 0.5)."""

    modality_dropout: float = Field(default=0.4, ge=0, lt=1)


@STRATEGIES.register("modality_dropout")
class ModalityDropout(FusionStrategy):
    """Modality dropout with scaling (ModDrop, Neverova et al. 2016; Wang et al. 2023).

    Hiding modalities at random is a setting that every strategy here has (`modality_dropout`);
    with the learnt absent vectors of `mean_concat` nothing more than that would be left of this
    one. What is its own: the first layer of an MLP on concatenated vectors is a sum of one term
    a modality, from which the hidden and the absent are left out, and the rest is scaled by
    (all modalities / those there), as dropout scales what it keeps. Nothing stands in for what
    is missing, neither a zero that would be read as a value nor a learnt vector, and training
    and use are the same sum. A patient without anything has the constant of the layer alone.
    """

    title = "Modality dropout"
    Config = ModalityDropoutConfig
    min_modalities = 1

    def __init__(
        self, streams: Mapping[str, Widths], outputs: int, config: ModalityDropoutConfig
    ) -> None:
        super().__init__(streams, outputs, config)
        width = config.width
        self.first = nn.ModuleDict({n: nn.Linear(width, width, bias=False) for n in streams})
        self.bias = nn.Parameter(torch.zeros(width))
        self.rest = nn.Sequential(nn.GELU(), nn.Dropout(config.dropout))
        self.last = nn.Linear(width, outputs, bias=outputs > 1)
        nn.init.normal_(self.last.weight, std=0.01)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """The scaled sum of what is there, and the rest of the MLP."""
        terms = {
            name: self.first[name](stream.summary) * stream.present[:, None]
            for name, stream in streams.items()
        }
        present = torch.stack([stream.present for stream in streams.values()], dim=1)
        scale = len(streams) / present.sum(dim=1, keepdim=True).clamp(min=1)
        fused = self.rest(scale * torch.stack(list(terms.values())).sum(dim=0) + self.bias)
        return Combined(prediction=self.last(fused), after=terms, fused=fused)
