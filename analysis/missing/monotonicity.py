"""Does one modality more ever make a prediction worse, and for whom?

A fusion is monotone when a patient's loss with everything they have is not above the loss with
less; HAF trains for it (Zheng et al., equation 10: max(loss with - loss without, 0)). For each
modality the patients who have it, and something else, are predicted with it and without it,
everything else as it is. The loss is that of analysis/missing/loss.py.

That some patients come out worse is no fault by itself: a modality that carries nothing makes
about half of them a little worse. What counts is the mean change with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.target import Survival
from analysis.baseline_file import read_baseline
from analysis.classification.data import LabelData, probability
from analysis.classification.evaluation import interval_json, label_data, number_json
from analysis.classification.proportions import wilson
from analysis.cohort.cohort import Cohort
from analysis.evaluation import N_RESAMPLES, check_fit, survival_data
from analysis.features import Ids, Progress
from analysis.missing.lattice import lattice
from analysis.missing.loss import LOSS_WORDS, log_loss, survival_loss
from analysis.missing.predictions import Floats, SubsetPredictions, subset_predictions
from analysis.store import Result, ResultStore
from analysis.survival.baseline import survival_curve
from analysis.survival.comparison import (
    LEVEL,
    ConfidenceInterval,
    holm,
    percentile_interval,
    two_sided_p,
)
from analysis.survival.concordance import resample_batches
from analysis.survival.data import SurvivalData
from models.checkpoint import Run

LISTED = 20
# Predictions closer than this are one number: float32 in batches of two sizes.
SAME = 1e-5
_NAN = float("nan")


def monotonicity(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How often a modality made the prediction worse, for which patients, and for the whole set.

    Plain JSON, stored. `modalities`: one row each with n (patients who have it and something else
    of the run), only (patients left out because it is all they have), worse, same, better
    (counts), worse_share (Wilson), mean_change (loss with minus loss without: above zero is
    harm; percentiles of resampled patients), p and p_holm over modalities, harm ('worse' or
    'better' where the interval excludes zero and Holm p < 0.05, else null) and `worst`, up to 20
    patients by the size of the harm. `lattice`: see analysis/missing/lattice.py.
    """
    return dict(_stored(run, cohort, split, store, n_resamples, seed, progress).content)


def changes(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a patient and modality that was compared: subject_id, modality, loss_with,
    loss_without, change (with minus without).
    """
    arrays = _stored(run, cohort, split, store, n_resamples, seed, None).arrays
    names = list(run.config.modalities)
    without = arrays["loss_without"]
    at, who = np.nonzero(~np.isnan(without))
    with_it = arrays["loss_with"][who]
    return pd.DataFrame(
        {
            "subject_id": arrays["subject_id"][who],
            "modality": [names[i] for i in at],
            "loss_with": with_it,
            "loss_without": without[at, who],
            "change": with_it - without[at, who],
        }
    )


def _stored(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    n_resamples: int,
    seed: int,
    progress: Progress | None,
) -> Result:
    check_fit(run, cohort)
    parameters: dict[str, Any] = {
        "method": "monotonicity",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 3,
    }
    if run.config.task.kind == "survival":
        # No part of the run's hash, and the loss depends on it.
        parameters |= Survival(read_baseline(run.folder), (0.0,)).parameters

    def make() -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        found = subset_predictions(run, cohort, split, store, progress)
        task = _Task(run, cohort, found.subject_ids)
        with_it = task.loss(found.as_they_are)
        without = _losses_without(found, task)
        rows = _rows(found, task, with_it, without, n_resamples, seed)
        content = {
            "loss": LOSS_WORDS[run.config.task.kind],
            "n": len(found.subject_ids),
            "events": task.events,
            "horizon_days": task.horizon_days,
            "modalities": rows,
            "lattice": lattice(run, cohort, found, n_resamples, seed),
            "resamples": {"n": n_resamples, "seed": seed, "units": "patients"},
        }
        arrays = {
            "subject_id": found.subject_ids,
            "loss_with": with_it,
            "loss_without": without,
        }
        return content, arrays

    return store.compute(parameters, make)


def _losses_without(found: SubsetPredictions, task: _Task) -> Floats:
    """(M, n) loss without each modality; nan where it is not there, or all that is."""
    names = found.design.modalities
    out = np.full((len(names), len(found.subject_ids)), np.nan)
    for at, name in enumerate(names):
        others = tuple(n for n in names if n != name)
        hidden = found.of(others)
        moved = np.abs(hidden - found.as_they_are).max(axis=1) > SAME
        told = np.where(moved[:, None], hidden, found.as_they_are)
        compared = found.have[:, at] & ~found.untold(others)
        out[at] = np.where(compared, task.loss(told), np.nan)
    return out


def _rows(
    found: SubsetPredictions,
    task: _Task,
    with_it: Floats,
    without: Floats,
    n_resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    names = found.design.modalities
    rows: list[dict[str, Any]] = []
    ps = []
    for at, name in enumerate(names):
        change = with_it - without[at]
        known = np.flatnonzero(~np.isnan(change))
        gap = change[known]
        mean, p = _mean(gap, n_resamples, seed)
        ps.append(p)
        worse, better = int((gap > 0).sum()), int((gap < 0).sum())
        has = found.have[:, at]
        alone = has & found.untold(tuple(n for n in names if n != name))
        rows.append(
            {
                "modality": name,
                "n": len(gap),
                "only": int(alone.sum()),
                "worse": worse,
                "same": len(gap) - worse - better,
                "better": better,
                "worse_share": interval_json(wilson(worse, len(gap))),
                "loss_with": number_json(float(with_it[known].mean()) if len(gap) else _NAN),
                "loss_without": number_json(float(without[at, known].mean()) if len(gap) else _NAN),
                "mean_change": interval_json(mean),
                "p": number_json(p),
                "worst": _worst(found, task, name, change, with_it, without[at]),
            }
        )
    for row, p_holm in zip(rows, holm(np.array(ps)).tolist(), strict=True):
        row["p_holm"] = number_json(p_holm)
        row["harm"] = _harm(row["mean_change"], p_holm)
    return rows


def _mean(gap: Floats, n_resamples: int, seed: int) -> tuple[ConfidenceInterval, float]:
    if not len(gap):
        return ConfidenceInterval(_NAN, _NAN, _NAN), _NAN
    sample = np.concatenate(
        [weights @ gap / len(gap) for weights in resample_batches(len(gap), n_resamples, seed)]
    )
    return percentile_interval(float(gap.mean()), sample), two_sided_p(sample)


def _harm(mean: Mapping[str, float | None], p_holm: float) -> str | None:
    low, high = mean["low"], mean["high"]
    if low is None or high is None or not p_holm < 1 - LEVEL:
        return None
    if low > 0:
        return "worse"
    return "better" if high < 0 else None


def _worst(
    found: SubsetPredictions,
    task: _Task,
    name: str,
    change: Floats,
    with_it: Floats,
    without: Floats,
) -> list[dict[str, Any]]:
    order = np.argsort(-np.nan_to_num(change, nan=-np.inf), kind="stable")[:LISTED]
    hidden = found.of(tuple(n for n in found.design.modalities if n != name))
    return [
        {
            "subject_id": int(found.subject_ids[i]),
            "change": float(change[i]),
            "loss_with": float(with_it[i]),
            "loss_without": float(without[i]),
            "has": [n for n, h in zip(found.design.modalities, found.have[i], strict=True) if h],
            **task.told(i, found.as_they_are[i], "with"),
            **task.told(i, hidden[i], "without"),
            **task.outcome(i),
        }
        for i in order
        if change[i] > 0
    ]


class _Task:
    """What happened to the patients, and how far from it a prediction is."""

    def __init__(self, run: Run, cohort: Cohort, ids: Ids) -> None:
        task = run.config.task
        self.survival: SurvivalData | None = None
        self.labels: LabelData | None = None
        self.horizon_days: float | None = None
        if task.kind == "survival":
            self.survival = survival_data(cohort, task.name, ids)
            self.baseline = read_baseline(run.folder)
            last = float(self.baseline.time_days[-1])
            self.horizon_days = last if task.horizon_days is None else float(task.horizon_days)
        else:
            self.labels = label_data(cohort, task.name, task.classes, ids)

    @property
    def events(self) -> int | None:
        """Patients with the event, or of the second of two classes."""
        if self.survival is not None:
            return self.survival.n_events
        assert self.labels is not None
        return int(self.labels.counts[1]) if self.labels.is_binary else None

    def loss(self, values: Floats) -> Floats:
        """(n,) loss of (n, K) predictions."""
        if self.survival is not None:
            return survival_loss(self.survival, values[:, 0], self.baseline)
        assert self.labels is not None
        return log_loss(self.labels, probability(values))

    def told(self, i: int, values: Floats, which: str) -> dict[str, float | None]:
        """What the run says of patient i, for people: S at the horizon, or P of the own class."""
        if self.survival is not None:
            at = [self.horizon_days or 0.0]
            survival = float(survival_curve(self.baseline, [values[0]], at)[0, 0])
            return {f"event_free_{which}": number_json(survival)}
        assert self.labels is not None
        given = np.atleast_1d(probability(values[None])[0])
        label = int(self.labels.label[i])
        own = given[label] if len(given) > 1 else (given[0] if label else 1 - given[0])
        return {f"probability_{which}": float(own)}

    def outcome(self, i: int) -> dict[str, Any]:
        """What happened to patient i."""
        if self.survival is not None:
            return {
                "time_days": float(self.survival.time_days[i]),
                "event": bool(self.survival.event[i]),
            }
        assert self.labels is not None
        return {"class": self.labels.classes[int(self.labels.label[i])]}
