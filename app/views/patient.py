"""One patient: why this risk?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError
from analysis.attribution.target import Target
from analysis.outlook import SurvivalOutlook
from app.figures.text import listed, markdown
from app.panels import (
    address,
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
    patient_similar,
    patient_whatif,
    progress,
)
from app.panels.patient_header import Shown
from app.patients import PatientDesk, titles_of
from app.workspace import Task, Workspace
from models.checkpoint import Run
from models.contracts import Kind

NOBODY = "(none)"
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
    runs = _runs(workspace, task)
    if not runs:
        return
    index_event = workspace.cohort(task.cohort).spec.index_event
    listing = _listing(workspace, desk, task, runs)
    titles = {n: t for run in runs for n, t in titles_of(run).items()}
    subject = patient_picker.pick(listing, titles, task.event_title, task.cohort)
    if subject is None:
        return
    row = listing.loc[subject]
    if row["split"] in ("train", "tuning"):
        st.warning(
            f"This patient is in the {row['split'].replace('train', 'training')} split: the runs "
            "have seen what happened, so their predictions flatter them."
        )
    shown = _shown(desk, task, runs, subject)
    if not shown:
        return
    _from_elsewhere(shown)
    patient_header.show(desk, task, shown, index_event)
    targets = _targets(desk, shown)
    patient_ledger.show(desk, shown, targets)
    _section(desk, task, shown, targets, index_event)


def _runs(workspace: Workspace, task: Task) -> list[Run]:
    """One strategy, or two side by side; kept in the address."""
    entries = {e.config.name: e for e in workspace.runs(task) if e.config is not None}
    if not entries:
        st.info("There is no run for this task.")
        return []
    titles = {name: entry.config.title for name, entry in entries.items() if entry.config}
    fused = [name for name, entry in entries.items() if not entry.is_unimodal] or list(entries)
    best = max(fused, key=lambda name: entries[name].config.training.tuning_score or 0.0)  # type: ignore[union-attr]
    left, right = st.columns(2)
    names = list(entries)
    key = f"strategy {task.key}"
    address.start("strategy", key, names, best, "strategy")
    with left:
        first = st.selectbox("Strategy", names, format_func=titles.__getitem__, key=key)
    others = [NOBODY, *(name for name in names if name != first)]
    key = f"beside {task.key}"
    address.start("compare", key, others, NOBODY, "strategy")
    with right:
        second = st.selectbox(
            "Side by side with",
            others,
            format_func=lambda name: "no other strategy" if name == NOBODY else titles[name],
            key=key,
        )
    address.keep("strategy", first)
    address.keep("compare", None if second == NOBODY else second)
    chosen = []
    for name in [first] if second == NOBODY else [first, second]:
        try:
            chosen.append(workspace.run(entries[name].folder.name))
        except ValueError as error:  # WorkspaceError and RunError
            st.warning(f"**{markdown(titles[name])}** is left out. {markdown(str(error))}")
    return chosen


def _listing(
    workspace: Workspace, desk: PatientDesk, task: Task, runs: Sequence[Run]
) -> pd.DataFrame:
    missing = [run for run in runs if not desk.has_predictions(task, run)]
    _, broken = progress.predictions(workspace, task, missing, workspace.splits(task))
    choose.broken(broken)
    there = [run for run in runs if run.config.name not in broken]
    return desk.listing(task, (there or list(runs))[0])


def _shown(desk: PatientDesk, task: Task, runs: Sequence[Run], subject: int) -> list[Shown]:
    shown = []
    for run in runs:
        try:
            case = desk.case(task, run, subject)
            shown.append(Shown(case, desk.outlook(case)))
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
    """The explained number, one of the same name for each run."""
    first = shown[0].outlook
    if not isinstance(first, SurvivalOutlook):
        names = list(first.probabilities)
        name = st.segmented_control(
            "Explain the logit of", names, default=names[-1], required=True, key="explained class"
        )
        return [desk.target(s.case.run, name or names[-1]) for s in shown]
    left, right = st.columns([2, 3])
    with left:
        name = st.segmented_control(
            "Explain",
            list(TARGET_WORDS),
            format_func=TARGET_WORDS.__getitem__,
            default="log_risk",
            required=True,
            key="explained number",
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
            key=f"explained horizon {shown[0].case.run.config.task.name}",
        )
    return [desk.target(s.case.run, "survival", [day]) for s in shown]


def _section(
    desk: PatientDesk,
    task: Task,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    index_event: str,
) -> None:
    """What is looked at below the ledger; one at a time, so that a click computes one thing."""
    sections = _sections(desk, task, shown, targets, index_event)
    key = f"section {' '.join(sections)}"
    address.start("section", key, list(sections), next(iter(sections)), "section")
    st.header("What in each modality?", anchor=False)
    # Choosing another section reruns this part alone: header and ledger stay as they are.
    frame.fragment(partial(_chosen, sections, key))


def _chosen(sections: Mapping[str, tuple[str, Callable[[], None]]], key: str) -> None:
    chosen = st.segmented_control(
        "Look at",
        list(sections),
        format_func=lambda name: sections[name][0],
        required=True,
        label_visibility="collapsed",
        key=key,
    )
    chosen = chosen or next(iter(sections))
    address.keep("section", chosen)
    sections[chosen][1]()


def _sections(
    desk: PatientDesk,
    task: Task,
    shown: Sequence[Shown],
    targets: Sequence[Target],
    index_event: str,
) -> Mapping[str, tuple[str, Callable[[], None]]]:
    """{name in the address: (title, what draws it)}."""
    found: dict[str, tuple[str, Callable[[], None]]] = {}
    kinds = {
        name: (entry.title, entry.kind)
        for item in shown
        for name, entry in item.case.run.config.modalities.items()
    }
    for name, (title, kind) in kinds.items():
        draw = DRAWN_BY.get(kind, patient_parts.show)
        found[name] = (title, partial(draw, desk, shown, targets, name))
    found["attention"] = ("Attention", partial(patient_attention.show, desk, shown, targets))
    found["what-if"] = ("What if", partial(patient_whatif.show, desk, task, shown, index_event))
    found["similar"] = ("Similar patients", partial(patient_similar.show, desk, shown))
    found["export"] = (
        "Export",
        partial(patient_export.show, desk, task, shown, targets, index_event),
    )
    return found


main()
