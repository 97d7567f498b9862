"""Is a cohort that was brought sound? The report of `fusionlens check`, before anyone uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.bring.visit import Desk
from app.figures.text import count, markdown
from app.panels import figure
from app.panels.bring_source import waiting

NAMES = ("severity", "file", "where", "what", "remedy")
COLUMNS = ("Severity", "File", "Where", "What", "Remedy")


def show(desk: Desk) -> None:
    """Choose a cohort folder, have it checked, read what is wrong with it."""
    entries = {e.folder.name: e for e in desk.workspace.cohorts()}
    if not entries:
        st.info(
            "This workspace has no cohort folder. Put one into its folder 'cohorts', or make one "
            "with 'fusionlens import'."
        )
        return
    one, two = st.columns([2, 1], vertical_alignment="bottom")
    with one:
        name = st.selectbox(
            "Cohort folder of this workspace",
            list(entries),
            format_func=lambda n: n if entries[n].cohort else f"{n} (cannot be opened)",
            key="bring cohort folder",
        )
    with two:
        deep = st.toggle(
            "Read every voxel", key="bring deep",
            help="Not the headers only; takes minutes on a large cohort.",
        )  # fmt: skip
    if st.button("Check", type="primary", key="bring check"):
        desk.check(entries[name].folder, deep)
    asked = desk.visit.checked
    if asked is None or asked[:2] != (name, deep):
        st.caption("Nothing is changed: every file is read and what is wrong with it is listed.")
        return
    job = desk.importer.job(asked[2])
    if job is None:
        desk.visit.checked = None
    elif not job.over:
        waiting(desk.importer, asked[2], f"Checking {name}")
    elif job.answer is None:
        st.error(markdown(desk.in_words(job.error or "")))
    else:
        _problems(name, job.answer)
        st.caption(
            "Every voxel was read."
            if deep
            else "Of images and recordings the headers were read, not the values."
        )


def _problems(name: str, told: Mapping[str, Any]) -> None:
    problems = told["problems"]
    errors = sum(p["severity"] == "error" for p in problems)
    warnings = len(problems) - errors
    if not problems:
        st.success(f"**{markdown(name)}** is sound: no errors, no warnings.")
        return
    words = f"{count(errors, 'error')}, {count(warnings, 'warning')}."
    if errors:
        st.error(f"**{markdown(name)}** cannot be trusted as it is: {words} Mend errors first.")
    else:
        st.warning(f"**{markdown(name)}** can be used: {words} Warnings deserve a look.")
    kinds = alike(problems)
    st.table(kinds.map(lambda cell: markdown(str(cell))), hide_index=True)
    rows = pd.DataFrame([[p[n] for n in NAMES] for p in problems], columns=COLUMNS)
    if len(kinds) < len(rows):
        with st.expander(f"All {len(rows):,}, one by one"):
            st.dataframe(rows, hide_index=True, height=400, alt="Every problem", key="bring all")
    figure.csv(rows, f"check {name}", f"All {count(len(rows), 'problem')} (CSV)")


def alike(problems: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Problems that differ in numbers only as one row: how often, and the first of them."""
    found: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for problem in problems:
        plain = [re.sub(r"\d+", "0", problem[n]) for n in NAMES]
        found.setdefault(tuple(plain), []).append(problem)
    rows = [
        [
            same[0]["severity"],
            f"{len(same):,}",
            same[0]["file"],
            same[0]["where"] + (", …" if len(same) > 1 else ""),
            same[0]["what"],
            same[0]["remedy"],
        ]
        for same in found.values()
    ]
    return pd.DataFrame(rows, columns=[COLUMNS[0], "Times", *COLUMNS[1:]])
