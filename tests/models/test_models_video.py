from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.contracts import Kind, ModalityInput, ViewGrid
from models.encoders.base import build_encoder
from models.encoders.video import EchoNet, EchoNetConfig, view_rows
from models.pretraining_cardiac import ECHO_TARGETS, EchoReadings, ReadingBatch, pretrain_readings

SMALL = EchoNetConfig(
    views=("A4C", "PLAX", "SSN"),
    frames=8,
    size=32,
    widths=(6, 8, 12, 16),
    token_width=16,
    token_grid=(2, 2, 2),
    pooled_width=24,
)


def echo(video: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> ModalityInput:
    if mask is None:
        mask = torch.ones(video.shape[:2], dtype=torch.bool)
    if present is None:
        present = mask.any(dim=1)
    return ModalityInput(Kind.VIDEO, {"video": video, "mask": mask}, present)


def videos(n: int, config: EchoNetConfig = SMALL, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, len(config.views), 3, config.frames, config.size, config.size)
    return torch.rand(shape, generator=generator) * 255


def net(config: EchoNetConfig = SMALL) -> EchoNet:
    torch.manual_seed(0)
    encoder = EchoNet(config)
    with torch.no_grad():
        for _ in range(3):
            encoder(echo(videos(4, config)))
        # Views are told apart from the start, as after training.
        encoder.views.view_score.normal_()
    return encoder.eval()


def activations(encoder: EchoNet, inputs: ModalityInput) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    handles = [
        encoder.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out)
        )
        for name in encoder.map_layers
    ]
    encoder(inputs)
    for handle in handles:
        handle.remove()
    return seen


def test_the_default_network_is_light_and_lays_tokens_on_views():
    config = EchoNetConfig()
    encoder = EchoNet(config).eval()
    assert sum(p.numel() for p in encoder.parameters()) < 1_000_000
    mask = torch.zeros(1, 11, dtype=torch.bool)
    mask[0, [2, 7]] = True
    with torch.no_grad():
        encoded = encoder(echo(torch.zeros(1, 11, 3, 16, 112, 112), mask))
    assert isinstance(encoded.layout, ViewGrid)
    assert encoded.layout == ViewGrid(config.views, (4, 2, 2), 4)
    assert encoded.tokens.shape == (1, 11 * 16, config.token_width)
    assert encoded.mask.view(11, 16).all(dim=1).tolist() == mask[0].tolist()


def test_a_bright_spot_shows_at_its_view_time_and_place_in_every_map_layer():
    encoder = net()
    calm = torch.full((1, 3, 3, 8, 32, 32), 20.0)
    spot = calm.clone()
    spot[0, 1, :, 4:8, 8:12, 24:28] = 255.0
    mask = torch.tensor([[False, True, True]])
    with torch.no_grad():
        before, after = (activations(encoder, echo(v, mask)) for v in (calm, spot))
        tokens = [encoder(echo(v, mask)).tokens for v in (calm, spot)]
    grids = {"stage1": (8, 8, 8), "stage2": (4, 4, 4), "stage3": (2, 4, 4), "merge": (2, 4, 4)}
    rows = view_rows(echo(spot, mask))
    assert rows.tolist() == [[0, 1], [0, 2]]
    for name, grid in grids.items():
        assert after[name].shape[0] == 2, name
        assert after[name].shape[2:] == grid, name
        change = (after[name] - before[name]).square().sum(dim=1)
        assert change[1].abs().max() == 0
        t, h, w = np.unravel_index(int(change[0].argmax()), grid)
        where = (torch.tensor([t, h, w]) + 0.5) / torch.tensor(grid)
        # Within a cell of the spot's middle; (0.75, 10/32, 26/32) of time, height and width.
        assert abs(where[0] - 0.75) <= 0.25 + 1e-6, name
        assert abs(where[1] - 10 / 32) <= 1 / grid[1], name
        assert abs(where[2] - 26 / 32) <= 1 / grid[2], name
    change = (tokens[1] - tokens[0])[0].square().sum(dim=1).view(3, 2, 2, 2)
    assert np.unravel_index(int(change.argmax()), (3, 2, 2, 2)) == (1, 1, 0, 1)


def test_maps_are_centred_on_the_picture():
    """Mirrored pictures, and time run backwards, give mirrored maps: nothing shifts by half."""
    encoder = net()
    for parameter in encoder.parameters():
        if parameter.ndim == 5:
            flipped = parameter.data.flip(2, 3, 4)
            parameter.data = (parameter.data + flipped) / 2
    video = videos(1)
    with torch.no_grad():
        forth = activations(encoder, echo(video))
        back = activations(encoder, echo(video.flip(3, 4, 5)))
    for name, activation in forth.items():
        assert torch.allclose(activation, back[name].flip(2, 3, 4), atol=1e-4), name


def test_missing_views_enter_nothing_and_are_not_computed():
    encoder = net()
    video, mask = videos(2), torch.tensor([[True, False, True], [True, True, True]])
    other = video.clone()
    other[0, 1] = math.nan
    with torch.no_grad():
        one, two = encoder(echo(video, mask)), encoder(echo(other, mask))
        maps = activations(encoder, echo(other, mask))
        whole = encoder(echo(video))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.pooled, two.pooled)
    assert maps["merge"].shape[0] == 5
    assert one.mask.view(2, 3, 8).all(dim=2).tolist() == mask.tolist()
    # The tokens of the other views are as before; the summary is another one, and not that of a
    # black picture.
    assert torch.allclose(one.tokens[0, 16:], whole.tokens[0, 16:], atol=1e-5)
    assert (one.pooled[0] - whole.pooled[0]).abs().max() > 1e-3
    black = video.clone()
    black[0, 1] = 0.0
    with torch.no_grad():
        assert (encoder(echo(black)).pooled[0] - one.pooled[0]).abs().max() > 1e-3


def test_one_view_alone_is_pooled_as_itself():
    """With a single view the attention has no choice: the summary is that view's value."""
    encoder = net()
    mask = torch.tensor([[False, True, False]])
    with torch.no_grad():
        encoded = encoder(echo(videos(1), mask))
        tokens = encoded.tokens[0, 8:16]
        view = torch.cat([tokens.mean(dim=0), tokens.amax(dim=0)])
        value = torch.relu(encoder.views.value(view) + encoder.views.view_value[1])
    assert torch.allclose(encoded.pooled[0], value, atol=1e-5)


def test_absent_patients_and_batches_of_one():
    encoder = net()
    video = videos(3)
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])
    present = torch.tensor([True, False, True])
    with torch.no_grad():
        batch = encoder(echo(video, mask, present))
        alone = encoder(echo(video[2:], mask[2:]))
        nobody = encoder(echo(video, mask, torch.zeros(3, dtype=torch.bool)))
    assert not batch.mask[1].any()
    assert batch.tokens[1].abs().max() == 0
    assert batch.pooled[1].abs().max() == 0
    assert torch.allclose(batch.tokens[2], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled[2], alone.pooled[0], atol=1e-5)
    assert torch.equal(encoder.summarise(batch.tokens, batch.mask), batch.pooled)
    assert not nobody.mask.any()
    assert nobody.pooled.abs().max() == 0


def test_a_gradient_reaches_the_recorded_pixels_in_eval_mode():
    encoder = net().requires_grad_(False)
    video = videos(1).requires_grad_()
    mask = torch.tensor([[True, False, True]])
    encoder(echo(video, mask)).pooled.square().sum().backward()
    assert (video.grad[0, 1] == 0).all()
    assert (video.grad[0, [0, 2]] != 0).float().mean() > 0.9


def test_other_sizes_are_refused_and_configs_must_be_whole():
    with pytest.raises(ValueError, match=r"reads 3 views of 8 RGB frames of 32 x 32 pixels"):
        net()(echo(torch.zeros(1, 3, 3, 8, 40, 40)))
    with pytest.raises(ValueError, match="token_grid"):
        EchoNetConfig(token_grid=(4, 4, 4))
    with pytest.raises(ValueError, match="every view once"):
        EchoNetConfig(views=("A4C", "A4C"))
    encoder = build_encoder("echo_r2plus1d", SMALL.model_dump(mode="json"))
    assert encoder.config == SMALL


def discs(rng: np.random.Generator, n: int) -> ReadingBatch:
    """A disc that beats: its mean radius is seen in view 0, how much it shrinks in view 1."""
    radius, share = rng.uniform(3, 6, n), rng.uniform(0.0, 0.6, n)
    grid = np.arange(16) - 7.5
    away = np.sqrt(grid[:, None] ** 2 + grid**2)
    beat = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(8) / 8 + rng.random((n, 1))))
    still = np.broadcast_to(radius[:, None], (n, 8))
    moving = 5.0 * (1 - share[:, None] * beat)
    video = np.zeros((n, 3, 8, 16, 16), np.float32)
    for view, r in enumerate((still, moving)):
        video[:, view] = 180 / (1 + np.exp(2 * (away - r[:, :, None, None])))
    video += rng.normal(10, 3, video.shape).astype(np.float32)
    mask = torch.ones(n, 3, dtype=torch.bool)
    mask[:, 2] = False
    targets = {t.name: torch.full((n,), math.nan) for t in ECHO_TARGETS}
    targets["lv_diameter_mm"] = torch.from_numpy(10.0 * radius).float()
    targets["ejection_fraction"] = torch.from_numpy(share).float()
    rgb = torch.from_numpy(video)[:, :, None].expand(-1, -1, 3, -1, -1, -1)
    return ReadingBatch(echo(rgb, mask), targets)


def test_pretraining_learns_size_and_motion_from_different_views():
    """A guess without looking errs by 7.5 mm and 0.15."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    encoder = EchoNet(SMALL.model_copy(update={"size": 16, "token_grid": (2, 1, 1)}))
    readings = EchoReadings(encoder.pooled_width)
    readings.fit(discs(rng, 200).targets)
    pretrain_readings(
        encoder, readings, iter(lambda: discs(rng, 16), None), 120, learning_rate=1e-2
    )
    test = discs(np.random.default_rng(1), 64)
    with torch.no_grad():
        read = readings(encoder(test.inputs).pooled)
    error = {name: (read[name] - test.targets[name]).abs().mean().item() for name in read}
    assert error["lv_diameter_mm"] < 2.5
    assert error["ejection_fraction"] < 0.05
