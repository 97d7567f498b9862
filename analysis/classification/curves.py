"""ROC and precision-recall curves with bands: where the curve of other such patients would run.

Patients are resampled within their class (stratified, so the prevalence stays) and each resample
draws a whole curve. The pointwise band holds 95% of the curves at each place by itself; the
simultaneous band holds 95% of whole curves: it is widened from the pointwise one by ranks until
it does (Mandel & Betensky, Comput Stat Data Anal 2008; 52:2158).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.classification.cutoff import percentile
from analysis.classification.data import (
    Floats,
    LabelData,
    as_probability,
    one_vs_rest,
    resample_batches,
)
from analysis.classification.roc import (
    count,
    macro_average_precision,
    precision_at,
    precision_recall,
    roc_curve,
    tpr_at,
)
from analysis.survival.comparison import LEVEL, ConfidenceInterval

MAX_POINTS = 200
FPR_GRID = np.linspace(0, 1, 101)
RECALL_GRID = np.linspace(0.01, 1, 100)


@dataclass(frozen=True, eq=False)
class Band:
    """95% bands along `at` (G,); low, high pointwise, all_low, all_high for the whole curve."""

    at: Floats
    low: Floats
    high: Floats
    all_low: Floats
    all_high: Floats


@dataclass(frozen=True, eq=False)
class LabelCurves:
    """The curves of one run; for K > 2 classes their mean at each place.

    fpr, tpr: corners of the ROC curve, recall, precision: of the precision-recall curve, at most
    MAX_POINTS each. roc_band runs over the false positive rate, pr_band over recall.
    prevalence: precision of a run that knows nothing, the mean share of a class.
    """

    fpr: Floats
    tpr: Floats
    recall: Floats
    precision: Floats
    roc_band: Band
    pr_band: Band
    average_precision: ConfidenceInterval
    prevalence: float


def label_curves(
    data: LabelData, given: npt.ArrayLike, n_resamples: int = 1000, seed: int = 0
) -> LabelCurves:
    """Both curves of a run with bands from n_resamples draws of patients.

    The same seed draws the same patients for every run. Raises ValueError where a class has no
    patients.
    """
    if data.undefined is not None:
        raise ValueError(data.undefined)
    checked = as_probability(data, given)
    pairs = [(hit, score) for _, hit, score in one_vs_rest(data, checked)]
    roc, pr, areas = [], [], []
    for weights in resample_batches(data, n_resamples, seed):
        found = [count(hit, score, weights) for hit, score in pairs]
        areas.append(np.mean([counts.average_precision for counts in found], axis=0))
        sides = [(c.fpr, c.tpr, c.precision) for c in found]
        for row in range(len(weights)):
            roc.append(np.mean([tpr_at(f[row], t[row], FPR_GRID) for f, t, _ in sides], axis=0))
            pr.append(
                np.mean([precision_at(t[row], p[row], RECALL_GRID) for _, t, p in sides], axis=0)
            )
    fpr, tpr, recall, precision = _curves(pairs)
    return LabelCurves(
        fpr=fpr,
        tpr=tpr,
        recall=recall,
        precision=precision,
        roc_band=band(FPR_GRID, np.stack(roc)),
        pr_band=band(RECALL_GRID, np.stack(pr)),
        average_precision=percentile(macro_average_precision(data, checked), np.concatenate(areas)),
        prevalence=float(np.mean([hit.mean() for hit, _ in pairs])),
    )


def band(at: Floats, curves: Floats) -> Band:
    """Bands that hold 95% of (B, G) curves: at each place, and as whole curves.

    A curve is as extreme as its most extreme rank anywhere, equal values counting as the most
    central of them; the simultaneous band runs between the k-th lowest and k-th highest values,
    k the largest for which at least 95% of the curves stay inside.
    """
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    ordered = np.sort(curves, axis=0)
    b = len(curves)
    depth = np.full(b, b)
    for place in range(curves.shape[1]):
        column = ordered[:, place]
        below = np.searchsorted(column, curves[:, place], side="right")
        above = b - np.searchsorted(column, curves[:, place], side="left")
        depth = np.minimum(depth, np.minimum(below, above))
    # Depth k or more: inside the k-th lowest and highest. Most curves that may be left out: 5%.
    k = int(np.sort(depth)[int(np.floor((1 - LEVEL) * b + 1e-9))])
    return Band(at, low, high, ordered[k - 1], ordered[b - k])


def _curves(pairs: list[tuple[npt.NDArray[np.bool_], Floats]]) -> tuple[Floats, ...]:
    """Corners of the curves themselves; the mean over classes where there are several."""
    if len(pairs) > 1:
        found = [count(hit, score) for hit, score in pairs]
        tpr = np.mean([tpr_at(c.fpr[0], c.tpr[0], FPR_GRID) for c in found], axis=0)
        precision = np.mean(
            [precision_at(c.tpr[0], c.precision[0], RECALL_GRID) for c in found], axis=0
        )
        # A step at the very left is part of the curve: it starts at the origin.
        return np.append(0.0, FPR_GRID), np.append(0.0, tpr), RECALL_GRID, precision
    roc = roc_curve(*pairs[0])
    pr = precision_recall(*pairs[0])
    kept = _thinned(roc.fpr + roc.tpr)
    chosen = _thinned(pr.recall + np.append(0.0, np.abs(np.diff(pr.precision)).cumsum()))
    return roc.fpr[kept], roc.tpr[kept], pr.recall[chosen], pr.precision[chosen]


def _thinned(length: Floats) -> npt.NDArray[np.int64]:
    """At most MAX_POINTS positions, first and last among them, evenly along a curve's length."""
    if len(length) <= MAX_POINTS:
        return np.arange(len(length))
    wanted = np.linspace(length[0], length[-1], MAX_POINTS)
    return np.unique(np.searchsorted(length, wanted).clip(max=len(length) - 1))
