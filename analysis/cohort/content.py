"""What is in a file of a cohort, told apart in three steps that cost more and more.

A packed file counts by what is packed (two packings of one volume are one content), a WFDB
header by the signal files that it names, a folder by all files in it.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

_PIECE = 1 << 16
_BLOCK = 1 << 20


def size_of_content(path: Path) -> tuple[object, ...]:
    """Sizes alone; of a .gz file the checksum and size of what is packed. Raises OSError."""
    return tuple(_size(file) for file in _parts(path))


def part_of_content(path: Path) -> str:
    """sha256 of the first, middle and last 64 KB of each file. Raises OSError."""
    digest = hashlib.sha256()
    for file in _parts(path):
        if _packed(file):  # its checksum was compared, and pieces of it depend on the packing
            continue
        size = file.stat().st_size
        with file.open("rb") as stream:
            for start in (0, size // 2, max(0, size - _PIECE)):
                stream.seek(start)
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def full_content(path: Path) -> str:
    """sha256 of all bytes, unpacked where packed. Raises OSError or EOFError."""
    digest = hashlib.sha256()
    for file in _parts(path):
        try:
            with gzip.open(file) if _packed(file) else file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
        except zlib.error as error:
            raise OSError(f"{file}: {error}") from error
    return digest.hexdigest()


def _parts(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.suffix.lower() == ".hea":
        yield from _signal_files(path)
    else:
        yield path


def _signal_files(header: Path) -> list[Path]:
    """The files that a WFDB header names; the header itself where they are not there."""
    text = header.read_text(encoding="latin-1")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    names = sorted({line.split()[0] for line in lines[1:]})
    files = [header.with_name(name) for name in names]
    return files if files and all(file.is_file() for file in files) else [header]


def _packed(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def _size(file: Path) -> object:
    if not _packed(file):
        return file.stat().st_size
    # A gzip file ends in the CRC-32 and the length of what is packed (RFC 1952).
    with file.open("rb") as stream:
        stream.seek(-min(8, file.stat().st_size), 2)
        return stream.read(8)
