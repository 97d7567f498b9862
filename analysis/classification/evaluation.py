"""How well runs tell classes apart, and whether they differ: the class-task twin of `evaluate`.

One number feeds command, page and export alike: pages read the same dictionaries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.classification.calibration import label_calibration
from analysis.classification.comparison import LabelComparison, compare_labels
from analysis.classification.curves import Band, LabelCurves, label_curves
from analysis.classification.cutoff import Cutoff, Decisions, judge, learn_cutoff
from analysis.classification.data import Floats, LabelData, probability, resample_batches
from analysis.classification.delong import auc_interval
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import N_RESAMPLES, check_together
from analysis.external import AnyRun, ExternalRun
from analysis.features import Progress
from analysis.predict import (
    Predictions,
    on_common_patients,
    predict_stored,
    without_prediction,
)
from analysis.store import ResultStore
from analysis.survival.comparison import ConfidenceInterval

LEARNING_SPLIT = "tuning"
AUC_CONVENTION = (
    "AUC: chance that a patient of the class is ranked above one of the rest, equal probabilities "
    "count one half (Mann-Whitney); interval by DeLong's variance on the logit scale."
)


def label_data(
    cohort: Cohort, task: str, classes: Sequence[str], subject_ids: npt.ArrayLike
) -> LabelData:
    """Classes of patients, in the order given. Raises CohortError for a task without labels."""
    outcomes = cohort.outcomes(task, subject_ids)
    if outcomes.label is None:
        raise CohortError(
            f"task '{task}' is a time to event; evaluate it as survival, not by label."
        )
    try:
        return LabelData(outcomes.label, tuple(classes))
    except ValueError as error:
        raise CohortError(
            f"cohort '{cohort.spec.name}', task '{task}': {error} Mend the outcomes."
        ) from error


def evaluate_labels(
    runs: Sequence[AnyRun],
    cohort: Cohort,
    split: str,
    store: ResultStore,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    *,
    cut_rule: str | float = "youden",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """AUC, curves and decisions of every run of a class task, and all differences; stored.

    AUCs have DeLong's interval (also `auc_plain`, without the logit), shares Wilson's, the rest
    percentiles of one set of stratified resamples of patients. cut_rule: 'youden', 'half' or a
    probability; learned on the tuning patients. Raises CohortError when runs are for different
    tasks or classes, names repeat or the split is empty.
    """
    _check(runs, cohort)
    task = runs[0].config.task.name
    if not len(cohort.subject_ids(split, task)):
        raise CohortError(
            f"cohort '{cohort.spec.name}' has no patients with task '{task}' in split '{split}'."
        )
    parameters = {
        "method": "evaluate_labels",
        "runs": [run.hash for run in runs],
        "names": [run.config.name for run in runs],
        "cohort": cohort.fingerprint,
        "split": split,
        "cut_rule": cut_rule,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        predictions = []
        for done, run in enumerate(runs):
            predictions.append(predict_stored(run, cohort, split, store))
            if progress is not None:
                progress(done + 1, len(runs))
        cutoffs = [run_cutoff(run, cohort, store, cut_rule) for run in runs]
        return _evaluate(runs, predictions, cutoffs, cohort, split, n_resamples, seed), {}

    return dict(store.compute(parameters, make).content)


def run_cutoff(
    run: AnyRun, cohort: Cohort, store: ResultStore, rule: str | float = "youden"
) -> Cutoff:
    """A run's cut-off, learned on the tuning patients; 0.5 with a note where there are none."""
    task = run.config.task
    ids = cohort.subject_ids(LEARNING_SPLIT, task.name)
    if isinstance(run, ExternalRun):
        ids = run.of(cohort, ids)[0]
    if not len(ids):
        return without_tuning(rule, len(task.classes))
    predicted = predict_stored(run, cohort, LEARNING_SPLIT, store)
    data = label_data(cohort, task.name, task.classes, predicted.subject_ids)
    return learn_cutoff(data, probability(predicted.values), rule, LEARNING_SPLIT)


def without_tuning(rule: str | float, n_classes: int) -> Cutoff:
    """The cut-off of a cohort without tuning patients, on whom one could be learned."""
    if n_classes > 2:
        return Cutoff("largest", math.nan)
    if not isinstance(rule, str):
        return Cutoff("fixed", float(rule))
    note = "No cut-off can be learned: the cohort has no tuning patients."
    return Cutoff("half", 0.5, note=None if rule == "half" else note)


def _check(runs: Sequence[AnyRun], cohort: Cohort) -> None:
    check_together(runs, cohort)
    for run in runs:
        task = run.config.task
        if task.kind != "classification":
            raise CohortError(
                f"task '{task.name}' is a time to event; this comparison is for classes."
            )
        stated = cohort.spec.task(task.name).classes
        if task.classes != stated:
            raise CohortError(
                f"run '{run.config.name}' tells apart {', '.join(task.classes)}, but task "
                f"'{task.name}' of cohort '{cohort.spec.name}' has {', '.join(stated) or 'none'}; "
                "evaluate a run of this cohort."
            )


def _evaluate(
    runs: Sequence[AnyRun],
    predictions: Sequence[Predictions],
    cutoffs: Sequence[Cutoff],
    cohort: Cohort,
    split: str,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    task = runs[0].config.task
    everyone = cohort.subject_ids(split, task.name)
    lacking = without_prediction(predictions, everyone)
    predictions = on_common_patients(predictions, everyone)
    data = label_data(cohort, task.name, task.classes, predictions[0].subject_ids)
    given = {
        run.config.name: probability(p.values) for run, p in zip(runs, predictions, strict=True)
    }
    decided = {
        name: judge(data, p, cutoff, resample_batches(data, n_resamples, seed))
        for (name, p), cutoff in zip(given.items(), cutoffs, strict=True)
    }
    comparison = compare_labels(data, given, {name: d.right for name, d in decided.items()})
    rows = []
    for run, predicted, area in zip(runs, predictions, comparison.runs, strict=True):
        name = run.config.name
        curves = None
        if data.undefined is None:
            curves = label_curves(data, given[name], n_resamples, seed)
        rows.append(
            {
                "run": name,
                "title": run.config.title,
                "strategy": run.config.strategy.name,
                "task": task.name,
                "cohort": cohort.spec.name,
                "split": split,
                "n": data.n,
                "positives": _positives(data),
                "absent": {m: int((~p).sum()) for m, p in predicted.present.items()},
                "without_any_modality": int((~predicted.known).sum()),
                "auc": interval_json(area.auc),
                "auc_plain": interval_json(auc_interval(area.auc.value, area.error**2, "plain")),
                **decisions_json(decided[name]),
                "calibration": _calibration_json(data, given[name]),
                **_curves_json(curves),
            }
        )
    return {
        "task": task.name,
        "task_title": task.title,
        "classes": list(task.classes),
        "positive_class": task.classes[1] if data.is_binary else None,
        "cohort": cohort.spec.name,
        "split": split,
        "n": data.n,
        "positives": _positives(data),
        "class_counts": dict(zip(task.classes, data.counts.tolist(), strict=True)),
        "runs": rows,
        "differences": differences_json(comparison),
        "resamples": {"n": n_resamples, "seed": seed, "units": "patients within their class"},
        "convention": AUC_CONVENTION,
        "undefined": data.undefined,
        **lacking,
    }


# ---------------------------------------------------------------- as plain JSON


def interval_json(interval: ConfidenceInterval) -> dict[str, float | None]:
    """{value, low, high}; what is undefined is null."""
    return {name: number_json(getattr(interval, name)) for name in ("value", "low", "high")}


def number_json(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def decisions_json(decided: Decisions) -> dict[str, Any]:
    """Cut-off, confusion matrix and everything counted from it."""
    found: dict[str, Any] = {
        "cutoff": {
            "rule": decided.cutoff.rule,
            "value": number_json(decided.cutoff.value),
            "learned_on": decided.cutoff.learned_on,
            "n": decided.cutoff.n,
            "note": decided.cutoff.note,
        },
        "confusion": decided.confusion.tolist(),
    }
    for name in ("accuracy", "balanced_accuracy", "f1", "brier"):
        found[name] = interval_json(getattr(decided, name))
    parts = ("sensitivity", "specificity", "ppv", "npv")
    found["per_class"] = [
        {"name": c.name, "n": c.n, **{part: interval_json(getattr(c, part)) for part in parts}}
        for c in decided.per_class
    ]
    if len(decided.per_class) == 1:
        found.update({part: found["per_class"][0][part] for part in parts})
    return found


def differences_json(comparison: LabelComparison) -> list[dict[str, Any]]:
    """Every pair: the areas as in the survival comparison, the decisions under `accuracy`."""
    return [
        {
            "first": d.first,
            "second": d.second,
            "difference": interval_json(d.auc.difference),
            "z": number_json(d.auc.z),
            "p": number_json(d.auc.p),
            "p_holm": number_json(d.auc_holm),
            "accuracy": {
                "difference": interval_json(d.accuracy.difference),
                "first_only": d.accuracy.first_only,
                "second_only": d.accuracy.second_only,
                "p": number_json(d.accuracy.p),
                "p_holm": number_json(d.accuracy_holm),
            },
        }
        for d in comparison.differences
    ]


def _positives(data: LabelData) -> int | None:
    return int(data.counts[1]) if data.is_binary else None


def _calibration_json(data: LabelData, given: Floats) -> dict[str, Any] | None:
    """Of the positive class; None for K > 2 classes."""
    if not data.is_binary:
        return None
    found = label_calibration(data, given)
    return {
        "observed_to_expected": number_json(found.observed_to_expected),
        "intercept": interval_json(found.intercept),
        "slope": interval_json(found.slope),
        "groups": [
            {"n": g.n, "predicted": g.predicted, "observed": interval_json(g.observed)}
            for g in found.groups
        ],
    }


def _curves_json(curves: LabelCurves | None) -> dict[str, Any]:
    if curves is None:
        return {"average_precision": None, "prevalence": None, "roc": None, "pr": None}
    return {
        "average_precision": interval_json(curves.average_precision),
        "prevalence": curves.prevalence,
        "roc": {
            "fpr": _rounded(curves.fpr),
            "tpr": _rounded(curves.tpr),
            "band": _band_json(curves.roc_band),
        },
        "pr": {
            "recall": _rounded(curves.recall),
            "precision": _rounded(curves.precision),
            "band": _band_json(curves.pr_band),
        },
    }


def _band_json(band: Band) -> Mapping[str, list[float]]:
    return {
        name: _rounded(getattr(band, name)) for name in ("at", "low", "high", "all_low", "all_high")
    }


def _rounded(values: Floats) -> list[float]:
    """Places of a curve at six digits, a thousandth of a pixel; the numbers are kept whole."""
    return [float(v) for v in np.round(values, 6)]
