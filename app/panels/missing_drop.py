"""How do runs hold out when modalities go missing at random?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import theme
from app.figures import drop as figures
from app.figures.text import count, counted, listed, markdown, number
from app.modalities import ModalityDesk
from app.panels import choose, figure, progress
from app.workspace import Task
from models.checkpoint import Run

MOST_RUNS = 6


def show(desk: ModalityDesk, task: Task, run: Run, runs: Sequence[Run], split: str) -> None:
    """Several strategies in one picture; accuracy beside AUC for a class task."""
    names = [r.config.name for r in runs]
    default = [run.config.name, *(n for n in names if n != run.config.name)][:MOST_RUNS]
    chosen = choose.runs("Strategies", runs, default, key=f"drop runs {task.key}")
    if not chosen:
        st.info("Choose at least one run.")
        return
    found = []
    for one in chosen:
        with progress.counted(f"Predicting with fewer modalities, {one.config.title}") as say:
            desk.prepare(task, one, split, say)
        found.append(desk.drop(task, one, split))
    styles = {r.config.name: theme.run_style(r.config) for r in chosen}
    measures = list(found[0]["measures"])
    name = f"dropped {task.key} {split}"
    columns = st.columns(len(measures))
    for column, measure in zip(columns, measures, strict=True):
        with column:
            figure.show(
                figures.curves(found, measure, styles, first=run.config.name),
                figures.frame(found),
                f"{name} {measure}",
                alt=f"{figures.MEASURES[measure]} over the chance that a modality is dropped",
            )
    first = found[0]
    classes = run.config.task.classes
    who = counted(first["n"], first["events"], classes[1] if len(classes) == 2 else "")
    banded = (
        "bands hold 95% of the draws, with the same patients. Upright bars left of 0%: 95% "
        "interval over patients with everything they have"
    )
    if len(found) > figures.MOST_BANDS:
        banded = f"{banded}; of {count(len(found), 'run')} only the strategy chosen above has them"
    lefts = dict.fromkeys(f"{number(c['told'][0], 2)} to {number(c['told'][-1], 2)}" for c in found)
    left = f"modalities left fall from {listed(list(lefts))}"
    accuracy = (
        " Accuracy keeps the run's own cut-off, learned on tuning patients as they are."
        if "accuracy" in measures
        else ""
    )
    st.caption(
        f"{theme.split_title(split)}: {markdown(who)}. Each modality that a "
        "patient has is dropped with the chance below, never the patient's last one: of a patient "
        "who would lose all, the one with the highest draw stays. So at 90% most patients are told "
        f"one modality (on average {left}). Lines: mean of {first['repeats']} random draws, seed "
        f"{first['seed']}, the same for every run; {banded}.{accuracy} After Zheng et al. (HAF), "
        "figure 2."
    )
