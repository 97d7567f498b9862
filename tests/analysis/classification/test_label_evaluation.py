from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from analysis.classification.data import probability
from analysis.classification.evaluation import evaluate_labels, label_data, run_cutoff
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import find_difference
from analysis.predict import predict
from analysis.store import ResultStore
from tests.analysis.classification.toys import GRADES, train, write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort.open(write_cohort(tmp_path_factory.mktemp("cohorts") / "hf"))


@pytest.fixture(scope="module")
def runs(cohort, tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    return {
        "labs": train(cohort.folder, home / "labs", strategy="unimodal", modalities=("labs",)),
        "late": train(cohort.folder, home / "late"),
        "grade": train(cohort.folder, home / "grade", task="grade"),
        "time": train(cohort.folder, home / "time", task="incident_hf"),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ResultStore(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def answer(runs, cohort, store):
    return evaluate_labels([runs["labs"], runs["late"]], cohort, "internal", store, 100, 3)


def test_the_numbers_are_those_of_the_predictions(answer, runs, cohort):
    ids = cohort.subject_ids("internal", "hf")
    label = cohort.outcomes("hf", ids).label
    assert (answer["n"], answer["positives"]) == (len(ids), int(label.sum()))
    for name, row in zip(("labs", "late"), answer["runs"], strict=True):
        p = probability(predict(runs[name], cohort, ids).values)
        assert row["auc"]["value"] == pytest.approx(roc_auc_score(label, p), abs=1e-9)
        assert row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"]
        assert row["auc_plain"]["value"] == row["auc"]["value"]
        expected = average_precision_score(label, p)
        assert row["average_precision"]["value"] == pytest.approx(expected, abs=1e-9)
        called = p >= row["cutoff"]["value"]
        assert row["accuracy"]["value"] == pytest.approx((called == label).mean())
        assert row["sensitivity"]["value"] == pytest.approx(called[label == 1].mean())
        assert row["confusion"][1][0] == int((~called[label == 1]).sum())
        assert row["brier"]["value"] == pytest.approx(((p - label) ** 2).mean())
        assert row["cutoff"]["learned_on"] == "tuning"
        expected = label.sum() / p.sum()
        assert row["calibration"]["observed_to_expected"] == pytest.approx(expected)
        area = np.trapezoid(row["roc"]["tpr"], row["roc"]["fpr"])
        assert area == pytest.approx(row["auc"]["value"], abs=1e-3)
        assert len(row["roc"]["fpr"]) <= 200
    json.dumps(answer, allow_nan=False)


def test_differences_read_like_those_of_survival(answer):
    labs, late = (row["auc"]["value"] for row in answer["runs"])
    found = find_difference(answer, "late", "labs")
    assert found["difference"]["value"] == pytest.approx(late - labs)
    assert found["difference"]["low"] < late - labs < found["difference"]["high"]
    assert found["p_holm"] == found["p"]


def test_the_result_is_stored_and_follows_every_parameter(answer, runs, cohort, store):
    pair = [runs["labs"], runs["late"]]
    written = sorted(store.folder.rglob("*"))
    assert evaluate_labels(pair, cohort, "internal", store, 100, 3) == answer
    assert sorted(store.folder.rglob("*")) == written
    half = evaluate_labels(pair, cohort, "internal", store, 100, 3, cut_rule="half")
    assert half["runs"][0]["cutoff"]["value"] == 0.5
    assert half["runs"][0]["auc"] == answer["runs"][0]["auc"]


def test_the_cutoff_is_learned_on_tuning_patients_alone(runs, cohort, store):
    found = run_cutoff(runs["late"], cohort, store)
    ids = cohort.subject_ids("tuning", "hf")
    p = probability(predict(runs["late"], cohort, ids).values)
    label = cohort.outcomes("hf", ids).label

    def index(cut):
        return (p >= cut)[label == 1].mean() - (p >= cut)[label == 0].mean()

    assert index(found.value) == pytest.approx(max(index(cut) for cut in p))
    assert found.n == len(ids)


def test_three_classes_are_one_against_the_rest(runs, cohort, store):
    found = evaluate_labels([runs["grade"]], cohort, "external", store, 40)
    ids = cohort.subject_ids("external", "grade")
    label = cohort.outcomes("grade", ids).label
    p = probability(predict(runs["grade"], cohort, ids).values)
    row = found["runs"][0]
    expected = roc_auc_score(label, p, multi_class="ovr", average="macro")
    assert row["auc"]["value"] == pytest.approx(expected)
    assert [c["name"] for c in row["per_class"]] == list(GRADES)
    assert found["positives"] is None
    assert found["class_counts"] == dict(zip(GRADES, np.bincount(label).tolist(), strict=True))
    assert "sensitivity" not in row
    assert row["calibration"] is None
    json.dumps(found, allow_nan=False)


def test_what_cannot_be_evaluated_is_refused(runs, cohort, store):
    for wrong, message in (
        ([], "no run to evaluate"),
        ([runs["late"], runs["late"]], "same name"),
        ([runs["late"], runs["grade"]], "different tasks"),
        ([runs["time"]], "time to event"),
    ):
        with pytest.raises(CohortError, match=message):
            evaluate_labels(wrong, cohort, "internal", store)
    with pytest.raises(CohortError, match="evaluate it as survival"):
        label_data(cohort, "incident_hf", ("a", "b"), [1])
    with pytest.raises(CohortError, match="none of the 2 classes"):
        label_data(cohort, "grade", ("a", "b"), cohort.subject_ids("internal", "grade"))
