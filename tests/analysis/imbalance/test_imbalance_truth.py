"""On the sample cohorts, whose hazards are known: does a run's balance find the true one?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.cohort import Cohort
from analysis.evaluation import survival_data
from analysis.imbalance.game import shapley
from analysis.imbalance.report import imbalance_report
from analysis.survival.concordance import bootstrap_c
from models.checkpoint import load_run
from tests.app.toy import VARIABLE

SEEN_IN_CT = {"pe": ["term_clot_burden", "term_rv_lv_ratio"], "cvd": ["term_coronary_calcium"]}
SEEN_TOGETHER = "term_strain_with_injury"


@pytest.fixture(scope="module")
def workspace() -> Path:
    """A whole sample workspace; the tiny one has too few patients for any verdict."""
    folder = Path(os.environ.get(VARIABLE, "nowhere"))
    if not (folder / "runs" / "cvd-late-onehot").is_dir():
        pytest.skip(f"{VARIABLE} names no whole sample workspace")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "verdict", "who"), [("pe", "balanced", None), ("cvd", "dominant", "ehr")]
)
@pytest.mark.parametrize("split", ["internal", "external"])
def test_the_verdict_is_the_truths(name, verdict, who, split, workspace, store):
    run = load_run(workspace / "runs" / f"{name}-late-onehot", [workspace / "encoders"])
    cohort = Cohort.open(workspace / "cohorts" / name)
    report = imbalance_report(run, cohort, split, store, n_resamples=400)
    assert (report["verdict"]["verdict"], report["verdict"]["modality"]) == (verdict, who)
    found = {row["modality"]: row["share"] for row in report["shapley"]["modalities"]}
    for modality, true in true_shares(cohort, name, split).items():
        assert found[modality]["low"] < true < found[modality]["high"]


def true_shares(cohort: Cohort, name: str, split: str) -> dict[str, float]:
    """Shares of a reader who knows every true term that a modality shows, and nothing else."""
    task = next(iter(cohort.spec.tasks))
    ids = cohort.subject_ids(split, task)
    truth = pd.read_parquet(cohort.folder / "truth" / "patients.parquet")
    terms = truth.set_index("subject_id").loc[ids]
    of_ct = SEEN_IN_CT[name]
    of_ehr = [
        c for c in terms if c.startswith("term_") and c not in [*of_ct, SEEN_TOGETHER]
    ]  # fmt: skip
    risks = [terms[of_ct].sum(axis=1), terms[of_ehr].sum(axis=1), terms["true_log_hazard"]]
    data = survival_data(cohort, task, ids)
    c = bootstrap_c(data, np.stack(risks), np.ones((1, data.n), np.int32))[:, 0]
    phi = shapley(np.r_[0.5, c])
    return dict(zip(("ct", "ehr"), (phi / phi.sum()).tolist(), strict=True))
