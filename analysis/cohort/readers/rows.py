"""Reads parquet files no larger than they can honestly be.

A few kilobytes can claim billions of rows: equal values take no room, a long text is stored once
however often it stands in a column, and row groups can share their bytes. What is read is held
against the size of the file, before it is read where the footer tells, and else before texts are
written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.cohort.schema import CohortError

MOST_GROWTH = 1000
"""Times its file that a table may take; honest ones, events with few codes, stay below 100."""
ALWAYS_FINE = 128 << 20
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_TEXT = "BYTE_ARRAY"


def read_rows(path: Path, file: pq.ParquetFile, columns: Sequence[str], encoded: bool) -> pa.Table:
    """The columns of an opened file.

    encoded: columns of repeating texts may come as dictionaries, which is how they are stored;
    else all are written out. Raises CohortError where the table would be far larger than an
    honest file of that size, and what pyarrow raises on a damaged one.
    """
    allowed = max(ALWAYS_FINE, MOST_GROWTH * path.stat().st_size)
    size, texts = _claimed(file.metadata, frozenset(columns))
    if size > allowed:
        raise CohortError(_too_large(path, size))
    if not texts:
        return _plain_table(file.read(columns=columns))
    with pq.ParquetFile(path, metadata=file.metadata, read_dictionary=texts) as again:
        table = again.read(columns=columns)
    size += sum(_written_out(column) for column in table.columns)
    if size > allowed:
        raise CohortError(_too_large(path, size))
    return table if encoded else _plain_table(table)


def _claimed(footer: Any, columns: frozenset[str]) -> tuple[int, list[str]]:
    """Bytes of the columns without texts that may repeat, and the leaves that hold such texts."""
    size, longest, texts = 0, 0, {}
    for group in range(footer.num_row_groups):
        row_group = footer.row_group(group)
        for leaf in range(footer.num_columns):
            chunk = row_group.column(leaf)
            if chunk.path_in_schema.partition(".")[0] not in columns:
                continue
            n, stored = max(0, chunk.num_values), max(0, chunk.total_uncompressed_size)
            if chunk.physical_type != _TEXT:
                size += n * _WIDTHS.get(chunk.physical_type, 16)
                continue
            size += stored
            longest += n * stored
            texts[chunk.path_in_schema] = True
    return size, list(texts) if longest > ALWAYS_FINE else []


def _written_out(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column when every row has its own."""
    total = 0
    for chunk in column.chunks:
        while pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            chunk = chunk.flatten()
        if pa.types.is_dictionary(chunk.type) and len(chunk):
            lengths = np.asarray(pc.fill_null(pc.binary_length(chunk.dictionary), 0), np.int64)
            used = np.asarray(chunk.indices.drop_null(), np.int64)
            total += int(lengths[used].sum()) + 4 * len(chunk)
    return total


def _plain_table(table: pa.Table) -> pa.Table:
    plain = pa.schema([_plain(field) for field in table.schema])
    return table if plain.equals(table.schema) else table.cast(plain)


def _plain(field: pa.Field) -> pa.Field:
    """The field with texts instead of dictionaries of texts."""
    kind = field.type
    if pa.types.is_list(kind):
        return field.with_type(pa.list_(_plain(kind.value_field)))
    if pa.types.is_large_list(kind):
        return field.with_type(pa.large_list(_plain(kind.value_field)))
    return field.with_type(kind.value_type) if pa.types.is_dictionary(kind) else field


def _too_large(path: Path, size: int) -> str:
    return (
        f"{path}: would take {size / 2**30:,.1f} GB in memory, more than {MOST_GROWTH:,} times its "
        "size, as no honest table does; write it again."
    )
