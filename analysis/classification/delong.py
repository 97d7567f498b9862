"""The variance of an AUC and the test of two AUCs of the same patients, without resampling.

DeLong, DeLong & Clarke-Pearson (Biometrics 1988; 44:837), in O(n log n) by midranks (Sun & Xu,
IEEE Signal Process Lett 2014; 21:1389). Each patient's component is the share of the other side
that the patient is on the right side of; the AUC is their mean and its variance follows from
their spread. For K > 2 classes the components of all one-against-the-rest areas of a patient are
added before their spread is taken within each class, which for two classes is DeLong's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from analysis.classification.data import Floats, LabelData, as_probability, one_vs_rest
from analysis.classification.roc import macro_auc
from analysis.survival.comparison import LEVEL, ConfidenceInterval

Scale = Literal["logit", "plain"]
_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class DeLong:
    """AUCs of R runs on the same patients.

    auc: (R,) in [0, 1]. covariance: (R, R) of the AUCs; nan where a class has a single patient,
    whose spread is unknown.
    """

    auc: Floats
    covariance: Floats


@dataclass(frozen=True)
class AUCTest:
    """First AUC minus second. z: difference over its standard error; p: two-sided, normal.

    Runs that rank all pairs alike have z = 0 and p = 1; p is nan where there is no variance.
    """

    difference: ConfidenceInterval
    z: float
    p: float


def delong(data: LabelData, predictions: npt.ArrayLike) -> DeLong:
    """AUCs and their covariance. predictions: (R, n), or (R, n, K) for K > 2 classes.

    Raises ValueError where a class has no patients or a prediction does not fit the data.
    """
    if data.undefined is not None:
        raise ValueError(data.undefined)
    given = [as_probability(data, one) for one in np.asarray(predictions, np.float64)]
    if not given:
        raise ValueError("There is no prediction to evaluate.")
    # From rank sums, not from the components' mean: a perfect run is 1 to the last bit.
    areas = np.array([macro_auc(data, one) for one in given])
    parts = np.stack([_components(data, one) for one in given])
    covariance = np.zeros((len(given), len(given)))
    for number, many in enumerate(data.counts.tolist()):
        if many < 2:
            covariance[:] = _NAN
            break
        covariance += many * np.atleast_2d(np.cov(parts[:, data.label == number]))
    return DeLong(areas, covariance)


def auc_interval(auc: float, variance: float, scale: Scale = "logit") -> ConfidenceInterval:
    """95% interval of an AUC; 'logit' is the app's default.

    plain: auc +- z se, cut at 0 and 1 (as R's pROC and SAS). logit: the same on log(auc / (1 -
    auc)), which cannot leave [0, 1] and covers better where the AUC is high (Pepe 2003, section
    5.2). Bounds are nan where the variance is unknown, or is 0 because the AUC is 0 or 1.
    """
    if scale not in ("logit", "plain"):
        raise ValueError(f"Unknown scale {scale!r}; use 'logit' or 'plain'.")
    if np.isnan(variance) or auc <= 0 or auc >= 1:
        return ConfidenceInterval(float(auc), _NAN, _NAN)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * float(np.sqrt(max(variance, 0.0)))
    if scale == "plain":
        low, high = max(0.0, auc - reach), min(1.0, auc + reach)
        return ConfidenceInterval(float(auc), float(low), float(high))
    centre, spread = np.log(auc / (1 - auc)), reach / (auc * (1 - auc))
    bounds = 1 / (1 + np.exp(-(centre + np.array([-spread, spread]))))
    return ConfidenceInterval(float(auc), float(bounds[0]), float(bounds[1]))


def auc_test(found: DeLong, first: int, second: int) -> AUCTest:
    """Test of two runs' AUCs by their positions in `found`; 95% interval by +- z se."""
    gap = float(found.auc[first] - found.auc[second])
    c = found.covariance
    variance = float(c[first, first] + c[second, second] - 2 * c[first, second])
    if np.isnan(variance):
        return AUCTest(ConfidenceInterval(gap, _NAN, _NAN), _NAN, _NAN)
    error = float(np.sqrt(max(variance, 0.0)))
    if error < 1e-12:
        same = abs(gap) < 1e-12
        bound = gap if same else _NAN
        z, p = (0.0, 1.0) if same else (_NAN, _NAN)
        return AUCTest(ConfidenceInterval(gap, bound, bound), z, p)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * error
    z = gap / error
    return AUCTest(ConfidenceInterval(gap, gap - reach, gap + reach), z, float(2 * norm.sf(abs(z))))


def _components(data: LabelData, given: Floats) -> Floats:
    """(n,) what each patient carries of the (macro) AUC; each of the two sides sums to it."""
    total = np.zeros(data.n)
    pairs = list(one_vs_rest(data, given))
    for _, hit, score in pairs:
        m, n = int(hit.sum()), int((~hit).sum())
        together = rankdata(score)
        total[hit] += (together[hit] - rankdata(score[hit])) / n / m
        total[~hit] += (1 - (together[~hit] - rankdata(score[~hit])) / m) / n
    return np.asarray(total / len(pairs), np.float64)
