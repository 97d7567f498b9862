"""What a run does when a modality is missing: the one object that the Modalities page talks to.

Everything is stored in the workspace and found again; `fusionlens missing` gives the same.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.attribution.case import Case
from analysis.baseline_file import read_baseline
from analysis.features import Progress
from analysis.missing.combinations import Population, by_combination
from analysis.missing.drop import drop_curve
from analysis.missing.monotonicity import changes, monotonicity
from analysis.missing.natural import by_pattern
from analysis.missing.patient import patient_combinations
from analysis.missing.patterns import availability
from analysis.missing.predictions import subset_predictions
from app.workspace import Task, Workspace
from models.checkpoint import Run


class ModalityDesk:
    """Asks runs of a workspace with less than they know; one computation at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.store = workspace.store

    def prepare(self, task: Task, run: Run, split: str, progress: Progress | None = None) -> str:
        """Predict under every combination, the long part; returns the design in words."""
        cohort = self.workspace.cohort(task.cohort)
        with self.workspace.work:
            return subset_predictions(run, cohort, split, self.store, progress).design.words

    def combinations(
        self, task: Task, run: Run, split: str, population: Population
    ) -> dict[str, Any]:
        """`by_combination` of a population."""
        cohort = self.workspace.cohort(task.cohort)
        with self.workspace.work:
            return by_combination(run, cohort, split, self.store, population=population)

    def natural(self, task: Task, run: Run, split: str) -> dict[str, Any]:
        """`by_pattern`."""
        with self.workspace.work:
            return by_pattern(run, self.workspace.cohort(task.cohort), split, self.store)

    def drop(self, task: Task, run: Run, split: str) -> dict[str, Any]:
        """`drop_curve`."""
        with self.workspace.work:
            return drop_curve(run, self.workspace.cohort(task.cohort), split, self.store)

    def monotonicity(self, task: Task, run: Run, split: str) -> dict[str, Any]:
        """`monotonicity`."""
        with self.workspace.work:
            return monotonicity(run, self.workspace.cohort(task.cohort), split, self.store)

    def changes(self, task: Task, run: Run, split: str) -> pd.DataFrame:
        """Every patient's loss with and without each modality."""
        with self.workspace.work:
            return changes(run, self.workspace.cohort(task.cohort), split, self.store)

    def availability(
        self, task: Task, run: Run, progress: Progress | None = None
    ) -> dict[str, Any]:
        """`availability` over all splits and sites."""
        with self.workspace.work:
            cohort = self.workspace.cohort(task.cohort)
            return availability(run, cohort, self.store, progress=progress)

    def patient(self, case: Case) -> dict[str, Any]:
        """`patient_combinations`; milliseconds, so not stored."""
        survival = case.run.config.task.kind == "survival"
        return patient_combinations(case, read_baseline(case.run.folder) if survival else None)
