"""Single patients of a workspace: who they are, what each run says of them, and why.

The one object that the patient page talks to. Cases are read once and shared; whatever takes
long is stored in the workspace and found again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from analysis.attribution.case import Case, open_case
from analysis.attribution.feature_attention import FeatureAttention, by_outcome
from analysis.attribution.modalities import ModalityLedger, modality_ledger
from analysis.attribution.result import Attribution, VolumeMap
from analysis.attribution.signal import SignalMap
from analysis.attribution.stored import (
    Progress,
    is_stored,
    stored_attribution,
    stored_map,
    stored_signal_map,
    stored_video_map,
)
from analysis.attribution.target import ClassLogit, LogRisk, Survival, Target
from analysis.attribution.video import VideoMap
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split
from analysis.evaluation import LEARNING_SPLITS
from analysis.explain import find_trust
from analysis.outlook import Observed, Outlook, class_names, observed, outlook, percentiles
from analysis.predict import Predictions, predict_stored, read_stored
from analysis.similar import similar_patients
from analysis.store import result_key
from analysis.survival.baseline import BaselineHazard
from app.workspace import Task, Workspace
from models.checkpoint import BASELINE_FILE, Run, RunConfig
from models.contracts import Kind

KEPT_CASES = 48
KEPT_BYTES = 2**30  # of their scans and inputs: a few patients where scans are large
# Test patients first: those are the ones a reader may believe a prediction of.
SPLIT_ORDER = (Split.INTERNAL, Split.EXTERNAL, Split.TUNING, Split.TRAIN)


@dataclass(frozen=True)
class Membership:
    """Whether a run's own task knows the patient.

    n: patients of the cohort, n_told: those with an outcome of the task. told: whether this one
    has an outcome. Where not everybody has one, `told` may itself give away an outcome of another
    task (nobody who has a disease can be followed until they get it): show it only to a reader
    who asked what happened. home: the run was made from this cohort. learnt_from: and from the
    split that the patient is in; with `told`, the run has seen what happened.
    """

    n: int
    n_told: int
    told: bool
    home: bool
    learnt_from: bool

    @property
    def everybody(self) -> bool:
        """Whether the cohort has an outcome of the task for all its patients."""
        return self.n_told == self.n


class Explains(Protocol):
    """What a report asks: the desk of the app answers, and so does the command."""

    def trust(self, case: Case) -> Mapping[str, Any] | None:
        """How far the run's explanations can be believed; None where that was not measured."""
        ...

    def ledger(self, case: Case, target: Target) -> ModalityLedger:
        """Exact shares of the modalities."""
        ...

    def target(self, run: Run, name: str, days: Sequence[float] = ()) -> Target:
        """'log_risk', 'survival' at `days`, or the name of a class."""
        ...


class PatientDesk:
    """Reads and explains single patients; safe to share between sessions."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.store = workspace.store
        self._listed: dict[tuple[str, str], tuple[pd.Series, pd.Series]] = {}
        self._trust: dict[tuple[str, str], tuple[int, Mapping[str, Any] | None]] = {}
        self._training: dict[tuple[str, str], np.ndarray] = {}
        self._baselines: dict[tuple[str, int], BaselineHazard] = {}
        self._cases: OrderedDict[tuple[str, str, int], Case] = OrderedDict()
        self._ledgers: WeakKeyDictionary[Case, dict[str, ModalityLedger]] = WeakKeyDictionary()
        self._lock = threading.RLock()

    # ------------------------------------------------------------ who there is

    def has_predictions(self, task: Task, run: Run) -> bool:
        """Whether `listing` would answer at once."""
        return _key(run.hash, self.workspace.cohort(task.cohort)) in self._listed

    def listing(self, task: Task, run: Run) -> pd.DataFrame:
        """Every patient of the task's cohort, test patients first.

        Indexed by subject_id: split, site, age_years, sex, one bool column a modality of the
        cohort ('has NAME'), risk (log-risk of `run`), percentile (of it among the run's training
        patients, 0 to 100), disagreement (largest difference in percentile between the runs whose
        predictions are stored; missing where there is one only), compared (how many those are),
        time_days and event.
        """
        cohort = self.workspace.cohort(task.cohort)
        frame = cohort.subjects[["split", "site", "age_years", "sex"]].copy()
        there = cohort.availability()
        for name in cohort.spec.modalities:
            frame[f"has {name}"] = there[name]
        if not self.has_predictions(task, run):
            for split in _splits_of(cohort):
                predict_stored(run, cohort, split, self.store, everyone=True)
            self.training_risks(run)
        every = {}
        for entry in self.workspace.runs(task):
            assert entry.config is not None
            found = self._stored(entry.config, entry.folder.name, cohort)
            if found is not None:
                every[entry.config.name] = found
        risk, mine = every[run.config.name]
        frame["risk"], frame["percentile"] = risk, mine
        spread = pd.DataFrame({name: percentile for name, (_, percentile) in every.items()})
        gap = spread.max(axis=1) - spread.min(axis=1)
        # One opinion is no agreement: it takes two runs that can read the patient.
        frame["disagreement"] = gap.where(spread.notna().sum(axis=1) > 1)
        frame["compared"] = spread.shape[1]
        frame = frame.join(self._outcomes(cohort, task))
        order = {str(split): i for i, split in enumerate(SPLIT_ORDER)}
        return frame.iloc[np.argsort(frame["split"].map(order).to_numpy(), kind="stable")]

    def _stored(
        self, config: RunConfig, folder: str, cohort: Cohort
    ) -> tuple[pd.Series, pd.Series] | None:
        """Risk and percentile of everybody by a run that need not be loaded; None: not stored."""
        training = self.workspace.training_cohort(config)
        try:
            name = self.workspace.run_hash(folder)
        except ValueError:  # a RunError: the Overview says what is wrong with the run
            return None
        key = _key(name, cohort)
        with self._lock:
            if key in self._listed:
                return self._listed[key]
        parts = [
            read_stored(config, name, cohort, split, self.store, everyone=True)
            for split in _splits_of(cohort)
        ]
        before = None
        if training is not None and len(training.subject_ids("train", config.task.name)):
            before = read_stored(config, name, training, "train", self.store)
            parts.append(before)
        if any(part is None for part in parts):
            return None
        if before is not None:
            parts.pop()
        risk = pd.concat(
            pd.Series(_first(p), index=p.subject_ids).where(p.known) for p in parts if p
        ).reindex(cohort.subjects.index)
        found = (risk, _percentiles(risk, None if before is None else _first(before)))
        with self._lock:
            self._listed[key] = found
        return found

    def _outcomes(self, cohort: Cohort, task: Task) -> pd.DataFrame:
        found = cohort.outcomes(task.name, cohort.subjects.index.to_numpy())
        columns = {"time_days": found.time_days, "event": found.event}
        return pd.DataFrame(columns, index=found.subject_ids)

    # ------------------------------------------------------------ one patient

    def case(self, task: Task, run: Run, subject_id: int) -> Case:
        """The patient as the run sees them; kept, since every panel starts from it."""
        cohort = self.workspace.cohort(task.cohort)
        key = (*_key(run.hash, cohort), int(subject_id))
        with self._lock:
            if key not in self._cases:
                self._cases[key] = open_case(run, cohort, subject_id)
            self._cases.move_to_end(key)
            held = sum(case.held_bytes for case in self._cases.values())
            while len(self._cases) > 1 and (len(self._cases) > KEPT_CASES or held > KEPT_BYTES):
                held -= self._cases.popitem(last=False)[1].held_bytes
            return self._cases[key]

    def training_risks(self, run: Run) -> np.ndarray | None:
        """Log-risks of the run's training patients; None when their cohort is not here."""
        cohort = self.workspace.training_cohort(run.config)
        if cohort is None or not len(cohort.subject_ids("train", run.config.task.name)):
            return None
        key = _key(run.hash, cohort)
        if key not in self._training:
            self._training[key] = _first(predict_stored(run, cohort, "train", self.store))
        return self._training[key]

    def has_training_risks(self, run: Run) -> bool:
        """Whether `training_risks` would answer at once."""
        cohort = self.workspace.training_cohort(run.config)
        return cohort is None or _key(run.hash, cohort) in self._training

    def outlook(self, case: Case, horizon_days: float | None = None) -> Outlook:
        """What the run predicts, beside its training patients."""
        if case.run.config.task.kind != "survival":
            return outlook(case, None, None)
        baseline = self._baseline(case.run)
        return outlook(case, baseline, self.training_risks(case.run), horizon_days)

    def observed(self, case: Case) -> Observed | None:
        """What happened; asked for apart from the prediction."""
        return observed(case.cohort, case.run.config.task.name, case.subject_id)

    def membership(self, case: Case) -> Membership:
        """Whether the patient is one of those whom the run's task is about."""
        cohort = case.cohort
        told = cohort.subject_ids(task=case.run.config.task.name)
        trained = self.workspace.training_cohort(case.run.config)
        home = trained is not None and trained.fingerprint == cohort.fingerprint
        split = str(cohort.subjects.loc[case.subject_id, "split"])
        return Membership(
            n=len(cohort.subjects),
            n_told=len(told),
            told=case.subject_id in told,
            home=home,
            learnt_from=home and split in LEARNING_SPLITS,
        )

    def target(self, run: Run, name: str, days: Sequence[float] = ()) -> Target:
        """'log_risk', 'survival' at `days`, or the name of a class."""
        if name == "survival":
            return Survival(self._baseline(run), tuple(float(d) for d in days))
        if run.config.task.kind == "survival":
            return LogRisk()
        classes = class_names(run.config.task.classes, run.config.task.outputs)
        return ClassLogit(classes.index(name), name)

    def _baseline(self, run: Run) -> BaselineHazard:
        # Not part of the run's hash, so a replaced file is told by its time.
        path = run.folder / BASELINE_FILE
        key = (str(path), path.stat().st_mtime_ns if path.is_file() else 0)
        if key not in self._baselines:
            self._baselines[key] = read_baseline(run.folder)
        return self._baselines[key]

    # ------------------------------------------------------------ why

    def ledger(self, case: Case, target: Target) -> ModalityLedger:
        """Exact shares of the modalities; milliseconds, so kept with the case and not stored."""
        made = self._ledgers.setdefault(case, {})
        key = result_key(target.parameters)
        if key not in made:
            made[key] = modality_ledger(case, target)
        return made[key]

    def has_attribution(
        self,
        case: Case,
        modality: str,
        target: Target,
        *,
        method: str = "permutation",
        contexts: str = "ledger",
        budget: int | None = None,
    ) -> bool:
        """Whether `attribution` would find its answer in the store."""
        return is_stored(
            case, modality, target, self.store, method=method, contexts=contexts, budget=budget
        )

    def attribution(
        self,
        case: Case,
        modality: str,
        target: Target,
        *,
        method: str = "permutation",
        contexts: str = "ledger",
        budget: int | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        """Shares of a modality's parts, stored."""
        return stored_attribution(
            case,
            modality,
            target,
            self.store,
            method=method,
            contexts=contexts,
            budget=budget,
            progress=progress,
        )

    def volume_map(
        self, case: Case, modality: str, target: Target, method: str, layer: str | None
    ) -> VolumeMap:
        """A map over the patient's scan, stored."""
        return stored_map(case, modality, target, self.store, method=method, layer=layer)

    def signal_map(
        self, case: Case, modality: str, target: Target, method: str, layer: str | None
    ) -> SignalMap:
        """A map over the leads and time of the patient's signal, stored."""
        return stored_signal_map(case, modality, target, self.store, method=method, layer=layer)

    def video_map(
        self, case: Case, modality: str, target: Target, method: str, layer: str | None
    ) -> VideoMap:
        """A map over the patient's videos, stored."""
        return stored_video_map(case, modality, target, self.store, method=method, layer=layer)

    def trust(self, case: Case) -> Mapping[str, Any] | None:
        """`trust_of` the case's run and cohort."""
        return self.trust_of(case.run, case.cohort)

    def trust_of(self, run: Run, cohort: Cohort) -> Mapping[str, Any] | None:
        """How far the run's explanations can be believed: the latest report, if one was made.

        Measured on the cohort the run is used on, else on the one it was trained on, else the one
        that came with the run.
        """
        folder = self.store.home
        stamp = folder.stat().st_mtime_ns if folder.is_dir() else 0
        key = (run.hash, cohort.fingerprint)
        with self._lock:
            if self._trust.get(key, (None, None))[0] != stamp:
                training = self.workspace.training_cohort(run.config)
                self._trust[key] = (stamp, find_trust(run, [cohort, training], self.store))
            return self._trust[key][1]

    def feature_attention(self, case: Case, split: str) -> Mapping[str, FeatureAttention]:
        """Mean attention between features by outcome group of a split, stored."""
        return by_outcome(case.run, case.cohort, split, self.store)

    def similar(self, case: Case, k: int = 8) -> pd.DataFrame:
        """Training patients whom the run sees alike, with their outcomes."""
        among = self.workspace.training_cohort(case.run.config)
        return similar_patients(case, self.store, k, among=among)


def modalities_of(case: Case, *kinds: Kind) -> list[str]:
    """The run's modalities of these kinds, whether the patient has them or not."""
    return [n for n, m in case.run.config.modalities.items() if m.kind in kinds]


def titles_of(run: Run) -> Mapping[str, str]:
    """{modality: title}."""
    return {name: entry.title for name, entry in run.config.modalities.items()}


def _key(run_hash: str, cohort: Cohort) -> tuple[str, str]:
    return run_hash, f"{cohort.folder}:{cohort.fingerprint}"


def _splits_of(cohort: Cohort) -> list[str]:
    here = set(cohort.subjects["split"])
    return [str(split) for split in SPLIT_ORDER if str(split) in here]


def _percentiles(risk: pd.Series, training: np.ndarray | None) -> pd.Series:
    """Percent of the training patients below each risk; ties count half."""
    if training is None:
        return pd.Series(np.nan, index=risk.index)
    return pd.Series(percentiles(risk, training), index=risk.index)


def _first(made: Predictions) -> np.ndarray:
    return made.values[:, 0]
