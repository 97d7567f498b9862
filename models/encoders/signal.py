"""ECG: a 1-D residual network that reads every lead by itself first, then all leads together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.cardiac import LEADS as LEADS
from models.contracts import Encoded, Kind, LeadTimeGrid, ModalityInput
from models.encoders.base import (
    ENCODERS,
    EncoderConfig,
    ModalityEncoder,
    SummaryOfTokens,
)

# Samples one step of the deepest maps covers: strides of stem and stages, multiplied.
STRIDES = (2, 2, 5)
FINE_STEP = 20
# Nothing of a heart is larger; an electrode that comes off is.
LARGEST_MV = 5.0
# A step of the grid that is real for less than this share of its samples is a gap.
REAL_SHARE = 0.5


class ECGCNNConfig(EncoderConfig):
    """How the signal is read, and the network's widths.

    leads: in the order of the rows. rate_hz, seconds, band_hz: sampling rate, length from the
    start of the record and pass band of what the network reads. steps: tokens a lead along time.
    """

    leads: tuple[str, ...] = LEADS
    rate_hz: float = Field(default=250.0, gt=0)
    seconds: float = Field(default=10.0, gt=0)
    band_hz: tuple[float, float] = (0.67, 40.0)
    widths: tuple[int, int, int] = (12, 24, 32)
    lead_features: int = Field(default=8, gt=0)
    mix_width: int = Field(default=64, gt=0)
    token_width: int = Field(default=64, gt=0)
    steps: int = Field(default=25, gt=0)

    @property
    def samples(self) -> int:
        """Samples of a lead as read."""
        return round(self.rate_hz * self.seconds)

    @model_validator(mode="after")
    def _steps_are_whole(self) -> ECGCNNConfig:
        if len(set(self.leads)) != len(self.leads) or not self.leads:
            raise ValueError("leads must name every lead once")
        if self.samples % FINE_STEP or (self.samples // FINE_STEP) % self.steps:
            raise ValueError(
                f"{self.samples} samples must be a multiple of {FINE_STEP}, and steps "
                f"({self.steps}) must divide the resulting {self.samples / FINE_STEP:g}"
            )
        if self.token_width % 2:
            raise ValueError(
                f"token_width ({self.token_width}) must be even: half mean, half maximum"
            )
        return self


class LeadBlock(nn.Module):
    """Residual block along time with the same weights for every lead: (B, C, L, T) in and out.

    Kernel and padding are chosen so that step k looks at samples k * stride to (k + 1) * stride
    from their middle; a map of the block then lies where the signal is, not half a step off.
    """

    def __init__(self, inside: int, outside: int, stride: int, reach: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(
            inside,
            outside,
            (1, stride + 2 * reach),
            stride=(1, stride),
            padding=(0, reach),
            bias=False,
        )
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv = nn.Conv2d(outside, outside, (1, 2 * reach + 1), padding=(0, reach), bias=False)
        self.norm2 = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Features of every `stride` samples."""
        short = self.norm1(self.down(x))
        return F.relu(short + self.norm2(self.conv(F.relu(short))))


class MixBlock(nn.Module):
    """Residual dilated convolution along time over the features of all leads: (B, C, 1, S)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            width, width, (1, 5), padding=(0, 2 * dilation), dilation=(1, dilation), bias=False
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + F.relu(self.norm(self.conv(x)))


@ENCODERS.register("ecg_cnn")
class ECGCNN(ModalityEncoder, SummaryOfTokens):
    """A light residual network over the leads of an ECG.

    Stem and stages see one lead at a time and share their weights between leads; then a few
    features of all leads are mixed along time (rhythm, axis and blocks are read across leads)
    and each lead's own features meet them again (`merge`). tokens (B, L * steps, token_width):
    mean and maximum of `merge` within a cell of one lead and one step. pooled (B, 2 token_width):
    mean and maximum over the tokens.

    Every layer of `map_layers` has activations (B, C, L, S): row l is lead l of the config, and
    the S steps cover the signal evenly, step s the samples s * T / S to (s + 1) * T / S.

    Batch normalisation, no instance normalisation: the height of a QRS complex is a finding, and
    scaling each record by its own spread would erase it.

    Absent samples: they are read as 0 mV, which is what the band-pass leaves of a flat line. A
    lead's own stages never see another lead; where the leads are mixed, a missing one gives 0
    together with a flag that says so. A cell that is real for less than half of its samples has
    no token, and does not enter the summary.
    """

    kind = Kind.SIGNAL
    map_layers: ClassVar[Mapping[str, str]] = {
        "stem": "stem (8 ms steps)",
        "stage1": "stage 1 (16 ms steps)",
        "stage2": "stage 2 (80 ms steps)",
        "merge": "leads merged (80 ms steps)",
    }
    Config = ECGCNNConfig

    def __init__(self, config: ECGCNNConfig) -> None:
        super().__init__(config)
        self.config: ECGCNNConfig = config
        n, (first, second, third) = len(config.leads), config.widths
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, (1, 16), stride=(1, STRIDES[0]), padding=(0, 7), bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        )
        self.stage1 = LeadBlock(first, second, STRIDES[1], 3)
        self.stage2 = LeadBlock(second, third, STRIDES[2], 2)
        self.reduce = nn.Conv2d(third, config.lead_features, 1)
        self.gather = nn.Conv2d(
            n * (config.lead_features + 1), config.mix_width, (1, 3), padding=(0, 1)
        )
        self.mix = nn.Sequential(*(MixBlock(config.mix_width, d) for d in (1, 3, 9)))
        half = config.token_width // 2
        self.own = nn.Conv2d(third, half, 1)
        self.context = nn.Conv2d(config.mix_width, half, 1, bias=False)
        self.lead = nn.Parameter(torch.randn(1, half, n, 1) * 0.1)
        # A module of its own, so that a class activation map can be taken of what it returns.
        self.merge = nn.ReLU()
        self.token_width = config.token_width
        self.pooled_width = 2 * config.token_width

    def features(self, signal: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Merged features (B, C, L, S) and which steps are real (B, 1, L, S) as 0 or 1.

        signal (B, L, T) mV, mask (B, L, T) bool.
        """
        x = torch.where(mask, signal, 0.0).clamp(-LARGEST_MV, LARGEST_MV)
        x = self.stage2(self.stage1(self.stem(x[:, None])))
        real = _share(mask, x.shape[3])[:, None]
        told = torch.cat([self.reduce(x) * real, real], dim=1).flatten(1, 2)[:, :, None]
        mixed = self.mix(F.relu(self.gather(told)))
        merged: Tensor = self.merge(self.own(x) + self.context(mixed) + self.lead)
        return merged, real

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Tokens on leads x steps, time fastest."""
        signal, mask = inputs.fields["signal"], inputs.fields["mask"]
        config = self.config
        check_signal(signal, len(config.leads), config.samples, config.rate_hz, "ECG")
        mask = mask & inputs.present[:, None, None]
        merged, real = self.features(signal, mask)
        ratio = merged.shape[3] // config.steps
        # Features are not negative, so a gap (0) never wins the maximum.
        kept = merged * real
        share = F.avg_pool2d(real, (1, ratio)).clamp_min(1 / ratio)
        cells = [F.avg_pool2d(kept, (1, ratio)) / share, F.max_pool2d(kept, (1, ratio))]
        there = _share(mask, config.steps).flatten(1) > 0
        tokens = torch.cat(cells, dim=1).flatten(2).transpose(1, 2) * there[..., None]
        return Encoded(
            tokens=tokens,
            mask=there,
            pooled=self.summarise(tokens, there),
            present=inputs.present,
            layout=LeadTimeGrid(config.leads, config.steps, config.seconds / config.steps),
        )

    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mean and maximum over the tokens that are there; zeros where there is none."""
        return mean_and_maximum(tokens, mask)


def mean_and_maximum(tokens: Tensor, mask: Tensor) -> Tensor:
    """(..., 2 T) of tokens (..., N, T) where `mask` (..., N); zeros where there is none."""
    keep = mask[..., None]
    mean = (tokens * keep).sum(dim=-2) / keep.sum(dim=-2).clamp_min(1)
    highest = tokens.masked_fill(~keep, torch.finfo(tokens.dtype).min).amax(dim=-2)
    return torch.cat([mean, torch.where(keep.any(dim=-2), highest, 0.0)], dim=-1)


def check_signal(signal: Tensor, leads: int, samples: int, rate_hz: float, what: str) -> None:
    """Raise ValueError when a signal (B, L, T) is not what the encoder reads."""
    if signal.ndim != 3 or tuple(signal.shape[1:]) != (leads, samples):
        raise ValueError(
            f"the {what} encoder reads {leads} leads of {samples} samples at {rate_hz:g} Hz, got "
            f"{tuple(signal.shape[1:])}; read them with its own leads, rate and length."
        )


def _share(mask: Tensor, steps: int) -> Tensor:
    """(B, L, steps) 1.0 where at least `REAL_SHARE` of a step's samples are real, else 0.0."""
    share = mask.float().reshape(*mask.shape[:2], steps, -1).mean(dim=3)
    return (share >= REAL_SHARE).float()
