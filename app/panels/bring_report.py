"""How a checkpoint fits the described model, tensor by tensor, and what nobody has said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.importing.summary import FITTING, STATES, misfits, report_of
from app.bring.visit import Compared, Desk
from app.figures.text import count, listed, markdown
from app.panels import figure
from models.importing.names import KeyReport

MEANINGS = {
    "matched": "same name and shape in the model and in the checkpoint",
    "renamed": "found under another name: by a rule of yours, or without what a wrapper put there",
    "missing": "the model has it, the checkpoint does not",
    "unexpected": "the checkpoint has it, the model has no use for it: it is left out",
    "shape differs": "the name is in both, the sizes are not the same",
    "type differs": "the name is in both, the numbers are of another type",
}
_ALL = "all"


def show(desk: Desk, compared: Compared, told: Mapping[str, Any], stale: bool) -> KeyReport:
    """The whole report; gives it back as an object."""
    report = report_of(told)
    if stale:
        st.warning(
            "The checkpoint or the description was changed after this comparison; compare again "
            "before you import."
        )
    _verdict(compared, told, report, desk.visit.imported is not None)
    _rules(desk, told, stale)
    left, right = st.columns([5, 4], gap="large")
    with left:
        st.subheader("Tensors", anchor=False)
        st.table(_counts(report), hide_index=True)
    with right:
        _settings(desk, compared, told)
    _tensors(compared, report)
    return report


def _verdict(
    compared: Compared, told: Mapping[str, Any], report: KeyReport, imported: bool
) -> None:
    wrong = misfits(report)
    fitting = len(report.of(*FITTING))
    where = f", weights at {markdown(told['within'])}" if told["within"] else ""
    what = f"{markdown(compared.source.name)} ({markdown(told['form'])}{where})"
    if not wrong:
        left = len(report.of("unexpected"))
        more = f" {count(left, 'tensor')} of the file {_is(left)} not used." if left else ""
        st.success(f"**It fits.** All {count(fitting, 'tensor')} of the model are in {what}.{more}")
        return
    public = f" It looks like {markdown(told['looks_like'])}." if told["looks_like"] else ""
    yet = (
        "It does not fit yet." if not imported else "It was imported although tensors are missing."
    )
    sentences = " ".join(f"{markdown(sentence)}." for sentence in wrong)
    st.warning(
        f"**{yet}** Of {count(fitting + _short(report), 'tensor')} of the model, "
        f"{fitting:,} are in {what}. {sentences}{public}"
    )


def _rules(desk: Desk, told: Mapping[str, Any], stale: bool) -> None:
    """Rename rules that names and shapes ask for."""
    rules = told["rules_that_fit_more"]
    if not rules:
        return
    n = sum(rule["tensors"] for rule in rules)
    lines = [f"{rule['prefix']} -> {rule['to']}".rstrip() for rule in rules]
    with st.container(border=True):
        st.markdown(
            f"**{count(len(rules), 'rename rule')} would bring {count(n, 'more tensor')} in**, by "
            "names that end alike and equal shapes. Only who knows the model can say whether they "
            "mean the same."
        )
        st.code("\n".join(lines), language=None)
        if desk.visit.kept.get("bring describe") == "form":
            st.button(
                "Add to the rename rules", disabled=stale, key="bring add rules",
                on_click=_add, args=[desk, lines], icon=":material/add:",
            )  # fmt: skip


def _add(desk: Desk, lines: list[str]) -> None:
    kept = str(desk.visit.kept.get("bring rename", "")).strip()
    st.session_state["bring rename"] = "\n".join([*filter(None, [kept]), *lines])


def _short(report: KeyReport) -> int:
    return len(report.of("missing", "shape differs", "type differs"))


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _counts(report: KeyReport) -> pd.DataFrame:
    counts = report.counts
    return pd.DataFrame(
        [
            {"State": state, "Tensors": f"{counts.get(state, 0):,}", "Meaning": meaning}
            for state, meaning in MEANINGS.items()
        ]
    )


# ---------------------------------------------------------------- settings


def _settings(desk: Desk, compared: Compared, told: Mapping[str, Any]) -> None:
    st.subheader("What the file does not say", anchor=False)
    for title, found in (
        ("Read off the shapes", told["inferred"]),
        ("Assumed, as no shape shows it", told["assumed"]),
    ):
        if found:
            values = ", ".join(f"{name} = {value}" for name, value in found.items())
            st.markdown(f"**{title}:** {markdown(values)}.")
        else:
            st.markdown(f"**{title}:** nothing.")
    learnt = [*told["learnt_on_the_cohort"], *_baseline(desk, compared)]
    st.markdown(
        "**Learnt on the cohort's training patients:** "
        f"{markdown('; '.join(learnt)) if learnt else 'nothing'}."
    )
    if told["assumed"]:
        st.caption(
            "Check what is assumed against how the model was trained, and state it in the "
            "description where it differs: a wrong guess gives other predictions without any error."
        )


def _baseline(desk: Desk, compared: Compared) -> list[str]:
    """What an import will learn of the hazard, with how many patients."""
    summary = desk.workspace.describe(compared.cohort)
    spec = desk.workspace.cohort(compared.cohort).spec.task(compared.file.task)
    if spec.kind != "survival" or compared.file.baseline is not None:
        return []
    for outcome in summary.outcomes:
        if outcome.task == compared.file.task and outcome.split == "train":
            patients = f"{count(outcome.n, 'patient')}, {count(outcome.events or 0, 'event')}"
            return [f"the baseline hazard: {patients}, when it is imported"]
    return ["the baseline hazard, but the cohort has no training patients for this task"]


# ---------------------------------------------------------------- every tensor


def _tensors(compared: Compared, report: KeyReport) -> None:
    st.subheader("Tensor by tensor", anchor=False)
    there = [state for state in STATES if report.of(state)]
    wrong = [state for state in there if state not in FITTING]
    one, two = st.columns([3, 2], vertical_alignment="bottom")
    with one:
        chosen = st.pills(
            "State",
            [_ALL, *there],
            selection_mode="single",
            default=wrong[0] if wrong else _ALL,
            format_func=lambda s: _pill(s, report),
            key=f"bring state {compared.job}",
        )
    with two:
        sought = st.text_input("Name contains", key=f"bring search {compared.job}")
    lines = report.lines if chosen in (None, _ALL) else report.of(str(chosen))
    asked = sought.strip().lower()
    shown = [n for n in lines if asked in n.name.lower() or asked in n.source.lower()]
    st.dataframe(
        table(KeyReport(tuple(shown))),
        hide_index=True,
        height=min(38 + 35 * max(len(shown), 1), 420),
        alt="What became of every tensor",
        key="bring tensors",
    )
    states = listed([_pill(state, report) for state in there])
    st.caption(
        f"{count(len(shown), 'tensor')} of {len(report.lines):,} shown ({markdown(states)}). Why: "
        "the rule that renamed it, the size that is missing, or what differs."
    )
    figure.csv(table(report), "bring report", "All tensors (CSV)", file="checkpoint tensors")


def _pill(state: str, report: KeyReport) -> str:
    n = len(report.lines) if state == _ALL else len(report.of(state))
    return f"{state} {n:,}"


def table(report: KeyReport) -> pd.DataFrame:
    """The report as the command prints it."""
    return pd.DataFrame(
        [(n.state, n.name, n.source, n.why) for n in report.lines],
        columns=["State", "In the model", "In the checkpoint", "Why"],
    )
