"""Exchanged modalities, modalities alone, training, gates."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.cohort.schema import CohortError
from analysis.evaluation import evaluate
from analysis.imbalance.alone import alone
from analysis.imbalance.gates import gates
from analysis.imbalance.history import training_history
from analysis.imbalance.shuffle import encode_once, exchanged_predictions, shuffled
from analysis.predict import predict_stored, run_inputs
from models.checkpoint import RunError
from tests.analysis.classification.toys import TABLES
from tests.analysis.missing.toys import by_hand, first

ALL = tuple(TABLES)


def test_only_what_the_run_uses_is_missed(runs, cohort, store):
    run = by_hand(runs["time"], {"echo": first(2.0), "labs": first(1.0)})
    found = shuffled(run, cohort, "internal", store, repeats=20, n_resamples=60)
    rows = {row["modality"]: row for row in found["modalities"]}
    assert rows["ecg"]["drop"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert rows["ecg"]["p"] == 1.0
    assert rows["echo"]["p"] == pytest.approx(1 / 21)
    assert rows["echo"]["drop"]["low"] > 0
    assert rows["echo"]["drop"]["value"] > rows["labs"]["drop"]["value"]


def test_an_exchange_moves_whole_modalities_among_those_who_have_them(runs, cohort, store):
    run = by_hand(runs["time"], {"echo": first(2.0), "labs": first(1.0)})
    whole = predict_stored(run, cohort, "internal", store)
    inputs = run_inputs(run, cohort, whole.subject_ids)
    values = exchanged_predictions(run, inputs, whole.values, 2, 0)["echo"][0, :, 0]
    has = whole.present["echo"]
    assert (values[~has] == whole.values[~has, 0]).all()
    # What echo adds is the same numbers in another order.
    encoded = encode_once(run, inputs)
    own = 2.0 * encoded["echo"].pooled[:, 0].double().numpy()
    rest = whole.values[:, 0] - np.where(has, own, 0.0)
    assert np.sort((values - rest)[has]) == pytest.approx(np.sort(own[has]), abs=1e-4)
    assert not np.allclose((values - rest)[has], own[has], atol=1e-4)


def test_encoding_in_batches_is_encoding_at_once(runs, cohort, monkeypatch):
    run = runs["time"]
    inputs = run_inputs(run, cohort, cohort.subject_ids("internal", "incident_hf"))
    with torch.inference_mode():
        whole = run.model.encode(inputs)
        monkeypatch.setattr("analysis.imbalance.shuffle.BATCH", 50)
        parts = encode_once(run, inputs)
    for name, item in whole.items():
        torch.testing.assert_close(parts[name].tokens, item.tokens)
        assert torch.equal(parts[name].mask, item.mask)
        torch.testing.assert_close(parts[name].pooled, item.pooled)


def test_alone_is_the_evaluation_of_the_unimodal_run(runs, cohort, store):
    unimodal = [runs["labs"], runs["echo"]]
    found = alone(runs["time"], cohort, "internal", store, unimodal, n_resamples=60)
    rows = {row["modality"]: row for row in found["modalities"]}
    assert rows["ecg"]["unimodal"] is None
    assert rows["ecg"]["gap"] is None
    for name in ("labs", "echo"):
        row = rows[name]
        assert row["gap"]["value"] == pytest.approx(
            row["unimodal"]["value"] - row["told_alone"]["value"]
        )
    best = found["best_single"]
    everyone = evaluate([runs["time"], runs["echo"]], cohort, "internal", store, n_resamples=60)
    c = {row["run"]: row["c_index"] for row in everyone["runs"]}
    assert best["modality"] == "echo"
    assert best["sources_mixed"]
    assert best["score"] == pytest.approx(c["echo"])
    assert best["gain"]["value"] == pytest.approx(c["time"]["value"] - c["echo"]["value"])


def test_a_unimodal_run_must_belong(runs, cohort, store):
    with pytest.raises(CohortError, match="a unimodal run reads one modality alone"):
        alone(runs["time"], cohort, "internal", store, [runs["time"]])
    with pytest.raises(CohortError, match="name one of the same task"):
        alone(runs["hf"], cohort, "internal", store, [runs["labs"]])


def test_training_is_the_history_file(runs, tmp_path):
    run = runs["time"]
    found = training_history(run)
    assert found["epochs"] == [0, 1]
    assert found["best_epoch"] == run.config.training.best_epoch
    for shares in zip(*found["gradient_share"].values(), strict=True):
        assert sum(shares) == pytest.approx(1.0)
    assert all(0 <= v <= 1 for v in found["unimodal_score"]["echo"])
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    (copy / "history.parquet").unlink()
    without = training_history(replace(run, folder=copy))
    assert without["epochs"] == []
    assert "no training history" in without["note"]
    (copy / "history.parquet").write_bytes(b"nothing")
    with pytest.raises(RunError, match="no readable training history"):
        training_history(replace(run, folder=copy))


def test_a_blocked_gradient_shows_in_the_history(collapsed):
    shares = training_history(collapsed)["gradient_share"]
    assert set(shares["echo"]) == {0.0}
    assert set(shares["labs"]) == {1.0}


def test_gates_are_the_strategys(runs, cohort, store):
    run = runs["time"]
    found = {row["gate"]: row for row in gates(run, cohort, "internal", store)["gates"]}
    assert tuple(found) == ALL
    for name, row in found.items():
        weight = torch.nn.functional.softplus(run.model.strategy.raw_weight[name])
        assert row["mean"] == pytest.approx(float(weight), abs=1e-6)
        assert row["constant"]
    nothing = gates(runs["labs"], cohort, "internal", store)
    assert nothing["gates"] == []
    assert "no learned gates" in nothing["note"]
