"""Scans and recordings written anew: numbers cross over, headers stay behind.

A volume becomes int16 NIfTI on its own grid, an ECG a WFDB record, a cine DICOM with UIDs of its
own. Each file is read and written by itself, in as many processes as one likes.
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np

from analysis.cohort.importers.imaging_files import Item
from analysis.cohort.importers.masking import NO_MASKS, Masks, masked
from analysis.cohort.readers.echo import Cine, read_cine
from analysis.cohort.readers.echo_header import moving_header, picture_boxes, sound
from analysis.cohort.readers.signal import read_signal
from analysis.cohort.readers.volume import Volume, read_volume
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_cine, write_signal
from models.contracts import Kind

SUFFIX = {Kind.VOLUME: ".nii.gz", Kind.SIGNAL: ".hea", Kind.VIDEO: ".dcm"}
# Finest first: 16 bits hold 16, 32 and 163 mV.
_STEPS_PER_MV = (2000.0, 1000.0, 200.0)
_AIR_BELOW, _LEAST_RANGE = -200, 20
_MOST_JOBS, _WORTH_A_POOL = 4, 8
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """One file to write. items: the first that can be read is taken. out: without its suffix.

    names: they name the file's UIDs. start: time of the first sample, as the cohort has it.
    link: a NIfTI file is not written anew but named a second time.
    """

    items: tuple[Item, ...]
    out: Path
    names: tuple[object, ...]
    starts: tuple[datetime | None, ...]
    masks: Masks = NO_MASKS
    link: bool = False


class DiskError(ValueError):
    """A file cannot be written: no fault of what was to be read."""


@dataclass(frozen=True)
class Done:
    """What became of a job. used: which item, None where none could be read.

    problems: a sentence for each that could not. doubt: what is odd about the one that was.
    """

    used: int | None
    problems: tuple[str, ...] = ()
    doubt: str = ""


def workers(jobs: int | None, tasks: int) -> int:
    """Processes to use: as stated, else up to four where there is enough to do."""
    if jobs is not None:
        return max(1, min(jobs, tasks))
    return min(_MOST_JOBS, os.cpu_count() or 1) if tasks >= _WORTH_A_POOL else 1


def in_order(function: Callable[[T], R], tasks: Sequence[T], processes: int) -> Iterator[R]:
    """function(task) of each, in order; from worker processes where more than one is asked for."""
    if processes <= 1:
        yield from map(function, tasks)
        return
    # spawn: a forked child would inherit locks of other threads
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(function, tasks)
        except BrokenProcessPool as error:
            raise CohortError(
                "a process was ended from outside, perhaps for want of memory; use fewer --jobs."
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def convert(job: Job) -> Done:
    """Write the first item that can be read. Raises DiskError when the disk does not take it."""
    problems: list[str] = []
    for at, (item, start) in enumerate(zip(job.items, job.starts, strict=True)):
        try:
            with warnings.catch_warnings(action="ignore"):  # they quote headers
                return Done(at, tuple(problems), _write(item, job, start))
        except CohortError as error:
            problems.append(str(error))
        except OSError as error:  # reading raises CohortError: this is about writing
            raise DiskError(
                f"{job.out}: cannot be written ({error.strerror}); free some space, or name a "
                "folder you may write to."
            ) from error
    return Done(None, tuple(problems))


def _write(item: Item, job: Job, start: datetime | None) -> str:
    out = job.out.with_name(job.out.name + SUFFIX[item.kind])
    if item.kind is Kind.VOLUME:
        return _volume(item, out, job.link)
    if item.kind is Kind.SIGNAL:
        return _signal(item, out, start)
    return _cine(item, out, job)


def _volume(item: Item, out: Path, link: bool) -> str:
    volume = _read(item.path, lambda: read_volume(item.path, slices=item.files or None))
    if link and item.path.name.lower().endswith(".nii.gz"):
        try:
            os.link(item.path, out)
        except OSError as error:
            raise CohortError(
                f"{item.path}: cannot be linked ({error.strerror}); put the cohort on the same "
                "disk, or leave --link out."
            ) from error
    else:
        write_nifti(out, volume)
    lowest, highest = float(volume.array.min()), float(volume.array.max())
    if highest - lowest < _LEAST_RANGE or lowest > _AIR_BELOW:
        return (
            f"{item.path}: its voxels lie between {lowest:.0f} and {highest:.0f}, without any air; "
            "give Hounsfield units"
        )
    return ""


def write_nifti(path: Path, volume: Volume) -> Path:
    """Write a volume as int16 NIfTI (.nii.gz) with a header made of its grid alone."""
    array = np.rint(volume.array).clip(-32768, 32767).astype(np.int16).transpose(2, 1, 0)
    image = nib.Nifti1Image(array, volume.affine)
    image.header.set_xyzt_units("mm")
    with (
        path.open("wb") as stream,
        # No name and no time of a file in the gzip header.
        gzip.GzipFile("", "wb", compresslevel=2, fileobj=stream, mtime=0) as packed,
    ):
        image.to_stream(packed)
    return path


def _signal(item: Item, out: Path, start: datetime | None) -> str:
    signal = _read(item.path, lambda: read_signal(item.path))
    recorded = [at for at, lead in enumerate(signal.leads) if lead not in signal.derived]
    array = signal.array[recorded]
    if not np.isfinite(array).any():
        raise CohortError(f"{item.path}: no lead holds a sample; copy the recording again.")
    largest = float(np.nanmax(np.abs(array)))
    steps = next((s for s in _STEPS_PER_MV if largest * s <= 32766), None)
    if steps is None:
        raise CohortError(f"{item.path}: a voltage of {largest:.0f} mV is none; check its unit.")
    leads = [signal.leads[at] for at in recorded]
    write_signal(out, array, leads, signal.rate_hz, start=start, steps_per_mv=steps)
    return ""


def _cine(item: Item, out: Path, job: Job) -> str:
    cine = _read(item.path, lambda: read_cine(item.path))
    pictures = _read(item.path, lambda: _pictures(item.path))
    try:
        frames = masked(cine.frames, job.masks, pictures)
    except CohortError as error:
        raise CohortError(f"{item.path}: {error}") from error
    steps = np.diff(cine.frame_times_ms)
    even = bool(np.ptp(steps) < 0.01)
    write_cine(
        out,
        frames,
        float(steps[0]),
        cine.mm_per_pixel,
        item.view or "",
        job.names,
        frame_times_ms=() if even else cine.frame_times_ms.tolist(),
        r_waves_ms=cine.r_waves_ms,
        rate_bpm=_rate(cine),
        ecg=cine.ecg,
    )
    return "" if cine.timed else f"{item.path}: does not say how fast it is, 30 frames a second"


def _rate(cine: Cine) -> float | None:
    rate = cine.rate_bpm
    return rate if rate is not None and 10 <= rate <= 400 else None


def _pictures(path: Path) -> tuple[tuple[int, int, int, int], ...]:
    with sound(path):
        return picture_boxes(moving_header(path))


def _read(path: Path, read: Callable[[], R]) -> R:
    """What `read` gives. Whatever a damaged file makes a library raise becomes a CohortError."""
    try:
        return read()
    except CohortError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise CohortError(
            f"{path}: cannot be read ({type(error).__name__}: {reason}); copy it again."
        ) from error
