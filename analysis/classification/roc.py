"""ROC and precision-recall curves, their areas, and the same of weighted copies of the patients.

The area under the ROC curve is the chance that a patient of the class has a higher score than
one of the rest, equal scores counting one half (Mann-Whitney; Hanley & McNeil 1982). Average
precision is sum over thresholds of (R_k - R_{k-1}) P_k, without interpolation, because straight
lines between points of a precision-recall curve are too kind (Davis & Goadrich 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from analysis.classification.data import Bools, Floats, Ints, LabelData, as_probability, one_vs_rest


@dataclass(frozen=True, eq=False)
class ROCCurve:
    """Corners of a ROC curve from (0, 0) to (1, 1), joined by straight lines.

    fpr, tpr: (G,) in [0, 1], not falling. threshold: (G,) falling; a patient is called positive
    at a score >= threshold, and infinity calls nobody.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats


@dataclass(frozen=True, eq=False)
class PRCurve:
    """One point a distinct score, highest first: (G,) recall not falling, precision, threshold."""

    recall: Floats
    precision: Floats
    threshold: Floats


@dataclass(frozen=True, eq=False)
class Counts:
    """True and false positives at each distinct score, highest first, in B weighted copies.

    tp, fp: (B, G) counts of patients at or above the score. threshold: (G,).
    """

    tp: Floats
    fp: Floats
    threshold: Floats

    @property
    def tpr(self) -> Floats:
        """(B, G) share of the positives found; nan where a copy has none."""
        return _over(self.tp, self.tp[:, -1:])

    @property
    def fpr(self) -> Floats:
        """(B, G) share of the negatives called positive; nan where a copy has none."""
        return _over(self.fp, self.fp[:, -1:])

    @property
    def precision(self) -> Floats:
        """(B, G) share of true ones among those called positive; 1 before the first call."""
        called = self.tp + self.fp
        return np.where(called > 0, _over(self.tp, called), 1.0)

    @property
    def auc(self) -> Floats:
        """(B,) area under the ROC curve by the trapezoid rule, which counts ties one half."""
        tpr, fpr = _from_origin(self.tpr), _from_origin(self.fpr)
        area = np.diff(fpr, axis=1) * (tpr[:, 1:] + tpr[:, :-1]) / 2
        return np.asarray(area.sum(axis=1), np.float64)

    @property
    def average_precision(self) -> Floats:
        """(B,) sum of steps in recall times the precision there."""
        steps = np.diff(_from_origin(self.tpr), axis=1)
        return np.asarray((steps * self.precision).sum(axis=1), np.float64)


def count(positive: Bools, score: Floats, weights: Ints | None = None) -> Counts:
    """Counts at each distinct score. weights: (B, n) how often each patient occurs; once if None.

    positive (n,) bool, score (n,), larger means more likely positive. O(n log n + B n).
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    given = np.ones((1, len(score)), np.int64) if weights is None else weights
    sorted_weights = given[:, order]
    hit = positive[order]
    tp = np.cumsum(np.where(hit, sorted_weights, 0), axis=1)[:, last]
    every = np.cumsum(sorted_weights, axis=1)[:, last]
    return Counts(tp.astype(np.float64), (every - tp).astype(np.float64), ranked[last])


def auc(positive: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the ROC curve in [0, 1], 0.5 is chance; nan where one side is empty.

    positive (n,) bool, score (n,) on any scale. By midranks: ties count one half.
    """
    hit, values = np.asarray(positive, bool), np.asarray(score, np.float64)
    m, n = int(hit.sum()), int((~hit).sum())
    if m == 0 or n == 0:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[hit].sum() - m * (m + 1) / 2) / (m * n))


def macro_auc(data: LabelData, given: npt.ArrayLike) -> float:
    """AUC of the positive class, or the mean over K > 2 classes of one against the rest."""
    checked = as_probability(data, given)
    return float(np.mean([auc(hit, score) for _, hit, score in one_vs_rest(data, checked)]))


def macro_average_precision(data: LabelData, given: npt.ArrayLike) -> float:
    """Average precision of the positive class, or its mean over K > 2 classes."""
    checked = as_probability(data, given)
    found = [count(hit, score).average_precision[0] for _, hit, score in one_vs_rest(data, checked)]
    return float(np.mean(found))


def roc_curve(positive: npt.ArrayLike, score: npt.ArrayLike) -> ROCCurve:
    """The empirical ROC curve, corners on a straight line left out. Needs both sides."""
    hit, values = np.asarray(positive, bool), np.asarray(score, np.float64)
    if hit.all() or not hit.any():
        raise ValueError("A ROC curve needs patients with and without the class; one is missing.")
    counts = count(hit, values)
    tp, fp = _from_origin(counts.tp)[0], _from_origin(counts.fp)[0]
    threshold = np.append(np.inf, counts.threshold)
    # Whole numbers, so that a corner is exactly that: the direction changes.
    turns = np.diff(tp)[1:] * np.diff(fp)[:-1] != np.diff(tp)[:-1] * np.diff(fp)[1:]
    kept = np.concatenate([[True], turns, [True]])
    return ROCCurve(fp[kept] / fp[-1], tp[kept] / tp[-1], threshold[kept])


def precision_recall(positive: npt.ArrayLike, score: npt.ArrayLike) -> PRCurve:
    """The empirical precision-recall curve. Raises ValueError where nobody has the class."""
    hit, values = np.asarray(positive, bool), np.asarray(score, np.float64)
    if not hit.any():
        raise ValueError("A precision-recall curve needs patients with the class; there is none.")
    counts = count(hit, values)
    return PRCurve(counts.tpr[0], counts.precision[0], counts.threshold)


def tpr_at(fpr: Floats, tpr: Floats, at: Floats) -> Floats:
    """Sensitivity of one curve (G,) at given false positive rates; the top of a vertical step.

    fpr, tpr without the origin, as `Counts` has them.
    """
    x, y = np.append(0.0, fpr), np.append(0.0, tpr)
    left = np.searchsorted(x, at, side="right") - 1
    right = np.minimum(left + 1, len(x) - 1)
    width = x[right] - x[left]
    share = np.where(width > 0, (at - x[left]) / np.where(width > 0, width, 1.0), 0.0)
    return np.asarray(y[left] + share * (y[right] - y[left]), np.float64)


def precision_at(recall: Floats, precision: Floats, at: Floats) -> Floats:
    """Precision of one curve (G,) at the first threshold that reaches each recall in `at`."""
    first = np.searchsorted(recall, at - 1e-12, side="left")
    return precision[np.minimum(first, len(precision) - 1)]


def _from_origin(values: Floats) -> Floats:
    return np.concatenate([np.zeros((len(values), 1)), values], axis=1)


def _over(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, np.float64)
