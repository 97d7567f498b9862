"""What each combination of modalities achieves: the same run, told less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from analysis.cohort.schema import CohortError
from app import theme
from app.figures import classification as figures
from app.figures.text import count, markdown
from app.panels import figure, progress
from app.theme import RunStyle
from app.workspace import Task, Workspace
from models.checkpoint import Run

MOST_MODALITIES = 4


def show(
    workspace: Workspace,
    task: Task,
    runs: Sequence[Run],
    splits: Sequence[str],
    styles: Mapping[str, RunStyle],
) -> None:
    """A table of runs by combinations, for the runs that read several modalities."""
    fused = [r for r in runs if 1 < len(r.config.modalities) <= MOST_MODALITIES]
    if not fused:
        return
    st.header("What does each combination of modalities achieve?", anchor=False)
    split = splits[0]
    if len(splits) > 1:
        split = (
            st.segmented_control(
                "Patients",
                list(splits),
                format_func=theme.split_title,
                default=splits[0],
                required=True,
                key=f"combinations {task.key}",
            )
            or splits[0]
        )
    tables = []
    with progress.spinner(f"Predicting with fewer modalities: {count(len(fused), 'run')}"):
        for run in fused:
            try:
                tables.append(workspace.combinations(task, run.config.name, split))
            except CohortError as error:
                st.warning(f"**{markdown(run.config.title)}** is left out. {markdown(str(error))}")
    if not tables:
        return
    figure.show(
        figures.combination_figure(tables, styles),
        figures.combination_frame(tables),
        f"combinations {task.key} {split}",
        alt="Each run with every combination of its modalities",
    )
    lacking = max(table["n_incomplete"] for table in tables)
    st.caption(
        "Every cell is the same run on the same patients, those who have all of its modalities "
        f"({lacking:,} others are left out); what is not named is told to the model as absent. A "
        "single modality here is the fusion model without the others, not a model of its own."
    )
