"""Scans as a cohort: NIfTI files and DICOM series of patients of whom nothing else is known.

The cohort follows another one: it has that cohort's tasks and modalities, so that runs trained
there can be opened on the new patients. Nobody has an outcome, and every modality but the scan is
absent, not empty.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from analysis.cohort.check_orientation import orientation_faults
from analysis.cohort.importers.following import following_spec, write_absent
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_convert import write_nifti
from analysis.cohort.importers.told import tell_problems
from analysis.cohort.readers.volume import Volume, read_volume
from analysis.cohort.schema import CohortError, CohortSpec, Split, read_spec, write_spec
from analysis.cohort.write import atomic_folder, write_imaging, write_outcomes, write_subjects
from models.contracts import Kind

Note = Callable[[str], None]
_NIFTI = (".nii", ".nii.gz")


def import_scans(
    src: Path,
    out: Path,
    like: Path,
    note: Note | None = None,
    identities: Identities | None = None,
) -> CohortSpec:
    """Write a cohort folder from `src`, with the tasks and modalities of the cohort `like`.

    src: a NIfTI file, a DICOM series folder, or a folder of either (one patient each). A DICOM
    series becomes a NIfTI file on the patient's own grid, so names and dates of its header stay
    behind. identities: how file names become ids; as they are where not said. Raises CohortError
    when nothing readable is there, or `like` has no volume modality.
    """
    identities = identities or Identities()
    model = read_spec(Path(like))
    name = _volume_modality(model, Path(like))
    found = _scans(Path(src))
    with atomic_folder(Path(out)) as folder:
        rows = []
        for subject, path in enumerate(found, start=1):
            volume = read_volume(path)
            target = Path(name) / f"{subject}.nii.gz"
            (folder / target).parent.mkdir(exist_ok=True)
            write_nifti(folder / target, volume)
            rows.append((subject, target.as_posix(), identities.name(_stem(path))))
            if note is not None:
                note(f"{path.name}: patient {subject}, {_size(volume)}")
                for fault in orientation_faults(path):  # of the source: it is written anew
                    note(f"warning: {path.name}: {fault}.")
        _write_patients(folder, name, rows)
        spec = following_spec(
            model,
            (name,),
            "scans",
            f"Imported scans ({Path(out).name})",
            f"{len(rows)} scans without outcomes.",
        )
        spec = spec.model_copy(update={"pseudonyms": identities.pseudonyms})
        write_absent(folder, spec)
        write_spec(spec, folder)
    tell_problems(Path(out), note)
    return spec


def _volume_modality(spec: CohortSpec, folder: Path) -> str:
    volumes = [n for n, m in spec.modalities.items() if m.kind is Kind.VOLUME]
    if len(volumes) != 1:
        raise CohortError(
            f"{folder}: has {len(volumes)} modalities of kind 'volume'; scans can follow a cohort "
            "with exactly one."
        )
    return volumes[0]


def _is_nifti(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_NIFTI)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _scans(src: Path) -> list[Path]:
    """The scans of a file or folder, by name."""
    if not src.exists():
        raise CohortError(f"{src}: there is no such file or folder; name one with scans.")
    if src.is_file():
        return [src]
    entries = sorted(p for p in src.iterdir() if not p.name.startswith("."))
    files = [p for p in entries if _is_nifti(p)]
    if files:
        return files
    if any(p.is_file() for p in entries):
        return [src]  # a DICOM series; read_volume says what is wrong if it is none
    series = [p for p in entries if any(q.is_file() for q in p.iterdir())]
    if not series:
        raise CohortError(
            f"{src}: holds neither NIfTI files nor DICOM series; name another folder."
        )
    return series


def _size(volume: Volume) -> str:
    d, h, w = volume.array.shape
    dz, dy, dx = volume.spacing_mm
    return f"{w} x {h} x {d} voxels of {dx:.2g} x {dy:.2g} x {dz:.2g} mm"


def _write_patients(folder: Path, modality: str, rows: list[tuple[int, str, str]]) -> None:
    ids = [subject for subject, _, _ in rows]
    subjects = pd.DataFrame(
        {"subject_id": ids, "split": str(Split.EXTERNAL), "source_id": [s for _, _, s in rows]}
    )
    write_subjects(folder, subjects)
    write_outcomes(
        folder, pd.DataFrame({"subject_id": [], "task": [], "time_days": [], "event": []})
    )
    write_imaging(
        folder,
        pd.DataFrame({"modality": modality, "subject_id": ids, "path": [p for _, p, _ in rows]}),
    )
