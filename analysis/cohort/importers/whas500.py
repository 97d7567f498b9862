"""Imports the Worcester Heart Attack Study (500 patients), which comes with scikit-survival.

Hosmer, Lemeshow & May, Applied Survival Analysis, 2nd ed., Wiley 2008. Days count from hospital
admission to death or the last follow-up. Length of stay is left out: it is known at discharge
only, and dying in hospital shortens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sksurv.datasets import load_whas500

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.splits import draw_folds, draw_splits
from analysis.cohort.schema import (
    CohortError,
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    FOLDS_FILE,
    atomic_folder,
    write_folds,
    write_outcomes,
    write_subjects,
    write_table,
)
from models.contracts import Kind

TASK = "death"
LEFT_OUT = ("los",)


def _yes(title: str) -> Column:
    return Column(kind="binary", title=title)


TABLES: Mapping[str, Mapping[str, Column]] = {
    "history": {
        "age": Column(unit="years", title="Age"),
        "gender": _yes("Female"),
        "bmi": Column(unit="kg/m2", title="Body mass index"),
        "cvd": _yes("History of cardiovascular disease"),
        "miord": _yes("Recurrent infarction"),
    },
    "vitals": {
        "hr": Column(unit="/min", title="Heart rate at admission"),
        "sysbp": Column(unit="mm Hg", title="Systolic pressure at admission"),
        "diasbp": Column(unit="mm Hg", title="Diastolic pressure at admission"),
    },
    "course": {
        "mitype": _yes("Q-wave infarction"),
        "afb": _yes("Atrial fibrillation"),
        "av3": _yes("Complete heart block"),
        "sho": _yes("Cardiogenic shock"),
        "chf": _yes("Congestive heart complications"),
    },
}
_TITLES = {
    "history": "Demographics and history",
    "vitals": "Vital signs",
    "course": "ECG and course",
}


def import_whas500(out: Path | str, folds: int = 10, seed: int = 0) -> Cohort:
    """Make a cohort folder `out` of the study's three tables, and open it.

    500 patients, 215 deaths; nothing is missing. Splits are train 64 %, tuning 16 %, internal
    20 %, and `folds` folds, all stratified by death and drawn with `seed`. A patient's number is
    the row of the published table, from 1. Raises CohortError when `out` is not empty or the table
    is not the one published; nothing is then left behind.
    """
    frame, died, days = _published()
    with atomic_folder(Path(out)) as partial:
        subjects = pd.DataFrame(
            {
                "subject_id": frame.index,
                "split": draw_splits(died, seed).to_numpy(),
                "site": "Worcester",
                "age_years": frame["age"].to_numpy(np.float64),
                "sex": np.where(frame["gender"] == 1, "female", "male"),
            }
        )
        write_subjects(partial, subjects)
        write_folds(partial, draw_folds(died, folds, seed).rename("fold").reset_index())
        outcomes = pd.DataFrame(
            {"subject_id": frame.index, "task": TASK, "time_days": days, "event": died.to_numpy()}
        )
        write_outcomes(partial, outcomes)
        modalities = {}
        for name, columns in TABLES.items():
            home = f"tables/{name}.parquet"
            write_table(partial / home, frame[list(columns)].reset_index(), columns)
            modalities[name] = ModalitySpec(
                kind=Kind.TABLE, title=_TITLES[name], path=home, columns=dict(columns)
            )
        write_spec(_spec(modalities, seed), partial)
        Cohort.open(partial).availability()
    return Cohort.open(Path(out))


def _published() -> tuple[pd.DataFrame, pd.Series[bool], npt.NDArray[np.float64]]:
    """The table by subject_id as numbers, who died, and days of follow-up."""
    table, outcome = load_whas500()
    index = pd.Index(np.arange(1, len(table) + 1), dtype="int64", name="subject_id")
    frame = table.astype("float64").set_axis(index)
    known = {*LEFT_OUT, *(name for columns in TABLES.values() for name in columns)}
    if set(frame) != known or frame.isna().to_numpy().any():
        raise CohortError(
            "scikit-survival's WHAS500 has other columns than those known here "
            f"({', '.join(sorted(set(frame) ^ known)) or 'or gaps'}); install scikit-survival "
            "0.25 to 0.28."
        )
    died = pd.Series(outcome["fstat"].astype(bool), index=index)
    return frame, died, outcome["lenfol"].astype(np.float64)


def _spec(modalities: dict[str, ModalitySpec], seed: int) -> CohortSpec:
    return CohortSpec(
        name="whas500",
        title="Worcester Heart Attack Study",
        description=(
            "Acute myocardial infarction, 500 patients of the hospitals of Worcester, "
            "Massachusetts. Length of stay is left out, because it is known at discharge only. "
            "Days count from admission; heart block, shock and congestive complications may have "
            "come later in the stay, so the table of the course knows more than admission does."
        ),
        index_event="hospital admission",
        modalities=modalities,
        tasks={
            TASK: TaskSpec(
                kind="survival",
                title="Death after myocardial infarction",
                event_title="Death from any cause",
                horizon_days=1826,
            )
        },
        provenance=Provenance(
            source="WHAS500 as distributed with scikit-survival",
            seed=seed,
            citation="Hosmer, Lemeshow and May, Applied Survival Analysis, 2nd ed., Wiley 2008",
        ),
        folds=FOLDS_FILE,
    )
