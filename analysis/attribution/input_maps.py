"""Attributions to the voxels of a volume itself: integrated gradients and block occlusion.

Both explain a function f that takes volumes (B, 1, D, H, W) in HU to B numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from scipy import ndimage
from torch import Tensor

from analysis.attribution.case import AttributionError
from analysis.cohort.readers.volume import AIR_HU

BASELINES = ("blurred", "air")
Explained = Callable[[Tensor], Tensor]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class InputMap:
    """A signed map of the input.

    values: (d, h, w) float32. reference: f of the whole baseline. gap: |sum of values - (f(volume)
    - reference)| where the method promises 0, else None. evaluations: volumes encoded.
    """

    values: npt.NDArray[np.float32]
    reference: float
    gap: float | None
    evaluations: int


def baseline_volume(
    volume: Tensor, spacing_mm: tuple[float, float, float], kind: str, blur_mm: float
) -> Tensor:
    """What stands for "nothing to see": (1, 1, D, H, W) in HU, by `kind`.

    `blurred`: the scan smoothed with a Gaussian of standard deviation blur_mm, which keeps where
    the body is and removes everything small. `air`: -1024 HU everywhere; it credits whatever is
    not air, the table included. Raises AttributionError for another kind.
    """
    if kind not in BASELINES:
        raise AttributionError(
            f"there is no baseline '{kind}'; choose one of {', '.join(BASELINES)}."
        )
    if kind == "air":
        return torch.full_like(volume, AIR_HU)
    sigma = [blur_mm / step for step in spacing_mm]
    smooth = ndimage.gaussian_filter(volume[0, 0].numpy(), sigma, mode="nearest", truncate=3.0)
    return torch.from_numpy(smooth)[None, None]


def integrated_gradients(
    f: Explained, volume: Tensor, baseline: Tensor, *, steps: int, batch: int
) -> InputMap:
    """Sundararajan et al., ICML 2017, by captum: Gauss-Legendre over `steps` points of the path.

    volume, baseline: (1, 1, D, H, W), or any other input (1, 1, ...). A forward and backward pass
    of the encoder a step, `batch` at a time; memory grows with `batch`. values are (D, H, W) and
    sum to f(volume) - f(baseline) but for `gap`, captum's convergence delta.
    """
    values, delta = IntegratedGradients(f).attribute(
        volume.clone().requires_grad_(),
        baselines=baseline,
        n_steps=steps,
        internal_batch_size=batch,
        return_convergence_delta=True,
    )
    with torch.no_grad():
        reference = float(f(baseline)[0])
    return InputMap(
        values=values[0, 0].detach().float().numpy(),
        reference=reference,
        gap=abs(float(delta[0])),
        evaluations=steps + 3,
    )


def occlusion(
    f: Explained,
    volume: Tensor,
    baseline: Tensor,
    *,
    block: Shape,
    batch: int,
    ignore_hu: float = 1.0,
) -> InputMap:
    """f(volume) - f(volume with one block of voxels replaced by the baseline's), block by block.

    Zeiler & Fergus, ECCV 2014, on a grid without overlap, by captum. values: (d, h, w), one per
    block of (D, H, W) = `block` voxels from the first voxel on; the last block of an axis may
    reach beyond the volume. A block in which replacing changes no voxel by more than ignore_hu
    (air around the body) is not evaluated and is 0. One pass of the encoder a block: a network
    sees all of the volume, so there is no part of a pass to share.
    """
    change = (volume - baseline).abs()[0, 0].numpy()
    grid = tuple(-(-n // b) for n, b in zip(change.shape, block, strict=True))
    parts = [
        tuple(slice(i * b, (i + 1) * b) for i, b in zip(cell, block, strict=True))
        for cell in itertools.product(*map(range, grid))
    ]
    active = [n for n, part in enumerate(parts) if change[part].max() > ignore_hu]
    values = np.zeros(len(parts), np.float32)
    # Feature 0 are all quiet blocks together: captum wants every voxel to belong to a feature.
    features = torch.zeros(volume.shape, dtype=torch.int64)
    for feature, n in enumerate(active, start=1):
        features[0, 0][parts[n]] = feature
    if active:
        replaced = torch.where(features > 0, baseline, volume)
        shares = FeatureAblation(f).attribute(
            volume, replaced, feature_mask=features, perturbations_per_eval=batch
        )[0, 0]
        for n in active:
            values[n] = float(shares[parts[n]].flatten()[0])
    with torch.no_grad():
        reference = float(f(baseline)[0])
    return InputMap(values.reshape(grid), reference, None, len(active) + 3)
