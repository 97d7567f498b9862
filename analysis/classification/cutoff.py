"""From probabilities to decisions: a cut-off learned on some patients, judged on others.

A cut-off chosen on the very patients it is then judged on looks better than it is (Leeflang et
al., Clin Chem 2008; 54:729), so a cut-off carries where it was learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.classification.data import (
    Bools,
    Floats,
    Ints,
    LabelData,
    as_probability,
    one_vs_rest,
)
from analysis.classification.proportions import wilson
from analysis.classification.roc import count
from analysis.survival.comparison import LEVEL, ConfidenceInterval

RULES = ("youden", "half", "largest")
NAIVE = 0.5


@dataclass(frozen=True)
class Cutoff:
    """A patient is called positive at a probability >= value.

    rule: 'youden', 'half' (0.5), 'fixed', or 'largest' (the most probable of K > 2 classes;
    value is nan). learned_on: which patients it comes from ('' for none), n of them. note: why a
    rule could not be followed.
    """

    rule: str
    value: float
    learned_on: str = ""
    n: int = 0
    note: str | None = None


def learn_cutoff(
    data: LabelData,
    given: npt.ArrayLike,
    rule: str | float = "youden",
    learned_on: str = "tuning",
) -> Cutoff:
    """A cut-off from the probabilities of the patients named by learned_on.

    'youden' maximises sensitivity + specificity (Youden, Cancer 1950; 3:32) and lies midway
    between the two scores it separates; of several best ones the most central by score. 'half'
    is 0.5 and a number is taken as it is. With K > 2 classes every rule is 'largest'. Where one
    of the classes is missing Youden's index has no maximum: the cut-off is 0.5 and `note` says so.
    """
    checked = as_probability(data, given)
    if not isinstance(rule, str):
        if not 0 <= rule <= 1:
            raise ValueError(f"A cut-off on a probability lies between 0 and 1, not at {rule}.")
        return Cutoff("fixed", float(rule))
    if rule not in RULES or (rule == "largest" and data.is_binary):
        raise ValueError(f"Unknown rule {rule!r}; use 'youden', 'half' or a number.")
    if not data.is_binary:
        return Cutoff("largest", float("nan"))
    if rule == "half":
        return Cutoff("half", NAIVE)
    if data.undefined is not None:
        return Cutoff("half", NAIVE, note=f"No cut-off can be learned: {data.undefined}")
    counts = count(data.label == 1, checked)
    scores = counts.threshold
    # Whole numbers, so that equal indices are equal: m n (sensitivity + specificity - 1).
    index = counts.tp[0] * counts.fp[0, -1] - counts.fp[0] * counts.tp[0, -1]
    best = np.flatnonzero(index == index.max())
    if len(scores) == 1:
        return Cutoff("half", NAIVE, note="No cut-off can be learned: all predictions are equal.")
    if index.max() <= 0:
        return Cutoff(
            "half",
            NAIVE,
            note="No cut-off can be learned: none is better than chance on these patients.",
        )
    chosen = int(best[len(best) // 2])
    # The lowest score is the best cut only where calling everybody is; excluded by index > 0.
    upper, lower = float(scores[chosen]), float(scores[chosen + 1])
    value = (upper + lower) / 2 if lower < (upper + lower) / 2 else upper
    return Cutoff("youden", value, learned_on, data.n)


def decide(data: LabelData, given: npt.ArrayLike, cutoff: Cutoff) -> Ints:
    """(n,) the class each patient is called."""
    checked = as_probability(data, given)
    if data.is_binary:
        return (checked >= cutoff.value).astype(np.int64)
    return np.asarray(checked.argmax(axis=1), np.int64)


@dataclass(frozen=True)
class ClassDecision:
    """How well one class is told from the rest; shares in [0, 1] with Wilson's intervals.

    n: patients of the class. sensitivity: share of them who are called it. specificity: share of
    the rest who are not. ppv: share of those called it who are. npv: of those not called it who
    are not. nan where nobody is counted.
    """

    name: str
    n: int
    sensitivity: ConfidenceInterval
    specificity: ConfidenceInterval
    ppv: ConfidenceInterval
    npv: ConfidenceInterval


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions at a cut-off, counted.

    confusion: (K, K) patients, rows the truth, columns the decision. accuracy: Wilson interval.
    per_class: of the positive class, or of each of K > 2. balanced_accuracy: mean sensitivity over
    all classes. f1: of the positive class, or its mean over K > 2 classes; 0 where a class is
    neither called nor there. brier: mean squared distance of the probability from the truth, for
    K > 2 summed over classes; lower is better. The last three have percentile intervals over
    resampled patients; the cut-off is held fixed.
    """

    cutoff: Cutoff
    confusion: Ints
    right: Bools
    accuracy: ConfidenceInterval
    balanced_accuracy: ConfidenceInterval
    f1: ConfidenceInterval
    brier: ConfidenceInterval
    per_class: tuple[ClassDecision, ...]


def judge(
    data: LabelData, given: npt.ArrayLike, cutoff: Cutoff, batches: Iterable[Ints]
) -> Decisions:
    """Judge the decisions at a cut-off. batches: (b, n) resampled counts of patients."""
    checked = as_probability(data, given)
    called = decide(data, checked, cutoff)
    k = len(data.classes)
    cells = data.label * k + called
    confusion = np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.int64)
    right = called == data.label
    truth = np.eye(k)[data.label]
    error = (checked - data.label) ** 2 if data.is_binary else ((checked - truth) ** 2).sum(axis=1)
    samples: list[list[Floats]] = [[], [], []]
    in_cell = np.eye(k * k)[cells]
    for weights in batches:
        tables = (weights @ in_cell).reshape(-1, k, k)
        for kept, value in zip(
            samples,
            (_balanced(tables), _f1(tables), weights @ error / weights.sum(axis=1)),
            strict=True,
        ):
            kept.append(value)
    whole = confusion[None].astype(np.float64)
    values = (_balanced(whole)[0], _f1(whole)[0], error.mean())
    balanced, f1, brier = (
        percentile(float(value), np.concatenate(kept) if kept else np.empty(0))
        for value, kept in zip(values, samples, strict=True)
    )
    names = [name for name, _, _ in one_vs_rest(data, checked)]
    return Decisions(
        cutoff=cutoff,
        confusion=confusion,
        right=np.asarray(right, bool),
        accuracy=wilson(int(right.sum()), data.n),
        balanced_accuracy=balanced,
        f1=f1,
        brier=brier,
        per_class=tuple(_class(confusion, data.classes.index(name), name) for name in names),
    )


def percentile(value: float, sample: Floats) -> ConfidenceInterval:
    """The value with the 2.5% and 97.5% quantiles of its resamples; nan where there are none."""
    known = sample[~np.isnan(sample)]
    if np.isnan(value) or not known.size:
        return ConfidenceInterval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return ConfidenceInterval(value, float(low), float(high))


def _class(confusion: Ints, number: int, name: str) -> ClassDecision:
    tp = int(confusion[number, number])
    fn, fp = int(confusion[number].sum()) - tp, int(confusion[:, number].sum()) - tp
    tn = int(confusion.sum()) - tp - fn - fp
    return ClassDecision(
        name,
        tp + fn,
        sensitivity=wilson(tp, tp + fn),
        specificity=wilson(tn, tn + fp),
        ppv=wilson(tp, tp + fp),
        npv=wilson(tn, tn + fn),
    )


def _balanced(tables: Floats) -> Floats:
    """(B,) mean share of each class found, of (B, K, K) tables; nan where a class is missing."""
    found = np.diagonal(tables, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        return np.asarray((found / tables.sum(axis=2)).mean(axis=1), np.float64)


def _f1(tables: Floats) -> Floats:
    """(B,) 2 tp / (2 tp + fp + fn), of class 1 or the mean over K > 2 classes."""
    found = np.diagonal(tables, axis1=1, axis2=2)
    whole = tables.sum(axis=1) + tables.sum(axis=2)
    f1 = 2 * found / np.where(whole > 0, whole, 1.0)
    return np.asarray(f1[:, 1] if tables.shape[1] == 2 else f1.mean(axis=1), np.float64)
