"""Paired bootstrap of Harrell's C beside the loops people write with lifelines and scikit-survival.

    python bench/cindex_bootstrap.py

One process, the same resamples, the same scores. The loops run on a few resamples, in turns with
ours so that noise on the machine falls on all alike, and are extrapolated to all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.survival.comparison import compare
from analysis.survival.concordance import bootstrap_c, harrell_c, resample_weights
from analysis.survival.data import SurvivalData

N, RUNS, RESAMPLES, LOOPED, ROUNDS = 1098, 6, 1000, 20, 5


def cohort(n: int, seed: int = 0) -> tuple[SurvivalData, np.ndarray]:
    """About 30% events in whole days; two of the six scores rounded, so that risks tie."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    event_time = rng.exponential(2500 * np.exp(-0.8 * z))
    censoring = rng.exponential(900, size=n)
    days = np.ceil(np.minimum(event_time, censoring))
    scores = np.stack([z * a + rng.normal(size=n) for a in np.linspace(0.2, 1.5, RUNS)])
    scores[1], scores[4] = scores[1].round(1), scores[4].round(2)
    return SurvivalData(days, event_time <= censoring), scores


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def table(title: str, rows: dict[str, float], base: str, second: str) -> None:
    print(f"\n| {title} | seconds | {base} / this | {second} / this |")
    print("|---|---|---|---|")
    for name, s in rows.items():
        print(f"| {name} | {s:.4g} | {rows[base] / s:.4g} | {rows[second] / s:.4g} |")


def bootstrap() -> None:
    data, scores = cohort(N)
    days, event = data.time_days, data.event
    runs = {f"run {k}": score for k, score in enumerate(scores)}
    weights = resample_weights(N, RESAMPLES, seed=0)
    rows = [np.repeat(np.arange(N), w) for w in weights[:LOOPED]]

    def by_lifelines() -> np.ndarray:
        return np.array(
            [[concordance_index(days[r], -s[r], event[r]) for r in rows] for s in scores]
        )

    def by_sksurv() -> np.ndarray:
        return np.array(
            [
                [concordance_index_censored(event[r], days[r], s[r], tied_tol=0)[0] for r in rows]
                for s in scores
            ]
        )

    first = seconds(lambda: compare(data, runs, RESAMPLES))
    ours = bootstrap_c(data, scores, weights)
    lifelines_gap = np.abs(ours[:, :LOOPED] - by_lifelines()).max()
    sksurv_gap = np.abs(ours[:, :LOOPED] - by_sksurv()).max()
    work: dict[str, Callable[[], object]] = {
        "lifelines loop": by_lifelines,
        "scikit-survival loop": by_sksurv,
        "ours: everything (resampling, 6 C, 6 intervals, 15 tests)": lambda: compare(
            data, runs, RESAMPLES
        ),
        "ours: C of the resamples only": lambda: bootstrap_c(data, scores, weights),
        "ours: drawing the resamples only": lambda: resample_weights(N, RESAMPLES, seed=0),
    }
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, f in work.items():
            scale = RESAMPLES / LOOPED if name.endswith("loop") else 1
            repeats = 1 if name.endswith("loop") else 5
            spent[name] += [seconds(f) * scale for _ in range(repeats)]
    print(f"n = {N}, {data.n_events} events, {RUNS} runs, {RESAMPLES} resamples; medians.")
    print(f"Loops ran on {LOOPED} resamples (x {RESAMPLES // LOOPED} extrapolated).")
    print(f"max |difference| of C: lifelines {lifelines_gap:.1e}, scikit-survival {sksurv_gap:.1e}")
    print(f"first call in the process: {first:.2f} s (compiles once after installing)")
    medians = {name: float(np.median(s)) for name, s in spent.items()}
    table("paired bootstrap", medians, "lifelines loop", "scikit-survival loop")


def one_large() -> None:
    n = 100_000
    data, scores = cohort(n)
    days, event, risk = data.time_days, data.event, scores[3]
    work: dict[str, Callable[[], float]] = {
        "lifelines": lambda: concordance_index(days, -risk, event),
        "scikit-survival": lambda: concordance_index_censored(event, days, risk, tied_tol=0)[0],
        "ours": lambda: harrell_c(data, risk),
    }
    values = {name: f() for name, f in work.items()}
    gap = max(abs(values["ours"] - v) for v in values.values())
    medians = {
        name: float(np.median([seconds(f) for _ in range(1 if "scikit" in name else 5)]))
        for name, f in work.items()
    }
    print(f"\nOne C at n = {n:,}: {values['ours']:.12f}, max |difference| {gap:.1e}")
    table("one C, n = 100,000", medians, "lifelines", "scikit-survival")


if __name__ == "__main__":
    bootstrap()
    one_large()
