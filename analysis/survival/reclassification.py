"""Two predictions of the same patients: who changes risk group, and is it for the better?

Net reclassification improvement: of those who have the event, the share moved up minus the share
moved down; of those who have not, down minus up (Pencina et al., Stat Med 2008; 27:157). With
censoring both are Kaplan-Meier's within the moved (Pencina, D'Agostino & Steyerberg, Stat Med
2011; 30:11, section 3). The two parts are shown apart because their sum weighs an event like a
non-event, and it may look good for a badly calibrated prediction (Hilden & Gerds, Stat Med 2014;
33:3405): read it beside the decision curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.comparison import ConfidenceInterval
from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Bools, Floats, Ints
from analysis.survival.decision_curve import checked_probability, checked_thresholds
from analysis.survival.observed import Observed, once
from analysis.survival.resampled import difference_p, interval


@dataclass(frozen=True, eq=False)
class Reclassification:
    """From the first prediction's risk groups (rows) to the second's (columns), lowest first.

    cuts: (C,) probabilities; a patient at or above a cut is beyond it. counts (C + 1, C + 1)
    patients, risk the observed risk of each cell, nan where empty. events, nonevents, total: net
    reclassification of the second against the first, in [-1, 1] and [-2, 2], positive in favour of
    the second; p two-sided bootstrap of the total. undefined: why they are nan.
    """

    cuts: Floats
    counts: Ints
    risk: Floats
    n_up: int
    n_down: int
    events: ConfidenceInterval
    nonevents: ConfidenceInterval
    total: ConfidenceInterval
    p: float
    undefined: str | None = None


def reclassification(
    observed: Observed,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    cuts: npt.ArrayLike,
    weights: Multiplicities,
) -> Reclassification:
    """Reclassification by the second probability (n,) against the first, cut at `cuts` (C,).

    Intervals over the copies (B, n). Raises ValueError for cuts that do not increase or a
    probability that does not fit.
    """
    edges = checked_thresholds(cuts)
    if (np.diff(edges) <= 0).any():
        raise ValueError("Cuts between risk groups must increase.")
    before = np.searchsorted(edges, checked_probability(observed.n, first), side="right")
    after = np.searchsorted(edges, checked_probability(observed.n, second), side="right")
    groups = edges.size + 1
    cell = before * groups + after
    inside = cell[None] == np.arange(groups * groups)[:, None]
    up, down = after > before, after < before
    value = [float(part[0]) for part in improvement(observed, up, down, once(observed.n))]
    sample = improvement(observed, up, down, weights)
    reason = observed.why_undefined()
    if reason is None and np.isnan(value).any():
        reason = "Those who changed risk group were not followed to the horizon."
    return Reclassification(
        cuts=edges,
        counts=inside.sum(axis=1).reshape(groups, groups),
        risk=observed.risk(inside, once(observed.n)).reshape(groups, groups),
        n_up=int(up.sum()),
        n_down=int(down.sum()),
        events=interval(value[0], sample[0]),
        nonevents=interval(value[1], sample[1]),
        total=interval(sum(value), sample[0] + sample[1]),
        p=difference_p(sample[0] + sample[1]) if reason is None else float("nan"),
        undefined=reason,
    )


def improvement(
    observed: Observed, up: Bools, down: Bools, weights: Multiplicities
) -> tuple[Floats, Floats]:
    """Net reclassification (B,) of events and of non-events, given who moved up or down (n,)."""
    each = weights.sum(axis=1)
    risk = observed.risk(np.stack([up, down, np.ones(observed.n, bool)]), weights)
    share = [weights @ moved.astype(np.float64) / each for moved in (up, down)]
    with_event = [np.where(s > 0, s * risk[:, k], 0.0) for k, s in enumerate(share)]
    without = [np.where(s > 0, s * (1 - risk[:, k]), 0.0) for k, s in enumerate(share)]
    whole = risk[:, 2]
    events = (with_event[0] - with_event[1]) / np.where(whole > 0, whole, np.nan)
    nonevents = (without[1] - without[0]) / np.where(whole < 1, 1 - whole, np.nan)
    return np.asarray(events, np.float64), np.asarray(nonevents, np.float64)
