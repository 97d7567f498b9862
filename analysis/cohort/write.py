"""Writes the files of a cohort; the same data give the same bytes.

Rows are sorted, column types are fixed, and nothing of the machine or the clock gets in. A cohort
is written inside `atomic_folder`, so that a reader never sees half of one.
"""

from __future__ import annotations

import glob
import gzip
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.cohort.schema import OUTCOMES_FILE, SUBJECTS_FILE, CohortError, Column
from analysis.cohort.write_recordings import write_cine as write_cine
from analysis.cohort.write_recordings import write_signal as write_signal
from analysis.cohort.write_recordings import write_still as write_still
from analysis.partial import clear_stale, owned_folder

IMAGING_FILE = "imaging.parquet"
FOLDS_FILE = "folds.parquet"

SUBJECT_TYPES: Mapping[str, pa.DataType] = {
    "subject_id": pa.int64(),
    "split": pa.string(),
    "site": pa.string(),
    "age_years": pa.float64(),
    "sex": pa.string(),
    "index_time": pa.timestamp("us"),
    "source_id": pa.string(),
}
OUTCOME_TYPES: Mapping[str, pa.DataType] = {
    "subject_id": pa.int64(),
    "task": pa.string(),
    "time_days": pa.float64(),
    "event": pa.int8(),
    "label": pa.int64(),
}
IMAGING_TYPES: Mapping[str, pa.DataType] = {
    "modality": pa.string(),
    "subject_id": pa.int64(),
    "path": pa.string(),
    "view": pa.string(),
    "acquired": pa.timestamp("us"),
}
EVENT_TYPES: Mapping[str, pa.DataType] = {
    "subject_id": pa.int64(),
    "time": pa.timestamp("us"),
    "code": pa.string(),
    "numeric_value": pa.float32(),
    "text_value": pa.large_string(),
}
CODE_TYPES: Mapping[str, pa.DataType] = {
    "code": pa.string(),
    "description": pa.string(),
    "parent_codes": pa.list_(pa.string()),
}


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` to write into; renamed to `out` at the end, removed on error.

    What a killed process left of the same folder is removed first (`analysis.partial`).

    Raises CohortError when `out` is a file or a folder with something in it, or when its parent
    cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out}: already exists and is not empty; name a new or empty folder.")
    parent, prefix = out.absolute().parent, f".{out.name}.partial-"
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)  # last, when the partial folder is gone
        try:
            parent.mkdir(parents=True, exist_ok=True)
            clear_stale(parent, f"{glob.escape(prefix)}*")
            partial = stack.enter_context(owned_folder(parent, prefix))
        except OSError as error:
            raise CohortError(
                f"{out}: cannot be written ({error.strerror}); name a folder you may write to."
            ) from error
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(stat.S_IMODE(0o777 & ~mask))
        if out.exists():
            out.rmdir()
        partial.rename(out)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Of folders that were made for a result, those that hold none; innermost first."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def write_subjects(folder: Path, subjects: pd.DataFrame) -> Path:
    """Write subjects.parquet, sorted by subject_id (a column, or the index of that name).

    Needs subject_id and split; site, age_years, sex, index_time and source_id where known;
    further columns are kept. Raises CohortError on a missing column or a wrong type.
    """
    frame = _sorted(subjects, ("subject_id",))
    return _write(folder / SUBJECTS_FILE, frame, SUBJECT_TYPES, ("subject_id", "split"))


def write_outcomes(folder: Path, outcomes: pd.DataFrame) -> Path:
    """Write outcomes.parquet, sorted by task and subject_id.

    Survival rows hold time_days and event, classification rows label; the other cells are null.
    """
    frame = _sorted(outcomes, ("task", "subject_id"))
    return _write(folder / OUTCOMES_FILE, frame, OUTCOME_TYPES, ("subject_id", "task"))


def write_imaging(folder: Path, imaging: pd.DataFrame) -> Path:
    """Write imaging.parquet: modality, subject_id, path relative to `folder`, view, acquired."""
    frame = _sorted(imaging, ("modality", "subject_id", "path"))
    required = ("modality", "subject_id", "path")
    return _write(folder / IMAGING_FILE, frame, IMAGING_TYPES, required)


def write_folds(folder: Path, folds: pd.DataFrame) -> Path:
    """Write folds.parquet: subject_id, fold (int64, from 0)."""
    types = {"subject_id": pa.int64(), "fold": pa.int64()}
    frame = _sorted(folds, ("subject_id",))
    return _write(folder / FOLDS_FILE, frame, types, ("subject_id", "fold"))


def write_meds(folder: Path, events: pd.DataFrame, codes: pd.DataFrame) -> Path:
    """Write MEDS 0.4: data/0.parquet and metadata/codes.parquet under `folder`.

    events: subject_id, time (null = static), code, numeric_value, text_value; sorted by subject
    and time, static first, otherwise in the order given. codes: code, description,
    parent_codes; a code that occurs without a row here gets one without description, because
    MEDS 0.4 wants every code listed.
    """
    frame = events.sort_values(["subject_id", "time"], kind="stable", na_position="first")
    for name in ("numeric_value", "text_value"):
        if name not in frame:
            frame = frame.assign(**{name: None})
    known = set(codes["code"]) if "code" in codes else set()
    missing = sorted(set(frame["code"].unique()) - known)
    if missing:
        codes = pd.concat([codes, pd.DataFrame({"code": missing})], ignore_index=True)
    for name in ("description", "parent_codes"):
        if name not in codes:
            codes = codes.assign(**{name: None})
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    _write(folder / "data" / "0.parquet", frame, EVENT_TYPES, ("subject_id", "time", "code"))
    listed = codes.sort_values("code", kind="stable")
    _write(folder / "metadata" / "codes.parquet", listed, CODE_TYPES, ("code",))
    return folder


def write_table(path: Path, table: pd.DataFrame, columns: Mapping[str, Column]) -> Path:
    """Write a table modality: subject_id and the columns of the spec, in the spec's order.

    Nominal columns are strings, all others float64; a missing value is null.
    """
    frame = _sorted(table, ("subject_id",))
    absent = [name for name in columns if name not in frame]
    if absent:
        raise CohortError(f"{path}: column '{absent[0]}' is missing; add it or drop it.")
    types: dict[str, pa.DataType] = {"subject_id": pa.int64()}
    for name, column in columns.items():
        types[name] = pa.string() if column.kind == "nominal" else pa.float64()
    return _write(path, frame[list(types)], types, ("subject_id",))


def write_bag(path: Path, bag: pd.DataFrame) -> Path:
    """Write a bag modality: subject_id, instance (a name), features (F float32 numbers a row)."""
    frame = _sorted(bag, ("subject_id", "instance"))
    widths = {len(row) for row in frame["features"]}
    if len(widths) > 1:
        raise CohortError(f"{path}: instances have widths {sorted(widths)}; give all the same.")
    frame["features"] = pd.Series(
        [np.asarray(row, np.float32) for row in frame["features"]], index=frame.index, dtype=object
    )
    types = {"subject_id": pa.int64(), "instance": pa.string(), "features": pa.list_(pa.float32())}
    return _write(path, frame[list(types)], types, tuple(types))


def write_volume(
    path: Path, array: npt.NDArray[Any], spacing_mm: tuple[float, float, float]
) -> Path:
    """Write a volume as RAS+ NIfTI (.nii.gz), centred on the world's origin.

    array: (D, H, W) int16 HU (or a uint8 mask), axes towards superior, anterior, right.
    spacing_mm: along (D, H, W). Raises CohortError on another type, rank or spacing.
    """
    if array.ndim != 3 or array.dtype not in (np.dtype(np.int16), np.dtype(np.uint8)):
        raise CohortError(
            f"{path}: cannot write {array.ndim}-D {array.dtype}; give a 3-D array of int16 (HU) or "
            "uint8 (mask)."
        )
    if not (np.isfinite(spacing_mm).all() and min(spacing_mm) > 0):
        raise CohortError(f"{path}: spacing {spacing_mm} mm is not positive; give mm.")
    steps = np.asarray(spacing_mm, float)[::-1]
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.asarray(array.shape[::-1]) - 1) / 2
    image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=3, mtime=0))
    return path


def _sorted(frame: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    if "subject_id" not in frame and frame.index.name == "subject_id":
        frame = frame.reset_index()
    return frame.sort_values([key for key in keys if key in frame], kind="stable")


def _write(
    path: Path, frame: pd.DataFrame, types: Mapping[str, pa.DataType], required: tuple[str, ...]
) -> Path:
    absent = [name for name in required if name not in frame]
    if absent:
        raise CohortError(f"{path}: column '{absent[0]}' is missing; add it before writing.")
    order = [name for name in types if name in frame]
    order += [str(name) for name in frame if name not in types]
    arrays = []
    for name in order:
        try:
            values = frame[name]
            if name == "event" and values.dtype in (bool, object):
                values = values.astype("float64")  # true, false and null side by side
            # nanoseconds are cut to microseconds; other losses are errors
            exact = not pd.api.types.is_datetime64_any_dtype(values)
            array = pa.array(values, from_pandas=True, type=types.get(name), safe=exact)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise CohortError(
                f"{path}: column '{name}' does not fit {types.get(name)} ({error}); convert it."
            ) from error
        arrays.append(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays, names=order), path, compression="zstd")
    return path
