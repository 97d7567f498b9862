"""Echo: a (2+1)D network over each recorded view, pooled over the views that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.cardiac import VIEWS as VIEWS
from models.contracts import Encoded, Kind, ModalityInput, ViewGrid
from models.encoders.base import (
    ENCODERS,
    EncoderConfig,
    ModalityEncoder,
    SummaryOfTokens,
)
from models.encoders.signal import mean_and_maximum

# Usual mean and spread of an echo's pixels, 0 to 255: most of the picture is black.
PIXEL_MEAN, PIXEL_SD = 29.0, 48.0


class EchoNetConfig(EncoderConfig):
    """How videos are read, and the network's widths.

    views: in the order of the rows. frames, stride, size: frames read, every how many of the
    recorded ones, and their height and width in pixels. token_grid: tokens of a view along
    (time, height, width).
    """

    views: tuple[str, ...] = VIEWS
    frames: int = Field(default=16, gt=0)
    stride: int = Field(default=2, gt=0)
    size: int = Field(default=112, gt=0)
    widths: tuple[int, int, int, int] = (12, 32, 48, 64)
    token_width: int = Field(default=48, gt=0)
    token_grid: tuple[int, int, int] = (4, 2, 2)
    pooled_width: int = Field(default=96, gt=0)

    @property
    def deepest(self) -> tuple[int, int, int]:
        """(t, h, w) of the last feature map."""
        return self.frames // 4, self.size // 8, self.size // 8

    @model_validator(mode="after")
    def _cells_are_whole(self) -> EchoNetConfig:
        if len(set(self.views)) != len(self.views) or not self.views:
            raise ValueError("views must name every view once")
        fits = self.frames % 4 == 0 and self.size % 8 == 0
        if not fits or any(a % b for a, b in zip(self.deepest, self.token_grid, strict=True)):
            raise ValueError(
                f"frames ({self.frames}) must be a multiple of 4, size ({self.size}) of 8, and "
                f"token_grid {self.token_grid} must divide {self.deepest}"
            )
        if self.token_width % 2:
            raise ValueError(
                f"token_width ({self.token_width}) must be even: half mean, half maximum"
            )
        return self


class SpaceTime(nn.Module):
    """A convolution over the picture, then one over time (Tran et al. 2018), (R, C, t, h, w).

    A stride of 2 takes a kernel of 4, so that a cell of the smaller map lies in the middle of the
    cells it was made of. With no stride and equal widths the block is residual.
    """

    def __init__(self, inside: int, outside: int, space: int = 1, time: int = 1) -> None:
        super().__init__()
        k, j = 2 + (2 if space == 2 else 1), 2 + (2 if time == 2 else 1)
        self.space = nn.Conv3d(inside, outside, (1, k, k), (1, space, space), (0, 1, 1), bias=False)
        self.norm1 = nn.BatchNorm3d(outside)
        self.time = nn.Conv3d(outside, outside, (j, 1, 1), (time, 1, 1), (1, 0, 0), bias=False)
        self.norm2 = nn.BatchNorm3d(outside)
        self.residual = inside == outside and space == time == 1

    def forward(self, x: Tensor) -> Tensor:
        """Features after both convolutions."""
        y = self.norm2(self.time(F.relu(self.norm1(self.space(x)))))
        return F.relu(x + y if self.residual else y)


class ViewPool(nn.Module):
    """Attention over views, feature by feature: what the long axis shows best it may tell alone.

    Value and score of a view are linear in its features plus a vector of the view itself; the
    softmax runs over the views that are there.
    """

    def __init__(self, views: int, inside: int, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(inside, width)
        self.score = nn.Linear(inside, width)
        self.view_value = nn.Parameter(torch.randn(views, width) * 0.1)
        self.view_score = nn.Parameter(torch.zeros(views, width))

    def forward(self, views: Tensor, mask: Tensor) -> Tensor:
        """(B, P) of views (B, V, C) where mask (B, V); zeros where there is none."""
        keep = mask[..., None]
        score = self.score(views) + self.view_score
        score = score.masked_fill(~keep, torch.finfo(score.dtype).min)
        value = F.relu(self.value(views) + self.view_value)
        return (torch.softmax(score, dim=1) * keep * value).sum(dim=1)


@ENCODERS.register("echo_r2plus1d")
class EchoNet(ModalityEncoder, SummaryOfTokens):
    """A light (2+1)D network, the same for every view, run on the views that were recorded.

    tokens (B, V * t * h * w, token_width): mean and maximum of the last features within a cell
    of the view's token grid. pooled (B, pooled_width): each view's mean and maximum over its
    tokens, pooled over views by an attention that knows which view it looks at.

    Activations of every layer in `map_layers` are (R, C, t, h, w), one row a recorded view and
    none for views that are missing: row r belongs to patient `rows[r, 0]` and to view
    `rows[r, 1]` of the config, rows = `view_rows(inputs)`. The t steps cover the frames as read
    evenly, h and w the picture.
    """

    kind = Kind.VIDEO
    map_layers: ClassVar[Mapping[str, str]] = {
        "stage1": "stage 1 (single frames, 4 px)",
        "stage2": "stage 2 (2 frames, 8 px)",
        "stage3": "stage 3 (4 frames, 8 px)",
        "merge": "merged features (4 frames, 8 px)",
    }
    Config = EchoNetConfig

    def __init__(self, config: EchoNetConfig) -> None:
        super().__init__(config)
        self.config: EchoNetConfig = config
        stem, first, second, third = config.widths
        self.stem = nn.Sequential(
            nn.Conv3d(3, stem, (1, 4, 4), (1, 2, 2), (0, 1, 1), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
        )
        self.stage1 = SpaceTime(stem, first, space=2)
        self.stage2 = nn.Sequential(
            SpaceTime(first, second, space=2, time=2), SpaceTime(second, second)
        )
        self.stage3 = nn.Sequential(SpaceTime(second, third, time=2), SpaceTime(third, third))
        self.merge = nn.Sequential(nn.Conv3d(third, config.token_width // 2, 1), nn.ReLU())
        self.views = ViewPool(len(config.views), 2 * config.token_width, config.pooled_width)
        self.token_width = config.token_width
        self.pooled_width = config.pooled_width

    def features(self, video: Tensor) -> Tensor:
        """(R, token_width, *token_grid) of videos (R, 3, F, H, W), RGB from 0 to 255."""
        x = (video - PIXEL_MEAN) / PIXEL_SD
        x = self.merge(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        ratio = [a // b for a, b in zip(self.config.deepest, self.config.token_grid, strict=True)]
        return torch.cat([F.avg_pool3d(x, ratio), F.max_pool3d(x, ratio)], dim=1)

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Tokens on views x (t, h, w), w fastest."""
        config = self.config
        video = inputs.fields["video"]
        check_video(video, config.views, (3, config.frames, config.size, config.size))
        rows = view_rows(inputs)
        n, cells = len(config.views), config.token_grid[0] * config.token_grid[1] ** 2
        cells = config.token_grid[0] * config.token_grid[1] * config.token_grid[2]
        tokens = video.new_zeros(len(video), n, cells, self.token_width)
        if len(rows):
            seen = self.features(video[rows[:, 0], rows[:, 1]])
            tokens = tokens.index_put((rows[:, 0], rows[:, 1]), seen.flatten(2).transpose(1, 2))
        there = inputs.fields["mask"] & inputs.present[:, None]
        mask = there[:, :, None].expand(-1, -1, cells).flatten(1)
        tokens = tokens.flatten(1, 2)
        return Encoded(
            tokens=tokens,
            mask=mask,
            pooled=self.summarise(tokens, mask),
            present=inputs.present,
            layout=ViewGrid(config.views, config.token_grid, config.frames // config.token_grid[0]),
        )

    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Views pooled from those of their tokens that are there."""
        rows, views = len(tokens), len(self.config.views)
        keep = mask.reshape(rows, views, -1)
        by_view = mean_and_maximum(tokens.reshape(rows, views, keep.shape[2], -1), keep)
        pooled: Tensor = self.views(by_view, keep.any(dim=2))
        return pooled


def view_rows(inputs: ModalityInput) -> Tensor:
    """(R, 2) int64 patient and view of each recorded view, in the order they are computed in."""
    return torch.nonzero(inputs.fields["mask"] & inputs.present[:, None])


def check_video(video: Tensor, views: tuple[str, ...], shape: tuple[int, int, int, int]) -> None:
    """Raise ValueError when videos (B, V, 3, F, H, W) are not what the encoder reads."""
    if video.ndim != 6 or tuple(video.shape[1:]) != (len(views), *shape):
        raise ValueError(
            f"the echo encoder reads {len(views)} views of {shape[1]} RGB frames of {shape[2]} x "
            f"{shape[3]} pixels, got {tuple(video.shape[1:])}; read them with its own views, "
            "frames and size."
        )
