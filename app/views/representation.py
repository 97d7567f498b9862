"""What did alignment change?"""

from __future__ import annotations

import json
from functools import partial

import streamlit as st

from analysis.cohort.schema import Split
from analysis.representation.population import ALL, Population
from app import theme
from app.figures import patient_rows as rows_figures
from app.figures.text import count, listed, markdown
from app.panels import (
    address,
    choose,
    figure,
    frame,
    progress,
    represent_numbers,
    represent_picture,
)
from app.panels.represent_verdict import verdict
from app.workspace import Task, Workspace
from models.checkpoint import Run


def main() -> None:
    """The verdict, the picture, the numbers, and one patient."""
    frame.title(
        "What did alignment change?",
        "Embeddings of every modality of every patient, before and after the strategy brings "
        "modalities together. Pictures mislead, so numbers stand beside them.",
    )
    workspace = frame.workspace()
    address.workspace(workspace)
    left, right = st.columns(2)
    with left:
        task = choose.task(workspace, "representation")
    usable, broken = workspace.usable_runs(task)
    with right:
        run = _run(task, usable)
    choose.broken(broken)
    choose.without_a_model(workspace, task)
    if run is None:
        st.info("There is no usable run for this task.")
        return
    split = _split(workspace, task)
    splits = _splits(workspace, task) if split == ALL else [split]
    _, failed = progress.predictions(workspace, task, [run], splits)
    if failed:
        choose.broken(failed)
        return
    with progress.spinner("Measuring before and after alignment", show_time=True):
        people = workspace.population(task, run.config.name, split)
        answer = workspace.representation(people)
    with st.container(border=True, key="verdict"):
        st.markdown("  \n".join(markdown(sentence) for sentence in verdict(answer)))
        st.caption(_whom(people))
    st.header("Where every embedding lies", anchor=False)
    if not frame.blind("The picture, in which every point is a patient, is"):
        method = represent_picture.choose_method()
        waiting = represent_picture.pending(workspace, people, method)
        frame.fragment(
            partial(represent_picture.show, workspace, task, people, method, waiting),
            every=represent_picture.POLL_SECONDS if waiting else None,
        )
    _numbers(answer, run)


def _run(task: Task, usable: list[Run]) -> Run | None:
    """One run; aligned ones first, single modalities last."""
    runs = {run.config.name: run for run in usable}
    if not runs:
        return None
    names = sorted(runs, key=lambda name: _rank(runs[name]))
    key = f"representation run {task.key}"
    address.start("strategy", key, names, names[0], "strategy")
    name = st.selectbox("Strategy", names, format_func=lambda n: runs[n].config.title, key=key)
    address.keep("strategy", name)
    return runs[name]


def _rank(run: Run) -> tuple[bool, bool]:
    return len(run.config.modalities) < 2, not run.model.strategy.alignment().loss


def _splits(workspace: Workspace, task: Task) -> list[str]:
    cohort = workspace.cohort(task.cohort)
    return [str(s) for s in Split if len(cohort.subject_ids(s, task.name))]


def _split(workspace: Workspace, task: Task) -> str:
    """Whose embeddings: test patients first."""
    there = _splits(workspace, task)
    ordered = [s for s in ("internal", "external", "tuning", "train") if s in there]
    options = [*ordered, ALL] if len(ordered) > 1 else ordered
    key = f"representation split {task.key}"
    address.start("split", key, options, options[0], "split")
    chosen = st.segmented_control(
        "Patients",
        options,
        format_func=lambda s: "All patients" if s == ALL else theme.split_title(s),
        required=True,
        key=key,
    )
    chosen = chosen or options[0]
    address.keep("split", chosen)
    return chosen


def _whom(people: Population) -> str:
    """Who is counted, and who is not."""
    splits = listed([theme.split_title(s).lower() for s in people.splits])
    words = (
        f"{count(len(people.people), 'patient')} ({splits}) with an outcome for the task; "
        f"{count(people.n_points, 'embedding')}: a modality that a patient lacks has none."
    )
    if people.n_unread:
        words += f" {count(people.n_unread, 'patient')} without any of the modalities left out."
    seen = [theme.split_title(s).lower() for s in people.splits if s in ("train", "tuning")]
    if seen:
        words += (
            f" {listed(seen).capitalize()} patients were seen while the run was made; alignment "
            "is better on them than on others."
        )
    return words


def _numbers(answer: dict, run: Run) -> None:
    st.header("The same in numbers", anchor=False)
    represent_numbers.show(answer)
    data = represent_numbers.frame(answer)
    name = f"representation {run.config.name} {'-'.join(answer['splits'])}"
    with st.container(horizontal=True, gap="small"):
        figure.csv(data, "representation measures", file=name)
        st.download_button(
            "Everything measured (JSON)",
            json.dumps(answer, indent=2),
            f"{name.replace(' ', '-')}.json",
            "application/json",
            on_click="ignore",
            type="tertiary",
            icon=":material/download:",
        )
    resamples = answer["resamples"]
    st.caption(
        "Means over pairs of modalities, or over modalities. Hover over a name for what it "
        "means, its range, chance and source. ↑ higher is better, ↓ lower is better. By chance: "
        "what modalities of different patients would reach. Change: after minus before on the "
        f"same patients, bold where its interval leaves out 0. Intervals: {resamples['n']:,} "
        "resamples of patients, or the jackknife over groups of them where a measure is no mean "
        f"(gap, CKA, uniformity); seed {resamples['seed']}."
    )
    represent_numbers.parts(answer)
    if answer["spectrum"]:
        st.subheader("Singular values of one patient's modalities", anchor=False)
        left, _ = st.columns([3, 2])
        with left:
            figure.show(
                rows_figures.spectrum(answer["spectrum"]),
                rows_figures.spectrum_frame(answer["spectrum"]),
                "representation spectrum",
                file=f"{name} spectrum",
                alt="Mean share of every singular value before and after alignment",
            )
        st.caption(
            f"Mean over {count(answer['spectrum']['n'], 'patient')} who have all modalities; "
            "embeddings of unit length side by side. One value of 1 and the others 0: all "
            "modalities point along one line; equal values: at right angles."
        )


main()
