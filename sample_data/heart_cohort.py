"""Writes the simulated heart-failure cohort in the format of `analysis.cohort`, with its truth.

    tables/labs.parquet            the table of `heart_labs`
    ecg/ID.hea, ecg/ID.dat         WFDB, 12 leads, 10 s
    echo/ID/VIEW.dcm               one multi-frame DICOM a recorded view
    truth/patients.parquet         subject_id, true_logit_hf, true_log_hazard_incident_hf, their
                                   summands term_TASK_NAME, the heart's state, has_MODALITY
    truth/ecg_segments.parquet     subject_id, beat, segment (P, QRS, ST, T; TQ where the atria
                                   fibrillate), start_s, end_s, carries (the findings of the task
                                   that it shows in this patient), task; both empty where none
    truth/lab_columns.parquet      task, column, term, coefficient, meaning
    truth/echo_loops.parquet       subject_id, view, ed_frame, es_frame, frame_time_ms,
                                   mm_per_pixel of the loops that are files
    truth/echo/ID.npz              packed bits of every structure's mask, named VIEW.STRUCTURE;
                                   shape (frames, height, width)

A patient's random generators are its own, and patients are spread over processes in fixed chunks,
so the same seed gives the same bytes however many processes there are. Loops are rendered only
where a file or the sink wants them.
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

from analysis.cohort.schema import CohortSpec, ModalitySpec, Provenance, Split, TaskSpec, write_spec
from analysis.cohort.write import (
    IMAGING_FILE,
    atomic_folder,
    write_imaging,
    write_outcomes,
    write_subjects,
    write_table,
)
from models.contracts import Kind
from sample_data.chunks import in_chunks
from sample_data.ecg_signal import Tracing, render_ecg
from sample_data.echo_loop import Loop, render_loop
from sample_data.heart import VIEWS, Heart
from sample_data.heart_files import write_records
from sample_data.heart_labs import LAB_COLUMNS
from sample_data.heart_outcomes import HF, HORIZON_DAYS, INCIDENT_HF, HeartOutcome, draw_outcome
from sample_data.heart_patients import (
    ECG,
    ECHO,
    LABS,
    SITE_A,
    SITE_B,
    HeartPatient,
    Stream,
    draw_heart_patient,
)
from sample_data.heart_truth import causal_columns, segment_rows, truth_row

LABS_FILE = "tables/labs.parquet"
_CHUNK = 8  # eight patients' loops are about 100 MB

# Patients by split. `paper` has the count of Zhang et al. (TGMM), divided 5 to 1 to 1; it states
# no second hospital.
SIZES: Mapping[str, Mapping[Split, int]] = {
    "tiny": {Split.TRAIN: 32, Split.TUNING: 10, Split.INTERNAL: 24, Split.EXTERNAL: 10},
    "small": {Split.TRAIN: 560, Split.TUNING: 120, Split.INTERNAL: 300, Split.EXTERNAL: 100},
    "paper": {Split.TRAIN: 1088, Split.TUNING: 218, Split.INTERNAL: 218},
}
# Share of those without heart failure who are followed up: 455 of 816 in the paper. The smaller
# sizes follow more, or too few would be left to learn from.
FOLLOWED: Mapping[str, float] = {"tiny": 0.9, "small": 0.9, "paper": 455 / 816}


@dataclass(frozen=True, kw_only=True)
class HeartPlan:
    """Which patients the cohort has; their numbers run through the splits in order.

    followed: chance that a patient without heart failure has an outcome for `incident_hf`.
    """

    seed: int
    counts: Mapping[Split, int]
    followed: float = 0.9

    @property
    def total(self) -> int:
        """Number of patients."""
        return sum(self.counts.values())

    def splits(self) -> list[Split]:
        """The split of each patient number."""
        return [split for split in Split for _ in range(self.counts.get(split, 0))]


def heart_plan(size: str, seed: int) -> HeartPlan:
    """The plan of a named size. Raises ValueError listing the known sizes."""
    if size not in SIZES:
        raise ValueError(f"there is no size '{size}'; choose one of {', '.join(SIZES)}")
    return HeartPlan(seed=seed, counts=SIZES[size], followed=FOLLOWED[size])


# ---------------------------------------------------------------- records for an encoder


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A patient's ECG and echo on their way to a sink.

    ecg: float32 mV (12, 5000) at 500 Hz in the order of LEADS, or None. loops: by view, those
    recorded; empty where the patient has no echo. heart: what they show.
    """

    subject_id: int
    split: Split
    heart: Heart
    ecg: np.ndarray | None
    loops: Mapping[str, Loop]


Sink = Callable[[Sequence[Recording]], Mapping[str, np.ndarray]]
"""Given up to 8 recordings, returns named arrays with one row a recording, in the same order."""

SinkFactory = Callable[[], Sink]
"""Makes a sink, once in each worker process; must be picklable (a function of a module, or a
functools.partial of one)."""


@dataclass(frozen=True, kw_only=True)
class HeartWritten:
    """What `write_heart_cohort` wrote.

    tracings, loops: files written. sink_subjects: (N,) int64, ascending: the patients with an ECG
    or an echo that the sink was given. sink_arrays: its arrays, rows as in sink_subjects.
    """

    folder: Path
    subjects: int
    tracings: int
    loops: int
    sink_subjects: np.ndarray
    sink_arrays: Mapping[str, np.ndarray]


# ---------------------------------------------------------------- one patient


def draw(plan: HeartPlan, number: int, split: Split) -> tuple[HeartPatient, HeartOutcome]:
    """A patient of the plan and what happens to it; the external site is B."""
    site = SITE_B if split is Split.EXTERNAL else SITE_A
    patient = draw_heart_patient(number, plan.seed, split, site)
    return patient, draw_outcome(patient, plan.followed)


def tracing_of(patient: HeartPatient) -> Tracing:
    """The patient's ECG."""
    return render_ecg(patient.heart, patient.generator(Stream.ECG))


def loop_of(patient: HeartPatient, view: str) -> Loop:
    """The patient's loop of a view; each view has its own generator."""
    return render_loop(patient.heart, view, patient.generator(Stream.ECHO, VIEWS.index(view)))


def simulate_heart_patients(plan: HeartPlan) -> pd.DataFrame:
    """One row a patient, nothing rendered: subject, outcomes and the columns of the truth.

    label: 1 with heart failure. time_days and event: missing where `incident_hf` has no outcome.
    """
    rows = []
    for number, split in enumerate(plan.splits()):
        patient, outcome = draw(plan, number, split)
        rows.append(
            {
                **_subject_row(patient),
                "label": int(outcome.prevalent),
                "time_days": outcome.time_days,
                "event": outcome.event,
                **truth_row(patient, outcome),
            }
        )
    return pd.DataFrame(rows)


def _subject_row(patient: HeartPatient) -> dict[str, Any]:
    return {
        "subject_id": patient.subject_id,
        "split": patient.split.value,
        "site": patient.site.name,
        "age_years": patient.age_years,
        "sex": patient.sex,
        "index_time": patient.index_time,
        "source_id": f"simulated-hf-{patient.seed}-{patient.number}",
    }


def _outcome_rows(patient: HeartPatient, outcome: HeartOutcome) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"subject_id": patient.subject_id, "task": HF, "label": int(outcome.prevalent)}
    ]
    if outcome.event is not None:
        rows.append(
            {
                "subject_id": patient.subject_id,
                "task": INCIDENT_HF,
                "time_days": outcome.time_days,
                "event": outcome.event,
            }
        )
    return rows


def _lab_row(patient: HeartPatient) -> dict[str, Any]:
    shown = {n: v if n in patient.measured else None for n, v in patient.labs.items()}
    return {"subject_id": patient.subject_id, **shown}


# ---------------------------------------------------------------- one chunk, in a worker


@dataclass(frozen=True)
class _Job:
    """What every chunk needs to know."""

    plan: HeartPlan
    folder: Path
    files_for: frozenset[Split]
    most_files: int | None
    sink_for: frozenset[Split]
    sink: SinkFactory | None


@dataclass
class _Chunk:
    """What a chunk sends back; records stay where they were made."""

    subjects: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    labs: list[dict[str, Any]]
    imaging: list[dict[str, Any]]
    truths: list[dict[str, Any]]
    segments: list[dict[str, Any]]
    loops: list[dict[str, Any]]
    sink_subjects: list[int]
    sink_arrays: Mapping[str, np.ndarray]


_sinks: dict[str, Sink] = {}


def _start_worker(factory: SinkFactory | None) -> None:
    _sinks.clear()
    if factory is not None:
        _sinks["sink"] = factory()


def _simulate_chunk(job: _Job, numbers: range) -> _Chunk:
    chunk = _Chunk([], [], [], [], [], [], [], [], {})
    splits = job.plan.splits()
    recordings = []
    for number in numbers:
        patient, outcome = draw(job.plan, number, splits[number])
        chunk.subjects.append(_subject_row(patient))
        chunk.outcomes += _outcome_rows(patient, outcome)
        chunk.truths.append(truth_row(patient, outcome))
        if patient.has_labs:
            chunk.labs.append(_lab_row(patient))
        tracing = tracing_of(patient) if patient.has_ecg else None
        if tracing is not None:
            chunk.segments += segment_rows(patient, tracing)
        place = number - splits.index(splits[number])
        filed = patient.split in job.files_for
        filed = filed and (job.most_files is None or place < job.most_files)
        sunk = patient.split in job.sink_for
        loops: dict[str, Loop] = {}
        if patient.has_echo and (filed or sunk):
            loops = {view: loop_of(patient, view) for view in patient.heart.views}
        if filed:
            imaging, told = write_records(job.folder, patient, tracing, loops)
            chunk.imaging += imaging
            chunk.loops += told
        if sunk and (tracing is not None or loops):
            recordings.append(
                Recording(
                    subject_id=patient.subject_id,
                    split=patient.split,
                    heart=patient.heart,
                    ecg=None if tracing is None else tracing.array,
                    loops=loops,
                )
            )
    if recordings and "sink" in _sinks:
        chunk.sink_subjects = [recording.subject_id for recording in recordings]
        chunk.sink_arrays = dict(_sinks["sink"](recordings))
        for name, array in chunk.sink_arrays.items():
            if len(array) != len(recordings):
                raise ValueError(
                    f"sink array '{name}' has {len(array)} rows, not {len(recordings)}"
                )
    return chunk


# ---------------------------------------------------------------- the whole cohort


def write_heart_cohort(
    plan: HeartPlan,
    out: Path,
    *,
    files_for: Collection[Split] | None = None,
    most_files: int | None = None,
    sink: SinkFactory | None = None,
    sink_for: Collection[Split] | None = None,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
    finish: Callable[[Path, HeartWritten], None] | None = None,
) -> HeartWritten:
    """Simulate the planned patients and write the cohort folder, whole or not at all.

    files_for: the splits whose ECGs and loops become files (None: all); most_files: of so many
    patients of each at most, the first ones. sink: receives the
    records of the splits in sink_for (None: all), whether or not they become files; see
    SinkFactory. progress: called with (patients done, patients in all). finish: called with the
    folder under its temporary name and the result, to add to it (the sink's features, say) before
    anyone sees it. Raises CohortError when `out` is not an empty or new folder.
    """
    with atomic_folder(Path(out)) as folder:
        (folder / "truth" / "echo").mkdir(parents=True)
        job = _Job(
            plan=plan,
            folder=folder,
            files_for=frozenset(Split if files_for is None else files_for),
            most_files=most_files,
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
    return HeartWritten(**{**vars(written), "folder": Path(out)})


def _write_tables(plan: HeartPlan, folder: Path, chunks: Sequence[_Chunk]) -> HeartWritten:
    subjects = pd.DataFrame([row for chunk in chunks for row in chunk.subjects])
    imaging = [row for chunk in chunks for row in chunk.imaging]
    labs = pd.DataFrame([row for chunk in chunks for row in chunk.labs])
    write_subjects(folder, subjects)
    write_outcomes(folder, pd.DataFrame([row for chunk in chunks for row in chunk.outcomes]))
    columns = ["modality", "subject_id", "path", "view", "acquired"]
    write_imaging(folder, pd.DataFrame(imaging, columns=columns))
    write_table(folder / LABS_FILE, labs, LAB_COLUMNS)
    truth = folder / "truth"
    _write_parquet(truth / "patients.parquet", [row for c in chunks for row in c.truths])
    _write_parquet(truth / "ecg_segments.parquet", [row for c in chunks for row in c.segments])
    _write_parquet(truth / "lab_columns.parquet", causal_columns())
    if any(chunk.loops for chunk in chunks):
        _write_parquet(truth / "echo_loops.parquet", [row for c in chunks for row in c.loops])
    write_spec(heart_spec(plan), folder)
    sunk = [chunk for chunk in chunks if chunk.sink_subjects]
    names = list(sunk[0].sink_arrays) if sunk else []
    return HeartWritten(
        folder=folder,
        subjects=len(subjects),
        tracings=sum(row["modality"] == ECG for row in imaging),
        loops=sum(row["modality"] == ECHO for row in imaging),
        sink_subjects=np.asarray([n for chunk in sunk for n in chunk.sink_subjects], np.int64),
        sink_arrays={
            name: np.concatenate([chunk.sink_arrays[name] for chunk in sunk]) for name in names
        },
    )


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, compression="zstd")


def heart_spec(plan: HeartPlan) -> CohortSpec:
    """What the cohort's cohort.yaml says."""
    return CohortSpec(
        name="hf_simulated",
        title="Simulated heart failure cohort",
        description=(
            "Simulated patients of two hospitals, not real people: laboratory values, a 12-lead "
            "ECG and an echo of up to eleven views, all of one admission. Diagnosis and later "
            "heart failure follow stated formulas; truth/ holds each patient's logit and "
            "log-hazard, the columns that count, the waves of each beat and, where the echo is "
            "a file, the masks of the heart's structures. The external site has older patients, "
            "noisier records and more missing data."
        ),
        index_event="admission",
        modalities={
            LABS: ModalitySpec(
                kind=Kind.TABLE, title="Labs", path=LABS_FILE, columns=dict(LAB_COLUMNS)
            ),
            ECG: ModalitySpec(kind=Kind.SIGNAL, title="ECG", path=IMAGING_FILE, unit="mV"),
            ECHO: ModalitySpec(kind=Kind.VIDEO, title="Echo", path=IMAGING_FILE),
        },
        tasks={
            HF: TaskSpec(
                kind="classification",
                title="Heart failure at admission",
                event_title="heart failure",
                classes=("no heart failure", "heart failure"),
            ),
            INCIDENT_HF: TaskSpec(
                kind="survival",
                title="New heart failure within four years of an admission without it",
                event_title="first diagnosis of heart failure",
                horizon_days=HORIZON_DAYS,
            ),
        },
        provenance=Provenance(
            source="simulated by FusionLens (sample_data)",
            licence="MIT",
            simulated=True,
            seed=plan.seed,
        ),
        truth="truth",
    )
