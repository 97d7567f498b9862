"""Everything that the Modalities page shows of one run, as `fusionlens missing` prints it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analysis.attribution.case import open_case
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import N_RESAMPLES, check_fit
from analysis.missing.combinations import by_combination
from analysis.missing.drop import REPEATS, drop_curve
from analysis.missing.monotonicity import monotonicity
from analysis.missing.natural import by_pattern
from analysis.missing.patient import patient_combinations
from analysis.missing.patterns import availability
from analysis.missing.predictions import subset_predictions
from analysis.store import ResultStore
from models.checkpoint import Run

Stage = Callable[[str, int, int], None]
"""(what is done in words, done, of all)."""


def check_several(run: Run) -> None:
    """Raise CohortError for a run of one modality: without it nothing is left to ask."""
    if len(run.config.modalities) < 2:
        raise CohortError(
            f"run '{run.config.name}' reads {', '.join(run.config.modalities)} alone, so nothing "
            "is left when it is missing; choose a run of several modalities."
        )


def missing_report(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    patient: int | None = None,
    n_resamples: int = N_RESAMPLES,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: Stage | None = None,
) -> dict[str, Any]:
    """The answers of analysis/missing for one run and split, in plain JSON; each part is stored.

    combinations: `by_combination` in complete patients (null where nobody is, see `notes`);
    everyone: the same in all patients; natural, drop, monotonicity, availability; patient:
    `patient_combinations` of a subject_id of the cohort, if one is named. Raises CohortError for
    a run of one modality or a split without patients, AttributionError for a patient of whom the
    run knows nothing.
    """
    check_fit(run, cohort)
    check_several(run)

    def say(done: int, total: int) -> None:
        if progress is not None:
            progress("Predicting with fewer modalities", done, total)

    # The patient first: a number that is none of the cohort's ends the command before the work.
    one = None if patient is None else _patient(run, cohort, patient)
    found = subset_predictions(run, cohort, split, store, say)
    notes = []
    try:
        complete = by_combination(run, cohort, split, store, n_resamples=n_resamples, seed=seed)
    except CohortError as error:
        complete = None
        notes.append(str(error))
    task = run.config.task
    return {
        "run": run.config.name,
        "title": run.config.title,
        "strategy": run.config.strategy.name,
        "task": task.name,
        "task_title": task.title,
        "kind": task.kind,
        "cohort": cohort.spec.name,
        "split": split,
        "modalities": {name: entry.title for name, entry in run.config.modalities.items()},
        "design": found.design.words,
        "combinations": complete,
        "everyone": by_combination(
            run, cohort, split, store, population="everyone", n_resamples=n_resamples, seed=seed
        ),
        "natural": by_pattern(run, cohort, split, store, n_resamples=n_resamples, seed=seed),
        "drop": drop_curve(
            run, cohort, split, store, repeats=repeats, n_resamples=n_resamples, seed=seed
        ),
        "monotonicity": monotonicity(run, cohort, split, store, n_resamples=n_resamples, seed=seed),
        "availability": availability(run, cohort, store, seed=seed),
        "patient": one,
        "notes": notes,
    }


def _patient(run: Run, cohort: Cohort, subject_id: int) -> dict[str, Any]:
    case = open_case(run, cohort, subject_id)
    survival = run.config.task.kind == "survival"
    return patient_combinations(case, read_baseline(run.folder) if survival else None)
