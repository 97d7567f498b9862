"""ECGs and echoes as a cohort: WFDB and DICOM files of patients of whom nothing else is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.cohort.importers.following import following_spec, write_absent
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.told import tell_problems
from analysis.cohort.readers.bounds import read_dicom
from analysis.cohort.readers.echo import Cine, Still, is_still, read_cine, read_still
from analysis.cohort.readers.echo_header import VIEWS, view_name
from analysis.cohort.readers.signal import Signal, read_signal
from analysis.cohort.schema import CohortError, CohortSpec, Split, read_spec, write_spec
from analysis.cohort.write import (
    atomic_folder,
    write_cine,
    write_imaging,
    write_outcomes,
    write_signal,
    write_still,
    write_subjects,
)
from models.contracts import Kind

Note = Callable[[str], None]
_BESIDE = (".dat", ".xyz", ".atr", ".txt", ".md", ".csv", ".json")


@dataclass
class _Patient:
    """What was found of one patient."""

    name: str
    ecg: tuple[Path, Signal] | None = None
    cines: dict[str, Cine] = field(default_factory=dict)
    stills: list[Still] = field(default_factory=list)


def import_recordings(
    src: Path,
    out: Path,
    like: Path,
    views: Mapping[str, str] | None = None,
    note: Note | None = None,
    identities: Identities | None = None,
) -> CohortSpec:
    """Write a cohort folder from `src`, with the tasks and modalities of the cohort `like`.

    src: a folder of patient folders; or a folder, or a single file, of one patient. An ECG is a
    WFDB record (.hea) or a DICOM waveform, the first by name counts; a cine is a multi-frame
    ultrasound DICOM. views: {file name: view} where neither the header nor the file's name says
    which view it is; such a cine is set aside otherwise. Stills and spectral Doppler come along to
    be shown; no model reads them.
    Samples and frames are written anew, so names and dates of the headers stay behind.
    identities: how names of folders become ids; as they are where not said.

    Raises CohortError when nothing usable is there, a named view is unknown, or `like` does not
    have exactly one modality of the kind that was found.
    """
    identities = identities or Identities()
    model = read_spec(Path(like))
    say = note or (lambda _: None)
    named = dict(views or {})
    unknown = sorted(set(named.values()) - set(VIEWS))
    if unknown:
        raise CohortError(f"there is no view '{unknown[0]}'; choose one of {', '.join(VIEWS)}.")
    patients = [_read(name, files, named, say) for name, files in _folders(Path(src)).items()]
    patients = [p for p in patients if p.ecg is not None or p.cines]
    if not patients:
        raise CohortError(
            f"{src}: holds no ECG (WFDB or DICOM waveform) and no ultrasound cine of a known view; "
            "name another folder, or the views with --view FILE=VIEW."
        )
    ecg = _modality(model, like, Kind.SIGNAL) if any(p.ecg for p in patients) else None
    echo = _modality(model, like, Kind.VIDEO) if any(p.cines for p in patients) else None
    with atomic_folder(Path(out)) as folder:
        rows: list[dict[str, object]] = []
        for subject, patient in enumerate(patients, start=1):
            if patient.ecg is not None:
                signal = patient.ecg[1]
                path = Path(str(ecg)) / f"{subject}.hea"
                write_signal(folder / path, signal.array, signal.leads, signal.rate_hz)
                rows.append(_row(ecg, subject, path, "12-lead"))
            for view, cine in patient.cines.items():
                path = Path(str(echo)) / str(subject) / f"{view}.dcm"
                step = float(cine.frame_times_ms[1] - cine.frame_times_ms[0])
                write_cine(
                    folder / path,
                    cine.frames,
                    step,
                    cine.mm_per_pixel,
                    view,
                    (out.name, subject),
                    frame_times_ms=() if _even(cine) else cine.frame_times_ms.tolist(),
                    r_waves_ms=cine.r_waves_ms,
                    rate_bpm=cine.rate_bpm,
                    ecg=cine.ecg,
                )
                rows.append(_row(echo, subject, path, view))
            for at, still in enumerate(patient.stills if echo else (), start=1):
                path = Path(str(echo)) / str(subject) / f"still-{at}.dcm"
                names = (out.name, subject, at)
                write_still(folder / path, still.picture, still.kind, still.view, names)
                rows.append(_row(echo, subject, path, still.view))
        ids = list(range(1, len(patients) + 1))
        write_subjects(
            folder,
            pd.DataFrame(
                {
                    "subject_id": ids,
                    "split": str(Split.EXTERNAL),
                    "source_id": identities.names(p.name for p in patients),
                }
            ),
        )
        columns = ("subject_id", "task", "time_days", "event", "label")
        write_outcomes(folder, pd.DataFrame({name: [] for name in columns}))
        write_imaging(folder, pd.DataFrame(rows))
        spec = following_spec(
            model,
            [n for n in (ecg, echo) if n],
            "recordings",
            f"Imported recordings ({Path(out).name})",
            f"{len(patients)} patients without outcomes.",
        )
        spec = spec.model_copy(update={"pseudonyms": identities.pseudonyms})
        write_absent(folder, spec)
        write_spec(spec, folder)
    tell_problems(Path(out), note)
    return spec


def _even(cine: Cine) -> bool:
    steps = np.diff(cine.frame_times_ms)
    return bool(np.ptp(steps) < 0.01)


def _row(modality: str | None, subject: int, path: Path, view: str | None) -> dict[str, object]:
    return {"modality": modality, "subject_id": subject, "path": path.as_posix(), "view": view}


def _modality(spec: CohortSpec, folder: Path, kind: Kind) -> str:
    found = [n for n, m in spec.modalities.items() if m.kind is kind]
    if len(found) != 1:
        raise CohortError(
            f"{folder}: has {len(found)} modalities of kind '{kind}'; recordings can follow a "
            "cohort with exactly one."
        )
    return found[0]


def _folders(src: Path) -> dict[str, list[Path]]:
    """{patient: files}, by name."""
    if not src.exists():
        raise CohortError(f"{src}: there is no such file or folder; name one with recordings.")
    if src.is_file():
        return {src.stem: [src]}
    entries = sorted(p for p in src.iterdir() if not p.name.startswith("."))
    folders = {
        p.name: sorted(q for q in p.rglob("*") if q.is_file()) for p in entries if p.is_dir()
    }
    files = [p for p in entries if p.is_file() and p.suffix.lower() not in _BESIDE]
    return folders | ({src.name: files} if files else {})


def _read(name: str, files: list[Path], views: Mapping[str, str], say: Note) -> _Patient:
    patient = _Patient(name)
    for path in files:
        if path.suffix.lower() in _BESIDE:
            continue
        if path.suffix.lower() == ".hea" or _is_waveform(path):
            if patient.ecg is None:
                signal = read_signal(path)
                patient.ecg = (path, signal)
                say(f"{path.name}: ECG, {len(signal.leads)} leads, {signal.seconds:g} s")
            else:
                say(f"{path.name}: set aside, the patient has an ECG already")
        elif _is_dicom(path):
            _cine(patient, path, views, say)
        else:
            say(f"{path.name}: set aside, neither WFDB nor DICOM")
    return patient


def _cine(patient: _Patient, path: Path, views: Mapping[str, str], say: Note) -> None:
    if is_still(path):
        still = read_still(path)
        patient.stills.append(still)
        say(f"{path.name}: {still.kind}, shown but not read by a model")
        return
    cine = read_cine(path)
    view = views.get(path.name) or cine.view or view_name(path.stem)
    if view is None:
        say(f"{path.name}: set aside, its view is not named; give --view {path.name}=VIEW")
    elif view in patient.cines:
        say(f"{path.name}: set aside, the patient has a cine of {view} already")
    else:
        patient.cines[view] = cine
        say(f"{path.name}: {view}, {len(cine.frames)} frames")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _is_waveform(path: Path) -> bool:
    """Whether it is a waveform and nothing else: a cine may carry an ECG beside its frames."""
    if not _is_dicom(path):
        return False
    try:
        header = read_dicom(path, stop_before_pixels=True)
        return "WaveformSequence" in header and "Rows" not in header
    except Exception:  # whatever pydicom says of a damaged file: it is no waveform
        return False
