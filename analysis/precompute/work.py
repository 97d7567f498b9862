"""One worker: does jobs one after the other, and stores what it makes or hands it over.

Every result is made by the function that a page or command would call, with the settings that
those use by default, so that they find it under its key. torch runs on one thread: with several,
sums are taken in another order and results differ in their last bits.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.attribution.case import NothingToReadError, open_case
from analysis.attribution.target import ClassLogit, LogRisk, Target
from analysis.cohort.cohort import Cohort
from analysis.cohort.readings import reading_for
from analysis.explain import pieces
from analysis.features import encode_batch
from analysis.imbalance.shuffle import shuffled
from analysis.missing.combinations import by_combination
from analysis.missing.predictions import subset_predictions
from analysis.outlook import class_names
from analysis.precompute.devices import DeviceError
from analysis.precompute.plan import CPU, Job, Setting, What
from analysis.predict import predict_stored
from analysis.representation.population import population
from analysis.representation.projection import Method
from analysis.representation.report import representation
from analysis.representation.stored import drawable, stored_projection
from analysis.store import Files, Result, ResultStore, result_key
from models.checkpoint import Run, load_run
from models.contracts import Encoded
from models.placement import place

# Jobs come run by run; one more is kept for the jobs that are still under way.
KEPT_RUNS = 2


@dataclass(frozen=True)
class Failure:
    """What could not be computed, in one sentence. patient: None for what is of a whole split."""

    run: str
    what: str
    patient: int | None
    sentence: str


@dataclass
class Done:
    """What became of a job.

    computed, found: results. nothing: patients who have none of the run's modalities. files:
    {key: files} of results that this worker did not store itself. encoded: features of `kept`
    patients. cpu_seconds: processor time of the job. peak_mib: the worker's largest resident
    memory so far.
    """

    job: Job
    computed: int = 0
    found: int = 0
    nothing: int = 0
    failures: list[Failure] = field(default_factory=list)
    files: dict[str, Files] = field(default_factory=dict)
    kept: tuple[int, ...] = ()
    encoded: Encoded | None = None
    worker: str = ""
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0


class StoredError(Exception):
    """Raised for a result that is there already, where it need not be read."""


class WorkStore(ResultStore):
    """A store that counts; with `ship` it keeps what is put for somebody else to store.

    While `filling`, asking for what is there raises StoredError: it is not read again.
    """

    def __init__(self, folder: Path, *, ship: bool = False) -> None:
        super().__init__(folder)
        self.ship = ship
        self.filling = False
        self.made = 0
        self.files: dict[str, Files] = {}

    def get(self, parameters: Mapping[str, Any]) -> Result | None:
        """As in any store."""
        if self.filling and (result_key(parameters) in self.files or self.has(parameters)):
            raise StoredError
        return super().get(parameters)

    def put_files(self, key: str, files: Files) -> None:
        """Store a result, or keep its files."""
        self.made += 1
        if self.ship:
            self.files[key] = files
        else:
            super().put_files(key, files)


class Worker:
    """Does jobs of one setting, with its networks on one device."""

    def __init__(self, setting: Setting, *, device: str = CPU, ship: bool = False) -> None:
        self.setting = setting
        self.device = torch.device(device)
        self.cohort = Cohort.open(setting.cohort)
        self.store = WorkStore(setting.store, ship=ship)
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._cohorts: dict[Path, Cohort] = {}

    def do(self, job: Job) -> Done:
        """Do a job. What is wrong with a patient or a file becomes a `Failure`."""
        done = Done(job, worker=f"{platform.node()}:{os.getpid()}")
        self.store.made, self.store.files = 0, {}
        begun = time.process_time()
        with one_thread():
            try:
                run = self.run(job.run)
                if job.modality is not None:
                    self._encode(run, job.modality, job, done)
                elif job.patients:
                    for patient in job.patients:
                        self._explain(run, patient, job, done)
                else:
                    self._of_split(run, job, done)
            except (ValueError, OSError) as error:
                done.failures.append(_failure(job, None, error))
            except torch.OutOfMemoryError as error:
                raise DeviceError(
                    f"{self.device}: the memory of the device is full; let fewer workers share "
                    "it, or compute on the CPU."
                ) from error
        done.computed, done.files = self.store.made, self.store.files
        done.cpu_seconds, done.peak_mib = time.process_time() - begun, peak_mib()
        return done

    def run(self, folder: str) -> Run:
        """A loaded run; the last two are kept."""
        if folder not in self._runs:
            run = load_run(Path(folder), self.setting.encoder_places)
            place(run.model, self.device)
            self._runs[folder] = run
        self._runs.move_to_end(folder)
        while len(self._runs) > KEPT_RUNS:
            self._runs.popitem(last=False)
        return self._runs[folder]

    # ------------------------------------------------------------ patients

    def _explain(self, run: Run, patient: int, job: Job, done: Done) -> None:
        try:
            case = open_case(run, self.cohort, patient)
        except NothingToReadError:
            done.nothing += 1
            return
        except (ValueError, OSError) as error:
            done.failures.append(_failure(job, patient, error))
            return
        trust = self.setting.trust.get(job.run)
        wanted, _ = pieces(case, first_target(run), self.store, trust=trust)
        for piece in wanted:
            if What(piece.what) not in job.whats:
                continue
            try:
                with self._filling():
                    piece.make()
            except StoredError:
                done.found += 1
            except (ValueError, OSError) as error:
                done.failures.append(_failure(job, patient, error, piece.what))

    @contextmanager
    def _filling(self) -> Iterator[None]:
        self.store.filling = True
        try:
            yield
        finally:
            self.store.filling = False

    # ------------------------------------------------------------ frozen encoders

    def _encode(self, run: Run, modality: str, job: Job, done: Done) -> None:
        """A batch of features; a patient whose file cannot be read is left out and noted."""
        encoder = run.model.encoder(modality)
        reading = reading_for(encoder, run.vocabularies.get(modality))

        def encode(ids: tuple[int, ...]) -> Encoded:
            return encode_batch(self.cohort, modality, encoder, reading, np.asarray(ids, np.int64))

        try:
            done.kept, done.encoded = job.patients, encode(job.patients)
        except (ValueError, OSError):
            kept = []
            for patient in job.patients:
                try:
                    encode((patient,))
                    kept.append(patient)
                except (ValueError, OSError) as error:
                    done.failures.append(_failure(job, patient, error, f"features of {modality}"))
            done.kept = tuple(kept)
            done.encoded = encode(done.kept) if kept else None

    # ------------------------------------------------------------ splits

    def _of_split(self, run: Run, job: Job, done: Done) -> None:
        assert job.split is not None
        made: Mapping[What, Callable[[Run, str, Job], None]] = {
            What.PREDICTIONS: self._predict,
            What.MISSING: self._missing,
            What.EMBEDDINGS: self._embeddings,
        }
        (what,) = job.whats
        try:
            made[what](run, job.split, job)
        except StoredError:
            done.found += 1
            return
        done.found += not self.store.made

    def _predict(self, run: Run, split: str, job: Job) -> None:
        with self._filling():
            predict_stored(run, self.cohort, split, self.store, everyone=job.everyone)

    def _missing(self, run: Run, split: str, job: Job) -> None:
        found = subset_predictions(run, self.cohort, split, self.store)
        if found.complete.any():
            by_combination(run, self.cohort, split, self.store)
        shuffled(run, self.cohort, split, self.store)

    def _embeddings(self, run: Run, split: str, job: Job) -> None:
        home = self.setting.training.get(job.run)
        training = None if home is None else self._cohort(home)
        people = population(run, self.cohort, split, self.store, training=training)
        representation(people, self.store)
        if drawable(people)[0]:
            stored_projection(people, next(iter(Method)), self.store)

    def _cohort(self, folder: Path) -> Cohort:
        if folder == self.setting.cohort:
            return self.cohort
        if folder not in self._cohorts:
            self._cohorts[folder] = Cohort.open(folder)
        return self._cohorts[folder]


def first_target(run: Run) -> Target:
    """The number that the patient page explains first: log-risk, or the last class's logit."""
    task = run.config.task
    if task.kind == "survival":
        return LogRisk()
    names = class_names(task.classes, task.outputs)
    return ClassLogit(len(names) - 1, names[-1])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_mib() -> float:
    """The largest resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _failure(job: Job, patient: int | None, error: Exception, what: str | None = None) -> Failure:
    words = what or " and ".join(job.whats) or f"features of {job.modality}"
    return Failure(Path(job.run).name, words, patient, " ".join(str(error).split()))
