from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.schema import (
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    write_bag,
    write_folds,
    write_imaging,
    write_meds,
    write_outcomes,
    write_subjects,
    write_table,
    write_volume,
)
from models.contracts import Kind

ZERO = pd.Timestamp("2020-06-01 12:00:00")
COLUMNS = {
    "sodium": Column(unit="mmol/L"),
    "smoker": Column(kind="binary"),
    "site": Column(kind="nominal", categories=("larynx", "tongue")),
}


def make_cohort(folder: Path) -> Path:
    """Six patients. 1-3 have a CT; 1, 2, 4 events; 1, 5 labs; 1, 2, 6 a bag."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [1, 2, 3, 4, 5, 6]
    write_subjects(
        folder,
        pd.DataFrame(
            {
                "subject_id": ids,
                "split": ["train", "train", "train", "tuning", "internal", "external"],
                "age_years": [60.0, 61, 62, 63, 64, 65],
                "index_time": ZERO,
                "source_id": [f"P{i}" for i in ids],
            }
        ),
    )
    survival = pd.DataFrame(
        {
            "subject_id": ids[:5],
            "task": "death",
            "time_days": [10.0, 20, 30, 40, 50],
            "event": [1, 0, 1, 0, 1],
        }
    )
    classes = pd.DataFrame({"subject_id": ids, "task": "stage", "label": [0, 1, 0, 1, 0, 1]})
    write_outcomes(folder, pd.concat([survival, classes]))
    write_folds(folder, pd.DataFrame({"subject_id": ids, "fold": [0, 1, 0, 1, 0, 1]}))
    for i in (1, 2, 3):
        array = np.full((6, 5, 4), -1000 + i, np.int16)
        write_volume(folder / "ct" / f"{i}.nii.gz", array, (2.0, 2.0, 2.0))
    write_imaging(
        folder,
        pd.DataFrame(
            {
                "modality": "ct",
                "subject_id": [1, 2, 3],
                "path": [f"ct/{i}.nii.gz" for i in (1, 2, 3)],
                "acquired": ZERO,
            }
        ),
    )
    day = pd.Timedelta(days=1)
    events = pd.DataFrame(
        [
            (1, pd.NaT, "SEX//F", None),
            (1, ZERO - 10 * day, "LAB//NA", 140.0),
            (1, ZERO, "DX//PE", None),
            (1, ZERO + day, "MEDS_DEATH", None),
            (2, ZERO - 3 * day, "LAB//NA", 130.0),
            (4, ZERO - 2 * day, "DX//PE", None),
        ],
        columns=["subject_id", "time", "code", "numeric_value"],
    )
    codes = pd.DataFrame(
        {
            "code": ["SEX//F", "LAB//NA", "DX//PE", "MEDS_DEATH"],
            "description": ["female", "sodium", "embolism", "death"],
            "parent_codes": [None, ["LAB"], None, None],
        }
    )
    write_meds(folder / "ehr", events, codes)
    labs = pd.DataFrame(
        {
            "subject_id": [1, 5],
            "sodium": [140.0, 131],
            "smoker": [1, 0],
            "site": ["tongue", None],
        }
    )
    write_table(folder / "tables" / "labs.parquet", labs, COLUMNS)
    bag = pd.DataFrame({"subject_id": [1, 1, 2, 6], "instance": ["CD3", "CD8", "CD3", "HE"]})
    bag["features"] = list(np.arange(12, dtype=np.float32).reshape(4, 3))
    write_bag(folder / "bags" / "tma.parquet", bag)
    write_spec(
        CohortSpec(
            name="toy",
            title="Toy",
            modalities={
                "ct": ModalitySpec(kind=Kind.VOLUME, title="CT", path="imaging.parquet"),
                "ehr": ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr"),
                "labs": ModalitySpec(
                    kind=Kind.TABLE, title="Labs", path="tables/labs.parquet", columns=COLUMNS
                ),
                "tma": ModalitySpec(
                    kind=Kind.BAG, title="TMA", path="bags/tma.parquet", feature_width=3
                ),
            },
            tasks={
                "death": TaskSpec(kind="survival", title="Death"),
                "stage": TaskSpec(kind="classification", title="Stage", classes=("low", "high")),
            },
            provenance=Provenance(source="test"),
            folds="folds.parquet",
        ),
        folder,
    )
    return folder


@pytest.fixture
def cohort_folder(tmp_path: Path) -> Path:
    return make_cohort(tmp_path / "toy")


@pytest.fixture
def build() -> Callable[[Path], Path]:
    """Write the toy cohort into a folder."""
    return make_cohort


@pytest.fixture
def edit() -> Callable[..., None]:
    """Rewrite a parquet file through a function on its frame."""

    def change(path: Path, function: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        function(pd.read_parquet(path)).to_parquet(path, index=False)

    return change
