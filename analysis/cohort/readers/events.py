"""Clinical events in the Medical Event Data Standard (MEDS 0.4), and its older dialect.

A null time marks a static event (a fact without a date). The older dialect calls the numeric
value `value` and counts nanoseconds; both are read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.cohort.readers.frame import column_texts, integers, read_arrow
from analysis.cohort.schema import CohortError

STATIC = np.iinfo(np.int64).min
"""The time of a static event in `EventTable.time_us`; equals numpy's NaT."""


@dataclass(frozen=True)
class Code:
    """What a code means. parents: broader codes, nearest first as the file gives them."""

    description: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubjectEvents:
    """The events of one subject, static ones first, then oldest first.

    time: (N,) datetime64[us], NaT for static. code: N strings. value: (N,) float32, NaN where
    none. text: N strings or None.
    """

    time: npt.NDArray[np.datetime64]
    code: tuple[str, ...]
    value: npt.NDArray[np.float32]
    text: tuple[str | None, ...]


@dataclass(frozen=True)
class EventTable:
    """All events of a cohort, sorted by subject, then time (static first), then file order.

    subject_ids: (S,) int64, ascending. starts: (S + 1,) int64; subject s owns the rows
    starts[s]:starts[s + 1]. time_us: (E,) int64 microseconds since 1970, STATIC where none.
    code_index: (E,) int32 into `codes`. value: (E,) float32, NaN where none. text_index: (E,)
    int32 into `texts`, -1 where none. sorted_on_disk: whether the rows already lay in order.
    """

    subject_ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    time_us: npt.NDArray[np.int64]
    code_index: npt.NDArray[np.int32]
    codes: tuple[str, ...]
    value: npt.NDArray[np.float32]
    text_index: npt.NDArray[np.int32]
    texts: tuple[str, ...]
    sorted_on_disk: bool

    def __len__(self) -> int:
        return len(self.time_us)

    def rows(self, subject_id: int) -> slice:
        """The rows of a subject; an empty slice when it has none."""
        at = int(np.searchsorted(self.subject_ids, subject_id))
        if at == len(self.subject_ids) or self.subject_ids[at] != subject_id:
            return slice(0, 0)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    def row_subjects(self) -> npt.NDArray[np.int64]:
        """(E,) int64: the subject of each row."""
        return np.repeat(self.subject_ids, np.diff(self.starts))

    def subject(self, subject_id: int) -> SubjectEvents:
        """The events of one subject."""
        rows = self.rows(subject_id)
        return SubjectEvents(
            time=self.time_us[rows].view("datetime64[us]"),
            code=tuple(self.codes[i] for i in self.code_index[rows]),
            value=self.value[rows],
            text=tuple(self.texts[i] if i >= 0 else None for i in self.text_index[rows]),
        )


def event_files(path: Path) -> list[Path]:
    """The shards of a MEDS folder (its data/ where there is one), or the one file itself.

    Raises CohortError when there is none.
    """
    if path.is_file():
        return [path]
    data = path / "data" if (path / "data").is_dir() else path
    files = sorted(data.rglob("*.parquet"))
    files = [file for file in files if file.parent.name != "metadata"]
    if not files:
        raise CohortError(
            f"{path}: there are no event files; expected data/*.parquet or one .parquet file."
        )
    return files


def read_events(path: Path) -> EventTable:
    """All events under a MEDS folder, or of a single parquet file; read once, kept in arrays.

    Raises CohortError naming the file and the column that is missing or of a wrong type.
    """
    parts = [_shard(file) for file in event_files(path)]
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    subject = np.asarray(table["subject_id"].to_numpy(), np.int64)
    time = np.asarray(table["time"].to_numpy(), np.int64)
    code_index, codes = _decoded(table["code"])
    text_index, texts = _decoded(table["text"])
    value = np.asarray(table["value"].to_numpy(zero_copy_only=False), np.float32)
    earlier = (subject[1:] == subject[:-1]) & (time[1:] < time[:-1])
    in_order = not bool(np.any(earlier | (subject[1:] < subject[:-1])))
    if not in_order:
        order = np.lexsort((time, subject))
        subject, time, value = subject[order], time[order], value[order]
        code_index, text_index = code_index[order], text_index[order]
    subject_ids, first = np.unique(subject, return_index=True)
    starts = np.append(first, len(subject)).astype(np.int64)
    return EventTable(
        subject_ids, starts, time, code_index, codes, value, text_index, texts, in_order
    )


def read_codes(path: Path) -> Mapping[str, Code]:
    """Code to its meaning, from metadata/codes.parquet beside the events; empty without one.

    Raises CohortError when the file is there but cannot be read.
    """
    homes = [path] if path.is_dir() else [path.parent, path.parent.parent]
    for home in homes:
        file = home / "metadata" / "codes.parquet"
        if file.is_file():
            return _codes(file)
    return {}


def _codes(file: Path) -> Mapping[str, Code]:
    table = read_arrow(file, ("code",), ("description", "parent_codes"))
    names = column_texts(table, "code", file)
    blank: list[Any] = [None] * len(names)
    found = table.column_names
    descriptions = column_texts(table, "description", file) if "description" in found else blank
    parents = blank
    if "parent_codes" in found and not pa.types.is_null(table["parent_codes"].type):
        kind = table["parent_codes"].type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise CohortError(f"{file}: column 'parent_codes' holds {kind}; use lists of strings.")
        parents = [
            above and [str(code) for code in above if code is not None]
            for above in table["parent_codes"].to_pylist()
        ]
    return {
        name: Code(text or "", tuple(above or ()))
        for name, text, above in zip(names, descriptions, parents, strict=True)
        if name is not None
    }


def _shard(file: Path) -> pa.Table:
    required = ("subject_id", "time", "code")
    table = read_arrow(file, required, ("numeric_value", "value", "text_value"), encoded=True)
    subject = integers(table, "subject_id", file)
    time = table["time"]
    if not (pa.types.is_timestamp(time.type) or pa.types.is_date(time.type)):
        if not pa.types.is_null(time.type):
            raise CohortError(f"{file}: column 'time' holds {time.type}; use timestamp[us].")
        time = pc.cast(time, pa.timestamp("us"))
    micro = pc.cast(pc.cast(time, pa.timestamp("us"), safe=False), pa.int64())
    code = table["code"]
    if code.null_count:
        raise CohortError(f"{file}: column 'code' is empty in {code.null_count} rows; fill it.")
    return pa.table(
        {
            "subject_id": subject,
            "time": pc.fill_null(micro, int(STATIC)),
            "code": _encoded(code, file, "code"),
            "value": _numbers(table, file),
            "text": _encoded(_texts(table), file, "text_value"),
        }
    )


def _numbers(table: pa.Table, file: Path) -> pa.ChunkedArray:
    for name in ("numeric_value", "value"):
        if name not in table.column_names:
            continue
        column = table[name]
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            return pc.cast(column, pa.float32(), safe=False)
        if pa.types.is_null(column.type):
            continue
        if name == "numeric_value":
            raise CohortError(f"{file}: column '{name}' holds {column.type}; use float32.")
    return pa.chunked_array([pa.nulls(len(table), pa.float32())])


def _texts(table: pa.Table) -> pa.ChunkedArray:
    for name in ("text_value", "value"):
        if name in table.column_names:
            kind = table[name].type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                return table[name]
    return pa.chunked_array([pa.nulls(len(table), pa.string())])


def _encoded(column: pa.ChunkedArray, file: Path, name: str) -> pa.ChunkedArray:
    try:
        if pa.types.is_dictionary(column.type):
            # As the file has them: writing them out and gathering them again takes far longer.
            kept = [
                pa.DictionaryArray.from_arrays(
                    pc.cast(chunk.indices, pa.int32()), pc.cast(chunk.dictionary, pa.large_string())
                )
                for chunk in column.chunks
            ]
            return pa.chunked_array(kept, pa.dictionary(pa.int32(), pa.large_string()))
        return pc.dictionary_encode(pc.cast(column, pa.large_string()))
    except pa.ArrowException as error:
        raise CohortError(f"{file}: column '{name}' holds {column.type}; use string.") from error


def _decoded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Indices (-1 where null) and the distinct strings of a dictionary column."""
    if not len(column):
        return np.empty(0, np.int32), ()
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    index = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
    return np.asarray(index, np.int32), tuple(array.dictionary.to_pylist())
