"""How well runs predict, and whether they differ: what `fusionlens evaluate` prints.

One number feeds command, page and export alike: pages read the same dictionaries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.external import AnyRun, ExternalRun, baseline_of, log_risk
from analysis.features import Ids, Progress
from analysis.predict import (
    Predictions,
    on_common_patients,
    predict_stored,
    without_prediction,
)
from analysis.store import ResultStore
from analysis.survival.baseline import survival_curve
from analysis.survival.brier import brier, integrated_brier, last_usable_day
from analysis.survival.comparison import ConfidenceInterval, compare
from analysis.survival.concordance import uno_c
from analysis.survival.data import Floats, SurvivalData
from analysis.survival.groups import KaplanMeierSplit, RiskCutoffs, km_split, learn_cutoffs
from models.checkpoint import RunError

N_RESAMPLES = 1000
LEARNING_SPLITS = ("train", "tuning")
C_CONVENTION = (
    "Harrell's C: a pair counts when the earlier time is an event; exactly equal risks count "
    "one half (lifelines' convention; scikit-survival also counts risks within 1e-8 as equal)."
)


def check_fit(run: AnyRun, cohort: Cohort) -> None:
    """Raise CohortError when a run cannot be evaluated on a cohort, in one sentence."""
    task = run.config.task
    spec = cohort.spec.task(task.name)
    if spec.kind != task.kind:
        raise CohortError(
            f"task '{task.name}' is {spec.kind} in cohort '{cohort.spec.name}', but run "
            f"'{run.config.name}' was trained for {task.kind}."
        )
    if isinstance(run, ExternalRun):
        run.check_cohort(cohort)


def check_together(runs: Sequence[AnyRun], cohort: Cohort) -> None:
    """Raise CohortError when runs cannot be judged side by side on a cohort, in one sentence."""
    if not runs:
        raise CohortError("no run to evaluate; name at least one run folder.")
    names = [run.config.name for run in runs]
    if len(set(names)) != len(names):
        raise CohortError("two runs have the same name; rename one of the folders' configs.")
    tasks = {run.config.task.name for run in runs}
    if len(tasks) > 1:
        raise CohortError(
            f"the runs predict different tasks ({', '.join(sorted(tasks))}); compare one at a time."
        )
    for run in runs:
        check_fit(run, cohort)


def survival_data(cohort: Cohort, task: str, subject_ids: Sequence[int] | Any) -> SurvivalData:
    """Times and events of patients, in the order given."""
    outcomes = cohort.outcomes(task, subject_ids)
    if outcomes.time_days is None or outcomes.event is None:
        raise CohortError(f"task '{task}' is a classification; its patients have no time to event.")
    return SurvivalData(outcomes.time_days, outcomes.event)


def learning_outcomes(cohort: Cohort, task: str) -> SurvivalData:
    """Outcomes of the training and tuning patients, in that order, whoever predicted them.

    Raises CohortError when the cohort has neither.
    """
    ids = [cohort.subject_ids(split, task) for split in LEARNING_SPLITS]
    if not sum(map(len, ids)):
        raise CohortError(
            f"cohort '{cohort.spec.name}' has no training or tuning patients, on whom cut-offs "
            "and the censoring distribution are learned; mark some in subjects.parquet."
        )
    return survival_data(cohort, task, np.concatenate(ids))


def learning_data(
    run: AnyRun, cohort: Cohort, store: ResultStore
) -> tuple[SurvivalData, Floats, tuple[str, ...]]:
    """Outcomes and predicted risks of the patients a cut-off may be learned on, and which splits.

    The training and tuning splits; raises CohortError when the cohort has neither, or the run no
    prediction in them.
    """
    learning_outcomes(cohort, run.config.task.name)
    parts = [
        (split, predict_stored(run, cohort, split, store))
        for split in LEARNING_SPLITS
        if len(_predicted_ids(run, cohort, split))
    ]
    if not parts:
        raise CohortError(
            f"'{run.config.name}' predicts nobody of the training and tuning patients, on whom "
            "cut-offs are learned; import predictions that cover them."
        )
    ids = np.concatenate([p.subject_ids for _, p in parts])
    risk = np.concatenate([p.risk for _, p in parts])
    return survival_data(cohort, run.config.task.name, ids), risk, tuple(s for s, _ in parts)


def _predicted_ids(run: AnyRun, cohort: Cohort, split: str) -> Ids:
    """A split's patients with an outcome, whom the run predicts; a model predicts all."""
    ids = cohort.subject_ids(split, run.config.task.name)
    return run.of(cohort, ids)[0] if isinstance(run, ExternalRun) else ids


def evaluate(
    runs: Sequence[AnyRun],
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """C-index with CI, Uno's C and integrated Brier score of every run, and all differences.

    All intervals come from one set of bootstrap resamples of patients, those whom every run
    predicts: whom one lacks is said under 'left_out'. Raises CohortError when
    runs are for different tasks, names repeat or the split is empty. The result is stored.
    """
    check_together(runs, cohort)
    names = [run.config.name for run in runs]
    task = runs[0].config.task.name
    if runs[0].config.task.kind != "survival":
        raise CohortError(f"task '{task}' is a classification; this comparison is for survival.")
    ids = cohort.subject_ids(split, task)
    if not len(ids):
        raise CohortError(f"cohort '{cohort.spec.name}' has no patients in split '{split}'.")
    parameters = {
        "method": "evaluate",
        "runs": [run.hash for run in runs],
        "names": names,
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 2,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        predictions = []
        for done, run in enumerate(runs):
            predictions.append(predict_stored(run, cohort, split, store))
            if progress is not None:
                progress(done + 1, len(runs))
        return _evaluate(runs, predictions, cohort, split, n_resamples, seed), {}

    return dict(store.compute(parameters, make).content)


def _evaluate(
    runs: Sequence[AnyRun],
    predictions: Sequence[Predictions],
    cohort: Cohort,
    split: str,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    task = runs[0].config.task
    everyone = cohort.subject_ids(split, task.name)
    lacking = without_prediction(predictions, everyone)
    predictions = on_common_patients(predictions, everyone)
    data = survival_data(cohort, task.name, predictions[0].subject_ids)
    comparison = compare(
        data,
        {run.config.name: p.risk for run, p in zip(runs, predictions, strict=True)},
        n_resamples=n_resamples,
        seed=seed,
    )
    rows = []
    for run, predicted in zip(runs, predictions, strict=True):
        row: dict[str, Any] = {
            "run": run.config.name,
            "title": run.config.title,
            "strategy": run.config.strategy.name,
            "task": task.name,
            "cohort": cohort.spec.name,
            "split": split,
            "n": data.n,
            "events": data.n_events,
            "absent": {name: int((~p).sum()) for name, p in predicted.present.items()},
            "without_any_modality": int((~predicted.known).sum()),
            "c_index": _interval(comparison.run(run.config.name).c),
        }
        row.update(_beyond_harrell(run, predicted, data, cohort))
        rows.append(row)
    return {
        "task": task.name,
        "task_title": task.title,
        "event_title": task.event_title,
        "cohort": cohort.spec.name,
        "split": split,
        "n": data.n,
        "events": data.n_events,
        "runs": rows,
        "differences": [
            {
                "first": d.first,
                "second": d.second,
                "difference": _interval(d.difference),
                "p": _number(d.p),
                "p_holm": _number(d.p_holm),
            }
            for d in comparison.differences
        ],
        "resamples": {
            "n": comparison.n_resamples,
            "dropped": comparison.n_dropped,
            "seed": comparison.seed,
            "smallest_p": comparison.smallest_p,
            "units": "patients",
        },
        "convention": C_CONVENTION,
        "undefined": comparison.undefined,
        **lacking,
    }


def _beyond_harrell(
    run: AnyRun, predicted: Predictions, data: SurvivalData, cohort: Cohort
) -> dict[str, Any]:
    """Uno's C and the integrated Brier score, or the reason why there is none."""
    try:
        learned = learning_outcomes(cohort, run.config.task.name)
    except CohortError as error:
        reason = str(error)
        return {
            "uno_c": {"value": None, "tau_days": None, "note": reason},
            "integrated_brier": {"value": None, "note": reason},
        }
    uno = uno_c(learned, data, predicted.risk)
    out: dict[str, Any] = {
        "uno_c": {"value": _number(uno.value), "tau_days": uno.tau_days, "note": uno.note},
        "integrated_brier": _integrated(run, predicted, data, learned),
    }
    if isinstance(run, ExternalRun):
        out["brier_at_horizon"] = _at_horizon(run, predicted, data, learned)
    return out


def _integrated(
    run: AnyRun, predicted: Predictions, data: SurvivalData, learned: SurvivalData
) -> dict[str, Any]:
    try:
        baseline = baseline_of(run)
        end = min(last_usable_day(learned, data), float(baseline.time_days[-1]))
        if run.config.task.horizon_days:
            end = min(end, run.config.task.horizon_days)
        start = float(np.quantile(data.time_days[data.event], 0.05)) if data.n_events else 0.0
        times = np.linspace(max(start, 1e-6), end * (1 - 1e-9), 100)
        survival = survival_curve(baseline, log_risk(run, predicted.risk), times)
        found = integrated_brier(learned, data, survival, times)
    except (ValueError, RunError) as error:
        return {"value": None, "note": str(error)}
    return {
        "value": _number(found.value),
        "reference": _number(found.reference),
        "start_days": found.start_days,
        "end_days": found.end_days,
        "note": run.calibration_note if isinstance(run, ExternalRun) else None,
    }


def _at_horizon(
    run: ExternalRun, predicted: Predictions, data: SurvivalData, learned: SurvivalData
) -> dict[str, Any] | None:
    """Brier score of the stated probabilities, as they are; None where none are stated."""
    day = run.config.predictions.horizon_days
    stated = run.event_probability(predicted.subject_ids)
    if stated is None or day is None:
        return None
    try:
        made = brier(learned, data, 1 - stated[:, None], [day])
    except ValueError as error:
        return {"days": day, "value": None, "note": str(error)}
    return {
        "days": day,
        "value": _number(float(made.score[0])),
        "reference": _number(float(made.reference[0])),
        "note": None,
    }


def risk_groups(
    run: AnyRun,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    rule: str | float = "median",
    horizon_days: float | None = None,
    ticks_days: Sequence[float] | None = None,
) -> KaplanMeierSplit:
    """Kaplan-Meier curves of a split by predicted risk, cut where the learning splits say.

    rule: 'median', 'tertiles', 'quartiles', or a log-risk. Raises CohortError or ValueError.
    """
    check_fit(run, cohort)
    cutoffs = cutoffs_of(run, cohort, store, rule)
    predicted = predict_stored(run, cohort, split, store)
    data = survival_data(cohort, run.config.task.name, predicted.subject_ids)
    return km_split(data, predicted.risk, cutoffs, horizon_days, ticks_days)


def cutoffs_of(run: AnyRun, cohort: Cohort, store: ResultStore, rule: str | float) -> RiskCutoffs:
    """Cut-offs on a run's risk scale, learned on the training and tuning splits."""
    _, risk, splits = learning_data(run, cohort, store)
    return learn_cutoffs(risk, rule, learned_on=" and ".join(splits))


def best_unimodal(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The unimodal run with the highest C among evaluated rows, or None."""
    single = [r for r in rows if r["strategy"] == "unimodal" and r["c_index"]["value"] is not None]
    return max(single, key=lambda r: float(r["c_index"]["value"]), default=None)


def find_difference(
    evaluation: Mapping[str, Any], first: str, second: str
) -> dict[str, Any] | None:
    """First minus second, whichever way round it was stored; None when not compared."""
    for d in evaluation["differences"]:
        if (d["first"], d["second"]) == (first, second):
            return dict(d)
        if (d["first"], d["second"]) == (second, first):
            gap = d["difference"]
            turned = {k: None if gap[k] is None else -gap[k] for k in gap}
            turned["low"], turned["high"] = turned["high"], turned["low"]
            return {**d, "first": first, "second": second, "difference": turned}
    return None


def _interval(interval: ConfidenceInterval) -> dict[str, float | None]:
    return {name: _number(getattr(interval, name)) for name in ("value", "low", "high")}


def _number(value: float) -> float | None:
    """JSON has no NaN; what is undefined is null."""
    return None if math.isnan(value) else float(value)
