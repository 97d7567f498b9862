"""Bags of instances: gated-attention multiple-instance learning."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.contracts import Encoded, Instances, Kind, ModalityInput
from models.encoders.base import (
    ENCODERS,
    EncoderConfig,
    ModalityEncoder,
    SummaryOfTokens,
)
from models.pooling import GatedAttentionPool


class GatedAttentionMILConfig(EncoderConfig):
    """feature_width: width of an instance as stored; hidden widths after Ilse et al. 2018."""

    feature_width: int = Field(gt=0)
    token_width: int = Field(default=64, gt=0)
    attention_width: int = Field(default=32, gt=0)
    dropout: float = Field(default=0.25, ge=0, lt=1)


@ENCODERS.register("gated_attention_mil")
class GatedAttentionMIL(ModalityEncoder, SummaryOfTokens):
    """Gated-attention MIL (Ilse, Tomczak & Welling 2018, eqs 8-9; HAF eqs 1-2).

    tokens (B, N, token_width): projected instances. pooled (B, token_width): their
    attention-weighted mean.
    """

    kind = Kind.BAG
    Config = GatedAttentionMILConfig
    mean: Tensor
    scale: Tensor

    def __init__(self, config: GatedAttentionMILConfig) -> None:
        super().__init__(config)
        self.config: GatedAttentionMILConfig = config
        self.register_buffer("mean", torch.zeros(config.feature_width))
        self.register_buffer("scale", torch.ones(config.feature_width))
        self.project = nn.Sequential(
            nn.Linear(config.feature_width, config.token_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.pool = GatedAttentionPool(config.token_width, config.attention_width)
        self.token_width = config.token_width
        self.pooled_width = config.token_width

    def fit(self, inputs: ModalityInput) -> None:
        """Feature means and scales over all training instances."""
        seen = inputs.fields["features"][inputs.fields["mask"]]
        if len(seen) > 1:
            self.mean.copy_(seen.mean(dim=0))
            self.scale.copy_(seen.std(dim=0).clamp_min(1e-6))

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Projected instances and their gated-attention mean."""
        mask = inputs.fields["mask"] & inputs.present[:, None]
        z = ((inputs.fields["features"] - self.mean) / self.scale).clamp(-6.0, 6.0)
        tokens = self.project(z) * mask[..., None]
        pooled, attention = self.pool(tokens, mask)
        return Encoded(
            tokens=tokens,
            mask=mask,
            pooled=pooled,
            present=inputs.present,
            layout=Instances(),
            attention=attention,
        )

    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Their attention-weighted mean."""
        pooled: Tensor = self.pool(tokens, mask)[0]
        return pooled
