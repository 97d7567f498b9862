"""Readers that do what no reader may, to see that the cage notices."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz import cage
from tests.fuzz.readers import OUT, READERS, Reader

PLANTED = "planted"
MOST_SECONDS, MOST_BYTES = 0.5, 64 << 20


def _raises(folder: Path) -> None:
    raise KeyError("x")


def _babbles(folder: Path) -> None:
    raise ValueError("first line\nsecond line")


def _hangs(folder: Path) -> None:
    while True:
        pass


def _devours(folder: Path) -> None:
    assert len(bytes([1]) * (96 << 20)) == 96 << 20


def _asks_for_more_than_there_is(folder: Path) -> None:
    try:
        bytearray(1 << 40)
    except MemoryError as error:
        raise ValueError("it is too large.") from error


def _dies(folder: Path) -> None:
    ctypes.string_at(0)


def _litters(folder: Path) -> None:
    (folder / OUT).mkdir()
    (folder / OUT / "half").write_text("half a cohort")
    raise ValueError("it stopped midway.")


def _refuses(folder: Path) -> None:
    raise ValueError(f"{folder}: cannot be read; copy it again.")


SINS: dict[str, tuple[Callable[[Path], None], str]] = {
    "tracebacks": (_raises, "KeyError"),
    "babbles": (_babbles, "several lines"),
    "hangs": (_hangs, "computed for more than"),
    "devours": (_devours, "held 0.1 GB"),
    "asks for more than there is": (_asks_for_more_than_there_is, "asked for"),
    "dies": (_dies, "process died"),
    "litters": (_litters, "left a/out"),
    "refuses": (_refuses, ""),
}
"""{name: (reader, what the cage says of it)}; nothing is said of a proper refusal."""


class SinfulCage(cage.Cage):
    """A cage with tight bounds and one reader more, known in its worker and here.

    The worker comes from the same small server as any: forked off the tests themselves it would
    inherit their freed memory, and what it takes of that is no growth.
    """

    def __init__(self, name: str) -> None:
        super().__init__(partial(serve, name))


def serve(name: str, line: Connection) -> None:
    """As any worker, with the reader planted."""
    READERS[PLANTED] = Reader(READERS["manifest"].seeds, SINS[name][0], (ValueError,))
    cage.MOST_SECONDS, cage.MOST_BYTES = MOST_SECONDS, MOST_BYTES
    cage.serve(line)
