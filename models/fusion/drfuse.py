"""DrFuse-style fusion: what modalities share apart from what each alone says."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.fusion.base import STRATEGIES, Combined, FusionConfig, FusionStrategy, Stream
from models.fusion.base import StreamWidths as Widths
from models.pooling import masked_softmax


class DrFuseConfig(FusionConfig):
    """Weights of the three losses of disentangling: similarity, orthogonality, reconstruction."""

    similarity_weight: float = Field(default=0.5, ge=0)
    orthogonality_weight: float = Field(default=0.1, ge=0)
    reconstruction_weight: float = Field(default=0.1, ge=0)


@STRATEGIES.register("drfuse")
class DrFuse(FusionStrategy):
    """Disentangled shared and unique features (DrFuse-style, Yao et al. 2024).

    Each modality gives a shared and a unique vector. Shared ones of a patient are drawn together
    (mean squared distance, in place of the paper's Jensen-Shannon divergence), each is kept
    orthogonal to its unique one (squared cosine), and a modality must be told from another's
    shared vector (mean squared distance, no gradient to what is told). The shared vector of a
    patient is the mean over the modalities that are there, so it survives the loss of any one.

    Attention for each output (the paper's disease-wise attention): a prototype an output weighs
    the shared vector and the unique ones of the present modalities, and reads their weighted sum.
    Nothing of an absent modality enters; a patient without any has a learnt shared vector.
    A re-implementation for any number of modalities, without the paper's ranking of attention.
    """

    title = "DrFuse-style disentangling"
    Config = DrFuseConfig
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: DrFuseConfig) -> None:
        super().__init__(streams, outputs, config)
        self.settings = config
        width = config.width

        def network() -> nn.Module:
            hidden = (nn.Linear(width, width), nn.GELU(), nn.Dropout(config.dropout))
            return nn.Sequential(*hidden, nn.Linear(width, width))

        self.shared = nn.ModuleDict({name: network() for name in streams})
        self.unique = nn.ModuleDict({name: network() for name in streams})
        self.tell = nn.ModuleDict({name: nn.Linear(width, width) for name in streams})
        self.nothing = nn.Parameter(torch.randn(width) * 0.1)
        self.norm = nn.LayerNorm(width)
        self.prototype = nn.Parameter(torch.randn(outputs, width))
        self.drop = nn.Dropout(config.dropout)
        self.read = nn.Parameter(torch.randn(outputs, width) * 0.01)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=outputs > 1)

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """Shared and unique vectors, weighed by each output's prototype."""
        present = torch.stack([stream.present for stream in streams.values()], dim=1)
        shared = {n: self.shared[n](s.summary) * s.present[:, None] for n, s in streams.items()}
        unique = {n: self.unique[n](s.summary) * s.present[:, None] for n, s in streams.items()}
        count = present.sum(dim=1, keepdim=True)
        mean = torch.stack(list(shared.values())).sum(dim=0) / count.clamp(min=1)
        common = torch.where(count > 0, mean, self.nothing)
        vectors = self.norm(torch.stack([common, *unique.values()], dim=1))
        mask = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)
        scores = self.prototype @ vectors.transpose(1, 2) / vectors.shape[2] ** 0.5
        weights = masked_softmax(scores, mask[:, None].expand_as(scores))
        seen = weights @ vectors
        losses = {}
        if self.training:
            losses["disentangling"] = self.disentangling(streams, shared, unique)
        return Combined(
            prediction=(self.drop(seen) * self.read).sum(dim=2) + self.bias,
            after=shared,
            fused=seen.flatten(1),
            gates=dict(zip(("shared", *streams), weights.mean(dim=1).T, strict=True)),
            losses=losses,
        )

    def disentangling(
        self,
        streams: Mapping[str, Stream],
        shared: Mapping[str, Tensor],
        unique: Mapping[str, Tensor],
    ) -> Tensor:
        """The weighted losses, each a mean over modalities or pairs that some patient has."""
        config = self.settings
        apart = [
            F.cosine_similarity(shared[n][s.present], unique[n][s.present]).square().mean()
            for n, s in streams.items()
            if bool(s.present.any())
        ]
        near, told = [], []
        for a, b in combinations(streams, 2):
            both = streams[a].present & streams[b].present
            if bool(both.any()):
                near.append(F.mse_loss(shared[a][both], shared[b][both]))
        for a, b in permutations(streams, 2):
            both = streams[a].present & streams[b].present
            if bool(both.any()):
                target = streams[a].summary[both].detach()
                told.append(F.mse_loss(self.tell[a](shared[b][both]), target))
        total = next(iter(shared.values())).sum() * 0.0
        for weight, terms in (
            (config.similarity_weight, near),
            (config.orthogonality_weight, apart),
            (config.reconstruction_weight, told),
        ):
            if terms:
                total = total + weight * torch.stack(terms).mean()
        return total
