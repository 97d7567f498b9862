"""Training losses: Cox partial likelihood, class losses, InfoNCE, and those of answers."""

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


def cox_terms(log_risk: Tensor, event: Tensor, time_days: Tensor) -> Tensor:
    """(events,) terms of `cox_loss`, one a patient with the event, in the patients' order.

    Their mean is the loss: log(sum of risks of those still at risk) - own log-risk, Efron's ties,
    tied patients sharing their terms evenly. A censored patient has none of his own. Empty for a
    batch without events. log_risk (B,) or (B, 1), event (B,) bool, time_days (B,).
    """
    risk = log_risk.reshape(-1)
    event = event.bool()
    own, when = risk[event], time_days[event]
    lowest = torch.finfo(risk.dtype).min
    everyone = risk.expand(len(own), -1)
    at_risk = torch.logsumexp(everyone.masked_fill(time_days < when[:, None], lowest), dim=1)
    tied = when[:, None] == when
    size = tied.sum(dim=1).to(risk.dtype)
    among = torch.logsumexp(own.expand(len(own), -1).masked_fill(~tied, lowest), dim=1)
    before = tied.tril(-1).sum(dim=1) / size
    reduced = at_risk + torch.log1p(-before * torch.exp(among - at_risk))
    shared = (tied.to(risk.dtype) @ reduced) / size
    return shared - own


def class_terms(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) terms of `class_loss`, one a patient."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], label.to(logits.dtype), reduction="none"
        )
    return F.cross_entropy(logits, label, reduction="none")


def info_nce(a: Tensor, b: Tensor, temperature: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of two sets of unit vectors (B, D) whose rows belong together.

    van den Oord et al. 2018; the symmetric form of CLIP (Radford et al. 2021).
    """
    similarity = a @ b.T / temperature
    target = torch.arange(len(a), device=a.device)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))


# ---------------------------------------------------------------- TGMM (Zhang et al. 2025)


def answer_language_loss(log_likelihood: Tensor, label: Tensor, lengths: Tensor) -> Tensor:
    """L_lm (Zhang et al. 2025, eq. 11 over words): cross-entropy of the right answers' words.

    log_likelihood (B, C) total log-likelihood of every candidate answer, label (B,) int64 number
    of the right one, lengths (C,) words of each. The mean is over words, not over patients.
    """
    right = log_likelihood.gather(1, label[:, None]).sum()
    return -right / lengths.to(log_likelihood.dtype)[label].sum()


def answer_choice_loss(log_likelihood: Tensor, label: Tensor) -> Tensor:
    """L_mc (Zhang et al. 2025, eq. 11 over answers): cross-entropy of the choice among them."""
    return F.cross_entropy(log_likelihood, label)


def unlikely_answer_loss(log_likelihood: Tensor, label: Tensor, eps: float = 1e-6) -> Tensor:
    """L_unlikely (Zhang et al. 2025, eq. 12): - mean over wrong answers of log(1 - exp(ll) + eps).

    log_likelihood (B, C) at most 0 with C >= 2, label (B,) int64. Mean over patients.
    """
    wrong = torch.ones_like(log_likelihood).scatter(1, label[:, None], 0.0)
    terms = torch.log(1.0 - log_likelihood.exp() + eps) * wrong
    return -(terms.sum(dim=1) / (log_likelihood.shape[1] - 1)).mean()


def answer_loss(
    log_likelihood: Tensor,
    label: Tensor,
    lengths: Tensor,
    *,
    lm: float,
    mc: float,
    unlikely: float,
) -> Tensor:
    """L_dig (Zhang et al. 2025, eq. 10): the weighted sum of the three losses of an answer."""
    return (
        lm * answer_language_loss(log_likelihood, label, lengths)
        + mc * answer_choice_loss(log_likelihood, label)
        + unlikely * unlikely_answer_loss(log_likelihood, label)
    )


def comparable_pairs(event: Tensor, time_days: Tensor) -> Tensor:
    """(B, B) bool: row i is known to have its event before column j (Harrell et al. 1982).

    Also where j was censored on the very day of i's event.
    """
    earlier = time_days[:, None] < time_days[None, :]
    same_day = (time_days[:, None] == time_days[None, :]) & ~event[None, :]
    return event[:, None] & (earlier | same_day)


def margin_ranking_loss(
    log_risk: Tensor, event: Tensor, time_days: Tensor, margin: float
) -> Tensor:
    """L_m (Zhang et al. 2025, eq. 15): mean over comparable pairs of max(0, margin - (s_i - s_j)).

    Patient i of a pair had the event first and should have the larger log-risk s (y_i = 1). The
    paper prints the mean with a minus sign, which would reward violated pairs; its text asks for
    the hinge that is here. Zero, with a gradient, for a batch without comparable pairs.
    log_risk (B,) or (B, 1), event (B,) bool, time_days (B,), margin in units of log-risk.
    """
    log_risk = log_risk.reshape(-1)
    pairs = comparable_pairs(event.bool(), time_days)
    if not bool(pairs.any()):
        return log_risk.sum() * 0.0
    gaps = log_risk[:, None] - log_risk[None, :]
    return (margin - gaps[pairs]).clamp(min=0.0).mean()
