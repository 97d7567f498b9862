"""One patient: why this risk?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError
from analysis.attribution.target import Target
from analysis.outlook import SurvivalOutlook
from app.figures.text import listed, markdown
from app.panels import (
    address,
    audited,
    choose,
    frame,
    patient_attention,
    patient_ct,
    patient_ecg,
    patient_echo,
    patient_export,
    patient_header,
    patient_ledger,
    patient_parts,
    patient_picker,
    patient_runs,
    patient_similar,
    patient_tasks,
    patient_whatif,
    progress,
)
from app.panels.patient_header import Shown
from app.patients import PatientDesk, titles_of
from app.workspace import Task, Workspace
from models.checkpoint import Run
from models.contracts import Kind

DRAWN_BY = {
    Kind.VOLUME: patient_ct.show,
    Kind.SIGNAL: patient_ecg.show,
    Kind.VIDEO: patient_echo.show,
}
TARGET_WORDS = {"log_risk": "log-risk", "survival": "event-free probability at the horizon"}


def main() -> None:
    """Who, what is predicted, and why."""
    frame.title(
        "Why this risk?",
        "One patient: what a strategy predicts, which modality carries it, and what in each "
        "modality. Every explanation says how far it can be believed.",
    )
    workspace = frame.workspace()
    address.workspace(workspace)
    desk = frame.desk()
    task = choose.task(workspace, "patient")
    runs = patient_runs.choose(workspace, task)
    choose.without_a_model(workspace, task)
    if not runs:
        return
    index_event = workspace.cohort(task.cohort).spec.index_event
    task = runs[0][0]  # another one only where the first run could not be read
    listing = _listing(workspace, desk, task, [run for whose, run in runs if whose == task])
    _learnt(workspace, desk, [(whose, run) for whose, run in runs if whose != task])
    titles = {n: t for _, run in runs for n, t in titles_of(run).items()}
    names = [run.config.name for _, run in runs]
    audited.listed("list", task, names[:1], "patients")
    subject = patient_picker.pick(
        listing,
        titles,
        task.event_title,
        task.cohort,
        unblinded=lambda: audited.listed("outcomes", task, names[:1], "patients and outcomes"),
    )
    if subject is None:
        return
    audited.opened("patient", task, [subject], names, "prediction")
    shown = _shown(desk, runs, subject)
    if not shown:
        return
    patient_tasks.standing(desk, shown)
    _from_elsewhere(shown)
    patient_header.show(desk, shown, index_event)
    targets = _targets(desk, shown)
    patient_tasks.say(shown, targets)
    patient_ledger.show(desk, shown, targets)
    _section(desk, shown, targets, index_event)


def _listing(
    workspace: Workspace, desk: PatientDesk, task: Task, runs: Sequence[Run]
) -> pd.DataFrame:
    missing = [run for run in runs if not desk.has_predictions(task, run)]
    _, broken = progress.predictions(workspace, task, missing, workspace.splits(task))
    choose.broken(broken)
    there = [run for run in runs if run.config.name not in broken]
    return desk.listing(task, (there or list(runs))[0])


def _learnt(workspace: Workspace, desk: PatientDesk, others: Sequence[tuple[Task, Run]]) -> None:
    """Predict other tasks' training patients, beside whom the patient stands, with a bar."""
    for task, run in others:
        if task.kind == "survival" and not desk.has_training_risks(run):
            _, broken = progress.predictions(workspace, task, [run], [])
            choose.broken(broken)


def _shown(desk: PatientDesk, runs: Sequence[tuple[Task, Run]], subject: int) -> list[Shown]:
    shown = []
    several = len({task for task, _ in runs}) > 1
    for task, run in runs:
        try:
            case = desk.case(task, run, subject)
            shown.append(Shown(case, desk.outlook(case), task, several))
        except AttributionError as error:
            st.warning(f"**{markdown(run.config.title)}**: {markdown(str(error))}")
    return shown


def _from_elsewhere(shown: Sequence[Shown]) -> None:
    """Say so when a run meets patients of another cohort than its own."""
    away = [s for s in shown if s.case.run.config.cohort.fingerprint != s.case.cohort.fingerprint]
    if away:
        trained = listed(sorted({f"'{s.case.run.config.cohort.title}'" for s in away}))
        st.warning(
            f"The strategy was trained on another cohort ({markdown(trained)}). How well it "
            "predicts for patients like this one, and whether its maps find what they should in "
            "them, was not measured here: the checks below are those of its own cohort."
        )


def _targets(desk: PatientDesk, shown: Sequence[Shown]) -> list[Target]:
    """The explained number, one of the same name for each run of a task."""
    tasks = patient_header.by_task(shown)
    places = st.columns(len(tasks)) if len(tasks) > 1 else [st.container()]
    found: dict[Task, list[Target]] = {}
    for place, (task, items) in zip(places, tasks.items(), strict=True):
        with place:
            if len(tasks) > 1:
                st.markdown(f"**{markdown(task.title)}**")
            found[task] = _targets_of(desk, items, wide=len(tasks) == 1)
    ordered = {task: iter(targets) for task, targets in found.items()}
    return [next(ordered[item.task]) for item in shown]


def _targets_of(desk: PatientDesk, shown: Sequence[Shown], *, wide: bool) -> list[Target]:
    """For the runs of one task. wide: there is room for a slider beside the choice."""
    first = shown[0].outlook
    task = shown[0].task.key
    if not isinstance(first, SurvivalOutlook):
        names = list(first.probabilities)
        name = st.segmented_control(
            "Explain the logit of",
            names,
            format_func=markdown,
            default=names[-1],
            required=True,
            key=f"explained class {task}",
        )
        return [desk.target(s.case.run, name or names[-1]) for s in shown]
    left, right = st.columns([2, 3]) if wide else (st.container(), st.container())
    with left:
        name = st.segmented_control(
            "Explain",
            list(TARGET_WORDS),
            format_func=TARGET_WORDS.__getitem__,
            default="log_risk",
            required=True,
            key=f"explained number {task}",
        )
    if name != "survival":
        return [desk.target(s.case.run, "log_risk") for s in shown]
    last = int(
        min(s.outlook.times_days[-1] for s in shown if isinstance(s.outlook, SurvivalOutlook))
    )
    with right:
        day = st.slider(
            "Horizon in days",
            1,
            last,
            int(min(first.horizon_days, last)),
            key=f"explained horizon {task}",
        )
    return [desk.target(s.case.run, "survival", [day]) for s in shown]


def _section(
    desk: PatientDesk,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    index_event: str,
) -> None:
    """What is looked at below the ledger; one at a time, so that a click computes one thing."""
    sections = _sections(desk, shown, targets, index_event)
    first = shown[0]
    names = [item.case.run.config.name for item in shown]

    def opened(name: str) -> None:
        audited.opened("section", first.task, [first.case.subject_id], names, name)

    st.header("What in each modality?", anchor=False)
    choose.section(sections, f"section {' '.join(sections)}", opened)


def _sections(
    desk: PatientDesk,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    index_event: str,
) -> choose.Sections:
    """What can be looked at."""
    found: dict[str, tuple[str, Callable[[], None]]] = {}
    kinds = {
        name: (entry.title, entry.kind)
        for item in shown
        for name, entry in item.case.run.config.modalities.items()
    }
    for name, (title, kind) in kinds.items():
        draw = DRAWN_BY.get(kind, patient_parts.show)
        found[name] = (markdown(title), partial(_modality, draw, desk, shown, targets, name))
    found["attention"] = ("Attention", partial(patient_attention.show, desk, shown, targets))
    found["what-if"] = ("What if", partial(patient_whatif.show, desk, shown, index_event))
    found["similar"] = ("Similar patients", partial(patient_similar.show, desk, shown))
    found["export"] = ("Export", partial(patient_export.show, desk, shown, targets, index_event))
    return found


def _modality(
    draw: Callable[[PatientDesk, Sequence[Shown], Sequence[Target], str], None],
    desk: PatientDesk,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    name: str,
) -> None:
    patient_tasks.not_read(shown, name)
    draw(desk, shown, targets, name)


main()
