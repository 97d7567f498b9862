"""What the header of an echo file says: a cine or a still, how fast, which view, at what scale.

A study also holds stills and spectral Doppler strips, which show no motion; they are told by
their header and set aside without decoding a pixel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels import get_decoder

from analysis.cohort.readers.bounds import check_pixels, read_dicom
from analysis.cohort.schema import CohortError
from models.cardiac import VIEWS as VIEWS

VIEW_TITLES = {
    "A2C": "Apical two-chamber",
    "A3C": "Apical three-chamber",
    "A4C": "Apical four-chamber",
    "A5C": "Apical five-chamber",
    "Apical_Doppler": "Apical, colour Doppler",
    "Doppler_Parasternal_Long": "Parasternal long axis, colour Doppler",
    "Doppler_Parasternal_Short": "Parasternal short axis, colour Doppler",
    "Parasternal_Long": "Parasternal long axis",
    "Parasternal_Short": "Parasternal short axis",
    "SSN": "Suprasternal",
    "Subcostal": "Subcostal",
}
"""The eleven views of Zhang et al. (TGMM, section 3.3); those with Doppler are in colour."""

_ALIASES = {
    "apicaltwochamber": "A2C",
    "apicalthreechamber": "A3C",
    "apicalfourchamber": "A4C",
    "apicalfivechamber": "A5C",
    "plax": "Parasternal_Long",
    "psax": "Parasternal_Short",
    "suprasternal": "SSN",
    "suprasternalnotch": "SSN",
}
_VIEW_NAMES = {view.replace("_", "").lower(): view for view in VIEWS} | _ALIASES
# Region Spatial Format, Region Data Type and Physical Units of DICOM PS3.3, C.8.5.5.
_TWO_D, _COLOUR_FLOW, _CENTIMETRES = 1, 2, 3
_STRIPS = {3: "spectral Doppler", 2: "M-mode"}
_ASSUMED_MS = 1000 / 30


@dataclass(frozen=True)
class CineInfo:
    """What the header of a cine says.

    frames: how many. shape: (H, W) pixels. frame_times_ms: (F,) float64 from the first frame on.
    timed: false where the file does not say how fast, and 30 frames a second are assumed. view:
    out of VIEWS, None where the header names none. mm_per_pixel: None where the picture is not
    calibrated. is_colour: whether it says that it shows flow in colour; None where it does not
    say. rate_bpm: heart rate as noted by the machine. r_waves_ms: times of the R waves that the
    machine noted, from the first frame on; empty where it noted none.
    """

    frames: int
    shape: tuple[int, int]
    frame_times_ms: npt.NDArray[np.float64]
    timed: bool
    view: str | None
    mm_per_pixel: float | None
    is_colour: bool | None
    rate_bpm: float | None
    r_waves_ms: tuple[float, ...] = ()


def view_name(source: str) -> str | None:
    """The view out of VIEWS that a text names ('a4c', 'PLAX', 'Apical four chamber'), or None."""
    return _VIEW_NAMES.get(re.sub(r"[^a-z0-9]|view", "", source.lower()))


def still_kind(header: pydicom.Dataset) -> str:
    """What a file that `is_still` shows: 'still', 'spectral Doppler' or 'M-mode'."""
    formats = [int(region.get("RegionSpatialFormat", 0)) for region in _regions(header)]
    return next((words for code, words in _STRIPS.items() if code in formats), "still")


def is_still(source: Path | pydicom.Dataset) -> bool:
    """Whether a file (or its header) is a still or a spectral Doppler or M-mode strip.

    Those have a single frame, or several of which no region is a 2-D picture. Raises CohortError
    when the file cannot be read.
    """
    if isinstance(source, Path):
        with sound(source):
            return is_still(_header(source))
    header = source
    if int(header.get("NumberOfFrames") or 1) < 2:
        return True
    formats = [int(region.get("RegionSpatialFormat", 0)) for region in _regions(header)]
    return bool(formats) and _TWO_D not in formats


def probe_cine(path: Path) -> CineInfo:
    """Read the header only. Raises CohortError as `read_cine` does, save for damaged pixels."""
    with sound(path):
        return cine_info(moving_header(path))


# ---------------------------------------------------------------- header


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Damaged fields, which pydicom converts when they are first looked at, named in one place."""
    try:
        yield
    except CohortError:
        raise
    except Exception as error:  # whatever pydicom makes of a value
        raise CohortError(
            f"{path}: its DICOM header is damaged ({short(error)}); export it again."
        ) from error


def _header(path: Path) -> pydicom.Dataset:
    if not path.is_file():
        raise CohortError(f"{path}: there is no such file; put it there or correct the index.")
    try:
        return read_dicom(path, stop_before_pixels=True)
    except Exception as error:  # whatever pydicom says of a damaged file
        raise CohortError(
            f"{path}: not readable as DICOM ({short(error)}); give an ultrasound cine."
        ) from error


def moving_header(path: Path) -> pydicom.Dataset:
    """The header of a cine that can be decoded here."""
    header = picture_header(path)
    if is_still(header):
        raise CohortError(f"{path}: a still or a spectral strip, no cine; leave it out.")
    return header


def picture_header(path: Path) -> pydicom.Dataset:
    """The header of a cine or a still that can be decoded here."""
    header = _header(path)
    if int(header.get("Rows") or 0) < 1 or int(header.get("Columns") or 0) < 1:
        raise CohortError(f"{path}: the DICOM file holds no picture; give an ultrasound cine.")
    count = int(header.get("NumberOfFrames") or 1)
    if count > path.stat().st_size:
        raise CohortError(f"{path}: claims {count:,} frames, more than bytes; copy it again.")
    check_pixels(path, count * int(header.Rows) * int(header.Columns))
    syntax = header.file_meta.get("TransferSyntaxUID")
    try:
        decoder = get_decoder(syntax)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise CohortError(
            f"{path}: its transfer syntax ({getattr(syntax, 'name', syntax)}) is not read here; "
            "convert it to JPEG 2000."
        ) from error
    if not decoder.is_available:
        missing = "; or ".join(decoder.missing_dependencies).replace("; ", ", ")
        raise CohortError(
            f"{path}: no decoder for {syntax.name} is installed; install one of: {missing}."
        )
    return header


def cine_info(header: pydicom.Dataset) -> CineInfo:
    """What a cine's header says; call it within `sound`."""
    count = int(header.NumberOfFrames)
    times = _times(header, count)
    shape = int(header.Rows), int(header.Columns)
    beats = float(header.get("HeartRate") or 0)
    return CineInfo(
        frames=count,
        shape=shape,
        frame_times_ms=_even(count, _ASSUMED_MS) if times is None else times,
        timed=times is not None,
        view=header_view(header),
        mm_per_pixel=_mm_per_pixel(header, shape),
        is_colour=_says_colour(header),
        rate_bpm=beats if beats > 0 else None,
        r_waves_ms=_r_waves(header),
    )


def _times(header: pydicom.Dataset, count: int) -> npt.NDArray[np.float64] | None:
    """Time of each frame in ms by whatever the header has; None where it has nothing valid."""
    vector = np.atleast_1d(np.asarray(header.get("FrameTimeVector") or (), np.float64))
    if len(vector) == count and np.isfinite(vector).all() and (vector[1:] > 0).all():
        return np.asarray(np.cumsum(vector) - vector[0], np.float64)
    step = float(header.get("FrameTime") or 0)
    if not step > 0:
        rate = header.get("CineRate") or header.get("RecommendedDisplayFrameRate") or 0
        step = 1000 / float(rate) if float(rate) > 0 else 0.0
    return _even(count, step) if step > 0 else None


def _even(count: int, step_ms: float) -> npt.NDArray[np.float64]:
    return np.asarray(np.arange(count) * step_ms, np.float64)


def _r_waves(header: pydicom.Dataset) -> tuple[float, ...]:
    """R Wave Time Vector (0018,6060), ms; nothing where it is not finite or does not grow."""
    noted = header.get("RWaveTimeVector")
    times = np.atleast_1d(np.asarray(() if noted is None else noted, np.float64))
    sound_times = np.isfinite(times).all() and (np.diff(times) > 0).all()
    return tuple(times.tolist()) if sound_times else ()


def header_view(header: pydicom.Dataset) -> str | None:
    """The view out of VIEWS that a header names, or None."""
    codes = header.get("ViewCodeSequence") or ()
    texts = [str(code.get("CodeMeaning", "")) for code in codes]
    texts += [str(header.get(name) or "") for name in ("ViewName", "SeriesDescription")]
    return next((view for view in map(view_name, texts) if view), None)


def _regions(header: pydicom.Dataset) -> list[pydicom.Dataset]:
    return list(header.get("SequenceOfUltrasoundRegions") or ())


def picture_boxes(header: pydicom.Dataset) -> tuple[tuple[int, int, int, int], ...]:
    """First column, first row, last column + 1, last row + 1 of each 2-D region of a picture."""
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    boxes = []
    for region in _regions(header):
        if region.get("RegionSpatialFormat") == _TWO_D:
            left, top, right, bottom = (int(region.get(f"RegionLocation{n}", 0)) for n in names)
            boxes.append((left, top, right + 1, bottom + 1))
    return tuple(boxes)


def _says_colour(header: pydicom.Dataset) -> bool | None:
    if header.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"):
        return False
    kinds = [int(region.get("RegionDataType", 0)) for region in _regions(header)]
    if kinds:
        return _COLOUR_FLOW in kinds
    stated = header.get("UltrasoundColorDataPresent")
    return None if stated is None else bool(stated)


def _mm_per_pixel(header: pydicom.Dataset, shape: tuple[int, int]) -> float | None:
    """Scale of the largest calibrated 2-D region.

    None where the region reaches beyond the picture: it was resized after calibration.
    """
    best, scale = 0.0, None
    for region in _regions(header):
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        across, down = (abs(float(region.get(f"PhysicalDelta{a}") or 0)) for a in "XY")
        right, bottom = (int(region.get(f"RegionLocationMax{a}1", 0)) for a in "XY")
        left, top = (int(region.get(f"RegionLocationMin{a}0", 0)) for a in "XY")
        inside = right <= shape[1] and bottom <= shape[0]
        square = across > 0 and abs(down / across - 1) < 0.01
        area = float((right - left) * (bottom - top))
        is_picture = region.get("RegionSpatialFormat") == _TWO_D
        in_cm = units == (_CENTIMETRES, _CENTIMETRES)
        if is_picture and in_cm and inside and square and area > best:
            best, scale = area, 10 * down
    return scale


def short(error: BaseException) -> str:
    """The reason of an error on one line, cut."""
    return " ".join(str(error).split())[:120]
