"""fusionlens assess."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from app.commands.base import (
    JsonFlag,
    cli,
    err_console,
    in_one_sentence,
    out_console,
    print_json,
    print_line,
    results_of,
    start_engine,
)
from app.commands.runs import EvaluatedSplit
from sample_data.progress import stage_bar

Estimate = Mapping[str, Any]


@cli.command()
def assess(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one task.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    split: Annotated[EvaluatedSplit, typer.Option()] = EvaluatedSplit.INTERNAL,
    horizon: Annotated[
        float | None, typer.Option(help="Days by which events are predicted; else the task's own.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability at which patients are flagged; else the observed risk."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Run that the others are compared with; else the best.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option("--class", help="Class judged against the rest.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=10, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a statistical reviewer asks: discrimination, calibration, usefulness, subgroups.

    Area under the curve over time, Brier score against Kaplan-Meier, calibration by the horizon,
    net benefit, alerts, reclassification, subgroups and the change to other patients, all with
    intervals from one set of resamples.
    """
    with in_one_sentence():
        start_engine()
        from analysis.cohort.cohort import Cohort
        from analysis.external import open_run
        from analysis.reviewer.report import reviewer_statistics
        from analysis.store import ResultStore
        from sample_data.workspace import ENCODERS

        opened = Cohort.open(cohort)
        with stage_bar(err_console) as say:
            answer = reviewer_statistics(
                [open_run(run, [ENCODERS]) for run in runs],
                opened,
                str(split),
                ResultStore(results or results_of(cohort)),
                horizon,
                threshold,
                resamples,
                seed,
                reference=reference,
                positive=positive,
                progress=lambda done, total: say("Predicting", done, total),
            )
    if as_json:
        print_json(answer)
    else:
        _print(answer)


def _print(answer: Mapping[str, Any]) -> None:
    survival = answer["kind"] == "survival"
    by = f" by day {answer['horizon_days']:g}" if survival else ""
    print_line(
        f"{answer['task_title']}, {answer['split']}: {answer['n']} patients, {answer['events']} "
        f"events; observed risk{by} {_told(answer['observed_risk'])}."
    )
    if answer["undefined"]:
        print_line(answer["undefined"])
    out_console.print(_discrimination(answer, survival))
    out_console.print(_calibration(answer))
    out_console.print(_alerts(answer))
    for table in (_pairs(answer, survival), _elsewhere(answer)):
        if table is not None:
            out_console.print(table)
    out_console.print(_subgroups(answer))
    for reason in dict.fromkeys(_reasons(answer)):
        print_line(reason)
    print_line(
        f"95% intervals: {answer['resamples']['n']} resamples of patients, seed "
        f"{answer['resamples']['seed']}. Compared with {answer['reference']['run']} "
        f"({answer['reference']['rule']})."
    )


def _discrimination(answer: Mapping[str, Any], survival: bool) -> Table:
    out = Table(title="Discrimination and prediction error (95% CI)")
    heads = ("C", "Mean AUC", "Integrated Brier", "IPA") if survival else ("AUC", "Brier", "IPA")
    for head in ("Run", *heads):
        out.add_column(head)
    for row in answer["runs"]:
        brier = row["brier"] or {}
        cells = [row["score"]]
        if survival:
            cells += [(row["auc"] or {}).get("mean"), brier.get("integrated")]
        else:
            cells += [brier.get("value")]
        out.add_row(escape(row["title"]), *map(_told, [*cells, brier.get("ipa")]))
    return out


def _calibration(answer: Mapping[str, Any]) -> Table:
    out = Table(title="Calibration (95% CI)")
    for head in ("Run", "Observed / expected", "Intercept", "Slope", "ICI", "E50", "E90"):
        out.add_column(head)
    for row in answer["runs"]:
        found = row["calibration"] or {}
        names = ("observed_to_expected", "intercept", "slope", "ici", "e50", "e90")
        out.add_row(escape(row["title"]), *(_told(found.get(name)) for name in names))
    return out


def _alerts(answer: Mapping[str, Any]) -> Table:
    out = Table(title=f"Flagged at {answer['threshold']:.3f}, {answer['threshold_rule']} (95% CI)")
    for head in ("Run", "Flagged", "Sensitivity", "PPV", "Alerts a true one", "Net benefit"):
        out.add_column(head)
    for row in answer["runs"]:
        found = row["alerts"] or {}
        names = ("alert_rate", "sensitivity", "ppv", "needed")
        cells = [found.get(name) for name in names]
        cells.append(row["net_benefit_at_threshold"])
        out.add_row(escape(row["title"]), *map(_told, cells))
    everybody = answer["treat_all_at_threshold"]
    out.add_row("Acting on all", "", "", "", "", _told(everybody))
    return out


def _pairs(answer: Mapping[str, Any], survival: bool) -> Table | None:
    if not answer["pairs"]:
        return None
    first = next(r for r in answer["runs"] if r["run"] == answer["reference"]["run"])
    out = Table(title=f"{escape(first['title'])} minus the other (95% CI)")
    score = "C" if survival else "AUC"
    for head in ("Other", score, "p (Holm)", "Brier", "NRI events", "NRI non-events"):
        out.add_column(head)
    titles = {row["run"]: row["title"] for row in answer["runs"]}
    for pair in answer["pairs"]:
        moved = pair["reclassification"] or {}
        out.add_row(
            escape(titles[pair["second"]]),
            _told(pair["score"]),
            _short(pair["score"]["p_holm"]),
            _told(pair["brier"]),
            _told(moved.get("events")),
            _told(moved.get("nonevents")),
        )
    return out


def _elsewhere(answer: Mapping[str, Any]) -> Table | None:
    rows = [row for row in answer["runs"] if row.get("elsewhere")]
    if not rows:
        return None
    other = rows[0]["elsewhere"]
    out = Table(title=f"From {answer['split']} to {other['split']}: {other['n']} patients (95% CI)")
    for head in ("Run", "There", "Change", "p"):
        out.add_column(head)
    for row in rows:
        found = row["elsewhere"]
        out.add_row(
            escape(row["title"]), _told(found["score"]), _told(found["change"]), _short(found["p"])
        )
    return out


def _subgroups(answer: Mapping[str, Any]) -> Table:
    row = next(r for r in answer["runs"] if r["run"] == answer["reference"]["run"])
    out = Table(title=f"Subgroups, {escape(row['title'])} (95% CI; p of Cochran's Q, Holm)")
    for head in ("By", "Group", "Patients", "Events", "Score", "p"):
        out.add_column(head)
    for group in row["subgroups"]:
        for at, level in enumerate(group["levels"]):
            out.add_row(
                escape(group["attribute"]) if at == 0 else "",
                escape(level["level"]),
                str(level["n"]),
                str(level["events"]),
                _told(level["score"]),
                _short(group["p_holm"]) if at == 0 else "",
            )
    return out


def _reasons(answer: Mapping[str, Any]) -> list[str]:
    """Why something is not defined, run by run."""
    found = []
    for row in answer["runs"]:
        for part in (row, row.get("auc"), row["brier"], row["calibration"], row["alerts"]):
            names = ("undefined", "line_undefined", "smooth_undefined")
            said = [part[name] for name in names if part and part.get(name)]
            found.extend(f"{row['title']}: {reason}" for reason in said)
    return found


def _told(estimate: Estimate | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "not defined"
    low, high = estimate["low"], estimate["high"]
    if low is None and high is None:
        return _short(estimate["value"])
    return f"{_short(estimate['value'])} ({_short(low)} to {_short(high)})"


def _short(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
