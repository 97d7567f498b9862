"""Tables of named columns: one row a subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError, Column


@dataclass(frozen=True)
class Table:
    """subject_ids: (S,) int64, ascending. values: (S, C) float32, 0 where missing; a nominal
    column holds the number of its category in the spec's order. mask: (S, C) bool, false where
    missing. names: the C columns.
    """

    subject_ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    names: tuple[str, ...]


def read_table(path: Path, columns: Mapping[str, Column]) -> Table:
    """Read a .parquet or .csv table in the spec's column order.

    Raises CohortError on a missing or non-numeric column, an unknown category, an infinite
    value, or a subject listed twice.
    """
    frame = read_frame(path, ("subject_id", *columns), ())
    frame = frame.sort_values("subject_id", kind="stable")
    twice = frame["subject_id"][frame["subject_id"].duplicated()]
    if len(twice):
        raise CohortError(
            f"{path}: subject {twice.iloc[0]} has more than one row; keep one row a subject."
        )
    values = np.zeros((len(frame), len(columns)), np.float32)
    mask = np.zeros(values.shape, bool)
    for at, (name, column) in enumerate(columns.items()):
        numbers = column_numbers(frame[name], name, column, path)
        mask[:, at] = ~np.isnan(numbers)
        values[:, at] = np.where(mask[:, at], numbers, 0)
    ids = frame["subject_id"].to_numpy(np.int64)
    return Table(ids, values, mask, tuple(columns))


def column_numbers(
    series: pd.Series[float], name: str, column: Column, path: Path
) -> npt.NDArray[np.float64]:
    """One column as numbers (S,), NaN where missing; category numbers for a nominal one.

    Raises CohortError when a value does not fit the column's kind.
    """
    if column.kind == "nominal":
        return _categories(series, name, column, path)
    try:
        numbers = np.asarray(pd.to_numeric(series), np.float64)
    except (ValueError, TypeError) as error:
        raise CohortError(
            f"{path}: column '{name}' holds text; write numbers, or declare it nominal."
        ) from error
    if np.isinf(numbers).any():
        raise CohortError(f"{path}: column '{name}' holds an infinite value; leave it empty.")
    if column.kind == "binary" and not np.isin(numbers[~np.isnan(numbers)], (0, 1)).all():
        raise CohortError(
            f"{path}: column '{name}' is binary but holds other values; write 0 and 1."
        )
    return numbers


def _categories(
    series: pd.Series[float], name: str, column: Column, path: Path
) -> npt.NDArray[np.float64]:
    given = series.dropna().map(str)
    order = {category: at for at, category in enumerate(column.categories)}
    unknown = sorted(set(given) - set(order))
    if unknown:
        raise CohortError(
            f"{path}: column '{name}' holds '{unknown[0]}', which is not among its categories "
            f"({', '.join(column.categories) or 'none listed'}); list it in cohort.yaml."
        )
    return np.asarray(given.map(order).reindex(series.index), np.float64)
