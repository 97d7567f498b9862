"""Which strategy, and is the difference real?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.external import EXTERNAL, AnyRun, ExternalRun
from app import theme
from app.figures import comparison as figures
from app.figures import frames
from app.figures.text import (
    MISSING,
    count,
    days,
    interval,
    listed,
    markdown,
    number,
    p_value,
    signed_interval,
)
from app.panels import choose, combinations, compare_labels, figure, frame, progress
from app.panels.verdict import verdict
from app.theme import RunStyle
from app.workspace import Gain, Task, Workspace, gains
from models.checkpoint import Run

Evaluation = Mapping[str, Any]


def main() -> None:
    """From the verdict to its evidence."""
    frame.title(
        "Which strategy, and is the difference real?",
        "Discrimination of every run on patients that took no part in training, with paired "
        "comparisons in the same patients.",
    )
    workspace = frame.workspace()
    left, _ = st.columns([1, 1])
    with left:
        task = choose.task(workspace, "compare")
    usable, broken = workspace.predicting_runs(task)
    chosen = choose.runs(
        "Runs", usable, _at_first(usable, workspace.splits(task)), key=f"compare runs {task.key}"
    )
    choose.broken(broken)
    if not chosen:
        st.info("Choose at least one run to see how well it discriminates.")
        return
    splits = workspace.splits(task)
    if not splits:
        st.info("This cohort has no internal or external test patients for the task.")
        return
    evaluations, styles = _evaluate(workspace, task, chosen, splits)
    _left_out(evaluations, chosen)
    if evaluations and task.kind == "classification":
        compare_labels.show(task, evaluations, styles)
    elif evaluations:
        _verdicts(evaluations)
        _forest(task, evaluations, styles)
        _gain(task, evaluations, styles)
        modalities = workspace.cohort(task.cohort).spec.modalities
        _details(task, evaluations, styles, {n: m.title for n, m in modalities.items()})
    if evaluations:
        models = [run for run in chosen if isinstance(run, Run)]
        combinations.show(workspace, task, models, list(evaluations), styles)
    _across(workspace)


def _at_first(runs: Sequence[AnyRun], splits: Sequence[str]) -> list[str]:
    """All runs but predictions that would take test patients out of everybody's comparison."""
    names = []
    for run in runs:
        without = run.config.predictions.without if isinstance(run, ExternalRun) else {}
        lacking = {split: without.get(split, 0) for split in splits}
        if not any(lacking.values()):
            names.append(run.config.name)
            continue
        each = [f"{n:,} ({theme.split_title(s).lower()})" for s, n in lacking.items() if n]
        st.caption(
            f"{markdown(run.config.title)} is not chosen at first: it does not predict "
            f"{listed(each)} patients, whom a comparison with it leaves out."
        )
    return names


def _evaluate(
    workspace: Workspace, task: Task, runs: Sequence[AnyRun], splits: Sequence[str]
) -> tuple[dict[str, Evaluation], dict[str, RunStyle]]:
    good, failed = progress.predictions(workspace, task, runs, splits)
    choose.broken(failed)
    if not good:
        return {}, {}
    names = [run.config.name for run in good]
    with progress.spinner(
        f"Comparing {count(len(names), 'run')} on 1,000 resamples of the patients", show_time=True
    ):
        evaluations = {split: workspace.evaluate(task, names, split) for split in splits}
    return evaluations, {run.config.name: theme.run_style(run.config) for run in good}


def _left_out(evaluations: Mapping[str, Evaluation], runs: Sequence[AnyRun]) -> None:
    """Say whom the comparison leaves out, because a run does not predict them."""
    titles = {run.config.name: run.config.title for run in runs}
    for split, evaluation in evaluations.items():
        left = evaluation.get("left_out")
        if left:
            each = listed([f"{n:,} by {titles[name]}" for name, n in left["runs"].items()])
            st.info(
                f"{theme.split_title(split)}: {left['n']:,} of {left['of']:,} patients are left "
                f"out of the comparison, because not every run predicts them (not predicted: "
                f"{markdown(each)}). Unselect what does not predict them to compare in all."
            )


def _verdicts(evaluations: Mapping[str, Evaluation]) -> None:
    with st.container(border=True, key="verdict"):
        for split, evaluation in evaluations.items():
            st.markdown(f"**{theme.split_title(split)}.** {markdown(verdict(evaluation))}")
        if any(len(evaluation["runs"]) > 1 for evaluation in evaluations.values()):
            st.caption(
                "The best run is picked on the same patients that it is judged on here, so its "
                "lead is somewhat optimistic; a lead in both test sets says more than one."
            )


def _forest(
    task: Task, evaluations: Mapping[str, Evaluation], styles: Mapping[str, RunStyle]
) -> None:
    st.header("How well does each run rank patients?", anchor=False)
    figure.show(
        figures.forest(evaluations, styles),
        frames.runs(evaluations),
        f"concordance {task.key}",
        alt="Harrell's C of every run with its 95% interval, by split",
    )
    resamples = next(iter(evaluations.values()))["resamples"]
    symbols = dict.fromkeys(style.symbol for style in styles.values())
    key = "; ".join(theme.SYMBOL_WORDS[symbol] for symbol in symbols if len(symbols) > 1)
    st.caption(
        f"Points: C. Lines: 95% intervals from {resamples['n']:,} bootstrap resamples of "
        f"{resamples['units']}. A colour is a strategy, on every page; greys are single "
        f"modalities{f'. Marks: {key}' if key else ''}."
    )
    for split, evaluation in evaluations.items():
        if evaluation["undefined"]:
            st.info(f"{theme.split_title(split)}: {markdown(evaluation['undefined'])}")


def _gain(
    task: Task, evaluations: Mapping[str, Evaluation], styles: Mapping[str, RunStyle]
) -> None:
    st.header("What does fusion add to the best single modality?", anchor=False)
    found = {split: gains(evaluation) for split, evaluation in evaluations.items()}
    fusion = [g.run for split_gains in found.values() for g in split_gains]
    if not fusion:
        st.info(
            "This needs at least one single-modality run and one fusion run among the chosen ones."
        )
        return
    first = next(iter(evaluations.values()))
    names = [name for name in figures.ordered(first) if name in fusion]
    figure.show(
        figures.gain(found, names, styles),
        frames.gains(found),
        f"gain {task.key}",
        alt="Gain of every fusion run over the best single modality in points of C, by split",
    )
    st.caption(
        "One point is 0.01 of C. Intervals are paired: both runs see the same resampled patients. "
        "An interval that crosses zero is compatible with no gain. Percent: of the baseline's C, "
        "which its interval takes as known. Holm: p adjusted for all pairs of runs."
    )
    st.table(pd.DataFrame([_gain_row(name, found) for name in names]), hide_index=True)


@st.fragment
def _details(
    task: Task,
    evaluations: Mapping[str, Evaluation],
    styles: Mapping[str, RunStyle],
    titles: Mapping[str, str],
) -> None:
    st.header("Which differences are more than chance?", anchor=False)
    split = st.segmented_control(
        "Patients",
        list(evaluations),
        format_func=theme.split_title,
        default=next(iter(evaluations)),
        required=True,
        key=f"compare split {task.key}",
    )
    evaluation = evaluations[split or next(iter(evaluations))]
    if len(evaluation["runs"]) > 1:
        _how_to_read(evaluation)
        figure.show(
            figures.differences(evaluation, styles),
            frames.differences({evaluation["split"]: evaluation}),
            f"differences {task.key} {evaluation['split']}",
            alt="Difference in C between every pair of runs, row minus column",
        )
    else:
        st.info("Differences need at least two runs.")
    _table(task, evaluation, titles)


def _how_to_read(evaluation: Evaluation) -> None:
    resamples = evaluation["resamples"]
    st.markdown(
        "Each cell is the run of its **row minus the run of its column**, in points of C: teal "
        "where the row is better, brown where it is worse. **Bold**: the 95% interval excludes "
        "zero. **Outlined**: also p < 0.05 after Holm's correction for all "
        f"{count(len(evaluation['differences']), 'pair')}."
    )
    st.caption(
        f"{resamples['n']:,} resamples give no p below {number(resamples['smallest_p'], 4)}"
        + (f"; {resamples['dropped']} had no comparable pair" if resamples["dropped"] else "")
        + "."
    )


def _gain_row(name: str, found: Mapping[str, Sequence[Gain]]) -> dict[str, str]:
    """One run's gain in every split."""
    row: dict[str, str] = {}
    for split, split_gains in found.items():
        for g in split_gains:
            if g.run == name:
                row["Run"] = markdown(g.title)
                row[f"{split.capitalize()}: points"] = signed_interval(g.points)
                row[f"{split.capitalize()}: percent"] = signed_interval(g.percent, unit="%")
                row[f"{split.capitalize()}: Holm p"] = p_value(g.p_holm)
    return row


def _table(task: Task, evaluation: Evaluation, titles: Mapping[str, str]) -> None:
    st.header("All measures", anchor=False)
    st.markdown(
        f"{theme.split_title(evaluation['split'])}: {count(evaluation['n'], 'patient')}, "
        f"{count(evaluation['events'], 'event')}."
    )
    order = figures.ordered(evaluation)
    rows = {row["run"]: row for row in evaluation["runs"]}
    st.table(pd.DataFrame([_measures(rows[n], titles) for n in order]), hide_index=True)
    figure.csv(
        frames.runs({evaluation["split"]: evaluation}),
        f"measures {task.key} {evaluation['split']}",
        "Table (CSV)",
    )
    st.caption(markdown(evaluation["convention"]) + " " + markdown(_conventions(evaluation)))
    notes = {row[m]["note"] for row in rows.values() for m in ("uno_c", "integrated_brier")}
    for note in sorted(filter(None, notes)):
        st.caption(markdown(note))


def _measures(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, str]:
    brier = row["integrated_brier"]
    known = row["strategy"] != EXTERNAL
    lacking = [f"{n:,} lack {titles[name]}" for name, n in row["absent"].items() if n]
    return {
        "Run": markdown(row["title"]),
        "Harrell's C (95% interval)": interval(row["c_index"]),
        "Uno's C": number(row["uno_c"]["value"]),
        "Integrated Brier score": number(brier["value"]),
        "Brier of Kaplan-Meier": number(brier.get("reference")),
        "Patients": f"{row['n']:,}",
        "Events": f"{row['events']:,}",
        "Missing modalities": (markdown(listed(lacking)) if lacking else "nobody")
        if known
        else MISSING,
        "Lack all": f"{row['without_any_modality']:,}" if known else MISSING,
    }


def _conventions(evaluation: Evaluation) -> str:
    row = evaluation["runs"][0]
    brier = row["integrated_brier"]
    until = row["uno_c"]["tau_days"]
    words = [
        "Uno's C counts pairs up to "
        f"{days(until) if until else 'the end of follow-up'}, weighted by the censoring of the "
        "training and tuning patients."
    ]
    if brier["value"] is not None:
        words.append(
            "Integrated Brier score: lower is better, from "
            f"day {number(brier['start_days'], 0)} to day {number(brier['end_days'], 0)}; the "
            "Kaplan-Meier curve of all patients, which tells nobody apart, is the reference."
        )
    words.append("A patient who lacks a modality stays in; the run predicts from the others.")
    return " ".join(words)


def _across(workspace: Workspace) -> None:
    """Every survival task with all its usable runs, whatever is chosen above."""
    survival = workspace.tasks("survival")
    if not survival:
        return
    st.header("Which strategy leads where?", anchor=False)
    tasks: dict[str, dict[str, Evaluation]] = {}
    styles: dict[str, RunStyle] = {}
    for task in survival:
        usable, _ = workspace.usable_runs(task)
        splits = workspace.splits(task)
        if not usable or not splits:
            continue
        found, own = _evaluate(workspace, task, usable, splits)
        if found:
            tasks[choose.task_title(workspace, task)] = found
            styles |= own
    if not tasks:
        st.info("No task has both usable runs and test patients.")
        return
    figure.show(
        figures.winners(tasks, styles),
        pd.concat([frames.runs(found) for found in tasks.values()], ignore_index=True),
        "leaders",
        alt="The run with the highest C in every task and split",
    )
    st.caption(
        "All usable runs of each task that have a model. A tick: the lead over the best single "
        "modality stands after Holm's correction for all pairs of runs of the task."
    )


main()
