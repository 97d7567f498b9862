"""fusionlens missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
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


@cli.command()
def missing(
    run: Annotated[Path, typer.Argument(help="Run folder; a run of several modalities.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    split: Annotated[EvaluatedSplit, typer.Option()] = EvaluatedSplit.INTERNAL,
    patient: Annotated[
        int | None, typer.Option(help="Also what the run would say of this subject_id with less.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=20, max=1000, help="Random draws of the drop curve.")
    ] = 50,
    resamples: Annotated[int, typer.Option(min=10, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What if a modality is missing: the numbers of the Modalities page.

    Scores under every combination of modalities, missing by nature and by force, when modalities
    are dropped at random, whether one more ever makes it worse, and who has what.
    """
    with in_one_sentence():
        start_engine()
        from analysis.cohort.cohort import Cohort
        from analysis.missing.report import missing_report
        from analysis.store import ResultStore
        from models.checkpoint import load_run
        from sample_data.workspace import ENCODERS

        opened = Cohort.open(cohort)
        with stage_bar(err_console) as say:
            answer = missing_report(
                load_run(run, [ENCODERS]),
                opened,
                str(split),
                ResultStore(results or results_of(cohort)),
                patient=patient,
                n_resamples=resamples,
                repeats=repeats,
                seed=seed,
                progress=say,
            )
    if as_json:
        print_json(answer)
    else:
        _print(answer)


def _print(answer: Mapping[str, Any]) -> None:
    print_line(f"{answer['title']}, {answer['task_title']}, {answer['split']}. {answer['design']}")
    for table in (answer["combinations"], answer["everyone"]):
        if table is not None:
            out_console.print(_combinations(table))
    for note in answer["notes"]:
        print_line(note)
    out_console.print(_dropped(answer["drop"]))
    out_console.print(_added(answer))
    lattice = answer["monotonicity"]["lattice"]
    print_line(
        f"Adding a modality to a combination lowered the score in {lattice['lower']} of "
        f"{len(lattice['edges'])} steps; in {lattice['beyond_chance']} the interval lies below 0."
    )
    if answer["patient"] is not None:
        out_console.print(_patient(answer["patient"]))


def _combinations(table: Mapping[str, Any]) -> Table:
    metric = table["metric"]
    who = "complete patients" if table["population"] == "complete" else "everyone"
    out = Table(title=f"Told less: {table['n']} patients ({who})")
    for column in ("Told", f"{metric} (95% CI)", "Lost (95% CI)", "p (Holm)"):
        out.add_column(column)
    lost = {tuple(d["modalities"]): d for d in table["differences"]}
    for entry in reversed(table["combinations"]):
        found = lost.get(tuple(entry["modalities"]))
        out.add_row(
            " + ".join(entry["modalities"]),
            _told(entry[metric]),
            "" if found is None else _told(found["difference"]),
            "" if found is None else _short(found["p_holm"]),
        )
    return out


def _dropped(drop: Mapping[str, Any]) -> Table:
    out = Table(title=f"Dropped at random: mean of {drop['repeats']} draws, seed {drop['seed']}")
    out.add_column("Chance")
    for measure in drop["measures"]:
        out.add_column(f"{measure} (95% of draws)")
    for at, chance in enumerate(drop["chances"]):
        row = [
            _told({"value": m["mean"][at], "low": m["low"][at], "high": m["high"][at]})
            for m in drop["measures"].values()
        ]
        out.add_row(f"{chance:.0%}", *row)
    return out


def _added(answer: Mapping[str, Any]) -> Table:
    found = answer["monotonicity"]
    out = Table(title=f"With it against without it. Loss: {found['loss']}")
    for column in ("Modality", "Patients", "Worse", "Same", "Better", "Mean change (95% CI)"):
        out.add_column(column)
    for row in found["modalities"]:
        counts = [str(row[name]) for name in ("n", "worse", "same", "better")]
        out.add_row(answer["modalities"][row["modality"]], *counts, _told(row["mean_change"]))
    return out


def _patient(one: Mapping[str, Any]) -> Table:
    absent = f", absent: {', '.join(one['absent'])}" if one["absent"] else ""
    out = Table(title=f"Patient {one['patient']}{absent}")
    out.add_column("Told")
    survival = one["horizon_days"] is not None
    heads = (
        ["log-risk", f"event-free at {one['horizon_days']:g} days"]
        if survival
        else list(one["rows"][0]["probabilities"])
    )
    for head in heads:
        out.add_column(head)
    for row in one["rows"]:
        values = [row["log_risk"], row["event_free"]] if survival else row["probabilities"].values()
        out.add_row(" + ".join(row["modalities"]) or "nothing", *(_short(v) for v in values))
    return out


def _told(estimate: Mapping[str, float | None]) -> str:
    return f"{_short(estimate['value'])} ({_short(estimate['low'])} to {_short(estimate['high'])})"


def _short(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
