"""A workspace folder: cohorts, runs, encoders and stored results; the one object pages talk to.

    WORKSPACE/cohorts/NAME/   WORKSPACE/runs/NAME/   WORKSPACE/encoders/HASH/   WORKSPACE/results/

A cohort or run that cannot be read is listed with the reason; it never takes a page down.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from analysis.classification.evaluation import evaluate_labels
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError, CohortSpec, Split
from analysis.evaluation import (
    LEARNING_SPLITS,
    best_unimodal,
    check_fit,
    evaluate,
    find_difference,
    risk_groups,
    survival_data,
)
from analysis.external import (
    EXTERNAL,
    AnyRun,
    ExternalConfig,
    ExternalRun,
    hash_of,
    is_external,
    open_run,
    read_external_config,
    without_model,
)
from analysis.features import Progress
from analysis.missing.combinations import by_combination
from analysis.partial import clear_stale
from analysis.predict import kind_on_file, predict_stored
from analysis.reporting.dossier import Stage, dossier
from analysis.representation.population import Population, population
from analysis.representation.report import representation
from analysis.retrieval import evaluate_retrieval
from analysis.store import ResultStore
from analysis.survival.comparison import compare
from analysis.survival.concordance import uno_c
from analysis.survival.curves import kaplan_meier
from analysis.survival.data import SurvivalData
from analysis.survival.groups import KaplanMeierSplit
from app.turns import TURNS
from models.checkpoint import (
    CONFIG_FILE,
    HISTORY_FILE,
    Run,
    RunConfig,
    RunError,
    read_config,
)

RESULTS = "results"
KEPT_POPULATIONS = 4
EVALUATED_SPLITS = ("internal", "external")
SIGNIFICANT = 0.05

AnyRunT = TypeVar("AnyRunT", bound=AnyRun)


class WorkspaceError(ValueError):
    """The workspace cannot serve a request; the message says what, where and the remedy."""


@dataclass(frozen=True)
class CohortEntry:
    """A cohort of the workspace: opened, or the reason why not."""

    name: str
    folder: Path
    cohort: Cohort | None
    error: str | None


@dataclass(frozen=True)
class RunEntry:
    """A run of the workspace: its config, or the reason why it cannot be used.

    external: the config of a run without a model, whose `config` is None.
    """

    name: str
    folder: Path
    config: RunConfig | None
    error: str | None
    external: ExternalConfig | None = None

    @property
    def is_unimodal(self) -> bool:
        """True for the baselines that fusion has to beat."""
        return self.config is not None and self.config.strategy.name == "unimodal"


@dataclass(frozen=True)
class Task:
    """A task of a cohort for which there are runs."""

    cohort: str
    name: str
    title: str
    event_title: str
    horizon_days: float | None
    kind: str = "survival"

    @property
    def key(self) -> str:
        """Names the task in addresses and widgets."""
        return f"{self.cohort}/{self.name}"


@dataclass(frozen=True)
class OutcomeSummary:
    """Outcomes of one task in one split.

    events: of a survival task, or patients of the second of two classes; None for more classes.
    Survival only: median_follow_up_days (reverse Kaplan-Meier: censoring taken as the event, so
    that deaths do not shorten it; None where half were never followed that long).
    """

    task: str
    title: str
    event_title: str
    split: str
    n: int
    events: int | None
    median_follow_up_days: float | None

    @property
    def event_rate(self) -> float | None:
        """Share of patients with the event during follow-up, or of the second class."""
        return None if self.events is None else self.events / self.n


@dataclass(frozen=True)
class CohortSummary:
    """What a cohort holds. splits: {split: patients}; available: {modality: {split: patients}}."""

    splits: Mapping[str, int]
    titles: Mapping[str, str]
    available: Mapping[str, Mapping[str, int]]
    outcomes: tuple[OutcomeSummary, ...]


@dataclass(frozen=True)
class Gain:
    """A fusion run's C minus that of the best single modality of the same split.

    points: C times 100, {value, low, high}. percent: the same relative to the baseline's C, which
    its interval takes as known. Values are None where C is undefined.
    """

    run: str
    title: str
    baseline: str
    baseline_title: str
    points: Mapping[str, float | None]
    percent: Mapping[str, float | None]
    p_holm: float | None


class Workspace:
    """One workspace folder. Safe to share between sessions; opened things are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise WorkspaceError(
                f"{self.folder}: there is no such folder; make a workspace with "
                "'fusionlens sample' or name an existing one."
            )
        self.store = ResultStore(self.folder / RESULTS, turn=TURNS)
        # What killed processes left half written; what a living one is writing stays.
        self.store.clear_stale()
        for part in ("cohorts", "runs"):
            clear_stale(self.folder / part, ".*.partial-*")
        self._lock = threading.RLock()
        self._cohorts: dict[tuple[str, float], CohortEntry] = {}
        self._runs: dict[tuple[str, float], AnyRun] = {}
        self._entries: dict[Path, tuple[tuple[int, int], RunEntry]] = {}
        self._hashes: dict[tuple[str, float], str] = {}
        self._summaries: dict[tuple[str, float], CohortSummary] = {}
        self._populations: OrderedDict[tuple[str, str, str], Population] = OrderedDict()
        self._populating = threading.Lock()

    @property
    def encoders(self) -> Path:
        """Where frozen encoders are kept."""
        return self.folder / "encoders"

    # ------------------------------------------------------------ cohorts

    def cohorts(self) -> list[CohortEntry]:
        """All cohort folders, by name."""
        return [self._cohort_entry(folder) for folder in _folders(self.folder / "cohorts")]

    def _cohort_entry(self, folder: Path) -> CohortEntry:
        key = (folder.name, _stamp(folder))
        with self._lock:
            if key not in self._cohorts:
                try:
                    entry = CohortEntry(folder.name, folder, Cohort.open(folder), None)
                except (CohortError, OSError) as error:
                    entry = CohortEntry(folder.name, folder, None, str(error))
                _replace(self._cohorts, key, entry)
            return self._cohorts[key]

    def cohort(self, name: str) -> Cohort:
        """An opened cohort. Raises WorkspaceError with the reason."""
        for entry in self.cohorts():
            if entry.name == name:
                if entry.cohort is None:
                    raise WorkspaceError(entry.error or "")
                return entry.cohort
        known = ", ".join(entry.name for entry in self.cohorts()) or "none"
        raise WorkspaceError(f"there is no cohort '{name}' in the workspace; it has {known}.")

    def describe(self, name: str) -> CohortSummary:
        """Who is in a cohort, what happened to them and which modalities they have."""
        cohort = self.cohort(name)
        key = (name, _stamp(cohort.folder))
        with self._lock:
            if key not in self._summaries:
                _replace(self._summaries, key, _describe(cohort))
            return self._summaries[key]

    # ------------------------------------------------------------ runs

    def runs(self, task: Task | None = None) -> list[RunEntry]:
        """All run folders, or a task's that have a model: unimodal ones first, then by title."""
        entries = [self._run_entry(folder) for folder in _folders(self.folder / "runs")]
        if task is not None:
            entries = [e for e in entries if self._belongs(e.config, task)]
        return sorted(
            entries,
            key=lambda e: (
                e.config is None,
                not e.is_unimodal,
                e.config.title if e.config else e.name,
            ),
        )

    def external_runs(self, task: Task) -> list[RunEntry]:
        """The task's predictions that were made elsewhere, without a model, by title."""
        entries = [self._run_entry(folder) for folder in _folders(self.folder / "runs")]
        found = [e for e in entries if self._belongs(e.external, task)]
        return sorted(found, key=lambda e: e.external.title if e.external else e.name)

    def _belongs(self, config: RunConfig | ExternalConfig | None, task: Task) -> bool:
        """Whether a run is for a task. A folder may be renamed: the cohort's own name counts."""
        if config is None or config.task.name != task.name:
            return False
        return config.cohort.name in {task.cohort, *_names(self.cohort(task.cohort).spec)}

    def _run_entry(self, folder: Path) -> RunEntry:
        """A folder's entry; its config is read again once it was changed."""
        try:
            found = (folder / CONFIG_FILE).stat()
        except OSError:
            return self._read_entry(folder)
        stamp = (found.st_mtime_ns, found.st_size)
        if self._entries.get(folder, (None, None))[0] != stamp:
            self._entries[folder] = (stamp, self._read_entry(folder))
        return self._entries[folder][1]

    def _read_entry(self, folder: Path) -> RunEntry:
        try:
            if is_external(folder):
                external = read_external_config(folder)
                return RunEntry(folder.name, folder, None, None, external)
            return RunEntry(folder.name, folder, read_config(folder), None)
        except RunError as error:
            return RunEntry(folder.name, folder, None, str(error))

    def run(self, name: str) -> Run:
        """A loaded run, one copy for all sessions. Raises WorkspaceError with the reason."""
        found = self.any_run(name)
        if isinstance(found, ExternalRun):
            raise WorkspaceError(without_model([found.config.title]))
        return found

    def any_run(self, name: str) -> AnyRun:
        """The same, with a model or without one."""
        folder = self.folder / "runs" / name
        if folder not in _folders(self.folder / "runs"):
            raise WorkspaceError(f"there is no run '{name}' in the workspace.")
        key = (name, _stamp(folder))
        with self._lock:
            if key not in self._runs:
                try:
                    _replace(self._runs, key, open_run(folder, [self.encoders]))
                except RunError as error:
                    raise WorkspaceError(str(error)) from error
            return self._runs[key]

    def training_cohort(self, config: RunConfig) -> Cohort | None:
        """The cohort that a run was trained on, if it is here: by what it states, else by name."""
        found = [e.cohort for e in self.cohorts() if e.cohort is not None]
        same = [c for c in found if c.fingerprint == config.cohort.fingerprint]
        named = [c for c in found if c.spec.name == config.cohort.name]
        return next(iter(same + named), None)

    def run_hash(self, name: str) -> str:
        """A run's hash, read without loading it. Raises RunError when files are missing."""
        folder = self.folder / "runs" / name
        key = (name, _stamp(folder))
        with self._lock:
            if key not in self._hashes:
                _replace(self._hashes, key, hash_of(folder))
            return self._hashes[key]

    def history(self, name: str) -> pd.DataFrame | None:
        """Training history of a run (epoch, name, modality, value), if it has one."""
        path = self.folder / "runs" / name / HISTORY_FILE
        return pd.read_parquet(path) if path.is_file() else None

    # ------------------------------------------------------------ tasks and questions

    def tasks(self, *kinds: str) -> list[Task]:
        """Tasks with at least one run and a readable cohort, in the cohorts' order.

        kinds: 'survival' and 'classification'; all if empty.
        """
        configs = [e.config or e.external for e in self.runs()]
        wanted = {(c.cohort.name, c.task.name) for c in configs if c is not None}
        return [
            Task(entry.name, name, spec.title, spec.event_title, spec.horizon_days, spec.kind)
            for entry in self.cohorts()
            if entry.cohort is not None
            for name, spec in entry.cohort.spec.tasks.items()
            if not kinds or spec.kind in kinds
            if wanted & {(c, name) for c in (entry.name, *_names(entry.cohort.spec))}
        ]

    def other_tasks(self, task: Task) -> list[Task]:
        """The other tasks of the task's cohort that have runs, in the cohort's order."""
        return [t for t in self.tasks() if t.cohort == task.cohort and t.name != task.name]

    def splits(self, task: Task) -> list[str]:
        """The evaluated splits that have patients for the task."""
        cohort = self.cohort(task.cohort)
        return [s for s in EVALUATED_SPLITS if len(cohort.subject_ids(s, task.name))]

    def usable_runs(self, task: Task) -> tuple[list[Run], dict[str, str]]:
        """Runs of a task that load and fit its cohort, and {folder: reason} of the others."""
        good, broken = self._fitting(task, self.runs(task))
        return [run for run in good if isinstance(run, Run)], broken

    def predicting_runs(self, task: Task) -> tuple[list[AnyRun], dict[str, str]]:
        """The usable runs and, after them, predictions made elsewhere, which have no model."""
        return self._fitting(task, [*self.runs(task), *self.external_runs(task)])

    def _fitting(
        self, task: Task, entries: Sequence[RunEntry]
    ) -> tuple[list[AnyRun], dict[str, str]]:
        good: dict[str, AnyRun] = {}
        broken: dict[str, str] = {}
        cohort = self.cohort(task.cohort)
        for entry in entries:
            try:
                run = self.any_run(entry.name)
                check_fit(run, cohort)
                for name, modality in run.config.modalities.items():
                    cohort.modality(name, kind_on_file(modality.kind))
            except (WorkspaceError, CohortError) as error:
                broken[entry.name] = str(error)
                continue
            twin = good.get(run.config.name)
            if twin is not None:
                broken[entry.name] = (
                    f"{entry.folder / 'config.json'}: has the name '{run.config.name}', as has "
                    f"{twin.folder.name}; change the field 'name' of one of them."
                )
            else:
                good[run.config.name] = run
        return list(good.values()), broken

    def single_runs(self, task: Task) -> list[Run]:
        """Usable models of one modality, against which fused ones are held."""
        models = [run for run in self.usable_runs(task)[0] if isinstance(run, Run)]
        return [run for run in models if len(run.config.modalities) == 1]

    def predictable(
        self,
        task: Task,
        runs: Sequence[AnyRunT],
        splits: Sequence[str],
        progress: Callable[[float, str], None] | None = None,
    ) -> tuple[list[AnyRunT], dict[str, str]]:
        """Predict for the splits and those that cut-offs are learned on; everything is stored.

        Predictions made elsewhere need to cover `splits` only. Returns the runs that could, and
        {run name: reason} of the others. progress gets the share done and what is being done; it
        may raise to leave, and what is finished by then stays.
        """
        cohort = self.cohort(task.cohort)
        wanted = [
            split
            for split in dict.fromkeys([*LEARNING_SPLITS, *splits])
            if len(cohort.subject_ids(split, task.name))
        ]
        good, broken = [], {}
        for number, run in enumerate(runs):
            needed = splits if isinstance(run, ExternalRun) else wanted
            try:
                for part, split in enumerate(needed):
                    before = number * len(wanted) + part
                    predict_stored(
                        run,
                        cohort,
                        split,
                        self.store,
                        partial(_tell, progress, run, before, len(runs) * len(wanted)),
                    )
                    _tell(progress, run, before, len(runs) * len(wanted), 1, 1)
                good.append(run)
            except (ValueError, OSError) as error:  # CohortError and RunError are ValueErrors
                broken[run.config.name] = str(error)
        return good, broken

    def follow_up_days(self, task: Task, split: str) -> float:
        """The longest follow-up of a split."""
        cohort = self.cohort(task.cohort)
        data = survival_data(cohort, task.name, cohort.subject_ids(split, task.name))
        return float(data.time_days.max())

    def evaluate(
        self,
        task: Task,
        names: Sequence[str],
        split: str,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """The very content of `fusionlens evaluate --json` for these runs; stored."""
        evaluated = evaluate if task.kind == "survival" else evaluate_labels
        runs = _picked(task, names, *self.predicting_runs(task))
        cohort = self.cohort(task.cohort)
        return evaluated(runs, cohort, split, self.store, progress=progress)

    def dossier(
        self,
        task: Task,
        names: Sequence[str],
        splits: Sequence[str],
        horizon_days: float | None = None,
        threshold: float | None = None,
        progress: Stage | None = None,
    ) -> dict[str, Any]:
        """The very content of `fusionlens report --json` for these runs; its parts are stored."""
        single = self.single_runs(task)
        return dossier(
            _picked(task, names, *self.predicting_runs(task)),
            self.cohort(task.cohort),
            splits,
            self.store,
            single=single,
            horizon_days=horizon_days,
            threshold=threshold,
            progress=progress,
        )

    def combinations(self, task: Task, name: str, split: str) -> dict[str, Any]:
        """A run with every combination of its modalities, on the same patients; stored."""
        (run,) = self._named(task, [name])
        return by_combination(run, self.cohort(task.cohort), split, self.store)

    def retrieval(
        self, task: Task, name: str, split: str, pool_size: int | None = None
    ) -> dict[str, Any]:
        """How well a run finds a patient's other modalities from one of them; stored."""
        (run,) = self._named(task, [name])
        cohort = self.cohort(task.cohort)
        return evaluate_retrieval(run, cohort, split, self.store, pool_size)

    def population(self, task: Task, name: str, split: str) -> Population:
        """The patients of a split, or of 'all', as a run represents them; the last few are kept."""
        with self._populating:
            (run,) = self._named(task, [name])
            cohort = self.cohort(task.cohort)
            key = (run.hash, cohort.fingerprint, split)
            if key not in self._populations:
                training = self.training_cohort(run.config)
                self._populations[key] = population(
                    run, cohort, split, self.store, training=training
                )
            self._populations.move_to_end(key)
            while len(self._populations) > KEPT_POPULATIONS:
                self._populations.popitem(last=False)
            return self._populations[key]

    def representation(
        self, people: Population, progress: Progress | None = None
    ) -> dict[str, Any]:
        """The very measures of `fusionlens represent --json`; stored."""
        return representation(people, self.store, progress=progress)

    def risk_groups(
        self,
        task: Task,
        name: str,
        split: str,
        rule: str | float,
        horizon_days: float | None,
        ticks_days: Sequence[float] | None = None,
    ) -> KaplanMeierSplit:
        """Kaplan-Meier curves by predicted risk; the cut comes from training and tuning."""
        cohort = self.cohort(task.cohort)
        (run,) = _picked(task, [name], *self.predicting_runs(task))
        return risk_groups(run, cohort, split, self.store, rule, horizon_days, ticks_days)

    def _named(self, task: Task, names: Sequence[str]) -> list[Run]:
        """Usable runs by the names in their configs, which copied folders may not share."""
        return _picked(task, names, *self.usable_runs(task))

    @cached_property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name


def _picked(
    task: Task, names: Sequence[str], good: Sequence[AnyRunT], broken: Mapping[str, str]
) -> list[AnyRunT]:
    by_name = {run.config.name: run for run in good}
    for name in names:
        if name not in by_name:
            reason = broken.get(name)
            raise WorkspaceError(reason or f"task '{task.key}' has no usable run '{name}'.")
    return [by_name[name] for name in names]


def _tell(
    progress: Callable[[float, str], None] | None,
    run: AnyRun,
    before: int,
    parts: int,
    done: int,
    total: int,
) -> None:
    """Report one part of several as (share of everything, what is being done)."""
    if progress is not None:
        words = run.config.title
        if total > 1:
            words += f", {done:,} of {total:,} patients read"
        progress(min((before + done / total) / parts, 1.0), words)


def gains(evaluation: Mapping[str, Any]) -> list[Gain]:
    """Every fusion run against the best single modality of the same evaluation."""
    baseline = best_unimodal(evaluation["runs"])
    if baseline is None:
        return []
    found = []
    for row in evaluation["runs"]:
        difference = find_difference(evaluation, row["run"], baseline["run"])
        if row["strategy"] in ("unimodal", EXTERNAL) or difference is None:
            continue
        gap, reference = difference["difference"], baseline["c_index"]["value"]
        found.append(
            Gain(
                run=row["run"],
                title=row["title"],
                baseline=baseline["run"],
                baseline_title=baseline["title"],
                points={k: None if v is None else 100 * v for k, v in gap.items()},
                percent={k: None if v is None else 100 * v / reference for k, v in gap.items()},
                p_holm=difference["p_holm"],
            )
        )
    return found


def leader(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row with the highest C, or None where C is undefined."""
    rows = [row for row in evaluation["runs"] if row["c_index"]["value"] is not None]
    return max(rows, key=lambda row: float(row["c_index"]["value"]), default=None)


def excludes_zero(estimate: Mapping[str, float | None]) -> bool:
    """Whether an interval lies on one side of zero."""
    low, high = estimate["low"], estimate["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def is_real(difference: Mapping[str, Any]) -> bool:
    """Whether a stored difference stands after Holm's correction and its interval excludes zero."""
    p = difference["p_holm"]
    return p is not None and p < SIGNIFICANT and excludes_zero(difference["difference"])


def warm_up() -> None:
    """Compile the concordance kernels, so that the first comparison does not wait for it."""
    rng = np.random.default_rng(0)
    data = SurvivalData(rng.uniform(1, 100, 50), rng.random(50) < 0.5)
    risk = rng.normal(size=50)
    compare(data, {"one": risk, "two": -risk}, n_resamples=20)
    uno_c(data, data, risk)


def _describe(cohort: Cohort) -> CohortSummary:
    split = cohort.subjects["split"]
    splits = {str(s): int((split == str(s)).sum()) for s in Split}
    there = cohort.availability()
    return CohortSummary(
        splits={name: n for name, n in splits.items() if n},
        titles={name: spec.title for name, spec in cohort.spec.modalities.items()},
        available={
            name: {s: int(there.loc[split == s, name].sum()) for s, n in splits.items() if n}
            for name in cohort.spec.modalities
        },
        outcomes=tuple(
            _outcomes(cohort, task, name)
            for task in cohort.spec.tasks
            for name in splits
            if len(cohort.subject_ids(name, task))
        ),
    )


def _outcomes(cohort: Cohort, task: str, split: str) -> OutcomeSummary:
    spec = cohort.spec.task(task)
    ids = cohort.subject_ids(split, task)
    events, median = None, None
    if spec.kind == "survival":
        data = survival_data(cohort, task, ids)
        events = data.n_events
        followed = kaplan_meier(SurvivalData(data.time_days, ~data.event)).median_days
        median = None if np.isnan(followed) else followed
    elif len(spec.classes) == 2:
        label = cohort.outcomes(task, ids).label
        events = None if label is None else int((label == 1).sum())
    return OutcomeSummary(task, spec.title, spec.event_title, split, len(ids), events, median)


def _names(spec: CohortSpec) -> tuple[str, str]:
    """Cohorts whose runs fit: its own name, and the cohort it follows."""
    return spec.name, spec.follows


def _folders(parent: Path) -> list[Path]:
    """Visible subfolders, by name; work in progress starts with a dot."""
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _replace(kept: dict[tuple[str, float], Any], key: tuple[str, float], made: Any) -> None:
    """Keep a thing in the place of what its folder held before."""
    for old in [old for old in kept if old[0] == key[0]]:
        del kept[old]
    kept[key] = made


def _stamp(folder: Path) -> float:
    """Changes when a file of the folder is replaced."""
    return max((p.stat().st_mtime for p in folder.iterdir() if p.is_file()), default=0.0)
