"""What a run achieves with each combination of its modalities, on the same patients.

Only patients who have all of the run's modalities count, so that the combinations differ in what
the model is told and in nothing else. A modality that is left out is marked absent, the state
that the model was trained to expect; the encoders run once and the fusion 2^M - 1 times.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

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
from analysis.predict import run_inputs
from analysis.store import ResultStore
from analysis.survival.comparison import compare, holm
from models.checkpoint import Run

Floats = npt.NDArray[np.float64]
Combination = tuple[str, ...]
MAX_MODALITIES = 6
# Patients of one call: a fusion over many long sequences holds a matrix a patient.
_BATCH = 128


def subsets(modalities: Sequence[str]) -> tuple[Combination, ...]:
    """All non-empty combinations, single ones first, the whole last, in the given order."""
    names = tuple(modalities)
    return tuple(c for size in range(1, len(names) + 1) for c in combinations(names, size))


def predict_combinations(
    run: Run,
    cohort: Cohort,
    subject_ids: npt.ArrayLike,
    progress: Progress | None = None,
) -> tuple[Ids, dict[Combination, Floats]]:
    """(n,) those of the patients who have all modalities, and (n, K) predictions by combination.

    Raises CohortError when nobody has them all, or for more than 6 modalities (63 combinations).
    """
    names = tuple(run.config.modalities)
    if len(names) > MAX_MODALITIES:
        raise CohortError(
            f"run '{run.config.name}' reads {len(names)} modalities, which combine in "
            f"{2 ** len(names) - 1} ways; combinations are given for up to {MAX_MODALITIES}."
        )
    asked = np.asarray(subject_ids, np.int64)
    inputs = run_inputs(run, cohort, asked)
    complete = torch.stack([inputs[name].present for name in names]).all(dim=0)
    rows = torch.nonzero(complete)[:, 0]
    if not len(rows):
        raise CohortError(
            f"cohort '{cohort.spec.name}': none of {len(asked)} patients has all of "
            f"{', '.join(names)}; combinations are compared on patients who do."
        )
    wanted = subsets(names)
    found: dict[Combination, list[torch.Tensor]] = {c: [] for c in wanted}
    done = 0
    with torch.inference_mode():
        for part in torch.split(rows, _BATCH):
            encoded = run.model.encode({name: item.take(part) for name, item in inputs.items()})
            everyone = torch.ones(len(part), dtype=torch.bool)
            hidden = {name: item.without(everyone) for name, item in encoded.items()}
            for combination in wanted:
                left = {n: encoded[n] if n in combination else hidden[n] for n in names}
                found[combination].append(run.model.fuse(left).prediction.double())
            done += len(part)
            if progress is not None:
                progress(done, len(rows))
    return asked[rows.numpy()], {c: torch.cat(p).numpy() for c, p in found.items()}


def by_combination(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    cut_rule: str | float = "youden",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A run with every non-empty combination of its modalities, and the whole against each.

    Plain JSON, stored. For classes: AUC (DeLong), decisions at a cut-off that each combination
    learns on the tuning patients, McNemar. For survival: Harrell's C with paired bootstrap.
    `differences` are the whole minus the combination, Holm over the combinations. Raises
    CohortError when nobody of the split has all modalities.
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
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        ids = cohort.subject_ids(split, task.name)
        if not len(ids):
            raise CohortError(
                f"cohort '{cohort.spec.name}' has no patients with task '{task.name}' in split "
                f"'{split}'."
            )
        kept, found = predict_combinations(run, cohort, ids, progress)
        if task.kind == "survival":
            measured = _survival(run, cohort, kept, found, n_resamples, seed)
        else:
            measured = _labels(run, cohort, kept, found, n_resamples, seed, cut_rule)
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
            "n": len(kept),
            "n_incomplete": len(ids) - len(kept),
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
    compared = compare(data, {name: found[c][:, 0] for name, c in names.items()}, n_resamples, seed)
    gaps = [compared.difference(whole, name) for name in list(names)[:-1]]
    adjusted = holm(np.array([gap.p for gap in gaps], np.float64)).tolist()
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
                "p_holm": number_json(p_holm),
            }
            for gap, p_holm in zip(gaps, adjusted, strict=True)
        ],
    }


def _labels(
    run: Run,
    cohort: Cohort,
    ids: Ids,
    found: dict[Combination, Floats],
    n_resamples: int,
    seed: int,
    cut_rule: str | float,
) -> dict[str, Any]:
    task = run.config.task
    data = label_data(cohort, task.name, task.classes, ids)
    names = {_name(c): c for c in found}
    whole = list(names)[-1]
    cutoffs = _cutoffs(run, cohort, cut_rule)
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


def _cutoffs(run: Run, cohort: Cohort, rule: str | float) -> dict[Combination, Cutoff]:
    """Each combination's own cut-off, as a place that lacks the other modalities would learn it."""
    task = run.config.task
    wanted = subsets(tuple(run.config.modalities))
    plain = without_tuning(rule, len(task.classes))
    if rule != "youden" or len(task.classes) > 2:
        return dict.fromkeys(wanted, plain)
    ids = cohort.subject_ids(LEARNING_SPLIT, task.name)
    if not len(ids):
        return dict.fromkeys(wanted, plain)
    try:
        kept, found = predict_combinations(run, cohort, ids)
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
