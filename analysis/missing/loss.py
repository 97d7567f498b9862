"""How wrong one patient's prediction is, by itself: lower is better, 0.1 more is 10% less likely.

Both losses are minus the logarithm of how likely the run held what happened, so that a truthful
prediction has the lowest mean (proper scoring rules), and one patient's loss depends on nobody
else's prediction.

Class task: log loss, of the probability given to the patient's own class.

Survival: minus the log-likelihood of right-censored data (proper: Rindt et al., AISTATS 2022) of
the run's own hazard, Breslow's baseline times exp(log-risk):
    H0(t) exp(r) - r if the event happened at t, H0(t) exp(r) if it had not by t
with r the log-risk relative to the baseline's reference. The baseline's own density at t is left
out: it is the same with and without a modality. Follow-up beyond that of the training patients,
where H0 is not known, does not count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.classification.data import Floats, LabelData, as_probability
from analysis.survival.baseline import BaselineHazard
from analysis.survival.data import SurvivalData, as_risk

LOSS_WORDS = {
    "survival": "minus the log-likelihood of the patient's follow-up under the run's own hazard",
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


def survival_loss(data: SurvivalData, log_risk: npt.ArrayLike, baseline: BaselineHazard) -> Floats:
    """(n,) minus the log-likelihood of each patient's follow-up, without the baseline's density.

    log_risk: (n,), from the model the baseline was estimated with.
    """
    relative = as_risk(data, log_risk, "log_risk") - baseline.reference_log_risk
    last = baseline.time_days[-1]
    steps = np.r_[0.0, baseline.cumulative_hazard]
    known_until = np.minimum(data.time_days, last)
    hazard = steps[np.searchsorted(baseline.time_days, known_until, side="right")]
    happened = data.event & (data.time_days <= last)
    return np.asarray(hazard * np.exp(relative) - happened * relative, np.float64)
