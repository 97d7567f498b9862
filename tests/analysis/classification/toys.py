"""A cohort with class tasks small enough to train on in seconds: three tables, three tasks."""

from __future__ import annotations

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
from analysis.cohort.write import write_outcomes, write_subjects, write_table
from analysis.experiment import Plan, train_run
from models.checkpoint import Run
from models.contracts import Kind
from models.training import TrainingSettings

SIZES = {"train": 160, "tuning": 80, "internal": 120, "external": 60}
HF = ("no heart failure", "heart failure")
GRADES = ("none", "mild", "severe")
TABLES = {
    "labs": ("Labs", {"bnp": Column(unit="pg/mL"), "sodium": Column(unit="mmol/L")}),
    "ecg": ("ECG", {"qrs_ms": Column(unit="ms"), "rate": Column(unit="1/min")}),
    "echo": ("Echo", {"ef": Column(unit="%"), "mass": Column(unit="g")}),
}


def write_cohort(folder: Path, seed: int = 0, lacking: float = 0.1) -> Path:
    """Each table shows one part of what the outcomes depend on; `lacking` of patients lack it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    n = sum(SIZES.values())
    ids = np.arange(1, n + 1)
    parts = rng.normal(size=(3, n))
    severity = parts.T @ np.array([0.7, 0.5, 1.0])
    splits = np.repeat(list(SIZES), list(SIZES.values()))
    zero = pd.Timestamp("2020-06-01 12:00:00")
    write_subjects(folder, pd.DataFrame({"subject_id": ids, "split": splits, "index_time": zero}))
    death = rng.exponential(900 / np.exp(0.8 * severity))
    loss = rng.uniform(60, 1500, n)
    labels = {
        "hf": (severity + rng.logistic(size=n) * 0.5 > 0.4).astype(int),
        "grade": np.digitize(severity + 0.6 * rng.normal(size=n), (-0.5, 0.8)),
    }
    rows = [pd.DataFrame({"subject_id": ids, "task": t, "label": v}) for t, v in labels.items()]
    rows.append(
        pd.DataFrame(
            {
                "subject_id": ids,
                "task": "incident_hf",
                "time_days": np.ceil(np.minimum(death, loss)),
                "event": (death <= loss).astype(int),
            }
        )
    )
    write_outcomes(folder, pd.concat(rows, ignore_index=True))
    for part, (name, (_, columns)) in zip(parts, TABLES.items(), strict=True):
        first, second = columns
        frame = pd.DataFrame(
            {
                "subject_id": ids,
                first: part + 0.3 * rng.normal(size=n),
                second: part + rng.normal(size=n),
            }
        )
        there = rng.random(n) >= lacking
        write_table(folder / "tables" / f"{name}.parquet", frame[there], columns)
    write_spec(
        CohortSpec(
            name="hf",
            title="Heart failure",
            modalities={
                name: ModalitySpec(
                    kind=Kind.TABLE, title=title, path=f"tables/{name}.parquet", columns=columns
                )
                for name, (title, columns) in TABLES.items()
            },
            tasks={
                "hf": TaskSpec(kind="classification", title="Heart failure", classes=HF),
                "grade": TaskSpec(kind="classification", title="Grade", classes=GRADES),
                "incident_hf": TaskSpec(kind="survival", title="Incident heart failure"),
            },
            provenance=Provenance(source="made for tests", simulated=True, seed=seed),
        ),
        folder,
    )
    return folder


def train(
    cohort: Path,
    out: Path,
    task: str = "hf",
    strategy: str = "late",
    modalities: tuple[str, ...] = tuple(TABLES),
) -> Run:
    """Train a run in about a second."""
    plan = Plan(
        cohort=cohort,
        task=task,
        strategy=strategy,
        out=out,
        encoder_store=out.parent / "encoders",
        modalities=modalities,
        settings=TrainingSettings(max_epochs=2),
    )
    return train_run(plan, accelerator="cpu")
