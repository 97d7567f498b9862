from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from analysis.attribution.case import open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.target import ClassLogit
from analysis.classification.data import probability
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import evaluate
from analysis.missing.combinations import by_combination, counted
from analysis.missing.predictions import subset_predictions
from analysis.predict import predict, predict_stored, run_inputs
from tests.analysis.classification.toys import TABLES, write_cohort

ALL = tuple(TABLES)


def complete(cohort, task, split="internal", names=ALL):
    ids = cohort.subject_ids(split, task)
    return ids[cohort.availability().loc[ids, list(names)].all(axis=1).to_numpy()]


def told(run, cohort, store, population="complete"):
    return counted(subset_predictions(run, cohort, "internal", store), cohort, population)


def test_the_whole_is_the_prediction_that_the_app_shows(runs, cohort, store):
    asked = cohort.subject_ids("internal", "hf")
    ids, found = told(runs["three"], cohort, store)
    assert np.array_equal(ids, complete(cohort, "hf"))
    assert 0 < len(ids) < len(asked)
    whole = predict(runs["three"], cohort, ids).values
    assert np.allclose(found[ALL], whole, atol=1e-5)
    everyone, values = told(runs["three"], cohort, store, "everyone")
    assert np.array_equal(everyone, asked)
    shown = predict_stored(runs["three"], cohort, "internal", store).values
    assert np.array_equal(values[ALL], shown)
    assert len(found) == 7
    assert all(np.abs(v - found[ALL]).max() > 0.01 for c, v in found.items() if c != ALL)


@pytest.mark.parametrize("name", ["three", "hf"])
def test_a_subset_is_what_the_patient_ledger_says_of_it(runs, cohort, store, name):
    """The patient page hides modalities one patient at a time; the numbers must agree."""
    run = runs[name]
    ids, found = told(run, cohort, store)
    for row in (0, len(ids) - 1):
        case = open_case(run, cohort, int(ids[row]))
        ledger = modality_ledger(case, ClassLogit(1, "heart failure"))
        for combination, values in found.items():
            assert values[row, 0] == pytest.approx(ledger.value(set(combination))[0], abs=1e-4)


def test_areas_and_differences_of_a_class_task(runs, cohort, store):
    answer = by_combination(runs["three"], cohort, "internal", store, n_resamples=60)
    ids, found = told(runs["three"], cohort, store)
    label = cohort.outcomes("hf", ids).label
    areas = {c: roc_auc_score(label, v[:, 0]) for c, v in found.items()}
    assert (answer["n"], answer["events"]) == (len(ids), int(label.sum()))
    assert answer["n"] + answer["n_incomplete"] == len(cohort.subject_ids("internal", "hf"))
    assert [tuple(c["modalities"]) for c in answer["combinations"]] == list(found)
    for entry in answer["combinations"]:
        combination = tuple(entry["modalities"])
        assert entry["auc"]["value"] == pytest.approx(areas[combination])
        called = probability(found[combination]) >= entry["cutoff"]["value"]
        assert entry["accuracy"]["value"] == pytest.approx((called == label).mean())
        assert entry["cutoff"]["n"] == len(complete(cohort, "hf", "tuning"))
    assert [tuple(d["modalities"]) for d in answer["differences"]] == list(found)[:-1]
    for d in answer["differences"]:
        gap = areas[ALL] - areas[tuple(d["modalities"])]
        assert d["difference"]["value"] == pytest.approx(gap)
        assert d["p_holm"] >= d["p"]
    assert len({e["cutoff"]["value"] for e in answer["combinations"]}) > 1
    json.dumps(answer, allow_nan=False)
    assert by_combination(runs["three"], cohort, "internal", store, n_resamples=60) == answer


def test_concordance_of_a_survival_task(runs, cohort, store):
    answer = by_combination(runs["time"], cohort, "internal", store, n_resamples=200)
    ids, found = told(runs["time"], cohort, store)
    truth = cohort.outcomes("incident_hf", ids)
    c = {k: concordance_index(truth.time_days, -v[:, 0], truth.event) for k, v in found.items()}
    for entry in answer["combinations"]:
        assert entry["c_index"]["value"] == pytest.approx(c[tuple(entry["modalities"])])
    for d in answer["differences"]:
        gap = c[ALL] - c[tuple(d["modalities"])]
        assert d["difference"]["value"] == pytest.approx(gap)
        assert d["difference"]["low"] < gap < d["difference"]["high"]
    raw = sorted(d["p"] for d in answer["differences"])
    least = min(d["p_holm"] for d in answer["differences"])
    assert least == pytest.approx(min(1.0, 6 * raw[0]))
    assert answer["metric"] == "c_index"
    json.dumps(answer, allow_nan=False)


def test_everyone_is_counted_whatever_they_lack(runs, cohort, store):
    """Slow twin: each patient alone, with what is left of what they have."""
    run = runs["time"]
    answer = by_combination(run, cohort, "internal", store, population="everyone", n_resamples=60)
    ids = cohort.subject_ids("internal", "incident_hf")
    there = cohort.availability().loc[ids, list(ALL)]
    truth = cohort.outcomes("incident_hf", ids)
    assert (answer["n"], answer["events"]) == (len(ids), int(truth.event.sum()))
    assert answer["n_incomplete"] == int((~there.all(axis=1)).sum()) > 0
    for entry in answer["combinations"]:
        names = entry["modalities"]
        inputs = run_inputs(run, cohort, ids)
        with torch.inference_mode():
            encoded = run.model.encode(inputs)
            gone = torch.ones(len(ids), dtype=torch.bool)
            told_ = {n: e if n in names else e.without(gone) for n, e in encoded.items()}
            risk = run.model.fuse(told_).prediction[:, 0].double().numpy()
        c = concordance_index(truth.time_days, -risk.round(5), truth.event)
        assert entry["c_index"]["value"] == pytest.approx(c, abs=2e-3)
        assert entry["untold"] == int((~there[names].any(axis=1)).sum())
    whole = answer["combinations"][-1]["c_index"]["value"]
    (plain,) = evaluate([run], cohort, "internal", store, n_resamples=60)["runs"]
    assert whole == plain["c_index"]["value"]


def test_what_cannot_be_combined_is_refused(runs, cohort, store, tmp_path):
    with pytest.raises(CohortError, match="no split 'extern'"):
        by_combination(runs["three"], cohort, "extern", store)
    never = Cohort.open(write_cohort(tmp_path / "never", lacking=1.0))
    with pytest.raises(CohortError, match="patients has all of labs, ecg, echo"):
        by_combination(runs["three"], never, "internal", store)
