"""Long work in words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import streamlit as st

from analysis.features import Progress
from app.figures.text import count, markdown
from app.turns import TURNS
from app.workspace import AnyRunT, Task, Workspace


def spinner(words: str, *, show_time: bool = False) -> AbstractContextManager[None]:
    """A spinner with `words`, and what comes first where other readers' computations do."""
    others = TURNS.others
    if others:
        words += f"; first {count(others, 'computation')} that others asked for"
    return st.spinner(words, show_time=show_time)


def predictions(
    workspace: Workspace, task: Task, runs: Sequence[AnyRunT], splits: Sequence[str]
) -> tuple[list[AnyRunT], dict[str, str]]:
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
        TURNS.give_way()

    try:
        with spinner("Reading stored predictions, or computing those that are missing"):
            return workspace.predictable(task, runs, splits, progress)
    finally:
        place.empty()


@contextmanager
def counted(words: str, what: str = "patients") -> Iterator[Progress]:
    """A function (done, of all) that shows a bar with `words` once the work takes noticeable time.

    what: is counted.
    Stored results are read at once and show none.
    """
    place = st.empty()
    began = time.monotonic()

    def progress(done: int, total: int) -> None:
        if time.monotonic() - began > 0.7:
            place.progress(
                min(done / max(total, 1), 1.0),
                text=f"{markdown(words)}: {done:,} of {total:,} {what}. The answer is stored and "
                "found again.",
            )
        TURNS.give_way()

    try:
        with spinner(f"{markdown(words)}, or reading what is stored"):
            yield progress
    finally:
        place.empty()
