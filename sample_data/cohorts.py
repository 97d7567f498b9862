"""Writes a simulated cohort in the format of `analysis.cohort`, with its truth.

    truth/patients.parquet       subject_id, true_log_hazard, term_* (its summands), the scan's
                                 measures, active_cancer, noise_hu, has_ct, has_record
    truth/causal_codes.parquet   code, description, term, coefficient, meaning
    truth/masks/ID.npz           embolus, calcium: packed bits of the mask; shape, spacing_mm

A patient is drawn, rendered, and only then given a hazard, because the hazard counts what the
scan really shows. Patients are spread over processes in fixed chunks and each has its own random
generators, so the same seed gives the same bytes however many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.cohort.schema import (
    CohortSpec,
    ModalitySpec,
    Provenance,
    Split,
    TaskSpec,
    write_spec,
)
from analysis.cohort.truth import read_masks as read_masks
from analysis.cohort.write import (
    IMAGING_FILE,
    atomic_folder,
    write_imaging,
    write_meds,
    write_outcomes,
    write_subjects,
    write_volume,
)
from models.contracts import Kind
from sample_data.chunks import in_chunks
from sample_data.ehr import Record, code_table, simulate_record
from sample_data.hazard import HAZARDS, causal_codes, surrogate_measures
from sample_data.patients import SITE_A, CohortKind, Patient, Stream, draw_patient
from sample_data.phantom import ChestPhantom, render_chest

CT, EHR = "ct", "ehr"
_CHUNK = 16

# Patients by split. `paper` has the counts of Zhang et al. 2026 (arXiv 2606.15038), whose
# training part is divided 85 to 15 into train and tuning here.
SIZES: Mapping[str, Mapping[CohortKind, Mapping[Split, int]]] = {
    "tiny": {
        kind: {Split.TRAIN: 40, Split.TUNING: 12, Split.INTERNAL: 30, Split.EXTERNAL: 16}
        for kind in CohortKind
    },
    "small": {
        CohortKind.PE: {
            Split.TRAIN: 900, Split.TUNING: 200, Split.INTERNAL: 400, Split.EXTERNAL: 150,
        },
        CohortKind.CVD: {
            Split.TRAIN: 700, Split.TUNING: 150, Split.INTERNAL: 300, Split.EXTERNAL: 120,
        },
    },
    "paper": {
        CohortKind.PE: {
            Split.TRAIN: 2634, Split.TUNING: 465, Split.INTERNAL: 1098, Split.EXTERNAL: 435,
        },
        CohortKind.CVD: {
            Split.TRAIN: 2508, Split.TUNING: 443, Split.INTERNAL: 837, Split.EXTERNAL: 682,
        },
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CohortPlan:
    """Which patients a cohort has; their numbers run through the splits in order."""

    kind: CohortKind
    seed: int
    counts: Mapping[Split, int]

    @property
    def total(self) -> int:
        """Number of patients."""
        return sum(self.counts.values())

    def splits(self) -> list[Split]:
        """The split of each patient number."""
        return [split for split in Split for _ in range(self.counts.get(split, 0))]


def plan(kind: CohortKind | str, size: str, seed: int) -> CohortPlan:
    """The plan of a named size. Raises ValueError listing the known kinds or sizes."""
    if kind not in list(CohortKind):
        raise ValueError(f"there is no cohort '{kind}'; choose one of {', '.join(CohortKind)}")
    if size not in SIZES:
        raise ValueError(f"there is no size '{size}'; choose one of {', '.join(SIZES)}")
    kind = CohortKind(kind)
    return CohortPlan(kind=kind, seed=seed, counts=SIZES[size][kind])


# ---------------------------------------------------------------- volumes for an encoder


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A rendered CT on its way to a sink. volume: int16 HU (D, H, W).

    The external site's scans differ in shape and spacing from the others.
    """

    subject_id: int
    split: Split
    volume: np.ndarray
    spacing_mm: tuple[float, float, float]


Sink = Callable[[Sequence[Scan]], Mapping[str, np.ndarray]]
"""Given up to 16 scans, returns named arrays with one row a scan, in the same order."""

SinkFactory = Callable[[], Sink]
"""Makes a sink, once in each worker process; must be picklable (a function of a module, or a
functools.partial of one)."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What `write_cohort` wrote.

    sink_subjects: (N,) int64, ascending: the patients whose scans the sink was given.
    sink_arrays: its arrays, rows as in sink_subjects.
    """

    folder: Path
    subjects: int
    volumes: int
    sink_subjects: np.ndarray
    sink_arrays: Mapping[str, np.ndarray]


# ---------------------------------------------------------------- simulation


@dataclass(frozen=True)
class _Simulated:
    patient: Patient
    truth: dict[str, Any]
    time_days: float
    event: int


def _outcome(patient: Patient, measures: Mapping[str, float]) -> _Simulated:
    hazard = HAZARDS[patient.kind]
    terms = hazard.contributions(patient, measures)
    log_hazard = sum(terms.values())
    time_days, event = hazard.draw(log_hazard, patient.generator(Stream.OUTCOME))
    truth = {
        "subject_id": patient.subject_id,
        "true_log_hazard": log_hazard,
        **{f"term_{name}": value for name, value in terms.items()},
        **measures,
        "active_cancer": bool(patient.cancer),
        "noise_hu": patient.site.noise_hu,
        "has_ct": patient.has_ct,
        "has_record": patient.has_record,
    }
    return _Simulated(patient, truth, time_days, event)


def simulate_patients(plan: CohortPlan) -> pd.DataFrame:
    """One row a patient, without rendering: subject, split, outcome and the columns of the truth.

    CT measures come from a surrogate fitted to the phantom, so single patients differ from those
    of `write_cohort` while the population agrees. About 0.4 ms a patient.
    """
    rows = []
    for number, split in enumerate(plan.splits()):
        patient = draw_patient(plan.kind, plan.seed, number, split)
        measures = surrogate_measures(patient, patient.generator(Stream.CHEST))
        done = _outcome(patient, measures)
        rows.append(
            {
                **_subject_row(patient),
                "time_days": done.time_days,
                "event": done.event,
                **done.truth,
            }
        )
    return pd.DataFrame(rows)


def _subject_row(patient: Patient) -> dict[str, Any]:
    return {
        "subject_id": patient.subject_id,
        "split": patient.split.value,
        "site": patient.site.name,
        "age_years": patient.age_years,
        "sex": patient.sex,
        "index_time": patient.index_time,
        "source_id": f"simulated-{patient.kind}-{patient.seed}-{patient.number}",
    }


# ---------------------------------------------------------------- one chunk, in a worker


@dataclass(frozen=True)
class _Job:
    """What every chunk needs to know."""

    plan: CohortPlan
    folder: Path
    volumes_for: frozenset[Split]
    sink_for: frozenset[Split]
    sink: SinkFactory | None


@dataclass
class _Chunk:
    """What a chunk sends back; volumes stay where they were made."""

    subjects: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    imaging: list[dict[str, Any]]
    truths: list[dict[str, Any]]
    records: list[tuple[int, Record]]
    sink_subjects: list[int]
    sink_arrays: Mapping[str, np.ndarray]


_sinks: dict[str, Sink] = {}


def _start_worker(factory: SinkFactory | None) -> None:
    _sinks.clear()
    if factory is not None:
        _sinks["sink"] = factory()


def _simulate_chunk(job: _Job, numbers: range) -> _Chunk:
    chunk = _Chunk([], [], [], [], [], [], {})
    splits = job.plan.splits()
    scans: list[Scan] = []
    for number in numbers:
        patient = draw_patient(job.plan.kind, job.plan.seed, number, splits[number])
        phantom = render_chest(
            patient.chest,
            patient.generator(Stream.CHEST),
            shape=patient.site.shape,
            spacing_mm=patient.site.spacing_mm,
        )
        done = _outcome(patient, phantom.measures)
        chunk.subjects.append(_subject_row(patient))
        chunk.truths.append(done.truth)
        chunk.outcomes.append(
            {
                "subject_id": patient.subject_id,
                "task": HAZARDS[patient.kind].task,
                "time_days": done.time_days,
                "event": done.event,
            }
        )
        if patient.has_record:
            chunk.records.append((patient.subject_id, simulate_record(patient)))
        if patient.has_ct and patient.split in job.volumes_for:
            chunk.imaging.append(_write_scan(job.folder, patient, phantom))
        if patient.has_ct and patient.split in job.sink_for:
            scans.append(
                Scan(
                    subject_id=patient.subject_id,
                    split=patient.split,
                    volume=phantom.volume,
                    spacing_mm=phantom.spacing_mm,
                )
            )
    if scans and "sink" in _sinks:
        chunk.sink_subjects = [scan.subject_id for scan in scans]
        chunk.sink_arrays = dict(_sinks["sink"](scans))
        for name, array in chunk.sink_arrays.items():
            if len(array) != len(scans):
                raise ValueError(f"sink array '{name}' has {len(array)} rows, not {len(scans)}")
    return chunk


def _write_scan(folder: Path, patient: Patient, phantom: ChestPhantom) -> dict[str, Any]:
    path = Path(CT) / f"{patient.subject_id}.nii.gz"
    write_volume(folder / path, phantom.volume, phantom.spacing_mm)
    masks = folder / "truth" / "masks" / f"{patient.subject_id}.npz"
    # numpy dates the members of an archive 1980, so equal masks are equal bytes
    np.savez_compressed(
        masks,
        embolus=np.packbits(phantom.embolus),
        calcium=np.packbits(phantom.calcium),
        shape=np.asarray(phantom.volume.shape, np.int32),
        spacing_mm=np.asarray(phantom.spacing_mm, np.float32),
    )
    return {
        "modality": CT,
        "subject_id": patient.subject_id,
        "path": path.as_posix(),
        "view": "axial",
        "acquired": patient.index_time,
    }


# ---------------------------------------------------------------- the whole cohort


def write_cohort(
    plan: CohortPlan,
    out: Path,
    *,
    volumes_for: Collection[Split] | None = None,
    sink: SinkFactory | None = None,
    sink_for: Collection[Split] | None = None,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
    finish: Callable[[Path, Written], None] | None = None,
) -> Written:
    """Simulate the planned patients and write the cohort folder, whole or not at all.

    volumes_for: the splits whose CTs become files (None: all). sink: receives the CTs of the
    splits in sink_for (None: all), whether or not they become files; see SinkFactory.
    progress: called with (patients done, patients in all). finish: called with the folder under
    its temporary name and the result, to add to it (the sink's features, say) before anyone sees
    it. Raises CohortError when `out` is not an empty or new folder.
    """
    with atomic_folder(Path(out)) as folder:
        (folder / "truth" / "masks").mkdir(parents=True)
        job = _Job(
            plan=plan,
            folder=folder,
            volumes_for=frozenset(Split if volumes_for is None else volumes_for),
            sink_for=frozenset(Split if sink_for is None else sink_for) if sink else frozenset(),
            sink=sink,
        )
        chunks = []
        done = 0
        for chunk in in_chunks(
            _simulate_chunk, job, job.plan.total, _CHUNK, _start_worker, job.sink, processes
        ):
            chunks.append(chunk)
            done += len(chunk.subjects)
            if progress is not None:
                progress(done, plan.total)
        written = _write_tables(plan, folder, chunks)
        if finish is not None:
            finish(folder, written)
    return Written(
        folder=Path(out),
        subjects=written.subjects,
        volumes=written.volumes,
        sink_subjects=written.sink_subjects,
        sink_arrays=written.sink_arrays,
    )


def _write_tables(plan: CohortPlan, folder: Path, chunks: Sequence[_Chunk]) -> Written:
    subjects = pd.DataFrame([row for chunk in chunks for row in chunk.subjects])
    imaging = [row for chunk in chunks for row in chunk.imaging]
    columns = ["modality", "subject_id", "path", "view", "acquired"]
    write_subjects(folder, subjects)
    write_outcomes(folder, pd.DataFrame([row for chunk in chunks for row in chunk.outcomes]))
    write_imaging(folder, pd.DataFrame(imaging, columns=columns))
    write_meds(folder / EHR, _events([pair for chunk in chunks for pair in chunk.records]),
               code_table())  # fmt: skip
    truths = [row for chunk in chunks for row in chunk.truths]
    _write_parquet(folder / "truth" / "patients.parquet", truths)
    _write_parquet(folder / "truth" / "causal_codes.parquet", causal_codes(plan.kind))
    write_spec(cohort_spec(plan), folder)
    sink_chunks = [chunk for chunk in chunks if chunk.sink_subjects]
    names = list(sink_chunks[0].sink_arrays) if sink_chunks else []
    return Written(
        folder=folder,
        subjects=len(subjects),
        volumes=len(imaging),
        sink_subjects=np.asarray(
            [number for chunk in sink_chunks for number in chunk.sink_subjects], np.int64
        ),
        sink_arrays={
            name: np.concatenate([chunk.sink_arrays[name] for chunk in sink_chunks])
            for name in names
        },
    )


def _events(records: Sequence[tuple[int, Record]]) -> pd.DataFrame:
    sizes = [len(record) for _, record in records]
    return pd.DataFrame(
        {
            "subject_id": np.repeat(np.asarray([s for s, _ in records], np.int64), sizes),
            "time": np.concatenate([record.time for _, record in records]),
            "code": [code for _, record in records for code in record.code],
            "numeric_value": np.concatenate([record.value for _, record in records]),
            "text_value": [text for _, record in records for text in record.text],
        }
    )


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, compression="zstd")


def cohort_spec(plan: CohortPlan) -> CohortSpec:
    """What the cohort's cohort.yaml says."""
    pulmonary = plan.kind is CohortKind.PE
    hazard = HAZARDS[plan.kind]
    if pulmonary:
        title = "Simulated pulmonary embolism cohort"
        task = TaskSpec(
            kind="survival",
            title="Death within a year of CT pulmonary angiography",
            event_title="death from any cause",
            horizon_days=hazard.horizon_days,
        )
        index_event = "CT pulmonary angiography"
    else:
        title = "Simulated cardiovascular risk cohort"
        task = TaskSpec(
            kind="survival",
            title="Major adverse cardiovascular event within five years of a chest CT",
            event_title="cardiovascular death, myocardial infarction or stroke",
            horizon_days=hazard.horizon_days,
        )
        index_event = "unenhanced chest CT"
    return CohortSpec(
        name=f"{plan.kind}_simulated",
        title=title,
        description=(
            "Simulated patients of two hospitals, not real people. Outcomes follow a stated "
            "hazard; truth/ holds each patient's log-hazard, the causal codes and, where the "
            "volume is a file, the masks of emboli and coronary calcium. The external site has "
            "noisier and thicker-sliced CTs, older patients, other codes for the same things "
            "and more missing data."
        ),
        index_event=index_event,
        modalities={
            CT: ModalitySpec(
                kind=Kind.VOLUME,
                title="CT",
                path=IMAGING_FILE,
                unit="HU",
                spacing_mm=SITE_A.spacing_mm,
                shape=SITE_A.shape,
            ),
            EHR: ModalitySpec(kind=Kind.EVENTS, title="EHR", path=EHR),
        },
        tasks={hazard.task: task},
        provenance=Provenance(
            source="simulated by FusionLens (sample_data)",
            licence="MIT",
            simulated=True,
            seed=plan.seed,
        ),
        truth="truth",
    )
