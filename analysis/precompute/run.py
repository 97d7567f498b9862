"""Computes what a cohort's pages will ask for: stage by stage, from where it was left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.cohort.cohort import Cohort
from analysis.evaluation import check_fit
from analysis.explain import find_trust
from analysis.features import FeatureWriter
from analysis.precompute import plan
from analysis.precompute.plan import Features, Job, Planned, Setting, What
from analysis.precompute.pool import Pool
from analysis.precompute.work import Done, Failure, peak_mib
from analysis.predict import kind_on_file
from analysis.store import ResultStore
from models.checkpoint import Run

Say = Callable[..., None]
"""say(stage, done, total, numbers)."""


@dataclass
class Summary:
    """What was done.

    patients: of the cohort whose explanations were asked for; explained: pairs of a run and a
    patient that were gone through. computed, found: results, new and already stored. nothing:
    pairs in which the patient has none of the run's modalities. features: patients newly encoded
    by a frozen encoder. seconds: of each stage. cpu_seconds: of
    explaining, all workers. peaks: largest resident memory of each worker.
    """

    runs: tuple[str, ...]
    patients: int
    explained: int = 0
    computed: int = 0
    found: int = 0
    nothing: int = 0
    features: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; memory in MiB, rates in patients (with one run each) a second."""
        explaining = self.seconds.get(EXPLAINING, 0.0)
        return {
            "runs": list(self.runs),
            "patients": self.patients,
            "explained": self.explained,
            "computed": self.computed,
            "found": self.found,
            "without_any_modality": self.nothing,
            "encoded": self.features,
            "failed": [
                {"run": f.run, "what": f.what, "patient": f.patient, "why": f.sentence}
                for f in self.failures
            ],
            "seconds": {**self.seconds, "all": sum(self.seconds.values())},
            "patients_per_second": self.explained / explaining if explaining else None,
            "cpu_seconds_a_patient": self.cpu_seconds / self.explained if self.explained else None,
            "workers": len(self.peaks),
            "peak_memory_mib": {
                "largest_worker": max(self.peaks.values(), default=0.0),
                "this_process": peak_mib(),
            },
        }


ENCODING, PREDICTING = "Encoding for frozen encoders", "Predicting"
EXPLAINING, WHOLE = "Explaining patients", "Test patients as a whole"


def prepare(
    runs: Iterable[Run],
    cohort: Cohort,
    store: ResultStore,
    *,
    training: Callable[[Run], Cohort | None],
    encoder_places: Sequence[Path] = (),
    adapters: Sequence[str] = (),
    devices: Sequence[str] = (plan.CPU,),
) -> tuple[list[Planned], Setting]:
    """What is planned from, and what the workers have to know.

    runs: looked at one after the other, so a generator need not hold them all. training: the
    cohort that a run was trained on, where it is at hand. devices: where the workers' networks
    compute. Raises CohortError where a run does not
    fit the cohort.
    """
    planned, homes, trust = [], {}, {}
    for run in runs:
        check_fit(run, cohort)
        for name, entry in run.config.modalities.items():
            cohort.modality(name, kind_on_file(entry.kind))
        folder, home = str(run.folder), training(run)
        trust[folder] = find_trust(run, [cohort, home], store)
        if home is not None:
            homes[folder] = home.folder.absolute()
        planned.append(Planned.of(run))
    return planned, Setting(
        cohort=cohort.folder.absolute(),
        store=store.folder.absolute(),
        encoder_places=tuple(Path(place).absolute() for place in encoder_places),
        training=homes,
        trust=trust,
        adapters=tuple(adapters),
        devices=tuple(devices),
    )


def precompute(
    runs: Sequence[Planned],
    cohort: Cohort,
    store: ResultStore,
    pool: Pool,
    *,
    whats: Sequence[What] = tuple(What),
    split: str = "all",
    patients: int | None = None,
    say: Say | None = None,
) -> Summary:
    """Compute everything of `whats` that the store lacks.

    split: whose patients are explained, 'all' or one; the first `patients` of them. Predictions
    and what is computed over test patients as a whole are always of all of these. A patient who
    cannot be read is noted in the summary, and the rest goes on. Raises CohortError for an
    unknown split and PoolError where workers end.
    """
    tell = say or (lambda *_: None)
    store.clear_stale()
    ids = plan.patients_of(cohort, plan.splits_of(cohort, split), patients)
    summary = Summary(tuple(run.config.name for run in runs), len(ids))
    asked = [ids]
    if set(whats) - set(plan.OF_PATIENTS):
        asked = [cohort.subject_ids(s) for s in plan.splits_of(cohort, "all")]
    begun = time.perf_counter()
    for wanted in plan.features(runs, cohort, asked):
        _write_features(wanted, pool, summary, tell)
    if summary.features:
        _timed(summary, ENCODING, begun)
    if What.PREDICTIONS in whats:
        jobs = [job for run in runs for job in plan.predictions(run, cohort)]
        _stage(PREDICTING, jobs, len(jobs), pool, summary, store, tell)
    if set(whats) & set(plan.OF_PATIENTS):
        explaining = (job for run in runs for job in plan.explanations(run, ids, whats))
        _stage(EXPLAINING, explaining, len(runs) * len(ids), pool, summary, store, tell)
    jobs = [job for run in runs for job in plan.of_splits(run, cohort, whats)]
    if jobs:
        _stage(WHOLE, jobs, len(jobs), pool, summary, store, tell)
    return summary


def _stage(
    name: str,
    jobs: Iterable[Job],
    total: int,
    pool: Pool,
    summary: Summary,
    store: ResultStore,
    tell: Say,
) -> None:
    begun, done = time.perf_counter(), 0
    for one in pool.do(jobs):
        _count(one, summary, store)
        summary.explained += len(one.job.patients)
        summary.cpu_seconds += one.cpu_seconds if one.job.patients else 0.0
        done += max(len(one.job.patients), 1)
        rate = {"a second": done / max(time.perf_counter() - begun, 1e-9)}
        tell(name, done, total, rate if name == EXPLAINING else None)
    _timed(summary, name, begun)


def _timed(summary: Summary, stage: str, begun: float) -> None:
    summary.seconds[stage] = round(time.perf_counter() - begun, 3)


def _count(one: Done, summary: Summary, store: ResultStore) -> None:
    """Add a job to the summary; results that were sent are stored here."""
    for key, files in one.files.items():
        store.put_files(key, files)
    summary.computed += one.computed
    summary.found += one.found
    summary.nothing += one.nothing
    summary.failures.extend(one.failures)
    _peak(one, summary)


def _write_features(wanted: Features, pool: Pool, summary: Summary, tell: Say) -> None:
    """Encode what a feature file lacks, and write it with the batches in their own order."""
    n = sum(len(job.patients) for job in wanted.jobs)
    made: dict[Job, Done] = {}
    for one in pool.do(wanted.jobs):
        summary.failures.extend(one.failures)
        _peak(one, summary)
        made[one.job] = one
        tell(ENCODING, sum(len(job.patients) for job in made), n)
    writer = FeatureWriter(wanted.modality, wanted.encoder)
    # What an earlier part of the same file has added lies there.
    writer.take_over(wanted.target if wanted.target.is_file() else wanted.path)
    for job in wanted.jobs:
        encoded = made[job].encoded
        if encoded is not None:
            writer.add(made[job].kept, encoded)
            summary.features += len(made[job].kept)
    writer.write(wanted.target)


def _peak(one: Done, summary: Summary) -> None:
    summary.peaks[one.worker] = max(one.peak_mib, summary.peaks.get(one.worker, 0.0))


def failed_in_words(failures: Iterable[Failure]) -> list[str]:
    """'run, patient 7, maps: why' for each."""
    return [
        f"{f.run}, {'all patients' if f.patient is None else f'patient {f.patient}'}, "
        f"{f.what}: {f.sentence}"
        for f in failures
    ]
