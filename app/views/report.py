"""What would a reviewer read?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from analysis.external import AnyRun
from analysis.reporting.dossier import MOST_RUNS
from analysis.reporting.manifest import manifest_of
from app import review, theme
from app.figures.text import count, markdown
from app.panels import choose, figure, frame, progress
from app.review import Evidence, Rows
from app.workspace import Task, Workspace
from models.checkpoint import Run

_SUGGESTED = 6


def main() -> None:
    """Settings, then one section a question."""
    frame.title(
        "What would a reviewer ask?",
        "One task from top to bottom: who was studied, which run is best and how sure that is, "
        "whether it is calibrated, useful, balanced, robust and believable.",
    )
    workspace = frame.workspace()
    left, _ = st.columns(2)
    with left:
        task = choose.task(workspace, "report")
    usable, broken = workspace.predicting_runs(task)
    chosen = choose.runs("Runs", usable, _suggested(usable), key=f"report runs {task.key}")
    choose.broken(broken)
    splits = workspace.splits(task)
    horizon, threshold = _settings(task)
    if not chosen or not splits:
        st.info(
            "Choose at least one run."
            if splits
            else "This cohort has no internal or external test patients for the task."
        )
        return
    if len(chosen) > MOST_RUNS:
        st.info(f"Choose at most {count(MOST_RUNS, 'run')}: more cannot be compared at a glance.")
        return
    good, failed = progress.predictions(workspace, task, chosen, splits)
    choose.broken(failed)
    if not good:
        return
    found = _found(workspace, task, good, splits, horizon, threshold)
    styles = {run.config.name: theme.run_style(run.config) for run in good}
    for section in review.sections(found, styles):
        _section(section)
    _downloads(task, good, found)


def _suggested(usable: Sequence[AnyRun]) -> list[str]:
    """The best fused runs and the best of single modalities on tuning patients; a handful.

    Predictions made elsewhere are for the reader to add: they may not cover everybody.
    """
    ordered = sorted(
        (run for run in usable if isinstance(run, Run)),
        key=lambda run: -(run.config.training.tuning_score or 0),
    )
    single = [run.config.name for run in ordered if run.config.strategy.name == "unimodal"][:2]
    fused = [run.config.name for run in ordered if run.config.strategy.name != "unimodal"]
    return [*fused[: _SUGGESTED - len(single)], *single]


def _settings(task: Task) -> tuple[float | None, float | None]:
    """Horizon and threshold; None where the reader leaves them to the task and the cohort."""
    left, right, _ = st.columns([1, 1, 2])
    horizon: float | None = None
    if task.kind == "survival":
        with left:
            horizon = st.number_input(
                "Horizon in days",
                min_value=1.0,
                value=task.horizon_days,
                step=1.0,
                key=f"report horizon {task.key}",
                help="By when events are predicted, for calibration and usefulness.",
            )
    with right:
        percent = st.number_input(
            "Flag patients from a risk of (%)",
            min_value=1,
            max_value=99,
            value=None,
            placeholder="share of training patients with the event",
            key=f"report threshold {task.key}",
        )
    own = horizon is None or horizon == task.horizon_days
    return (None if own else float(horizon or 0)), (None if percent is None else percent / 100)


def _found(
    workspace: Workspace,
    task: Task,
    runs: Sequence[AnyRun],
    splits: Sequence[str],
    horizon: float | None,
    threshold: float | None,
) -> dict[str, Any]:
    place = st.empty()

    def say(words: str, done: int, total: int) -> None:
        place.progress(
            min(done / max(total, 1), 1.0),
            text=f"{markdown(words)}: {done:,} of {total:,}. Finished parts are stored.",
        )

    with progress.spinner("Computing what is not stored yet", show_time=True):
        names = [run.config.name for run in runs]
        found = workspace.dossier(task, names, splits, horizon, threshold, say)
    place.empty()
    return found


def _section(section: review.Section) -> None:
    st.header(f"{section.number}. {section.question}", anchor=False)
    with st.container(border=True, key=f"answer {section.number}"):
        st.markdown("  \n".join(markdown(sentence) for sentence in section.answer))
    for part in section.parts:
        if isinstance(part, Evidence):
            _evidence(part)
        else:
            _rows(part, section.number)


def _evidence(part: Evidence) -> None:
    if part.title:
        st.subheader(markdown(part.title), anchor=False)
    figure.show(part.figure, part.data, f"report {part.name}", alt=part.alt)
    if part.caption:
        st.caption(markdown(part.caption))


def _rows(part: Rows, number: int) -> None:
    if number in (1, 9):
        with st.expander(markdown(part.caption), expanded=number == 1):
            _table(part)
    else:
        st.subheader(markdown(part.caption), anchor=False)
        _table(part)


def _table(part: Rows) -> None:
    st.table(part.data.map(lambda cell: markdown(str(cell))), hide_index=True)
    if part.note:
        st.caption(markdown(part.note))
    figure.csv(part.data, f"report table {part.caption}")


def _downloads(task: Task, runs: Sequence[AnyRun], found: dict[str, Any]) -> None:
    st.header("The same as files", anchor=False)
    name = f"report-{task.cohort}-{task.name}"
    made = manifest_of(found, task.cohort, datetime.now(UTC))
    from app.review_report import render

    styles = {run.config.name: theme.run_style(run.config) for run in runs}
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "Report (HTML)",
            lambda: render(found, styles, made, f"{name}.manifest.json"),
            f"{name}.html",
            "text/html",
            on_click="ignore",
            icon=":material/download:",
        )
        st.download_button(
            "Manifest (JSON)",
            made.model_dump_json(indent=1),
            f"{name}.manifest.json",
            "application/json",
            on_click="ignore",
            icon=":material/download:",
        )
    st.caption(
        "The manifest holds every number with the hashes of runs and cohort; "
        "`fusionlens report --replay` computes them anew and compares."
    )


main()
