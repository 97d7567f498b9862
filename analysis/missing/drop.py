"""How a run holds out when modalities go missing at random.

Each modality that a patient has is dropped with probability p, never the patient's last one
(Zheng et al., HAF, section 3.5 and figure 2, draw the same curve for p up to 0.9). The draws
belong to the patient and the modality, not to the run: all runs of a cohort lose the same scans,
and who loses one at p also loses it at every higher p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.classification.cutoff import decide
from analysis.classification.data import probability
from analysis.classification.delong import auc_interval, delong
from analysis.classification.evaluation import interval_json, label_data, number_json, run_cutoff
from analysis.classification.proportions import wilson
from analysis.classification.roc import macro_auc
from analysis.cohort.cohort import Cohort
from analysis.evaluation import N_RESAMPLES, check_fit, survival_data
from analysis.features import Progress
from analysis.missing.predictions import (
    Bools,
    Floats,
    SubsetPredictions,
    codes_of,
    predict_left,
    subset_predictions,
)
from analysis.predict import run_inputs
from analysis.store import ResultStore
from analysis.survival.comparison import LEVEL, ConfidenceInterval, compare
from analysis.survival.concordance import bootstrap_c
from models.checkpoint import Run

CHANCES = tuple(round(0.1 * i, 1) for i in range(10))
REPEATS = 50
Draws = npt.NDArray[np.float64]


def draws(n: int, cohort_modalities: Sequence[str], repeats: int, seed: int) -> dict[str, Draws]:
    """{modality of the cohort: (repeats, n) numbers in [0, 1)}; below p means dropped."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((len(cohort_modalities), repeats, n))
    return dict(zip(cohort_modalities, drawn, strict=True))


def left_over(have: Bools, drawn: Draws, chance: float) -> Bools:
    """(R, n, M) what stays of (n, M) `have` with (R, n, M) draws at a chance of being dropped.

    Of a patient who would lose everything the modality with the highest draw stays.
    """
    highest = np.where(have, drawn, -1.0).max(axis=2, keepdims=True)
    return np.asarray(have & ((drawn >= chance) | (drawn == highest)), bool)


def drop_curve(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    chances: Sequence[float] = CHANCES,
    repeats: int = REPEATS,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Harrell's C, or AUC and accuracy, over the chance that a modality is dropped; stored.

    Plain JSON. By measure: `mean`, `low` and `high` (2.5% and 97.5% quantiles) over the repeats,
    one number a chance; the patients stay the same, so the band does not hold their number.
    `plain` is the measure as the patients are, with its interval over patients: the curve's value
    at 0. `told`: mean number of modalities left. Accuracy keeps the run's one cut-off, learned on
    tuning patients as they are.
    """
    check_fit(run, cohort)
    chances = [float(p) for p in chances]
    parameters = {
        "method": "drop_curve",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "chances": chances,
        "repeats": repeats,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        found = subset_predictions(run, cohort, split, store, progress)
        drawn = draws(len(found.subject_ids), list(cohort.spec.modalities), repeats, seed)
        own = np.stack([drawn[name] for name in found.design.modalities], axis=2)
        kept = [left_over(found.have, own, p) for p in chances]
        scores = _Scores(run, cohort, store, found)
        values = [scores.of(_told(run, cohort, found, k, progress)) for k in kept]
        plain = scores.plain(n_resamples, seed)
        return {
            "run": run.config.name,
            "title": run.config.title,
            "n": len(found.subject_ids),
            "events": scores.events,
            "untold": int((~found.have.any(axis=1)).sum()),
            "chances": chances,
            "repeats": repeats,
            "seed": seed,
            "told": [float(k.sum(axis=2).mean()) for k in kept],
            "measures": {
                name: {
                    "plain": interval_json(plain[name]),
                    **_over_repeats([v[name] for v in values]),
                }
                for name in plain
            },
            "cutoff": scores.cutoff_json,
        }, {}

    return dict(store.compute(parameters, make).content)


def _told(
    run: Run,
    cohort: Cohort,
    found: SubsetPredictions,
    kept: Bools,
    progress: Progress | None,
) -> Floats:
    """(R, n, K) predictions with what is kept (R, n, M)."""
    left = np.stack([codes_of(one) for one in kept])
    if found.design.all_of_them:
        return found.told(left)
    return predict_left(run, run_inputs(run, cohort, found.subject_ids), left, progress)


def _over_repeats(values: Sequence[Floats]) -> dict[str, list[float | None]]:
    """Of (R,) values a chance: their mean and the ends that hold 95% of them."""
    low, high = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return {
        "mean": [number_json(float(v.mean())) for v in values],
        "low": [number_json(float(np.quantile(v, low))) for v in values],
        "high": [number_json(float(np.quantile(v, high))) for v in values],
    }


class _Scores:
    """The measures of a task for one set of patients under many predictions."""

    def __init__(
        self, run: Run, cohort: Cohort, store: ResultStore, found: SubsetPredictions
    ) -> None:
        task = run.config.task
        self.whole = found.as_they_are
        self.survival = (
            survival_data(cohort, task.name, found.subject_ids) if task.kind == "survival" else None
        )
        if self.survival is None:
            self.labels = label_data(cohort, task.name, task.classes, found.subject_ids)
            self.cutoff = run_cutoff(run, cohort, store)

    @property
    def events(self) -> int | None:
        """Patients with the event, or of the second of two classes."""
        if self.survival is not None:
            return self.survival.n_events
        return int(self.labels.counts[1]) if self.labels.is_binary else None

    @property
    def cutoff_json(self) -> dict[str, Any] | None:
        """How probabilities became decisions; None for survival."""
        if self.survival is not None:
            return None
        c = self.cutoff
        return {"rule": c.rule, "value": number_json(c.value), "n": c.n, "note": c.note}

    def of(self, values: Floats) -> dict[str, Floats]:
        """{measure: (R,)} of (R, n, K) predictions; nan where undefined."""
        if self.survival is not None:
            once = np.ones((1, self.survival.n), np.int32)
            return {"c_index": bootstrap_c(self.survival, values[:, :, 0], once)[:, 0]}
        given = [probability(one) for one in values]
        right = [decide(self.labels, one, self.cutoff) == self.labels.label for one in given]
        defined = self.labels.undefined is None
        areas = [macro_auc(self.labels, one) if defined else float("nan") for one in given]
        return {
            "auc": np.array(areas, np.float64),
            "accuracy": np.array([hits.mean() for hits in right], np.float64),
        }

    def plain(self, n_resamples: int, seed: int) -> dict[str, ConfidenceInterval]:
        """The measures as the patients are, with their interval over patients."""
        if self.survival is not None:
            risks = {"whole": self.whole[:, 0]}
            return {"c_index": compare(self.survival, risks, n_resamples, seed).run("whole").c}
        given = probability(self.whole)
        hits = int((decide(self.labels, given, self.cutoff) == self.labels.label).sum())
        nan = float("nan")
        area = ConfidenceInterval(nan, nan, nan)
        if self.labels.undefined is None:
            found = delong(self.labels, [given])
            area = auc_interval(float(found.auc[0]), float(found.covariance[0, 0]))
        return {"auc": area, "accuracy": wilson(hits, self.labels.n)}
