"""One row on one fold: trained on the other folds, scored on this one, stored."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from analysis.benchmark.design import Floats, design
from analysis.benchmark.regression import fit_quietly
from analysis.benchmark.rows import Row
from analysis.classification.data import probability
from analysis.classification.roc import auc
from analysis.cohort.cohort import Cohort, Outcomes
from analysis.cohort.schema import CohortError
from analysis.experiment import Plan, train_run
from analysis.features import Ids
from analysis.predict import predict
from analysis.store import ResultStore, result_key
from analysis.survival.concordance import harrell_c, why_undefined
from analysis.survival.data import SurvivalData
from models.training import TrainingSettings

TUNING_SHARE = 0.15
VERSION = 1


@dataclass(frozen=True, eq=False)
class FoldJob:
    """A row, a task and a fold of a cohort. home: where results and work in progress lie."""

    cohort: Path
    cohort_key: str
    row: Row
    task: str
    fold: int
    seed: int
    home: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """What the result is found by."""
        return {
            "method": "benchmark",
            "cohort": self.cohort_key,
            "recipe": self.row.recipe,
            "task": self.task,
            "fold": self.fold,
            "seed": self.seed,
            "version": VERSION,
        }

    @property
    def work(self) -> Path:
        """Folder of the job's unfinished runs."""
        return self.home / "work" / result_key(self.parameters)

    @property
    def store(self) -> ResultStore:
        """Where finished folds are kept."""
        return ResultStore(self.home / "folds")


def patients(cohort: Cohort, task: str, fold: int) -> tuple[Ids, Ids]:
    """Training and test patients of a fold, those with an outcome for the task."""
    folds = cohort.folds
    if folds is None:
        raise CohortError(f"{cohort.folder}: the cohort states no folds; import it with --folds.")
    ids = cohort.subject_ids(None, task)
    number = folds.reindex(ids).to_numpy()
    return ids[number != fold], ids[number == fold]


def run_fold(job: FoldJob) -> dict[str, Any]:
    """The stored fold result, computed if it is not there yet.

    Holds the test patients' ids and predictions (a risk, or the probability of class 1), the
    scores, n, events, seconds, and what was chosen inside the training folds.
    """
    found = job.store.get(job.parameters)
    if found is not None:
        return dict(found.content)
    started = time.perf_counter()
    cohort = Cohort.open(job.cohort)
    train, test = patients(cohort, job.task, job.fold)
    truth = cohort.outcomes(job.task, train)
    if job.row.estimator:
        a, b = _columns(cohort, job.row, train, test)
        fitted = fit_quietly(job.row.estimator, a, b, truth, job.seed)
        prediction, chosen = fitted.prediction, {**fitted.chosen, "columns": a.shape[1]}
    else:
        prediction, chosen = _fused(job, cohort, truth, test)
    content = {
        "row": job.row.name,
        "task": job.task,
        "fold": job.fold,
        "n_train": len(train),
        **scores(cohort.outcomes(job.task, test), prediction),
        "seconds": round(time.perf_counter() - started, 2),
        "chosen": chosen,
        "subject_ids": test.tolist(),
        "prediction": prediction.tolist(),
    }
    job.store.put(job.parameters, content)
    shutil.rmtree(job.work, ignore_errors=True)
    return content


def scores(truth: Outcomes, prediction: Floats) -> dict[str, Any]:
    """n, events and the measures of a fold; nan (as null) where a fold defines none.

    Survival: Harrell's C. Two classes: area under the ROC curve, and accuracy at one half.
    """
    n = len(truth)
    if truth.event is not None and truth.time_days is not None:
        data = SurvivalData(truth.time_days, truth.event)
        c = None if why_undefined(data) else harrell_c(data, prediction)
        return {"n": n, "events": int(truth.event.sum()), "c_index": c}
    assert truth.label is not None
    positive = truth.label == 1
    area = auc(positive, prediction)
    return {
        "n": n,
        "events": int(positive.sum()),
        "accuracy": float(((prediction >= 0.5) == positive).mean()),
        "auc": None if np.isnan(area) else area,
    }


def _columns(cohort: Cohort, row: Row, train: Ids, test: Ids) -> tuple[Floats, Floats]:
    if not row.modalities:
        return np.zeros((len(train), 0)), np.zeros((len(test), 0))
    return design(cohort, row.modalities, train, test)


def _fused(
    job: FoldJob, cohort: Cohort, truth: Outcomes, test: Ids
) -> tuple[Floats, dict[str, Any]]:
    """Mean prediction of the row's members, and the epochs they stopped at."""
    predictions, epochs = [], []
    group = truth.label if truth.event is None else truth.event
    for member in range(job.row.members):
        seed = job.seed + member
        learn, tune = train_test_split(
            truth.subject_ids, test_size=TUNING_SHARE, stratify=group, random_state=seed
        )
        out = job.work / f"member-{member}"
        # A finished run of an interrupted fold is made again: it is cheaper than to trust it.
        shutil.rmtree(out, ignore_errors=True)
        run = train_run(
            Plan(
                cohort=job.cohort,
                task=job.task,
                strategy=job.row.strategy,
                out=out,
                encoder_store=job.work / "encoders",
                modalities=job.row.modalities,
                strategy_config=job.row.config,
                settings=TrainingSettings(**{**job.row.settings, "seed": seed}),
                train_ids=learn.tolist(),
                tuning_ids=tune.tolist(),
            ),
            accelerator="cpu",
        )
        made = predict(run, cohort, test)
        survival = truth.event is not None
        predictions.append(made.risk if survival else probability(made.values))
        best = run.config.training.best_epoch
        assert best is not None
        epochs.append(best + 1)
    return np.mean(predictions, axis=0), {"best_epoch": epochs}
