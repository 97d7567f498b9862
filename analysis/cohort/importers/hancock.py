"""Imports HANCOCK, a head-and-neck cancer cohort, from its published feature tables.

Dörrich et al., Nature Communications 2025; the tables lie in `features/` of the authors'
repository HANCOCK_MultimodalDataset (Apache-2.0): clinical, pathological, blood, icd_codes,
tma_cell_density and targets as CSV, and tma_tile_dtr_256_<STAIN>.npz.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.hancock_columns import (
    BLOOD,
    CLINICAL,
    PATHOLOGICAL,
    TMA_CELL_DENSITY,
    Source,
    icd_column,
)
from analysis.cohort.importers.splits import draw_folds, draw_splits
from analysis.cohort.importers.told import tell_problems
from analysis.cohort.readers.arrays import read_arrays
from analysis.cohort.schema import (
    CohortError,
    CohortSpec,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    FOLDS_FILE,
    atomic_folder,
    write_bag,
    write_folds,
    write_outcomes,
    write_subjects,
    write_table,
)
from models.contracts import Kind

Progress = Callable[[str], None]

_TITLES = {
    "clinical": "Clinical data",
    "pathological": "Pathology",
    "blood": "Blood tests",
    "icd_codes": "ICD-10 codes",
    "tma_cell_density": "Immune cell density",
}
WINDOW_DAYS = 1095
WINDOW_TASK = "death_within_3_years"
_STAINS = "tma_tile_dtr_256_"
_WIDTH = 512
_MOST_COLUMNS = 10_000
_TARGETS = (
    "survival_status",
    "days_to_last_information",
    "rfs_event",
    "days_to_rfs_event",
)


def import_hancock(
    src: Path | str,
    out: Path | str,
    folds: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cohort:
    """Make a cohort folder `out` of the feature tables in `src`, and open it.

    Splits are train 64 %, tuning 16 %, internal 20 %, stratified by death; `folds` folds are
    stratified by death and by death within three years. `seed` draws both. Patients whose
    recurrence-free time is negative are left out of that task, which the cohort's description
    says. Death within three years is a class task of those who died by then or were followed
    for longer; who was lost before is of neither class and left out. progress: called with a
    sentence a step.
    Raises CohortError naming file, column and remedy; nothing is then left behind.
    """
    src, out = Path(src), Path(out)
    say = progress or (lambda sentence: None)
    with atomic_folder(out) as partial:
        targets = _csv(src / "targets.csv", _TARGETS)
        clinical = _csv(src / "clinical.csv", tuple(CLINICAL))
        outcomes, excluded = _outcomes(targets, src / "targets.csv")
        if excluded:
            say(f"Left out of recurrence-free survival for a negative time: {_listed(excluded)}.")
        of_task = {name: part.set_index("subject_id") for name, part in outcomes.groupby("task")}
        dead = of_task["overall_survival"]["event"].astype(bool)
        label = of_task[WINDOW_TASK]["label"].reindex(dead.index)
        lost = int(label.isna().sum())
        say(f"Left out of death within 3 years, not followed for so long: {lost} patients.")
        _write_subjects(partial, clinical, dead, label, folds, seed)
        write_outcomes(partial, outcomes)
        known = set(dead.index)
        modalities = {}
        for name, columns in _tables(src).items():
            say(f"Reading {name}.")
            modalities[name] = _table(src, partial, name, columns, known)
        say("Reading tissue microarray stains.")
        modalities["tma"] = _stains(src, partial, known)
        write_spec(_spec(modalities, excluded, lost, seed), partial)
        Cohort.open(partial).availability()
    say(f"Wrote {len(dead)} patients to {out}.")
    tell_problems(out, progress)
    return Cohort.open(out)


def _tables(src: Path) -> Mapping[str, Mapping[str, Source]]:
    codes = _csv(src / "icd_codes.csv", ())
    return {
        "clinical": CLINICAL,
        "pathological": PATHOLOGICAL,
        "blood": BLOOD,
        "icd_codes": {str(name): icd_column(str(name)) for name in codes},
        "tma_cell_density": TMA_CELL_DENSITY,
    }


def _csv(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """A published table indexed by subject_id (int64), with the original id as `source_id`."""
    if not path.is_file():
        raise CohortError(
            f"{path}: there is no such file; name the folder 'features' of HANCOCK's repository."
        )
    try:
        with path.open("rb") as stream:
            if stream.readline(1 << 20).count(b",") > _MOST_COLUMNS:
                raise ValueError("more columns than a table has")
        frame = pd.read_csv(path, dtype={"patient_id": str})
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise CohortError(
            f"{path}: not readable as CSV ({' '.join(str(error).split())[:120]}); "
            "download it again."
        ) from error
    missing = [name for name in ("patient_id", *required) if name not in frame]
    if missing:
        raise CohortError(f"{path}: column '{missing[0]}' is missing; download the file again.")
    ids = frame["patient_id"]
    bad = ids[~ids.fillna("").str.fullmatch(r"\d{1,9}")]
    if len(bad):
        raise CohortError(f"{path}: patient_id '{bad.iloc[0]}' is not a number; mend the row.")
    frame.index = pd.Index(ids.astype("int64"), name="subject_id")
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise CohortError(f"{path}: patient_id {twice} occurs twice; keep one row a patient.")
    frame.attrs["source_id"] = dict(zip(frame.index.tolist(), ids.tolist(), strict=True))
    return frame.drop(columns="patient_id").sort_index()


def _outcomes(targets: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[int]]:
    """Long outcomes of all tasks, and the patients whose recurrence-free time is negative."""
    status = targets["survival_status"]
    odd = sorted(set(status.dropna().map(str)) - {"living", "deceased"})
    if odd or status.isna().any():
        raise CohortError(
            f"{path}: column 'survival_status' holds '{odd[0] if odd else 'nothing'}'; "
            "write living or deceased."
        )
    event = _whole(targets, "rfs_event", path)
    if not event.isin((0, 1)).all():
        raise CohortError(f"{path}: column 'rfs_event' holds other values than 0 and 1; mend it.")
    days = _whole(targets, "days_to_last_information", path)
    if (days < 0).any():
        raise CohortError(
            f"{path}: column 'days_to_last_information' is negative for patient "
            f"{days.index[days < 0][0]}; correct the row."
        )
    overall = pd.DataFrame(
        {"task": "overall_survival", "time_days": days, "event": status == "deceased"}
    )
    free_days = _whole(targets, "days_to_rfs_event", path)
    free = pd.DataFrame(
        {"task": "recurrence_free_survival", "time_days": free_days, "event": event == 1}
    )
    excluded = [int(i) for i in free_days.index[free_days < 0]]
    kept = [overall, free[free_days >= 0], _within_window(overall)]
    return pd.concat(kept).reset_index(), excluded


def _within_window(overall: pd.DataFrame) -> pd.DataFrame:
    """Label 1 for a death by the end of the window, 0 for a longer time; the others are left out.

    Censored within the window is not alive at its end, so such a patient has no label.
    """
    died = overall["event"] & (overall["time_days"] <= WINDOW_DAYS)
    known = died | (overall["time_days"] > WINDOW_DAYS)
    return pd.DataFrame({"task": WINDOW_TASK, "label": died[known].astype("int64")})


def _whole(frame: pd.DataFrame, name: str, path: Path) -> pd.Series[float]:
    numbers = pd.to_numeric(frame[name], errors="coerce")
    if numbers.isna().any():
        raise CohortError(
            f"{path}: column '{name}' is not a number for patient "
            f"{numbers.index[numbers.isna()][0]}; fill or correct it."
        )
    return numbers.astype("float64")


def _write_subjects(
    folder: Path,
    clinical: pd.DataFrame,
    dead: pd.Series[bool],
    label: pd.Series[float],
    folds: int,
    seed: int,
) -> None:
    ids = dead.index.to_numpy(np.int64)
    split = draw_splits(dead, seed)
    # Both tasks are stratified: the dead by death within the window, the living by follow-up.
    fold = draw_folds(dead, folds, seed, 2 * dead + label.notna() + (label == 1))
    known = clinical.reindex(ids)
    source = clinical.attrs["source_id"]
    subjects = pd.DataFrame(
        {
            "subject_id": ids,
            "split": split.to_numpy(),
            "site": "Erlangen",
            "age_years": known["age_at_initial_diagnosis"].to_numpy(float),
            "sex": known["sex"].map({0: "male", 1: "female"}).to_numpy(),
            "source_id": [source.get(int(i), f"{i:03d}") for i in ids],
        }
    )
    write_subjects(folder, subjects)
    write_folds(folder, fold.rename("fold").reset_index())


def _table(
    src: Path, folder: Path, name: str, columns: Mapping[str, Source], known: set[int]
) -> ModalitySpec:
    path = src / f"{name}.csv"
    frame = _csv(path, tuple(columns))
    frame = frame[frame.index.isin(known)]
    stored = {}
    for column, source in columns.items():
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if (numbers.isna() & frame[column].notna()).any():
            raise CohortError(f"{path}: column '{column}' holds text; download the file again.")
        stored[column] = _recoded(numbers, source, column, path)
    specs = {column: source.column for column, source in columns.items()}
    home = f"tables/{name}.parquet"
    table = pd.DataFrame(stored, index=frame.index).reset_index()
    write_table(folder / home, table, specs)
    return ModalitySpec(kind=Kind.TABLE, title=_TITLES[name], path=home, columns=specs)


def _recoded(
    numbers: pd.Series[float], source: Source, name: str, path: Path
) -> pd.Series[float] | pd.Series[str]:
    """Published integers as ranks or category names; those not assessed are missing."""
    kind, named = source.column.kind, source.names
    given = numbers.dropna()
    if kind == "binary":
        named = {0: 0, 1: 1}
    if named is None:
        return numbers
    odd = given[~given.isin([*named, *source.not_assessed])]
    if len(odd):
        raise CohortError(
            f"{path}: column '{name}' holds {odd.iloc[0]:g} for patient {odd.index[0]}, which has "
            "no known meaning; download the file again."
        )
    coded = numbers.map(named)
    return coded.astype(object) if kind == "nominal" else coded.astype("float64")


def _stains(src: Path, folder: Path, known: set[int]) -> ModalitySpec:
    """The bag of stains: one 512-d embedding a stain and patient."""
    files = sorted(src.glob(f"{_STAINS}*.npz"))
    if not files:
        raise CohortError(f"{src}: there is no {_STAINS}<STAIN>.npz; download the features again.")
    ids: list[int] = []
    stains: list[str] = []
    features: list[npt.NDArray[np.float32]] = []
    for path in files:
        stain = path.stem.removeprefix(_STAINS)
        try:
            vectors = read_arrays(path)
        except (OSError, ValueError) as error:
            raise CohortError(f"{path}: not readable ({error}); download it again.") from error
        for key, vector in vectors.items():
            if (
                not re.fullmatch(r"[0-9]{1,9}", key)
                or vector.shape != (_WIDTH,)
                or not np.isfinite(vector).all()
            ):
                raise CohortError(
                    f"{path}: entry '{key}' is not a finite vector of {_WIDTH} numbers for a "
                    "patient; download the file again."
                )
            if int(key) in known:
                ids.append(int(key))
                stains.append(stain)
                features.append(vector.astype(np.float32))
    home = "bags/tma.parquet"
    bag = pd.DataFrame({"subject_id": ids, "instance": stains})
    bag["features"] = pd.Series(features, dtype=object)
    write_bag(folder / home, bag)
    return ModalitySpec(
        kind=Kind.BAG,
        title="Tissue microarray",
        path=home,
        feature_width=_WIDTH,
        instance_name="stain",
    )


def _listed(ids: list[int]) -> str:
    return ", ".join(f"{i:03d}" for i in ids)


def _spec(
    modalities: dict[str, ModalitySpec], excluded: list[int], lost: int, seed: int
) -> CohortSpec:
    left_out = (
        f" {len(excluded)} patients with a negative recurrence-free time are left out of that "
        f"task: {_listed(excluded)}."
        if excluded
        else ""
    )
    left_out += (
        f" Death within 3 years ({WINDOW_DAYS} days) leaves out {lost} patients who were not "
        "followed for so long."
    )
    return CohortSpec(
        name="hancock",
        title="HANCOCK",
        description="Head and neck cancer, University Hospital Erlangen." + left_out,
        index_event="initial diagnosis",
        modalities=modalities,
        tasks={
            "overall_survival": TaskSpec(
                kind="survival", title="Overall survival", event_title="Death", horizon_days=1826
            ),
            "recurrence_free_survival": TaskSpec(
                kind="survival",
                title="Recurrence-free survival",
                event_title="Recurrence, metastasis, progress or death",
                horizon_days=1826,
            ),
            WINDOW_TASK: TaskSpec(
                kind="classification",
                title="Death within 3 years",
                event_title="Death",
                classes=("Alive at 3 years", "Dead within 3 years"),
            ),
        },
        provenance=Provenance(
            source="HANCOCK_MultimodalDataset, published feature tables",
            licence="Apache-2.0",
            seed=seed,
            citation="Dörrich et al., Nature Communications 2025",
        ),
        folds=FOLDS_FILE,
    )
