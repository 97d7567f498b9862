"""Lies in tables: parquet files with other types, shapes, names and far too many rows."""

from __future__ import annotations

import io
import struct
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.fuzz.mutate import Mutation
from tests.fuzz.texts import odd_value

_MOST_ROWS = 10_000


def _table(data: bytes) -> pa.Table:
    if pq.read_metadata(io.BytesIO(data)).num_rows > _MOST_ROWS:
        raise ValueError("a bomb, which would go off in the generator")
    return pq.read_table(io.BytesIO(data), use_threads=False)


def _bytes(table: pa.Table, rng: Random | None = None, **options: Any) -> bytes:
    out = io.BytesIO()
    if rng is not None:
        options["compression"] = rng.choice(("none", "snappy", "zstd", "gzip", "lz4", "brotli"))
        options["use_dictionary"] = rng.random() < 0.7
        options["version"] = rng.choice(("1.0", "2.4", "2.6"))
        options["data_page_version"] = rng.choice(("1.0", "2.0"))
    pq.write_table(table, out, **options)
    return out.getvalue()


def _odd_column(rng: Random, n: int) -> pa.Array:
    kinds = (
        lambda: pa.nulls(n),
        lambda: pa.array([rng.choice(("", "x", "\n", "\0", "y" * 9999, "é")) for _ in range(n)]),
        lambda: pa.array(np.full(n, rng.choice((np.nan, np.inf, -np.inf, 1e308, 0.5, -1)))),
        lambda: pa.array(np.full(n, rng.choice((0, 1, -1, 2**63 - 1, -(2**63))), np.int64)),
        lambda: pa.array(np.arange(n) % 2 == 0),
        lambda: pa.array([b"\xff\xfe"] * n),
        lambda: pa.array([[1.0, 2.0, 3.0]] * n),
        lambda: pa.array([[float(i)] * (i % 4) for i in range(n)]),
        lambda: pa.array([[None, 1.0, float("nan")]] * n),
        lambda: pa.array([["a", None]] * n),
        lambda: pa.array([None, [1.0]] * n)[:n],
        lambda: pa.array([{"a": 1, "b": "x"}] * n),
        lambda: pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array(["a", "b"] * n)[:n].dictionary_encode(),
        lambda: pa.array(
            np.full(n, rng.choice((0, 2**62, -(2**63) + 1))),
            pa.timestamp(rng.choice(("s", "ms", "us", "ns")), rng.choice((None, "UTC"))),
        ),
        lambda: pa.array(np.full(n, rng.choice((0, 2**31 - 1, -(2**31))), np.int32), pa.date32()),
        lambda: pa.array([0] * n, pa.time64("us")),
        lambda: pa.array([1] * n, pa.duration("us")),
        lambda: pa.array([1] * n, pa.decimal128(38, 2)),
        lambda: pa.array(np.full(n, 2**64 - 1, np.uint64)),
        lambda: pa.array(np.ones(n, np.float16)),
        lambda: pa.array(["x"] * n, pa.large_string()),
        lambda: pa.array([b"abc"] * n, pa.binary(3)),
    )
    return rng.choice(kinds)()


def change_column(rng: Random, data: bytes, other: bytes) -> bytes:
    table = _table(data)
    at = rng.randrange(table.num_columns)
    made = _odd_column(rng, table.num_rows)
    return _bytes(table.set_column(at, table.column_names[at], made), rng)


def blank_cells(rng: Random, data: bytes, other: bytes) -> bytes:
    table = _table(data)
    at = rng.randrange(table.num_columns)
    keep = pa.array([rng.random() < 0.6 for _ in range(table.num_rows)])
    column = table.column(at)
    made = pc.if_else(keep, column, pa.scalar(None, column.type))
    return _bytes(table.set_column(at, table.column_names[at], made), rng)


def odd_cells(rng: Random, data: bytes, other: bytes) -> bytes:
    """Values of the right type that make no sense."""
    table = _table(data)
    at = rng.randrange(table.num_columns)
    cells = table.column(at).to_pylist()
    for _ in range(rng.choice((1, 3)) if cells else 0):
        cells[rng.randrange(len(cells))] = odd_value(rng)
    try:
        made = pa.array(cells, table.column(at).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return change_column(rng, data, other)
    return _bytes(table.set_column(at, table.column_names[at], made), rng)


def change_columns(rng: Random, data: bytes, other: bytes) -> bytes:
    """Columns dropped, doubled, renamed, in another order; rows dropped and repeated."""
    table = _table(data)
    names, columns = list(table.column_names), list(table.columns)
    at = rng.randrange(len(names))
    how = rng.randrange(8)
    if how == 0:
        del names[at], columns[at]
    elif how == 1:
        names.append(names[at])
        columns.append(rng.choice(columns))
    elif how == 2:
        names[at] = rng.choice(("", "x", "a\nb", "y" * 5000, "subject_id", "value", "\0", "__x__"))
    elif how == 3:
        names.append("extra")
        columns.append(_odd_column(rng, table.num_rows))
    elif how == 4:
        order = list(range(len(names)))
        rng.shuffle(order)
        names, columns = [names[i] for i in order], [columns[i] for i in order]
    elif how == 5:
        return _bytes(table.slice(0, rng.choice((0, 1))), rng)
    elif how == 6:
        return _bytes(pa.concat_tables([table] * rng.choice((2, 50))), rng)
    else:
        names.extend(f"c{i}" for i in range(300))
        columns.extend([pa.nulls(table.num_rows)] * 300)
    return _bytes(pa.table(columns, names=names), rng) if columns else b"PAR1PAR1"


def in_footer(rng: Random, data: bytes, other: bytes) -> bytes:
    """Damage to the thrift structures at the end, where all sizes and places stand."""
    if len(data) < 12:
        return data
    (length,) = struct.unpack("<I", data[-8:-4])
    start = max(4, len(data) - 8 - length)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(start, len(data) - 8)
        out[at] = rng.choice((out[at] ^ (1 << rng.randrange(8)), 0, 0xFF, 0x7F, rng.randrange(256)))
    if rng.random() < 0.2:
        out[-8:-4] = struct.pack("<I", rng.choice((0, 1, length - 1, length + 1, 0xFFFFFFFF)))
    return bytes(out)


def in_pages(rng: Random, data: bytes, other: bytes) -> bytes:
    """Damage to the headers of pages; every column's first one is at a known place."""
    meta = pq.ParquetFile(io.BytesIO(data)).metadata
    places = [
        meta.row_group(g).column(c).data_page_offset
        for g in range(meta.num_row_groups)
        for c in range(meta.num_columns)
    ]
    if not places:
        return data
    at = rng.choice(places) + rng.randrange(24)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 5))) + data[at + 5 :]


@cache
def _bomb(schema: pa.Schema, groups: int, width: int) -> bytes:
    """A file of few bytes whose row groups all point at the same million of equal rows."""
    n = 1_000_000
    arrays = []
    for field in schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(n, np.int8)), pa.array(["x" * width])
            )
        elif pa.types.is_list(field.type):
            flat = pa.array(np.zeros(3, np.float32)).cast(field.type.value_type, safe=False)
            one = pa.ListArray.from_arrays(pa.array([0, 3], pa.int32()), flat)
            column = pa.concat_arrays([one] * 1000)
            column = pa.concat_arrays([column] * (n // 1000))
        else:
            zeros = np.zeros(n, bool if pa.types.is_boolean(field.type) else np.int8)
            column = pc.cast(pc.cast(pa.array(zeros), pa.int64()), field.type, safe=False)
        arrays.append(column)
    table = pa.table(arrays, names=schema.names)
    whole = _bytes(table, compression="zstd", store_schema=False)
    meta = pq.ParquetFile(io.BytesIO(whole)).metadata
    while meta.num_row_groups < groups:
        meta.append_row_groups(meta)
    footer = io.BytesIO()
    meta.write_metadata_file(footer)
    (length,) = struct.unpack("<I", whole[-8:-4])
    return whole[: -8 - length] + footer.getvalue()[4:]


def far_too_many_rows(rng: Random, data: bytes, other: bytes) -> bytes:
    schema = pq.read_schema(io.BytesIO(data)).remove_metadata()
    groups, width = rng.choice(((1024, 3), (8, 3), (1, 100_000)))
    return _bomb(schema, groups, width)


PARQUET: tuple[Mutation, ...] = (
    *(change_column, odd_cells, blank_cells, change_columns, in_footer, in_pages) * 3,
    far_too_many_rows,
)
