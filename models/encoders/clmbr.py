"""EHR as a sequence: a causal transformer pretrained by next-code prediction."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.contracts import Encoded, EventPositions, Kind, ModalityInput
from models.encoders.base import ENCODERS, EncoderConfig, ModalityEncoder
from models.vocabulary import FIRST_CODE, PADDING

RECENT_DAYS = 2.0
TIME_SCALES_DAYS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)


class CLMBRConfig(EncoderConfig):
    """vocabulary_size: ids, padding and unknown included; max_events: the latest that are read."""

    vocabulary_size: int = Field(gt=FIRST_CODE)
    token_width: int = Field(default=64, gt=0)
    n_layers: int = Field(default=2, gt=0)
    n_heads: int = Field(default=4, gt=0)
    max_events: int = Field(default=512, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class CausalBlock(nn.Module):
    """Pre-norm transformer block in which an event sees itself and what came before."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D). Padding comes last, so causality already hides it."""
        rows, length, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(rows, length, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        fed: Tensor = self.feed(self.norm_feed(x))
        return x + fed


@ENCODERS.register("clmbr")
class CLMBR(ModalityEncoder):
    """A CLMBR-like event encoder (Steinberg et al. 2021) over codes, values and time gaps.

    tokens (B, N, token_width): the contextual state at each event. pooled (B, 3 token_width):
    the state at the last event, as in CLMBR, the mean over all events, and the mean over those
    of the last two days, where the present illness is. With a million patients the last state
    alone would hold all that; with a thousand it does not.
    """

    kind = Kind.EVENTS
    Config = CLMBRConfig
    value_mean: Tensor
    value_scale: Tensor

    def __init__(self, config: CLMBRConfig) -> None:
        super().__init__(config)
        self.config: CLMBRConfig = config
        size, width = config.vocabulary_size, config.token_width
        self.code = nn.Embedding(size, width, padding_idx=PADDING)
        self.value = nn.Embedding(size, width, padding_idx=PADDING)
        # The code table also reads the next code off a state of unit-variance features: with
        # this scale the first guesses are near uniform.
        nn.init.normal_(self.code.weight, std=width**-0.5)
        nn.init.normal_(self.value.weight, std=width**-0.5)
        self.time = nn.Linear(2 * len(TIME_SCALES_DAYS), width)
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.n_heads, config.dropout) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.next_value = nn.Linear(width, width)
        self.register_buffer("value_mean", torch.zeros(size))
        self.register_buffer("value_scale", torch.ones(size))
        self.token_width = width
        self.pooled_width = 3 * width

    def set_value_scale(self, mean: Tensor, sd: Tensor) -> None:
        """Per-code mean and sd of the numeric values, (V,) each, from the vocabulary."""
        self.value_mean.copy_(mean)
        self.value_scale.copy_(sd)

    def standardised(self, inputs: ModalityInput) -> Tensor:
        """(B, N) values on their code's training scale, 0 where there is none."""
        codes = inputs.fields["codes"]
        z = (inputs.fields["values"] - self.value_mean[codes]) / self.value_scale[codes]
        return z.clamp(-5.0, 5.0) * inputs.fields["has_value"]

    def states(self, inputs: ModalityInput) -> Tensor:
        """(B, N, D) contextual states; state n has seen events 0..n only."""
        codes = inputs.fields["codes"]
        days = inputs.fields["days_before"]
        gap = F.pad(days[:, :-1] - days[:, 1:], (1, 0)).clamp_min(0.0)
        scales = torch.tensor(TIME_SCALES_DAYS, device=codes.device)
        clock = torch.cat([days[..., None] / scales, gap[..., None] / scales], dim=-1)
        x = self.code(codes) * math.sqrt(self.config.token_width)
        x = x + self.value(codes) * self.standardised(inputs)[..., None]
        x = x + self.time(torch.log1p(clock))
        for block in self.blocks:
            x = block(x)
        states: Tensor = self.norm(x)
        return states

    def forward(self, inputs: ModalityInput) -> Encoded:
        """One token an event, oldest first."""
        mask = inputs.fields["mask"] & inputs.present[:, None]
        tokens = self.states(inputs) * mask[..., None]
        n = mask.sum(dim=1)
        last = (n - 1).clamp_min(0)[:, None, None].expand(-1, 1, tokens.shape[2])
        recent = mask & (inputs.fields["days_before"] <= RECENT_DAYS)
        parts = [torch.gather(tokens, 1, last)[:, 0]]
        for chosen in (mask, recent):
            total = (tokens * chosen[..., None]).sum(dim=1)
            parts.append(total / chosen.sum(dim=1, keepdim=True).clamp_min(1))
        pooled = torch.cat(parts, dim=1)
        return Encoded(
            tokens=tokens,
            mask=mask,
            pooled=pooled * inputs.present[:, None],
            present=inputs.present,
            layout=EventPositions(),
        )

    def pretraining_loss(self, inputs: ModalityInput) -> dict[str, Tensor]:
        """Next-code cross-entropy and next-value squared error (on each code's scale)."""
        mask = inputs.fields["mask"] & inputs.present[:, None]
        states = self.states(inputs)[:, :-1]
        target = inputs.fields["codes"][:, 1:]
        scored = mask[:, 1:] & mask[:, :-1]
        seen = states[scored]
        wanted = target[scored]
        logits = seen @ self.code.weight.T
        code_loss = F.cross_entropy(logits, wanted)
        valued = inputs.fields["has_value"][:, 1:][scored]
        guess = (self.next_value(seen) * self.value(wanted)).sum(dim=-1)
        truth = self.standardised(inputs)[:, 1:][scored]
        value_loss = F.mse_loss(guess[valued], truth[valued]) if valued.any() else guess.sum() * 0
        return {"next_code": code_loss, "next_value": value_loss}
