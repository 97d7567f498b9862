"""What does the run achieve with fewer modalities, and is hiding them like lacking them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.cohort.schema import CohortError
from app import theme
from app.figures import fewer as figures
from app.figures.classification import combination_frame
from app.figures.text import count, markdown, p_phrase, signed_interval
from app.modalities import ModalityDesk
from app.panels import figure
from app.workspace import Task, excludes_zero
from models.checkpoint import Run

WHO = {
    "complete": "Complete patients, the rest hidden",
    "everyone": "Everyone, whatever they lack",
    "natural": "By nature against by force",
}


def show(desk: ModalityDesk, task: Task, run: Run, split: str, design: str) -> None:
    """One of three populations at a time."""
    who = st.segmented_control(
        "Patients",
        list(WHO),
        format_func=WHO.__getitem__,
        default="complete",
        required=True,
        key=f"missing population {task.key}",
    )
    if who == "natural":
        _natural(desk, task, run, split)
        return
    try:
        table = desk.combinations(task, run, split, "everyone" if who == "everyone" else "complete")
    except CohortError as error:
        st.info(markdown(str(error)))
        return
    _combinations(table, run, task, design)


def _combinations(table: Mapping[str, Any], run: Run, task: Task, design: str) -> None:
    entries = list(reversed(table["combinations"]))
    if figures.is_long(table):
        short = figures.short_list(table)
        every = st.segmented_control(
            "Combinations",
            [False, True],
            format_func=lambda all_: (
                f"all {len(entries)}" if all_ else f"all but one, and each alone ({len(short)})"
            ),
            default=False,
            required=True,
            key=f"missing list {task.key}",
        )
        entries = entries if every else short
    if table["undefined"]:
        st.info(markdown(table["undefined"]))
    style = theme.run_style(run.config)
    figure.show(
        figures.combinations(table, entries, style),
        combination_frame([table]),
        f"fewer {run.config.name} {table['split']} {table['population']}",
        alt="The run's score with each combination of its modalities",
    )
    resamples = table["resamples"]
    interval = (
        f"percentiles of {resamples['n']:,} resamples of patients, seed {resamples['seed']}"
        if table["metric"] == "c_index"
        else "DeLong"
    )
    st.caption(
        f"{_who(table)} {markdown(design)} A modality that is not told is marked absent, "
        "the state that the run was trained for. Lost: the score with everything minus this "
        f"one, paired by patient; intervals: {interval}; * Holm p < 0.05 over all "
        "combinations. A single modality here is the fusion run without the others, not a "
        "model of its own."
    )


def _who(table: Mapping[str, Any]) -> str:
    if table["population"] == "complete":
        return (
            f"Every row is the same {count(table['n'], 'patient')}, those who have all of the "
            f"run's modalities ({table['n_incomplete']:,} others are left out)."
        )
    return (
        f"Every row is all {count(table['n'], 'patient')}, told what they have of the combination: "
        f"{table['n_incomplete']:,} lack something anyway, and who has none of it keeps what the "
        "run says of the unknown."
    )


def _natural(desk: ModalityDesk, task: Task, run: Run, split: str) -> None:
    answer = desk.natural(task, run, split)
    titles = {n: m.title for n, m in run.config.modalities.items()}
    classes = run.config.task.classes
    positive = classes[1] if len(classes) == 2 else ""
    gaps = [
        p for p in answer["patterns"] if p["difference"] and p["difference"]["value"] is not None
    ]
    apart = [p for p in gaps if excludes_zero(p["difference"])]
    if apart:
        words = "; ".join(
            f"{' + '.join(titles[n] for n in p['modalities'])}: "
            f"{signed_interval(_points(p['difference']))} points, {p_phrase(p['p'])}"
            for p in apart
        )
        st.markdown(f"Hiding is **not** like lacking for {markdown(words)}.")
    elif gaps:
        st.markdown(
            "Where there are patients enough to compare, no difference between those who came with "
            "a pattern and complete patients who are told no more is beyond chance."
        )
    else:
        st.markdown("No pattern but the complete one has patients enough for a score.")
    figure.show(
        figures.natural(answer, titles, theme.run_style(run.config), positive),
        figures.natural_frame(answer, titles),
        f"natural {run.config.name} {split}",
        alt="Scores of patients who lack modalities and of those from whom they are hidden",
    )
    resamples = answer["resamples"]
    st.caption(
        "The two groups of a row are different patients, so their difference is not paired: why a "
        "modality was not recorded may say something of the patient. A group of fewer than 10 "
        "patients, or of fewer than 5 events (for a diagnosis: 5 of each class), has no score. "
        f"Intervals: {resamples['n']:,} resamples of {resamples['units']}, seed "
        f"{resamples['seed']} (AUC: DeLong). p-values are not adjusted for the number of patterns."
    )


def _points(gap: Mapping[str, float | None]) -> dict[str, float | None]:
    return {k: None if v is None else 100 * v for k, v in gap.items()}
