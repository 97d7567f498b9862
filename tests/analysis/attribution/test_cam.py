from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation

from analysis.attribution.cam import CAMS, gradcam, gradcam_plus_plus, hirescam
from analysis.attribution.target import LogRisk
from analysis.attribution.volume import layer_maps, layers_of
from models.contracts import Kind, ModalityInput
from tests.analysis.attribution.toys_ct import case_of, noise, resnet_run, solved, two_cells

FIRST, LAST = (0, 0, 0), (1, 1, 1)
# toys_ct.solved: activations (20, -10) and (-8, 4), gradients (3/8, 0) and (0, 5/8).
EXPECTED = {
    "gradcam": (3 / 64 * 20 - 5 / 64 * 10, 0.0),  # last: 3/64 * -8 + 5/64 * 4 < 0
    "hirescam": (3 / 8 * 20, 5 / 8 * 4),
    # channel weights (3/8) / (2 + 12 * 3/8) and (5/8) / 2: the second channel's sum, -6, counts 0
    "gradcam_plus_plus": (0.0, -8 * (3 / 8) / 6.5 + 4 * (5 / 16)),
}


@pytest.mark.parametrize("method", CAMS)
def test_one_convolution_solved_by_hand(tmp_path: Path, method: str) -> None:
    case = case_of(tmp_path, solved(), two_cells())
    assert case.value(LogRisk()) == pytest.approx([10])
    made = layer_maps(case, "ct", LogRisk(), (method,))[method, "conv"]
    expected = np.zeros((2, 2, 2))
    expected[FIRST], expected[LAST] = EXPECTED[method]
    np.testing.assert_allclose(made.values, expected, atol=1e-6)


def test_hirescam_of_a_linear_end_sums_to_the_prediction(tmp_path: Path) -> None:
    case = case_of(tmp_path, solved(), two_cells())
    made = layer_maps(case, "ct", LogRisk(), ("hirescam",))["hirescam", "conv"]
    assert made.values.sum() == pytest.approx(10)


def test_grad_cam_plus_plus_is_the_published_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(1, 3, 2, 3, 4, generator=generator)
    G = torch.randn(1, 3, 2, 3, 4, generator=generator)
    G[0, 0, 0, 0, 0] = 0
    weights = torch.zeros(3)
    for c in range(3):
        for g in G[0, c].flatten():
            below = 2 * g**2 + A[0, c].sum() * g**3
            alpha = g**2 / below if g != 0 else torch.tensor(0.0)
            weights[c] += alpha * g.clamp_min(0)
    expected = (weights.view(1, 3, 1, 1, 1) * A).sum(1).relu()
    torch.testing.assert_close(gradcam_plus_plus(A, G), expected)


def test_no_gradient_gives_zeros_and_no_nan() -> None:
    A = torch.randn(1, 3, 2, 2, 2)
    for cam in (gradcam, gradcam_plus_plus, hirescam):
        assert cam(A, torch.zeros_like(A)).abs().sum() == 0


@pytest.mark.parametrize("trainable", [True, False])
def test_equal_to_captum_on_the_real_encoder(tmp_path: Path, trainable: bool) -> None:
    run = resnet_run(seed=3)
    case = case_of(tmp_path, run, noise(4))
    encoder = run.model.encoder("ct").requires_grad_(trainable)
    made = layer_maps(case, "ct", LogRisk())
    volume = case.raw("ct").fields["volume"]

    def forward(x: torch.Tensor) -> torch.Tensor:
        item = ModalityInput(Kind.VOLUME, {"volume": x}, torch.ones(len(x), dtype=torch.bool))
        return run.model({"ct": item}).prediction[:, 0]

    assert len(layers_of(case, "ct")) == 7
    for name in layers_of(case, "ct"):
        layer = encoder.get_submodule(name)
        peers = {
            "gradcam": LayerGradCam(forward, layer).attribute(
                volume.clone().requires_grad_(), relu_attributions=True
            )[0, 0],
            "hirescam": LayerGradientXActivation(forward, layer)
            .attribute(volume.clone().requires_grad_())
            .sum(1)
            .relu()[0],
        }
        for method, peer in peers.items():
            ours = made[method, name].values
            assert ours.max() > 0, (method, name)
            gap = np.abs(ours - peer.detach().numpy()).max() / ours.max()
            assert gap < 1e-5, (method, name)
