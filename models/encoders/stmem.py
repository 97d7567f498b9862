"""ST-MEM: a published transformer over patches of the twelve leads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.contracts import Encoded, Kind, LeadTimeGrid, ModalityInput
from models.encoders.base import (
    ENCODERS,
    EncoderConfig,
    ModalityEncoder,
    SummaryOfTokens,
)
from models.encoders.published import load_exactly, read_published
from models.encoders.signal import LEADS, REAL_SHARE, check_signal

_DECODER = re.compile(r"(to_decoder_embedding|mask_embedding|decoder_)")


class STMEMConfig(EncoderConfig):
    """How the signal is read, and the transformer's sizes; the defaults are the published ones.

    seconds: read from the start of the record. patch: samples of a token.
    """

    leads: tuple[str, ...] = LEADS
    rate_hz: float = Field(default=250.0, gt=0)
    seconds: float = Field(default=9.0, gt=0)
    band_hz: tuple[float, float] = (0.67, 40.0)
    patch: int = Field(default=75, gt=0)
    width: int = Field(default=768, gt=0)
    depth: int = Field(default=12, gt=0)
    heads: int = Field(default=12, gt=0)
    feed_width: int = Field(default=3072, gt=0)

    @property
    def samples(self) -> int:
        """Samples of a lead as read."""
        return round(self.rate_hz * self.seconds)

    @model_validator(mode="after")
    def _patches_are_whole(self) -> STMEMConfig:
        if self.samples % self.patch:
            raise ValueError(f"{self.samples} samples must be a multiple of patch, {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class SelfAttention(nn.Module):
    """Attention of all tokens on those that are there."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D); keys (B, N) bool, at least one a row."""
        rows, length, width = x.shape
        q, k, v = self.to_qkv(x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys[:, None, None])
        answer: Tensor = self.to_out(mixed.transpose(1, 2).reshape(rows, length, width))
        return answer


class FeedForward(nn.Module):
    """Two linear layers; places 2 and 4 of the published list are dropout, which is not used."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        fed: Tensor = self.net(x)
        return fed


class Normed(nn.Module):
    """A layer that reads its input normalised."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """What the layer makes of the normalised input."""
        answer: Tensor = self.fn(self.norm(x), *more)
        return answer


class STMEMBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = Normed(width, SelfAttention(width, heads))
        self.ff = Normed(width, FeedForward(width, hidden))

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Same shape."""
        x = x + self.attn(x, keys)
        fed: Tensor = self.ff(x)
        return x + fed


@ENCODERS.register("stmem")
class STMEM(ModalityEncoder, SummaryOfTokens):
    """The encoder of Na et al., ICLR 2024 (ST-MEM), in the layout of its published weights.

    Every lead is cut into patches of 0.3 s, set between two separator tokens, and marked by an
    embedding of its lead and one of its place. tokens (B, 12 * 30, 768): the patches after the
    last block. pooled (B, 768): their mean, normalised, as published.

    The signal is brought to mean 0 and spread 1 over all leads and samples together, as in
    training, so absolute voltage is not seen. The published network always had all leads; here the
    patches of what was not recorded (and the separators of a lead without any patch) are seen by
    no other token and enter neither the scaling nor the mean.

    Activations of the layers in `map_layers` are (B, D, L, S): row l is lead l of the config, and
    step s the samples s * patch to (s + 1) * patch.
    """

    kind = Kind.SIGNAL
    map_layers: ClassVar[Mapping[str, str]] = {
        "embedded": "patch embedding",
        "halfway": "half of the blocks",
        "last": "last block",
    }
    Config = STMEMConfig

    def __init__(self, config: STMEMConfig) -> None:
        super().__init__(config)
        self.config: STMEMConfig = config
        width, self.n_patches = config.width, config.samples // config.patch
        # Place 0 of the published list cuts the signal into patches and has no weights.
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(),
            nn.LayerNorm(config.patch),
            nn.Linear(config.patch, width),
            nn.LayerNorm(width),
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, self.n_patches + 2, width))
        self.sep_embedding = nn.Parameter(torch.randn(width))
        self.lead_embeddings = nn.ParameterList(
            nn.Parameter(torch.randn(width)) for _ in config.leads
        )
        for i in range(config.depth):
            self.add_module(f"block{i}", STMEMBlock(width, config.heads, config.feed_width))
        self.norm = nn.LayerNorm(width)
        # Modules without weights, so that a class activation map can be taken of what they return.
        self.embedded, self.halfway, self.last = nn.Identity(), nn.Identity(), nn.Identity()
        self.token_width = width
        self.pooled_width = width

    def load_published(self, path: Path | str) -> None:
        """Load published weights (`encoder.pth`, a checkpoint or the full pretraining file).

        A classification head and the decoder are left out. Raises ValueError when the file is not
        readable or holds another network.
        """
        path = Path(path)
        state = read_published(path)
        inner = {
            n.removeprefix("encoder."): v for n, v in state.items() if n.startswith("encoder.")
        }
        kept = {
            name: value
            for name, value in (inner or state).items()
            if not name.startswith("head.") and not _DECODER.match(name)
        }
        load_exactly(self, kept, path, f"ST-MEM of {self.config.depth} blocks")

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Tokens on leads x patches, time fastest."""
        signal, config = inputs.fields["signal"], self.config
        check_signal(signal, len(config.leads), config.samples, config.rate_hz, "ST-MEM")
        mask = inputs.fields["mask"] & inputs.present[:, None, None]
        rows, leads, n = len(signal), len(config.leads), self.n_patches
        there = mask.float().view(rows, leads, n, -1).mean(dim=3) >= REAL_SHARE
        patches = standardised(signal, mask).view(rows, leads, n, -1)
        x = self.to_patch_embedding(patches) + self.pos_embedding[:, None, 1:-1]
        x = _shown(self.embedded, x)
        ends = (self.sep_embedding + self.pos_embedding[:, [0, -1]])[:, None]
        first, last = torch.split(ends.expand(rows, leads, -1, -1), 1, dim=2)
        x = torch.cat([first, x, last], dim=2)
        x = x + torch.stack(list(self.lead_embeddings))[None, :, None]
        any_there = there.any(dim=2, keepdim=True)
        keys = torch.cat([any_there, there, any_there], dim=2).flatten(1)
        # A softmax needs something to look at; an empty record's answer is masked below.
        keys[:, 0] |= ~keys.any(dim=1)
        x = x.flatten(1, 2)
        for i in range(config.depth):
            x = self.get_submodule(f"block{i}")(x, keys)
            for module, at in ((self.halfway, config.depth // 2), (self.last, config.depth)):
                if i + 1 == at:
                    grid = x.view(rows, leads, n + 2, -1)
                    inner = _shown(module, grid[:, :, 1:-1])
                    x = torch.cat([grid[:, :, :1], inner, grid[:, :, -1:]], dim=2).flatten(1, 2)
        tokens = x.view(rows, leads, n + 2, -1)[:, :, 1:-1].flatten(1, 2)
        token_mask = there.flatten(1)
        tokens = torch.where(token_mask[..., None], tokens, 0.0)
        return Encoded(
            tokens=tokens,
            mask=token_mask,
            pooled=self.summarise(tokens, token_mask),
            present=inputs.present,
            layout=LeadTimeGrid(config.leads, n, config.patch / config.rate_hz),
        )

    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Normalised mean of the tokens that are there; zeros where there is none."""
        keep = mask[..., None]
        mean = (tokens * keep).sum(dim=1) / keep.sum(dim=1).clamp_min(1)
        return torch.where(keep.any(dim=1), self.norm(mean), 0.0)


def standardised(signal: Tensor, mask: Tensor) -> Tensor:
    """(B, L, T) with mean 0 and spread 1 over the real samples of all leads; 0 where not real."""
    real = torch.where(mask, signal, 0.0)
    n = mask.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    centred = torch.where(mask, signal - real.sum(dim=(1, 2), keepdim=True) / n, 0.0)
    variance = centred.square().sum(dim=(1, 2), keepdim=True) / n
    return centred / variance.clamp_min(1e-12).sqrt()


def _shown(module: nn.Module, x: Tensor) -> Tensor:
    """The same x (B, L, S, D), having passed through `module` as a map (B, D, L, S)."""
    shown: Tensor = module(x.permute(0, 3, 1, 2))
    return shown.permute(0, 2, 3, 1)
