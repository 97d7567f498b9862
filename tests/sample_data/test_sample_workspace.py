from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, VolumeReading
from analysis.features import feature_path, read_features
from analysis.predict import predict
from models.checkpoint import load_encoder, load_run
from models.contracts import VoxelGrid
from sample_data.build_checkpoints import REFERENCE_FILE, TASKS, planned_runs
from sample_data.workspace import CHECKPOINTS, ENCODERS, RUNS, shipped_ct_encoder

PLANNED = planned_runs()
NAMES = list(PLANNED)
COHORTS = sorted({cohort for cohort, _, _ in PLANNED.values()})


def test_checkpoints_are_small_and_complete():
    files = [p for p in CHECKPOINTS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 50e6
    assert sorted(p.name for p in RUNS.iterdir()) == sorted(NAMES)
    assert not [p for p in files if p.suffix in {".pt", ".pkl", ".ckpt", ".bin"}]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_run_gives_its_stored_predictions(name, tiny_workspace):
    """Stored from files read and encoded; compared with features made while simulating."""
    run = load_run(RUNS / name, [ENCODERS])
    cohort = Cohort.open(tiny_workspace / "cohorts" / PLANNED[name][0])
    stored = pd.read_parquet(RUNS / name / REFERENCE_FILE)
    made = predict(run, cohort, stored["subject_id"].to_numpy())
    # Half precision: features encoded in other batches may differ in their last bit, and several
    # hundred tokens of ECG and echo add up.
    close = 1e-3 if PLANNED[name][0] == "hf" else 1e-4
    assert np.abs(made.values[:, 0] - stored["log_risk"].to_numpy()).max() < close
    assert len(stored) >= 6
    assert np.ptp(stored["log_risk"]) > 0.1


@pytest.mark.parametrize("kind", COHORTS)
def test_sample_cohorts_pass_their_own_check(kind, tiny_workspace):
    assert [str(p) for p in check_cohort(tiny_workspace / "cohorts" / kind)] == []


@pytest.mark.parametrize("kind", TASKS)
def test_features_made_while_simulating_are_those_of_the_files(kind, tiny_workspace):
    """The external site's scans have another grid: both paths must resample alike."""
    cohort = Cohort.open(tiny_workspace / "cohorts" / kind)
    name = shipped_ct_encoder()
    encoder = load_encoder(name, [ENCODERS]).encoder
    config = encoder.config
    for split in ("internal", "external"):
        ids = np.intersect1d(cohort.subject_ids(split), cohort.having("ct"))[:3]
        stored = read_features(feature_path(cohort.folder, "ct", name), ids)
        dataset = CohortDataset(cohort, ids, {"ct": VolumeReading(config.spacing_mm, config.shape)})
        for row in range(len(ids)):
            with torch.inference_mode():
                fresh = encoder(dataset[row].inputs["ct"])
            assert isinstance(stored.layout, VoxelGrid)
            assert torch.allclose(fresh.tokens[0], stored.tokens[row], atol=5e-3, rtol=5e-3)


def test_the_frozen_encoder_is_stored_once_and_says_what_it_learned():
    name = shipped_ct_encoder()
    content = json.loads((ENCODERS / name / "encoder.json").read_text())
    assert "never an outcome" in content["provenance"]["objective"]
    weights = {
        json.loads((RUNS / n / "config.json").read_text())["modalities"]["ct"]["encoder"]["weights"]
        for n in NAMES
        if "ct" in PLANNED[n][2].modalities
    }
    assert weights == {name}


def test_runs_know_the_cohort_they_were_trained_on():
    for name in NAMES:
        config = json.loads((RUNS / name / "config.json").read_text())
        assert config["task"]["name"] == PLANNED[name][1]
        assert config["training"]["n_train"] >= 200
