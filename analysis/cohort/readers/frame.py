"""Reads one parquet or CSV file of a cohort; whatever is wrong with it becomes one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from analysis.cohort.readers.rows import read_rows
from analysis.cohort.schema import CohortError

# What pyarrow says of a damaged file.
_DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, LookupError)


def read_arrow(
    path: Path,
    required: Sequence[str] = (),
    optional: Sequence[str] | None = None,
    encoded: bool = False,
) -> pa.Table:
    """The table in a .parquet or .csv file.

    required: columns that must be there. optional: further columns to read where present (None
    reads all). encoded: columns of repeating texts may come as dictionaries. Raises CohortError
    when the file is missing, empty, truncated, of another type, far larger in memory than its
    size allows, or lacks a required column or has one twice.
    """
    if not path.is_file():
        raise CohortError(f"{path}: there is no such file; put it there or correct the path.")
    if path.stat().st_size == 0:
        raise CohortError(f"{path}: the file is empty; write it again.")
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise CohortError(f"{path}: '{suffix}' is not a table format; use .parquet or .csv.")
    try:
        if suffix == ".csv":
            convert = pacsv.ConvertOptions(strings_can_be_null=True)
            table = pacsv.read_csv(path, convert_options=convert)
            names = table.column_names
        else:
            file = pq.ParquetFile(path)
            names = file.schema_arrow.names
    except _DAMAGE as error:
        raise CohortError(_unreadable(path, error)) from error
    missing = [name for name in required if name not in names]
    if missing:
        raise CohortError(
            f"{path}: column '{missing[0]}' is missing (found: {', '.join(names[:12])}); "
            "add or rename it."
        )
    wanted = names
    if optional is not None:
        wanted = [name for name in names if name in {*required, *optional}]
    if len(set(wanted)) < len(wanted):
        twice = next(name for at, name in enumerate(wanted) if name in wanted[:at])
        raise CohortError(f"{path}: column '{twice}' is there twice; drop or rename one.")
    try:
        if suffix == ".csv":
            return table.select(wanted)
        return read_rows(path, file, wanted, encoded)
    except CohortError:
        raise
    except _DAMAGE as error:
        raise CohortError(_unreadable(path, error)) from error


def read_frame(
    path: Path, required: Sequence[str] = (), optional: Sequence[str] | None = None
) -> pd.DataFrame:
    """As `read_arrow`, as a pandas frame; `subject_id` comes as int64 without nulls."""
    table = read_arrow(path, required, optional)
    if "subject_id" in table.column_names:
        ids = integers(table, "subject_id", path)
        at = table.column_names.index("subject_id")
        table = table.set_column(at, "subject_id", pa.array(ids))
    try:
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    except _DAMAGE as error:  # dates that no calendar has
        raise CohortError(_unreadable(path, error)) from error
    return frame


def column_texts(table: pa.Table, name: str, path: Path) -> list[str | None]:
    """A column as texts. Raises CohortError where its type has none."""
    try:
        texts: list[str | None] = pc.cast(table.column(name), pa.large_string()).to_pylist()
    except _DAMAGE as error:
        kind = table.column(name).type
        raise CohortError(f"{path}: column '{name}' holds {kind}; use string.") from error
    return texts


def integers(table: pa.Table, name: str, path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A column as int64 (rows,). Raises CohortError on nulls or other types."""
    column = table.column(name)
    if column.null_count:
        raise CohortError(
            f"{path}: column '{name}' is empty in {column.null_count} rows; fill or remove them."
        )
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise CohortError(
            f"{path}: column '{name}' holds {column.type}, not whole numbers; use int64."
        )
    try:
        whole = pc.cast(column, pa.int64())
    except pa.ArrowException as error:
        raise CohortError(
            f"{path}: column '{name}' does not fit int64 ({error}); mend it."
        ) from error
    return np.asarray(whole.to_numpy(), np.int64)


def _unreadable(path: Path, error: BaseException) -> str:
    reason = " ".join(str(error).split())[:160]
    return f"{path}: not readable, perhaps truncated or of another type ({reason}); write it again."
