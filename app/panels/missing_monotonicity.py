"""Does one modality more ever make it worse, and for whom?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from app.figures import monotonicity as figures
from app.figures.text import (
    count,
    counted,
    days,
    interval,
    listed,
    markdown,
    number,
    p_value,
    signed_interval,
)
from app.modalities import ModalityDesk
from app.panels import audited, figure, frame
from app.workspace import Task
from models.checkpoint import Run

LISTED = 10


def show(desk: ModalityDesk, task: Task, run: Run, split: str) -> None:
    """Patient by patient, then the whole set, then the patients who fared worst."""
    answer = desk.monotonicity(task, run, split)
    titles = {n: m.title for n, m in run.config.modalities.items()}
    st.subheader("Patient by patient: with it against without it", anchor=False)
    st.markdown(markdown(verdict(answer, titles)))
    rows = answer["modalities"]
    figure.show(
        figures.shares(rows, titles),
        figures.shares_frame(rows),
        f"helped {run.config.name} {split}",
        alt="Patients whom each modality made better, left alone or made worse",
    )
    st.table(pd.DataFrame([_row(row, titles) for row in rows]), hide_index=True)
    resamples = answer["resamples"]
    st.caption(
        f"Loss: {markdown(answer['loss'])}; lower is better. Each patient who has the modality and "
        "something else of the run is predicted with and without it, all else as it is. Even a "
        "modality that carries nothing makes about half of them a little worse: what counts is the "
        f"mean change, with its interval from {resamples['n']:,} resamples of patients, seed "
        f"{resamples['seed']}. Shares: Wilson's interval. Only: patients left out because it is "
        "all they have. More than chance: the interval excludes zero and Holm p < 0.05. A monotone "
        "fusion never has a positive change (Zheng et al., HAF, equation 10)."
    )
    _lattice(answer["lattice"], titles, run, split)
    _worst(desk, task, run, split, answer, titles)


def verdict(answer: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """What the intervals allow to say."""
    harm = [titles[r["modality"]] for r in answer["modalities"] if r["harm"] == "worse"]
    help_ = [titles[r["modality"]] for r in answer["modalities"] if r["harm"] == "better"]
    words = []
    if harm:
        words.append(f"On average {listed(harm)} made predictions worse, by more than chance.")
    if help_:
        words.append(f"On average {listed(help_)} made them better, by more than chance.")
    rest = [r for r in answer["modalities"] if r["harm"] is None]
    if rest:
        names = listed([titles[r["modality"]] for r in rest])
        words.append(f"For {names} the mean change is within chance.")
    return " ".join(words)


def _row(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, str]:
    share = {k: None if v is None else 100 * v for k, v in row["worse_share"].items()}
    return {
        "Modality": markdown(titles[row["modality"]]),
        "Patients": f"{row['n']:,}",
        "Only": f"{row['only']:,}",
        "Worse with it": f"{row['worse']:,}",
        "Share worse, % (95% interval)": interval(share, 1),
        "Same": f"{row['same']:,}",
        "Better with it": f"{row['better']:,}",
        "Mean change in loss (95% interval)": signed_interval(row["mean_change"], 3),
        "Holm p": p_value(row["p_holm"]),
    }


def _lattice(found: Mapping[str, Any], titles: Mapping[str, str], run: Run, split: str) -> None:
    st.subheader("The whole set: does adding a modality ever lower the score?", anchor=False)
    if found["undefined"]:
        st.info(markdown(found["undefined"]))
        return
    n = len(found["edges"])
    worst = [e for e in found["edges"] if figures.kind_of(e) == "beyond"]
    st.markdown(markdown(steps(found, n)))
    for edge in sorted(worst, key=lambda e: e["difference"]["value"])[:5]:
        st.markdown(f"- {markdown(figures.edge_words(edge, titles))}")
    who = counted(found["n"], found["events"], _positive(run))
    figure.show(
        figures.lattice(found, titles),
        figures.lattice_frame(found),
        f"lattice {run.config.name} {split}",
        alt="Score of each combination by its size; lines lead to the same with one modality more",
    )
    st.caption(
        f"{markdown(who)}; all have all of the run's modalities. Each "
        "step is tested within the same patients. With many steps some intervals lie below zero by "
        "chance alone; Holm's correction allows for their number."
    )


def _positive(run: Run) -> str:
    """The class that is counted; '' for survival."""
    classes = run.config.task.classes
    return classes[1] if len(classes) == 2 else ""


def steps(found: Mapping[str, Any], n: int) -> str:
    """How many of the n steps lower the score, and how many by more than chance."""
    begin = f"Of {count(n, 'step')} from a combination to the same with one modality more, "
    if not found["lower"]:
        return f"{begin}none lowers the score."
    middle = f"{found['lower']} lower the score; "
    if not found["beyond_chance"]:
        return f"{begin}{middle}none of them by more than chance."
    beyond = f"in {found['beyond_chance']} of them the interval lies below zero"
    holm = found["after_holm"]
    return f"{begin}{middle}{beyond}, {holm or 'none'} also after Holm's correction."


def _worst(
    desk: ModalityDesk,
    task: Task,
    run: Run,
    split: str,
    answer: Mapping[str, Any],
    titles: Mapping[str, str],
) -> None:
    st.subheader("For whom was it worst?", anchor=False)
    if frame.blind("Single patients are"):
        return
    rows = {row["modality"]: row for row in answer["modalities"]}
    name = st.segmented_control(
        "Made worse by",
        list(rows),
        format_func=lambda n: markdown(titles[n]),
        default=next(iter(rows)),
        required=True,
        key=f"worst {task.key} {run.config.name}",
    )
    row = rows[name or next(iter(rows))]
    if not row["worst"]:
        st.info(f"{markdown(titles[row['modality']])} made no prediction worse.")
        return
    worst = [int(one["subject_id"]) for one in row["worst"][:LISTED]]
    audited.opened("worst", task, worst, [run.config.name], "worst predictions and outcomes")
    st.table(
        pd.DataFrame([_patient(one, answer, task, run, titles) for one in row["worst"][:LISTED]]),
        hide_index=True,
    )
    audited.listed("changes", task, [run.config.name], "changes and outcomes of all patients")
    table = desk.changes(task, run, split)
    figure.csv(
        table[table["modality"] == row["modality"]],
        f"changes {run.config.name} {split} {row['modality']}",
        "All patients (CSV)",
    )
    st.caption(
        "Ordered by how much higher the loss is with the modality; the patient's number opens the "
        "Patient page. The list names what happened: it is a look back, not a blinded reading."
    )


def _patient(
    one: Mapping[str, Any],
    answer: Mapping[str, Any],
    task: Task,
    run: Run,
    titles: Mapping[str, str],
) -> dict[str, str]:
    query = urlencode({"task": task.key, "patient": one["subject_id"], "strategy": run.config.name})
    shown = {
        "Patient": f"[{one['subject_id']}](patient?{query})",
        "Has": markdown(", ".join(titles[n] for n in one["has"])),
    }
    if "event" in one:
        horizon = days(answer["horizon_days"])
        happened = "event" if one["event"] else "no event"
        shown |= {
            f"Event-free at {horizon}, without": _percent(one["event_free_without"]),
            f"Event-free at {horizon}, with": _percent(one["event_free_with"]),
            "What happened": f"{happened} by day {one['time_days']:,.0f}"
            if not one["event"]
            else f"event on day {one['time_days']:,.0f}",
        }
    else:
        shown |= {
            "Probability of own class, without": _percent(one["probability_without"]),
            "Probability of own class, with": _percent(one["probability_with"]),
            "Own class": markdown(one["class"]),
        }
    return {**shown, "Loss higher by": number(one["change"])}


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{number(100 * value, 1)}%"
