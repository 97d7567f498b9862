"""An alert at a threshold: how many are flagged, whom it finds, how often it is right.

Counted by the horizon: with censoring the risk of the flagged and of the others is
Kaplan-Meier's within them (Heagerty, Lumley & Pepe, Biometrics 2000; 56:337, eq. 1, with both
groups' own estimates, so that shares stay in [0, 1]).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.comparison import ConfidenceInterval
from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Bools, Floats
from analysis.survival.decision_curve import checked_probability, checked_thresholds
from analysis.survival.observed import Observed, once
from analysis.survival.resampled import interval

MEASURES = ("alert_rate", "sensitivity", "specificity", "ppv", "npv")
_NAN = float("nan")


@dataclass(frozen=True)
class Alerts:
    """Flagging every patient whose probability is at or above the threshold.

    alert_rate: share flagged. sensitivity: share of those with the event who are flagged;
    specificity: of those without who are not. ppv: share of the flagged who have the event; npv:
    of the others who have not. needed: number needed to alert, flagged patients a true alert,
    1 / ppv; its upper bound is nan where that of ppv reaches 0. undefined: why something is nan.
    """

    threshold: float
    n: int
    n_flagged: int
    alert_rate: ConfidenceInterval
    sensitivity: ConfidenceInterval
    specificity: ConfidenceInterval
    ppv: ConfidenceInterval
    npv: ConfidenceInterval
    needed: ConfidenceInterval
    undefined: str | None = None


def alerts(
    observed: Observed,
    probability: npt.ArrayLike,
    threshold: float,
    weights: Multiplicities,
) -> Alerts:
    """What flagging at a threshold does, with percentile intervals over the copies (B, n).

    Raises ValueError for a threshold or probability outside their range.
    """
    chances = checked_probability(observed.n, probability)
    flagged = chances >= float(checked_thresholds(threshold)[0])
    value = alert_shares(observed, flagged, once(observed.n))
    sample = alert_shares(observed, flagged, weights)
    found = {name: interval(float(value[name][0]), sample[name]) for name in MEASURES}
    return Alerts(
        threshold=float(threshold),
        n=observed.n,
        n_flagged=int(flagged.sum()),
        needed=_inverse(found["ppv"]),
        undefined=_why(observed, flagged, bool(np.isnan(list(value.values())).any())),
        **found,
    )


def alert_shares(observed: Observed, flagged: Bools, weights: Multiplicities) -> dict[str, Floats]:
    """The MEASURES, each (B,), of flagging these patients (n,) in B copies; nan where none."""
    rate = weights @ flagged.astype(np.float64) / weights.sum(axis=1)
    risk = observed.risk(np.stack([flagged, ~flagged]), weights)
    hit, needless = _part(rate, risk[:, 0]), _part(rate, 1 - risk[:, 0])
    missed, spared = _part(1 - rate, risk[:, 1]), _part(1 - rate, 1 - risk[:, 1])
    return {
        "alert_rate": rate,
        "sensitivity": _share(hit, hit + missed),
        "specificity": _share(spared, spared + needless),
        "ppv": risk[:, 0],
        "npv": 1 - risk[:, 1],
    }


def _part(share: Floats, risk: Floats) -> Floats:
    """Share of all patients; an empty group contributes nobody, whatever its risk would be."""
    return np.where(share > 0, share * risk, 0.0)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.asarray(part / np.where(whole > 0, whole, np.nan), np.float64)


def _inverse(ppv: ConfidenceInterval) -> ConfidenceInterval:
    def turned(share: float) -> float:
        return 1 / share if share > 0 else _NAN

    return ConfidenceInterval(turned(ppv.value), turned(ppv.high), turned(ppv.low))


def _why(observed: Observed, flagged: Bools, missing: bool) -> str | None:
    reason = observed.why_undefined()
    if reason is not None or not missing:
        return reason
    if not flagged.any():
        return f"None of the {observed.n} patients is flagged."
    if flagged.all():
        return f"All {observed.n} patients are flagged."
    return "The flagged or the other patients were not followed to the horizon."
