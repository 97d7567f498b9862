"""Do the groups separate?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.external import AnyRun, ExternalRun
from analysis.survival.groups import KaplanMeierSplit
from app import theme
from app.figures import frames
from app.figures import survival as figures
from app.figures.survival import Panel
from app.figures.text import MISSING, count, days, interval, listed, markdown, number, p_value
from app.panels import choose, figure, frame, progress
from app.workspace import Task, Workspace
from models.checkpoint import Run

RULES = {
    "median": "Median",
    "tertiles": "Tertiles",
    "quartiles": "Quartiles",
    "fixed": "Fixed cut-off",
}


def main() -> None:
    """Controls, curves, numbers."""
    frame.title(
        "Do the groups separate?",
        "Survival of patients grouped by predicted risk. The cut is learned on training and "
        "tuning patients and applied, unchanged, to test patients.",
    )
    workspace = frame.workspace()
    first, second = st.columns(2)
    with first:
        task = choose.task(workspace, "survival", "survival")
    splits = workspace.splits(task)
    if not splits:
        st.info("This cohort has no internal or external test patients for the task.")
        return
    with second:
        split = st.segmented_control(
            "Patients",
            splits,
            format_func=theme.split_title,
            default=splits[0],
            required=True,
            key=f"survival split {task.key}",
        )
    usable, broken = workspace.predicting_runs(task)
    chosen = choose.runs("Runs", usable, _suggested(usable), key=f"survival runs {task.key}")
    choose.broken(broken)
    third, fourth = st.columns(2)
    with third:
        rule = st.segmented_control(
            "Cut the predicted risk at",
            list(RULES),
            format_func=RULES.__getitem__,
            default="median",
            required=True,
            key="survival rule",
        )
    split = split or splits[0]
    with fourth:
        horizon = _horizon(workspace, task, split)
    if not chosen:
        st.info("Choose at least one run to see its risk groups.")
        return
    _groups(workspace, task, split, rule or "median", horizon, chosen)


def _groups(
    workspace: Workspace,
    task: Task,
    split: str,
    rule: str,
    horizon: float,
    chosen: Sequence[AnyRun],
) -> None:
    """Curves and their numbers."""
    good, failed = progress.predictions(workspace, task, chosen, [split])
    choose.broken(failed)
    cuts = _cuts(workspace, task, split, rule, good)
    ticks = figures.day_ticks(horizon)
    panels = []
    for run in good:
        name = run.config.name
        try:
            result = workspace.risk_groups(task, name, split, cuts[name], horizon, ticks)
        except ValueError as error:  # also CohortError and RunError
            st.warning(
                f"**{markdown(run.config.title)}** has no risk groups. {markdown(str(error))}"
            )
            continue
        panels.append(Panel(name, run.config.title, result))
    if not panels:
        return
    _how(panels, split, _scale(good))
    zero = workspace.cohort(task.cohort).spec.index_event
    figure.show(
        figures.kaplan_meier(panels, horizon, f"Days since {zero}" if zero else "Days"),
        frames.curves(panels, split),
        f"survival {task.key} {split}",
        alt="Kaplan-Meier curves of the risk groups with numbers at risk",
    )
    event = f" Event: {markdown(task.event_title)}." if task.event_title else ""
    st.caption(
        f"Steps: Kaplan-Meier estimate. Bands: 95% intervals (log-log). Ticks: censored patients. "
        f"A curve is faint where fewer than {figures.FEW_AT_RISK} patients are at risk.{event}"
    )
    _contrasts(panels)
    _members(panels)


def _suggested(runs: Sequence[AnyRun]) -> list[str]:
    """The single modality and the fusion run with the best tuning score: not a look at test.

    Predictions made elsewhere have no tuning score; they are suggested where there is no model.
    """
    models = [run for run in runs if isinstance(run, Run)]
    if not models:
        return [run.config.name for run in runs[:2]]
    best = []
    for alone in (True, False):
        same = [r for r in models if (r.config.strategy.name == "unimodal") is alone]
        if same:
            best.append(max(same, key=lambda r: r.config.training.tuning_score or 0.0).config.name)
    return best


def _horizon(workspace: Workspace, task: Task, split: str) -> float:
    longest = max(int(workspace.follow_up_days(task, split)), 2)
    usual = min(int(task.horizon_days or longest), longest)
    return float(
        st.slider(
            "Horizon in days (what happens later is not counted)",
            min_value=min(30, longest - 1),
            max_value=longest,
            value=usual,
            key=f"survival horizon {task.key} {split}",
        )
    )


def _cuts(
    workspace: Workspace, task: Task, split: str, rule: str, runs: Sequence[AnyRun]
) -> dict[str, str | float]:
    """The rule for every run; a fixed cut is a number for each, since their scales differ."""
    if rule != "fixed":
        return {run.config.name: rule for run in runs}
    st.markdown(
        "Each run has its own scale of risk, so each has its own cut-off. It starts at the "
        "median of the training and tuning patients."
    )
    cuts: dict[str, str | float] = {}
    columns = st.columns(min(max(len(runs), 1), 4))
    for number_, run in enumerate(runs):
        name = run.config.name
        with columns[number_ % len(columns)]:
            cuts[name] = st.number_input(
                f"{_scale([run]).capitalize()} cut-off: {markdown(run.config.title)}",
                value=_median_cut(workspace, task, name, split),
                step=0.05,
                format="%.3f",
                key=f"cut {task.key} {name}",
            )
    return cuts


def _scale(runs: Sequence[AnyRun]) -> str:
    """A model predicts a log-risk; what was made elsewhere has a scale of its own."""
    own = any(isinstance(r, ExternalRun) and r.config.predictions.kind == "risk" for r in runs)
    return "risk" if own else "log-risk"


def _median_cut(workspace: Workspace, task: Task, name: str, split: str) -> float:
    """Where a fixed cut starts; 0, the middle of a Cox model's scale, if nobody differs in risk."""
    try:
        return round(workspace.risk_groups(task, name, split, "median", None).cutoffs.values[0], 3)
    except ValueError:
        return 0.0


def _how(panels: Sequence[Panel], split: str, scale: str) -> None:
    """Where the cut comes from, in a sentence."""
    first = panels[0].split
    patients = count(sum(g.n for g in first.groups), "patient")
    where = theme.split_title(split).lower()
    at = {panel.title: listed([number(v) for v in panel.split.cutoffs.values]) for panel in panels}
    values = markdown("; ".join(f"{title}: {value}" for title, value in at.items()))
    where_on = "the log-risk scale" if scale == "log-risk" else "each run's own scale"
    if first.cutoffs.rule == "fixed":
        text = f"Cut at the {scale} typed above ({values}), applied to {patients} ({where})."
    else:
        source = f"{first.cutoffs.n:,} {first.cutoffs.learned_on.replace('train', 'training')}"
        text = (
            f"Cut at the {RULES[first.cutoffs.rule].lower()} of predicted {scale} in {source} "
            f"patients, and applied to {patients} ({where}), who had no part in it. Cut-offs on "
            f"{where_on}: {values}."
        )
    with st.container(key="cut"):
        st.markdown(text)
        for panel in panels[1:]:
            own, learned = sum(g.n for g in panel.split.groups), panel.split.cutoffs.n
            if (own, learned) != (sum(g.n for g in first.groups), first.cutoffs.n):
                cut = f"cut learned on {learned:,}, " if first.cutoffs.rule != "fixed" else ""
                st.caption(
                    f"{markdown(panel.title)}: {cut}applied to {count(own, 'patient')}, those "
                    "whom it predicts."
                )


def _contrasts(panels: Sequence[Panel]) -> None:
    st.header("How far apart are the groups?", anchor=False)
    st.table(pd.DataFrame([_contrast(p.title, p.split) for p in panels]), hide_index=True)
    st.caption(
        "Hazard ratio and event-free time compare the highest with the lowest risk group; "
        "event-free time is the area between the curves up to the day stated, so a negative "
        "number is time lost by the high-risk group. p-values are two-sided and not adjusted for "
        "looking at several runs, cuts or horizons."
    )
    for panel in panels:
        result = panel.split
        reasons = (
            result.logrank.undefined,
            result.hazard_ratio.undefined,
            result.rmst_difference.undefined,
        )
        for reason in dict.fromkeys(filter(None, reasons)):
            st.info(f"{markdown(panel.title)}: {markdown(reason)}")


def _contrast(title: str, result: KaplanMeierSplit) -> dict[str, str]:
    ratio, gap, test = result.hazard_ratio, result.rmst_difference, result.logrank
    return {
        "Run": markdown(title),
        "Log-rank p": p_value(test.p),
        "Hazard ratio (95% interval)": MISSING
        if ratio.undefined
        else interval({"value": ratio.value, "low": ratio.low, "high": ratio.high}, 2),
        "Difference in event-free days (95% interval)": MISSING
        if gap.undefined
        else interval({"value": gap.value, "low": gap.low, "high": gap.high}, 0),
        "p of that difference": p_value(gap.p),
        "Within": days(result.tau_days),
    }


def _members(panels: Sequence[Panel]) -> None:
    st.header("Who is in each group?", anchor=False)
    rows = []
    for panel in panels:
        for group in panel.split.groups:
            mean = group.rmst
            rows.append(
                {
                    "Run": markdown(panel.title),
                    "Group": group.name,
                    "Patients": f"{group.n:,}",
                    "Events": f"{group.n_events:,}",
                    "Median time to event": days(group.curve.median_days)
                    if group.curve
                    else MISSING,
                    "Mean event-free days (95% interval)": MISSING
                    if mean is None or mean.undefined
                    else interval({"value": mean.value, "low": mean.low, "high": mean.high}, 0),
                }
            )
    st.table(pd.DataFrame(rows), hide_index=True)
    st.caption(
        "A dash for the median: more than half of the group were event-free as long as they were "
        "followed. Mean event-free days are restricted to the day stated above."
    )


main()
