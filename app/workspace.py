"""A workspace folder: cohorts, runs, encoders and stored results; the one object pages talk to.

    WORKSPACE/cohorts/NAME/   WORKSPACE/runs/NAME/   WORKSPACE/encoders/HASH/   WORKSPACE/results/

A cohort or run that cannot be read is listed with the reason; it never takes a page down.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import evaluate, risk_groups
from analysis.features import Progress
from analysis.store import ResultStore
from analysis.survival.groups import KaplanMeierSplit
from models.checkpoint import HISTORY_FILE, Run, RunConfig, RunError, load_run, read_config

EVALUATED_SPLITS = ("internal", "external")


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
    """A run of the workspace: its config, or the reason why it cannot be used."""

    name: str
    folder: Path
    config: RunConfig | None
    error: str | None

    @property
    def is_unimodal(self) -> bool:
        """True for the baselines that fusion has to beat."""
        return self.config is not None and self.config.strategy.name == "unimodal"


@dataclass(frozen=True)
class Task:
    """A survival task of a cohort for which there are runs."""

    cohort: str
    name: str
    title: str
    event_title: str
    horizon_days: float | None

    @property
    def key(self) -> str:
        """Names the task in addresses and widgets."""
        return f"{self.cohort}/{self.name}"


class Workspace:
    """One workspace folder. Safe to share between sessions; opened things are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise WorkspaceError(
                f"{self.folder}: there is no such folder; make a workspace with "
                "'fusionlens sample' or name an existing one."
            )
        self.store = ResultStore(self.folder / "results")
        self._lock = threading.RLock()
        self._cohorts: dict[tuple[str, float], CohortEntry] = {}
        self._runs: dict[tuple[str, float], Run] = {}
        self._work = threading.Lock()

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
                self._cohorts[key] = entry
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

    # ------------------------------------------------------------ runs

    def runs(self, task: Task | None = None) -> list[RunEntry]:
        """All run folders, or those for a task: unimodal ones first, then by title."""
        entries = [self._run_entry(folder) for folder in _folders(self.folder / "runs")]
        if task is not None:
            entries = [
                e
                for e in entries
                if e.config is not None
                and e.config.task.name == task.name
                and e.config.cohort.name == task.cohort
            ]
        return sorted(
            entries,
            key=lambda e: (
                e.config is None,
                not e.is_unimodal,
                e.config.title if e.config else e.name,
            ),
        )

    def _run_entry(self, folder: Path) -> RunEntry:
        try:
            return RunEntry(folder.name, folder, read_config(folder), None)
        except RunError as error:
            return RunEntry(folder.name, folder, None, str(error))

    def run(self, name: str) -> Run:
        """A loaded run, one copy for all sessions. Raises WorkspaceError with the reason."""
        folder = self.folder / "runs" / name
        if folder not in _folders(self.folder / "runs"):
            raise WorkspaceError(f"there is no run '{name}' in the workspace.")
        key = (name, _stamp(folder))
        with self._lock:
            if key not in self._runs:
                try:
                    self._runs[key] = load_run(folder, [self.encoders])
                except RunError as error:
                    raise WorkspaceError(str(error)) from error
            return self._runs[key]

    def history(self, name: str) -> pd.DataFrame | None:
        """Training history of a run (epoch, name, modality, value), if it has one."""
        path = self.folder / "runs" / name / HISTORY_FILE
        return pd.read_parquet(path) if path.is_file() else None

    # ------------------------------------------------------------ tasks and questions

    def tasks(self) -> list[Task]:
        """Survival tasks with at least one run and a readable cohort, in the cohorts' order."""
        wanted = {
            (e.config.cohort.name, e.config.task.name)
            for e in self.runs()
            if e.config is not None and e.config.task.kind == "survival"
        }
        return [
            Task(entry.name, name, spec.title, spec.event_title, spec.horizon_days)
            for entry in self.cohorts()
            if entry.cohort is not None
            for name, spec in entry.cohort.spec.tasks.items()
            if (entry.cohort.spec.name, name) in wanted or (entry.name, name) in wanted
        ]

    def splits(self, task: Task) -> list[str]:
        """The evaluated splits that have patients for the task."""
        cohort = self.cohort(task.cohort)
        return [s for s in EVALUATED_SPLITS if len(cohort.subject_ids(s, task.name))]

    def usable_runs(self, task: Task) -> tuple[list[Run], dict[str, str]]:
        """Runs of a task that load, and {run name: reason} of those that do not."""
        good, broken = [], {}
        for entry in self.runs(task):
            try:
                good.append(self.run(entry.name))
            except WorkspaceError as error:
                broken[entry.name] = str(error)
        return good, broken

    def evaluate(
        self,
        task: Task,
        names: Sequence[str],
        split: str,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """The very content of `fusionlens evaluate --json` for these runs; stored."""
        with self._work:
            runs = [self.run(name) for name in names]
            return evaluate(runs, self.cohort(task.cohort), split, self.store, progress=progress)

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
        with self._work:
            cohort = self.cohort(task.cohort)
            return risk_groups(
                self.run(name), cohort, split, self.store, rule, horizon_days, ticks_days
            )

    @cached_property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name


def _folders(parent: Path) -> list[Path]:
    """Visible subfolders, by name; work in progress starts with a dot."""
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _stamp(folder: Path) -> float:
    """Changes when a file of the folder is replaced."""
    return max((p.stat().st_mtime for p in folder.iterdir() if p.is_file()), default=0.0)
