"""What belongs together?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.parts import column_table
from analysis.cohort.schema import CohortError
from analysis.predict import predict_stored
from analysis.retrieval import candidates, complete
from app import theme
from app.figures.shares import value_text
from app.figures.text import count, interval, markdown, number
from app.panels import (
    address,
    audited,
    choose,
    ecg_paper,
    echo_cine,
    figure,
    frame,
    patient_ecg,
    patient_echo,
    progress,
)
from app.patients import PatientDesk
from app.workspace import Task, Workspace
from models.checkpoint import Run
from models.contracts import Kind

POOLS = (10, 50, None)
SHOWN = 5


def main() -> None:
    """How well a modality finds its patient's others, and one patient's candidates."""
    frame.title(
        "What belongs together?",
        "From one modality of a patient to another of the same patient, by the run's aligned "
        "embeddings: how often is the right one found, and what is found instead?",
    )
    workspace = frame.workspace()
    desk = frame.desk()
    left, right = st.columns(2)
    with left:
        task = choose.task(workspace, "retrieval")
    usable, broken = workspace.usable_runs(task)
    choose.broken(broken)
    choose.without_a_model(workspace, task)
    runs = {r.config.name: r for r in usable if len(r.config.modalities) > 1}
    if not runs:
        st.info("No run of this task reads several modalities.")
        return
    key = f"retrieval run {task.key}"
    address.start("strategy", key, list(runs), next(iter(runs)), "strategy")
    with right:
        name = st.selectbox("Run", list(runs), format_func=lambda n: runs[n].config.title, key=key)
    address.keep("strategy", name)
    run = runs[name]
    splits = workspace.splits(task)
    if not splits:
        st.info("This cohort has no internal or external test patients for the task.")
        return
    left, right = st.columns(2)
    with left:
        split = st.segmented_control(
            "Test patients", splits, format_func=theme.split_title, default=splits[0],
            required=True, key=f"retrieval split {task.key}",
        )  # fmt: skip
    with right:
        pool = st.segmented_control(
            "Candidates to choose from", POOLS, default=POOLS[0],
            format_func=lambda n: "all patients" if n is None else f"{n} at random",
            key="retrieval pool",
        )  # fmt: skip
    progress.predictions(workspace, task, [run], [split or splits[0]])
    try:
        found = workspace.retrieval(task, name, split or splits[0], pool)
    except CohortError as error:
        st.info(markdown(str(error)))
        return
    _table(found, name)
    _query(workspace, desk, task, run, split or splits[0])


def _table(found: Mapping[str, Any], name: str) -> None:
    titles = found["modalities"]
    rows = found["directions"]
    shown = pd.DataFrame(
        {
            "From": [markdown(titles[r["query"]]) for r in rows],
            "to": [markdown(titles[r["target"]]) for r in rows],
            "LRAP (95% interval)": [interval(r["lrap"]) for r in rows],
            "LRAP by chance": [number(r["chance"]["lrap"]) for r in rows],
            "Recall@1": [interval(r["recall"]["1"]) for r in rows],
            "Recall@1 by chance": [number(r["chance"]["recall"]["1"]) for r in rows],
            "Recall@2": [interval(r["recall"]["2"]) for r in rows],
        }
    )
    st.table(shown.set_index(["From", "to"]))
    figure.csv(pd.json_normalize([dict(r) for r in rows]), f"retrieval {name} {found['split']}")
    pool = "all of them" if found["pool"] == found["n"] else f"{found['pool']} drawn at random"
    st.caption(
        f"{count(found['n'], 'patient')} with all of the run's modalities; each is looked for "
        f"among {pool}. LRAP is the mean of 1 / rank of the right one; Recall@k the share of "
        "patients for whom it is among the first k. Intervals from "
        f"{found['resamples']['n']:,} resamples of {found['resamples']['units']}."
    )


def _query(workspace: Workspace, desk: PatientDesk, task: Task, run: Run, split: str) -> None:
    st.header("One patient's candidates", anchor=False)
    if frame.blind("One patient's candidates are"):
        return
    cohort = workspace.cohort(task.cohort)
    predicted = predict_stored(run, cohort, split, workspace.store)
    titles = {n: e.title for n, e in run.config.modalities.items()}
    names = list(titles)
    ids = complete(predicted).tolist()
    left, middle, right = st.columns(3)
    with left:
        subject = st.selectbox("Patient", ids, key=f"retrieval patient {task.key} {split}")
    with middle:
        query = st.selectbox("From", names, format_func=titles.__getitem__, key="retrieval from")
    with right:
        others = [n for n in names if n != query]
        target = st.selectbox("to", others, format_func=titles.__getitem__, key="retrieval to")
    audited.opened("query", task, [int(subject)], [run.config.name], query)
    found = candidates(predicted, int(subject), query, target)
    order, place = found.subject_ids, found.own_rank
    st.markdown(
        f"The patient's own {markdown(titles[target])} is **number {place:,} of {len(ids):,}**."
    )
    listed = pd.DataFrame(
        {
            "Rank": np.arange(1, SHOWN + 1),
            "Patient": order[:SHOWN].tolist(),
            "Cosine similarity": [number(float(s)) for s in found.similarity[:SHOWN]],
            "Whose": [
                "the patient's own" if i == subject else "another's" for i in order[:SHOWN].tolist()
            ],
        }
    )
    st.table(listed.set_index("Rank"))
    chosen = st.segmented_control(
        "Show candidate", list(range(1, SHOWN + 1)), default=1, required=True,
        key="retrieval candidate",
    )  # fmt: skip
    left, right = st.columns(2)
    with left:
        st.markdown(f"**Asked with: {markdown(titles[query])} of patient {subject}**")
        _picture(desk, task, run, int(subject), query, "query")
    with right:
        other = int(order[(chosen or 1) - 1])
        audited.opened("candidate", task, [other], [run.config.name], target, beside=int(subject))
        st.markdown(f"**Candidate {chosen}: {markdown(titles[target])} of patient {other}**")
        _picture(desk, task, run, other, target, "candidate")


def _picture(
    desk: PatientDesk, task: Task, run: Run, subject: int, modality: str, key: str
) -> None:
    """A modality rendered as what it is."""
    try:
        case = desk.case(task, run, subject)
        _draw(case, modality, key)
    except (AttributionError, CohortError) as error:
        st.info(markdown(str(error)))


def _draw(case: Case, modality: str, key: str) -> None:
    kind = case.kind(modality)
    if kind is Kind.SIGNAL:
        paper, _ = patient_ecg.drawing(case, modality)
        ecg_paper.show(
            paper,
            key=f"retrieval ecg {key}",
            alt=f"ECG of patient {case.subject_id}",
            title=f"Patient {case.subject_id}",
        )
    elif kind is Kind.VIDEO:
        cines = patient_echo.drawing(case, modality)
        echo_cine.show(
            cines,
            key=f"retrieval echo {key}",
            alt=f"Echo of patient {case.subject_id}",
            title=f"Patient {case.subject_id}",
        )
    elif kind in (Kind.TABLE, Kind.TEXT):
        st.dataframe(_values(case, modality), hide_index=True, width="stretch")
    else:
        st.info("The Patient page shows this modality.")


def _values(case: Case, modality: str) -> pd.DataFrame:
    columns = column_table(case, modality, words=True)
    told = columns[columns["value"].notna()]
    pairs = zip(told["value"], told["unit"], strict=True)
    return pd.DataFrame({"Column": told["title"], "Value": [value_text(*pair) for pair in pairs]})


main()
