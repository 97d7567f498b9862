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
from app.panels import figure
from app.patients import PatientDesk
from app.workspace import Task


@dataclass(frozen=True)
class Shown:
    """A run on the page: the case and what it predicts."""

    case: Case
    outlook: SurvivalOutlook | ClassOutlook

    @property
    def title(self) -> str:
        """The run's title."""
        return self.case.run.config.title

    @property
    def colour(self) -> str:
        """The run's colour on every page."""
        return theme.run_style(self.case.run.config).colour


def show(
    desk: PatientDesk, task: Task, shown: Sequence[Shown], index_event: str
) -> Observed | None:
    """Numbers and curves; returns what happened when the reader asked for it."""
    asked = st.toggle(
        "Show what happened",
        key="show outcome",
        help="Off: the prediction is read blinded.",
    )
    happened = desk.observed(shown[0].case) if asked else None
    if asked and happened is None:
        st.info("The cohort holds no outcome of this task for this patient.")
    for item in shown:
        _numbers(item)
    survival = [s for s in shown if isinstance(s.outlook, SurvivalOutlook)]
    if survival:
        _curves(task, survival, happened, index_event)
    if happened is not None and happened.label is not None:
        st.markdown(f"What happened: **{markdown(happened.label)}**")
    return happened


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


def _curves(
    task: Task, shown: Sequence[Shown], happened: Observed | None, index_event: str
) -> None:
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
