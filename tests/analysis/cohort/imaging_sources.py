"""Small files in the layouts that real sources have, made with the house's writers."""

from __future__ import annotations

import copy
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from analysis.cohort.importers.compose import creating
from analysis.cohort.importers.identities import Identities
from analysis.cohort.schema import CohortSpec, Provenance, TaskSpec
from analysis.cohort.write import write_cine, write_signal
from models.cardiac import LEADS

ZERO = pd.Timestamp("2021-03-04 12:00:00")


def make_cohort(
    out: Path,
    sources: Sequence[str],
    key: bytes = b"",
    zero: Sequence[pd.Timestamp | None] | None = None,
) -> Path:
    """A cohort of persons without any modality yet; subject k is a study of sources[k]."""
    identities = Identities(key)
    rows = [f"{source}{'' if sources.index(source) == at else f'-{at}'}"
            for at, source in enumerate(sources)]  # fmt: skip
    zero = zero or [ZERO] * len(sources)
    shift = [pd.Timedelta(microseconds=identities.shift_us(s)) for s in sources]
    n = len(sources)
    subjects = pd.DataFrame(
        {
            "subject_id": identities.numbers(rows),
            "split": [("train", "tuning", "internal")[sources.index(s) % 3] for s in sources],
            "source_id": identities.names(sources),
            "index_time": [None if z is None else z + d for z, d in zip(zero, shift, strict=True)],
        }
    )
    outcomes = pd.DataFrame(
        {
            "subject_id": subjects["subject_id"],
            "task": "mortality",
            "time_days": np.arange(n) + 10.0,
            "event": np.arange(n) % 2 == 0,
        }
    )
    spec = CohortSpec(
        name="tiny",
        title="Tiny",
        modalities={},
        tasks={"mortality": TaskSpec(kind="survival", title="Death", event_title="death")},
        provenance=Provenance(source="test"),
        pseudonyms=identities.pseudonyms,
    )
    with creating(out, spec, subjects, outcomes, lambda _: None):
        pass
    return out


def subject_of(out: Path, source: str, key: bytes = b"") -> int:
    """The subject_id of a source's person (the first of several)."""
    frame = pd.read_parquet(out / "subjects.parquet")
    name = Identities(key).name(source)
    return int(frame.loc[frame["source_id"] == name, "subject_id"].min())


def voxels(seed: int, shape: tuple[int, int, int] = (8, 7, 6)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-1000, 400, shape).astype(np.int16)


def nifti(path: Path, seed: int = 0, shape: tuple[int, int, int] = (8, 7, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-0.8, -0.8, 2.0, 1.0])
    nib.save(nib.Nifti1Image(voxels(seed, shape), affine), path)
    return path


def ct_series(
    folder: Path, patient: str, seed: int = 0, slices: int = 4, study: str = "", **fields: Any
) -> Path:
    """Uncompressed CT slices without a file ending."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = voxels(seed, (slices, 7, 8)) + 1024
    series, study = generate_uid(entropy_srcs=[str(folder)]), study or generate_uid()
    for at, plane in enumerate(stored):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.Modality, one.PatientID = "CT", patient
        one.StudyDate, one.StudyTime = "20210304", "101112"
        one.Rows, one.Columns = plane.shape
        one.PixelSpacing, one.SliceThickness = [0.8, 0.8], 2.0
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0, 0, 2.0 * at]
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.PixelData = plane.astype("<u2").tobytes()
        one["PixelData"].VR = "OW"
        for name, value in fields.items():
            setattr(one, name, copy.deepcopy(value))
        one.save_as(folder / f"IM{at:04d}", enforce_file_format=True)
    return folder


def ecg(path: Path, seed: int = 0, leads: Sequence[str] = LEADS, **more: Any) -> Path:
    """A record of 10 s at 500 Hz whose samples are multiples of 5 uV."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-200, 200, (len(leads), 5000)).cumsum(axis=1) % 800 - 400
    write_signal(path, steps / 200, leads, 500.0, **more)
    return path


def cine(path: Path, view: str = "", seed: int = 0, **fields: Any) -> Path:
    """A triangle of moving speckle on black, 64 x 80 pixels, 6 frames, 'text' at the top left."""
    frames = np.zeros((6, 64, 80), np.uint8)
    rows, columns = np.mgrid[:64, :80]
    inside = (rows > 8) & (rows < 58) & (np.abs(columns - 40) < (rows - 8) * 0.6)
    rng = np.random.default_rng(seed)
    frames[:, inside] = rng.integers(20, 200, (6, inside.sum()))
    frames[:, 1:5, 1:20:2] = 255
    write_cine(path, frames, 33.0, 0.5, view, ("source", path.stem))
    if fields:
        content = pydicom.dcmread(path)
        for name, value in fields.items():
            setattr(content, name, value)
        content.save_as(path)
    return path


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file below a folder; what is packed comes unpacked as well."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        yield str(path.relative_to(folder)), raw
        if path.suffix == ".gz":
            yield f"{path.name} unpacked", gzip.decompress(raw)
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            text = table.to_pandas().to_csv() + str(table.schema.metadata)
            yield f"{path.name} as text", text.encode()


def holding(folder: Path, secret: str) -> list[str]:
    """Files below a folder whose name or content holds a text, in any case."""
    wanted = secret.encode().lower()
    return [
        name
        for name, content in contents(folder)
        if wanted in name.encode().lower() or wanted in content.lower()
    ]
