"""Damages bytes by chance: what any file can suffer, whatever its format.

A mutation takes the generator of the case, the bytes, and the bytes of another sound file, and
gives other bytes. Everything that is drawn comes from the generator, so a case is its number.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Mutation = Callable[[Random, bytes, bytes], bytes]

MOST = 8 << 20
"""Bytes beyond which a mutation stops growing a file."""
_LIMITS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WIDE = (0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 1 << 40, 1 << 32)


def _place(rng: Random, data: bytes) -> int:
    """Any byte; the first and the last ones, where headers and footers are, more often."""
    if not data:
        return 0
    where = rng.random()
    if where < 0.45:
        return rng.randrange(min(len(data), 512))
    if where < 0.65:
        return len(data) - 1 - rng.randrange(min(len(data), 512))
    return rng.randrange(len(data))


def _run(rng: Random, data: bytes) -> tuple[int, int]:
    at = _place(rng, data)
    return at, min(len(data), at + rng.choice((1, 2, 4, 8, 16, 64, 512)))


def flip_bits(rng: Random, data: bytes, other: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 32)) if out else 0):
        out[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(out)


def change_bytes(rng: Random, data: bytes, other: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16)) if out else 0):
        out[_place(rng, data)] = rng.randrange(256)
    return bytes(out)


def fill_run(rng: Random, data: bytes, other: bytes) -> bytes:
    begin, end = _run(rng, data)
    return data[:begin] + rng.choice((b"\0", b"\xff", b" ", b"9")) * (end - begin) + data[end:]


def cut(rng: Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(rng, data)]


def cut_front(rng: Random, data: bytes, other: bytes) -> bytes:
    return data[_place(rng, data) :]


def drop_run(rng: Random, data: bytes, other: bytes) -> bytes:
    begin, end = _run(rng, data)
    return data[:begin] + data[end:]


def repeat_run(rng: Random, data: bytes, other: bytes) -> bytes:
    begin, end = _run(rng, data)
    times = rng.choice((2, 3, 100, 10_000))
    if (end - begin) * times > MOST:
        times = 2
    return data[:begin] + data[begin:end] * times + data[end:]


def repeat_all(rng: Random, data: bytes, other: bytes) -> bytes:
    return data * 2 if len(data) < MOST else data


def insert(rng: Random, data: bytes, other: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 3, 4, 8, 100))) + data[at:]


def splice(rng: Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def transplant(rng: Random, data: bytes, other: bytes) -> bytes:
    begin, end = _run(rng, other)
    at = _place(rng, data)
    return data[:at] + other[begin:end] + data[at + end - begin :]


def set_number(rng: Random, data: bytes, other: bytes) -> bytes:
    """An extreme whole number where a length may stand."""
    width = rng.choice((2, 4, 4, 8))
    at = _place(rng, data) // width * width
    number = rng.choice(_LIMITS + (_WIDE if width == 8 else ())) & ((1 << 8 * width) - 1)
    return data[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def swap_bytes(rng: Random, data: bytes, other: bytes) -> bytes:
    width = rng.choice((2, 4, 8))
    at = _place(rng, data) // width * width
    return data[:at] + data[at : at + width][::-1] + data[at + width :]


def empty(rng: Random, data: bytes, other: bytes) -> bytes:
    return b""


def another(rng: Random, data: bytes, other: bytes) -> bytes:
    return other


BLIND: tuple[Mutation, ...] = (
    *(flip_bits, change_bytes, fill_run, cut, set_number, set_number, drop_run) * 2,
    *(cut_front, repeat_run, repeat_all, insert, splice, transplant, swap_bytes),
    *(empty, another),
)


def name_of(mutation: Mutation) -> str:
    """How a mutation is called in a report."""
    return getattr(mutation, "__name__", type(mutation).__name__)
