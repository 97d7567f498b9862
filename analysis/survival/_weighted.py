"""Estimators of weighted copies of the patients, compiled: many resamples in one call.

Weights are whole numbers, how often each patient occurs in each resample; a value equals that of
the repeated rows. As in `_sweep`, resamples stand side by side so that inner loops become vectors,
and parts of them run in threads of our own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

from analysis.survival._sweep import LANES, _compiled

_CELLS_WORTH_A_THREAD = 1_000_000


def in_parts(n_resamples: int, cells: int, run: Callable[[slice], None]) -> None:
    """Call run on slices of the resamples, in threads where the work is worth one."""
    threads = max(1, min(os.cpu_count() or 1, cells // _CELLS_WORTH_A_THREAD))
    step = -(-n_resamples // (threads * LANES)) * LANES
    parts = [slice(first, first + step) for first in range(0, n_resamples, step)]
    if len(parts) == 1:
        run(parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(run, parts))


def _make_event_free(lanes: int) -> Callable[..., None]:
    def event_free(
        weights: Any,  # (B, n) int32
        order: Any,  # (n,) patients by time
        time: Any,  # (n,) sorted
        event: Any,  # (n,) sorted
        member: Any,  # positions in sorted order, group after group, each rising
        starts: Any,  # (G + 1,) where each group begins in member
        horizons: Any,  # (G,)
        out: Any,  # (B, G) float64, filled
    ) -> None:
        n_resamples, n = weights.shape
        w = np.empty((n, lanes), np.int32)
        at_risk = np.empty(lanes, np.int32)
        observed = np.empty(lanes, np.int32)
        left = np.empty(lanes, np.int32)
        deaths = np.empty(lanes, np.int32)
        survival = np.empty(lanes, np.float64)
        for first in range(0, n_resamples, lanes):
            used = min(lanes, n_resamples - first)
            w[:] = 0
            for lane in range(used):
                for j in range(n):
                    w[j, lane] = weights[first + lane, order[j]]
            for g in range(len(horizons)):
                m, end = starts[g], starts[g + 1]
                at_risk[:] = 0
                for k in range(m, end):
                    for lane in range(lanes):
                        at_risk[lane] += w[member[k], lane]
                survival[:] = 1.0
                observed[:] = at_risk
                while m < end and time[member[m]] <= horizons[g]:
                    now = time[member[m]]
                    if now == horizons[g]:
                        observed[:] = at_risk
                    left[:] = 0
                    deaths[:] = 0
                    any_death = False
                    while m < end and time[member[m]] == now:
                        j = member[m]
                        for lane in range(lanes):
                            left[lane] += w[j, lane]
                        if event[j]:
                            any_death = True
                            for lane in range(lanes):
                                deaths[lane] += w[j, lane]
                        m += 1
                    if any_death:
                        for lane in range(lanes):
                            survival[lane] *= 1 - deaths[lane] / max(at_risk[lane], 1)
                    for lane in range(lanes):
                        at_risk[lane] -= left[lane]
                    if now < horizons[g]:
                        observed[:] = at_risk
                # Nobody followed to the horizon: known only where everybody had the event.
                for lane in range(used):
                    known = observed[lane] > 0 or survival[lane] == 0
                    out[first + lane, g] = survival[lane] if known else np.nan

    return _compiled(event_free)


event_free_one = _make_event_free(1)
event_free_lanes = _make_event_free(LANES)


def _dynamic_auc(
    weights: Any,  # (B, n) int32
    order: Any,  # (n,) patients by rising risk
    rank: Any,  # (n,) dense rank of the risk, in that order
    ipcw: Any,  # (n,) by patient: weight as a case, 0 where never one
    case_from: Any,  # (n,) by patient: first grid time at which a case
    control_until: Any,  # (n,) by patient: number of grid times at which a control
    out: Any,  # (B, T) float64, filled
) -> None:
    n_resamples, n = weights.shape
    n_times = out.shape[1]
    below = np.empty(n_times)
    tied = np.empty(n_times)
    cases = np.empty(n_times)
    won = np.empty(n_times)
    for b in range(n_resamples):
        below[:] = 0.0
        cases[:] = 0.0
        won[:] = 0.0
        j = 0
        while j < n:
            tied[:] = 0.0
            end = j
            while end < n and rank[end] == rank[j]:
                i = order[end]
                if weights[b, i] > 0:
                    for t in range(control_until[i]):
                        tied[t] += weights[b, i]
                end += 1
            while j < end:
                i = order[j]
                share = weights[b, i] * ipcw[i]
                if share > 0:
                    for t in range(case_from[i], n_times):
                        won[t] += share * (below[t] + 0.5 * tied[t])
                        cases[t] += share
                j += 1
            for t in range(n_times):
                below[t] += tied[t]
        for t in range(n_times):
            pairs = cases[t] * below[t]
            out[b, t] = won[t] / pairs if pairs > 0 else np.nan


dynamic_auc = _compiled(_dynamic_auc)


def _cholesky(matrix: Any, vector: Any) -> bool:
    """Cholesky in place: vector becomes the solution; False where the matrix is singular."""
    k = len(vector)
    for i in range(k):
        whole = matrix[i, i]
        for m in range(i):
            matrix[i, i] -= matrix[i, m] * matrix[i, m]
        if not matrix[i, i] > 1e-12 * max(whole, 1e-300):
            return False
        matrix[i, i] = np.sqrt(matrix[i, i])
        for j in range(i + 1, k):
            for m in range(i):
                matrix[j, i] -= matrix[j, m] * matrix[i, m]
            matrix[j, i] /= matrix[i, i]
    for i in range(k):
        for m in range(i):
            vector[i] -= matrix[i, m] * vector[m]
        vector[i] /= matrix[i, i]
    for i in range(k - 1, -1, -1):
        for m in range(i + 1, k):
            vector[i] -= matrix[m, i] * vector[m]
        vector[i] /= matrix[i, i]
    return True


_solve = cast(Callable[..., bool], _compiled(cast(Callable[..., None], _cholesky)))
_STEPS = 50
_LONGEST_STEP = 5.0
# Bounds are quantiles of copies: their sixth digit is noise, the cohort's own is not.
_CLOSE, _CLOSE_COPIES = 1e-9, 1e-6


def _glm(
    weights: Any,  # (B, n) int32
    prior: Any,  # (n,) weight of a patient beside that
    outcome: Any,  # (n,) 0 or 1
    design: Any,  # (n, k)
    offset: Any,  # (n,)
    cloglog: bool,  # complementary log-log instead of logit
    start: Any,  # (k,)
    out: Any,  # (B, k) float64, filled
) -> None:
    n_resamples, n = weights.shape
    k = design.shape[1]
    beta = np.empty(k)
    step = np.empty(k)
    information = np.empty((k, k))
    close = _CLOSE if n_resamples == 1 else _CLOSE_COPIES
    for b in range(n_resamples):
        beta[:] = start
        done = False
        for _ in range(_STEPS):
            step[:] = 0.0
            information[:] = 0.0
            for i in range(n):
                v = weights[b, i] * prior[i]
                if v == 0:
                    continue
                eta = offset[i]
                for a in range(k):
                    eta += design[i, a] * beta[a]
                eta = min(max(eta, -30.0), 30.0)
                odds = np.exp(eta)
                if cloglog:
                    survival = np.exp(-odds)
                    # 1 - survival without its cancellation, where expm1 would cost the most.
                    chance = 1 - survival if odds > 1e-4 else odds * (1 - odds / 2 + odds**2 / 6)
                    # d chance / d eta, and that squared over the variance.
                    slope = odds * survival
                    pull = odds * (outcome[i] - chance) / chance
                    size = odds * slope / chance
                else:
                    chance = odds / (1 + odds)
                    pull = outcome[i] - chance
                    size = chance * (1 - chance)
                for a in range(k):
                    step[a] += v * pull * design[i, a]
                    for c in range(a + 1):
                        information[a, c] += v * size * design[i, a] * design[i, c]
            if not _solve(information, step):
                break
            largest = 0.0
            for a in range(k):
                move = min(max(step[a], -_LONGEST_STEP), _LONGEST_STEP)
                beta[a] += move
                largest = max(largest, abs(move))
            if largest < close:
                done = True
                break
        for a in range(k):
            out[b, a] = beta[a] if done else np.nan


glm = _compiled(_glm)


def _cox(
    weights: Any,  # (B, n) int32
    order: Any,  # (n,) patients by falling time
    time: Any,  # (n,) in that order
    event: Any,  # (n,) in that order
    design: Any,  # (n, k) in that order
    start: Any,  # (k,)
    out: Any,  # (B, k + 1) float64, filled: coefficients, cumulative hazard at the end
) -> None:
    n_resamples, n = weights.shape
    k = design.shape[1]
    beta = np.empty(k)
    step = np.empty(k)
    information = np.empty((k, k))
    s1 = np.empty(k)
    s2 = np.empty((k, k))
    close = _CLOSE if n_resamples == 1 else _CLOSE_COPIES
    for b in range(n_resamples):
        beta[:] = start
        done = False
        hazard = 0.0
        for _ in range(_STEPS):
            step[:] = 0.0
            information[:] = 0.0
            s0 = 0.0
            s1[:] = 0.0
            s2[:] = 0.0
            hazard = 0.0
            j = 0
            while j < n:
                deaths = 0.0
                now = time[j]
                while j < n and time[j] == now:
                    w = weights[b, order[j]]
                    if w > 0:
                        eta = 0.0
                        for a in range(k):
                            eta += design[j, a] * beta[a]
                        part = w * np.exp(min(max(eta, -50.0), 50.0))
                        s0 += part
                        for a in range(k):
                            s1[a] += part * design[j, a]
                            for c in range(a + 1):
                                s2[a, c] += part * design[j, a] * design[j, c]
                        if event[j]:
                            deaths += w
                            for a in range(k):
                                step[a] += w * design[j, a]
                    j += 1
                if deaths > 0:
                    hazard += deaths / s0
                    for a in range(k):
                        step[a] -= deaths * s1[a] / s0
                        for c in range(a + 1):
                            product = s1[a] * s1[c] / (s0 * s0)
                            information[a, c] += deaths * (s2[a, c] / s0 - product)
            if not _solve(information, step):
                break
            largest = 0.0
            for a in range(k):
                move = min(max(step[a], -_LONGEST_STEP), _LONGEST_STEP)
                largest = max(largest, abs(move))
                beta[a] += move
            if largest < close:
                done = True
                break
        for a in range(k):
            out[b, a] = beta[a] if done else np.nan
        out[b, k] = hazard if done else np.nan


cox = _compiled(_cox)
