"""Training losses: Cox partial likelihood, class losses, InfoNCE."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor
from torchsurv.loss.cox import neg_partial_log_likelihood


def cox_loss(log_risk: Tensor, event: Tensor, time_days: Tensor) -> Tensor:
    """Negative partial log-likelihood per event, Efron's ties (Cox 1972; torchsurv).

    log_risk (B,) or (B, 1), event (B,) bool, time_days (B,). Zero, with a gradient, for a batch
    without events, where the likelihood says nothing.
    """
    log_risk = log_risk.reshape(-1)
    if not bool(event.any()):
        return log_risk.sum() * 0.0
    with warnings.catch_warnings():
        # torchsurv announces every batch with tied times; Efron's method is what we want then.
        warnings.filterwarnings("ignore", message="Ties in `time`")
        # Not reduction="mean": with ties torchsurv 0.2 divides by distinct times, not by events.
        total: Tensor = neg_partial_log_likelihood(
            log_risk, event.bool(), time_days, ties_method="efron", reduction="sum"
        )
    return total / event.sum()


def class_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy over classes (B, K); with one logit (B, 1), binary."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], label.to(logits.dtype))
    return F.cross_entropy(logits, label)


def info_nce(a: Tensor, b: Tensor, temperature: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of two sets of unit vectors (B, D) whose rows belong together.

    van den Oord et al. 2018; the symmetric form of CLIP (Radford et al. 2021).
    """
    similarity = a @ b.T / temperature
    target = torch.arange(len(a), device=a.device)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
