"""Training patients whom the model sees alike, and what happened to them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError
from analysis.outlook import SurvivalOutlook, class_names
from app.figures.text import count, markdown, number, signed
from app.panels import audited, figure
from app.panels.patient_header import Shown, asked, by_task
from app.patients import PatientDesk

K = 8


def show(desk: PatientDesk, shown: Sequence[Shown]) -> None:
    """One table a run; their outcomes only when asked for, as everywhere on the page."""
    for items in by_task(shown).values():
        told = _told(items[0])
        for item in items:
            _neighbours(desk, item, told)
    st.caption(
        "Nearest in the fused space, each dimension on the scale of the training patients; alike "
        "to this model, which need not be alike to a clinician."
    )


def _told(item: Shown) -> bool:
    """Whether the reader wants to know what happened to the neighbours under a task."""
    which = f": {markdown(item.task.title)}" if item.of_several else ""
    return asked(item.task) or st.toggle(
        f"Show their outcomes{which}",
        key=f"similar outcomes {item.task.key}",
        help="Other patients' outcomes; this patient's own stays hidden until asked for above.",
    )


def _neighbours(desk: PatientDesk, item: Shown, told: bool) -> None:
    st.subheader(markdown(item.title), anchor=False)
    try:
        found = desk.similar(item.case, K)
    except AttributionError as error:
        st.info(markdown(str(error)))
        return
    audited.opened(
        f"similar {item.case.run.config.name}",
        item.task,
        [int(i) for i in found["subject_id"]],
        [item.case.run.config.name],
        "similar patients and outcomes" if told else "similar patients",
        beside=item.case.subject_id,
    )
    st.dataframe(table(found, item, told=told), hide_index=True, alt="Similar training patients")
    if told and "event" in found:
        events = int(found["event"].sum())
        st.caption(
            f"{count(events, 'event')} among {count(len(found), 'patient')}: too few for a "
            "curve or a rate."
        )
    figure.csv(
        found if told else found.drop(columns=["time_days", "event", "label"], errors="ignore"),
        f"similar {item.case.run.config.name} {item.case.subject_id}",
    )


def table(found: pd.DataFrame, item: Shown, *, told: bool) -> pd.DataFrame:
    """Rows for people; log-risks from the mean training patient, as in the header."""
    outlook = item.outlook
    zero = outlook.log_risk - outlook.relative if isinstance(outlook, SurvivalOutlook) else 0.0
    words = pd.DataFrame(
        {
            "Patient": found["subject_id"],
            "Distance (sd)": [number(d, 2) for d in found["distance"]],
            "Age (years)": found["age_years"].round(),
            "Sex": found["sex"],
            "Site": found["site"],
        }
    )
    if isinstance(outlook, SurvivalOutlook):
        words["Log-risk"] = [signed(r - zero, 2) for r in found["log_risk"]]
    if told and "event" in found:
        words["Followed (days)"] = found["time_days"].round()
        words["Event"] = found["event"].map({True: "yes", False: "no"})
    if told and "label" in found:
        task = item.case.run.config.task
        names = class_names(task.classes, task.outputs)
        words["What happened"] = found["label"].map(dict(enumerate(names)))
    return words
