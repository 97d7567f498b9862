"""Choosing a patient: a searchable box, and a list to sort and filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import theme
from app.figures.text import MISSING, count
from app.panels import address

_LIST = "patient list"


def pick(
    listing: pd.DataFrame,
    titles: Mapping[str, str],
    event_title: str,
    key: str,
    unblinded: Callable[[], None],
) -> int | None:
    """The chosen patient, or None while nobody is chosen.

    listing: of `PatientDesk.listing`. titles: of the modalities, by name. key: names the
    cohort. unblinded: called before the list tells what happened. The choice is in the address.
    """
    ids = [str(i) for i in listing.index]
    if not ids:
        st.info("This cohort has no patients.")
        return None
    # A row at a time by .loc would cost more than the rest of the page.
    words = {str(i): label(int(i), row) for i, row in listing.to_dict("index").items()}
    # Patients have their number within a cohort, so another cohort has a control of its own.
    box = f"patient box {key}"
    address.start("patient", box, ids, ids[0], "patient")
    before, middle, after = st.columns([1, 14, 1], vertical_alignment="bottom")
    at = ids.index(st.session_state[box])
    if before.button(
        "‹",
        help="The patient before",
        disabled=at == 0,
        width="stretch",
        key="patient before",
    ):
        st.session_state[box] = ids[at - 1]
    if after.button(
        "›",
        help="The next patient",
        disabled=at == len(ids) - 1,
        width="stretch",
        key="patient after",
    ):
        st.session_state[box] = ids[at + 1]
    with middle:
        chosen = st.selectbox(
            f"Patient ({count(len(ids), 'patient')}; type a number, a split or a site to search)",
            ids,
            format_func=words.__getitem__,
            key=box,
        )
    with st.expander("Choose from a list: sort by risk, disagreement, age, site"):
        listed = _table(listing, titles, event_title, unblinded)
    if listed is not None and str(listed) != chosen:
        # A drawn control cannot be set; the next run starts from the address.
        st.query_params["patient"] = str(listed)
        st.rerun()
    address.keep("patient", chosen)
    return int(chosen)


def label(subject: int, row: Mapping[str, Any]) -> str:
    """'11101, internal test, site A, M 37 years: higher risk than 45% of training patients'."""
    age = "" if pd.isna(row["age_years"]) else f"{row['age_years']:.0f} years"
    sex = "" if pd.isna(row["sex"]) else str(row["sex"])
    site = "" if pd.isna(row["site"]) else f"site {row['site']}"
    who = " ".join(part for part in (sex, age) if part)
    words = [str(subject), theme.split_title(str(row["split"])).lower(), site, who]
    risk = ""
    if not pd.isna(row["percentile"]):
        risk = f": risk above {row['percentile']:.0f}% of training patients"
    return ", ".join(part for part in words if part) + risk


def _table(
    listing: pd.DataFrame,
    titles: Mapping[str, str],
    event_title: str,
    unblinded: Callable[[], None],
) -> int | None:
    """The list itself; a patient whose row was newly chosen in it, or None."""
    blinded = not st.toggle(
        "Show what happened to them", key="list outcomes", help="Off: the list is read blinded."
    )
    compared = int(listing["compared"].iloc[0])
    frame = pd.DataFrame(index=listing.index)
    frame["Patient"] = listing.index
    frame["Split"] = [theme.split_title(str(s)) for s in listing["split"]]
    frame["Site"] = listing["site"].fillna(MISSING)
    frame["Age (years)"] = listing["age_years"].round()
    frame["Sex"] = listing["sex"].fillna(MISSING)
    frame["Has"] = [_has(row, titles) for row in listing.to_dict("records")]
    frame["Risk percentile"] = listing["percentile"].round(1)
    if compared > 1:
        frame["Disagreement"] = listing["disagreement"].round(1)
    if not blinded:
        unblinded()
        frame["Followed (days)"] = listing["time_days"]
        frame[event_title or "Event"] = listing["event"].map({True: "yes", False: "no"})
    state = st.dataframe(
        frame,
        hide_index=True,
        height=320,
        on_select="rerun",
        selection_mode="single-row",
        key=_LIST + (" open" if not blinded else ""),
        alt="All patients with predicted risk, availability and disagreement between strategies",
    )
    spread = (
        f" Disagreement: largest difference in risk percentile between {compared} strategies "
        "(those with stored predictions for all patients)."
        if compared > 1
        else " Open Compare once to have the disagreement between strategies, too."
    )
    st.caption(
        "Risk percentile: share of the run's training patients with a lower predicted risk."
        + spread
        + " Training and tuning patients were seen while the run was made: their predictions "
        "flatter it."
    )
    rows = state["selection"]["rows"]
    now = int(frame.index[rows[0]]) if rows else None
    newly = now is not None and now != st.session_state.get("list chosen")
    st.session_state["list chosen"] = now
    return now if newly else None


def _has(row: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    there = [title for name, title in titles.items() if row.get(f"has {name}")]
    return ", ".join(there) or "nothing"
