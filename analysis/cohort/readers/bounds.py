"""What a header claims against the file that it heads, before any memory is asked for.

There is no largest scan here: a file may be as large as it is. But one that is not compressed has
the bytes that its header claims, and one that is compressed shrinks no more than images do.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from analysis.cohort.schema import CohortError

MOST_SHRUNK = 1000
"""Times that an image may be larger than its file; ultrasound stays below 100, scans below 10."""
ALWAYS_FINE = 64 << 20
_GZIP_LIMIT = 1032  # no deflate stream is denser
_SPACINGS_MM = (1e-3, 1e3)
_MOST_GROWN = 64
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def check_voxels(
    path: Path, shape: Sequence[int], width: int, offset: int, packed: bool, sparse: bool
) -> None:
    """Whether a NIfTI file can hold the voxels that its header claims.

    width: bytes of a voxel. packed: gzip. sparse: a mask, most of which may be zero. Raises
    CohortError where the file is too small for them.
    """
    claimed, there = prod(map(int, shape)) * width + max(0, int(offset)), path.stat().st_size
    limit = there if not packed else there * _GZIP_LIMIT + 1024
    if packed and not sparse and claimed > 4 * ALWAYS_FINE:
        limit = min(limit, there * _GZIP_LIMIT // 4)
    if claimed > limit:
        raise CohortError(
            f"{path}: its header claims {claimed:,} bytes, which a file of {there:,} bytes cannot "
            "hold, perhaps truncated; copy it again."
        )


def check_spacing(path: Path, steps_mm: npt.ArrayLike) -> None:
    """Raises CohortError for voxels smaller than a micrometre or larger than a metre."""
    steps = np.asarray(steps_mm, np.float64)
    low, high = _SPACINGS_MM
    if not ((steps >= low) & (steps <= high)).all():
        told = " x ".join(f"{step:.3g}" for step in steps)
        raise CohortError(f"{path}: states voxels of {told} mm, as no scan has; write the true.")


def check_grown(path: Path, old: Sequence[int], new: Sequence[int], why: str) -> None:
    """Raises CohortError where a grid would become far larger than what was read."""
    before, after = prod(map(int, old)), prod(map(int, new))
    if after > max(ALWAYS_FINE, _MOST_GROWN * before):
        raise CohortError(
            f"{path}: {why} would make {after:,} voxels of {before:,}; correct its spacing and "
            "orientation, or ask for a coarser one."
        )


def check_pixels(path: Path, pixels: int) -> None:
    """Raises CohortError where a DICOM file of that size cannot hold so many pixels."""
    there = path.stat().st_size
    if pixels > max(ALWAYS_FINE // 4, MOST_SHRUNK * there):
        raise CohortError(
            f"{path}: its header claims {pixels:,} pixels, which a file of {there:,} bytes cannot "
            "hold; copy it again."
        )


def read_dicom(path: Path, **options: Any) -> pydicom.Dataset:
    """`pydicom.dcmread` that unpacks no more of a deflated file than images shrink.

    Raises ValueError for such a file and for one nested without end, else what pydicom raises.
    """
    with path.open("rb") as stream:
        if _DEFLATED in stream.read(2048):
            stream.seek(0)
            _check_deflated(stream.read())
    try:
        return pydicom.dcmread(path, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _check_deflated(raw: bytes) -> None:
    """The stream begins behind the meta header, whose length is its first element."""
    unpacker, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    piece = raw[144 + int.from_bytes(raw[140:144], "little") :]
    while piece:
        try:
            total += len(unpacker.decompress(piece, 1 << 20))
        except zlib.error:
            return  # pydicom says so, too
        piece = unpacker.unconsumed_tail
        if total > max(ALWAYS_FINE, MOST_SHRUNK // 10 * len(raw)):
            raise ValueError("it unpacks to far more than its size")
