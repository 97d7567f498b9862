"""Balance of modalities and gain of fusion, one point a run and split, over tasks.

Whether balanced runs gain more from fusing is asked of many tasks and strategies at once, so a
point holds two numbers that mean the same everywhere: the normalised entropy of the Shapley
values (1: all modalities carry alike, 0: one carries all) and the score with everything minus
that of the best single modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.classification.evaluation import interval_json
from analysis.cohort.cohort import Cohort
from analysis.evaluation import N_RESAMPLES, check_fit
from analysis.features import Progress
from analysis.imbalance.alone import alone, by_modality
from analysis.imbalance.cohort import score_game
from analysis.missing.report import check_several
from analysis.store import ResultStore
from models.checkpoint import Run


def balance_point(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    unimodal_runs: Sequence[Run] = (),
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """One run's point, plain JSON: balance and gain with intervals, n, events, what was best.

    Unimodal runs of other modalities or tasks are not for this run and raise CohortError. Both
    numbers are null where the split has no score.
    """
    check_fit(run, cohort)
    check_several(run)
    game, counted = score_game(
        run, cohort, split, store, n_resamples=n_resamples, seed=seed, progress=progress
    )
    single = alone(run, cohort, split, store, unimodal_runs, n_resamples=n_resamples, seed=seed)
    best = single["best_single"]
    undefined = counted["undefined"] is not None
    return {
        "run": run.config.name,
        "title": run.config.title,
        "strategy": run.config.strategy.name,
        "task": run.config.task.name,
        "task_title": run.config.task.title,
        "cohort": cohort.spec.name,
        "cohort_title": cohort.spec.title,
        "split": split,
        "metric": counted["metric"],
        "n": counted["n"],
        "events": counted["events"],
        "n_modalities": len(run.config.modalities),
        "balance": None if undefined else interval_json(game.balance),
        "gain": None if best is None else best["gain"],
        "best_single": None if best is None else best["modality"],
        "source": None if best is None else best["source"],
    }


def unimodal_of(run: Run, candidates: Sequence[Run]) -> list[Run]:
    """Of some runs those of a single modality that belong to a run, one a modality.

    Of two of the same modality the one whose encoder is the run's own, else the first.
    """
    own = {
        name: [
            one
            for one in candidates
            if tuple(one.config.modalities) == (name,)
            and one.config.task.name == run.config.task.name
        ]
        for name in run.config.modalities
    }
    chosen = []
    for name, entry in run.config.modalities.items():
        found = sorted(
            own[name],
            key=lambda one: one.config.modalities[name].encoder.name != entry.encoder.name,
        )
        chosen += found[:1]
    by_modality(run, chosen)
    return chosen
