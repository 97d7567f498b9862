"""fusionlens imbalance."""

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
def imbalance(
    run: Annotated[Path, typer.Argument(help="Run folder; a run of several modalities.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    split: Annotated[EvaluatedSplit, typer.Option()] = EvaluatedSplit.INTERNAL,
    unimodal: Annotated[
        list[Path] | None,
        typer.Option(help="Run folder of one modality alone, for the same task; may be repeated."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=20, max=1000, help="Exchanges of each modality between patients.")
    ] = 20,
    resamples: Annotated[int, typer.Option(min=10, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Does a run use all of its modalities, or does one of them carry it?

    Shapley values of the score, what each modality adds to the rest, what happens when it is
    exchanged between patients, each alone, shares in the patients' predictions, training, gates.
    """
    with in_one_sentence():
        start_engine()
        from analysis.cohort.cohort import Cohort
        from analysis.imbalance.report import imbalance_report
        from analysis.store import ResultStore
        from models.checkpoint import load_run
        from sample_data.workspace import ENCODERS

        opened = Cohort.open(cohort)
        with stage_bar(err_console) as say:
            answer = imbalance_report(
                load_run(run, [ENCODERS]),
                opened,
                str(split),
                ResultStore(results or results_of(cohort)),
                [load_run(one, [ENCODERS]) for one in unimodal or []],
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
    print_line(f"{answer['title']}, {answer['task_title']}, {answer['split']}.")
    print_line(answer["verdict"]["words"])
    if answer["undefined"] is not None:
        return
    out_console.print(_score(answer))
    out_console.print(_patients(answer))
    for pair in answer["shapley"]["interactions"]:
        names = " x ".join(answer["modalities"][name] for name in pair["modalities"])
        print_line(f"Interaction of {names}: {_told(pair['value'])}")
    best = answer["alone"]["best_single"]
    print_line(
        f"Best single modality: {answer['modalities'][best['modality']]} "
        f"({best['source']}), {_told(best['score'])}; with everything {_told(best['gain'])} more. "
        f"Balance {_told(answer['shapley']['balance'])} of 1."
    )
    for note in (answer["history"]["note"], answer["gates"]["note"], answer["shares"]["groups"]):
        if note is not None:
            print_line(note)
    for gate in answer["gates"]["gates"]:
        print_line(f"Gate {gate['gate']}: mean {gate['mean']:.3f}, sd {gate['sd']:.3f}")


def _score(answer: Mapping[str, Any]) -> Table:
    events = "" if answer["events"] is None else f", {answer['events']} events"
    out = Table(title=f"{answer['metric']} of {answer['n']} patients{events}")
    for column in ("Modality", "Shapley (95% CI)", "Alone", "Own run", "Added to the rest"):
        out.add_column(column)
    for column in ("Exchanged: drop", "p"):
        out.add_column(column)
    rows = zip(
        answer["shapley"]["modalities"],
        answer["alone"]["modalities"],
        answer["utilisation"],
        answer["shuffled"]["modalities"],
        strict=True,
    )
    for own, single, added, exchanged in rows:
        out.add_row(
            answer["modalities"][own["modality"]],
            _told(own["value"]),
            _told(single["told_alone"]),
            _told(single["unimodal"]),
            _told(added["gain"]),
            _told(exchanged["drop"]),
            "" if exchanged["p"] is None else f"{exchanged['p']:.3f}",
        )
    return out


def _patients(answer: Mapping[str, Any]) -> Table:
    shares = answer["shares"]
    out = Table(title=f"Share of each patient's {shares['scale']}: {shares['n_counted']} patients")
    for column in ("Modality", "Patients", "Mean share (95% CI)", "Median", "Group changes"):
        out.add_column(column)
    out.add_column("Decides")
    for row in shares["modalities"]:
        out.add_row(
            answer["modalities"][row["modality"]],
            str(row["n"]),
            _told(row["mean"]),
            _short(row["quantiles"]["0.5"]),
            _told(row["changes"]),
            _told(row["decides"]),
        )
    return out


def _told(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None:
        return "not known"
    return f"{_short(estimate['value'])} ({_short(estimate['low'])} to {_short(estimate['high'])})"


def _short(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
