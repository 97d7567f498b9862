"""Measurements of a record as a table: of each chosen code the last value by time zero.

What was measured long ago may say little of time zero, so a column can be limited to the days
before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

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
    parts, seen = [], set()
    for file in files:
        table = read_events(file)
        seen |= set(table.codes)
        rows = persons.table(int(i) for i in table.subject_ids)
        if len(rows):
            parts.append(_of_shard(table, rows, said.values, zero))
    for column, measured in said.values.items():
        absent = [code for code in measured.codes if code not in seen]
        if len(absent) == len(measured.codes):
            raise CohortError(
                f"{src}: code '{absent[0]}' of modalities.{name}.values.{column} does not occur; "
                "correct it."
            )
    found = pd.concat(parts) if parts else pd.DataFrame(columns=list(said.values))
    # A person may be in several shards: the later one wins, as its row comes from a later time.
    latest = found.groupby(level=0).last() if len(found) else found
    latest = latest[latest.notna().any(axis=1)]
    if not len(latest):
        raise CohortError(f"{src}: nobody in the cohort has a value of '{name}' by time zero.")
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


def _of_shard(
    table: EventTable,
    rows: pd.DataFrame,
    wanted: dict[str, Measured],
    zero: pd.Series[pd.Timestamp],
) -> pd.DataFrame:
    """By subject_id: the last finite value of each column by time zero, NaN where none."""
    codes = {code: at for at, code in enumerate(table.codes)}
    found = {}
    owner = table.row_subjects()
    limits = zero.to_numpy("datetime64[us]").astype(np.int64)
    of_subject = dict(zip(zero.index.to_numpy(np.int64).tolist(), limits.tolist(), strict=True))
    limit = rows["subject_id"].map(of_subject).to_numpy(np.int64) - rows["shift_us"].to_numpy()
    for column, measured in wanted.items():
        here = [codes[code] for code in measured.codes if code in codes]
        chosen = np.isin(table.code_index, here) & np.isfinite(table.value)
        chosen &= table.time_us != STATIC
        events = pd.DataFrame(
            {
                "source_id": owner[chosen],
                "time": table.time_us[chosen],
                "value": table.value[chosen],
            }
        )
        asked = pd.DataFrame(
            {"source_id": rows["source_id"], "subject_id": rows["subject_id"], "limit": limit}
        )
        both = asked.merge(events, on="source_id")
        kept = both["time"] <= both["limit"]
        if measured.within_days is not None:
            kept &= both["limit"] - both["time"] <= measured.within_days * DAY_US
        last = both[kept].sort_values("time", kind="stable").groupby("subject_id")["value"].last()
        found[column] = last
    return pd.DataFrame(found, index=pd.Index(rows["subject_id"], name="subject_id"))
