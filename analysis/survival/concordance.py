"""Concordance: does the patient with the higher risk have the event first?

0.5 is chance, 1 is perfect, higher is better. Harrell's C (Harrell et al., JAMA 1982; 247:2543)
takes every comparable pair alike; Uno's C (Uno et al., Stat Med 2011; 30:1105) weights events by
the inverse probability of not being censored, so that it does not depend on the censoring.

Pairs: (i, j) is comparable when i has the event and j is observed longer, or as long but
censored. Equal risks count one half. Only exactly equal risks are tied, as in lifelines;
scikit-survival calls risks within 1e-8 tied unless told `tied_tol=0`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sksurv.metrics import concordance_index_ipcw
from sksurv.util import Surv

from analysis.survival import _sweep
from analysis.survival.data import Floats, SurvivalData, as_risk, check_positive

Multiplicities = npt.NDArray[np.int32]

# Cells of one (resamples, patients) block; 64 MB of counts, whatever the number of resamples.
_BATCH_CELLS = 16_000_000
# Twice the weight of all patients is counted in 32 bits.
_LARGEST_TOTAL_WEIGHT = 2**30 - 1
# Below this many (resample, patient, score) cells a thread costs more than it saves.
_CELLS_WORTH_A_THREAD = 1_000_000


def why_undefined(data: SurvivalData) -> str | None:
    """Say in one sentence why C has no value for these patients; None when it has one."""
    if data.n == 1:
        return "Concordance compares pairs, and there is only one patient."
    if data.n_events == 0:
        return f"None of the {data.n} patients had the event, so no pair can be compared."
    _, _, first_partner = _sweep.sort_by_time(data)
    if not (first_partner < data.n).any():
        return "No patient was observed longer than one with the event, so no pair is comparable."
    return None


def harrell_c(data: SurvivalData, risk: npt.ArrayLike) -> float:
    """Return Harrell's C in [0, 1], or nan where `why_undefined(data)` gives the reason.

    risk: (n,) any scale, larger is worse. O(n log n) time, O(n) memory. Raises ValueError for a
    risk of the wrong length or with missing values. Harrell et al. 1982.
    """
    once = np.ones((1, data.n), dtype=np.int32)
    return float(bootstrap_c(data, as_risk(data, risk)[None], once)[0, 0])


def bootstrap_c(data: SurvivalData, risks: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Return Harrell's C of K scores on each of B weighted copies of the cohort: (K, B).

    risks: (K, n), one row a score. weights: (B, n) whole numbers >= 0, how often each patient
    occurs in each resample (`resample_weights`). A value equals Harrell's C of the repeated
    rows, to the last bit; nan where a resample has no comparable pair. Memory grows with n, not
    with its square. Raises ValueError for shapes that do not fit, or weights of another kind.
    """
    scores = np.atleast_2d(np.asarray(risks, dtype=np.float64))
    if len(scores) == 0:
        raise ValueError("There is no score to evaluate: risks is empty.")
    scores = np.stack([as_risk(data, score) for score in scores])
    counts = _as_multiplicities(weights, data.n)
    prepared = _sweep.prepare(data, scores)
    out = np.full((len(counts), len(scores)), np.nan)
    if data.n_events == 0:
        return out.T

    kernel = _sweep.sweep_one if len(counts) == 1 else _sweep.sweep_lanes

    def run(part: slice) -> None:
        kernel(counts[part], *prepared, out[part])

    parts = _shares(len(counts), counts.size * len(scores))
    if len(parts) == 1:
        run(parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as threads:
            list(threads.map(run, parts))
    return out.T


def resample_weights(n: int, n_resamples: int, seed: int) -> Multiplicities:
    """Return (n_resamples, n) int32: how often each patient is drawn, n draws with replacement.

    The patient is the unit: all scores of a patient are drawn together, which is what makes
    differences between runs paired. Rows sum to n. The same seed gives the same resamples.
    """
    return np.concatenate(list(resample_batches(n, n_resamples, seed)))


def resample_batches(n: int, n_resamples: int, seed: int) -> Iterator[Multiplicities]:
    """Yield the rows of `resample_weights` in blocks that fit memory for any n."""
    if n < 1 or n_resamples < 1:
        raise ValueError(f"Cannot draw {n_resamples} resamples of {n} patients: both must be > 0.")
    rng = np.random.default_rng(seed)
    rows = max(1, _BATCH_CELLS // n)
    for first in range(0, n_resamples, rows):
        shape = (min(rows, n_resamples - first), n)
        counts = np.zeros(shape, dtype=np.int32)
        _sweep.count_draws(rng.integers(0, n, shape, dtype=np.int32), counts)
        yield counts


@dataclass(frozen=True)
class UnoC:
    """Uno's C with the time it was truncated at.

    value: in [0, 1], higher is better, nan when undefined (`note` says why).
    tau_days: only events before tau count. note: one sentence where something was limited.
    """

    value: float
    tau_days: float
    note: str | None = None


def uno_c(
    train: SurvivalData,
    test: SurvivalData,
    risk: npt.ArrayLike,
    tau_days: float | None = None,
) -> UnoC:
    """Return Uno's C of the test patients, censoring estimated on the training patients.

    risk: (n of test,), larger is worse. tau_days: truncation time; by default the end of the
    test follow-up. Beyond the training follow-up the censoring distribution is unknown, so tau
    is never later than that, and `note` says when it was moved. Computed by scikit-survival
    (exact ties only). Raises ValueError for a tau <= 0. Uno et al. 2011.
    """
    scores = as_risk(test, risk)
    wanted = float(test.time_days.max()) if tau_days is None else float(tau_days)
    check_positive(wanted, "tau_days")
    known_until = float(train.time_days.max())
    tau, note = wanted, None
    if wanted > known_until:
        tau = known_until
        note = (
            f"Truncated at {known_until:g} days, where follow-up of the training patients ends; "
            f"the probability of being censored is unknown up to the {wanted:g} days asked for."
        )
    if (reason := why_undefined(test)) is not None:
        return UnoC(float("nan"), tau, reason)
    events_before_tau = test.event & (test.time_days < tau)
    longer = test.time_days.max() > test.time_days[events_before_tau]
    if not longer.any():
        return UnoC(float("nan"), tau, f"No comparable pair begins before {tau:g} days.")
    value = concordance_index_ipcw(
        Surv.from_arrays(train.event, train.time_days),
        Surv.from_arrays(test.event, test.time_days),
        scores,
        tau=tau,
        tied_tol=0.0,
    )[0]
    return UnoC(float(value), tau, note)


def _as_multiplicities(weights: npt.ArrayLike, n: int) -> Multiplicities:
    given = np.asarray(weights)
    if given.ndim != 2 or given.shape[1] != n or given.shape[0] == 0:
        raise ValueError(f"weights must have shape (resamples, {n}), not {given.shape}.")
    if given.dtype.kind not in "iub":
        raise ValueError("weights count how often a patient occurs and must be whole numbers.")
    if given.min() < 0:
        raise ValueError("weights count how often a patient occurs and cannot be negative.")
    if given.sum(axis=1, dtype=np.int64).max() > _LARGEST_TOTAL_WEIGHT:
        raise ValueError(f"The weights of one resample exceed {_LARGEST_TOTAL_WEIGHT} patients.")
    return np.ascontiguousarray(given, dtype=np.int32)


def _shares(n_resamples: int, cells: int) -> list[slice]:
    """Split the resamples between threads, in whole lanes."""
    threads = max(1, min(os.cpu_count() or 1, cells // _CELLS_WORTH_A_THREAD))
    lanes_each = -(-n_resamples // (threads * _sweep.LANES))
    step = lanes_each * _sweep.LANES
    return [slice(first, first + step) for first in range(0, n_resamples, step)]
