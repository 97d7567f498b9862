"""Reads .npz files of plain numbers, no larger than they can honestly be."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

ALWAYS_FINE = 256 << 20
MOST_SHRUNK = 100
"""Times that the arrays may be larger than their file, beyond ALWAYS_FINE."""


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file by name; nothing is unpickled.

    Raises FileNotFoundError where there is none, and ValueError with the reason in a few words
    when it is damaged, holds anything but numbers, or claims more than it can hold.
    """
    allowed = max(ALWAYS_FINE, MOST_SHRUNK * path.stat().st_size)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > allowed:
                raise ValueError("its arrays would be far larger than the file")
            return {
                part.filename.removesuffix(".npy"): _array(archive, part)
                for part in archive.infolist()
            }
    except ValueError:
        raise
    except Exception as error:  # a damaged archive makes zipfile raise anything
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(part) as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, kind = read(stream)
        if kind.hasobject or kind.kind not in "biuf" or any(side < 0 for side in shape):
            raise ValueError("it holds something else than numbers")
        size = prod(shape) * kind.itemsize
        if size > part.file_size:
            raise ValueError("an array claims more numbers than there are")
        raw = stream.read(size)
    flat = np.frombuffer(raw, kind)
    return flat.reshape(shape, order="F" if by_columns else "C")
