"""The reviewer's statistics of a class's probability, from arrays to plain JSON.

The twin of `survival`: labels are complete, so shares are counts and there is no horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from analysis.classification.calibration_curve import label_calibration_curve
from analysis.classification.evaluation import interval_json
from analysis.classification.observed import ByLabel
from analysis.classification.roc import auc, count
from analysis.reviewer.as_json import (
    adjust,
    alerts_json,
    band_json,
    benefit_at,
    calibration_json,
    difference_json,
    drop_json,
    reclassification_json,
    subgroups_json,
)
from analysis.survival.alerts import alerts
from analysis.survival.concordance import Multiplicities
from analysis.survival.concordance import resample_weights as draw
from analysis.survival.data import Bools, Floats
from analysis.survival.decision_curve import (
    THRESHOLDS,
    checked_probability,
    net_benefit,
    treat_all,
)
from analysis.survival.reclassification import reclassification
from analysis.survival.resampled import interval, pointwise
from analysis.survival.subgroups import Subgroup, drop, no_score, too_few, with_score

METHODS = {
    "score": "Area under the ROC curve, equal probabilities count one half.",
    "brier": "Mean squared distance of the probability from the truth; the scaled one is 1 - Brier "
    "/ Brier of the learning patients' share, 0 is no better than it.",
    "calibration": "Intercept and slope on the logit scale; curve by logistic regression on a "
    "restricted cubic spline (Austin and Steyerberg 2019).",
    "net_benefit": "True positives minus false positives x threshold odds, per patient "
    "(Vickers and Elkin 2006).",
    "alerts": "Patients at or above the threshold, counted.",
    "reclassification": "Net reclassification of those with the class and of the rest "
    "(Pencina 2008).",
    "subgroups": "Cochran's Q over the levels of an attribute on the logit scale, "
    "variances by bootstrap; Holm over the attributes.",
}


@dataclass(frozen=True, eq=False)
class LabelElsewhere:
    """Other patients, such as the external ones, with every run's probability: {name: (n,)}."""

    split: str
    observed: ByLabel
    probabilities: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class LabelQuestion:
    """Patients and what is asked of them.

    share: of the class in the learning patients, the Brier reference. threshold: probability at
    which patients are flagged. attributes: {attribute: {level: (n,) bool}}.
    """

    observed: ByLabel
    share: float
    threshold: float
    attributes: Mapping[str, Mapping[str, Bools]] = field(default_factory=dict)
    elsewhere: LabelElsewhere | None = None
    n_resamples: int = 1000
    seed: int = 0

    @cached_property
    def weights(self) -> Multiplicities:
        """(B, n): the one set of resamples behind every interval, not stratified by class."""
        return draw(self.observed.n, self.n_resamples, self.seed)


@dataclass(eq=False)
class _Judged:
    """One run's samples, kept for the differences."""

    row: dict[str, Any]
    chances: Floats
    score: tuple[float, Floats]
    brier: tuple[float, Floats]
    benefit: tuple[Floats, Floats]


def label_statistics(
    probabilities: Mapping[str, Floats], question: LabelQuestion, reference: str | None = None
) -> dict[str, Any]:
    """Every statistic of every run, and of pairs against the reference run, in plain JSON.

    probabilities: {run: (n,) probability of the class}. reference: name of a run; without it the
    one with the highest AUC on these patients, which favours it. Raises ValueError for no run or
    a probability that does not fit.
    """
    names = list(probabilities)
    if not names:
        raise ValueError("There is no run to judge.")
    if reference is not None and reference not in names:
        raise ValueError(f"There is no run '{reference}'; there are {', '.join(names)}.")
    observed, weights = question.observed, question.weights
    judged = {
        name: _judge(checked_probability(observed.n, given), question)
        for name, given in probabilities.items()
    }
    if question.elsewhere is not None:
        _elsewhere(judged, question, question.elsewhere)
    scores = np.array([judged[name].score[0] for name in names])
    best = names[int(np.nanargmax(scores))] if not np.isnan(scores).all() else names[0]
    chosen = reference or best
    everyone = np.ones((1, observed.n), bool)
    return {
        "n": observed.n,
        "events": observed.n_events,
        "positive_class": observed.name,
        "observed_risk": interval_json(
            interval(observed.n_events / observed.n, observed.risk(everyone, weights)[:, 0])
        ),
        "threshold": question.threshold,
        "metric": "auc",
        "reference": {
            "run": chosen,
            "rule": "as asked" if reference else "highest AUC on these patients, in its favour",
        },
        "treat_all_at_threshold": benefit_at(
            observed, np.ones(observed.n), question.threshold, weights
        ),
        "treat_all": band_json(
            pointwise(
                THRESHOLDS,
                treat_all(observed, THRESHOLDS)[0],
                treat_all(observed, THRESHOLDS, weights),
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
        "undefined": observed.why_undefined(),
    }


def _judge(chances: Floats, question: LabelQuestion) -> _Judged:
    observed, weights = question.observed, question.weights
    score = _auc(observed.positive, chances, weights)
    each = weights.sum(axis=1)
    error = (chances - observed.positive) ** 2
    known = (question.share - observed.positive) ** 2
    brier = (float(error.mean()), weights @ error / each)
    of_share = (float(known.mean()), weights @ known / each)
    benefit = (
        net_benefit(observed, chances, THRESHOLDS)[0],
        net_benefit(observed, chances, THRESHOLDS, weights),
    )
    row = {
        "score": interval_json(interval(*score)),
        "undefined": None,
        "brier": {
            "value": interval_json(interval(*brier)),
            "reference": interval_json(interval(*of_share)),
            "ipa": interval_json(
                interval(_skill(brier[0], of_share[0]), _skill(brier[1], of_share[1]))
            ),
            "undefined": None,
        },
        "calibration": calibration_json(label_calibration_curve(observed, chances, weights)),
        "net_benefit": band_json(pointwise(THRESHOLDS, *benefit)),
        "net_benefit_at_threshold": benefit_at(observed, chances, question.threshold, weights),
        "alerts": alerts_json(alerts(observed, chances, question.threshold, weights)),
        "subgroups": subgroups_json(_subgroups(observed, chances, question)),
    }
    return _Judged(row, chances, score, brier, benefit)


def _auc(positive: Bools, chances: Floats, weights: Multiplicities) -> tuple[float, Floats]:
    counted = count(positive, chances, np.asarray(weights, np.int64))
    return auc(positive, chances), counted.auc


def _skill(score: Any, reference: Any) -> Any:
    return 1 - score / np.where(np.asarray(reference) > 0, reference, np.nan)


def _subgroups(observed: ByLabel, chances: Floats, question: LabelQuestion) -> tuple[Subgroup, ...]:
    found = []
    for attribute, levels in question.attributes.items():
        for level, inside in levels.items():
            hit = observed.positive[inside]
            n, events = hit.size, int(hit.sum())
            reason = too_few(n, min(events, n - events), "of the rarer class")
            if reason is not None:
                found.append(no_score(attribute, level, n, events, reason))
                continue
            value, sample = _auc(hit, chances[inside], question.weights[:, inside])
            found.append(with_score(attribute, level, n, events, value, sample))
    return tuple(found)


def _elsewhere(
    judged: Mapping[str, _Judged], question: LabelQuestion, other: LabelElsewhere
) -> None:
    reason = question.observed.why_undefined() or other.observed.why_undefined()
    # Other patients are other draws: a seed of their own.
    weights = draw(other.observed.n, question.n_resamples, question.seed + 1)
    for name, mine in judged.items():
        chances = checked_probability(other.observed.n, other.probabilities[name])
        there = _auc(other.observed.positive, chances, weights)
        found = drop(*mine.score, *there, reason)
        mine.row["elsewhere"] = drop_json(
            found, other.split, other.observed.n, other.observed.n_events
        )


def _pair(
    first: str, second: str, judged: Mapping[str, _Judged], question: LabelQuestion
) -> dict[str, Any]:
    """First minus second; reclassification from the second's risk groups to the first's."""
    a, b = judged[first], judged[second]
    found = reclassification(
        question.observed, b.chances, a.chances, [question.threshold], question.weights
    )
    return {
        "first": first,
        "second": second,
        "score": difference_json(a.score[0] - b.score[0], a.score[1] - b.score[1]),
        "brier": difference_json(a.brier[0] - b.brier[0], a.brier[1] - b.brier[1]),
        "net_benefit": band_json(
            pointwise(THRESHOLDS, a.benefit[0] - b.benefit[0], a.benefit[1] - b.benefit[1])
        ),
        "reclassification": reclassification_json(found),
    }
