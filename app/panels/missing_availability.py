"""Who has what, and does it say something by itself?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import theme
from app.figures import availability as figures
from app.figures.text import count, markdown, number, p_phrase
from app.modalities import ModalityDesk
from app.panels import figure, progress
from app.workspace import Task
from models.checkpoint import Run

_EVERY = {"split": "all splits", "site": "all sites"}


def show(desk: ModalityDesk, task: Task, run: Run, split: str) -> None:
    """An upset plot of the chosen split and site, with a test in words."""
    with progress.counted("Reading who has what") as say:
        answer = desk.availability(task, run, say)
    left, right = st.columns([5, 3])
    with left:
        chosen = _choose(answer, "splits", "Split", split, task)
    with right:
        site = _choose(answer, "sites", "Site", "all", task) if len(answer["sites"]) > 1 else "all"
    groups = {(g["split"], g["site"]): g for g in answer["groups"]}
    group = groups.get((chosen, site))
    if group is None:
        st.info("This site has no patients in this split.")
        return
    st.markdown(f"{_counted(group, answer)} {markdown(_tested(group, answer))}")
    figure.show(
        figures.upset(answer, group),
        figures.frame(answer),
        f"availability {task.key} {chosen} {site}",
        alt="Patterns of available modalities with patients and outcome",
    )
    unit = (
        "events per 100 patient-years with the exact interval of a Poisson count (Garwood)"
        if answer["kind"] == "survival"
        else f"share of patients with {markdown(answer['outcome'])}, Wilson's interval"
    )
    st.caption(
        "A row is a pattern: a dark dot says that these patients have the modality, as this run "
        f"reads it. Above the dots: patients who have it. Right: {unit}; the dashed line is all of "
        "them. Patients with an outcome of the task; all splits and sites are in the data, and the "
        "p-value is not adjusted for their number. The interval of fewer than 10 patients may end "
        "outside the picture."
        + (
            f" {len(group['patterns']) - figures.SHOWN} rarer patterns are in the data alone."
            if len(group["patterns"]) > figures.SHOWN
            else ""
        )
    )


def _choose(answer: Mapping[str, Any], which: str, label: str, wanted: str, task: Task) -> str:
    options = answer[which]
    default = wanted if wanted in options else options[0]
    one = which.removesuffix("s")
    chosen = st.segmented_control(
        label,
        options,
        format_func=lambda o: _EVERY[one] if o == "all" else _title(one, o),
        default=default,
        required=True,
        key=f"availability {which} {task.key}",
    )
    return str(chosen or default)


def _title(which: str, option: str) -> str:
    if which == "split":
        return theme.split_title(option)
    return markdown(option) if option else "site not said"


def _counted(group: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    whole = [p for p in group["patterns"] if len(p["modalities"]) == len(answer["modalities"])]
    n = whole[0]["n"] if whole else 0
    return (
        f"**{count(group['n'], 'patient')}** in {count(len(group['patterns']), 'pattern')}; "
        f"{n:,} ({n / group['n']:.0%}) have everything that the run reads."
    )


def _tested(group: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    test = group["test"]
    if test["p"] is None:
        return f"Whether the pattern goes with the outcome was not tested. {test['undefined']}"
    verdict = (
        "Patterns differ in outcome here: that something is missing may say something by itself"
        if test["p"] < 0.05
        else "No sign that the pattern by itself goes with the outcome"
    )
    how = (
        f"log-rank test over {test['groups']} patterns, chi-squared "
        f"{number(test['statistic'], 2)} on {count(test['df'], 'degree')} of freedom"
        if test["name"] == "log-rank"
        else f"chi-squared {number(test['statistic'], 2)} over {test['groups']} patterns, 9,999 "
        f"random tables of the same margins, seed {answer['seed']}"
    )
    rare = ""
    if test["rare"]:
        rare = f"; {test['rare']} patterns of fewer than 10 patients taken together"
    if test["left_out"]:
        rare = f"; {count(test['left_out'], 'patient')} of rare patterns left out"
    everyone = answer["groups"][0]
    whole = ""
    if group is not everyone and everyone["test"]["p"] is not None:
        whole = f" Over all splits and sites {p_phrase(everyone['test']['p'])}."
    return f"{verdict} ({p_phrase(test['p'])}; {how}{rare}).{whole}"
