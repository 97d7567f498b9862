"""The reviewer's statistics beside loops over resamples with the libraries that have them.

    python bench/reviewer_statistics.py

One process, the same resamples, the same predictions. The loops call scikit-survival and lifelines
once a run and resample; they run on a few resamples, in turns with ours, and are extrapolated.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lifelines import KaplanMeierFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import brier_score, cumulative_dynamic_auc
from sksurv.util import Surv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.reviewer.survival import Prediction, Question, survival_statistics
from analysis.survival.baseline import breslow, survival_curve
from analysis.survival.brier import resampled_brier
from analysis.survival.calibration import KNOTS, fit_cox, spline
from analysis.survival.concordance import resample_weights
from analysis.survival.data import SurvivalData
from analysis.survival.decision_curve import THRESHOLDS, net_benefit
from analysis.survival.dynamic_auc import resampled_auc
from analysis.survival.observed import ByHorizon
from bench.cindex_bootstrap import RESAMPLES, RUNS, N, cohort, seconds

HORIZON, LOOPED, ROUNDS = 1000.0, 4, 3
TIMES = np.linspace(60, HORIZON, 100)


def both(data: SurvivalData) -> np.ndarray:
    return np.asarray(Surv.from_arrays(data.event, data.time_days))


def main() -> None:
    warnings.simplefilter("ignore")
    train, learned = cohort(1500, seed=1)
    whole, scores = cohort(N)
    data = whole.censored_at(train.time_days.max() - 1)
    weights = resample_weights(N, RESAMPLES, seed=0)
    rows = [np.repeat(np.arange(N), w) for w in weights[:LOOPED]]
    baselines = [breslow(train, 0.4 * s) for s in learned]
    survival = [survival_curve(b, 0.4 * s, TIMES) for b, s in zip(baselines, scores, strict=True)]
    chances = [1 - s[:, -1] for s in survival]
    observed = ByHorizon(data, HORIZON)
    closed = data.censored_at(HORIZON)
    scales = [np.log(-np.log1p(-p)) for p in chances]
    columns = [spline(x, np.quantile(x, KNOTS)) for x in scales]
    columns = [(c - c.mean(axis=0)) / c.std(axis=0) for c in columns]
    train_y, data_y, closed_y = both(train), both(data), both(closed)

    def auc_loop() -> np.ndarray:
        return np.array(
            [
                [
                    cumulative_dynamic_auc(train_y, data_y[r], s[r], TIMES, tied_tol=0)[0]
                    for r in rows
                ]
                for s in scores
            ]
        )

    def brier_loop() -> np.ndarray:
        return np.array(
            [[brier_score(train_y, data_y[r], s[r], TIMES)[1] for r in rows] for s in survival]
        )

    def one_benefit(p: np.ndarray, r: np.ndarray, t: float) -> float:
        flagged = r[p[r] >= t]
        if not len(flagged):
            return 0.0
        km = KaplanMeierFitter().fit(data.time_days[flagged], data.event[flagged])
        risk = 1 - float(km.predict(HORIZON))
        return len(flagged) / N * (risk - (1 - risk) * t / (1 - t))

    def benefit_loop() -> np.ndarray:
        # One resample: a Kaplan-Meier fit a threshold makes this the slowest loop by far.
        return np.array(
            [[one_benefit(p, r, t) for t in THRESHOLDS] for p in chances for r in rows[:1]]
        )

    def cox_loop() -> np.ndarray:
        return np.array(
            [
                [
                    CoxPHSurvivalAnalysis(ties="breslow", tol=1e-9).fit(c[r], closed_y[r]).coef_
                    for r in rows
                ]
                for c in columns
            ]
        )

    parts: dict[str, tuple[Callable[[], np.ndarray], Callable[[], np.ndarray], int]] = {
        "AUC at 100 days (scikit-survival)": (
            auc_loop, lambda: resampled_auc(train, data, scores, TIMES, weights), LOOPED,
        ),
        "Brier score at 100 days (scikit-survival)": (
            brier_loop,
            lambda: np.array(
                [resampled_brier(train, data, s, TIMES, weights)[0] for s in survival]
            ),
            LOOPED,
        ),
        "net benefit at 99 thresholds (lifelines)": (
            benefit_loop,
            lambda: np.array([net_benefit(observed, p, THRESHOLDS, weights) for p in chances]),
            1,
        ),
        "Cox regression on a spline (scikit-survival)": (
            cox_loop, lambda: np.array([fit_cox(weights, closed, c)[:, :-1] for c in columns]),
            LOOPED,
        ),
    }  # fmt: skip
    print(f"n = {N}, {data.n_events} events, {RUNS} runs, {RESAMPLES} resamples; medians.\n")
    print("| part | loop, seconds | ours, seconds | loop / ours | largest difference |")
    print("|---|---|---|---|---|")
    for name, (loop, ours, looped) in parts.items():
        mine = ours()  # compiles
        theirs = loop().reshape(RUNS, looped, -1)
        gap = np.nanmax(np.abs(mine[:, :looped] - theirs))
        slow, fast = [], []
        for _ in range(ROUNDS):
            slow.append(seconds(loop) * RESAMPLES / looped)
            fast.append(seconds(ours))
        a, b = float(np.median(slow)), float(np.median(fast))
        print(f"| {name} | {a:.4g} | {b:.4g} | {a / b:.4g} | {gap:.1e} |")

    site = np.arange(N) % 3
    question = Question(
        data=data,
        train=train,
        horizon_days=HORIZON,
        threshold=0.3,
        attributes={"site": {str(k): site == k for k in range(3)}},
        n_resamples=RESAMPLES,
    )
    given = [
        Prediction(f"run {k}", s, lambda t, b=b, s=s: survival_curve(b, 0.4 * s, t))
        for k, (b, s) in enumerate(zip(baselines, scores, strict=True))
    ]
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        survival_statistics(given, question)
        spent.append(time.perf_counter() - start)
    print(f"\nEverything of 6 runs and 5 pairs: {np.median(spent):.2f} s")


if __name__ == "__main__":
    main()
