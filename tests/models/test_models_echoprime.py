"""Frozen numbers are those of torchvision 0.28's MViT with the same weights and video.

    MViT(spatial_size=(64, 64), temporal_size=4, block_setting=..., residual_pool=True,
         residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True, num_classes=6)

where block_setting is that of its `mvit_v2_s` with all widths divided by 12; weights by `wave`.
With the default sizes and random weights, all 397 tensors have torchvision's names, order and
shapes, and the two networks agree to 1e-7 (measured once, torchvision is no dependency).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.contracts import Kind, ModalityInput, ViewGrid
from models.encoders.echoprime import EchoPrime, EchoPrimeConfig

SMALL = EchoPrimeConfig(
    views=("A4C", "PLAX", "SSN"),
    frames=4,
    size=64,
    width=8,
    summary_width=6,
    token_grid=(2, 1, 1),
)


def wave(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by formula: a sine over each tensor, shifted by its place in the alphabet."""
    weights = {}
    for k, name in enumerate(sorted(state)):
        tensor = state[name]
        sine = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.7 + k)
        size = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.2
        one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weights[name] = (sine * size + one).reshape(tensor.shape).float()
    return weights


def small(config: EchoPrimeConfig = SMALL) -> EchoPrime:
    encoder = EchoPrime(config).eval()
    encoder.load_state_dict(wave(encoder.state_dict()))
    return encoder


def echo(video: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> ModalityInput:
    if mask is None:
        mask = torch.ones(video.shape[:2], dtype=torch.bool)
    if present is None:
        present = mask.any(dim=1)
    return ModalityInput(Kind.VIDEO, {"video": video, "mask": mask}, present)


def videos(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((n, 3, 3, 4, 64, 64), generator=generator) * 255


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file: 16 blocks of 24 tensors and 13 more."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv_proj.weight": (96, 3, 3, 7, 7),
        "conv_proj.bias": (96,),
        "pos_encoding.class_token": (96,),
        "norm.weight": (768,),
        "norm.bias": (768,),
        "head.1.weight": (512, 768),
        "head.1.bias": (512,),
    }
    inside = [96, 96, 192, 192, *[384] * 11, 768]
    outside = [96, 192, 192, *[384] * 11, 768, 768]
    # The longer side of queries and keys, in cells of the picture.
    sides = [56, 28, 28, 14, *[14] * 10, 14, 7]
    for i, (a, b, side) in enumerate(zip(inside, outside, sides, strict=True)):
        block = f"blocks.{i}."
        for name, shape in (
            ("norm1", (a,)),
            ("norm2", (b,)),
            ("attn.pool_q.norm_act.0", (96,)),
            ("attn.pool_k.norm_act.0", (96,)),
            ("attn.pool_v.norm_act.0", (96,)),
            ("attn.qkv", (3 * b, a)),
            ("attn.project.0", (b, b)),
            ("mlp.0", (4 * b, b)),
            ("mlp.3", (b, 4 * b)),
        ):
            shapes[f"{block}{name}.weight"] = shape
            shapes[f"{block}{name}.bias"] = shape[:1]
        for pool in ("pool_q", "pool_k", "pool_v"):
            shapes[f"{block}attn.{pool}.pool.weight"] = (96, 1, 3, 3, 3)
        shapes[f"{block}attn.rel_pos_h"] = shapes[f"{block}attn.rel_pos_w"] = (2 * side - 1, 96)
        shapes[f"{block}attn.rel_pos_t"] = (15, 96)
        if a != b:
            shapes[f"{block}project.weight"] = (b, a)
            shapes[f"{block}project.bias"] = (b,)
    return shapes


def test_the_default_has_exactly_the_published_tensors():
    with torch.device("meta"):
        encoder = EchoPrime(EchoPrimeConfig())
    own = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    assert own == published()
    assert len(own) == 397
    assert sum(tensor.numel() for tensor in encoder.state_dict().values()) == 34_623_872


def test_it_agrees_with_an_independent_mvit():
    wide = torch.sin(torch.arange(3 * 4 * 64 * 64, dtype=torch.float64) * 0.013) * 100 + 120
    video = wide.reshape(1, 3, 4, 64, 64).float()
    encoder = small()
    seen: dict[str, Tensor] = {}
    encoder.after13.register_forward_hook(lambda _m, _i, out: seen.__setitem__("after13", out))
    with torch.no_grad():
        vector, grid = encoder.embed(video)
    expected = [-0.436794, 0.313240, 0.865214, 0.849317, 0.264568, -0.515374]
    assert vector[0].tolist() == pytest.approx(expected, abs=1e-4)
    assert seen["after13"].shape == (1, 32, 2, 4, 4)
    # Block 13, the first three features of the first three patches of the top row.
    corner = seen["after13"][0, :3, 0, 0, :3].T
    reference = [
        [-9.912425, 0.344884, 8.966879],
        [-8.700376, -0.727354, 10.051650],
        [-7.925197, -1.481228, 11.062795],
    ]
    assert torch.allclose(corner, torch.tensor(reference), atol=1e-3)
    assert grid.shape == (1, 64, 2, 2, 2)


@pytest.mark.slow
def test_the_published_size_runs():
    """64 billion multiplications, so apart: (N, 512), and maps of 8 x 14 x 14 and 8 x 7 x 7."""
    encoder = EchoPrime(EchoPrimeConfig(views=("A4C",))).eval()
    shapes: list[tuple[int, ...]] = []
    for name in encoder.map_layers:
        encoder.get_submodule(name).register_forward_hook(
            lambda _m, _i, out: shapes.append(tuple(out.shape))
        )
    with torch.no_grad():
        encoded = encoder(echo(torch.rand(1, 1, 3, 16, 224, 224) * 255))
    assert encoded.pooled.shape == (1, 512)
    assert encoded.tokens.shape == (1, 4, 768)
    assert shapes == [(1, 384, 8, 14, 14), (1, 768, 8, 7, 7)]


def test_a_study_is_the_mean_of_the_views_that_were_recorded():
    encoder = small()
    video = videos(2)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    other = video.clone()
    other[0, 1] = float("nan")
    with torch.no_grad():
        encoded = encoder(echo(other, mask))
        views, grids = encoder.embed(video[0, [0, 2]])
    assert isinstance(encoded.layout, ViewGrid)
    assert encoded.layout == ViewGrid(SMALL.views, (2, 1, 1), 2)
    assert torch.allclose(encoded.pooled[0], views.mean(dim=0), atol=1e-5)
    assert encoded.mask.view(2, 3, 2).all(dim=2).tolist() == mask.tolist()
    expected = grids.mean(dim=(3, 4)).transpose(1, 2)
    assert torch.allclose(encoded.tokens[0].view(3, 2, 64)[[0, 2]], expected, atol=1e-5)


def test_absent_patients_and_batches_of_one():
    encoder = small()
    video = videos(3)
    with torch.no_grad():
        batch = encoder(echo(video, present=torch.tensor([True, False, True])))
        alone = encoder(echo(video[2:]))
        nobody = encoder(echo(video, present=torch.zeros(3, dtype=torch.bool)))
    assert not batch.mask[1].any()
    assert batch.tokens[1].abs().max() == 0
    assert batch.pooled[1].abs().max() == 0
    assert torch.allclose(batch.tokens[2], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled[2], alone.pooled[0], atol=1e-5)
    assert nobody.pooled.abs().max() == 0


def test_maps_take_a_gradient_and_so_does_the_video():
    encoder = small().requires_grad_(False)
    seen: dict[str, Tensor] = {}

    def keep(name: str, out: Tensor) -> None:
        out.retain_grad()
        seen[name] = out

    for name in encoder.map_layers:
        encoder.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: keep(name, out)
        )
    video = videos(1).requires_grad_()
    mask = torch.tensor([[False, True, True]])
    encoder(echo(video, mask)).pooled[0, 0].backward()
    assert seen["after13"].shape == (2, 32, 2, 4, 4)
    assert seen["after14"].shape == (2, 64, 2, 2, 2)
    for activation in seen.values():
        assert activation.grad is not None
        assert bool((activation.grad.abs().sum(dim=1) > 0).all())
    assert (video.grad[0, 0] == 0).all()
    assert (video.grad[0, 1:] != 0).float().mean() > 0.9


def test_published_files_are_loaded_and_others_refused(tmp_path: Path):
    encoder = small()
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    again = EchoPrime(SMALL).eval()
    again.load_published(tmp_path / "encoder.pt")
    video = videos(1)
    with torch.no_grad():
        assert torch.equal(again(echo(video)).pooled, encoder(echo(video)).pooled)
    state = encoder.state_dict()
    del state["pos_encoding.class_token"]
    torch.save(state, tmp_path / "lacking.pt")
    with pytest.raises(ValueError, match=r"lacks 'pos_encoding.class_token'.*EchoPrime"):
        again.load_published(tmp_path / "lacking.pt")
    with pytest.raises(ValueError, match="multiple of 32"):
        EchoPrimeConfig(size=112)
