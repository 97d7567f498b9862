"""Writes ECGs as WFDB records and echo cines as DICOM; the same data give the same bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000Lossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from analysis.cohort.readers.echo_ecg import CineECG
from analysis.cohort.schema import CohortError

_MISSING = -32768  # of WFDB's format 16
_VOLTAGES = ("mV", "uV", "nV", "V")
_COLOUR_FLOW, _TISSUE, _TWO_D, _CENTIMETRES = 2, 1, 1, 3
# Region Spatial Format and Region Data Type of pictures without motion.
_STRIPS = {"spectral Doppler": (3, 3), "M-mode": (2, 1)}


def write_signal(
    path: Path,
    array: npt.NDArray[np.floating],
    leads: Sequence[str],
    rate_hz: float,
    *,
    start: datetime | None = None,
    steps_per_mv: float = 200.0,
) -> Path:
    """Write a WFDB record: `path` (.hea) and the samples beside it (.dat, format 16).

    array: (L, N) mV, NaN where not recorded. Rounded to 1 / steps_per_mv (200: 5 uV, as
    MIMIC-IV-ECG has it). start: time of sample 0, to the second. Raises CohortError on other
    shapes, on voltages beyond the format's range, and on a name that WFDB does not allow.
    """
    path = Path(path)
    if path.suffix != ".hea" or not re.fullmatch(r"[A-Za-z0-9_-]+", path.stem):
        raise CohortError(
            f"{path}: no name for a WFDB record; use letters, digits, _ and -, and end it in .hea."
        )
    if array.ndim != 2 or len(array) != len(leads) or not array.size:
        raise CohortError(
            f"{path}: cannot write {array.shape} for {len(leads)} leads; give (leads, samples)."
        )
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise CohortError(f"{path}: a rate of {rate_hz} Hz is not positive; give Hz.")
    steps = np.rint(np.asarray(array, np.float64) * steps_per_mv)
    steps[np.isnan(steps)] = _MISSING
    if (np.abs(np.where(steps == _MISSING, 0, steps)) > 32767).any():
        raise CohortError(
            f"{path}: a voltage beyond {32767 / steps_per_mv:.0f} mV does not fit; give mV, or "
            "fewer steps_per_mv."
        )
    samples = steps.astype("<i2")
    clock = "" if start is None else f" {start:%H:%M:%S} {start:%d/%m/%Y}"
    lines = [f"{path.stem} {len(leads)} {rate_hz:.10g} {samples.shape[1]}{clock}"]
    for name, row in zip(leads, samples, strict=True):
        checksum = np.int64(row.astype(np.int64).sum()).astype(np.int16)
        lines.append(
            f"{path.stem}.dat 16 {steps_per_mv:.10g}(0)/mV 16 0 {row[0]} {checksum} 0 {name}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".dat").write_bytes(np.ascontiguousarray(samples.T).tobytes())
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
    return path


def write_cine(
    path: Path,
    frames: npt.NDArray[np.uint8],
    frame_time_ms: float,
    mm_per_pixel: float | None,
    view: str,
    ids: Sequence[object] | str | int,
    *,
    frame_times_ms: Sequence[float] = (),
    r_waves_ms: Sequence[float] = (),
    rate_bpm: float | None = None,
    ecg: CineECG | None = None,
) -> Path:
    """Write an Ultrasound Multi-frame DICOM file, compressed without loss.

    frames: (F, H, W) or (F, H, W, 3) uint8 RGB; gray RGB is stored as gray. mm_per_pixel: scale,
    None where not known. view: name out of `readers.echo.VIEWS`. ids: what names the patient and
    the study, e.g. (cohort, subject); with the view it gives the UIDs. frame_times_ms: of each
    frame from the first on, where they are uneven. r_waves_ms: times of R waves from the first
    frame on; rate_bpm: heart rate; ecg: as a waveform beside the frames;
    each is left out where it is not known. Raises CohortError on another shape or type, fewer
    than two frames, or a time or scale that is not positive.
    """
    path = Path(path)
    frames = np.asarray(frames)
    right = frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)
    if frames.dtype != np.uint8 or not right or len(frames) < 2 or not frames.size:
        raise CohortError(
            f"{path}: cannot write {frames.shape} {frames.dtype}; give uint8 (F, H, W) or "
            "(F, H, W, 3) with at least two frames."
        )
    if not (np.isfinite(frame_time_ms) and frame_time_ms > 0):
        raise CohortError(f"{path}: {frame_time_ms} ms a frame is not positive; give ms.")
    if mm_per_pixel is not None and not (np.isfinite(mm_per_pixel) and mm_per_pixel > 0):
        raise CohortError(f"{path}: {mm_per_pixel} mm a pixel is not positive; give mm.")
    if frames.ndim == 4 and (frames == frames[..., :1]).all():
        frames = frames[..., 0]
    names = [str(ids)] if isinstance(ids, str | int) else [str(part) for part in ids]
    content = _cine_header(frames, frame_time_ms, view, names)
    if mm_per_pixel is not None:
        content.SequenceOfUltrasoundRegions = [_region(frames, mm_per_pixel)]
    if len(frame_times_ms) == len(frames):
        content.FrameIncrementPointer = Tag("FrameTimeVector")
        content.FrameTimeVector = [f"{step:.10g}" for step in np.diff(frame_times_ms, prepend=0.0)]
    if len(r_waves_ms):
        content.RWaveTimeVector = [float(time) for time in r_waves_ms]
    if rate_bpm is not None:
        content.HeartRate = round(rate_bpm)
    if ecg is not None:
        content.WaveformSequence = [_waveform(ecg)]
    _compress(content, np.ascontiguousarray(frames))
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(path, enforce_file_format=True)
    return path


def write_still(
    path: Path,
    picture: npt.NDArray[np.uint8],
    kind: str,
    view: str | None,
    ids: Sequence[object],
) -> Path:
    """Write a single ultrasound picture (H, W, 3) as DICOM, as `write_cine` does a loop.

    kind: 'still', 'spectral Doppler' or 'M-mode', told by the picture's region. view: None where
    not known. ids: what names the picture; they give its UIDs. Raises CohortError on another
    shape or type.
    """
    path = Path(path)
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise CohortError(f"{path}: cannot write {picture.shape} {picture.dtype}; give uint8 RGB.")
    frames = picture[None]
    if (frames == frames[..., :1]).all():
        frames = frames[..., 0]
    content = _cine_header(frames, 1.0, view or "", [str(part) for part in ids])
    for name in ("NumberOfFrames", "FrameIncrementPointer", "FrameTime"):
        delattr(content, name)
    content.SOPClassUID = content.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    if kind in _STRIPS:
        region = _region(frames, 1.0)
        region.RegionSpatialFormat, region.RegionDataType = _STRIPS[kind]
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 0  # not known
        content.SequenceOfUltrasoundRegions = [region]
    _compress(content, np.ascontiguousarray(frames))
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(path, enforce_file_format=True)
    return path


def _uid(*parts: str) -> str:
    """A UID of the UUID-derived root, made of what it names instead of a clock."""
    return f"2.25.{int.from_bytes(hashlib.sha256(chr(0).join(parts).encode()).digest()[:16])}"


def _cine_header(
    frames: npt.NDArray[np.uint8], frame_time_ms: float, view: str, names: Sequence[str]
) -> Dataset:
    colour = frames.ndim == 4
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = _uid("instance", *names, view)
    meta.ImplementationClassUID = _uid("implementation", "fusionlens")
    meta.ImplementationVersionName = "FUSIONLENS"
    out = Dataset()
    out.file_meta = meta
    out.SOPClassUID = meta.MediaStorageSOPClassUID
    out.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    out.StudyInstanceUID = _uid("study", *names)
    out.SeriesInstanceUID = _uid("series", *names, view)
    out.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    out.Modality = "US"
    out.SeriesDescription = view
    out.PatientName = out.PatientID = "-".join(names)
    for name in ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        setattr(out, name, "")
    for name in ("PatientBirthDate", "PatientSex", "Manufacturer", "PatientOrientation"):
        setattr(out, name, "")
    out.SeriesNumber, out.InstanceNumber = 1, 1
    out.NumberOfFrames = len(frames)
    out.FrameIncrementPointer = Tag("FrameTime")
    out.FrameTime = f"{frame_time_ms:.10g}"
    out.UltrasoundColorDataPresent = int(colour)
    out.LossyImageCompression = "00"
    out.Rows, out.Columns = frames.shape[1:3]
    out.SamplesPerPixel = 3 if colour else 1
    out.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        out.PlanarConfiguration = 0
    out.BitsAllocated = out.BitsStored = 8
    out.HighBit, out.PixelRepresentation = 7, 0
    return out


def _region(frames: npt.NDArray[np.uint8], mm_per_pixel: float) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = _TWO_D
    region.RegionDataType = _COLOUR_FLOW if frames.ndim == 4 else _TISSUE
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1 = frames.shape[2] - 1
    region.RegionLocationMaxY1 = frames.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = _CENTIMETRES
    region.PhysicalDeltaX = region.PhysicalDeltaY = mm_per_pixel / 10
    return region


def _waveform(ecg: CineECG) -> Dataset:
    """One channel of 16 bits, its steps as fine as its range allows."""
    largest = float(np.abs(ecg.values).max()) or 1.0
    sensitivity = float(f"{largest / 32767 * 1.0001:.9g}")
    source, channel, group = Dataset(), Dataset(), Dataset()
    source.CodeValue, source.CodingSchemeDesignator = "2:0", "MDC"
    source.CodeMeaning = "ECG, lead not stated"
    channel.ChannelSourceSequence = [source]
    channel.WaveformBitsStored = 16
    if ecg.unit in _VOLTAGES:  # a file may call its unit anything, and that is not carried on
        unit = Dataset()
        unit.CodeValue = unit.CodeMeaning = ecg.unit
        unit.CodingSchemeDesignator = "UCUM"
        channel.ChannelSensitivity = f"{sensitivity:.9g}"
        channel.ChannelSensitivityUnitsSequence = [unit]
        channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = "1", "0"
    group.MultiplexGroupTimeOffset = f"{ecg.start_ms:.10g}"
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels = 1
    group.NumberOfWaveformSamples = len(ecg.values)
    group.SamplingFrequency = f"{1000 / ecg.step_ms:.10g}"
    group.ChannelDefinitionSequence = [channel]
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    group.WaveformData = np.rint(ecg.values / sensitivity).astype("<i2").tobytes()
    group["WaveformData"].VR = "OW"
    return group


def _compress(content: Dataset, frames: npt.NDArray[np.uint8]) -> None:
    """JPEG 2000 without loss (small, fast) where it is installed and fits, else RLE."""
    colour = frames.ndim == 4
    # Wavelets halve the picture five times, so smaller ones cannot be encoded.
    fits = min(frames.shape[1:3]) >= 32 and get_encoder(JPEG2000Lossless).is_available
    syntax = JPEG2000Lossless if fits else RLELossless
    if colour and syntax == JPEG2000Lossless:
        content.PhotometricInterpretation = "YBR_RCT"  # the reversible colour transform
    stream = get_encoder(syntax).iter_encode(
        frames if len(frames) > 1 else frames[0],
        rows=frames.shape[1],
        columns=frames.shape[2],
        number_of_frames=len(frames),
        samples_per_pixel=3 if colour else 1,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation=content.PhotometricInterpretation,
        **({"planar_configuration": 0} if colour else {}),
    )
    content.file_meta.TransferSyntaxUID = syntax
    content.PixelData = encapsulate(list(stream))
    content["PixelData"].VR = "OB"
