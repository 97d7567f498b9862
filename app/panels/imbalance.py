"""Does the run use all of its modalities, or does one of them carry it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.cohort.schema import CohortError
from app import theme
from app.figures import imbalance as figures
from app.figures.text import (
    MISSING,
    count,
    counted,
    interval,
    listed,
    markdown,
    number,
    p_value,
    signed_interval,
)
from app.modalities import ModalityDesk
from app.panels import audited, figure, progress
from app.workspace import Task
from models.checkpoint import Run, RunError

SCOPES = {"run": "this run", "task": "all runs of this task", "all": "all tasks"}


def show(desk: ModalityDesk, task: Task, run: Run, split: str) -> None:
    """The verdict with its rule, then the score, the patients, training, gates and other runs."""
    try:
        with progress.counted("Exchanging modalities between patients", "exchanges") as say:
            report = desk.imbalance(task, run, split, lambda _, done, total: say(done, total))
    except (CohortError, RunError) as error:
        st.info(markdown(str(error)))
        return
    head, _, rest = report["verdict"]["words"].partition(":")
    st.markdown(f"**{markdown(head)}:**{markdown(rest)}")
    if report["undefined"] is not None:
        return
    name = f"{run.config.name} {split}"
    _score(report, run, split, name)
    _patients(desk, task, run, split, report, name)
    _training(report, name)
    _gates(report)
    _across(desk, task, run)


def _score(report: Mapping[str, Any], run: Run, split: str, name: str) -> None:
    st.subheader("What the score owes to each modality", anchor=False)
    figure.show(
        figures.forest(report),
        figures.frame(report),
        f"balance {name}",
        alt="Shapley value, gain and loss by exchange of each modality",
    )
    st.table(pd.DataFrame(_rows(report)), hide_index=True)
    classes = run.config.task.classes
    who = counted(report["n"], report["events"], classes[1] if len(classes) == 2 else "")
    resamples, exchanged = report["resamples"], report["shuffled"]
    st.caption(
        f"{theme.split_title(split)}: {markdown(who)}, whatever they lack. "
        f"{markdown(report['shapley']['convention'])} It counts ranks, so that a modality is "
        "credited with what it can do alone even where the others make it superfluous. Adds: score "
        f"with everything minus without it. Exchanged: mean of {exchanged['repeats']} exchanges "
        f"among patients who have it, encoded once; p one-sided, at least "
        f"{number(exchanged['smallest_p'])}. Own run: trained on this modality alone, in the "
        f"patients who have it. Intervals: {resamples['n']:,} shared resamples of patients, seed "
        f"{resamples['seed']}, not adjusted."
    )
    with st.expander("The rules of the verdict, in their order"):
        for verdict, rule in report["verdict"]["rules"].items():
            st.markdown(f"- {markdown(verdict)}: {markdown(rule)}")


def _rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for at, title in enumerate(report["modalities"].values()):
        single, drop = report["alone"]["modalities"][at], report["shuffled"]["modalities"][at]
        own = report["shapley"]["modalities"][at]
        rows.append(
            {
                "Modality": markdown(title),
                "Carries, points": signed_interval(_points(own["value"])),
                "of the score": _percent(own["share"]),
                "Adds, points": signed_interval(_points(report["utilisation"][at]["gain"])),
                "Exchanged, points lost": signed_interval(_points(drop["drop"])),
                "p": p_value(drop["p"]),
                "Told alone": _told(single["told_alone"]),
                "Own run": _told(single["unimodal"]),
            }
        )
    return rows


def _patients(
    desk: ModalityDesk, task: Task, run: Run, split: str, report: Mapping[str, Any], name: str
) -> None:
    st.subheader("Patient by patient", anchor=False)
    found = desk.shares(task, run, split)
    single = audited.visitor().patients
    if single:
        audited.listed("shares", task, [run.config.name], "shares of all patients")
    titles, shares = report["modalities"], report["shares"]
    wide = single and len(titles) == 3 and bool(found.have.all(axis=1).any())
    columns = st.columns([3, 2]) if wide else [st.container()]
    with columns[0]:
        figure.show(
            figures.violins(found, titles),
            figures.shares_frame(found) if single else None,
            f"patient shares {name}",
            alt="Spread of each modality's share of a patient's prediction",
        )
    if wide:
        with columns[1]:
            figure.show(
                figures.ternary(found, titles),
                figures.shares_frame(found),
                f"patient triangle {name}",
                alt="Patients between the three modalities that carry their predictions",
            )
    st.table(
        pd.DataFrame(
            [
                {
                    "Modality": markdown(titles[row["modality"]]),
                    "Patients": f"{row['n']:,}",
                    "Mean share": _percent(row["mean"]),
                    "Group changes without it": _percent(row["changes"]),
                    "It decides": _percent(row["decides"]),
                }
                for row in shares["modalities"]
            ]
        ),
        hide_index=True,
    )
    st.caption(
        f"{count(shares['n_counted'], 'patient')} with at least two of the run's modalities. A "
        f"share is the modality's exact Shapley value of the patient's own {shares['scale']}, "
        "without its sign, over the sum of all. Decides: without it the patient's group changes, "
        f"and told it alone the run finds the group that it finds with everything. "
        f"{markdown(shares['groups'])} Means: bootstrap of patients; shares of patients: Wilson."
    )


def _training(report: Mapping[str, Any], name: str) -> None:
    st.subheader("In training", anchor=False)
    history = report["history"]
    if history["note"] is not None:
        st.info(markdown(history["note"]))
    if not history["epochs"]:
        return
    figure.show(
        figures.training(report),
        figures.training_frame(report),
        f"training balance {name}",
        alt="Share of the gradient norm and score alone of each modality over epochs",
    )
    st.caption(
        "Left: share of the gradient norm that reached each modality's own parameters; norms grow "
        "with their number, so look at the course and not at the height. Right: score of the run "
        "told one modality, in tuning patients who have it. Dotted: the epoch whose weights the "
        "run has."
    )


def _gates(report: Mapping[str, Any]) -> None:
    found = report["gates"]["gates"]
    if not found:
        st.caption(markdown(report["gates"]["note"]))
        return
    st.subheader("The strategy's own gates", anchor=False)
    titles = report["modalities"]
    st.table(
        pd.DataFrame(
            [
                {
                    "Gate": markdown(" ".join(titles.get(w, w) for w in row["gate"].split())),
                    "Patients": f"{row['n']:,}",
                    "Mean": number(row["mean"]),
                    "5% to 95% of patients": "the same for every patient"
                    if row["constant"]
                    else f"{number(row['quantiles']['0.05'])} to "
                    f"{number(row['quantiles']['0.95'])}",
                }
                for row in found
            ]
        ),
        hide_index=True,
    )
    st.caption(
        "A gate is what the model multiplies a modality by. A large weight of a small number moves "
        "little: it is no measure of use by itself."
    )


def _across(desk: ModalityDesk, task: Task, run: Run) -> None:
    st.subheader("Balance and what fusing gains", anchor=False)
    scope = st.segmented_control(
        "Runs",
        list(SCOPES),
        format_func=SCOPES.__getitem__,
        default="run",
        required=True,
        key=f"imbalance scope {task.key}",
    )
    with progress.counted("Setting runs side by side", "runs and splits") as say:
        points, left_out = desk.balance_points(task, run, scope or "run", say)
    styles = {name: theme.run_style(config) for name, config in desk.configs(points).items()}
    figure.show(
        figures.across(points, styles),
        figures.across_frame(points),
        f"balance and gain {run.config.name} {scope}",
        alt="Balance of modalities against the gain of fusion, a mark a run and split",
    )
    for name, reason in left_out.items():
        st.warning(f"**{markdown(name)}** is left out. {markdown(reason)}")
    st.caption(_across_words(points))


def _across_words(points: Sequence[Mapping[str, Any]]) -> str:
    sources = list(dict.fromkeys(p["source"] for p in points if p["source"]))
    return (
        "Balance: entropy of the Shapley values over its largest possible value. Gain: score with "
        "everything minus that of the best single modality (chosen on the same patients, which "
        f"favours it), by {markdown(listed(sources)) or MISSING}, in points of Harrell's C or AUC, "
        "with 95% interval. Filled: internal test patients; hollow: external. Shades of a colour: "
        "runs of one strategy."
    )


def _points(estimate: Mapping[str, float | None]) -> dict[str, float | None]:
    ends = ("value", "low", "high")
    return {end: None if (v := estimate[end]) is None else 100 * v for end in ends}


def _percent(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return MISSING
    value, low, high = (number(_points(estimate)[end], 0) for end in ("value", "low", "high"))
    return f"{value}% ({low} to {high})"


def _told(estimate: Mapping[str, float | None] | None) -> str:
    return MISSING if estimate is None else interval(estimate)
