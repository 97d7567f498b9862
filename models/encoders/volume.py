"""CT: a MONAI residual network that gives a grid of tokens, pretrained on radiology targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNet, ResNetBlock
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.contracts import Encoded, Kind, ModalityInput, VoxelGrid
from models.encoders.base import (
    ENCODERS,
    EncoderConfig,
    ModalityEncoder,
    SummaryOfTokens,
)

RADIOLOGY_TARGETS = ("embolus_present", "clot_burden", "rv_lv_ratio", "calcium_present", "calcium")
LESIONS = ("embolus", "calcium")
# A clot fills a few per mille of a cell; scaled, its share is of the order of the other features.
SHARE_SCALE = 50.0


class CTResNetConfig(EncoderConfig):
    """Input grid in (D, H, W) and the network's widths. hu_window: (low, high) mapped to 0..1."""

    shape: tuple[int, int, int] = (48, 96, 96)
    spacing_mm: tuple[float, float, float] = (5.5, 3.6, 3.6)
    hu_window: tuple[float, float] = (-1000.0, 400.0)
    stage_widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    token_width: int = Field(default=48, gt=0)
    token_grid: tuple[int, int, int] = (6, 6, 6)

    @model_validator(mode="after")
    def _cells_are_whole(self) -> CTResNetConfig:
        deepest = [n // 8 for n in self.shape]
        fits = all(n % 16 == 0 for n in self.shape) and all(
            have % want == 0 for have, want in zip(deepest, self.token_grid, strict=True)
        )
        if not fits:
            raise ValueError(
                f"shape {self.shape} must be multiples of 16, and token_grid {self.token_grid} "
                f"must divide its eighth, {tuple(deepest)}"
            )
        return self


@ENCODERS.register("ct_resnet")
class CTResNet(ModalityEncoder, SummaryOfTokens):
    """ResNet-10 (MONAI) whose stages meet in one token grid.

    tokens (B, 216, token_width), pooled (B, 2 token_width): mean and maximum over tokens, since
    a diffuse sign lives in the mean and a focal one in the maximum. The pretraining heads stay
    with the encoder: `radiology` reads the targets from pooled, `lesions` says where (half the
    input's resolution), so what the frozen network knows can be inspected later.
    """

    kind = Kind.VOLUME
    map_layers: ClassVar[Mapping[str, str]] = {
        "backbone.layer1": "stage 1",
        "backbone.layer2": "stage 2",
        "backbone.layer3": "stage 3",
        "backbone.layer4": "stage 4",
        "merge": "merged stages 3 and 4",
        "fine": "fine features",
        "lesions": "lesion readings",
    }
    Config = CTResNetConfig

    def __init__(self, config: CTResNetConfig) -> None:
        super().__init__(config)
        self.config: CTResNetConfig = config
        widths = list(config.stage_widths)
        self.backbone = ResNet(
            ResNetBlock,
            [1, 1, 1, 1],
            widths,
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=3,
            conv1_t_stride=2,
            no_max_pool=True,
            feed_forward=False,
            norm=("instance", {"affine": True}),
        )
        fine, coarse = widths[0], config.token_width - widths[0] - 2 * len(LESIONS)
        if coarse < 1:
            raise ValueError(
                f"token_width {config.token_width} leaves no room beside {widths[0]} fine channels "
                f"and {2 * len(LESIONS)} lesion readings; make it larger."
            )
        self.lateral3 = nn.Conv3d(widths[2], coarse, 1)
        self.lateral4 = nn.Conv3d(widths[3], coarse, 1)
        self.merge = nn.Sequential(nn.Conv3d(coarse, coarse, 3, padding=1), nn.ReLU())
        self.fine1 = nn.Conv3d(widths[0], fine, 1)
        self.fine2 = nn.Conv3d(widths[1], fine, 1)
        self.fine3 = nn.Conv3d(coarse, fine, 1)
        self.mix = nn.Conv3d(fine, fine, 1)
        # A module of its own, so that a class activation map can be taken of what it returns.
        self.fine = nn.ReLU()
        self.lesions = nn.Conv3d(fine, len(LESIONS), 1)
        nn.init.constant_(cast(Tensor, self.lesions.bias), -3.0)
        # Standardised first: summaries of logits, shares and deep features differ in scale, and
        # the heads' gradients must not drown what the location losses taught.
        self.radiology = nn.Sequential(
            nn.BatchNorm1d(2 * config.token_width, affine=False),
            nn.Linear(2 * config.token_width, len(RADIOLOGY_TARGETS)),
        )
        self.token_width = config.token_width
        self.pooled_width = 2 * config.token_width

    def normalise(self, volume: Tensor) -> Tensor:
        """HU to the network's scale: the window's ends map to 0 and 1, clipped at 0 and 1.4."""
        low, high = self.config.hu_window
        return ((volume - low) / (high - low)).clamp(0.0, 1.4)

    def stages(self, volume: Tensor) -> list[Tensor]:
        """Feature maps of the four stages for a volume (B, 1, D, H, W) in HU."""
        net = self.backbone
        x = net.act(net.bn1(net.conv1(self.normalise(volume))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def lesion_features(self, stages: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Deep (B, C, stage 3), fine (B, F, stage 1) features and lesion logits (B, 2, stage 1).

        Convolutions only, so a crop of a scan will do.
        """
        deep = self.lateral4(stages[3])
        merged = self.lateral3(stages[2]) + F.interpolate(deep, size=stages[2].shape[2:])
        merged = self.merge(merged)
        size = stages[0].shape[2:]
        fine = self.fine1(stages[0])
        fine = fine + F.interpolate(self.fine2(stages[1]), size=size)
        fine = fine + F.interpolate(self.fine3(merged), size=size)
        fine = self.fine(self.mix(F.relu(fine)))
        return merged, fine, self.lesions(fine)

    def features(self, stages: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Token grid (B, T, *token_grid) and lesion logits (B, 2, D/2, H/2, W/2).

        A token holds the deep features of its cell, the strongest fine features in it, and of
        each lesion the highest logit and the expected share of the cell. So a 5 mm clot is not
        averaged away in a 58 mm cell, and what says "embolus" is what says where.
        """
        merged, fine, logits = self.lesion_features(stages)
        share = torch.sigmoid(logits) * SHARE_SCALE
        grid = self.config.token_grid
        parts = [
            _pool(merged, grid, F.max_pool3d),
            _pool(fine, grid, F.max_pool3d),
            _pool(logits, grid, F.max_pool3d),
            _pool(share, grid, F.avg_pool3d),
        ]
        return torch.cat(parts, dim=1), logits

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Tokens on a grid, last axis fastest."""
        volume = inputs.fields["volume"]
        if tuple(volume.shape[2:]) != self.config.shape:
            raise ValueError(
                f"the CT encoder reads volumes of {self.config.shape} voxels at "
                f"{self.config.spacing_mm} mm, got {tuple(volume.shape[2:])}; read them with its "
                "own shape and spacing."
            )
        grid, _ = self.features(self.stages(volume))
        tokens = grid.flatten(2).transpose(1, 2)
        keep = inputs.present[:, None]
        pooled = self.summarise(tokens, torch.ones_like(keep).expand(-1, tokens.shape[1]))
        extent = [n * mm for n, mm in zip(self.config.shape, self.config.spacing_mm, strict=True)]
        spacing = [mm / n for mm, n in zip(extent, self.config.token_grid, strict=True)]
        return Encoded(
            tokens=tokens * keep[..., None],
            mask=keep.expand(-1, tokens.shape[1]),
            pooled=pooled * keep,
            present=inputs.present,
            layout=VoxelGrid(
                self.config.token_grid, cast(tuple[float, float, float], tuple(spacing))
            ),
        )

    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mean and maximum over the tokens that are there."""
        if bool(mask.all()):
            return torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)
        keep = mask[..., None]
        mean = (tokens * keep).sum(dim=1) / keep.sum(dim=1).clamp_min(1)
        lowest = torch.finfo(tokens.dtype).min
        highest = tokens.masked_fill(~keep, lowest).amax(dim=1)
        return torch.cat([mean, torch.where(keep.any(dim=1), highest, 0.0)], dim=1)

    def read_radiology(self, volume: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What the pretrained network says of a volume (B, 1, D, H, W) in HU.

        Returns ({target: (B,) logit or value on the training scale}, lesion logits
        (B, 2, D/2, H/2, W/2) for embolus and calcium).
        """
        grid, lesions = self.features(self.stages(volume))
        tokens = grid.flatten(2).transpose(1, 2)
        everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        readout = self.radiology(self.summarise(tokens, everywhere))
        readings: Mapping[str, Tensor] = {
            name: readout[:, i] for i, name in enumerate(RADIOLOGY_TARGETS)
        }
        return dict(readings), lesions


def _pool(x: Tensor, grid: tuple[int, int, int], pool: Callable[..., Tensor]) -> Tensor:
    """Pool to the token grid; the kernel is the exact ratio, adaptive pooling is far slower."""
    ratio = [have // want for have, want in zip(x.shape[2:], grid, strict=True)]
    return pool(x, ratio, ratio)
