"""The files of one simulated heart patient: ECG, loops of the echo, and the loops' masks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from analysis.cohort.write import write_cine, write_signal
from sample_data.ecg_signal import Tracing
from sample_data.echo_loop import Loop
from sample_data.heart import ECG_RATE_HZ, LEADS
from sample_data.heart_patients import ECG, ECHO, HeartPatient

Row = dict[str, Any]


def write_records(
    folder: Path, patient: HeartPatient, tracing: Tracing | None, loops: Mapping[str, Loop]
) -> tuple[list[Row], list[Row]]:
    """Write the patient's ECG, loops and masks into the cohort's folder.

    Returns rows of imaging.parquet and of truth/echo_loops.parquet. Both records were acquired on
    the day of admission, the ECG first.
    """
    index: list[Row] = []
    told: list[Row] = []
    if tracing is not None:
        path = Path(ECG) / f"{patient.subject_id}.hea"
        acquired = patient.index_time + timedelta(minutes=25)
        write_signal(folder / path, tracing.array, LEADS, ECG_RATE_HZ, start=acquired)
        index.append(_index_row(patient, ECG, path, "12-lead", acquired))
    for at, (view, loop) in enumerate(loops.items()):
        path = Path(ECHO) / str(patient.subject_id) / f"{view}.dcm"
        names = ("simulated-hf", patient.seed, patient.subject_id)
        write_cine(
            folder / path,
            loop.frames,
            loop.frame_time_ms,
            loop.mm_per_pixel,
            view,
            names,
            r_waves_ms=loop.r_waves_ms,
            rate_bpm=patient.heart.rate_bpm,
        )
        acquired = patient.index_time + timedelta(hours=3, minutes=at)
        index.append(_index_row(patient, ECHO, path, view, acquired))
        told.append(
            {
                "subject_id": patient.subject_id,
                "view": view,
                "ed_frame": loop.ed_frame,
                "es_frame": loop.es_frame,
                "frame_time_ms": loop.frame_time_ms,
                "mm_per_pixel": loop.mm_per_pixel,
            }
        )
    if loops:
        write_masks(folder / "truth" / "echo" / f"{patient.subject_id}.npz", loops)
    return index, told


def _index_row(
    patient: HeartPatient, modality: str, path: Path, view: str, acquired: datetime
) -> Row:
    return {
        "modality": modality,
        "subject_id": patient.subject_id,
        "path": path.as_posix(),
        "view": view,
        "acquired": acquired,
    }


def write_masks(path: Path, loops: Mapping[str, Loop]) -> None:
    """Write truth/echo/ID.npz; the loops are of one size."""
    masks = {
        f"{view}.{structure}": np.packbits(mask)
        for view, loop in loops.items()
        for structure, mask in loop.masks.items()
    }
    shape = np.asarray(next(iter(loops.values())).frames.shape[:3], np.int32)
    # numpy dates the members of an archive 1980, so equal masks are equal bytes
    np.savez_compressed(path, shape=shape, **masks)  # type: ignore[arg-type]
