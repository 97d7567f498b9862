"""What is fuzzed: for every reader its sound files, the call, and the errors it may raise.

A new reader or importer joins by one entry in READERS: writers of small sound folders (in
seeds.py), a function that reads such a folder, and, where it is not CohortError alone, its own
error. What an importer makes goes to OUT below the folder; after a refusal it must not be there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.baseline_file import read_baseline
from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.hancock import import_hancock
from analysis.cohort.importers.meds import import_meds
from analysis.cohort.importers.recordings import import_recordings
from analysis.cohort.importers.scans import import_scans
from analysis.cohort.importers.study import read_study
from analysis.cohort.importers.table import import_table
from analysis.cohort.readers.bag import read_bag
from analysis.cohort.readers.echo import (
    is_still,
    probe_cine,
    read_cine,
    read_for_model,
    read_still,
)
from analysis.cohort.readers.events import read_codes, read_events
from analysis.cohort.readers.index import feature_subjects, read_imaging, read_subjects
from analysis.cohort.readers.signal import for_model, probe_signal, read_signal
from analysis.cohort.readers.table import read_table
from analysis.cohort.readers.volume import probe_volume, read_mask, read_volume
from analysis.cohort.schema import CohortError, read_spec
from analysis.cohort.truth import read_masks
from analysis.external import load_external, open_run
from analysis.external_import import import_predictions
from analysis.features import read_features, stored_subjects
from analysis.imbalance.history import training_history
from analysis.importing.checkpoint import examine_checkpoint, import_checkpoint
from analysis.importing.model_file import read_model_file, read_vocabulary
from analysis.reporting.manifest import ManifestError, read_manifest
from analysis.store import ResultStore
from models.checkpoint import BASELINE_FILE, RunError, load_run
from models.encoders.published import read_published
from models.importing.names import compare
from models.importing.pickles import CheckpointError
from models.importing.source import open_checkpoint
from tests.fuzz import archives, images, seeds, tables, texts
from tests.fuzz.mutate import Mutation

OUT = "out"

STRUCTURED: dict[str, tuple[Mutation, ...]] = {
    ".nii": images.NIFTI,
    ".nii.gz": images.NIFTI,
    ".dcm": images.DICOM,
    ".hea": texts.WFDB,
    ".parquet": tables.PARQUET,
    ".npz": archives.NPZ,
    ".yaml": texts.YAML,
    ".json": texts.JSON,
    ".csv": texts.CSV,
    ".safetensors": archives.SAFETENSORS,
    ".pt": archives.TORCH,
    ".pth": archives.TORCH,
    ".ckpt": archives.TORCH,
    ".bin": archives.TORCH,
    ".distcp": archives.TORCH,
    ".metadata": archives.PICKLE,
}
"""Mutations that know a format, by the end of a file's name."""


@dataclass(frozen=True)
class Reader:
    """seeds: writers of small sound folders. read: reads one. refuses: the errors it may raise.

    share: of the cases, against the others. mends: it may remove what is damaged.
    """

    seeds: tuple[seeds.Writer, ...]
    read: Callable[[Path], object]
    refuses: tuple[type[Exception], ...] = (CohortError,)
    share: int = 2
    mends: bool = False


def _volume(folder: Path) -> None:
    path = next(iter(sorted(folder.glob("scan*"))), folder / "scan.nii")
    probe_volume(path)
    like = read_volume(path, (3.0, 2.0, 2.0), (8, 8, 8))
    read_volume(path)
    read_volume(path, (2.0, 2.0, 2.0))
    read_mask(path, like)


def _series(folder: Path) -> None:
    probe_volume(folder)
    read_volume(folder, (3.0, 2.0, 2.0), (8, 8, 8))
    read_volume(folder)


def _echo(folder: Path) -> None:
    path = folder / "echo.dcm"
    if is_still(path):
        read_still(path)
        return
    probe_cine(path)
    read_for_model(path, 4, 1, 8)
    read_cine(path)


def _signal(folder: Path) -> None:
    path = folder / "r.hea" if (folder / "r.hea").exists() else folder / "ecg.dcm"
    probe_signal(path)
    signal = read_signal(path)
    for_model(signal, ("I", "II", "V1"), 100.0, 2.0, (0.67, 40.0))


def _events(folder: Path) -> None:
    found = read_events(folder / "ehr")
    read_codes(folder / "ehr")
    for subject in found.subject_ids[:3].tolist():
        found.subject(subject)


def _table(folder: Path) -> None:
    path = folder / "labs.parquet"
    read_table(path if path.exists() else folder / "labs.csv", seeds.COLUMNS)


def _index(folder: Path) -> None:
    read_subjects(folder)
    read_imaging(folder / "imaging.parquet")
    feature_subjects(folder / "ct.safetensors")


def _masks(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # a patient without masks, which is no error
        read_masks(folder.parent, 1, folder.name)


def _features(folder: Path) -> None:
    path = folder / "ct.safetensors"
    stored_subjects(path)
    read_features(path, [1, 2, 3])


def _check(folder: Path) -> None:
    """The check never raises; each of its lines is held to what a sentence is held to."""
    for problem in check_cohort(folder, deep=True):
        text = str(problem)
        if "MemoryError" in text:
            raise MemoryError(text)
        _as_told(CohortError(text))


def _as_told(error: Exception) -> None:
    from tests.fuzz.cage import unlike_a_sentence

    wrong = unlike_a_sentence(str(error))
    if wrong:
        raise AssertionError(f"{wrong}: {str(error)[:300]!r}")


def _cohort(folder: Path) -> None:
    """All that a page asks of a cohort."""
    cohort = Cohort.open(folder)
    assert cohort.fingerprint
    spec = cohort.spec
    for task in spec.tasks:
        cohort.outcomes(task, cohort.subject_ids("train", task))
    _ = cohort.folds
    cohort.availability()
    _ = cohort.codes
    for name, modality in spec.modalities.items():
        if modality.kind == "volume":
            cohort.volumes(name)
        elif modality.kind == "signal":
            cohort.signals(name)
        elif modality.kind == "video":
            for views in cohort.videos(name).values():
                assert views is not None
        elif modality.kind == "events":
            cohort.usable_events(name)


def _hancock(folder: Path) -> None:
    import_hancock(folder, folder / OUT, folds=2)


def _scans(folder: Path) -> None:
    import_scans(folder / "src", folder / OUT, folder / "like")


def _recordings(folder: Path) -> None:
    import_recordings(folder / "src", folder / OUT, folder / "like")


def _study(folder: Path) -> None:
    """A cohort from a table, with its columns as a modality."""
    study = read_study(folder / "study.yaml")
    import_table(folder / "patients.csv", folder / OUT, study, name="labs")


def _record(folder: Path) -> None:
    """A cohort from a record."""
    import_meds(folder / "record", folder / OUT, read_study(folder / "study.yaml"))


def _predictions(folder: Path) -> None:
    given = sorted(folder.glob("given.*")) or [folder / "given.csv"]
    kind = "probability" if given[0].suffix == ".csv" else None
    import_predictions(given[0], folder / "cohort", "death", "given", folder / OUT, kind=kind)


def _run(folder: Path) -> None:
    run = load_run(folder)
    read_baseline(folder)
    training_history(run)


def _external(folder: Path) -> None:
    run = open_run(folder / "run")
    load_external(folder / "run")
    _ = run.hash
    if (folder / "run" / BASELINE_FILE).exists():
        read_baseline(folder / "run")


def _weights(folder: Path) -> None:
    home = folder / "weights"
    found = [p for p in sorted(home.iterdir()) if p.is_file()] if home.is_dir() else []
    single = len(found) == 1 and found[0].name not in (".metadata", "latest")
    path = found[0] if single else home
    checkpoint = open_checkpoint(path)
    for name in checkpoint.entries:
        checkpoint.read(name)
    compare(seeds.STATE, checkpoint.entries)
    read_published(path)


def _model_file(folder: Path) -> None:
    read_vocabulary(folder / "codes.json", "ehr")
    file = read_model_file(folder / "model.yaml")
    entries = {f"fusion.enc_{'a' * 40}.{n}": t for n, t in seeds.STATE.items()}
    compare(seeds.STATE, entries, file.rules)


def _checkpoint(folder: Path) -> None:
    found = examine_checkpoint(folder / "weights.pt", folder / "model.yaml")
    import_checkpoint(found, folder / OUT)


def _results(folder: Path) -> None:
    found = ResultStore(folder / "results").get(seeds.RESULT)
    if found is not None:
        assert isinstance(found.content, dict)
        assert all(isinstance(a, np.ndarray) for a in found.arrays.values())


_RUNS = (RunError, CohortError)
_IMPORTS = (CheckpointError, RunError, CohortError)
_FORMS = (
    *("zip", "legacy", "protocol 4", "state_dict", "lightning", "lightning, omegaconf"),
    *("safetensors", "safetensors shards", "bin shards", "distributed, two ranks", "deepspeed"),
)

READERS: dict[str, Reader] = {
    "nifti": Reader(
        (
            *(seeds.nifti_packed, seeds.nifti_plain, seeds.nifti_oblique, seeds.nifti_two),
            seeds.nifti_big_endian,
        ),
        _volume,
        share=4,
    ),
    "series": Reader((seeds.series,), _series, share=3),
    "echo": Reader(
        (seeds.cine_rle, seeds.cine_wavelets, seeds.cine_plain, seeds.cine_jpeg, seeds.still),
        _echo,
        share=4,
    ),
    "wfdb": Reader((seeds.record, seeds.record_packed, seeds.record_segments), _signal, share=4),
    "waveform": Reader((seeds.waveform,), _signal, share=3),
    "meds": Reader((seeds.meds,), _events, share=3),
    "table": Reader((seeds.table, seeds.table_csv), _table, share=3),
    "bag": Reader((seeds.bag,), lambda folder: read_bag(folder / "tma.parquet", 3)),
    "index": Reader((seeds.index,), _index),
    "features": Reader((seeds.features,), _features),
    "masks": Reader((seeds.masks,), _masks),
    "spec": Reader((seeds.spec_only,), read_spec, share=3),
    "check": Reader((seeds.cohort,), _check, (), share=3),
    "cohort": Reader((seeds.cohort,), _cohort, share=3),
    "hancock": Reader((seeds.hancock,), _hancock),
    "scans": Reader((seeds.scans, seeds.scan_series), _scans),
    "recordings": Reader((seeds.recordings,), _recordings),
    "study": Reader((seeds.study,), _study, share=3),
    "record": Reader((seeds.record_study,), _record, share=3),
    "predictions": Reader((seeds.predictions, seeds.predictions_csv), _predictions),
    "run": Reader((seeds.run,), _run, _RUNS, share=3),
    "external run": Reader((seeds.external_run,), _external, _RUNS),
    "weights": Reader(tuple(map(seeds.weights, _FORMS)), _weights, (CheckpointError,), share=6),
    "model.yaml": Reader((seeds.model_yaml,), _model_file, (CheckpointError,), share=3),
    "checkpoint": Reader((seeds.checkpoint,), _checkpoint, _IMPORTS),
    "results": Reader((seeds.results,), _results, (), mends=True),
    "manifest": Reader(
        (seeds.manifest,), lambda folder: read_manifest(folder / "report.json"), (ManifestError,)
    ),
}
