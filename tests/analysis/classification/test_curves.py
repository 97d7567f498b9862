from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.metrics import roc_curve as sklearn_roc_curve

from analysis.classification.curves import MAX_POINTS, band, label_curves
from analysis.classification.data import LabelData, probability, resample_batches
from analysis.classification.roc import (
    auc,
    count,
    macro_auc,
    macro_average_precision,
    precision_at,
    precision_recall,
    roc_curve,
    tpr_at,
)

TWO = ("no", "yes")


def toy(n=200, digits=2, seed=0):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.35).astype(int)
    score = np.clip(np.round(rng.normal(0.45 + 0.2 * label, 0.18, n), digits), 0, 1)
    return label, score


@pytest.mark.parametrize("digits", [1, 2, 12])
def test_curves_and_areas_equal_scikit_learn(digits):
    label, score = toy(digits=digits)
    fpr, tpr, threshold = sklearn_roc_curve(label, score, drop_intermediate=False)
    ours = roc_curve(label == 1, score)
    assert np.interp(ours.threshold[::-1], threshold[::-1], tpr[::-1])[:-1] == pytest.approx(
        ours.tpr[::-1][:-1]
    )
    corners = {(round(a, 9), round(b, 9)) for a, b in zip(fpr, tpr, strict=True)}
    assert {(round(a, 9), round(b, 9)) for a, b in zip(ours.fpr, ours.tpr, strict=True)} <= corners
    assert np.trapezoid(ours.tpr, ours.fpr) == pytest.approx(roc_auc_score(label, score))
    assert auc(label, score) == pytest.approx(roc_auc_score(label, score))
    assert count(label == 1, score).auc[0] == pytest.approx(roc_auc_score(label, score))
    precision, recall, at = precision_recall_curve(label, score)
    pr = precision_recall(label == 1, score)
    assert np.allclose(pr.threshold[::-1], at)
    assert np.allclose(pr.precision[::-1], precision[:-1])
    assert np.allclose(pr.recall[::-1], recall[:-1])
    expected = average_precision_score(label, score)
    assert macro_average_precision(LabelData(label, TWO), score) == pytest.approx(expected)


def test_areas_by_hand():
    """Positives 0.8 and 0.4, negatives 0.6, 0.4, 0.1: wins 3 + (1 + a tie) of 6 pairs."""
    hit, score = np.array([1, 1, 0, 0, 0], bool), np.array([0.8, 0.4, 0.6, 0.4, 0.1])
    assert auc(hit, score) == pytest.approx((3 + 1 + 0.5) / 6)
    # Thresholds 0.8: recall 1/2, precision 1; 0.6: nothing new; 0.4: recall 1, precision 2/4.
    assert count(hit, score).average_precision[0] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert np.isnan(auc([True, True], [0.1, 0.2]))


def test_many_classes_are_the_macro_average_of_scikit_learn():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 3, 120)
    p = probability(rng.normal(size=(120, 3)) + np.eye(3)[label])
    data = LabelData(label, ("a", "b", "c"))
    expected = roc_auc_score(label, p, multi_class="ovr", average="macro")
    assert macro_auc(data, p) == pytest.approx(expected)
    one_hot = np.eye(3)[label]
    expected = average_precision_score(one_hot, p, average="macro")
    assert macro_average_precision(data, p) == pytest.approx(expected)
    curves = label_curves(data, p, 60)
    area = np.trapezoid(curves.tpr, curves.fpr)
    assert area == pytest.approx(macro_auc(data, p), abs=0.01)
    assert curves.prevalence == pytest.approx(1 / 3)


def test_a_weighted_copy_equals_the_repeated_patients():
    label, score = toy(60, digits=1, seed=3)
    weights = next(resample_batches(LabelData(label, TWO), 20, seed=1))
    counts = count(label == 1, score, weights)
    for w, area, precision in zip(weights, counts.auc, counts.average_precision, strict=True):
        rows = np.repeat(np.arange(60), w)
        assert area == pytest.approx(roc_auc_score(label[rows], score[rows]))
        assert precision == pytest.approx(average_precision_score(label[rows], score[rows]))


def test_resamples_keep_every_class_and_the_seed_decides():
    label, _ = toy(80)
    data = LabelData(label, TWO)
    first = np.concatenate(list(resample_batches(data, 40, seed=2, cells=800)))
    assert first.shape == (40, 80)
    assert (first[:, label == 1].sum(axis=1) == label.sum()).all()
    assert (first.sum(axis=1) == 80).all()
    assert np.array_equal(first, np.concatenate(list(resample_batches(data, 40, 2, cells=800))))
    assert not np.array_equal(first, next(resample_batches(data, 40, seed=3)))
    # Each patient is drawn once on average, with the variance of n draws with replacement.
    many = next(resample_batches(data, 4000, seed=0))
    assert many.mean(axis=0) == pytest.approx(np.ones(80), abs=0.08)
    m = int(label.sum())
    assert many[:, label == 1].var(axis=0).mean() == pytest.approx(1 - 1 / m, rel=0.05)


def test_places_on_a_curve():
    fpr, tpr = np.array([0.0, 0.5, 0.5, 1.0]), np.array([0.25, 0.5, 0.75, 1.0])
    assert tpr_at(fpr, tpr, np.array([0, 0.25, 0.5, 0.75, 1])) == pytest.approx(
        [0.25, 0.375, 0.75, 0.875, 1.0]
    )
    recall, precision = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 0.4])
    assert precision_at(recall, precision, np.array([0.1, 0.5, 0.51, 1.0])).tolist() == [
        1.0,
        1.0,
        0.4,
        0.4,
    ]


def test_bands_hold_their_share_of_curves():
    """Pointwise 95% at each place; simultaneous at least 95% of whole curves, but not all."""
    rng = np.random.default_rng(1)
    walks = np.cumsum(rng.normal(size=(2000, 60)), axis=1)
    found = band(np.arange(60.0), walks)
    inside = (walks >= found.low) & (walks <= found.high)
    assert inside.mean(axis=0) == pytest.approx(np.full(60, 0.95), abs=0.002)
    assert inside.all(axis=1).mean() < 0.85
    whole = ((walks >= found.all_low) & (walks <= found.all_high)).all(axis=1).mean()
    assert 0.95 <= whole < 0.96
    assert (found.all_low <= found.low).all()
    assert (found.all_high >= found.high).all()


def test_the_band_of_curves_that_all_agree_has_no_width():
    found = band(np.arange(3.0), np.tile([0.0, 0.5, 1.0], (50, 1)))
    for part in (found.low, found.high, found.all_low, found.all_high):
        assert part.tolist() == [0.0, 0.5, 1.0]


def test_the_roc_band_covers_the_true_curve():
    """Binormal scores: sensitivity at fpr 0.2 is Phi(1.2 + z) with z the 20% quantile.

    Percentile bands are known to fall a little short in small samples: 95% within 90 to 98%
    over 150 studies of 150 patients.
    """
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    truth = norm.cdf(1.2 + norm.ppf(0.2))
    covered = 0
    for study in range(150):
        label = np.repeat([1, 0], (60, 90))
        score = 1 / (1 + np.exp(-(1.2 * label + rng.normal(size=150))))
        found = label_curves(LabelData(label, TWO), score, 120, seed=study).roc_band
        covered += found.low[20] <= truth <= found.high[20]
    assert 0.90 <= covered / 150 <= 0.985


def test_curves_are_short_enough_to_send_and_keep_their_ends():
    label, score = toy(4000, digits=12)
    found = label_curves(LabelData(label, TWO), score, 20)
    for xs, ys in ((found.fpr, found.tpr), (found.recall, found.precision)):
        assert 100 < len(xs) == len(ys) <= MAX_POINTS
    assert (found.fpr[0], found.tpr[0], found.fpr[-1], found.tpr[-1]) == (0, 0, 1, 1)
    assert found.recall[-1] == 1
    assert found.precision[-1] == pytest.approx(label.mean())
    assert np.trapezoid(found.tpr, found.fpr) == pytest.approx(
        roc_auc_score(label, score), abs=2e-3
    )


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match="label 2 at position 1"):
        LabelData([0, 2], TWO)
    with pytest.raises(ValueError, match="no patients"):
        LabelData(np.empty(0, int), TWO)
    with pytest.raises(ValueError, match="whole numbers"):
        LabelData([0.0, 1.0], TWO)
    with pytest.raises(ValueError, match="two different class names"):
        LabelData([0], ("a", "a"))
    with pytest.raises(ValueError, match="sum to 1"):
        macro_auc(LabelData([0, 1, 2], ("a", "b", "c")), np.full((3, 3), 0.3))
    with pytest.raises(ValueError, match="one is missing"):
        roc_curve([True, True], [0.1, 0.2])
