"""Class activation maps from a layer's activations and the explained number's gradient there.

All take activations A and gradients G = dy/dA, both (B, C, ...) with a volume's (d, h, w), a
signal's (leads, steps) or a video's (t, h, w) behind the channels, and return (B, ...) >= 0 in the
units of y, not rescaled: larger is more important, and 0 everywhere means that nothing in the
layer raises y.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def _space(A: Tensor) -> tuple[int, ...]:
    return tuple(range(2, A.ndim))


def gradcam(A: Tensor, G: Tensor) -> Tensor:
    """Channels weighted by their mean gradient: relu(sum_c mean(G_c) A_c).

    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    return (G.mean(dim=_space(A), keepdim=True) * A).sum(dim=1).relu()


def gradcam_plus_plus(A: Tensor, G: Tensor) -> Tensor:
    """Channels weighted by their positive gradients: relu(sum_c A_c sum_v alpha_cv relu(G_cv)).

    alpha = G^2 / (2 G^2 + S_c G^3) with S_c = sum_v A_cv, and 0 where G is 0. Chattopadhay et al.,
    Grad-CAM++, WACV 2018, equations 10 to 19. The paper explains exp(y): its derivatives are
    exp(y) times powers of G, so exp(y) cancels in alpha and would only scale the map; it is left
    out, which keeps the map in the units of y. The paper's A follow a ReLU; S_c of a layer
    without one is taken as at least 0, else the denominator could vanish.
    """
    total = A.sum(dim=_space(A), keepdim=True).clamp_min(0)
    # alpha relu(G) = relu(G) / (2 + S relu(G)), since both vanish where G <= 0.
    raising = G.relu()
    weights = (raising / (2 + total * raising)).sum(dim=_space(A), keepdim=True)
    return (weights * A).sum(dim=1).relu()


def hirescam(A: Tensor, G: Tensor) -> Tensor:
    """Voxel by voxel: relu(sum_c G_c A_c).

    Draelos & Carin, Use HiResCAM instead of Grad-CAM, arXiv:2011.08891, equation 4: no averaging
    of gradients over the volume, so a lesion much smaller than the volume keeps its place.
    """
    return (A * G).sum(dim=1).relu()


CAMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": gradcam,
    "gradcam_plus_plus": gradcam_plus_plus,
    "hirescam": hirescam,
}


def zeros_like_map(A: Tensor) -> Tensor:
    """The map (B, d, h, w) of a layer that the explained number does not depend on."""
    return torch.zeros_like(A[:, 0])
