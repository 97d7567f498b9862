"""How well runs tell classes apart: areas, curves, decisions and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import theme
from app.figures import classification as figures
from app.figures.text import count, interval, markdown, number, p_value, signed_interval
from app.panels import figure
from app.theme import RunStyle
from app.workspace import SIGNIFICANT, Task

Evaluation = Mapping[str, Any]


def show(task: Task, evaluations: Mapping[str, Evaluation], styles: Mapping[str, RunStyle]) -> None:
    """From the verdict to its evidence, a tab a split."""
    with st.container(border=True, key="verdict"):
        for split, evaluation in evaluations.items():
            st.markdown(f"**{theme.split_title(split)}.** {markdown(verdict(evaluation))}")
    split = next(iter(evaluations))
    if len(evaluations) > 1:
        split = (
            st.segmented_control(
                "Test patients",
                list(evaluations),
                format_func=theme.split_title,
                default=split,
                required=True,
                key=f"label split {task.key}",
            )
            or split
        )
    evaluation = evaluations[split]
    if evaluation["undefined"]:
        st.info(markdown(evaluation["undefined"]))
        return
    st.header("How well does each run tell the classes apart?", anchor=False)
    left, right = st.columns(2)
    rows = frame(evaluation)
    with left:
        figure.show(
            figures.roc_figure(evaluation, styles),
            rows,
            f"roc {task.key} {split}",
            alt="ROC curves with 95% bands",
        )
    with right:
        figure.show(
            figures.pr_figure(evaluation, styles),
            rows,
            f"precision recall {task.key} {split}",
            alt="Precision-recall curves with 95% bands",
        )
    resamples = evaluation["resamples"]
    st.caption(
        f"Areas with DeLong's 95% interval; bands from {resamples['n']:,} bootstrap resamples of "
        f"{resamples['units']}. Open circles: the cut-off that each run learned on the tuning "
        "patients."
    )
    shown = table(evaluation)
    st.table(shown.assign(Run=shown["Run"].map(markdown)).set_index("Run"))
    figure.csv(rows, f"label measures {task.key} {split}")
    _differences(task, split, evaluation)
    _confusion(task, split, evaluation)


def verdict(evaluation: Evaluation) -> str:
    """Which run has the largest area, and whether its lead over the next stands."""
    rows = sorted(evaluation["runs"], key=lambda row: -(row["auc"]["value"] or 0.0))
    if not rows or rows[0]["auc"]["value"] is None:
        return "The areas cannot be computed for these patients."
    best = rows[0]
    of = f"{best['title']} has the largest AUC: {interval(best['auc'])}"
    patients = count(evaluation["n"], "patient")
    if evaluation["positives"] is not None:
        patients += f", {evaluation['positives']:,} with {evaluation['positive_class']}"
    if len(rows) < 2:
        return f"{of} ({patients})."
    pairs = {frozenset((d["first"], d["second"])): d for d in evaluation["differences"]}
    level = [
        row["title"]
        for row in rows[1:]
        if not _real(pairs.get(frozenset((best["run"], row["run"]))))
    ]
    if not level:
        return f"{of} ({patients}); its lead over every other run stands after correction."
    return (
        f"{of} ({patients}); after correction for all comparisons it cannot be told apart from "
        f"{', '.join(level[:3])}{f' and {len(level) - 3} more' if len(level) > 3 else ''}."
    )


def _real(difference: Mapping[str, Any] | None) -> bool:
    # A p of exactly 0 is as small as they come, and no missing one.
    p = None if difference is None else difference["p_holm"]
    return p is not None and p < SIGNIFICANT


def table(evaluation: Evaluation) -> pd.DataFrame:
    """The measures in words, best area first."""
    rows = sorted(evaluation["runs"], key=lambda row: -(row["auc"]["value"] or 0.0))
    return pd.DataFrame(
        {
            "Run": [row["title"] for row in rows],
            "AUC (95% interval)": [interval(row["auc"]) for row in rows],
            "Average precision": [interval(row["average_precision"]) for row in rows],
            "Accuracy": [interval(row["accuracy"]) for row in rows],
            **{
                part.title(): [interval(row[part]) for row in rows]
                for part in ("sensitivity", "specificity")
                if all(part in row for row in rows)
            },
            "Brier score": [number(row["brier"]["value"]) for row in rows],
        }
    )


def frame(evaluation: Evaluation) -> pd.DataFrame:
    """The measures in full precision, a row a run."""
    rows = []
    for row in evaluation["runs"]:
        flat = {k: row[k] for k in ("run", "title", "split", "n", "positives")}
        for name in ("auc", "average_precision", "accuracy", "sensitivity", "specificity", "brier"):
            part = row.get(name) or dict.fromkeys(("value", "low", "high"))
            flat |= {name: part["value"], f"{name}_low": part["low"], f"{name}_high": part["high"]}
        rows.append(flat)
    return pd.DataFrame(rows)


def _differences(task: Task, split: str, evaluation: Evaluation) -> None:
    pairs = evaluation["differences"]
    if not pairs:
        return
    titles = {row["run"]: row["title"] for row in evaluation["runs"]}
    st.header("Is the difference real?", anchor=False)
    shown = pd.DataFrame(
        {
            "Run": [titles[d["first"]] for d in pairs],
            "minus": [titles[d["second"]] for d in pairs],
            "Difference in AUC": [signed_interval(d["difference"], 3) for d in pairs],
            "p (DeLong)": [p_value(d["p"]) for d in pairs],
            "p (Holm)": [p_value(d["p_holm"]) for d in pairs],
        }
    )
    st.dataframe(shown, hide_index=True, width="stretch")
    flat = [{k: v for k, v in d.items() if not isinstance(v, Mapping)} for d in pairs]
    figure.csv(pd.DataFrame(flat), f"label differences {task.key} {split}")


def _confusion(task: Task, split: str, evaluation: Evaluation) -> None:
    titles = {row["run"]: row["title"] for row in evaluation["runs"]}
    st.header("Who is called what?", anchor=False)
    run = st.selectbox(
        "Run", list(titles), format_func=titles.__getitem__, key=f"confusion {task.key} {split}"
    )
    row = next(row for row in evaluation["runs"] if row["run"] == run)
    figure.show(
        figures.confusion_figure(evaluation, run),
        pd.DataFrame(row["confusion"], columns=evaluation["classes"]).assign(
            truth=evaluation["classes"]
        ),
        f"confusion {task.key} {split} {run}",
        alt="Confusion matrix with patients and shares of the true class",
    )
