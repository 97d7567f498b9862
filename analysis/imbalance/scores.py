"""One score of many predictions for the same patients, and its value in shared resamples.

Harrell's C for survival, the AUC (mean of one against the rest for more than two classes) for
labels. All predictions are judged on the same resamples of patients, so that every difference
and every sum of scores is paired. Resampling is stratified by class for labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.classification.data import LabelData, as_probability, one_vs_rest, probability
from analysis.classification.data import resample_batches as label_batches
from analysis.classification.evaluation import label_data
from analysis.classification.roc import count, macro_auc
from analysis.cohort.cohort import Cohort
from analysis.evaluation import survival_data
from analysis.survival.concordance import bootstrap_c, resample_batches, why_undefined
from analysis.survival.data import SurvivalData
from models.checkpoint import Run

Floats = npt.NDArray[np.float64]
CHANCE = 0.5
# Of fewer a score says nothing: with one event C is 0 or 1 in every resample.
LEAST_PATIENTS, LEAST_EVENTS = 10, 5


@dataclass(frozen=True, eq=False)
class Scorer:
    """A task's score for n patients; 0.5 is chance, higher is better."""

    outcomes: SurvivalData | LabelData

    @classmethod
    def of_patients(cls, run: Run, cohort: Cohort, subject_ids: npt.ArrayLike) -> Scorer:
        """For some patients of a cohort and a run's task. Raises CohortError for another task."""
        task = run.config.task
        if task.kind == "survival":
            return cls(survival_data(cohort, task.name, subject_ids))
        return cls(label_data(cohort, task.name, task.classes, subject_ids))

    @property
    def metric(self) -> str:
        """'c_index' or 'auc'."""
        return "c_index" if isinstance(self.outcomes, SurvivalData) else "auc"

    @property
    def events(self) -> int | None:
        """Patients with the event, or of the second of two classes; None for more classes."""
        if isinstance(self.outcomes, SurvivalData):
            return self.outcomes.n_events
        return int(self.outcomes.counts[1]) if self.outcomes.is_binary else None

    @property
    def undefined(self) -> str | None:
        """Why these patients have no score, in a sentence; None when they have one."""
        data = self.outcomes
        if isinstance(data, SurvivalData):
            why, fewest = why_undefined(data), data.n_events
        else:
            why, fewest = data.undefined, int(data.counts.min())
        if why is None and (data.n < LEAST_PATIENTS or fewest < LEAST_EVENTS):
            what = "events" if isinstance(data, SurvivalData) else "patients of one class"
            why = (
                f"{data.n} patients with {fewest} {what} are too few for a score; it takes "
                f"{LEAST_PATIENTS} and {LEAST_EVENTS}."
            )
        return why

    def of(self, values: npt.ArrayLike) -> Floats:
        """(R,) scores of (R, n, K) log-risks or logits; nan where undefined."""
        found = np.asarray(values, np.float64)
        data = self.outcomes
        if self.undefined is not None:
            return np.full(len(found), np.nan)
        if isinstance(data, SurvivalData):
            return bootstrap_c(data, found[:, :, 0], np.ones((1, data.n), np.int32))[:, 0]
        return np.array([macro_auc(data, probability(one)) for one in found], np.float64)

    def resampled(self, values: npt.ArrayLike, n_resamples: int, seed: int) -> Floats:
        """(R, B) scores of (R, n, K) predictions on the same B resamples of patients.

        B is n_resamples less those without any comparable pair, 0 where the score is undefined.
        """
        found = np.asarray(values, np.float64)
        data = self.outcomes
        if self.undefined is not None:
            return np.empty((len(found), 0))
        if isinstance(data, SurvivalData):
            risks = found[:, :, 0]
            batches = resample_batches(data.n, n_resamples, seed)
            sample = np.concatenate([bootstrap_c(data, risks, w) for w in batches], axis=1)
        else:
            given = [probability(one) for one in found]
            parts = [
                np.stack([_weighted_auc(data, one, w) for one in given])
                for w in label_batches(data, n_resamples, seed)
            ]
            sample = np.concatenate(parts, axis=1)
        # Whether a resample can be scored depends on no prediction.
        return np.asarray(sample[:, ~np.isnan(sample[0])], np.float64)


def _weighted_auc(data: LabelData, given: Floats, weights: npt.NDArray[np.int64]) -> Floats:
    """(b,) macro AUC in weighted copies (b, n) of the patients."""
    checked = as_probability(data, given)
    areas = [count(hit, score, weights).auc for _, hit, score in one_vs_rest(data, checked)]
    return np.asarray(np.mean(areas, axis=0), np.float64)
