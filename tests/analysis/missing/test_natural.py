from __future__ import annotations

import json

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from analysis.classification.data import probability
from analysis.missing.combinations import by_combination
from analysis.missing.natural import LEAST_EVENTS, LEAST_PATIENTS, by_pattern
from analysis.missing.predictions import subset_predictions
from tests.analysis.classification.toys import TABLES

ALL = list(TABLES)


@pytest.mark.parametrize(("name", "measure"), [("three", "auc"), ("time", "c_index")])
def test_each_pattern_and_its_twin_by_force(runs, cohort, store, name, measure):
    run = runs[name]
    answer = by_pattern(run, cohort, "internal", store, n_resamples=150)
    found = subset_predictions(run, cohort, "internal", store)
    combined = by_combination(run, cohort, "internal", store, n_resamples=150)["combinations"]
    forced = {tuple(c["modalities"]): c[measure]["value"] for c in combined}
    truth = cohort.outcomes(run.config.task.name, found.subject_ids)
    there = cohort.availability().loc[found.subject_ids, ALL]
    assert sum(p["natural"]["n"] for p in answer["patterns"]) == len(found.subject_ids)
    scored = 0
    for pattern in answer["patterns"]:
        names = pattern["modalities"]
        rows = (there == [n in names for n in ALL]).all(axis=1).to_numpy()
        natural = pattern["natural"]
        assert natural["n"] == rows.sum()
        positive = truth.event if measure == "c_index" else truth.label == 1
        assert natural["events"] == positive[rows].sum()
        if names == ALL:
            assert pattern["forced"] is None
        elif names:
            assert pattern["forced"]["n"] == found.complete.sum()
            assert pattern["forced"][measure]["value"] == pytest.approx(forced[tuple(names)])
        fewest = min(positive[rows].sum(), (~positive[rows]).sum())
        few = positive[rows].sum() if measure == "c_index" else fewest
        if rows.sum() < LEAST_PATIENTS or few < LEAST_EVENTS or not names:
            assert natural[measure]["value"] is None
            assert natural["undefined"]
            assert pattern["difference"] is None or pattern["difference"]["value"] is None
            continue
        scored += 1
        values = found.as_they_are[rows]
        if measure == "auc":
            score = roc_auc_score(truth.label[rows], probability(values))
        else:
            score = concordance_index(truth.time_days[rows], -values[:, 0], truth.event[rows])
        assert natural[measure]["value"] == pytest.approx(score)
        if names != ALL:
            gap = pattern["difference"]
            assert gap["value"] == pytest.approx(score - forced[tuple(names)])
            assert gap["low"] < gap["value"] < gap["high"]
            # Two samples of different patients: wider than either alone.
            one = natural[measure]["high"] - natural[measure]["low"]
            assert gap["high"] - gap["low"] > 0.9 * one
            assert 0 < pattern["p"] <= 1
    assert scored > 1
    json.dumps(answer, allow_nan=False)


def test_few_patients_have_no_score(runs, cohort, store):
    answer = by_pattern(runs["time"], cohort, "external", store, n_resamples=20)
    small = [p for p in answer["patterns"] if p["natural"]["n"] < LEAST_PATIENTS]
    assert small
    for pattern in small:
        assert pattern["natural"]["c_index"] == {"value": None, "low": None, "high": None}
        assert pattern["natural"]["undefined"]
    sizes = [p["natural"]["n"] for p in answer["patterns"]]
    assert sizes == sorted(sizes, reverse=True)
    assert np.sum(sizes) == 60
