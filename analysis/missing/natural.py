"""Missing by nature against missing by force.

A patient who came without a scan is not a complete patient whose scan is hidden: why it was not
made may say something about them. For every pattern that occurs the run's score in the patients
who came with just these modalities stands beside its score in complete patients who are told no
more. These are different patients, so their difference is not paired; where it lies clearly off
zero, hiding modalities is no picture of what happens to patients who lack them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from analysis.classification.data import probability
from analysis.classification.delong import auc_interval, delong
from analysis.classification.evaluation import interval_json, label_data, number_json
from analysis.cohort.cohort import Cohort
from analysis.evaluation import N_RESAMPLES, check_fit, survival_data
from analysis.features import Ids, Progress
from analysis.missing.design import Combination
from analysis.missing.predictions import SubsetPredictions, subset_predictions
from analysis.store import ResultStore
from analysis.survival.comparison import (
    LEVEL,
    ConfidenceInterval,
    percentile_interval,
    two_sided_p,
)
from analysis.survival.concordance import bootstrap_c, harrell_c, resample_batches, why_undefined
from models.checkpoint import Run

Floats = npt.NDArray[np.float64]
_NAN = float("nan")
# Of fewer a score says nothing: with one event C is 0 or 1 in every resample.
LEAST_PATIENTS, LEAST_EVENTS = 10, 5
_KNOWN_NOTHING = "The run knows nothing of these patients and cannot rank them."


def by_pattern(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The run's score in the patients of each pattern, and by force in complete patients.

    Plain JSON, stored; the most frequent pattern first. `natural` and `forced` have n, events,
    the metric with its interval and, where it has no value, why (`undefined`); `forced` is null
    for complete patients themselves and where nobody is complete or the design lacks the
    combination. `difference`: natural minus forced. A group of fewer than 10 patients, or of
    fewer than 5 events (5 of each class), is counted and has no score. Survival: Harrell's C,
    percentiles of two independent bootstraps. Classes: AUC, DeLong, independent variances added.
    """
    check_fit(run, cohort)
    parameters = {
        "method": "natural_missingness",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 2,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        found = subset_predictions(run, cohort, split, store, progress)
        names = found.design.modalities
        patterns, first, counts = np.unique(found.codes, return_index=True, return_counts=True)
        rows = []
        for at in np.lexsort((patterns, -counts)):
            pattern = tuple(n for n, has in zip(names, found.have[first[at]], strict=True) if has)
            here = np.asarray(found.codes == patterns[at], bool)
            rows.append(_row(run, cohort, found, pattern, here, n_resamples, seed))
        return {
            "metric": "c_index" if run.config.task.kind == "survival" else "auc",
            "patterns": rows,
            "resamples": {"n": n_resamples, "seed": seed, "units": "patients of each group"},
        }, {}

    return dict(store.compute(parameters, make).content)


def _row(
    run: Run,
    cohort: Cohort,
    found: SubsetPredictions,
    pattern: Combination,
    here: npt.NDArray[np.bool_],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    known = pattern in found.design
    whole = pattern == found.design.modalities
    forced = None
    if known and not whole and pattern and found.complete.any():
        values = found.of(pattern)[found.complete]
        forced = _Score.of(
            run, cohort, found.subject_ids[found.complete], values, n_resamples, seed + 1
        )
    natural = _Score.of(
        run, cohort, found.subject_ids[here], found.as_they_are[here], n_resamples, seed
    )
    if not pattern:
        natural = natural.without_value(_KNOWN_NOTHING)
    gap, p = natural.minus(forced) if forced is not None else (None, _NAN)
    return {
        "modalities": list(pattern),
        "natural": natural.json,
        "forced": None if forced is None else forced.json,
        "difference": None if gap is None else interval_json(gap),
        "p": number_json(p),
    }


class _Score:
    """A score in one group of patients, with what its difference from another needs."""

    def __init__(
        self,
        metric: str,
        n: int,
        events: int | None,
        interval: ConfidenceInterval,
        undefined: str | None,
        sample: Floats | None = None,
        error: float = _NAN,
    ) -> None:
        self.metric, self.n, self.events = metric, n, events
        self.interval, self.undefined = interval, undefined
        self.sample, self.error = sample, error

    @classmethod
    def of(
        cls, run: Run, cohort: Cohort, ids: Ids, values: Floats, n_resamples: int, seed: int
    ) -> _Score:
        """The score of (n, K) predictions for these patients."""
        if run.config.task.kind == "survival":
            return cls._survival(run, cohort, ids, values[:, 0], n_resamples, seed)
        task = run.config.task
        data = label_data(cohort, task.name, task.classes, ids)
        events = int(data.counts[1]) if data.is_binary else None
        nothing = ConfidenceInterval(_NAN, _NAN, _NAN)
        if why := data.undefined or _few(data.n, int(data.counts.min()), "of one class"):
            return cls("auc", data.n, events, nothing, why)
        areas = delong(data, [probability(values)])
        area, variance = float(areas.auc[0]), float(areas.covariance[0, 0])
        return cls(
            "auc",
            data.n,
            events,
            auc_interval(area, variance),
            None,
            error=float(np.sqrt(max(variance, 0.0))) if not np.isnan(variance) else _NAN,
        )

    @classmethod
    def _survival(
        cls, run: Run, cohort: Cohort, ids: Ids, risk: Floats, n_resamples: int, seed: int
    ) -> _Score:
        data = survival_data(cohort, run.config.task.name, ids)
        if why := why_undefined(data) or _few(data.n, data.n_events, "with the event"):
            nothing = ConfidenceInterval(_NAN, _NAN, _NAN)
            return cls("c_index", data.n, data.n_events, nothing, why)
        batches = resample_batches(data.n, n_resamples, seed)
        sample = np.concatenate([bootstrap_c(data, risk[None], w)[0] for w in batches])
        value = harrell_c(data, risk)
        interval = percentile_interval(value, sample[~np.isnan(sample)])
        return cls("c_index", data.n, data.n_events, interval, None, sample)

    def without_value(self, why: str) -> _Score:
        """The same patients, of whom the score says nothing."""
        nothing = ConfidenceInterval(_NAN, _NAN, _NAN)
        return _Score(self.metric, self.n, self.events, nothing, why)

    def minus(self, other: _Score) -> tuple[ConfidenceInterval, float]:
        """Difference from a score in other patients, and its two-sided p."""
        gap = self.interval.value - other.interval.value
        if self.sample is not None and other.sample is not None:
            sample = self.sample - other.sample
            sample = sample[~np.isnan(sample)]
            p = _NAN if np.isnan(gap) else two_sided_p(sample)
            return percentile_interval(gap, sample), p
        error = float(np.hypot(self.error, other.error))
        if np.isnan(gap) or np.isnan(error) or error == 0:
            return ConfidenceInterval(gap, _NAN, _NAN), _NAN
        reach = float(norm.ppf((1 + LEVEL) / 2)) * error
        p = float(2 * norm.sf(abs(gap) / error))
        return ConfidenceInterval(gap, gap - reach, gap + reach), p

    @property
    def json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "n": self.n,
            "events": self.events,
            self.metric: interval_json(self.interval),
            "undefined": self.undefined,
        }


def _few(n: int, events: int, which: str) -> str | None:
    if n >= LEAST_PATIENTS and events >= LEAST_EVENTS:
        return None
    return (
        f"Too few for a score: {n} patients, {events} {which}; it takes {LEAST_PATIENTS} and "
        f"{LEAST_EVENTS}."
    )
