"""Lies in what holds arrays: npz, safetensors, and the archives and pickles of torch.save."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.mutate import BLIND, Mutation
from tests.fuzz.texts import change_tree, odd_value


class Trap:
    """Unpickled, it leaves a file behind, which the cage would find."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("trap", "w")


def _parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _zipped(parts: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, how)
    return out.getvalue()


def inside_zip(inner: tuple[Mutation, ...], end: str = "") -> Mutation:
    """A part changed and its checksum mended, so that the damage is seen by whoever reads it."""

    def rezipped(rng: Random, data: bytes, other: bytes) -> bytes:
        parts = _parts(data)
        names = [name for name in parts if name.endswith(end)]
        if not names:
            return data
        name = rng.choice(names)
        parts[name] = rng.choice(inner)(rng, parts[name], other)
        return _zipped(parts)

    rezipped.__name__ = "inside_zip"
    return rezipped


def in_directory(rng: Random, data: bytes, other: bytes) -> bytes:
    """Damage to the list of parts at the end."""
    at = data.rfind(b"PK\x01\x02", 0, len(data))
    start = data.find(b"PK\x01\x02")
    if start < 0:
        return data
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        place = rng.randrange(start, len(data)) if rng.random() < 0.7 else at + rng.randrange(46)
        if place < len(out):
            out[place] = rng.choice((0, 0xFF, 0x7F, 1, 8, 12, 14, 99, rng.randrange(256)))
    return bytes(out)


def parts_moved(rng: Random, data: bytes, other: bytes) -> bytes:
    """Parts dropped, renamed, compressed, doubled, added."""
    parts = _parts(data)
    name = rng.choice(list(parts))
    how = rng.randrange(6)
    if how == 0:
        del parts[name]
    elif how == 1:
        odd = rng.choice(("../x", "/x", "", "x" * 3000, "é", "a\nb", "1.npy", "archive/data/9"))
        parts[odd] = parts.pop(name)
    elif how == 2:
        return _zipped(parts, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, 14)))
    elif how == 3:
        parts |= {f"x{i}.npy": b"" for i in range(rng.choice((1, 3000)))}
    elif how == 4:
        parts[name] = rng.choice(list(parts.values()))
    else:
        return data + _zipped(parts)
    return _zipped(parts)


def _flushed(content: bytes, last: bool = False) -> bytes:
    """A piece of a deflate stream that stands alone, so that it may be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


@cache
def _bomb(name: str, head: bytes, size: int) -> bytes:
    """A zip with one part of `head` and gigabytes of zeros."""
    body = _flushed(head) + _flushed(bytes(16 << 20)) * (size >> 24) + _flushed(b"", True)
    whole = len(head) + (size >> 24 << 24)
    title = name.encode()
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(body), whole, len(title), 0)
    central = struct.pack(
        *("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 33, 0, len(body), whole, len(title)),
        *(0, 0, 0, 0, 0, 0),
    )
    end = struct.pack(
        *("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central) + len(title)),
        *(len(local) + len(title) + len(body), 0),
    )
    return local + title + body + central + title + end


def _npy(text: str, body: bytes = b"", version: int = 1) -> bytes:
    head = text.encode("latin-1") + b"\n"
    size = struct.pack(
        "<H" if version == 1 else "<I", len(head) & 0xFFFF if version == 1 else len(head)
    )
    return b"\x93NUMPY" + bytes((version, 0)) + size + head + body


def npz_bomb(rng: Random, data: bytes, other: bytes) -> bytes:
    name = next(iter(_parts(data)))
    claimed = rng.choice((3 << 30, 512))
    head = _npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({claimed},), }}")
    return _bomb(name, head, 3 << 30)


_DESCR = (
    *("<f4", "<f8", "|O", "<U1000000000", "|V0", "|S0", "<M8[us]", "<c16", "|b1", "<i8", "x", ""),
    *(">f4", "<f16", "|O8", "|V999999999"),
)
_SHAPES = (
    *("(512,)", "(10**12,)", "(1000000000000,)", "(-1,)", "()", "(0,)", "(1,)*99", "(2, 256)"),
    *(
        "(4294967296, 4294967296)",
        "('a',)",
        "(None,)",
        "(512.0,)",
        "(True,)",
        "(0, 9223372036854775807)",
    ),
)


def npy_header(rng: Random, data: bytes, other: bytes) -> bytes:
    """A header with another type or shape before the same numbers, or a pickle behind it."""
    body = data[128:]
    how = rng.randrange(6)
    if how == 0:
        out = io.BytesIO()
        np.save(out, np.array([Trap()] * 2, object), allow_pickle=True)
        return out.getvalue()
    if how == 1:
        return pickle.dumps(Trap())
    if how == 2:
        return _npy("[" * 30_000, body, 2)
    if how == 3:
        return _npy("{'descr': [('a', '<f4', (99999, 99999))], 'fortran_order': 0, 'shape': (9,)}")
    text = f"'descr': {rng.choice(_DESCR)!r}, 'shape': {rng.choice(_SHAPES)}"
    return _npy(f"{{{text}, 'fortran_order': {rng.choice(('False', 'True', '0'))}, }}", body)


NPZ: tuple[Mutation, ...] = (
    *(inside_zip((npy_header,)),) * 4,
    *(inside_zip(BLIND), in_directory, parts_moved) * 2,
    npz_bomb,
)

# ---------------------------------------------------------------- safetensors


def in_tensor_header(rng: Random, data: bytes, other: bytes) -> bytes:
    """Types, shapes, places and names of tensors other than those of the numbers behind them."""
    (length,) = struct.unpack("<Q", data[:8])
    head, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in head if name != "__metadata__"]
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(names)
        entry = head.get(name)
        how = rng.randrange(10)
        if how == 0:
            head = change_tree(rng, head)
        elif how == 1:
            head.pop(name, None)
        elif how == 2:
            head[rng.choice(("", "x", "a\nb", "y" * 2000, "\x1b[1m"))] = head.pop(name, None)
        elif not isinstance(entry, dict):
            continue
        elif how < 5:
            entry["dtype"] = rng.choice(
                ("F64", "F32", "F16", "BF16", "I64", "U8", "F8_E4M3", "x", 1)
            )
        elif how < 8:
            entry["shape"] = rng.choice(
                ([], [0], [-1], [2**62, 4], [2**63], [1] * 99, [10**9], [3, 2], [1.5], "x", None)
            )
        else:
            entry["data_offsets"] = rng.choice(
                ([0, 0], [0, 2**62], [4, 0], [-4, 0], [0, len(body)], [0], None, [0, 4], [0.0, 4.0])
            )
    return _with_header(json.dumps(head).encode("utf-8", "surrogatepass"), body)


def _with_header(head: bytes, body: bytes, length: int | None = None) -> bytes:
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head) if length is None else length) + head + body


def false_header(rng: Random, data: bytes, other: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    head, body = data[8 : 8 + length], data[8 + length :]
    how = rng.randrange(6)
    if how == 0:
        sizes = (0, 1, length - 8, length + 8, len(data), 2**31, 2**62, 2**64 - 1, 100_000_001)
        return _with_header(head, body, rng.choice(sizes))
    if how == 1:
        return _with_header(b"[" * 100_000, body)
    if how == 2:
        return _with_header(b'{"__metadata__": {"a": "' + b"x" * 4_000_000 + b'"}}', body)
    if how == 3:
        one = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
        return _with_header(b"{" + b"".join(one % i for i in range(50_000))[:-1] + b"}", b"")
    if how == 4:
        return _with_header(head.rstrip()[:-1] + b"," + head.strip()[1:], body)
    return _with_header(head, body[: len(body) // 2])


def odd_numbers(rng: Random, data: bytes, other: bytes) -> bytes:
    """NaN, infinities and extremes among the numbers."""
    (length,) = struct.unpack("<Q", data[:8])
    start = 8 + length
    if len(data) <= start + 8:
        return data
    at = start + rng.randrange(len(data) - start - 8) // 8 * 8
    odd = rng.choice((np.nan, np.inf, 1e308, -1.0))
    raw = rng.choice((struct.pack("<2f", np.nan, np.inf), struct.pack("<d", odd), b"\xff" * 8))
    raw = rng.choice((raw, struct.pack("<q", rng.choice((-1, 2**62, -(2**63), 10**9)))))
    return data[:at] + raw + data[at + 8 :]


SAFETENSORS: tuple[Mutation, ...] = (
    *(in_tensor_header, in_tensor_header, false_header, odd_numbers) * 2,
)

# ---------------------------------------------------------------- pickles


def _pickled(make: Callable[[Random], bytes]) -> Mutation:
    def hostile(rng: Random, data: bytes, other: bytes) -> bytes:
        return make(rng)

    return hostile


def in_opcodes(rng: Random, data: bytes, other: bytes) -> bytes:
    """Steps put in, and whole numbers made extreme."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(2, max(3, len(out) - 1))
        if rng.random() < 0.5:
            step = rng.choice(
                (
                    *(b"(", b")", b"]", b"}", b"0", b"1", b"2", b"R", b"b", b"s", b"u", b"a", b"e"),
                    *(b"t", b"\x85", b"\x86", b"\x87", b"\x94", b"\x93", b"\x81", b"\x92", b"Q"),
                    *(b"h\x00", b"q\x00", b"j\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"."),
                    *(b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\xff", b"B\xff\xff\xff\x7f"),
                    *(b"\x8d" + b"\xff" * 8, b"cos\nsystem\n", b"I1e9\n", b"L9L\n", b"P1\n"),
                )
            )
            out[at:at] = step
        else:
            found = [i for i, b in enumerate(out[:-5]) if b in b"KMJ"]
            if found:
                place = rng.choice(found)
                width = {0x4B: 1, 0x4D: 2, 0x4A: 4}[out[place]]
                number = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 255))
                out[place + 1 : place + 1 + width] = number.to_bytes(4, "little")[:width]
    return bytes(out)


_TRAP = pickle.dumps(Trap(), 2)
_NESTED = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
_DOUBLING = b"\x80\x02]" + b"(2t" * 200 + b"."
_PICKLES: tuple[Mutation, ...] = (
    in_opcodes,
    in_opcodes,
    _pickled(
        lambda rng: rng.choice((_TRAP, _NESTED, _DOUBLING, b"\x80\x02N.", b"\x80\x02}.", b""))
    ),
    _pickled(lambda rng: pickle.dumps({"state_dict": odd_value(rng)}, 2)),
    _pickled(lambda rng: pickle.dumps({str(odd_value(rng))[:99]: [odd_value(rng)] * 3}, 4)),
)


def _torch(rng: Random, data: bytes, other: bytes) -> bytes:
    """Damage to a file of torch.save of either form, where it has an effect."""
    if data[:2] != b"PK":
        return rng.choice(_PICKLES)(rng, data, other)
    how = rng.choice(
        (
            *(inside_zip(_PICKLES, "data.pkl"),) * 4,
            inside_zip(BLIND),
            inside_zip(BLIND, "data.pkl"),
            in_directory,
            parts_moved,
        )
    )
    return how(rng, data, other)


def torch_bomb(rng: Random, data: bytes, other: bytes) -> bytes:
    return _bomb("archive/data.pkl", b"\x80\x02]", 3 << 30)


TORCH: tuple[Mutation, ...] = (*(_torch,) * 20, torch_bomb)
PICKLE: tuple[Mutation, ...] = _PICKLES
