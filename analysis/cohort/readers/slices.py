"""A few slices of a volume, without the rest: enough to see in which numbers it is written."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from analysis.cohort.readers.dicom import read_some_slices
from analysis.cohort.schema import CohortError

_UNPACK_AT_MOST = 64_000_000


def sample_voxels(path: Path, slices: int = 5) -> npt.NDArray[np.float32]:
    """(V,) numbers of some slices as the file states them, slope and intercept applied.

    The slices are spread over the volume; of a packed file over its first 64 MB, because it can
    only be unpacked from its start. Raises CohortError when they cannot be read.
    """
    if path.is_dir():
        return read_some_slices(path, slices)
    try:
        image: Any = nib.load(path)
        shape = image.shape
        last = shape[2]
        if path.suffix.lower() == ".gz":
            one = int(np.prod(shape[:2])) * image.get_data_dtype().itemsize
            last = min(last, max(1, _UNPACK_AT_MOST // max(one, 1)))
        step = max(1, last // slices)
        block = image.dataobj[:, :, step // 2 : last : step]
        return np.asarray(block, np.float32).ravel()
    except (OSError, EOFError, ValueError, IndexError, zlib.error, ImageFileError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CohortError(
            f"{path}: its slices cannot be read ({reason}); copy it again."
        ) from error
