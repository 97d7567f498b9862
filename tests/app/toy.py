"""A workspace small enough to train in a test session: two cohorts, a handful of runs each.

`FUSIONLENS_TEST_WORKSPACE` names an existing workspace to test on instead; it is copied, because
tests put broken folders into it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.cohort.schema import (
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    write_meds,
    write_outcomes,
    write_subjects,
    write_table,
)
from analysis.experiment import Plan, train_run
from models.contracts import Kind
from models.training import TrainingSettings

VARIABLE = "FUSIONLENS_TEST_WORKSPACE"
BROKEN_RUN = "broken_run"
BROKEN_COHORT = "broken_cohort"
SIZES = {"train": 160, "tuning": 60, "internal": 120, "external": 90}
IMAGING = {
    "rv_lv_ratio": Column(title="RV/LV ratio"),
    "clot_burden": Column(unit="mL", title="Clot burden"),
}
LABS = {
    "troponin": Column(unit="ng/L", title="Troponin"),
    "age": Column(unit="years", title="Age"),
}
ZERO = pd.Timestamp("2020-06-01 12:00:00")
COHORTS = {
    "pe": ("Pulmonary embolism", "mortality", "Death from any cause", "CT pulmonary angiogram"),
    "cvd": ("Cardiovascular disease", "mace", "Major adverse cardiac event", "Chest CT"),
}
RUNS = {
    "ct": ("unimodal", ("imaging",), {}),
    "ehr": ("unimodal", ("ehr",), {}),
    "late": ("late", ("imaging", "ehr", "labs"), {}),
    "contrastive": ("contrastive", ("imaging", "ehr"), {}),
    "co_attention": ("co_attention", ("imaging", "ehr"), {"guide": "imaging"}),
}
RUNS_OF = {"pe": tuple(RUNS), "cvd": ("ct", "ehr", "late")}


def make_workspace(folder: Path, existing: Path | str | None = None) -> Path:
    """Write cohorts and train runs, or copy `existing`; add a broken run and a broken cohort."""
    existing = os.environ.get(VARIABLE) or existing
    if existing:
        shutil.copytree(existing, folder, ignore=shutil.ignore_patterns("results", ".*"))
    else:
        for number, name in enumerate(COHORTS):
            cohort = write_cohort(folder / "cohorts" / name, name, seed=number)
            for run in RUNS_OF[name]:
                train(cohort, folder, run, f"{name}-{run}")
    broken = folder / "runs" / BROKEN_RUN
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{ this is not JSON", encoding="utf-8")
    (folder / "cohorts" / BROKEN_COHORT).mkdir()
    (folder / "cohorts" / BROKEN_COHORT / "cohort.yaml").write_text("name: [", encoding="utf-8")
    return folder


def train(cohort: Path, folder: Path, run: str, name: str, title: str = "") -> Path:
    """Train one of RUNS in about a second."""
    strategy, modalities, config = RUNS[run]
    out = folder / "runs" / name
    train_run(
        Plan(
            cohort=cohort,
            task=COHORTS[cohort.name][1],
            strategy=strategy,
            out=out,
            encoder_store=folder / "encoders",
            modalities=modalities,
            strategy_config=config,
            settings=TrainingSettings(max_epochs=2),
            title=title,
        ),
        accelerator="cpu",
    )
    return out


def rename_run(folder: Path, **fields: str) -> None:
    """Change top-level fields of a run's config."""
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **fields}), encoding="utf-8")


def write_cohort(folder: Path, name: str, seed: int) -> Path:
    """Patients whose hazard depends on imaging and on events; some lack either."""
    folder.mkdir(parents=True)
    title, task, event_title, index_event = COHORTS[name]
    rng = np.random.default_rng(seed)
    n = sum(SIZES.values())
    ids = np.arange(1, n + 1)
    clot, sick = rng.normal(size=n), rng.normal(size=n)
    hazard = np.exp(0.9 * clot + 0.9 * sick) / 900
    death = rng.exponential(1 / hazard)
    loss = rng.uniform(60, 1500, n)
    subjects = pd.DataFrame(
        {
            "subject_id": ids,
            "split": np.repeat(list(SIZES), list(SIZES.values())),
            "site": "A",
            "age_years": 60.0,
            "index_time": ZERO,
        }
    )
    write_subjects(folder, subjects)
    outcomes = pd.DataFrame(
        {
            "subject_id": ids,
            "task": task,
            "time_days": np.ceil(np.minimum(death, loss)),
            "event": (death <= loss).astype(int),
        }
    )
    write_outcomes(folder, outcomes)
    imaging = pd.DataFrame(
        {
            "subject_id": ids,
            "rv_lv_ratio": 1 + 0.2 * clot + 0.1 * rng.normal(size=n),
            "clot_burden": 10 + 3 * clot + rng.normal(size=n),
        }
    )
    write_table(folder / "tables" / "imaging.parquet", imaging[rng.random(n) > 0.05], IMAGING)
    labs = pd.DataFrame(
        {"subject_id": ids, "troponin": 20 + 5 * sick + 4 * rng.normal(size=n), "age": 60.0}
    )
    write_table(folder / "tables" / "labs.parquet", labs[rng.random(n) > 0.3], LABS)
    write_meds(folder / "ehr", _events(ids, sick, rng), pd.DataFrame({"code": ["SEX//F"]}))
    write_spec(
        CohortSpec(
            name=name,
            title=title,
            index_event=index_event,
            description="Simulated for tests.",
            modalities={
                "imaging": ModalitySpec(
                    kind=Kind.TABLE, title="CT", path="tables/imaging.parquet", columns=IMAGING
                ),
                "ehr": ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr"),
                "labs": ModalitySpec(
                    kind=Kind.TABLE, title="Labs", path="tables/labs.parquet", columns=LABS
                ),
            },
            tasks={
                task: TaskSpec(
                    kind="survival",
                    title=event_title,
                    event_title=event_title,
                    horizon_days=1000 if name == "pe" else None,
                )
            },
            provenance=Provenance(
                source="made for tests", licence="CC0-1.0", simulated=True, seed=seed
            ),
        ),
        folder,
    )
    return folder


def _events(ids: np.ndarray, sick: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    rows: list[tuple[int, object, str, float | None]] = []
    for subject, severity in zip(ids.tolist(), sick.tolist(), strict=True):
        if rng.random() < 0.08:
            continue
        for code, level in (("DX//CANCER", severity), ("DX//FLU", 0.0), ("LAB//NA", 0.0)):
            for _ in range(rng.poisson(np.exp(0.7 * level))):
                day = ZERO - pd.Timedelta(days=float(rng.uniform(1, 400)))
                rows.append((subject, day, code, None))
    return pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
