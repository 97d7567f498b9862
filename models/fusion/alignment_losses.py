"""Losses that pull the modalities of one patient together: by singular values, or towards one.

Global alignment is HAF's stage 2 (Zheng et al., HAF, eqs 5 to 7, after Liu et al. 2025): the
modalities a patient has are the columns of a matrix whose largest singular value should be all
there is. Anchored alignment is CLIP's (Radford et al. 2021), one modality being the anchor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import info_nce

# Singular values below this share of the largest are taken as zero.
ZERO_SHARE = 1e-6
# Broadening of the gap between squared singular values, as a share of the largest squared.
GAP_SHARE = 1e-3


class _Spectrum(torch.autograd.Function):
    """Singular values (B, M) and oriented leading left singular vector (B, D) of (B, D, M).

    From the eigenvectors of the M x M Gram matrix. Both gradients are the exact ones (e.g.
    Townsend 2016) wherever they exist, without a division by a small singular value. Where they
    do not: a singular value of zero has the subgradient 0, equal ones share theirs over the basis
    that was found, and 1 / gap in the vector's gradient, with gap = s_1^2 - s_j^2, becomes
    gap / (gap^2 + (GAP_SHARE s_1^2)^2): never above 1 / (2 GAP_SHARE s_1^2), and 0 for a tie.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        values, right = torch.linalg.eigh(u.mT @ u)
        sigma, right = values.flip(-1).clamp(min=0.0).sqrt(), right.flip(-1)
        # A singular vector has no sign of its own: this one points where the columns point.
        sign = torch.where(right[..., 0].sum(dim=-1) < 0, -1.0, 1.0).to(u.dtype)
        right = torch.cat([right[..., :1] * sign[:, None, None], right[..., 1:]], dim=-1)
        first = sigma[:, :1]
        some = first > 0
        leading = torch.where(some, (u @ right[..., :1])[..., 0] / first.where(some, 1.0), 0.0)
        ctx.save_for_backward(u, right, sigma, leading)
        return sigma, leading

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        of_sigma, of_leading = gradients
        u, right, sigma, leading = ctx.saved_tensors
        scaled = u @ right  # column j: s_j q_j
        real = sigma > ZERO_SHARE * sigma[:, :1]
        share = torch.where(real, of_sigma / sigma.where(real, 1.0), 0.0)
        made: Tensor = (scaled * share[:, None]) @ right.mT

        first = sigma[:, :1, None]
        some = first > 0
        first = first.where(some, 1.0)
        gap = sigma[:, :1].square() - sigma.square()
        broad = GAP_SHARE * sigma[:, :1].square()
        inverse = gap / (gap.square() + broad.square()).where(some[..., 0], 1.0)
        inverse[:, 0] = 0.0
        turn = (scaled.mT @ of_leading[..., None])[..., 0] * inverse
        across = of_leading - leading * (leading * of_leading).sum(dim=1, keepdim=True)
        across = across + (scaled @ turn[..., None])[..., 0]
        vector = across[:, :, None] * right[:, None, :, 0] / first
        vector = vector + leading[:, :, None] * (right @ turn[..., None]).mT
        return made + torch.where(some, vector, 0.0)


def spectrum(columns: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values (B, M), largest first, and the dominant direction q_1 (B, D).

    columns (B, M, D): a patient's modality embeddings; present (B, M): those that are there, the
    others are no columns of the matrix and get no gradient. q_1 points to the side where the
    columns point (q_1 . sum of columns >= 0), so neither it nor its products hang on an arbitrary
    sign; it is 0 for a patient without any column. In double precision inside, and on the CPU
    where the device has none.
    """
    u = torch.where(present[..., None], columns, 0.0).mT
    home = u.device
    if home.type == "mps":
        u = u.cpu()
    sigma, leading = _Spectrum.apply(u.double())  # type: ignore[no-untyped-call]
    return sigma.to(home, columns.dtype), leading.to(home, columns.dtype)


def singular_emphasis_loss(sigma: Tensor, count: Tensor, temperature: float) -> Tensor:
    """L_SV (HAF, eq. 5): - log softmax(sigma / temperature)_1, mean over patients.

    sigma (B, M), largest first; count (B,) how many of them a patient has: only these are in the
    sum. A patient with one has the loss 0 and nothing to align, so the mean is over those with
    two or more; 0, with a gradient, where nobody has.
    """
    several = count > 1
    if not bool(several.any()):
        return sigma.sum() * 0.0
    logits = sigma[several] / temperature
    beyond = torch.arange(sigma.shape[1], device=sigma.device) >= count[several, None]
    logits = logits.masked_fill(beyond, torch.finfo(logits.dtype).min)
    return F.cross_entropy(logits, torch.zeros_like(count[several], dtype=torch.long))


def direction_loss(leading: Tensor, known: Tensor, temperature: float) -> Tensor:
    """L_PD (HAF, eq. 6): patients told apart by their dominant directions.

    leading (B, D) unit vectors, known (B,): the patients that have one. InfoNCE of every
    direction with itself among all others; 0 for a single patient.
    """
    if not bool(known.any()):
        return leading.sum() * 0.0
    q = leading[known]
    return F.cross_entropy(q @ q.T / temperature, torch.arange(len(q), device=q.device))


def global_alignment_loss(
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    temperature: float,
    lambda_pd: float,
) -> Tensor:
    """L_GA = L_SV + lambda_pd L_PD (HAF, eq. 7) of {modality: (B, D)} and who has it (B,).

    Any number of modalities a patient; their order does not matter.
    """
    columns = torch.stack(list(embeddings.values()), dim=1)
    there = torch.stack([present[name] for name in embeddings], dim=1)
    sigma, leading = spectrum(columns, there)
    count = there.sum(dim=1).clamp(max=columns.shape[2])
    emphasis = singular_emphasis_loss(sigma, count, temperature)
    return emphasis + lambda_pd * direction_loss(leading, sigma[:, 0] > 0, temperature)


def anchored_alignment_loss(
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    anchor: str,
    temperature: float,
) -> Tensor:
    """Symmetric InfoNCE of every other modality with the anchor, mean over modalities.

    HAF's CLIP alignment (section 3.2). Over the patients who have both; 0, with a gradient, where
    no two patients have. embeddings: {modality: (B, D)} unit vectors.
    """
    terms = []
    for name, embedding in embeddings.items():
        both = present[name] & present[anchor]
        if name != anchor and int(both.sum()) > 1:
            terms.append(info_nce(embedding[both], embeddings[anchor][both], temperature))
    return torch.stack(terms).mean() if terms else embeddings[anchor].sum() * 0.0


def leading_share(columns: Tensor, present: Tensor) -> Tensor:
    """(B,) s_1^2 / sum of s_j^2 of a patient's modalities, each brought to length 1.

    1 where they are one direction, 1 / M where M are orthogonal; nan for a patient without any.
    columns (B, M, D), present (B, M).
    """
    sigma, _ = spectrum(F.normalize(columns, dim=2), present)
    squared = sigma.square()
    return squared[:, 0] / squared.sum(dim=1)
