"""How balanced a run is, all of it, as `fusionlens imbalance` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.cohort.cohort import Cohort
from analysis.evaluation import N_RESAMPLES, check_fit
from analysis.features import Progress
from analysis.imbalance.across import balance_point
from analysis.imbalance.alone import alone
from analysis.imbalance.cohort import (
    cohort_shapley,
    score_convention,
    score_game,
    utilisation,
)
from analysis.imbalance.gates import gates
from analysis.imbalance.history import training_history
from analysis.imbalance.shares import share_summary
from analysis.imbalance.shuffle import REPEATS, shuffled
from analysis.imbalance.verdict import judge
from analysis.missing.report import Stage, check_several
from analysis.store import ResultStore
from models.checkpoint import Run


def imbalance_report(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    unimodal_runs: Sequence[Run] | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: Stage | None = None,
) -> dict[str, Any]:
    """The answers of analysis/imbalance for one run and split, in plain JSON; each part is stored.

    verdict: `judge`; shapley, utilisation: of the cohort's score; shares: of the patients'
    predictions; shuffled, alone, history, gates; point: `balance_point`. unimodal_runs: runs of
    single modalities for the same task. Raises CohortError for a run of one modality or of more
    than seven, a split without patients, or a unimodal run that does not belong to it.
    """
    check_fit(run, cohort)
    check_several(run)
    given = list(unimodal_runs or ())

    def stage(words: str) -> Progress:
        def say(done: int, total: int) -> None:
            if progress is not None:
                progress(words, done, total)

        return say

    drawn = {"n_resamples": n_resamples, "seed": seed}
    single = alone(run, cohort, split, store, given, n_resamples=n_resamples, seed=seed)
    game, counted = score_game(
        run, cohort, split, store, progress=stage("Predicting with fewer modalities"), **drawn
    )
    titles = {name: entry.title for name, entry in run.config.modalities.items()}
    parts: dict[str, Any] = {
        **counted,
        "shapley": cohort_shapley(game),
        "utilisation": utilisation(game),
        "shares": share_summary(run, cohort, split, store, n_resamples=n_resamples, seed=seed),
        "alone": single,
        "shuffled": shuffled(
            run,
            cohort,
            split,
            store,
            repeats=repeats,
            n_resamples=n_resamples,
            seed=seed,
            progress=stage("Exchanging modalities between patients"),
        ),
    }
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
        "modalities": titles,
        "verdict": judge(game, parts, titles),
        **parts,
        "history": training_history(run),
        "gates": gates(run, cohort, split, store),
        "point": balance_point(
            run, cohort, split, store, given, n_resamples=n_resamples, seed=seed
        ),
        "resamples": {"n": n_resamples, "seed": seed, "units": "patients"},
        "convention": score_convention(counted["metric"]),
    }
