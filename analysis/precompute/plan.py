"""What there is to compute for a cohort, in the order in which it has to be done.

Jobs are small and independent inside a stage; a stage starts when the one before it is done,
because it reads what that one stored. What a job computes depends on nothing but the job: not on
who does it, what was done before, or how many work beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from analysis.cohort.cohort import Cohort
from analysis.cohort.reading_kinds import Reading
from analysis.cohort.readings import reading_for
from analysis.cohort.schema import CohortError, Split
from analysis.features import Ids, pending_features
from models.checkpoint import Run, RunConfig

# Test patients first: those are the ones that are looked at.
SPLIT_ORDER = (Split.INTERNAL, Split.EXTERNAL, Split.TUNING, Split.TRAIN)
EVALUATED = (Split.INTERNAL, Split.EXTERNAL)
# Patients of one job: enough that handing them out costs nothing, few enough to share out evenly.
BATCH = 8
CPU = "cpu"
# Batches of features between two writings of their file: so much is lost by a kill at most.
WRITTEN_TOGETHER = 64


class What(StrEnum):
    """What can be computed. Each is what one page would otherwise compute when it is opened."""

    PREDICTIONS = "predictions"
    PARTS = "parts"
    MAPS = "maps"
    MISSING = "missing"
    EMBEDDINGS = "embeddings"


OF_PATIENTS = (What.PARTS, What.MAPS)
TITLES: Mapping[What, str] = {
    What.PREDICTIONS: "Predictions and embeddings of everybody (every page)",
    What.PARTS: "Shares of events, columns, leads, views, words and instances (Patient)",
    What.MAPS: "Maps over scans, ECGs and echo loops (Patient)",
    What.MISSING: "Predictions with fewer and with exchanged modalities (Modalities)",
    What.EMBEDDINGS: "Measures and the picture of the embeddings (Representation)",
}


@dataclass(frozen=True)
class Setting:
    """What every worker has to know; plain enough to be sent to another machine.

    trust: {run folder: its trust report or None}, which says what map is shown first. adapters:
    networks of the operator's own, as 'module:Class'. devices: where networks compute, one for
    each worker in turn; everything else is computed on the CPU.
    """

    cohort: Path
    store: Path
    encoder_places: tuple[Path, ...] = ()
    training: Mapping[str, Path] = field(default_factory=dict)
    trust: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    adapters: tuple[str, ...] = ()
    devices: tuple[str, ...] = (CPU,)


@dataclass(frozen=True)
class Job:
    """One piece of work for one worker.

    whats: of the patients. modality: whose frozen encoder encodes `patients`, for the features of
    the cohort. everyone: predictions also of patients without an outcome of the task.
    """

    run: str
    whats: tuple[What, ...] = ()
    patients: tuple[int, ...] = ()
    modality: str | None = None
    split: str | None = None
    everyone: bool = False


@dataclass(frozen=True)
class Planned:
    """What planning has to know of a run, so that not all of them have to be loaded at once.

    frozen: {(modality, hash of its frozen encoder): how that reads}.
    """

    folder: Path
    config: RunConfig
    frozen: Mapping[tuple[str, str], Reading]

    @classmethod
    def of(cls, run: Run) -> Planned:
        """Of a loaded run."""
        frozen = {
            (name, entry.encoder.weights): reading_for(
                run.model.encoder(name), run.vocabularies.get(name)
            )
            for name, entry in run.config.modalities.items()
            if entry.encoder.frozen and entry.encoder.weights is not None
        }
        return cls(run.folder, run.config, frozen)


@dataclass(frozen=True)
class Features:
    """Some of what the features of one frozen encoder lack: batches in the file's own order.

    path: the file so far, target: where it is written.
    """

    modality: str
    encoder: str
    path: Path
    target: Path
    jobs: tuple[Job, ...]


def splits_of(cohort: Cohort, asked: str) -> list[str]:
    """'all', or one split, of those that have patients. Raises CohortError for others."""
    there = [str(s) for s in SPLIT_ORDER if len(cohort.subject_ids(s))]
    if asked == "all":
        return there
    if asked not in there:
        raise CohortError(
            f"{cohort.folder}: there are no patients in split '{asked}'; choose one of "
            f"{', '.join(there)} or all."
        )
    return [asked]


def patients_of(cohort: Cohort, splits: Sequence[str], n: int | None) -> Ids:
    """Whose explanations are made: split by split, the first `n` of them."""
    ids = np.concatenate([cohort.subject_ids(split) for split in splits])
    return ids if n is None else ids[:n]


def features(runs: Sequence[Planned], cohort: Cohort, asked: Sequence[Ids]) -> Iterator[Features]:
    """What the frozen encoders of `runs` have not encoded yet, each encoder once.

    asked: groups of patients, by split as the pages ask for them. What is given out is written
    before the next is asked for.
    """
    seen = set()
    for run in runs:
        for (name, weights), reading in run.frozen.items():
            if (name, weights) in seen:
                continue
            seen.add((name, weights))
            for ids in asked:
                found = pending_features(cohort, name, weights, reading, ids)
                jobs = [
                    Job(str(run.folder), patients=tuple(batch.tolist()), modality=name)
                    for batch in found.batches
                ]
                for start in range(0, len(jobs), WRITTEN_TOGETHER):
                    some = tuple(jobs[start : start + WRITTEN_TOGETHER])
                    yield Features(name, weights, found.path, found.target, some)


def predictions(run: Planned, cohort: Cohort) -> Iterator[Job]:
    """Every split's patients with an outcome, and everybody of it: what the pages ask for."""
    folder, task = str(run.folder), run.config.task.name
    for split in splits_of(cohort, "all"):
        told, every = len(cohort.subject_ids(split, task)), len(cohort.subject_ids(split))
        if told:
            yield Job(folder, (What.PREDICTIONS,), split=split)
        if told < every:
            yield Job(folder, (What.PREDICTIONS,), split=split, everyone=True)


def explanations(run: Planned, ids: Ids, whats: Sequence[What]) -> Iterator[Job]:
    """Batches of patients with what is to be explained of them."""
    wanted = tuple(what for what in OF_PATIENTS if what in whats)
    for start in range(0, len(ids) if wanted else 0, BATCH):
        yield Job(str(run.folder), wanted, tuple(ids[start : start + BATCH].tolist()))


def of_splits(run: Planned, cohort: Cohort, whats: Sequence[What]) -> Iterator[Job]:
    """What is computed over the test patients as a whole."""
    for split in EVALUATED:
        if not len(cohort.subject_ids(split, run.config.task.name)):
            continue
        if What.MISSING in whats and len(run.config.modalities) > 1:
            yield Job(str(run.folder), (What.MISSING,), split=str(split))
        if What.EMBEDDINGS in whats:
            yield Job(str(run.folder), (What.EMBEDDINGS,), split=str(split))
