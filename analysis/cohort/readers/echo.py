"""Echo cines: the multi-frame ultrasound files of a study, as RGB frames with their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels import apply_color_lut, iter_pixels

from analysis.cohort.readers.echo_ecg import CineECG, cine_ecg
from analysis.cohort.readers.echo_header import (
    VIEWS,
    CineInfo,
    cine_info,
    header_view,
    is_still,
    moving_header,
    picture_header,
    probe_cine,
    short,
    sound,
    still_kind,
    view_name,
)
from analysis.cohort.schema import CohortError

__all__ = [
    "VIEWS",
    "Cine",
    "CineECG",
    "CineInfo",
    "Still",
    "centre_square",
    "for_model",
    "frame_numbers",
    "is_still",
    "probe_cine",
    "read_cine",
    "read_for_model",
    "read_still",
    "view_name",
]

# Chroma (brightest minus darkest channel) that gray tissue and burned-in text stay below.
_CHROMA, _COLOURED_SHARE = 60, 0.005


Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cine:
    """A moving picture of the heart, as stored.

    frames: (F, H, W, 3) uint8 RGB. frame_times_ms: (F,) float64, time of each frame from the
    first one of the file. timed: false where the file does not say how fast, and 30 frames a
    second are assumed. view: out of VIEWS, None where the file names none. is_colour: colour
    Doppler. mm_per_pixel: same along both sides, None where not calibrated. rate_bpm: heart rate
    noted by the machine, or None. r_waves_ms: R waves that the machine noted, from the first frame
    of the file on. ecg: what the file carries beside the frames, or None.
    """

    frames: Frames
    frame_times_ms: npt.NDArray[np.float64]
    view: str | None
    is_colour: bool
    mm_per_pixel: float | None
    timed: bool = True
    rate_bpm: float | None = None
    r_waves_ms: tuple[float, ...] = ()
    ecg: CineECG | None = None


@dataclass(frozen=True)
class Still:
    """A picture of a study that shows no motion, which no model here reads.

    picture: (H, W, 3) uint8 RGB; of a strip of several frames the last one. kind: 'still',
    'spectral Doppler' or 'M-mode'. view: out of VIEWS, None where the file names none.
    """

    picture: Frames
    kind: str
    view: str | None


def read_cine(path: Path, take: Sequence[int] | npt.NDArray[np.int64] | None = None) -> Cine:
    """Read a multi-frame ultrasound file: uncompressed, RLE, JPEG or JPEG 2000; gray or colour.

    take: numbers of the frames wanted (ascending, from 0); only these are decoded. None: all.
    Raises CohortError, one sentence, when the file is missing, no DICOM, a still, truncated, or
    compressed in a way for which no decoder is installed.
    """
    with sound(path):
        header = moving_header(path)
        info = cine_info(header)
        ecg = cine_ecg(header)
    wanted = np.arange(info.frames) if take is None else np.asarray(take, np.int64)
    frames = _decoded(path, header, None if take is None else wanted.tolist(), len(wanted))
    colour = info.is_colour
    return Cine(
        frames=frames,
        frame_times_ms=info.frame_times_ms[wanted],
        view=info.view,
        is_colour=_coloured(frames) if colour is None else colour,
        mm_per_pixel=info.mm_per_pixel,
        timed=info.timed,
        rate_bpm=info.rate_bpm,
        r_waves_ms=info.r_waves_ms,
        ecg=ecg,
    )


def read_still(path: Path) -> Still:
    """Read a file that `is_still`. Raises CohortError as `read_cine` does."""
    with sound(path):
        header = picture_header(path)
        last = int(header.get("NumberOfFrames") or 1) - 1
        kind, view = still_kind(header), header_view(header)
    return Still(_decoded(path, header, [last], 1)[0], kind, view)


def _decoded(path: Path, header: pydicom.Dataset, take: list[int] | None, count: int) -> Frames:
    """(count, H, W, 3) the frames asked for (None: all)."""
    try:
        pictures = [_rgb(one, header) for one in iter_pixels(path, raw=False, indices=take)]
        if len(pictures) != count:
            raise ValueError(f"{len(pictures)} of {count} frames")
        return np.stack(pictures)
    except Exception as error:  # decoders raise whatever they like on a damaged file
        raise CohortError(
            f"{path}: the frames cannot be decoded, perhaps truncated "
            f"({short(error)}); copy the file again."
        ) from error


# ---------------------------------------------------------------- for a model


def frame_numbers(total: int, frames: int, stride: int) -> npt.NDArray[np.int64]:
    """(frames,) which frames of a cine of `total` a model sees: every `stride`-th from the first.

    A cine that is too short starts over, as on the machine's screen: black frames would be a
    heart that stops.
    """
    return np.arange(frames, dtype=np.int64) * stride % total


def centre_square(height: int, width: int) -> tuple[int, int, int]:
    """First row, first column and side in pixels of the square that a model sees of a picture."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def for_model(cine: Cine, frames: int, stride: int, size: int) -> npt.NDArray[np.float32]:
    """(3, frames, size, size) float32 RGB, 0 to 255: the cine as a model reads it.

    Frames as `frame_numbers` picks them, cut to `centre_square`, shrunk by area or enlarged
    bicubically to size x size pixels.
    """
    picked = cine.frames[frame_numbers(len(cine.frames), frames, stride)]
    return fitted(picked, size)


def read_for_model(path: Path, frames: int, stride: int, size: int) -> npt.NDArray[np.float32]:
    """`for_model` of the file, decoding no frame that the model does not see."""
    numbers = frame_numbers(probe_cine(path).frames, frames, stride)
    distinct, back = np.unique(numbers, return_inverse=True)
    return fitted(read_cine(path, distinct).frames[back], size)


def fitted(picked: Frames, size: int) -> npt.NDArray[np.float32]:
    """(3, F, size, size) float32: frames (F, H, W, 3) cut to the centred square and resized."""
    top, left, side = centre_square(*picked.shape[1:3])
    square = np.ascontiguousarray(picked[:, top : top + side, left : left + side])
    if side != size:
        how = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
        square = np.stack([cv2.resize(frame, (size, size), interpolation=how) for frame in square])
    return np.ascontiguousarray(square.transpose(3, 0, 1, 2), np.float32)


# ---------------------------------------------------------------- pixels


def _rgb(picture: npt.NDArray[np.generic], header: pydicom.Dataset) -> Frames:
    """One decoded frame as (H, W, 3) uint8."""
    kind = str(header.PhotometricInterpretation)
    bits = int(header.BitsStored)
    if kind == "PALETTE COLOR":
        picture = apply_color_lut(picture, header)
        bits = 8 * picture.dtype.itemsize
    elif picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if bits > 8:
        picture = np.asarray(picture).astype(np.int64) >> (bits - 8)
    out = np.asarray(picture).astype(np.uint8)
    return 255 - out if kind == "MONOCHROME1" else out


def _coloured(frames: Frames) -> bool:
    """Whether colour fills more of the picture than text and an ECG line would."""
    some = frames[:: max(1, len(frames) // 4)]
    chroma = some.max(axis=3).astype(np.int16) - some.min(axis=3)
    return bool((chroma > _CHROMA).mean() > _COLOURED_SHARE)
