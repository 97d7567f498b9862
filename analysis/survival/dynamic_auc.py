"""Area under the ROC curve by a day: are those who had the event by then ranked above the rest?

Cumulative cases (event by t) against dynamic controls (still event-free at t), cases weighted by
the inverse probability of not being censored before their event (Uno et al., JASA 2007; 102:527;
Hung & Chiang, Can J Stat 2010; 38:8). Equal risks count one half. 0.5 is chance, 1 is perfect.
The mean over time weights each day by the events around it (Lambert & Chevret, Stat Methods Med
Res 2016; 25:2088).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival import _weighted
from analysis.survival.brier import uncensored
from analysis.survival.comparison import ConfidenceInterval
from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Floats, SurvivalData, as_risk
from analysis.survival.observed import event_free, once
from analysis.survival.resampled import PointwiseBand, interval, pointwise


@dataclass(frozen=True, eq=False)
class DynamicAUC:
    """AUC over days `curve.at` with pointwise bounds, and their mean; undefined: why none."""

    curve: PointwiseBand
    mean: ConfidenceInterval
    undefined: str | None = None


def dynamic_auc(
    train: SurvivalData, test: SurvivalData, risk: npt.ArrayLike, times_days: npt.ArrayLike
) -> tuple[Floats, float]:
    """AUC (T,) at each time and its mean; nan where nobody is a case or nobody a control.

    train gives the censoring distribution. Equal to scikit-survival's cumulative_dynamic_auc with
    `tied_tol=0`, which refuses times outside the test follow-up. Raises ValueError for a risk that
    does not fit and for times that do not increase.
    """
    scores = as_risk(test, risk)[None]
    areas = resampled_auc(train, test, scores, times_days, once(test.n))
    return areas[0, 0], float(mean_auc(test, areas, times_days, once(test.n))[0, 0])


def resampled_auc(
    train: SurvivalData,
    test: SurvivalData,
    risks: npt.ArrayLike,
    times_days: npt.ArrayLike,
    weights: Multiplicities,
) -> Floats:
    """AUC of R risks (R, n) at T times in B weighted copies of the test patients: (R, B, T).

    The censoring distribution stays that of train in every copy.
    """
    scores = np.stack([as_risk(test, one) for one in np.atleast_2d(np.asarray(risks))])
    times = np.atleast_1d(np.asarray(times_days, np.float64))
    if times.size == 0 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError("times_days must be increasing finite numbers of days, at least one.")
    chance = uncensored(train, test.time_days)
    ipcw = np.where(test.event & (chance > 0), 1 / np.where(chance > 0, chance, 1.0), 0.0)
    case_from = np.searchsorted(times, test.time_days, side="left")
    control_until = np.searchsorted(times, test.time_days, side="left")
    counts = np.ascontiguousarray(weights, np.int32)
    out = np.empty((len(scores), len(counts), times.size))
    for score, area in zip(scores, out, strict=True):
        order = np.argsort(score, kind="stable")
        rank = np.unique(score[order], return_inverse=True)[1]

        def run(
            part: slice, order: object = order, rank: object = rank, area: Floats = area
        ) -> None:
            _weighted.dynamic_auc(
                counts[part], order, rank, ipcw, case_from, control_until, area[part]
            )

        _weighted.in_parts(len(counts), counts.size * times.size, run)
    return out


def mean_auc(
    test: SurvivalData, areas: Floats, times_days: npt.ArrayLike, weights: Multiplicities
) -> Floats:
    """Mean over time (R, B) of areas (R, B, T): weights are the drops of Kaplan-Meier.

    The drop before the first time counts to it. nan where an area that counts is nan, or nobody
    has the event by the last time.
    """
    times = np.atleast_1d(np.asarray(times_days, np.float64))
    everyone = np.ones((times.size, test.n), bool)
    survival = event_free(test, everyone, times, weights)
    drops = -np.diff(survival, axis=1, prepend=1.0)
    counted = np.where(drops[None] > 0, areas * drops[None], 0.0)
    lost = 1 - survival[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = counted.sum(axis=2) / np.where(lost > 0, lost, np.nan)[None]
    known = np.asarray(~np.isnan(survival).any(axis=1), bool)
    return np.where(known[None], mean, np.nan)


def why_no_auc(test: SurvivalData, times_days: Floats) -> str | None:
    """Why no AUC can be had at any of the times, in one sentence; None where one can."""
    last = float(times_days[-1])
    first_event = float(test.time_days[test.event].min()) if test.n_events else np.inf
    if first_event > last:
        return f"None of the {test.n} patients had the event by {last:g} days, so there is no case."
    first_time = times_days[int(np.searchsorted(times_days, first_event))]
    if float(test.time_days.max()) <= float(first_time):
        return "Nobody was still event-free after the first event, so there is no control."
    return None


def auc_with_band(
    test: SurvivalData,
    times_days: Floats,
    observed: Floats,
    sample: Floats,
    mean: float,
    mean_sample: Floats,
) -> DynamicAUC:
    """Join observed areas (T,) and mean with their resamples (B, T), (B,)."""
    return DynamicAUC(
        pointwise(times_days, observed, sample),
        interval(mean, mean_sample),
        why_no_auc(test, times_days),
    )
