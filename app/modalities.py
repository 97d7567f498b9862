"""What a run does when a modality is missing: the one object that the Modalities page talks to.

Everything is stored in the workspace and found again; `fusionlens missing` gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.attribution.case import Case
from analysis.baseline_file import read_baseline
from analysis.cohort.schema import CohortError
from analysis.features import Progress
from analysis.imbalance.across import balance_point, unimodal_of
from analysis.imbalance.report import imbalance_report
from analysis.imbalance.shares import PatientShares, shares_of_run
from analysis.missing.combinations import Population, by_combination
from analysis.missing.drop import drop_curve
from analysis.missing.monotonicity import changes, monotonicity
from analysis.missing.natural import by_pattern
from analysis.missing.patient import patient_combinations
from analysis.missing.patterns import availability
from analysis.missing.predictions import subset_predictions
from analysis.missing.report import Stage
from app.workspace import Task, Workspace
from models.checkpoint import Run, RunConfig


class ModalityDesk:
    """Asks runs of a workspace with less than they know; one computation at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.store = workspace.store

    def prepare(self, task: Task, run: Run, split: str, progress: Progress | None = None) -> str:
        """Predict under every combination, the long part; returns the design in words."""
        cohort = self.workspace.cohort(task.cohort)
        return subset_predictions(run, cohort, split, self.store, progress).design.words

    def combinations(
        self, task: Task, run: Run, split: str, population: Population
    ) -> dict[str, Any]:
        """`by_combination` of a population."""
        cohort = self.workspace.cohort(task.cohort)
        return by_combination(run, cohort, split, self.store, population=population)

    def natural(self, task: Task, run: Run, split: str) -> dict[str, Any]:
        """`by_pattern`."""
        return by_pattern(run, self.workspace.cohort(task.cohort), split, self.store)

    def drop(self, task: Task, run: Run, split: str) -> dict[str, Any]:
        """`drop_curve`."""
        return drop_curve(run, self.workspace.cohort(task.cohort), split, self.store)

    def monotonicity(self, task: Task, run: Run, split: str) -> dict[str, Any]:
        """`monotonicity`."""
        return monotonicity(run, self.workspace.cohort(task.cohort), split, self.store)

    def changes(self, task: Task, run: Run, split: str) -> pd.DataFrame:
        """Every patient's loss with and without each modality."""
        return changes(run, self.workspace.cohort(task.cohort), split, self.store)

    def availability(
        self, task: Task, run: Run, progress: Progress | None = None
    ) -> dict[str, Any]:
        """`availability` over all splits and sites."""
        cohort = self.workspace.cohort(task.cohort)
        return availability(run, cohort, self.store, progress=progress)

    def patient(self, case: Case) -> dict[str, Any]:
        """`patient_combinations`; milliseconds, so not stored."""
        survival = case.run.config.task.kind == "survival"
        return patient_combinations(case, read_baseline(case.run.folder) if survival else None)

    # ------------------------------------------------------------ balance

    def imbalance(
        self, task: Task, run: Run, split: str, progress: Stage | None = None
    ) -> dict[str, Any]:
        """`imbalance_report` against the task's own unimodal runs."""
        cohort = self.workspace.cohort(task.cohort)
        unimodal = unimodal_of(run, self.workspace.usable_runs(task)[0])
        return imbalance_report(run, cohort, split, self.store, unimodal, progress=progress)

    def shares(self, task: Task, run: Run, split: str) -> PatientShares:
        """Every patient's own shares, from predictions that are stored."""
        cohort = self.workspace.cohort(task.cohort)
        return shares_of_run(run, cohort, split, self.store)[0]

    def balance_points(
        self, task: Task, run: Run, scope: str, progress: Progress | None = None
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """`balance_point` of runs on their evaluated splits, and {run: why it has none}.

        scope: 'run' this one, 'task' all fusion runs of the task, 'all' those of every task.
        `best_title` is the best single modality for people.
        """
        tasks = self.workspace.tasks() if scope == "all" else [task]
        wanted = []
        for one in tasks:
            usable = self.workspace.usable_runs(one)[0]
            fused = [r for r in usable if len(r.config.modalities) > 1]
            chosen = [r for r in fused if scope != "run" or r.config.name == run.config.name]
            wanted += [
                (one, r, split, usable) for r in chosen for split in self.workspace.splits(one)
            ]
        points, left_out = [], {}
        for done, (one, fused_run, split, usable) in enumerate(wanted):
            cohort = self.workspace.cohort(one.cohort)
            unimodal = unimodal_of(fused_run, usable)
            try:
                point = balance_point(fused_run, cohort, split, self.store, unimodal)
            except CohortError as error:
                left_out[fused_run.config.name] = str(error)
                continue
            best = point["best_single"]
            title = "" if best is None else fused_run.config.modalities[best].title
            points.append({**point, "best_title": title})
            if progress is not None:
                progress(done + 1, len(wanted))
        return points, left_out

    def configs(self, points: Sequence[Mapping[str, Any]]) -> dict[str, RunConfig]:
        """{run: its config} of the runs of some points."""
        names = {p["run"] for p in points}
        known = [e.config for e in self.workspace.runs() if e.config is not None]
        return {c.name: c for c in known if c.name in names}
