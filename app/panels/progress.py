"""Long work in words."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.figures.text import count, markdown
from app.workspace import Task, Workspace
from models.checkpoint import Run


def predictions(
    workspace: Workspace, task: Task, runs: Sequence[Run], splits: Sequence[str]
) -> tuple[list[Run], dict[str, str]]:
    """Predict what is not stored yet, with a bar; returns usable runs and reasons of others."""
    place = st.empty()

    def progress(done: int, total: int) -> None:
        share = f"{done} of {total} parts done"
        place.progress(
            done / total,
            text=f"Predicting {task_words} with {count(len(runs), 'run')}: {share}. Results are "
            "stored, so you can leave this page and nothing is computed twice.",
        )

    task_words = markdown(task.title.lower())
    try:
        with st.spinner("Reading stored predictions, or computing those that are missing"):
            return workspace.predictable(task, runs, splits, progress)
    finally:
        place.empty()
