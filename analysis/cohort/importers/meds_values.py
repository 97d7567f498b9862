"""Measurements of a record as a table: of each chosen code the last value by time zero.

What was measured long ago may say little of time zero, so a column can be limited to the days
before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.cohort.importers.codes import CodeSet
from analysis.cohort.importers.compose import Addition, Note, Persons
from analysis.cohort.importers.identities import DAY_US
from analysis.cohort.importers.study import Measured, Study
from analysis.cohort.readers.events import STATIC, EventTable, read_events
from analysis.cohort.schema import CohortError, Column, ModalitySpec
from analysis.cohort.write import write_table
from models.contracts import Kind


def add_values(
    addition: Addition,
    name: str,
    files: Sequence[Path],
    persons: Persons,
    study: Study,
    src: Path,
    note: Note,
) -> None:
    """Write the columns that `study.modalities[name].values` names, a row a subject.

    Raises CohortError when a code does not occur, or nobody in the cohort has a value.
    """
    said = study.modality(name, name.replace("_", " ").capitalize())
    zero = addition.cohort.subjects["index_time"]
    parts: list[pd.DataFrame] = []
    seen: set[str] = set()
    for file in files:
        table = read_events(file)
        seen |= set(table.codes)
        rows = persons.table(int(i) for i in table.subject_ids)
        if len(rows):
            parts.append(_of_shard(table, rows, said.values, zero))
    for column, measured in said.values.items():
        if not CodeSet(measured.codes).of(sorted(seen)).any():
            raise CohortError(
                f"{src}: code '{measured.codes[0]}' of modalities.{name}.values.{column} does not "
                "occur; correct it."
            )
    latest = _latest(parts, list(said.values))
    if not len(latest):
        raise CohortError(
            f"{src}: nobody in the cohort has a value of '{name}' by time zero; compare the codes "
            "and time zero in study.yaml."
        )
    columns = {
        column: Column(unit=measured.unit, title=measured.title)
        for column, measured in said.values.items()
    }
    latest.index.name = "subject_id"
    write_table(addition.file("table.parquet"), latest.reset_index(), columns)
    addition.modalities[name] = ModalitySpec(
        kind=Kind.TABLE,
        title=said.title,
        path=addition.place("table.parquet"),
        columns=columns,
    )
    counts = ", ".join(f"{column} {int(latest[column].notna().sum()):,}" for column in columns)
    note(f"{name}: {len(latest):,} of {len(zero):,} subjects have a value ({counts}).")


def _latest(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """By subject_id one column each, NaN where none. A person may be in several shards."""
    if not parts:
        return pd.DataFrame(columns=list(columns))
    found = pd.concat(parts).sort_values("time", kind="stable")
    return pd.DataFrame(
        {
            column: found[found["column"] == column].groupby("subject_id")["value"].last()
            for column in columns
        }
    )


def _of_shard(
    table: EventTable,
    rows: pd.DataFrame,
    wanted: Mapping[str, Measured],
    zero: pd.Series[pd.Timestamp],
) -> pd.DataFrame:
    """Rows of subject_id, column, time, value: each last finite value by time zero."""
    owner = table.row_subjects()
    limits = zero.to_numpy("datetime64[us]").astype(np.int64)
    of_subject = dict(zip(zero.index.to_numpy(np.int64).tolist(), limits.tolist(), strict=True))
    limit = rows["subject_id"].map(of_subject).to_numpy(np.int64) - rows["shift_us"].to_numpy()
    asked = rows[["source_id", "subject_id"]].assign(limit=limit)
    measurable = np.isfinite(table.value) & (table.time_us != STATIC)
    found = []
    for column, measured in wanted.items():
        chosen = CodeSet(measured.codes).rows(table) & measurable
        events = pd.DataFrame(
            {
                "source_id": owner[chosen],
                "time": table.time_us[chosen],
                "value": table.value[chosen],
            }
        )
        both = asked.merge(events, on="source_id")
        kept = both["time"] <= both["limit"]
        if measured.within_days is not None:
            kept &= both["limit"] - both["time"] <= measured.within_days * DAY_US
        last = both[kept].sort_values("time", kind="stable").groupby("subject_id").tail(1)
        found.append(last[["subject_id", "time", "value"]].assign(column=column))
    return pd.concat(found)
