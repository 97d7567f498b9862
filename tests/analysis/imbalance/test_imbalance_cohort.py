"""The score of a cohort as a game between modalities."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis.classification.evaluation import label_data
from analysis.evaluation import survival_data
from analysis.imbalance.cohort import Game, cohort_shapley, score_game, utilisation
from analysis.imbalance.scores import Scorer
from analysis.missing.combinations import by_combination
from analysis.missing.predictions import subset_predictions
from analysis.survival.concordance import harrell_c, resample_weights
from tests.analysis.classification.toys import TABLES

ALL = tuple(TABLES)
GIVEN = {"n_resamples": 60, "seed": 3}


@pytest.mark.parametrize("name", ["time", "hf", "grade"])
def test_the_values_sum_to_what_the_run_is_above_chance(name, runs, cohort, store):
    game, counted = score_game(runs[name], cohort, "internal", store, **GIVEN)
    found = cohort_shapley(game)
    assert game.values.shape == (8,)
    assert game.sample.shape == (8, 60)
    total = sum(row["value"]["value"] for row in found["modalities"])
    assert total == pytest.approx(found["score"]["value"] - 0.5)
    assert total == pytest.approx(found["above_chance"]["value"])
    assert counted["metric"] == ("c_index" if name == "time" else "auc")
    for row in found["modalities"]:
        assert row["value"]["low"] < row["value"]["value"] < row["value"]["high"]
    assert sum(row["share"]["value"] for row in found["modalities"]) == pytest.approx(1.0)
    assert len(found["interactions"]) == 3
    json.dumps(found, allow_nan=False)


def test_worths_are_the_scores_of_other_pages(runs, cohort, store):
    run = runs["time"]
    game, _ = score_game(run, cohort, "internal", store, **GIVEN)
    table = by_combination(run, cohort, "internal", store, population="everyone", **GIVEN)
    for entry in table["combinations"]:
        code = sum(1 << ALL.index(name) for name in entry["modalities"])
        assert game.values[code] == pytest.approx(entry["c_index"]["value"])
        assert game.score(code).low == pytest.approx(entry["c_index"]["low"])
    lost = {tuple(d["modalities"]): d["difference"] for d in table["differences"]}
    for row in utilisation(game):
        rest = tuple(n for n in ALL if n != row["modality"])
        assert row["gain"] == pytest.approx(lost[rest])


def test_a_resample_is_the_score_of_the_repeated_patients(runs, cohort, store):
    found = subset_predictions(runs["time"], cohort, "internal", store)
    scorer = Scorer.of_patients(runs["time"], cohort, found.subject_ids)
    data = survival_data(cohort, "incident_hf", found.subject_ids)
    sample = scorer.resampled(found.values[1:3], 2, 7)
    for b, weights in enumerate(resample_weights(data.n, 2, 7)):
        rows = np.repeat(np.arange(data.n), weights)
        expected = harrell_c(data.subset(rows), found.values[2, rows, 0])
        assert sample[1, b] == pytest.approx(expected)
    labels = label_data(cohort, "hf", runs["hf"].config.task.classes, found.subject_ids)
    values = subset_predictions(runs["hf"], cohort, "internal", store).values
    binary = Scorer(labels)
    assert binary.of(values[1:])[2] == pytest.approx(roc_auc_score(labels.label, values[3, :, 0]))
    assert binary.resampled(values[1:3], 5, 0).shape == (2, 5)


def test_too_few_patients_have_no_score(runs, cohort):
    few = cohort.subject_ids("internal", "incident_hf")[:6]
    scorer = Scorer.of_patients(runs["time"], cohort, few)
    assert "too few" in scorer.undefined
    assert np.isnan(scorer.of(np.zeros((2, 6, 1)))).all()


def test_a_balance_beside_its_bound_lies_in_its_interval():
    """Two modalities that add the same: every resample scatters below a balance of 1."""
    random = np.random.default_rng(0)
    a, b = 0.5 + 0.2 + random.normal(0, 0.03, (2, 400))
    sample = np.stack([np.full(400, 0.5), a, b, a + b - 0.5])
    game = Game(("ct", "ehr"), np.array([0.5, 0.7, 0.7, 0.9]), sample)
    assert game.balance.value == game.balance.high == pytest.approx(1)
    assert 0.9 < game.balance.low < 1
    nothing = Game(("ct", "ehr"), np.full(4, 0.5), np.full((4, 9), 0.5))
    assert np.isnan([nothing.balance.value, nothing.balance.low, nothing.balance.high]).all()
