"""Grad-CAM of one CT beside a bare pass, a bare pass with a full backward, captum and MONAI.

    python bench/gradcam.py [RUN] [--encoders FOLDER]

One process, one scan, the same allocator settings for all (large blocks kept), in turns so that
noise on the machine falls on all alike; medians. RUN is a run with a CT (default: the shipped
PE run of the CT alone). The maps are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerGradCam
from monai.visualize import GradCAM
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.attribution.cam import gradcam
from analysis.attribution.capture import capture
from models.checkpoint import load_run
from models.contracts import Kind, ModalityInput
from models.network import FusionModel
from models.runtime import keep_large_blocks
from sample_data.phantom import render_chest
from sample_data.pretraining import draw_parameters
from sample_data.workspace import ENCODERS, RUNS

ROUNDS, WARM = 15, 2


class Whole(nn.Module):
    """Scan in HU -> (B, 1) log-risk: what the peers are given. The same model, nothing added."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, volume: Tensor) -> Tensor:
        rows = torch.ones(len(volume), dtype=torch.bool)
        item = ModalityInput(Kind.VOLUME, {"volume": volume}, rows)
        encoded = self.model.encoder("ct")(item)
        output: Tensor = self.model.fuse({"ct": encoded}).prediction
        return output


def ours(whole: Whole, volume: Tensor, layer: str) -> Tensor:
    with capture(whole.model.encoder("ct"), (layer,)) as seen:
        gradient = torch.autograd.grad(whole(volume).sum(), seen[layer])[0]
    return gradcam(seen[layer].detach(), gradient)


def bare(whole: Whole, volume: Tensor) -> Tensor:
    with torch.inference_mode():
        return whole(volume)


def backward(whole: Whole, volume: Tensor) -> None:
    """To all parameters, as training does."""
    whole.zero_grad(set_to_none=True)
    whole(volume).sum().backward()


def measure(whole: Whole, volume: Tensor, layer: str) -> None:
    path = f"model.encoders.ct.{layer}"
    captum = LayerGradCam(whole, whole.get_submodule(path))
    monai = GradCAM(nn_module=copy.deepcopy(whole), target_layers=path)  # its hooks stay for good
    work: Mapping[str, Callable[[], Tensor | None]] = {
        "bare forward": lambda: bare(whole, volume),
        "ours": lambda: ours(whole, volume, layer),
        "captum LayerGradCam": lambda: captum.attribute(volume, relu_attributions=True),
        "MONAI GradCAM (no upsampling)": lambda: monai.compute_map(volume, class_idx=0),
        "bare forward + backward": lambda: backward(whole, volume),
    }
    spent: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(WARM + ROUNDS):
        for name, f in work.items():
            start = time.perf_counter()
            f()
            if turn >= WARM:
                spent[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(s)) for name, s in spent.items()}
    # Round by round, so that a slow moment of the machine falls on both sides of a ratio.
    ratios = {name: np.median(np.divide(s, spent["bare forward"])) for name, s in spent.items()}
    print(f"\n| {layer} | ms | this / bare forward | largest difference of the map |")
    print("|---|---|---|---|")
    reference = ours(whole, volume, layer).flatten()
    for name, s in medians.items():
        made = work[name]() if "C" in name else None
        gap = (
            ""
            if made is None
            else f"{(made.detach().flatten() - reference).abs().max() / reference.max():.0e}"
        )
        print(f"| {name} | {1e3 * s:.1f} | {ratios[name]:.2f} | {gap} |", flush=True)


def scan(shape: tuple[int, ...]) -> Tensor:
    """A simulated chest with contrast and clots, on the encoder's grid."""
    rng = np.random.default_rng(5)
    parameters = draw_parameters(rng)
    while not (parameters.contrast and parameters.clot_burden > 0.02):
        parameters = draw_parameters(rng)
    volume = torch.from_numpy(render_chest(parameters, rng).volume).float()[None, None]
    assert tuple(volume.shape[2:]) == shape
    return volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=RUNS / "pe-ct")
    parser.add_argument("--encoders", type=Path, default=ENCODERS)
    parser.add_argument("--layers", nargs="*", help="module paths; all of the encoder's by default")
    arguments = parser.parse_args()
    kept = keep_large_blocks()
    model = load_run(arguments.run, [arguments.encoders]).model
    # As a model comes from training: the peers need gradients, ours leaves the flags alone.
    whole = Whole(model).requires_grad_(True).eval()
    encoder = model.encoder("ct")
    volume = scan(encoder.config.shape)  # type: ignore[attr-defined]
    print(
        f"{arguments.run.name}, scan {tuple(volume.shape[2:])}, {torch.get_num_threads()} threads, "
        f"large blocks kept: {kept}; medians of {ROUNDS} rounds."
    )
    for layer in arguments.layers or encoder.map_layers:
        measure(whole, volume, layer)


if __name__ == "__main__":
    main()
