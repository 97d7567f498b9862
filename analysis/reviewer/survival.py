"""The reviewer's statistics of time-to-event predictions, from arrays to plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from analysis.classification.evaluation import interval_json
from analysis.reviewer.as_json import (
    adjust,
    alerts_json,
    band_json,
    benefit_at,
    calibration_json,
    difference_json,
    drop_json,
    numbers_json,
    reclassification_json,
    subgroups_json,
)
from analysis.survival.alerts import alerts
from analysis.survival.brier import last_usable_day, over_time, resampled_brier
from analysis.survival.calibration import horizon_calibration
from analysis.survival.concordance import Multiplicities, bootstrap_c, why_undefined
from analysis.survival.concordance import resample_weights as draw
from analysis.survival.curves import kaplan_meier
from analysis.survival.data import Bools, Floats, SurvivalData, as_risk
from analysis.survival.decision_curve import THRESHOLDS, net_benefit, treat_all
from analysis.survival.dynamic_auc import auc_with_band, mean_auc, resampled_auc
from analysis.survival.observed import ByHorizon, once
from analysis.survival.reclassification import reclassification
from analysis.survival.resampled import interval, pointwise
from analysis.survival.subgroups import drop, subgroup_c

N_TIMES = 100
METHODS = {
    "score": "Harrell's C.",
    "auc": "Cumulative cases against dynamic controls, cases weighted by the inverse probability "
    "of not being censored (Uno 2007); the mean weights days by their events.",
    "brier": "Weighted by the inverse probability of not being censored (Graf 1999); the index of "
    "prediction accuracy is 1 - Brier / Brier of Kaplan-Meier, 0 is no better than it.",
    "calibration": "Observed risk by Kaplan-Meier; intercept and slope on the complementary "
    "log-log scale, weighted for censoring; curve by Cox regression on a restricted cubic spline "
    "(Austin 2020).",
    "net_benefit": "True positives minus false positives x threshold odds, per patient; "
    "Kaplan-Meier within the flagged (Vickers 2008).",
    "alerts": "Patients at or above the threshold; Kaplan-Meier within the flagged and the others.",
    "reclassification": "Net reclassification by Kaplan-Meier within those who move "
    "(Pencina 2011).",
    "subgroups": "Cochran's Q over the levels of an attribute on the logit scale, "
    "variances by bootstrap; Holm over the attributes.",
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one run says of n patients.

    risk (n,), any scale, larger is worse. event_free: from times (T,) to the probability (n, T) of
    being event-free then, known until until_days; None where the run gives none, and `lacking`
    says why.
    """

    name: str
    risk: Floats
    event_free: Callable[[Floats], Floats] | None = None
    until_days: float = float("inf")
    lacking: str | None = None


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Other patients, such as the external ones, with every run's risk: {name: (n,)}."""

    split: str
    data: SurvivalData
    risks: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Question:
    """Patients and what is asked of them.

    train gives the censoring distribution and the Kaplan-Meier reference. threshold: probability
    of the event by horizon_days at which patients are flagged. attributes: {attribute: {level:
    (n,) bool}}.
    """

    data: SurvivalData
    train: SurvivalData
    horizon_days: float
    threshold: float
    attributes: Mapping[str, Mapping[str, Bools]] = field(default_factory=dict)
    elsewhere: Elsewhere | None = None
    n_resamples: int = 1000
    seed: int = 0

    @cached_property
    def weights(self) -> Multiplicities:
        """(B, n): the one set of resamples behind every interval."""
        return draw(self.data.n, self.n_resamples, self.seed)

    @property
    def observed(self) -> ByHorizon:
        """Risk by the horizon."""
        return ByHorizon(self.data, self.horizon_days)

    def times(self, until_days: float = float("inf")) -> Floats | str:
        """N_TIMES days from the 5% quantile of the events to the horizon; or why there are none."""
        last = last_usable_day(self.train, self.data)
        end = min(last, self.horizon_days, until_days) * (1 - 1e-9)
        if self.data.n_events == 0:
            return f"None of the {self.data.n} patients had the event."
        start = max(float(np.quantile(self.data.time_days[self.data.event], 0.05)), 1e-6)
        if start >= end:
            return f"Hardly any event was seen by {end:g} days, where follow-up or horizon ends."
        return np.linspace(start, end, N_TIMES)


@dataclass(eq=False)
class _Judged:
    """One run's samples, kept for the differences."""

    c: tuple[float, Floats]
    row: dict[str, Any]
    auc: tuple[float, Floats] | None = None
    brier: tuple[float, Floats] | None = None
    benefit: tuple[Floats, Floats] | None = None
    chances: Floats | None = None


def survival_statistics(
    predictions: Sequence[Prediction], question: Question, reference: str | None = None
) -> dict[str, Any]:
    """Every statistic of every run, and of pairs against the reference run, in plain JSON.

    reference: name of a run; without it the one with the highest C on these patients, which
    favours it. Raises ValueError for no run, two of a name, or a prediction that does not fit.
    """
    names = [p.name for p in predictions]
    if not names or len(set(names)) != len(names):
        raise ValueError("Predictions need at least one run, and names that are all different.")
    if reference is not None and reference not in names:
        raise ValueError(f"There is no run '{reference}'; there are {', '.join(names)}.")
    data, weights = question.data, question.weights
    risks = np.stack([as_risk(data, p.risk, f"The risk of run '{p.name}'") for p in predictions])
    value = bootstrap_c(data, risks, once(data.n))[:, 0]
    sample = bootstrap_c(data, risks, weights)
    groups = subgroup_c(data, risks, question.attributes, weights)
    times = question.times(min(p.until_days for p in predictions))
    judged = {}
    for k, p in enumerate(predictions):
        found = _judge(p, question, times, (float(value[k]), sample[k]))
        found.row["subgroups"] = subgroups_json(groups[k])
        judged[p.name] = found
    if question.elsewhere is not None:
        _elsewhere(judged, question, question.elsewhere)
    best = names[int(np.nanargmax(value))] if not np.isnan(value).all() else names[0]
    chosen = reference or best
    whole = question.observed
    everyone = np.ones((1, data.n), bool)
    return {
        "n": data.n,
        "events": data.n_events,
        "horizon_days": question.horizon_days,
        "events_by_horizon": whole.n_events,
        "observed_risk": interval_json(
            interval(
                float(whole.risk(everyone, once(data.n))[0, 0]),
                whole.risk(everyone, weights)[:, 0],
            )
        ),
        "threshold": question.threshold,
        "metric": "c_index",
        "reference": {
            "run": chosen,
            "rule": "as asked" if reference else "highest C on these patients, in its favour",
        },
        "treat_all_at_threshold": benefit_at(whole, np.ones(data.n), question.threshold, weights),
        "treat_all": band_json(
            pointwise(
                THRESHOLDS, treat_all(whole, THRESHOLDS)[0], treat_all(whole, THRESHOLDS, weights)
            )
        ),
        "runs": [{"run": name, **judged[name].row} for name in names],
        "pairs": adjust(
            [_pair(chosen, name, judged, question) for name in names if name != chosen]
        ),
        "resamples": {
            "n": question.n_resamples,
            "seed": question.seed,
            "units": "patients, one set for every interval",
        },
        "methods": METHODS,
        "undefined": why_undefined(data) or whole.why_undefined(),
    }


def _judge(
    p: Prediction, question: Question, times: Floats | str, c: tuple[float, Floats]
) -> _Judged:
    weights, observed = question.weights, question.observed
    found = _Judged(c, {"score": interval_json(interval(*c)), "undefined": p.lacking})
    _auc(found, p, question, times)
    row = found.row
    row.update(brier=None, calibration=None, net_benefit=None, alerts=None)
    row["net_benefit_at_threshold"] = None
    if p.event_free is None:
        return found
    if not isinstance(times, str):
        _brier(found, p.event_free, question, times)
    else:
        row["brier"] = {"undefined": times}
    if question.horizon_days > p.until_days:
        row["undefined"] = (
            f"The run's survival curves end at {p.until_days:g} days, before the horizon of "
            f"{question.horizon_days:g}."
        )
        return found
    chances = 1 - p.event_free(np.array([question.horizon_days]))[:, 0]
    found.chances = chances
    row["calibration"] = calibration_json(
        horizon_calibration(question.train, observed, chances, weights)
    )
    found.benefit = (
        net_benefit(observed, chances, THRESHOLDS)[0],
        net_benefit(observed, chances, THRESHOLDS, weights),
    )
    row["net_benefit"] = band_json(pointwise(THRESHOLDS, *found.benefit))
    row["net_benefit_at_threshold"] = benefit_at(observed, chances, question.threshold, weights)
    row["alerts"] = alerts_json(alerts(observed, chances, question.threshold, weights))
    return found


def _auc(found: _Judged, p: Prediction, question: Question, times: Floats | str) -> None:
    if isinstance(times, str):
        found.row["auc"] = {"curve": None, "mean": None, "undefined": times}
        return
    data, weights = question.data, question.weights
    value = resampled_auc(question.train, data, p.risk, times, once(data.n))
    sample = resampled_auc(question.train, data, p.risk, times, weights)
    mean = float(mean_auc(data, value, times, once(data.n))[0, 0])
    means = mean_auc(data, sample, times, weights)[0]
    joined = auc_with_band(data, times, value[0, 0], sample[0], mean, means)
    found.auc = (mean, means)
    found.row["auc"] = {
        "curve": band_json(joined.curve),
        "mean": interval_json(joined.mean),
        "undefined": joined.undefined,
    }


def _brier(
    found: _Judged, event_free: Callable[[Floats], Floats], question: Question, times: Floats
) -> None:
    data, train = question.data, question.train
    predicted = event_free(times)
    value, known = resampled_brier(train, data, predicted, times, once(data.n))
    sample, references = resampled_brier(train, data, predicted, times, question.weights)
    whole, sampled = float(over_time(value, times)[0]), over_time(sample, times)
    reference, of_km = float(over_time(known, times)[0]), over_time(references, times)
    found.brier = (whole, sampled)
    # The last time is the horizon wherever follow-up reaches it.
    found.row["brier"] = {
        "curve": band_json(pointwise(times, value[0], sample)),
        "reference": numbers_json(known[0]),
        "integrated": interval_json(interval(whole, sampled)),
        "integrated_reference": interval_json(interval(reference, of_km)),
        "ipa": interval_json(interval(_skill(whole, reference), _skill(sampled, of_km))),
        "ipa_curve": band_json(
            pointwise(times, _skill(value[0], known[0]), _skill(sample, references))
        ),
        "start_days": float(times[0]),
        "end_days": float(times[-1]),
        "undefined": None,
    }


def _skill(score: Any, reference: Any) -> Any:
    return 1 - score / np.where(np.asarray(reference) > 0, reference, np.nan)


def _elsewhere(judged: Mapping[str, _Judged], question: Question, other: Elsewhere) -> None:
    names = list(judged)
    reason = why_undefined(question.data) or why_undefined(other.data)
    risks = np.stack([as_risk(other.data, other.risks[name]) for name in names])
    value = bootstrap_c(other.data, risks, once(other.data.n))[:, 0]
    # Other patients are other draws: a seed of their own.
    weights = draw(other.data.n, question.n_resamples, question.seed + 1)
    sample = bootstrap_c(other.data, risks, weights)
    for k, name in enumerate(names):
        found = drop(*judged[name].c, float(value[k]), sample[k], reason)
        judged[name].row["elsewhere"] = drop_json(
            found, other.split, other.data.n, other.data.n_events
        )


def _pair(
    first: str, second: str, judged: Mapping[str, _Judged], question: Question
) -> dict[str, Any]:
    """First minus second; reclassification from the second's risk groups to the first's."""
    a, b = judged[first], judged[second]
    row: dict[str, Any] = {
        "first": first,
        "second": second,
        "score": difference_json(a.c[0] - b.c[0], a.c[1] - b.c[1]),
        "auc": None,
        "brier": None,
        "net_benefit": None,
        "reclassification": None,
    }
    if a.auc is not None and b.auc is not None:
        row["auc"] = difference_json(a.auc[0] - b.auc[0], a.auc[1] - b.auc[1])
    if a.brier is not None and b.brier is not None:
        row["brier"] = difference_json(a.brier[0] - b.brier[0], a.brier[1] - b.brier[1])
    if a.benefit is not None and b.benefit is not None:
        row["net_benefit"] = band_json(
            pointwise(THRESHOLDS, a.benefit[0] - b.benefit[0], a.benefit[1] - b.benefit[1])
        )
    if a.chances is not None and b.chances is not None:
        found = reclassification(
            question.observed, b.chances, a.chances, [question.threshold], question.weights
        )
        row["reclassification"] = reclassification_json(found)
    return row


def default_threshold(train: SurvivalData, horizon_days: float) -> float:
    """The risk by the horizon in the learning patients, kept between 1% and 99%.

    nan where their follow-up ends before it.
    """
    curve = kaplan_meier(train)
    return float(np.clip(1 - curve.at([horizon_days])[0], 0.01, 0.99))
