"""The HTML report of `fusionlens explain --out`: the one of the patient page, read blinded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.attribution.case import Case
from analysis.attribution.modalities import ModalityLedger, modality_ledger
from analysis.attribution.target import Survival, Target
from analysis.baseline_file import read_baseline
from analysis.explain import Explained
from analysis.outlook import Outlook
from app.panels.patient_header import Shown
from app.panels.patient_report import Collected, report_of
from app.report import render
from app.workspace import Task
from models.checkpoint import Run


@dataclass(frozen=True)
class _Answers:
    """What the report asks, answered from what the command has made. See `patients.Explains`."""

    trust_report: Mapping[str, Any] | None

    def trust(self, case: Case) -> Mapping[str, Any] | None:
        return self.trust_report

    def ledger(self, case: Case, target: Target) -> ModalityLedger:
        return modality_ledger(case, target)

    def target(self, run: Run, name: str, days: Sequence[float] = ()) -> Target:
        if name != "survival":
            raise ValueError(f"the report asks for '{name}', which only the app answers.")
        return Survival(read_baseline(run.folder), tuple(float(d) for d in days))


def write_report(
    path: Path,
    case: Case,
    target: Target,
    found: Explained,
    outlook: Outlook,
    trust: Mapping[str, Any] | None,
) -> None:
    """Write the report of one run's explanation; what happened to the patient is not in it."""
    spec = case.cohort.spec
    name = case.run.config.task.name
    entry = spec.task(name)
    collected = Collected(
        maps=list(found.maps),
        recordings=[*found.signals, *found.videos],
        attributions=list(found.attributions),
        attention=list(found.attention),
        notes=[(m, note) for note in found.notes for m in case.present if f"'{m}'" in note],
    )
    task = Task(spec.name, name, entry.title, entry.event_title, entry.horizon_days, entry.kind)
    shown = [Shown(case, outlook, task)]
    report = report_of(_Answers(trust), shown, [target], collected, spec.index_event)
    path.write_text(render(report), encoding="utf-8")
