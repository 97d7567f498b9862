"""What is predicted for the patient, beside the training patients; what happened, if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis.attribution.case import Case
from analysis.outlook import ClassOutlook, Observed, SurvivalOutlook
from app import theme
from app.figures import outlook as figures
from app.figures.text import days, markdown, number, signed
from app.panels import audited, figure
from app.patients import PatientDesk
from app.workspace import Task


@dataclass(frozen=True)
class Shown:
    """A run on the page: the case and what it predicts.

    of_several: runs of other tasks are on the page, too, so its title says which is its own.
    """

    case: Case
    outlook: SurvivalOutlook | ClassOutlook
    task: Task
    of_several: bool = False

    @property
    def title(self) -> str:
        """The run's title, with its task where the page has several."""
        return title_of(self.strategy, self.task) if self.of_several else self.strategy

    @property
    def strategy(self) -> str:
        """The run's title alone."""
        return self.case.run.config.title

    @property
    def colour(self) -> str:
        """The run's colour on every page."""
        return theme.run_style(self.case.run.config).colour


def title_of(strategy: str, task: Task) -> str:
    """'TGMM – New heart failure': a run's title under one task among several."""
    return f"{strategy} – {task.title}"


def by_task(shown: Sequence[Shown]) -> dict[Task, list[Shown]]:
    """The runs on the page, task by task; only those of one task predict the same."""
    found: dict[Task, list[Shown]] = {}
    for item in shown:
        found.setdefault(item.task, []).append(item)
    return found


def asked(task: Task) -> bool:
    """Whether the reader asked what happened under this task."""
    return bool(st.session_state.get(_outcome_key(task)))


def _outcome_key(task: Task) -> str:
    return f"show outcome {task.key}"


def show(desk: PatientDesk, shown: Sequence[Shown], index_event: str) -> None:
    """Numbers and curves, and what happened under each task where the reader asks for it."""
    tasks = by_task(shown)
    happened = {task: _happened(desk, items[0], len(tasks) > 1) for task, items in tasks.items()}
    for item in shown:
        _numbers(item)
    for task, items in tasks.items():
        survival = [s for s in items if isinstance(s.outlook, SurvivalOutlook)]
        if survival:
            _curves(survival, happened[task], index_event)
        told = happened[task]
        if told is not None and told.label is not None:
            where = f" ({markdown(task.title)})" if len(tasks) > 1 else ""
            st.markdown(f"What happened{where}: **{markdown(told.label)}**")


def _happened(desk: PatientDesk, item: Shown, several: bool) -> Observed | None:
    """What happened under one task, for a reader who asks; each task is asked for apart."""
    help_ = "Off: the prediction is read blinded."
    if several:
        help_ += " What happened under one task may give away the outcome of the other."
    st.toggle(
        f"Show what happened: {markdown(item.task.title)}" if several else "Show what happened",
        key=_outcome_key(item.task),
        help=help_,
    )
    if not asked(item.task):
        return None
    audited.opened(
        f"outcome {item.task.key}",
        item.task,
        [item.case.subject_id],
        [item.case.run.config.name],
        "outcome",
    )
    found = desk.observed(item.case)
    if found is None:
        st.info(
            "The cohort holds no outcome of this task for this patient."
            if not several
            else f"{markdown(item.task.title)}: the cohort holds no outcome of this task for this "
            "patient."
        )
    return found


def _numbers(item: Shown) -> None:
    found = item.outlook
    with st.container(key=f"prediction-{item.case.run.config.name}"):
        st.markdown(f"**{markdown(item.title)}**")
        columns = st.columns(4)
        if isinstance(found, ClassOutlook):
            for column, (name, p) in zip(columns, found.probabilities.items(), strict=False):
                column.metric(f"Probability of {markdown(name)}", f"{p:.1%}")
            return
        columns[0].metric(
            f"Event-free at {days(found.horizon_days)}",
            _percent(found.at_horizon),
            help="Predicted probability to be event-free at the horizon: Breslow's baseline "
            "hazard of the run's training patients and this patient's log-risk.",
        )
        standing = f"{found.percentile:.0f}%" if found.n_training else "not known"
        columns[1].metric(
            "Higher risk than",
            standing,
            help=f"Share of the {found.n_training:,} training patients with a lower predicted "
            "risk; ties count half."
            if found.n_training
            else "The cohort that the run was trained on is not in this workspace.",
        )
        columns[2].metric(
            "Log-risk",
            signed(found.relative, 2),
            help="Log hazard ratio to the mean training patient, by the model; "
            f"its own scale says {number(found.log_risk, 3)}.",
        )
        columns[3].metric(
            "Median event-free time",
            "not reached" if found.median_days is None else days(found.median_days),
            help="The first day by which the predicted event-free probability is 50% or less; not "
            "reached: it stays above 50% as long as the training patients were followed.",
        )


def _percent(value: float) -> str:
    return "not known" if pd.isna(value) else f"{value:.1%}"


def _curves(shown: Sequence[Shown], happened: Observed | None, index_event: str) -> None:
    """The curves of one task's runs, which share their axes."""
    task = shown[0].task
    outcome = None
    if happened is not None and happened.time_days is not None:
        outcome = figures.Outcome(
            happened.time_days, bool(happened.event), task.event_title.lower() or "event"
        )
    curves = [curve(item) for item in shown]
    horizon = min(_outlook(s).horizon_days for s in shown)
    drawn = figures.survival_outlook(
        curves,
        horizon,
        time_title=f"Days since {index_event}" if index_event else "Days",
        event_title=task.event_title.lower() or "the event",
        outcome=outcome,
    )
    name = "outlook " + " ".join(s.case.run.config.name for s in shown)
    figure.show(
        drawn,
        curves_frame(shown),
        name,
        alt="Predicted survival of the patient beside the training patients' predictions",
        file=f"{name} {shown[0].case.subject_id}",
    )


def _outlook(item: Shown) -> SurvivalOutlook:
    assert isinstance(item.outlook, SurvivalOutlook)
    return item.outlook


def curve(item: Shown, what_if: SurvivalOutlook | None = None) -> figures.Outlook:
    """A run's curves for the figure."""
    found = _outlook(item)
    return figures.Outlook(
        title=item.title,
        colour=item.colour,
        times_days=found.times_days,
        patient=found.survival,
        cohort_median=found.median,
        cohort_low=found.low,
        cohort_high=found.high,
        what_if=None if what_if is None else what_if.survival,
    )


def curves_frame(shown: Sequence[Shown]) -> pd.DataFrame:
    """The curves as a table."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "run": item.case.run.config.name,
                    "patient": item.case.subject_id,
                    "time_days": _outlook(item).times_days,
                    "survival": _outlook(item).survival,
                    "training_median": _outlook(item).median,
                    "training_low_10": _outlook(item).low,
                    "training_high_90": _outlook(item).high,
                }
            )
            for item in shown
        ],
        ignore_index=True,
    )
