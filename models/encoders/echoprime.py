"""EchoPrime: a published video transformer (MViTv2-S) over the views of an echo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.contracts import Encoded, Kind, ModalityInput, ViewGrid
from models.encoders.base import ENCODERS, EncoderConfig, ModalityEncoder
from models.encoders.published import load_exactly, read_published
from models.encoders.video import VIEWS, check_video, view_rows

Grid = tuple[int, int, int]
# Mean and spread of the red, green and blue of the videos EchoPrime was trained on, 0 to 255.
MEAN = (29.110628, 28.076836, 29.096405)
SPREAD = (47.989223, 46.456997, 47.20083)
BLOCKS = 16
# Blocks in which the picture is halved and the features are doubled.
HALVED = (1, 3, 14)
# Videos that go through the network together; more need more memory and are no faster.
TOGETHER = 2


class EchoPrimeConfig(EncoderConfig):
    """How videos are read, and the transformer's sizes; the defaults are the published ones.

    width: features of the first stage (and of every attention head). token_grid: tokens of a view
    along (time, height, width), which the last 8 x 7 x 7 grid is averaged to.
    """

    views: tuple[str, ...] = VIEWS
    frames: int = Field(default=16, gt=0)
    stride: int = Field(default=2, gt=0)
    size: int = Field(default=224, gt=0)
    width: int = Field(default=96, gt=0)
    summary_width: int = Field(default=512, gt=0)
    token_grid: Grid = (4, 1, 1)

    @property
    def deepest(self) -> Grid:
        """(t, h, w) of the last feature map."""
        return self.frames // 2, self.size // 32, self.size // 32

    @model_validator(mode="after")
    def _cells_are_whole(self) -> EchoPrimeConfig:
        if len(set(self.views)) != len(self.views) or not self.views:
            raise ValueError("views must name every view once")
        fits = self.frames % 2 == 0 and self.size % 32 == 0
        if not fits or any(a % b for a, b in zip(self.deepest, self.token_grid, strict=True)):
            raise ValueError(
                f"frames ({self.frames}) must be even, size ({self.size}) a multiple of 32, and "
                f"token_grid {self.token_grid} must divide {self.deepest}"
            )
        return self


class GridPool(nn.Module):
    """A depthwise convolution over each head's grid of tokens; the class token passes by."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.Conv3d(
            width, width, 3, stride=(1, stride, stride), padding=1, groups=width, bias=False
        )
        self.norm_act = nn.Sequential(nn.LayerNorm(width, eps=1e-6))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, heads, 1 + N, d) and the grid of the N -> the same, pooled."""
        rows, heads, _, width = x.shape
        tokens = x[:, :, 1:].transpose(2, 3).reshape(rows * heads, width, *grid)
        pooled = self.pool(tokens)
        tokens = pooled.flatten(2).transpose(1, 2).reshape(rows, heads, -1, width)
        answer: Tensor = self.norm_act(torch.cat([x[:, :, :1], tokens], dim=2))
        return answer, cast(Grid, tuple(pooled.shape[2:]))


class PoolingAttention(nn.Module):
    """Pooling attention with decomposed relative positions (Li et al. 2022, MViTv2, eqs 3 to 5)."""

    def __init__(
        self, inside: int, outside: int, heads: int, grid: Grid, stride_q: int, stride_kv: int
    ) -> None:
        super().__init__()
        self.heads = heads
        width = outside // heads
        self.qkv = nn.Linear(inside, 3 * outside)
        self.project = nn.Sequential(nn.Linear(outside, outside))
        self.pool_q = GridPool(width, stride_q)
        self.pool_k = GridPool(width, stride_kv)
        self.pool_v = GridPool(width, stride_kv)
        side = max(grid[1] // stride_q, grid[1] // stride_kv)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width))
        self.rel_pos_t = nn.Parameter(torch.zeros(2 * grid[0] - 1, width))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, 1 + N, inside) -> (B, 1 + N', outside) and the new grid."""
        rows, length, _ = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, grid_q = self.pool_q(q, grid)
        k, grid_k = self.pool_k(k, grid)
        v, _ = self.pool_v(v, grid)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(q, grid_q, grid_k))
        # The pooled query is added to what it found, but for the class token.
        mixed = torch.cat([mixed[:, :, :1], mixed[:, :, 1:] + q[:, :, 1:]], dim=2)
        answer: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return answer, grid_q

    def _bias(self, q: Tensor, grid_q: Grid, grid_k: Grid) -> Tensor:
        """(B, heads, 1 + N, 1 + M) of relative positions; none for the class token."""
        patches = q[:, :, 1:].unflatten(2, grid_q)  # type: ignore[no-untyped-call]
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        t, h, w = (
            table[_distance(a, b).to(q.device)]
            for table, a, b in zip(tables, grid_q, grid_k, strict=True)
        )
        over_t = torch.einsum("nathwd,tkd->nathwk", patches, t)[..., :, None, None]
        over_h = torch.einsum("nathwd,hkd->nathwk", patches, h)[..., None, :, None]
        over_w = torch.einsum("nathwd,wkd->nathwk", patches, w)[..., None, None, :]
        bias = (over_t + over_h + over_w).flatten(5).flatten(2, 4)
        return F.pad(bias, (1, 0, 1, 0))


def _distance(queries: int, keys: int) -> Tensor:
    """(queries, keys) row of the table of relative positions, on the finer of the two grids."""
    step_q, step_k = max(keys // queries, 1), max(queries // keys, 1)
    q, k = torch.arange(queries)[:, None] * step_q, torch.arange(keys)[None] * step_k
    return q - k + (keys - 1) * step_k


class MViTBlock(nn.Module):
    """Pooling attention and a feed-forward layer, each beside a shortcut."""

    def __init__(
        self, inside: int, outside: int, heads: int, grid: Grid, stride_q: int, stride_kv: int
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(inside, eps=1e-6)
        self.norm2 = nn.LayerNorm(outside, eps=1e-6)
        self.attn = PoolingAttention(inside, outside, heads, grid, stride_q, stride_kv)
        # Places 2 and 4 of the published list are dropout, which is not used.
        self.mlp = nn.Sequential(
            nn.Linear(outside, 4 * outside),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(4 * outside, outside),
        )
        self.project = nn.Linear(inside, outside) if inside != outside else None
        self.stride = stride_q

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens (B, 1 + N, inside), class token first, and their grid -> the same, pooled."""
        normed = self.norm1(x)
        found, grid_q = self.attn(normed, grid)
        short = x if self.project is None else self.project(normed)
        if self.stride > 1:
            width = short.shape[2]
            tokens = short[:, 1:].transpose(1, 2).reshape(len(x), width, *grid)
            s = self.stride
            tokens = F.max_pool3d(tokens, (1, s + 1, s + 1), (1, s, s), (0, s // 2, s // 2))
            short = torch.cat([short[:, :1], tokens.flatten(2).transpose(1, 2)], dim=1)
        x = short + found
        fed: Tensor = self.mlp(self.norm2(x))
        return x + fed, grid_q


class ClassToken(nn.Module):
    """Puts a learnt token in front; places are told by the attention's relative positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, 1 + N, D)."""
        return torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)


def _stages(width: int, grid: Grid) -> list[MViTBlock]:
    """The sixteen blocks of MViTv2-S: 1, 2, 11 and 2 of them at four sizes of the picture."""
    blocks: list[MViTBlock] = []
    heads, inside, stride_kv = 1, width, 8
    for i in range(BLOCKS):
        stride_q: Literal[1, 2] = 2 if i in HALVED else 1
        outside = inside * stride_q
        heads *= stride_q
        # Keys and values stay on 7 x 7 places; on 14 x 14 in a block that halves the picture.
        blocks.append(MViTBlock(inside, outside, heads, grid, stride_q, stride_kv // stride_q))
        inside, stride_kv = outside, stride_kv // stride_q
        grid = (grid[0], grid[1] // stride_q, grid[2] // stride_q)
    return blocks


@ENCODERS.register("echoprime")
class EchoPrime(ModalityEncoder):
    """The video encoder of Vukadinovic et al. 2024 (EchoPrime), in the layout of its weights.

    MViTv2-S (Li et al. 2022) on each recorded view. pooled (B, 512): mean of the views'
    embeddings, the study's embedding. tokens (B, V * t * h * w, 768): the last grid of patches
    after the last norm, averaged within the cells of `token_grid`.

    Activations of the layers in `map_layers` are (R, D, t, h, w), one row a recorded view and none
    for views that are missing: `view_rows(inputs)` gives patient and view of each. TOGETHER rows
    go through the network at a time, so a hook sees several batches, to be laid one after the
    other. Cell t covers the frames 2 t and 2 t + 1 as read. The embedding is read off the class
    token, so the patches of the very last block have no say in it: the last map is of what that
    block reads.
    """

    kind = Kind.VIDEO
    map_layers: ClassVar[Mapping[str, str]] = {
        "after13": "block 14 of 16 (2 frames, 16 px)",
        "after14": "block 15 of 16 (2 frames, 32 px)",
    }
    Config = EchoPrimeConfig

    def __init__(self, config: EchoPrimeConfig) -> None:
        super().__init__(config)
        self.config: EchoPrimeConfig = config
        width = config.width
        self.conv_proj = nn.Conv3d(3, width, (3, 7, 7), stride=(2, 4, 4), padding=(1, 3, 3))
        self.pos_encoding = ClassToken(width)
        grid = (config.frames // 2, config.size // 4, config.size // 4)
        self.blocks = nn.ModuleList(_stages(width, grid))
        self.norm = nn.LayerNorm(8 * width, eps=1e-6)
        # Place 0 of the published list is dropout, which is not used.
        self.head = nn.Sequential(nn.Identity(), nn.Linear(8 * width, config.summary_width))
        for name, parameter in self.named_parameters():
            if "rel_pos" in name or "class_token" in name:
                nn.init.trunc_normal_(parameter, std=0.02)
        # Modules without weights, so that a class activation map can be taken of what they return.
        self.after13, self.after14 = nn.Identity(), nn.Identity()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD).view(3, 1, 1, 1), persistent=False)
        self.token_width = 8 * width
        self.pooled_width = config.summary_width

    mean: Tensor
    spread: Tensor

    def load_published(self, path: Path | str) -> None:
        """Load published weights (`echo_prime_encoder.pt`).

        Raises ValueError when the file is not readable or holds another network.
        """
        path = Path(path)
        load_exactly(self, read_published(path), path, "EchoPrime's video encoder")

    def embed(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (R, 512) and last grids (R, 768, t, h, w) of videos (R, 3, F, H, W), RGB
        from 0 to 255.
        """
        x = self.conv_proj((video - self.mean) / self.spread)
        grid = cast(Grid, tuple(x.shape[2:]))
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))
        for i, block in enumerate(self.blocks):
            x, grid = block(x, grid)
            if i in (13, 14):
                shown = self.after13 if i == 13 else self.after14
                cells = shown(_as_grid(x, grid)).flatten(2).transpose(1, 2)
                x = torch.cat([x[:, :1], cells], dim=1)
        x = self.norm(x)
        return self.head(x[:, 0]), _as_grid(x, grid)

    def forward(self, inputs: ModalityInput) -> Encoded:
        """Tokens on views x (t, h, w), w fastest."""
        config = self.config
        video = inputs.fields["video"]
        check_video(video, config.views, (3, config.frames, config.size, config.size))
        there = inputs.fields["mask"] & inputs.present[:, None]
        rows = view_rows(inputs)
        n, (t, h, w) = len(config.views), config.token_grid
        tokens = video.new_zeros(len(video), n, t * h * w, self.token_width)
        vectors = video.new_zeros(len(video), n, self.pooled_width)
        ratio = [a // b for a, b in zip(config.deepest, config.token_grid, strict=True)]
        for part in torch.split(rows, TOGETHER):
            at = (part[:, 0], part[:, 1])
            if len(part):
                vector, cells = self.embed(video[at])
                cells = F.avg_pool3d(cells, ratio).flatten(2).transpose(1, 2)
                tokens, vectors = tokens.index_put(at, cells), vectors.index_put(at, vector)
        recorded = there.sum(dim=1, keepdim=True)
        return Encoded(
            tokens=tokens.flatten(1, 2),
            mask=there[:, :, None].expand(-1, -1, t * h * w).flatten(1),
            pooled=vectors.sum(dim=1) / recorded.clamp_min(1),
            present=inputs.present,
            layout=ViewGrid(config.views, config.token_grid, config.frames // t),
        )


def _as_grid(x: Tensor, grid: Grid) -> Tensor:
    """(R, D, t, h, w) of tokens (R, 1 + N, D) without the class token."""
    return x[:, 1:].transpose(1, 2).reshape(len(x), x.shape[2], *grid)
