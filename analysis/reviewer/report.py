"""The reviewer's statistics of runs on a cohort: what `fusionlens assess` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.classification.data import probability
from analysis.classification.evaluation import label_data
from analysis.classification.observed import ByLabel
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import LEARNING_SPLITS, N_RESAMPLES, check_together, survival_data
from analysis.external import AnyRun, ExternalRun, baseline_of, log_risk
from analysis.features import Ids, Progress
from analysis.predict import (
    Predictions,
    on_common_patients,
    predict_stored,
    without_prediction,
)
from analysis.reviewer.attributes import attributes_of
from analysis.reviewer.labels import LabelElsewhere, LabelQuestion, label_statistics
from analysis.reviewer.survival import (
    Elsewhere,
    Prediction,
    Question,
    default_threshold,
    survival_statistics,
)
from analysis.store import ResultStore
from analysis.survival.baseline import survival_curve
from analysis.survival.data import Bools, Floats
from models.checkpoint import RunError

OTHER = {"internal": "external", "external": "internal"}


def reviewer_statistics(
    runs: Sequence[AnyRun],
    cohort: Cohort,
    split: str,
    store: ResultStore,
    horizon_days: float | None = None,
    threshold: float | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    *,
    reference: str | None = None,
    positive: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Discrimination, calibration, use and subgroups of runs of one task; plain JSON, stored.

    horizon_days: by when events are predicted; the task's own without it. threshold: probability
    at which patients are flagged; without it the observed risk of the learning patients.
    reference: name of the run that the others are compared with, without it the best. positive:
    the class that is judged against the rest, needed of a task with more than two. Every interval
    comes from one set of resamples of patients. Raises CohortError, in a sentence, for runs of
    different tasks, a repeated name, an empty split, or a horizon or class that is missing.
    """
    _check(runs, cohort, split, reference)
    if threshold is not None and not 0 < threshold < 1:
        raise CohortError(f"the threshold is a probability above 0 and below 1, not {threshold:g}.")
    task = runs[0].config.task
    survival = task.kind == "survival"
    horizon = _horizon(runs, horizon_days) if survival else None
    chosen = None if survival else _positive(runs, positive)
    parameters = {
        "method": "reviewer_statistics",
        "runs": [run.hash for run in runs],
        "names": [run.config.name for run in runs],
        "cohort": cohort.fingerprint,
        "split": split,
        "horizon_days": horizon,
        "positive": chosen,
        "threshold": threshold,
        "reference": reference,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 3,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        made = _predictions(runs, cohort, split, store, progress)
        everyone = {one: cohort.subject_ids(one, task.name) for one in made}
        lacking = without_prediction(made[split], everyone[split])
        found = {one: on_common_patients(p, everyone[one]) for one, p in made.items()}
        try:
            if horizon is not None:
                answer = _survival(
                    runs, found, cohort, split, horizon, threshold, n_resamples, seed, reference
                )
            else:
                answer = _labels(
                    runs, found, cohort, split, chosen or "", threshold, n_resamples, seed,
                    reference,
                )  # fmt: skip
        except ValueError as error:
            raise CohortError(str(error)) from error
        return {**_headed(answer, runs, found[split], cohort, split), **lacking}, {}

    return dict(store.compute(parameters, make).content)


Found = Mapping[str, Sequence[Predictions]]
"""Split to the predictions of every run."""


def _check(runs: Sequence[AnyRun], cohort: Cohort, split: str, reference: str | None) -> None:
    check_together(runs, cohort)
    names = [run.config.name for run in runs]
    if reference is not None and reference not in names:
        raise CohortError(f"there is no run '{reference}' here; choose one of {', '.join(names)}.")
    task = runs[0].config.task.name
    if not len(cohort.subject_ids(split, task)):
        raise CohortError(
            f"cohort '{cohort.spec.name}' has no patients with task '{task}' in split '{split}'."
        )


def _horizon(runs: Sequence[AnyRun], horizon_days: float | None) -> float:
    horizon = horizon_days or runs[0].config.task.horizon_days
    if not horizon:
        raise CohortError(
            f"task '{runs[0].config.task.name}' states no horizon; name the day by which events "
            "are predicted."
        )
    if not (np.isfinite(horizon) and horizon > 0):
        raise CohortError(f"the horizon is a number of days above 0, not {horizon:g}.")
    return float(horizon)


def _positive(runs: Sequence[AnyRun], positive: str | None) -> str:
    classes = runs[0].config.task.classes
    if any(run.config.task.classes != classes for run in runs):
        raise CohortError("the runs tell different classes apart; assess one set at a time.")
    if positive is None and len(classes) == 2:
        return classes[1]
    if positive not in classes:
        raise CohortError(
            f"name the class to judge against the rest, one of {', '.join(classes)}."
            if positive is None
            else f"there is no class '{positive}'; choose one of {', '.join(classes)}."
        )
    return positive


def _predictions(
    runs: Sequence[AnyRun],
    cohort: Cohort,
    split: str,
    store: ResultStore,
    progress: Progress | None,
) -> Found:
    """Of the split and, where the cohort has patients in it, of its other test split."""
    task = runs[0].config.task.name
    splits = [split]
    if split in OTHER and len(cohort.subject_ids(OTHER[split], task)):
        splits.append(OTHER[split])
    found: dict[str, list[Predictions]] = {}
    for at, one in enumerate(splits):
        for k, run in enumerate(runs):
            found.setdefault(one, []).append(predict_stored(run, cohort, one, store))
            if progress is not None:
                progress(at * len(runs) + k + 1, len(splits) * len(runs))
    return found


def _survival(
    runs: Sequence[AnyRun],
    found: Found,
    cohort: Cohort,
    split: str,
    horizon: float,
    threshold: float | None,
    n_resamples: int,
    seed: int,
    reference: str | None,
) -> dict[str, Any]:
    task = runs[0].config.task.name
    data = survival_data(cohort, task, found[split][0].subject_ids)
    ids, learned_on = _learning_ids(cohort, task)
    train = data if ids is None else survival_data(cohort, task, ids)
    rule = "as asked"
    if threshold is None:
        threshold = default_threshold(train, horizon)
        rule = f"observed risk by the horizon in {learned_on or 'these'} patients"
    if np.isnan(threshold):
        raise CohortError(
            f"follow-up of the {learned_on or 'evaluated'} patients ends before {horizon:g} days, "
            "so there is no risk to take as a threshold; name one, or an earlier horizon."
        )
    elsewhere = None
    if (other := OTHER.get(split, "")) in found:
        there = found[other]
        elsewhere = Elsewhere(
            other,
            survival_data(cohort, task, there[0].subject_ids),
            {run.config.name: p.risk for run, p in zip(runs, there, strict=True)},
        )
    question = Question(
        data=data,
        train=train,
        horizon_days=horizon,
        threshold=threshold,
        attributes=attributes_of(cohort, found[split][0].subject_ids, _present(found[split])),
        elsewhere=elsewhere,
        n_resamples=n_resamples,
        seed=seed,
    )
    given = [_prediction(run, p) for run, p in zip(runs, found[split], strict=True)]
    answer = survival_statistics(given, question, reference)
    answer["threshold_rule"] = rule
    answer["censoring"] = {"learned_on": learned_on or "these patients", "n": train.n}
    return answer


def _prediction(run: AnyRun, predicted: Predictions) -> Prediction:
    """Event-free curves by the run's baseline hazard; what was stated of a day, as stated."""
    name, risk = run.config.name, predicted.risk
    try:
        baseline = baseline_of(run)
    except RunError as error:
        return Prediction(name, risk, lacking=str(error))
    stated = day = None
    if isinstance(run, ExternalRun):
        stated = run.event_probability(predicted.subject_ids)
        day = run.config.predictions.horizon_days

    def event_free(times: Floats) -> Floats:
        curves = survival_curve(baseline, log_risk(run, risk), times)
        if stated is not None and day is not None:
            curves[:, np.isclose(times, day)] = 1 - stated[:, None]
        return curves

    return Prediction(name, risk, event_free, float(baseline.time_days[-1]))


def _labels(
    runs: Sequence[AnyRun],
    found: Found,
    cohort: Cohort,
    split: str,
    positive: str,
    threshold: float | None,
    n_resamples: int,
    seed: int,
    reference: str | None,
) -> dict[str, Any]:
    task = runs[0].config.task
    number = task.classes.index(positive)

    def observed(ids: Ids) -> ByLabel:
        return ByLabel(label_data(cohort, task.name, task.classes, ids).label == number, positive)

    def chances(predicted: Predictions) -> Floats:
        given = probability(predicted.values)
        return given if given.ndim == 1 else given[:, number]

    def of(one: str) -> dict[str, Floats]:
        return {run.config.name: chances(p) for run, p in zip(runs, found[one], strict=True)}

    here = observed(found[split][0].subject_ids)
    ids, learned_on = _learning_ids(cohort, task.name)
    learned = here if ids is None else observed(ids)
    share = learned.n_events / learned.n
    rule = "as asked"
    if threshold is None:
        threshold = float(np.clip(share, 0.01, 0.99))
        rule = f"share of the class in {learned_on or 'these'} patients"
    elsewhere = None
    if (other := OTHER.get(split, "")) in found:
        elsewhere = LabelElsewhere(other, observed(found[other][0].subject_ids), of(other))
    question = LabelQuestion(
        observed=here,
        share=share,
        threshold=threshold,
        attributes=attributes_of(cohort, found[split][0].subject_ids, _present(found[split])),
        elsewhere=elsewhere,
        n_resamples=n_resamples,
        seed=seed,
    )
    answer = label_statistics(of(split), question, reference)
    answer["threshold_rule"] = rule
    answer["horizon_days"] = None
    return answer


def _learning_ids(cohort: Cohort, task: str) -> tuple[Ids | None, str]:
    """Training and tuning patients, and which splits; None where the cohort has neither."""
    parts = {split: cohort.subject_ids(split, task) for split in LEARNING_SPLITS}
    used = {split: ids for split, ids in parts.items() if len(ids)}
    if not used:
        return None, ""
    return np.concatenate(list(used.values())), " and ".join(used)


def _present(predictions: Sequence[Predictions]) -> dict[str, Bools]:
    """Every modality that any of the runs reads; who has it is the same for all of them."""
    return {name: there for p in predictions for name, there in p.present.items()}


def _headed(
    answer: dict[str, Any],
    runs: Sequence[AnyRun],
    predictions: Sequence[Predictions],
    cohort: Cohort,
    split: str,
) -> dict[str, Any]:
    task = runs[0].config.task
    by_name = {run.config.name: (run, p) for run, p in zip(runs, predictions, strict=True)}
    for row in answer["runs"]:
        run, predicted = by_name[row["run"]]
        row["title"] = run.config.title
        row["strategy"] = run.config.strategy.name
        row["without_any_modality"] = int((~predicted.known).sum())
        row["note"] = run.calibration_note if isinstance(run, ExternalRun) else None
    return {
        "task": task.name,
        "task_title": task.title,
        "event_title": task.event_title,
        "kind": task.kind,
        "cohort": cohort.spec.name,
        "split": split,
        **answer,
    }
