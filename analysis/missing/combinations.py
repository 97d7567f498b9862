"""What a run achieves with each combination of its modalities, on the same patients.

Among `complete` patients, those who have all of the run's modalities, the combinations differ in
what the model is told and in nothing else. Among `everyone` each patient is told what they have
of the combination: what a place would see that stops recording the rest. In both the same
patients are counted under every combination, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.classification.comparison import compare_labels
from analysis.classification.cutoff import Cutoff, judge, learn_cutoff
from analysis.classification.data import probability, resample_batches
from analysis.classification.evaluation import (
    AUC_CONVENTION,
    LEARNING_SPLIT,
    decisions_json,
    interval_json,
    label_data,
    number_json,
    without_tuning,
)
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import C_CONVENTION, N_RESAMPLES, check_fit, survival_data
from analysis.features import Ids, Progress
from analysis.missing.design import Combination
from analysis.missing.predictions import SubsetPredictions, subset_predictions
from analysis.store import ResultStore
from analysis.survival.comparison import compare
from models.checkpoint import Run

Floats = npt.NDArray[np.float64]
Population = Literal["complete", "everyone"]


def complete_ids(found: SubsetPredictions, cohort: Cohort) -> Ids:
    """(n,) the patients who have all of the run's modalities. Raises CohortError for none."""
    ids = found.subject_ids[found.complete]
    if not len(ids):
        raise CohortError(
            f"cohort '{cohort.spec.name}': none of {len(found.subject_ids)} patients has all of "
            f"{', '.join(found.design.modalities)}; combinations are compared on patients who do."
        )
    return ids


def counted(
    found: SubsetPredictions, cohort: Cohort, population: Population
) -> tuple[Ids, dict[Combination, Floats]]:
    """(n,) the patients of a population and their (n, K) predictions by combination, not empty.

    Raises CohortError when nobody has all modalities and `complete` patients are asked for.
    """
    if population == "everyone":
        ids, rows = found.subject_ids, np.ones(len(found.subject_ids), bool)
    else:
        ids, rows = complete_ids(found, cohort), found.complete
    return ids, {c: found.of(c)[rows] for c in found.design.combinations if c}


def by_combination(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    population: Population = "complete",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    cut_rule: str | float = "youden",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A run with every combination of its modalities (`design`), and the whole against each.

    Plain JSON, stored. For classes: AUC (DeLong), decisions at a cut-off that each combination
    learns on the tuning patients, McNemar. For survival: Harrell's C with paired bootstrap.
    `differences` are the whole minus the combination, Holm over the combinations. `untold`:
    patients who have none of a combination; they keep what the run says of the unknown. Raises
    CohortError when nobody of the split has all modalities and `complete` patients are asked for.
    """
    check_fit(run, cohort)
    task = run.config.task
    parameters = {
        "method": "combinations",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "cut_rule": cut_rule,
        "population": population,
        "version": 2,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        predicted = subset_predictions(run, cohort, split, store, progress)
        kept, found = counted(predicted, cohort, population)
        if task.kind == "survival":
            measured = _survival(run, cohort, kept, found, n_resamples, seed)
        else:
            cutoffs = _cutoffs(run, cohort, store, list(found), population, cut_rule)
            measured = _labels(run, cohort, kept, found, n_resamples, seed, cutoffs)
        rows = np.isin(predicted.subject_ids, kept)
        for entry in measured["combinations"]:
            entry["untold"] = int(predicted.untold(entry["modalities"])[rows].sum())
        entries = run.config.modalities
        return {
            "run": run.config.name,
            "title": run.config.title,
            "strategy": run.config.strategy.name,
            "task": task.name,
            "task_title": task.title,
            "kind": task.kind,
            "cohort": cohort.spec.name,
            "split": split,
            "modalities": {name: entry.title for name, entry in entries.items()},
            "population": population,
            "design": predicted.design.words,
            "n": len(kept),
            "n_incomplete": int((~predicted.complete).sum()),
            "resamples": {"n": n_resamples, "seed": seed, "units": "patients"},
            **measured,
        }, {}

    return dict(store.compute(parameters, make).content)


def _survival(
    run: Run,
    cohort: Cohort,
    ids: Ids,
    found: dict[Combination, Floats],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    data = survival_data(cohort, run.config.task.name, ids)
    names = {_name(c): c for c in found}
    whole = list(names)[-1]
    compared = compare(
        data,
        {name: found[c][:, 0] for name, c in names.items()},
        n_resamples,
        seed,
        pairs=[(whole, name) for name in list(names)[:-1]],
    )
    return {
        "metric": "c_index",
        "events": data.n_events,
        "convention": C_CONVENTION,
        "undefined": compared.undefined,
        "combinations": [
            {"modalities": list(c), "c_index": interval_json(compared.run(name).c)}
            for name, c in names.items()
        ],
        "differences": [
            {
                "modalities": list(names[gap.second]),
                "difference": interval_json(gap.difference),
                "p": number_json(gap.p),
                "p_holm": number_json(gap.p_holm),
            }
            for gap in compared.differences
        ],
    }


def _labels(
    run: Run,
    cohort: Cohort,
    ids: Ids,
    found: dict[Combination, Floats],
    n_resamples: int,
    seed: int,
    cutoffs: Mapping[Combination, Cutoff],
) -> dict[str, Any]:
    task = run.config.task
    data = label_data(cohort, task.name, task.classes, ids)
    names = {_name(c): c for c in found}
    whole = list(names)[-1]
    given = {name: probability(found[c]) for name, c in names.items()}
    decided = {
        name: judge(data, given[name], cutoffs[c], resample_batches(data, n_resamples, seed))
        for name, c in names.items()
    }
    right = {name: d.right for name, d in decided.items()}
    compared = compare_labels(data, given, right, against=whole)
    return {
        "metric": "auc",
        "classes": list(task.classes),
        "class_counts": dict(zip(task.classes, data.counts.tolist(), strict=True)),
        "events": int(data.counts[1]) if data.is_binary else None,
        "convention": AUC_CONVENTION,
        "undefined": data.undefined,
        "combinations": [
            {
                "modalities": list(names[area.run]),
                "auc": interval_json(area.auc),
                **decisions_json(decided[area.run]),
            }
            for area in compared.runs
        ],
        "differences": [
            {
                "modalities": list(names[d.second]),
                "difference": interval_json(d.auc.difference),
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
            for d in compared.differences
        ],
    }


def _cutoffs(
    run: Run,
    cohort: Cohort,
    store: ResultStore,
    wanted: list[Combination],
    population: Population,
    rule: str | float,
) -> dict[Combination, Cutoff]:
    """Each combination's own cut-off, as a place that lacks the other modalities would learn it."""
    task = run.config.task
    plain = without_tuning(rule, len(task.classes))
    if rule != "youden" or len(task.classes) > 2:
        return dict.fromkeys(wanted, plain)
    if not len(cohort.subject_ids(LEARNING_SPLIT, task.name)):
        return dict.fromkeys(wanted, plain)
    predicted = subset_predictions(run, cohort, LEARNING_SPLIT, store)
    try:
        kept, found = counted(predicted, cohort, population)
    except CohortError:
        note = "No cut-off can be learned: no tuning patient has all modalities."
        return dict.fromkeys(wanted, Cutoff("half", plain.value, note=note))
    data = label_data(cohort, task.name, task.classes, kept)
    return {
        c: learn_cutoff(data, probability(values), "youden", LEARNING_SPLIT)
        for c, values in found.items()
    }


def _name(combination: Combination) -> str:
    return " + ".join(combination)
