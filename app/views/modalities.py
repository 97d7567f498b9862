"""Which one carries it, and what if it is missing?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import theme
from app.figures.text import markdown
from app.modalities import ModalityDesk
from app.panels import (
    address,
    choose,
    frame,
    imbalance,
    missing_availability,
    missing_combinations,
    missing_drop,
    missing_monotonicity,
    missing_patient,
    progress,
)
from app.workspace import Task
from models.checkpoint import Run


def main() -> None:
    """A run and a split; one question at a time."""
    frame.title(
        "Which one carries it, and what if it is missing?",
        "The same run, told less: by combination of modalities, at random, patient by patient. A "
        "modality that is missing is told to the run as absent, never as zero.",
    )
    workspace = frame.workspace()
    desk = ModalityDesk(workspace)
    left, right = st.columns(2)
    with left:
        task = choose.task(workspace, "modalities")
    usable, broken = workspace.usable_runs(task)
    choose.broken(broken)
    choose.without_a_model(workspace, task)
    runs = {r.config.name: r for r in usable if len(r.config.modalities) > 1}
    if not runs:
        st.info("No run of this task reads several modalities.")
        return
    key = f"modalities run {task.key}"
    address.start("strategy", key, list(runs), next(iter(runs)), "strategy")
    with right:
        name = st.selectbox(
            "Strategy", list(runs), format_func=lambda n: runs[n].config.title, key=key
        )
    address.keep("strategy", name)
    splits = workspace.splits(task)
    if not splits:
        st.info("This cohort has no internal or external test patients for the task.")
        return
    key = f"modalities split {task.key}"
    address.start("split", key, splits, splits[0], "split")
    split = st.segmented_control(
        "Test patients", splits, format_func=theme.split_title, required=True, key=key
    )
    split = split or splits[0]
    address.keep("split", split)
    good, failed = progress.predictions(workspace, task, [runs[name]], [split])
    choose.broken(failed)
    if not good:
        return
    sections = _sections(desk, task, runs[name], list(runs.values()), split)
    choose.section(sections, "modalities section")


def _sections(
    desk: ModalityDesk, task: Task, run: Run, runs: Sequence[Run], split: str
) -> choose.Sections:
    """What can be looked at."""

    def fewer() -> None:
        words = _prepared(desk, task, run, split)
        missing_combinations.show(desk, task, run, split, words)

    def more() -> None:
        _prepared(desk, task, run, split)
        missing_monotonicity.show(desk, task, run, split)

    def balanced() -> None:
        _prepared(desk, task, run, split)
        imbalance.show(desk, task, run, split)

    return {
        "fewer": ("With fewer modalities", fewer),
        "dropped": ("Dropped at random", partial(missing_drop.show, desk, task, run, runs, split)),
        "more": ("Does more ever harm?", more),
        "balance": ("How balanced?", balanced),
        "who": ("Who has what", partial(missing_availability.show, desk, task, run, split)),
        "patient": (
            "One patient",
            lambda: missing_patient.show(desk, frame.desk(), task, run, split),
        ),
    }


def _prepared(desk: ModalityDesk, task: Task, run: Run, split: str) -> str:
    words = f"Predicting with fewer modalities, {markdown(run.config.title)}"
    with progress.counted(words) as say:
        return desk.prepare(task, run, split, say)


main()
