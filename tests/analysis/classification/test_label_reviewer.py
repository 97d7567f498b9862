"""What differs for labels: counts instead of Kaplan-Meier, the logit instead of the log-log."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_auc_score

from analysis.classification.calibration import label_calibration
from analysis.classification.calibration_curve import label_calibration_curve
from analysis.classification.data import LabelData
from analysis.classification.observed import ByLabel
from analysis.reviewer.labels import LabelElsewhere, LabelQuestion, label_statistics
from analysis.survival.alerts import alerts
from analysis.survival.calibration import spline
from analysis.survival.concordance import resample_weights
from analysis.survival.data import SurvivalData
from analysis.survival.decision_curve import net_benefit, treat_all
from analysis.survival.observed import ByHorizon
from analysis.survival.reclassification import reclassification


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    label = rng.random(400) < 1 / (1 + np.exp(-(z - 1)))
    first = (1 / (1 + np.exp(-(1.6 * z - 0.6 + 0.5 * rng.normal(size=400))))).round(2)
    second = (1 / (1 + np.exp(-(z - 1 + rng.normal(size=400))))).round(2)
    return label, first.clip(0.01, 0.99), second.clip(0.01, 0.99)


def test_net_benefit_is_counted(case) -> None:
    label, p, _ = case
    observed = ByLabel(label, "sick")
    for t in (0.05, 0.3, 0.8):
        tn, fp, fn, tp = confusion_matrix(label, p >= t).ravel()
        expected = tp / 400 - fp / 400 * t / (1 - t)
        assert net_benefit(observed, p, [t])[0, 0] == pytest.approx(expected)
        everybody = label.mean() - (1 - label.mean()) * t / (1 - t)
        assert treat_all(observed, [t])[0, 0] == pytest.approx(everybody)
        assert tn + fn == (p < t).sum()


def test_labels_are_follow_up_without_censoring(case) -> None:
    label, first, second = case
    weights = resample_weights(400, 40, seed=0)
    counted = ByLabel(label, "sick")
    followed = ByHorizon(SurvivalData(np.where(label, 1, 9), label), 5)
    for one in (alerts, lambda o, p, t, w: reclassification(o, p, second, [t], w)):
        a, b = one(counted, first, 0.4, weights), one(followed, first, 0.4, weights)
        for name in ("sensitivity", "ppv", "needed", "events", "nonevents"):
            if hasattr(a, name):
                mine, theirs = getattr(a, name), getattr(b, name)
                assert mine.value == pytest.approx(theirs.value)
                assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high))


def test_alerts_equal_scikit_learn(case) -> None:
    label, p, _ = case
    found = alerts(ByLabel(label, "sick"), p, 0.4, resample_weights(400, 50, seed=0))
    assert found.sensitivity.value == pytest.approx(recall_score(label, p >= 0.4))
    assert found.ppv.value == pytest.approx(precision_score(label, p >= 0.4))
    assert found.alert_rate.value == pytest.approx((p >= 0.4).mean())


def test_line_is_that_of_label_calibration_and_curve_scikit_learns(case) -> None:
    label, p, _ = case
    found = label_calibration_curve(ByLabel(label, "sick"), p, resample_weights(400, 200, seed=0))
    known = label_calibration(LabelData(label.astype(int), ("well", "sick")), p)
    assert found.intercept.value == pytest.approx(known.intercept.value, abs=1e-8)
    assert found.slope.value == pytest.approx(known.slope.value, abs=1e-8)
    assert found.observed_to_expected.value == pytest.approx(known.observed_to_expected)
    # Wald and bootstrap agree on how sure the slope is.
    assert found.slope.high - found.slope.low == pytest.approx(
        known.slope.high - known.slope.low, rel=0.25
    )
    logit = np.log(p / (1 - p))
    columns = spline(logit, np.quantile(logit, (0.1, 0.5, 0.9)))
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(columns, label)
    gap = np.abs(model.predict_proba(columns)[:, 1] - p)
    assert found.smooth.ici.value == pytest.approx(gap.mean(), abs=1e-5)
    assert found.smooth.e50.value == pytest.approx(np.median(gap), abs=1e-5)
    assert found.smooth.e90.value == pytest.approx(np.quantile(gap, 0.9), abs=1e-5)


def test_the_report_of_labels(case) -> None:
    label, first, second = case
    site = np.arange(400) % 2 == 0
    question = LabelQuestion(
        ByLabel(label, "sick"),
        share=0.3,
        threshold=0.4,
        attributes={"site": {"A": site, "B": ~site}},
        elsewhere=LabelElsewhere(
            "external", ByLabel(label[:80], "sick"), {"one": first[:80], "two": second[:80]}
        ),
        n_resamples=60,
    )
    found = label_statistics({"one": first, "two": second}, question)
    one, two = found["runs"]
    assert one["score"]["value"] == pytest.approx(roc_auc_score(label, first))
    assert one["brier"]["value"]["value"] == pytest.approx(((first - label) ** 2).mean())
    scaled = 1 - ((first - label) ** 2).mean() / ((0.3 - label) ** 2).mean()
    assert one["brier"]["ipa"]["value"] == pytest.approx(scaled)
    levels = one["subgroups"][0]["levels"]
    assert levels[0]["score"]["value"] == pytest.approx(roc_auc_score(label[site], first[site]))
    assert levels[0]["events"] == label[site].sum()
    there = roc_auc_score(label[:80], second[:80])
    assert two["elsewhere"]["change"]["value"] == pytest.approx(there - two["score"]["value"])
    assert found["reference"]["run"] == "one"
    (pair,) = found["pairs"]
    gap = roc_auc_score(label, first) - roc_auc_score(label, second)
    assert pair["score"]["value"] == pytest.approx(gap)
    named = label_statistics({"one": first, "two": second}, question, "two")
    (turned,) = named["pairs"]
    assert turned["score"]["low"] == pytest.approx(-pair["score"]["high"])


def test_one_class_only_says_why(case) -> None:
    _, p, _ = case
    for label, words in ((np.zeros(400, bool), "None of the 400"), (np.ones(400, bool), "All 400")):
        question = LabelQuestion(ByLabel(label, "sick"), share=0.3, threshold=0.4, n_resamples=20)
        found = label_statistics({"one": p}, question)
        assert found["undefined"].startswith(words)
        (row,) = found["runs"]
        assert row["score"]["value"] is None
        assert row["calibration"]["slope"]["value"] is None
        assert row["calibration"]["undefined"].startswith(words)
        assert row["alerts"]["undefined"].startswith(words)
