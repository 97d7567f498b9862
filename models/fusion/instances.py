"""Instance-level supervision of a bag's attention (CLAM, Lu et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceClassifiers(nn.Module):
    """One classifier a class: is this instance evidence for it? (Lu et al. 2021, eqs 5 and 6.)

    most: instances taken from either end of a bag's attention, at most half of the bag.
    """

    def __init__(self, width: int, classes: int, most: int) -> None:
        super().__init__()
        self.classes = classes
        self.most = most
        self.classify = nn.Linear(width, 2 * classes)

    def forward(self, tokens: Tensor, attention: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the most (first half of S) and least (second half) attended instances.

        tokens (B, N, D), attention (B, N), mask (B, N) -> logits (B, S, classes, 2), chosen
        (B, S) bool, false where a bag is too small to fill its place.
        """
        each = min(self.most, tokens.shape[1] // 2)
        size = (mask.sum(dim=1) // 2).clamp(max=each)
        top = attention.masked_fill(~mask, -1.0).topk(each, dim=1).indices
        bottom = attention.masked_fill(~mask, 2.0).topk(each, dim=1, largest=False).indices
        place = torch.arange(each, device=tokens.device) < size[:, None]
        index = torch.cat([top, bottom], dim=1)
        picked = tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))
        logits = self.classify(picked).unflatten(2, (self.classes, 2))
        return logits, torch.cat([place, place], dim=1)


def instance_loss(logits: Tensor, chosen: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """L_inst: cross-entropy of the classifier of the bag's own class, mean over instances.

    The most attended instances are its evidence, the least attended are not. logits
    (B, S, classes, 2), chosen (B, S), label (B,) int64, known (B,) whose label is known. 0, with
    a gradient, where there is no such instance.
    """
    used = chosen & known[:, None]
    if not bool(used.any()):
        return logits.sum() * 0.0
    own = logits[torch.arange(len(label), device=label.device), :, label]
    half = chosen.shape[1] // 2
    evidence = (torch.arange(2 * half, device=label.device) < half).long().expand_as(chosen)
    return F.cross_entropy(own[used], evidence[used])
