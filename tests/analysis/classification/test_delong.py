"""DeLong's variance against published results, a slow twin and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis.classification.data import LabelData
from analysis.classification.delong import auc_interval, auc_test, delong

TWO = ("no", "yes")

# Example "Comparing Receiver Operating Characteristic Curves" of the SAS/STAT documentation of
# PROC LOGISTIC: 43 complete records of DeLong et al. 1988. Columns: albumin, total protein, K-G
# score, and whether the operation failed to help (0) or helped (1).
OVARIAN = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0
2.5 5.7  8 0   1.6 5.6  5 1   3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1
4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0   2.3 4.4  6 1   4.2 7.6  4 0
4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1   3.2 5.1  5 1   2.6 4.7  6 1
3.3 6.8  6 0   1.7 4.0  7 0   3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1
2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1   3.3 5.7  6 1   3.7 6.9  5 1
3.6 6.6  5 1
"""
# Patients by WFNS grade 1 to 5 in pROC's aSAH data (Turck et al. 2010), good and poor outcome.
WFNS_GOOD, WFNS_POOR = (37, 20, 3, 8, 4), (2, 12, 1, 8, 18)


@pytest.fixture(scope="module")
def ovarian():
    table = np.array(OVARIAN.split(), float).reshape(-1, 4)
    data = LabelData(table[:, 3].astype(int), TWO)
    # Any increasing function of a test leaves its ROC curve alone.
    return data, np.stack([table[:, 0] / 10, 1 - table[:, 2] / 20, table[:, 1] / 10])


def test_areas_errors_and_intervals_equal_sas(ovarian):
    """PROC LOGISTIC, table 'ROC Association Statistics': albumin, K-G score, total protein."""
    data, scores = ovarian
    found = delong(data, scores)
    assert found.auc == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    wald = [(0.5549, 0.9182), (0.5243, 0.9273), (0.4518, 0.8439)]
    for area, variance, bounds in zip(found.auc, np.diag(found.covariance), wald, strict=True):
        interval = auc_interval(area, variance, "plain")
        assert (interval.low, interval.high) == pytest.approx(bounds, abs=5e-5)


def test_differences_equal_sas(ovarian):
    """Table 'ROC Contrast Estimation and Testing Results by Row'; the chi-square is z squared."""
    found = delong(*ovarian)
    albumin, protein = auc_test(found, 0, 1), auc_test(found, 2, 1)
    for test, expected in (
        (albumin, (0.0108, -0.1761, 0.1976, 0.0127, 0.9102)),
        (protein, (-0.0780, -0.2830, 0.1271, 0.5554, 0.4561)),
    ):
        gap = test.difference
        shown = (gap.value, gap.low, gap.high, test.z**2, test.p)
        assert shown == pytest.approx(expected, abs=5.1e-5)
    contrast = np.array([[-1, 1, 0], [0, 1, -1.0]])
    gaps = contrast @ found.auc
    chi2 = gaps @ np.linalg.solve(contrast @ found.covariance @ contrast.T, gaps)
    assert chi2 == pytest.approx(2.5340, abs=5e-5)


def test_area_and_variance_with_many_ties_equal_proc():
    """R: auc(roc(aSAH$outcome, aSAH$wfns)), var(...); pROC's own test of var, all digits."""
    grades = np.repeat([1, 2, 3, 4, 5] * 2, WFNS_GOOD + WFNS_POOR) / 5
    label = np.repeat([0, 1], (sum(WFNS_GOOD), sum(WFNS_POOR)))
    found = delong(LabelData(label, TWO), [grades])
    assert found.auc[0] == pytest.approx(0.8236788617886179, rel=1e-12)
    assert found.covariance[0, 0] == pytest.approx(0.00146991470882363, rel=1e-12)


def slow_covariance(label, scores):
    """Equations 4 to 6 of DeLong et al. 1988 with all pairs written out."""
    v10, v01 = [], []
    for score in scores:
        gap = score[label == 1][:, None] - score[label == 0][None, :]
        wins = (gap > 0) + 0.5 * (gap == 0)
        v10.append(wins.mean(axis=1))
        v01.append(wins.mean(axis=0))
    return np.cov(v10) / (label == 1).sum() + np.cov(v01) / (label == 0).sum()


@pytest.mark.parametrize("digits", [1, 2, 8])
def test_the_fast_covariance_equals_all_pairs(digits):
    rng = np.random.default_rng(digits)
    label = (rng.random(90) < 0.3).astype(int)
    scores = np.round(rng.random((3, 90)) * 0.6 + 0.3 * label, digits)
    found = delong(LabelData(label, TWO), scores)
    assert np.allclose(found.covariance, slow_covariance(label, scores), rtol=1e-10)
    assert found.auc == pytest.approx([roc_auc_score(label, s) for s in scores])


def test_the_variance_of_three_classes_is_that_of_resampled_patients():
    """Within-class bootstrap; 700 draws know a standard error to within 3% (one error)."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, 150)
    p = rng.dirichlet((1, 1, 1), 150) + 0.4 * np.eye(3)[label]
    p /= p.sum(axis=1, keepdims=True)
    data = LabelData(label, ("a", "b", "c"))
    found = delong(data, [p])
    expected = roc_auc_score(label, p, multi_class="ovr", average="macro")
    assert found.auc[0] == pytest.approx(expected)
    draws = [rng.choice(np.flatnonzero(label == c), (700, (label == c).sum())) for c in range(3)]
    rows = np.concatenate(draws, axis=1)
    sample = [delong(data.subset(r), [p[r]]).auc[0] for r in rows]
    assert np.sqrt(found.covariance[0, 0]) == pytest.approx(np.std(sample), rel=0.1)


def test_intervals_cover_the_truth_and_the_test_keeps_its_level():
    """Binormal scores with AUC Phi(1.5 / sqrt 2) = 0.856, 30 positives among 90.

    Over 1,500 studies 95% intervals cover within 93.5 to 96.5% (three Monte Carlo errors), and
    two equally good correlated tests differ at the 5% level in 3.5 to 6.5%.
    """
    rng = np.random.default_rng(11)
    label = np.repeat([1, 0], (30, 60))
    data = LabelData(label, TWO)
    truth = 0.8555778
    covered, rejected = 0, 0
    studies = 1500
    for _ in range(studies):
        shared = rng.normal(size=90)
        scores = [
            1 / (1 + np.exp(-(1.5 * label + (shared + rng.normal(size=90)) / np.sqrt(2))))
            for _ in range(2)
        ]
        found = delong(data, scores)
        interval = auc_interval(found.auc[0], found.covariance[0, 0])
        covered += interval.low <= truth <= interval.high
        rejected += auc_test(found, 0, 1).p < 0.05
    assert 0.935 <= covered / studies <= 0.965
    assert 0.035 <= rejected / studies <= 0.065


def test_a_perfect_run_has_no_interval_and_equal_runs_do_not_differ():
    label = np.array([0, 0, 1, 1, 1])
    perfect, good = np.array([0.1, 0.2, 0.7, 0.8, 0.9]), np.array([0.1, 0.6, 0.5, 0.8, 0.9])
    found = delong(LabelData(label, TWO), [perfect, good, good])
    interval = auc_interval(found.auc[0], found.covariance[0, 0])
    assert interval.value == 1.0
    assert np.isnan([interval.low, interval.high]).all()
    same = auc_test(found, 1, 2)
    assert (same.z, same.p, same.difference.value) == (0.0, 1.0, 0.0)
    assert np.isnan(auc_test(delong(LabelData([0, 1, 1], TWO), [[0.1, 0.2, 0.3]] * 2), 0, 1).p)


def test_the_logit_interval_stays_inside_where_the_plain_one_is_cut():
    logit, plain = auc_interval(0.97, 0.03**2), auc_interval(0.97, 0.03**2, "plain")
    assert plain.high == 1.0
    assert 0.5 < logit.low < plain.low < logit.value < logit.high < 1.0
    turned = auc_interval(0.03, 0.03**2)
    assert (turned.low, turned.high) == pytest.approx((1 - logit.high, 1 - logit.low))


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="None of the 2 patients is of class 'yes'"):
        delong(LabelData([0, 0], TWO), [[0.1, 0.2]])
    with pytest.raises(ValueError, match="must have shape"):
        delong(LabelData([0, 1], TWO), [[0.1, 0.2, 0.3]])
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        delong(LabelData([0, 1], TWO), [[-1.5, 3.0]])
    with pytest.raises(ValueError, match="Unknown scale"):
        auc_interval(0.8, 0.01, "log")
