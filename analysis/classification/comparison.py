"""Which run tells the classes apart better, and is the difference more than chance?

Areas are compared by DeLong's test, decisions by McNemar's, both within the same patients; each
is adjusted for the number of pairs (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from analysis.classification.data import Bools, LabelData
from analysis.classification.delong import AUCTest, Scale, auc_interval, auc_test, delong
from analysis.classification.proportions import McNemar, mcnemar
from analysis.survival.comparison import ConfidenceInterval, holm


@dataclass(frozen=True)
class RunAUC:
    """AUC of one run, in [0, 1], higher is better, 0.5 is chance; error is DeLong's."""

    run: str
    auc: ConfidenceInterval
    error: float


@dataclass(frozen=True)
class LabelDifference:
    """`first` against `second` in the same patients.

    auc: DeLong's test of the areas; accuracy: McNemar's of the decisions. *_holm: their p-values
    adjusted for all pairs of the comparison.
    """

    first: str
    second: str
    auc: AUCTest
    auc_holm: float
    accuracy: McNemar
    accuracy_holm: float


@dataclass(frozen=True)
class LabelComparison:
    """AUC of every run and both tests of every pair.

    undefined: the reason, in a sentence, when no area could be computed; decisions are compared
    all the same.
    """

    runs: tuple[RunAUC, ...]
    differences: tuple[LabelDifference, ...]
    undefined: str | None = None


def compare_labels(
    data: LabelData,
    predictions: Mapping[str, npt.ArrayLike],
    right: Mapping[str, Bools],
    *,
    against: str | None = None,
    scale: Scale = "logit",
) -> LabelComparison:
    """Compare runs on the same patients.

    predictions: {run: (n,) or (n, K) probability}. right: {run: (n,) bool decisions that are
    right}. against: compare only this run with each other one, instead of all pairs. Raises
    ValueError for no run at all or one that does not fit the data.
    """
    if not predictions:
        raise ValueError("There is no run to compare.")
    names = list(predictions)
    if set(right) != set(names):
        raise ValueError(f"Decisions are needed of the runs {', '.join(names)}, no more, no less.")
    if against is not None and against not in names:
        raise ValueError(f"No run named {against!r}; there are {', '.join(names)}.")
    nan = float("nan")
    nothing = ConfidenceInterval(nan, nan, nan)
    found = None
    if data.undefined is None:
        found = delong(data, [np.asarray(predictions[name], np.float64) for name in names])
    runs = tuple(
        RunAUC(name, nothing, nan)
        if found is None
        else RunAUC(
            name,
            auc_interval(float(found.auc[i]), float(found.covariance[i, i]), scale),
            float(np.sqrt(found.covariance[i, i])),
        )
        for i, name in enumerate(names)
    )
    pairs = [
        (i, j)
        for i, j in combinations(range(len(names)), 2)
        if against is None or against in (names[i], names[j])
    ]
    if against is not None:
        chosen = names.index(against)
        pairs = [(chosen, j if i == chosen else i) for i, j in pairs]
    areas = [
        AUCTest(nothing, nan, nan) if found is None else auc_test(found, i, j) for i, j in pairs
    ]
    decisions = [mcnemar(right[names[i]], right[names[j]]) for i, j in pairs]
    area_holm = holm(np.array([test.p for test in areas], np.float64)).tolist()
    decision_holm = holm(np.array([test.p for test in decisions], np.float64)).tolist()
    differences = tuple(
        LabelDifference(names[i], names[j], area, p_area, decision, p_decision)
        for (i, j), area, p_area, decision, p_decision in zip(
            pairs, areas, area_holm, decisions, decision_holm, strict=True
        )
    )
    return LabelComparison(runs, differences, data.undefined)
