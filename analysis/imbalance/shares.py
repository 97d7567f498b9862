"""How much of each patient's own prediction comes from each modality.

Exact Shapley values of the patient's prediction (log-risk or logit) over the modalities that the
patient has, from predictions that are already there. A modality's share is |phi_m| over the sum
of all |phi|, in [0, 1]; of K > 2 logits, of which only differences mean anything, |phi_m| is the
sum over classes of what moves them apart (each minus the mean of all). Only patients with at
least two of the run's modalities count: of one there is nothing to share.

Two rules say in whom a modality matters for what is done:
changes: without it the run puts the patient into another group.
decides: so it does, and told it alone the run finds the group that it finds with everything.
Groups are the risk groups at the median log-risk of the training and tuning patients, or the
class at the run's own cut-off from the tuning patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.classification.cutoff import decide
from analysis.classification.data import probability
from analysis.classification.evaluation import interval_json, label_data, number_json, run_cutoff
from analysis.classification.proportions import wilson
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import N_RESAMPLES, check_fit, cutoffs_of
from analysis.features import Ids, Progress
from analysis.imbalance.cohort import by_code
from analysis.imbalance.game import Floats, shapley
from analysis.missing.predictions import Bools, SubsetPredictions, subset_predictions
from analysis.store import ResultStore
from analysis.survival.comparison import percentile_interval
from analysis.survival.concordance import resample_batches
from analysis.survival.groups import assign
from models.checkpoint import Run

Groups = Callable[[Floats], npt.NDArray[np.int64]]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class PatientShares:
    """Of n patients and a run's M modalities, in the run's order.

    phi: (M, n, K) Shapley values of the prediction, 0 where absent. shares: (n, M) in [0, 1],
    nan where the patient lacks the modality, has no other, or nothing moves the prediction.
    changes, decides: (n, M) bool, false where shares are not counted; None without groups.
    """

    modalities: tuple[str, ...]
    subject_ids: Ids
    have: Bools
    phi: Floats
    shares: Floats
    changes: Bools | None
    decides: Bools | None

    @property
    def counted(self) -> Bools:
        """(n, M) who has the modality and at least one other."""
        return np.asarray(self.have & (self.have.sum(axis=1, keepdims=True) > 1), bool)


def patient_shares(found: SubsetPredictions, groups: Groups | None = None) -> PatientShares:
    """Shares of all patients from predictions under every combination; no model is run.

    groups: (n, K) predictions -> (n,) group of each. Raises CohortError for more than 7
    modalities.
    """
    values = by_code(found)
    m = values.shape[0].bit_length() - 1
    # A modality that a patient lacks changes nothing and so gets exactly 0: among the present
    # ones these are the same values as in the game of the present ones alone.
    phi = shapley(values)
    size = phi - phi.mean(axis=2, keepdims=True) if phi.shape[2] > 1 else phi
    moved = np.abs(size).sum(axis=2).T
    counted = found.have & (found.have.sum(axis=1, keepdims=True) > 1)
    total = moved.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(counted & (total > 0), moved / total, np.nan)
    changes = decides = None
    if groups is not None:
        whole = groups(values[-1])
        everything = len(values) - 1
        without = np.stack([groups(values[everything & ~(1 << i)]) for i in range(m)], axis=1)
        alone = np.stack([groups(values[1 << i]) for i in range(m)], axis=1)
        changes = counted & (without != whole[:, None])
        decides = changes & (alone == whole[:, None])
    return PatientShares(
        found.design.modalities, found.subject_ids, found.have, phi, shares, changes, decides
    )


def risk_groups_of(
    run: Run, cohort: Cohort, store: ResultStore, subject_ids: Ids
) -> tuple[Groups | None, str]:
    """What puts predictions of these patients into groups, and the rule in a sentence.

    None with the reason where no cut-off can be learned.
    """
    task = run.config.task
    if task.kind == "survival":
        try:
            cutoffs = cutoffs_of(run, cohort, store, "median")
        except ValueError as error:
            return None, f"There are no risk groups: {error}"
        words = (
            f"Risk groups: the median log-risk of {cutoffs.n:,} {cutoffs.learned_on} patients, "
            f"{cutoffs.values[0]:.3f}."
        )
        return (lambda values: assign(cutoffs, values[:, 0])), words
    data = label_data(cohort, task.name, task.classes, subject_ids)
    cutoff = run_cutoff(run, cohort, store)
    words = (
        "Groups: the most probable class."
        if cutoff.rule == "largest"
        else f"Groups: probability of {task.classes[1]} from {cutoff.value:.3f}"
        f"{f', learned on {cutoff.n:,} tuning patients' if cutoff.learned_on else ''}."
    )
    if cutoff.note:
        words = f"{words} {cutoff.note}"
    return (lambda values: decide(data, probability(values), cutoff)), words


def shares_of_run(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    progress: Progress | None = None,
) -> tuple[PatientShares, str]:
    """`patient_shares` of a split with the run's own groups, and their rule in a sentence."""
    check_fit(run, cohort)
    found = subset_predictions(run, cohort, split, store, progress)
    groups, words = risk_groups_of(run, cohort, store, found.subject_ids)
    return patient_shares(found, groups), words


def share_summary(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Distribution of the shares by modality, and in how many patients each matters; stored.

    Plain JSON. mean: over the n patients counted, interval over resamples of patients. quantiles:
    5, 25, 50, 75, 95%. changes, decides: hits and share of the n, Wilson's interval; null without
    groups (`groups` says why).
    """
    parameters = {
        "method": "share_summary",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        found, words = shares_of_run(run, cohort, split, store, progress)
        if not found.counted.any():
            raise CohortError(
                f"cohort '{cohort.spec.name}': no patient of split '{split}' has two of "
                f"{', '.join(found.modalities)}, so nothing can be shared between them."
            )
        means = _resampled_means(found.shares, n_resamples, seed)
        return {
            "n": len(found.subject_ids),
            "n_counted": int(found.counted.any(axis=1).sum()),
            "scale": "log-risk" if run.config.task.kind == "survival" else "logit",
            "groups": words,
            "modalities": [
                _row(found, i, name, means[i]) for i, name in enumerate(found.modalities)
            ],
        }, {}

    return dict(store.compute(parameters, make).content)


def _row(found: PatientShares, i: int, name: str, means: Floats) -> dict[str, Any]:
    counted, own = found.counted[:, i], found.shares[:, i]
    own = own[~np.isnan(own)]
    n = int(counted.sum())
    mean = float(own.mean()) if len(own) else float("nan")
    quantiles = np.quantile(own, QUANTILES) if len(own) else np.full(len(QUANTILES), np.nan)
    row: dict[str, Any] = {
        "modality": name,
        "n": n,
        "mean": interval_json(percentile_interval(mean, means[~np.isnan(means)])),
        "quantiles": {
            f"{q:g}": number_json(float(v)) for q, v in zip(QUANTILES, quantiles, strict=True)
        },
    }
    for what in ("changes", "decides"):
        flags = getattr(found, what)
        hits = None if flags is None else int(flags[:, i].sum())
        row[what] = None if hits is None else {"hits": hits, **interval_json(wilson(hits, n))}
    return row


def _resampled_means(shares: Floats, n_resamples: int, seed: int) -> Floats:
    """(M, B) mean share of each modality in resamples of patients."""
    known = ~np.isnan(shares)
    filled = np.where(known, shares, 0.0)
    parts = []
    for weights in resample_batches(len(shares), n_resamples, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((weights @ filled) / (weights @ known))
    return np.asarray(np.concatenate(parts).T, np.float64)
