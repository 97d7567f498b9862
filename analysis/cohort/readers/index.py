"""The small files that say what there is: subjects, the imaging index, lists of cached features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open

from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import SUBJECTS_FILE, CohortError, Split

_OPTIONAL = {
    "site": "str",
    "age_years": "float64",
    "sex": "str",
    "index_time": "datetime64[us]",
    "source_id": "str",
}


def read_subjects(folder: Path) -> pd.DataFrame:
    """subjects.parquet indexed by subject_id, optional columns filled in as missing.

    Raises CohortError on a subject listed twice, an unknown split or a column of another type.
    """
    path = folder / SUBJECTS_FILE
    frame = read_frame(path, ("subject_id", "split"))
    if frame["subject_id"].duplicated().any():
        twice = frame["subject_id"][frame["subject_id"].duplicated()].iloc[0]
        raise CohortError(f"{path}: subject {twice} is listed twice; keep one row a subject.")
    unknown = sorted(set(frame["split"].map(str)) - set(Split))
    if unknown:
        raise CohortError(
            f"{path}: split '{unknown[0]}' is not known; use one of {', '.join(Split)}."
        )
    for name, kind in _OPTIONAL.items():
        if name not in frame:
            frame[name] = None
        try:
            if name == "index_time":
                times = pd.to_datetime(frame[name], utc=True)
                frame[name] = times.dt.tz_localize(None).astype("datetime64[us]")
            elif kind == "float64":
                frame[name] = pd.to_numeric(frame[name]).astype("float64")
        except (ValueError, TypeError) as error:
            raise CohortError(f"{path}: column '{name}' does not hold {kind}; mend it.") from error
    return frame.set_index("subject_id").sort_index()


def read_imaging(path: Path) -> pd.DataFrame:
    """An imaging index: modality, subject_id, path, view, acquired (datetime64[us], or missing)."""
    index = read_frame(path, ("modality", "subject_id", "path"))
    if "view" not in index:
        index["view"] = None
    if "acquired" not in index:
        index["acquired"] = None
    try:
        times = pd.to_datetime(index["acquired"], utc=True)
    except (ValueError, TypeError) as error:
        raise CohortError(f"{path}: column 'acquired' does not hold times; mend it.") from error
    index["acquired"] = times.dt.tz_localize(None).astype("datetime64[us]")
    return index


def usable_rows(rows: pd.DataFrame, index_time: pd.Series[pd.Timestamp]) -> pd.DataFrame:
    """The rows of an imaging index acquired by the end of the subject's index day.

    index_time: by subject_id. Sorted so that the row to prefer comes last: by time of
    acquisition, those without one first, ties in reverse alphabetical order of the path.
    """
    rows = rows.sort_values("path", ascending=False)
    last = rows["subject_id"].map(index_time.dt.normalize())
    late = rows["acquired"].notna() & last.notna() & (rows["acquired"].dt.normalize() > last)
    kept: pd.DataFrame = rows[~late]
    return kept.sort_values("acquired", kind="stable", na_position="first")


def feature_subjects(file: Path) -> npt.NDArray[np.int64]:
    """The `subject_id` tensor of a feature file; nothing else of it is read."""
    try:
        with safe_open(file, framework="np") as content:
            ids = np.asarray(content.get_tensor("subject_id"))
    except (SafetensorError, OSError) as error:
        raise CohortError(
            f"{file}: not a feature file with a tensor 'subject_id' ({error}); compute it again."
        ) from error
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise CohortError(f"{file}: tensor 'subject_id' must be 1-D int64; compute it again.")
    return ids
