"""A sound cohort of 80 patients, in frames that a test can spoil before they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.check import Problem, check_cohort
from analysis.cohort.schema import (
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    write_folds,
    write_imaging,
    write_meds,
    write_outcomes,
    write_subjects,
    write_table,
)
from models.contracts import Kind

DAY = pd.Timedelta(days=1)
LABS = ("sodium", "potassium", "urea", "glucose", "albumin", "bilirubin")


@dataclass
class Toy:
    """What is written. files: rows of the imaging index; the test writes the files themselves."""

    folder: Path
    subjects: pd.DataFrame
    outcomes: pd.DataFrame
    events: pd.DataFrame
    labs: pd.DataFrame
    columns: dict[str, Column]
    task: TaskSpec
    files: list[tuple[str, int, str]] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    folds: pd.DataFrame | None = None

    def write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_subjects(self.folder, self.subjects)
        write_outcomes(self.folder, self.outcomes)
        modalities = {
            name: ModalitySpec(kind=kind, title=name, path="imaging.parquet")
            for name, kind in self.kinds.items()
        }
        if len(self.events):
            codes = pd.DataFrame({"code": sorted(set(self.events["code"]))})
            write_meds(self.folder / "ehr", self.events, codes.assign(description="described"))
            modalities["ehr"] = ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr")
        write_table(self.folder / "labs.parquet", self.labs, self.columns)
        modalities["labs"] = ModalitySpec(
            kind=Kind.TABLE, title="Labs", path="labs.parquet", columns=self.columns
        )
        if self.files:
            names = ["modality", "subject_id", "path"]
            write_imaging(self.folder, pd.DataFrame(self.files, columns=names))
        if self.folds is not None:
            write_folds(self.folder, self.folds)
        write_spec(
            CohortSpec(
                name="toy",
                title="Toy",
                modalities=modalities,
                tasks={"death": self.task},
                provenance=Provenance(source="test"),
                folds=None if self.folds is None else "folds.parquet",
            ),
            self.folder,
        )
        return self.folder

    def problems(self, deep: bool = False) -> list[Problem]:
        return check_cohort(self.write(), deep=deep)

    def outcome(self, time: object, event: object, **task: object) -> Toy:
        """Other patients: their times and events, with labs and no records."""
        ids = np.arange(1, len(np.asarray(time)) + 1)
        self.subjects = pd.DataFrame({"subject_id": ids, "split": "train"})
        given = {"time_days": np.asarray(time, float), "event": np.asarray(event, int)}
        self.outcomes = pd.DataFrame({"subject_id": ids, "task": "death", **given})
        self.events = self.events.iloc[:0]
        self.labs = _labs(ids)
        self.task = TaskSpec(kind="survival", title="Death", **task)
        return self


def _labs(ids: np.ndarray) -> pd.DataFrame:
    drawn = np.random.default_rng(7).normal(100, 15, (len(ids), len(LABS))).round(3)
    return pd.DataFrame(drawn, columns=list(LABS)).assign(subject_id=ids)


def make_toy(folder: Path, n: int = 80) -> Toy:
    """Half of them die at random within two years; the study closes at two years."""
    rng = np.random.default_rng(3)
    ids = np.arange(1, n + 1)
    index = pd.Timestamp("2150-03-01 09:00") + pd.to_timedelta(rng.integers(0, 900, n), "D")
    death, leave = rng.exponential(900, n) + 2, rng.uniform(300, 900, n)
    time = np.minimum(np.minimum(death, leave), 730).round(2)
    event = ((death <= leave) & (death <= 730)).astype(int)
    rows: list[tuple[int, pd.Timestamp, str, float | None]] = []
    for i, subject in enumerate(ids.tolist()):
        rows.append((subject, index[i] - 20000 * DAY, "MEDS_BIRTH", None))
        rows += [
            (subject, index[i] - (30 * k + 1) * DAY, f"LAB/{rng.integers(0, 12)}", 100 + i + k / 8)
            for k in range(8)
        ]
        rows.append((subject, index[i] + 0.4 * time[i] * DAY, "VISIT", None))
        if event[i]:
            rows.append((subject, index[i] + time[i] * DAY, "MEDS_DEATH", None))
    columns = ["subject_id", "time", "code", "numeric_value"]
    return Toy(
        folder=folder,
        subjects=pd.DataFrame(
            {
                "subject_id": ids,
                "split": np.resize(["train", "train", "tuning", "internal"], n),
                "age_years": rng.uniform(40, 90, n).round(1),
                "index_time": index,
                "source_id": [f"P{i:04d}" for i in ids],
            }
        ),
        outcomes=pd.DataFrame(
            {"subject_id": ids, "task": "death", "time_days": time, "event": event}
        ),
        events=pd.DataFrame(rows, columns=columns).sort_values(["subject_id", "time"]),
        labs=_labs(ids),
        columns={name: Column(unit="mmol/L") for name in LABS},
        task=TaskSpec(kind="survival", title="Death", event_title="death", horizon_days=365),
    )


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return make_toy(tmp_path / "toy")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Toy]:
    """A sound toy in a folder of its own, as often as asked for."""
    made: list[Toy] = []

    def make() -> Toy:
        made.append(make_toy(tmp_path / f"toy{len(made)}"))
        return made[-1]

    return make
