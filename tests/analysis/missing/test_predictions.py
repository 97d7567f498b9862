from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.missing import design
from analysis.missing.predictions import predict_left, subset_predictions
from analysis.predict import BATCH, predict_stored, run_inputs
from tests.analysis.classification.toys import TABLES
from tests.analysis.missing.toys import by_hand, constant, first

ALL = tuple(TABLES)


def present(cohort, ids):
    return cohort.availability().loc[ids, list(ALL)].to_numpy()


def test_a_sum_is_the_sum_of_what_is_told(runs, cohort, store):
    """labs 2, ecg ignored, echo -1: exact for every patient and combination."""
    run = by_hand(runs["time"], {"labs": constant(2.0), "echo": constant(-1.0)}, base=0.5)
    found = subset_predictions(run, cohort, "internal", store)
    have = present(cohort, found.subject_ids)
    assert np.array_equal(found.have, have)
    for combination in found.design.combinations:
        told = have * [name in combination for name in ALL]
        assert np.array_equal(found.of(combination)[:, 0], 0.5 + told @ np.array([2.0, 0.0, -1.0]))
        assert np.array_equal(found.untold(combination), ~told.any(axis=1))
    assert np.array_equal(found.of(("labs", "echo")), found.of(ALL))  # the ecg is ignored
    assert found.complete.sum() == have.all(axis=1).sum()


@pytest.mark.parametrize("name", ["three", "hf", "time"])
def test_against_each_patient_alone(runs, cohort, store, name):
    """Slow twin: one patient at a time, encoded and fused again for each combination."""
    run = runs[name]
    found = subset_predictions(run, cohort, "internal", store)
    rows = [0, *np.flatnonzero(~found.complete)[:4].tolist(), len(found.subject_ids) - 1]
    gone = torch.tensor([True])
    for row in rows:
        inputs = run_inputs(run, cohort, [int(found.subject_ids[row])])
        for combination in found.design.combinations:
            with torch.inference_mode():
                encoded = run.model.encode(inputs)
                left = {n: e if n in combination else e.without(gone) for n, e in encoded.items()}
                alone = run.model.fuse(left).prediction[0].double().numpy()
            np.testing.assert_allclose(found.of(combination)[row], alone, atol=2e-5)


def test_the_whole_is_the_apps_own_number(runs, cohort, store):
    found = subset_predictions(runs["three"], cohort, "internal", store)
    shown = predict_stored(runs["three"], cohort, "internal", store)
    assert np.array_equal(found.as_they_are, shown.values)
    # Who lacks the echo is told the same with and without it.
    no_echo = ~found.have[:, ALL.index("echo")]
    assert no_echo.any()
    assert np.array_equal(found.of(("labs", "ecg"))[no_echo], shown.values[no_echo])


def test_each_patient_is_encoded_once_and_nothing_is_asked_twice(runs, cohort, store):
    run = by_hand(runs["time"], {"labs": first()})
    encoded = []
    encode = run.model.encode
    run.model.encode = lambda inputs: encoded.append(len(inputs["labs"])) or encode(inputs)
    found = subset_predictions(run, cohort, "internal", store)
    n, own = len(found.subject_ids), found.have.sum(axis=1)
    # Once by predict_stored, once here; fused for what a patient can be told and not twice.
    assert sum(encoded) == 2 * n
    # Told nothing, all patients of a batch are one.
    batches = -(-n // BATCH)
    asked = sum(2**m - 2 for m in own[own > 0].tolist()) + batches
    assert run.model.strategy.rows == n + asked
    said = []
    again = subset_predictions(run, cohort, "internal", store, lambda *p: said.append(p))
    assert not said
    assert run.model.strategy.rows == n + asked
    assert np.array_equal(again.values, found.values)


def test_told_looks_up_what_predict_left_asks(runs, cohort, store):
    run = runs["three"]
    found = subset_predictions(run, cohort, "internal", store)
    left = np.random.default_rng(0).integers(0, 8, (5, len(found.subject_ids)))
    asked = predict_left(run, run_inputs(run, cohort, found.subject_ids), left)
    np.testing.assert_allclose(found.told(left), asked, atol=2e-5)


def test_a_sampled_design_says_what_it_lacks(runs, cohort, store, monkeypatch):
    monkeypatch.setattr(design, "MOST_ALL", 2)
    found = subset_predictions(runs["three"], cohort, "internal", store)
    assert not found.design.all_of_them
    assert len(found.design.combinations) == 8  # of three all are among the fixed ones
    few = design.Design(ALL, ((), ALL), False, 0)
    small = replace(found, design=few, values=found.values[[0, -1]])
    with pytest.raises(KeyError):
        small.of(("labs",))
    with pytest.raises(KeyError):
        small.told(np.ones((1, len(found.subject_ids)), np.int64))
