"""What is here? Cohorts and runs of the workspace, and what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pandas as pd
import streamlit as st

from analysis.external import ExternalConfig
from app import theme
from app.figures import cohort as figures
from app.figures import frames
from app.figures.text import MISSING, count, days, markdown, number
from app.panels import figure, frame
from app.workspace import CohortEntry, CohortSummary, RunEntry, Workspace
from models.checkpoint import ImportedEntry, RunConfig

PREDICTED_AS = {
    "risk": "a score, higher is worse",
    "probability": "probability of the event",
    "survival": "probability of no event",
}


def main() -> None:
    """Cohorts first, then runs."""
    frame.title(
        "What is here?", "The cohorts of this workspace, and the runs that were trained on them."
    )
    workspace = frame.workspace()
    cohorts, runs = workspace.cohorts(), workspace.runs()
    if not cohorts and not runs:
        st.info(
            "This workspace is empty. 'fusionlens sample' fills one with simulated patients and "
            "trained runs; 'fusionlens import' brings in your own."
        )
        return
    st.markdown(
        f"**{markdown(workspace.name)}** has {count(len(cohorts), 'cohort')} and "
        f"{count(len(runs), 'run')}."
    )
    for entry in sorted(cohorts, key=lambda e: e.cohort is None):
        _cohort(workspace, entry)
    _runs(workspace, runs)


def _cohort(workspace: Workspace, entry: CohortEntry) -> None:
    if entry.cohort is None:
        st.header(markdown(entry.name), anchor=False)
        st.error(f"This cohort cannot be read. {markdown(entry.error or '')}")
        return
    spec = entry.cohort.spec
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.header(markdown(spec.title), anchor=False, width="content")
        if spec.provenance.simulated:
            st.badge("Simulated patients", color="violet", icon=":material/science:")
    _about(entry)
    try:
        summary = workspace.describe(entry.name)
    except (ValueError, OSError) as error:
        st.error(f"The patients of this cohort cannot be read. {markdown(str(error))}")
        return
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("Patients who have each modality", anchor=False)
        figure.show(
            figures.availability(summary),
            frames.availability(summary),
            f"availability {entry.name}",
            alt=f"Share of patients with each modality, by split, in {spec.title}",
        )
    with right:
        st.subheader("Outcomes", anchor=False)
        st.table(_outcomes(summary), hide_index=True)
        st.caption(
            "Event rate: share of patients with the event during follow-up, or with the "
            "diagnosis. Median follow-up by the reverse Kaplan-Meier method."
        )


def _about(entry: CohortEntry) -> None:
    assert entry.cohort is not None
    spec = entry.cohort.spec
    if spec.description:
        st.markdown(markdown(spec.description))
    origin = spec.provenance
    facts = [f"Source: {origin.source}"]
    if origin.licence:
        facts.append(f"licence: {origin.licence}")
    if spec.index_event:
        facts.append(f"time zero: {spec.index_event}")
    if origin.citation:
        facts.append(origin.citation)
    st.caption(markdown("; ".join(facts) + "."))


def _outcomes(summary: CohortSummary) -> pd.DataFrame:
    rows = []
    for o in summary.outcomes:
        rate = MISSING if o.event_rate is None else f"{o.event_rate:.0%}"
        rows.append(
            {
                "Task": markdown(o.title),
                "Split": theme.split_title(o.split),
                "Patients": f"{o.n:,}",
                "Events (rate)": MISSING if o.events is None else f"{o.events:,} ({rate})",
                "Median follow-up": days(o.median_follow_up_days),
            }
        )
    return pd.DataFrame(rows)


def _runs(workspace: Workspace, runs: list[RunEntry]) -> None:
    st.header("Runs", anchor=False)
    if not runs:
        st.info("No run has been trained yet; make one with 'fusionlens train'.")
    by_task: dict[tuple[str, str], list[RunConfig]] = {}
    for entry in runs:
        if entry.config is not None:
            key = (entry.config.cohort.title, entry.config.task.title)
            by_task.setdefault(key, []).append(entry.config)
    for (cohort, task), configs in sorted(by_task.items()):
        st.subheader(markdown(f"{cohort}: {task}"), anchor=False)
        st.table(pd.DataFrame([_run(config) for config in configs]), hide_index=True)
        for note in _other_versions(workspace, configs):
            st.info(note)
        for config in configs:
            if config.imported is not None:
                st.info(_imported(config.title, config.imported))
    if by_task:
        st.caption(
            "Tuning score: Harrell's C, or the area under the ROC curve for classes, on the tuning "
            "patients, who also decided when training stopped, so it is optimistic for new "
            "patients. A frozen encoder was trained beforehand and not changed by this run."
        )
    _elsewhere(workspace, [entry.external for entry in runs if entry.external is not None])
    for entry in runs:
        if entry.error is not None:
            st.error(f"Run **{markdown(entry.name)}** cannot be used. {markdown(entry.error)}")


def _elsewhere(workspace: Workspace, configs: list[ExternalConfig]) -> None:
    """Predictions that came without a model."""
    if not configs:
        return
    st.subheader("Predictions made elsewhere, without a model", anchor=False)
    rows = []
    for config in configs:
        made = config.predictions
        until = f" by day {made.horizon_days:g}" if made.horizon_days else ""
        lacking = ", ".join(
            f"{theme.split_title(split)}: {n:,}" for split, n in made.without.items() if n
        )
        rows.append(
            {
                "Run": markdown(config.title),
                "Cohort: task": markdown(f"{config.cohort.title}: {config.task.title}"),
                "What": f"{PREDICTED_AS[made.kind]}{until}",
                "From": f"{markdown(made.source)}, imported {_when(made.imported)}",
                "Patients": f"{sum(made.predicted.values()):,}",
                "Without a prediction": lacking or "nobody",
            }
        )
    st.table(pd.DataFrame(rows), hide_index=True)
    for config in configs:
        for warning in config.predictions.warnings:
            st.warning(f"**{markdown(config.title)}**: {markdown(warning)}")
    for note in _other_versions(workspace, configs, "Imported for"):
        st.info(note)
    st.caption(
        "They take part in Compare and Survival. There is nothing to explain: what they were made "
        "from is not known here. Patients: with an outcome for the task."
    )


def _run(config: RunConfig) -> dict[str, str]:
    training = config.training
    encoders = "; ".join(
        f"{m.title}: {theme.encoder_title(m.encoder.name)} "
        f"({'frozen' if m.encoder.frozen else 'trained'})"
        for m in config.modalities.values()
    )
    return {
        "Run": markdown(config.title),
        "Encoders": markdown(encoders),
        "Trained": _trained(config),
        "Training / tuning patients": "not known"
        if training.n_train is None or training.n_tuning is None
        else f"{training.n_train:,} / {training.n_tuning:,}",
        "Tuning score": number(training.tuning_score),
    }


def _imported(title: str, imported: ImportedEntry) -> str:
    """What a reader must know of weights that were trained elsewhere."""
    said = [
        f"**{markdown(title)}** was trained elsewhere. On which patients is not known: some of "
        "those shown here may be among them, and its scores then flatter it."
    ]
    if imported.fitted:
        said.append(
            f"Learnt on this cohort's training patients: {markdown('; '.join(imported.fitted))}."
        )
    if imported.assumed:
        assumed = ", ".join(f"{name} = {value}" for name, value in imported.assumed.items())
        said.append(f"Assumed, since no weight shows it: {markdown(assumed)}.")
    if imported.fresh:
        n = count(len(imported.fresh), "tensor")
        said.append(f"{n} of the model were missing and hold untrained values.")
    return " ".join(said)


def _trained(config: RunConfig) -> str:
    training = config.training
    if config.imported is not None:
        source = markdown(config.imported.source)
        return f"elsewhere; imported {_when(training.created)} from {source}"
    where = f"{_when(training.created)}, {_device(training.device)}"
    if training.seconds is None or training.epochs is None or training.best_epoch is None:
        return where
    epochs = f"{count(training.epochs, 'epoch')} (best: {training.best_epoch + 1})"
    return f"{where}, {training.seconds:,.0f} s, {epochs}"


def _device(name: str) -> str:
    """'CPU' for cpu; the name as it stands for others."""
    return name.upper() if name in ("cpu", "cuda", "mps") else markdown(name)


def _when(created: str) -> str:
    """'24 Nov 2025', or the text as it stands where it is no date."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return markdown(created)
    return f"{moment.day} {moment:%b %Y}"


def _other_versions(
    workspace: Workspace,
    configs: Sequence[RunConfig | ExternalConfig],
    made: str = "Trained on",
) -> list[str]:
    """Runs whose cohort is not, byte for byte, the one of the workspace."""
    here = {
        entry.cohort.spec.name: entry.cohort.fingerprint
        for entry in workspace.cohorts()
        if entry.cohort is not None
    }
    notes = []
    for name in dict.fromkeys(config.cohort.name for config in configs):
        mine = [config for config in configs if config.cohort.name == name]
        if name not in here:
            notes.append(
                f"{count(len(mine), 'run')} of this table: {made.lower()} the cohort "
                f"{markdown(name)}, which is not in this workspace, so they cannot be evaluated."
            )
            continue
        other = [c.title for c in mine if c.cohort.fingerprint != here[name]]
        if other:
            notes.append(
                f"{made} another version of this cohort (other subjects, outcomes or "
                f"description): {markdown('; '.join(other))}."
            )
    return notes


main()
