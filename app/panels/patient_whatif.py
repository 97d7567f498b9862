"""What would the model say if the patient's record were another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.parts import column_table, part_table
from analysis.outlook import SurvivalOutlook
from analysis.whatif import Change, what_if
from app.figures import outlook as figures
from app.figures.shares import part_title
from app.figures.text import count, listed, markdown, signed
from app.panels import figure
from app.panels.patient_header import Shown, by_task, curve
from app.patients import PatientDesk, titles_of
from models.contracts import Kind

EDITABLE = (Kind.EVENTS, Kind.TABLE, Kind.TEXT)


@dataclass(frozen=True)
class Asked:
    """The reader's edits: modalities left out, and changes of the others.

    listed: {modality: names of the parts in the list that was edited}.
    """

    without: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    words: tuple[str, ...] = ()
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def show(desk: PatientDesk, shown: Sequence[Shown], index_event: str) -> None:
    """Controls, and the prediction before and after; task by task, each with its own numbers."""
    st.caption(
        "Change the record and see the model's answer move. This tells what the model does, not "
        "what a treatment would do to the patient; the changed record need not be possible."
    )
    asked = _controls(shown)
    if not asked.words:
        st.info("Nothing is changed yet.")
        return
    tasks = by_task(shown)
    for task, items in tasks.items():
        if len(tasks) > 1:
            st.subheader(markdown(task.title), anchor=False)
        _answers(desk, items, asked, index_event)


def _answers(desk: PatientDesk, shown: Sequence[Shown], asked: Asked, index_event: str) -> None:
    """What the runs of one task say of the changed record."""
    task = shown[0].task
    rows, curves, horizon = [], [], None
    for item in shown:
        try:
            after = _after(desk, item, asked)
        except AttributionError as error:
            st.warning(f"**{markdown(item.title)}**: {markdown(str(error))}")
            continue
        rows.append(row(item, after))
        if isinstance(after, SurvivalOutlook):
            curves.append(curve(item, after))
            horizon = min(horizon or after.horizon_days, after.horizon_days)
    if rows:
        st.table(pd.DataFrame(rows), hide_index=True)
        st.caption("Changed: " + markdown(listed(list(asked.words))) + ".")
    if curves and horizon is not None:
        drawn = figures.survival_outlook(
            curves,
            horizon,
            time_title=f"Days since {index_event}" if index_event else "Days",
            event_title=task.event_title.lower() or "the event",
        )
        frame = pd.concat(
            [
                pd.DataFrame(
                    {
                        "run": c.title,
                        "time_days": c.times_days,
                        "survival": c.patient,
                        "survival_changed": c.what_if,
                    }
                )
                for c in curves
            ]
        )
        figure.show(
            drawn,
            frame,
            f"what if {shown[0].case.subject_id}"
            + (f" {task.name}" if shown[0].of_several else ""),
            alt="Predicted survival of the record on file and of the changed record",
        )


def row(item: Shown, after: object) -> dict[str, str]:
    """Before and after, as text."""
    before = item.outlook
    if not isinstance(before, SurvivalOutlook) or not isinstance(after, SurvivalOutlook):
        first, second = getattr(before, "probabilities", {}), getattr(after, "probabilities", {})
        return {"Strategy": markdown(item.strategy)} | {
            f"Probability of {markdown(name)}": f"{first[name]:.1%} to {second[name]:.1%}"
            for name in first
        }
    horizon = f"{before.horizon_days:,.0f}"
    return {
        "Strategy": markdown(item.strategy),
        f"Event-free at {horizon} days, on file": f"{before.at_horizon:.1%}",
        "Changed": f"{after.at_horizon:.1%}",
        "Log-risk, on file": signed(before.relative, 3),
        "Log-risk, changed": signed(after.relative, 3),
        "Change in log-risk": signed(after.relative - before.relative, 3),
    }


def _after(desk: PatientDesk, item: Shown, asked: Asked) -> object:
    present = item.case.present
    changes = [c for c in asked.changes if c.modality in present]
    for change in changes:
        # Edits go by position: another run must read the very same parts.
        if asked.listed[change.modality] != part_names(item, change.modality):
            raise AttributionError(
                f"it reads other parts of '{change.modality}' than the list shows, so the edits "
                "do not fit it; choose it as the only strategy."
            )
    without = [name for name in asked.without if name in present]
    case = what_if(item.case, without=without, changes=changes)
    return desk.outlook(case, getattr(item.outlook, "horizon_days", None))


def _controls(shown: Sequence[Shown]) -> Asked:
    case = shown[0].case
    titles = {n: t for item in shown for n, t in titles_of(item.case.run).items()}
    present = [n for n in titles if any(n in item.case.present for item in shown)]
    without = st.pills(
        "Leave a modality out (the model is told that it is absent)",
        present,
        selection_mode="multi",
        format_func=lambda name: markdown(titles[name]),
        key=f"what if without {case.subject_id}",
    )
    changes, words = [], [f"without {titles[n]}" for n in without]
    drawn: dict[str, tuple[str, ...]] = {}
    for item in shown:
        for name in item.case.present:
            kind = item.case.kind(name)
            # Two runs that read one record share its list.
            if name in without or name in drawn:
                continue
            drawn[name] = part_names(item, name) if kind in EDITABLE else ()
            if kind in EDITABLE:
                change, said = _edit(item, name, titles[name])
                if change is not None:
                    changes.append(change)
                    words += said
    return Asked(tuple(without), tuple(changes), tuple(words), drawn)


def part_names(item: Shown, modality: str) -> tuple[str, ...]:
    """What stands at each position of a record or table."""
    parts = _editable(item.case, modality)
    return tuple(str(name) for name in parts["code" if "code" in parts else "name"])


def _editable(case: Case, modality: str) -> pd.DataFrame:
    """Events, or the columns of a table, told in sentences or not."""
    read = part_table if case.kind(modality) is Kind.EVENTS else column_table
    return read(case, modality)


def _edit(item: Shown, name: str, title: str) -> tuple[Change | None, list[str]]:
    """An editable list of the modality's parts; what was changed in it."""
    case = item.case
    parts = _editable(case, name)
    names = [part_title(part) for _, part in parts.iterrows()]
    when = parts.get("time", pd.Series(pd.NaT, index=parts.index))
    frame = pd.DataFrame(
        {
            "Keep": True,
            "What": names,
            "Date": [("" if pd.isna(t) else f"{t:%Y-%m-%d %H:%M}") for t in when],
            "Value": pd.to_numeric(parts["value"], errors="coerce").to_numpy(np.float64),
            "Unit": parts["unit"].fillna("").to_numpy(),
        }
    )
    st.markdown(f"**{markdown(title)}**: untick what is to be removed, type another value")
    edited = st.data_editor(
        frame,
        hide_index=True,
        height=280,
        disabled=["What", "Date", "Unit"],
        column_config={"Value": st.column_config.NumberColumn(format="%.4g")},
        key=f"what if {name} {case.subject_id}",
    )
    return change_of(name, frame, edited)


def change_of(
    modality: str, before: pd.DataFrame, after: pd.DataFrame
) -> tuple[Change | None, list[str]]:
    """What differs between the list on file and the edited one; a cleared value changes nothing."""
    removed = tuple(int(i) for i in np.flatnonzero(~after["Keep"].to_numpy(bool)))
    old, new = before["Value"].to_numpy(np.float64), after["Value"].to_numpy(np.float64)
    differs = np.isfinite(new) & ~np.isclose(old, new, rtol=1e-9, atol=0, equal_nan=True)
    values = {int(i): float(new[i]) for i in np.flatnonzero(differs) if int(i) not in removed}
    if not removed and not values:
        return None, []
    words = [
        f"{before['What'].iloc[i]} {new[i]:g} "
        + (f"instead of {old[i]:g}" if np.isfinite(old[i]) else "where no value was")
        for i in values
    ]
    if removed:
        some = listed([str(before["What"].iloc[i]) for i in removed[:3]])
        more = "" if len(removed) <= 3 else f" and {count(len(removed) - 3, 'more')}"
        words.append(f"without {some}{more}")
    return Change(modality, removed, values), words
