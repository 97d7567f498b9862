"""How wrong one patient's prediction is, by itself: lower is better.

Class task: log loss, minus the logarithm of the probability given to the patient's own class.

Survival: the share of the patient's comparable pairs that are in the wrong order, equal risks
counting one half. Pairs are Harrell's (JAMA 1982; 247:2543): the earlier time is an event. The
patient's risk is set against the other patients' risks as they are, so that a change of one
patient's information moves nobody else. 0 is perfect, 0.5 chance; a patient without a comparable
pair has none. It is bounded, needs no baseline hazard, and its mean over patients, weighted by
their pairs, is 1 minus Harrell's C.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.classification.data import Floats, LabelData, as_probability
from analysis.survival.data import SurvivalData, as_risk

_ROWS = 1024
LOSS_WORDS = {
    "survival": "share of the patient's comparable pairs in the wrong order, the other patients "
    "as they are",
    "classification": "log loss: minus the logarithm of the probability of the patient's own class",
}


def log_loss(data: LabelData, given: npt.ArrayLike) -> Floats:
    """(n,) minus the log of the probability of each patient's class; at most -log(1e-12)."""
    checked = as_probability(data, given)
    if data.is_binary:
        own = np.where(data.label == 1, checked, 1 - checked)
    else:
        own = checked[np.arange(data.n), data.label]
    return np.asarray(-np.log(np.maximum(own, 1e-12)), np.float64)


def pair_loss(data: SurvivalData, risk: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    """(n,) share of each patient's comparable pairs in the wrong order; nan without any.

    risk: (n,) of the patient in question; others: (n,) of everybody else. Larger is worse.
    """
    own, rest = as_risk(data, risk), as_risk(data, others, "others")
    time, event = data.time_days, data.event
    out = np.full(data.n, np.nan)
    for first in range(0, data.n, _ROWS):
        rows = np.arange(first, min(first + _ROWS, data.n))
        t, e, r = time[rows, None], event[rows, None], own[rows, None]
        before = e & ((time > t) | ((time == t) & ~event))  # the patient has the event first
        after = event & ((time < t) | ((time == t) & ~e))
        itself = rows[:, None] == np.arange(data.n)
        before, after = before & ~itself, after & ~itself
        tied = 0.5 * (r == rest)
        wrong = before * ((r < rest) + tied) + after * ((r > rest) + tied)
        pairs = (before | after).sum(axis=1)
        known = pairs > 0
        out[rows[known]] = wrong.sum(axis=1)[known] / pairs[known]
    return out
