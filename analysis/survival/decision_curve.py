"""Decision curves: is acting on the prediction worth more than acting on all, or on nobody?

Net benefit at a threshold p: true positives minus false positives, the latter weighted by the
odds p / (1 - p) that say how many needless actions one right one is worth; per patient (Vickers
& Elkin, Med Decis Making 2006; 26:565). With censoring, the risk of the flagged is Kaplan-Meier's
within them (Vickers et al., BMC Med Inform Decis Mak 2008; 8:53). Acting on nobody has 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Floats
from analysis.survival.observed import Observed, once
from analysis.survival.resampled import PointwiseBand, pointwise

THRESHOLDS = np.arange(1, 100) / 100


def net_benefit(
    observed: Observed,
    probability: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    weights: Multiplicities | None = None,
) -> Floats:
    """Net benefit (B, T) of acting where the probability (n,) is at or above each threshold.

    thresholds: (T,) between 0 and 1, both excluded. weights: (B, n) copies; the cohort itself,
    (1, T), if None. nan where a flagged group's risk is unknown. Raises ValueError for values
    outside their range.
    """
    chances = checked_probability(observed.n, probability)
    cuts = checked_thresholds(thresholds)
    return _benefit(observed, chances[None] >= cuts[:, None], cuts, weights)


def treat_all(
    observed: Observed, thresholds: npt.ArrayLike, weights: Multiplicities | None = None
) -> Floats:
    """Net benefit (B, T) of acting on everybody."""
    cuts = checked_thresholds(thresholds)
    counts = once(observed.n) if weights is None else weights
    risk = observed.risk(np.ones((1, observed.n), bool), counts)
    return np.asarray(risk - (1 - risk) * cuts / (1 - cuts), np.float64)


def decision_curve(
    observed: Observed,
    probability: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    weights: Multiplicities,
) -> PointwiseBand:
    """Net benefit over thresholds with pointwise bootstrap bounds."""
    value = net_benefit(observed, probability, thresholds)[0]
    sample = net_benefit(observed, probability, thresholds, weights)
    return pointwise(checked_thresholds(thresholds), value, sample)


def checked_probability(n: int, given: npt.ArrayLike) -> Floats:
    """Probabilities of the event as (n,) float64; raises ValueError for anything else."""
    chances = np.asarray(given, np.float64)
    if chances.shape != (n,):
        raise ValueError(f"probability has shape {chances.shape}; {n} patients need {(n,)}.")
    if not ((chances >= 0) & (chances <= 1)).all():
        raise ValueError("probability must lie between 0 and 1, none missing.")
    return chances


def checked_thresholds(given: npt.ArrayLike) -> Floats:
    """Thresholds as (T,) float64; raises ValueError outside (0, 1)."""
    cuts = np.atleast_1d(np.asarray(given, np.float64))
    if cuts.ndim != 1 or not ((cuts > 0) & (cuts < 1)).all():
        raise ValueError("A threshold is a probability above 0 and below 1.")
    return cuts


def _benefit(
    observed: Observed, flagged: npt.NDArray[np.bool_], cuts: Floats, weights: Multiplicities | None
) -> Floats:
    counts = once(observed.n) if weights is None else weights
    # Neighbouring thresholds often flag the same patients: each group is judged once.
    first, group = np.unique(flagged.sum(axis=1), return_index=True, return_inverse=True)[1:]
    members = flagged[first]
    share = (counts @ members.T.astype(np.float64)) / counts.sum(axis=1, keepdims=True)
    risk = observed.risk(members, counts)
    share, risk = share[:, group], risk[:, group]
    benefit = share * (risk - (1 - risk) * cuts / (1 - cuts))
    return np.where(share > 0, benefit, 0.0)
