"""Cut-offs, decisions, shares and their comparison."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from analysis.classification.comparison import compare_labels
from analysis.classification.cutoff import Cutoff, judge, learn_cutoff
from analysis.classification.data import LabelData, probability, resample_batches
from analysis.classification.proportions import mcnemar, wilson

TWO = ("no", "yes")


@pytest.fixture
def toy():
    rng = np.random.default_rng(4)
    label = (rng.random(150) < 0.3).astype(int)
    return LabelData(label, TWO), probability((1.4 * label - 1 + rng.normal(size=150))[:, None])


def test_wilson_equals_published_values():
    """81 of 263: 0.2553 to 0.3662; 15 of 148: 0.0624 to 0.1605; 0 of 20: 0 to 0.1611.

    Newcombe, Stat Med 1998; 17:857, table I, method 3.
    """
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = wilson(hits, n)
        assert (found.value, found.low, found.high) == pytest.approx(
            (hits / n, low, high), abs=5e-5
        )
    assert (wilson(0, 20).low, wilson(0, 20).high) == pytest.approx((0, 0.1611), abs=5e-5)
    assert (wilson(20, 20).low, wilson(20, 20).high) == pytest.approx((0.8389, 1), abs=5e-5)
    assert np.isnan(wilson(0, 0).value)


def test_youden_by_hand():
    """Best between 0.4 and 0.6: sensitivity 2/2, specificity 2/3."""
    data = LabelData([0, 0, 0, 1, 1], TWO)
    found = learn_cutoff(data, [0.1, 0.4, 0.9, 0.6, 0.8])
    assert (found.rule, found.value, found.learned_on, found.n) == ("youden", 0.5, "tuning", 5)


def test_youden_is_the_best_of_all_cuts(toy):
    data, p = toy
    found = learn_cutoff(data, p)

    def index(cut):
        called = p >= cut
        return called[data.label == 1].mean() - called[data.label == 0].mean()

    best = max(index(cut) for cut in p)
    assert index(found.value) == pytest.approx(best)
    assert found.value not in p


def test_cutoffs_that_cannot_be_learned_say_why():
    flat = learn_cutoff(LabelData([0, 1], TWO), [0.3, 0.3])
    assert (flat.rule, flat.value) == ("half", 0.5)
    assert "all predictions are equal" in flat.note
    turned = learn_cutoff(LabelData([1, 0], TWO), [0.3, 0.4])
    assert "better than chance" in turned.note
    alone = learn_cutoff(LabelData([1, 1], TWO), [0.3, 0.4])
    assert "class 'no'" in alone.note
    with pytest.raises(ValueError, match="Unknown rule 'best'"):
        learn_cutoff(LabelData([1, 0], TWO), [0.3, 0.4], "best")
    with pytest.raises(ValueError, match="between 0 and 1"):
        learn_cutoff(LabelData([1, 0], TWO), [0.3, 0.4], 1.5)


def test_decisions_equal_scikit_learn(toy):
    data, p = toy
    cutoff = Cutoff("fixed", 0.45)
    found = judge(data, p, cutoff, resample_batches(data, 200, 0))
    called = (p >= 0.45).astype(int)
    assert np.array_equal(found.confusion, confusion_matrix(data.label, called))
    yes = found.per_class[0]
    assert yes.name == "yes"
    assert yes.n == data.counts[1]
    assert yes.sensitivity.value == pytest.approx(recall_score(data.label, called))
    assert yes.specificity.value == pytest.approx(recall_score(data.label, called, pos_label=0))
    assert yes.ppv.value == pytest.approx(precision_score(data.label, called))
    assert yes.npv.value == pytest.approx(precision_score(data.label, called, pos_label=0))
    assert found.accuracy.value == pytest.approx((called == data.label).mean())
    for name, expected in (
        ("f1", f1_score(data.label, called)),
        ("balanced_accuracy", balanced_accuracy_score(data.label, called)),
        ("brier", brier_score_loss(data.label, p)),
    ):
        interval = getattr(found, name)
        assert interval.value == pytest.approx(expected)
        assert interval.low < expected < interval.high


def test_resampled_scores_equal_the_repeated_patients(toy):
    data, p = toy
    weights = next(resample_batches(data, 1, 7))
    found = judge(data, p, Cutoff("fixed", 0.5), [weights])
    rows = np.repeat(np.arange(data.n), weights[0])
    label, called = data.label[rows], (p[rows] >= 0.5).astype(int)
    assert found.f1.low == found.f1.high == pytest.approx(f1_score(label, called))
    assert found.brier.low == pytest.approx(brier_score_loss(label, p[rows]))
    assert found.balanced_accuracy.low == pytest.approx(balanced_accuracy_score(label, called))


def test_decisions_of_three_classes_equal_scikit_learn():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 3, 90)
    p = probability(rng.normal(size=(90, 3)) + np.eye(3)[label])
    data = LabelData(label, ("a", "b", "c"))
    cutoff = learn_cutoff(data, p)
    assert cutoff.rule == "largest"
    found = judge(data, p, cutoff, resample_batches(data, 50, 0))
    called = p.argmax(axis=1)
    assert np.array_equal(found.confusion, confusion_matrix(label, called))
    assert found.f1.value == pytest.approx(f1_score(label, called, average="macro"))
    recalls = recall_score(label, called, average=None)
    assert [c.sensitivity.value for c in found.per_class] == pytest.approx(recalls)
    expected = brier_score_loss(label, p, labels=[0, 1, 2], scale_by_half=False)
    assert found.brier.value == pytest.approx(expected)


def test_mcnemar_by_hand():
    """1 against 9 disagreements: 2 (1 + 10) / 2^10, exact."""
    first = np.array([True] * 1 + [False] * 9 + [True] * 30)
    second = np.array([False] * 1 + [True] * 9 + [True] * 30)
    found = mcnemar(first, second)
    assert (found.first_only, found.second_only) == (1, 9)
    assert found.p == pytest.approx(22 / 1024)
    assert found.difference.value == pytest.approx(-8 / 40)
    # Bonett & Price by hand: p1 = 2/42, p2 = 10/42.
    reach = 1.959964 * np.sqrt((12 / 42 - (8 / 42) ** 2) / 42)
    assert found.difference.low == pytest.approx(-8 / 42 - reach, abs=1e-6)
    assert found.difference.high == pytest.approx(-8 / 42 + reach, abs=1e-6)
    assert mcnemar(first, first).p == 1.0
    with pytest.raises(ValueError, match="same patients"):
        mcnemar(first, second[:5])


def test_all_pairs_are_compared_and_adjusted(toy):
    data, p = toy
    rng = np.random.default_rng(0)
    noisy = np.clip(p + 0.4 * rng.normal(size=data.n), 0, 1)
    given = {"good": p, "noisy": noisy, "chance": rng.random(data.n)}
    right = {name: (v >= 0.5) == data.label for name, v in given.items()}
    found = compare_labels(data, given, right)
    assert [(d.first, d.second) for d in found.differences] == [
        ("good", "noisy"),
        ("good", "chance"),
        ("noisy", "chance"),
    ]
    raw = np.array([d.auc.p for d in found.differences])
    order = np.argsort(raw)
    steps = np.minimum(1, np.maximum.accumulate(raw[order] * [3, 2, 1]))
    assert [found.differences[i].auc_holm for i in order] == pytest.approx(steps.tolist())
    one = compare_labels(data, given, right, against="chance")
    assert [(d.first, d.second) for d in one.differences] == [
        ("chance", "good"),
        ("chance", "noisy"),
    ]
    back = found.differences[1].auc
    assert one.differences[0].auc.difference.value == pytest.approx(-back.difference.value)
    assert one.differences[0].auc.p == pytest.approx(back.p)


def test_patients_of_one_class_have_decisions_but_no_area():
    data = LabelData([1, 1, 1], TWO)
    p = np.array([0.4, 0.6, 0.9])
    found = judge(data, p, Cutoff("half", 0.5), resample_batches(data, 10, 0))
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert np.isnan(found.per_class[0].specificity.value)
    assert np.isnan(found.balanced_accuracy.value)
    compared = compare_labels(data, {"a": p, "b": 1 - p}, {"a": found.right, "b": ~found.right})
    assert np.isnan(compared.runs[0].auc.value)
    assert "class 'no'" in compared.undefined
    assert compared.differences[0].accuracy.first_only == 2
