"""Long work in words."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from app.figures.text import markdown
from app.workspace import Task, Workspace
from models.checkpoint import Run


def predictions(
    workspace: Workspace, task: Task, runs: Sequence[Run], splits: Sequence[str]
) -> tuple[list[Run], dict[str, str]]:
    """Predict what is not stored yet, with a bar; returns usable runs and reasons of others."""
    place = st.empty()

    began = time.monotonic()

    def progress(share: float, words: str) -> None:
        # Stored predictions are read at once; a bar that flashes by would only disturb.
        if time.monotonic() - began > 0.7:
            place.progress(
                share,
                text=f"Predicting: {markdown(words)}. What is finished is stored: you can leave "
                "this page, and it goes on from there when you come back.",
            )

    try:
        with st.spinner("Reading stored predictions, or computing those that are missing"):
            return workspace.predictable(task, runs, splits, progress)
    finally:
        place.empty()
