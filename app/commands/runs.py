"""fusionlens train, evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from sample_data.progress import stage_bar

if TYPE_CHECKING:
    from analysis.experiment import Plan


class EhrEncoder(StrEnum):
    """How events are encoded."""

    ONEHOT = "onehot"
    CLMBR = "clmbr"


class TableEncoder(StrEnum):
    """How tables are read."""

    COLUMNS = "columns"
    TEXT = "text"


class EvaluatedSplit(StrEnum):
    """Splits that runs are evaluated on."""

    INTERNAL = "internal"
    EXTERNAL = "external"


def _key_values(pairs: list[str], what: str) -> dict[str, Any]:
    """['a=1', 'b=x'] as a dictionary; values are read as JSON where they are JSON."""
    out: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{what} '{pair}': write it as name=value.")
        try:
            out[name] = json.loads(value)
        except json.JSONDecodeError:
            out[name] = value
    return out


def _plan(
    cohort: Path,
    task: str,
    strategy: str,
    out: Path,
    modalities: list[str],
    ehr: str,
    tables: str,
    ct_encoder: str | None,
    fine_tune: bool,
    strategy_options: list[str],
    setting_options: list[str],
    seed: int,
    encoders: Path | None,
) -> Plan:
    from pydantic import ValidationError

    from analysis.experiment import Plan
    from models.training import TrainingSettings
    from sample_data.workspace import ENCODERS

    # Runs of a workspace share its encoder store; a run elsewhere keeps its encoders by itself.
    beside = out.absolute().parent
    store = encoders or (beside.parent if beside.name == "runs" else beside) / "encoders"
    try:
        settings = TrainingSettings.model_validate(
            {**_key_values(setting_options, "--setting"), "seed": seed}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = ", ".join(TrainingSettings.model_fields)
        raise ValueError(f"--setting {name}: {first['msg']}; known are {known}.") from error
    return Plan(
        cohort=cohort,
        task=task,
        strategy=strategy,
        out=out,
        encoder_store=store,
        encoder_folders=(ENCODERS,),
        modalities=tuple(modalities),
        ehr=ehr,
        tables=tables,
        ct_encoder=ct_encoder,
        fine_tune=fine_tune,
        strategy_config=_key_values(strategy_options, "--option"),
        settings=settings,
        command=f"fusionlens train --cohort {cohort.name} --task {task} --strategy {strategy}",
    )


@cli.command()
def train(
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    task: Annotated[str, typer.Option(help="A task of the cohort.")],
    strategy: Annotated[
        str,
        typer.Option(
            help="unimodal, late, contrastive, cross_attention, co_attention, tgmm, mean_concat, "
            "multisurv, cmta, deepavfusion, text_if, haf, ps3, mdlm, mfmf, feature_interaction, "
            "missing_token, modality_dropout, maria or drfuse."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    modality: Annotated[
        list[str] | None, typer.Option(help="Repeat to choose modalities; all without it.")
    ] = None,
    ehr: Annotated[EhrEncoder, typer.Option(help="How events are encoded.")] = EhrEncoder.ONEHOT,
    tables: Annotated[
        TableEncoder, typer.Option(help="How tables are read: columns, or told in sentences.")
    ] = TableEncoder.COLUMNS,
    ct_encoder: Annotated[
        str | None,
        typer.Option(help="Hash of a pretrained CT encoder; the shipped one if not said."),
    ] = None,
    fine_tune: Annotated[bool, typer.Option(help="Train the pretrained encoders, too.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Strategy setting name=value, e.g. guide=ct, query=ehr, width=32."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="Training setting name=value, e.g. max_epochs=40, learning_rate=3e-4."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    encoders: Annotated[
        Path | None, typer.Option(help="Store of frozen encoders; beside the run if not said.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Train a strategy on a cohort; goes on from the last epoch after an interruption."""
    with in_one_sentence():
        start_engine()
        from analysis.experiment import train_run

        plan = _plan(
            cohort,
            task,
            strategy,
            out,
            modality or [],
            str(ehr),
            str(tables),
            ct_encoder,
            fine_tune,
            option or [],
            setting or [],
            seed,
            encoders,
        )
        with stage_bar(err_console) as say:
            run = train_run(plan, say, accelerator)
    entry = run.config.training
    if as_json:
        print_json({"run": str(out), "hash": run.hash, **run.config.model_dump(mode="json")})
    else:
        out_console.print(
            f"Written: {out}. {run.config.title}. Tuning score "
            f"{entry.tuning_score if entry.tuning_score is None else round(entry.tuning_score, 3)} "
            f"at epoch {entry.best_epoch + 1} of {entry.epochs}, {entry.seconds} s on "
            f"{entry.device}.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


@cli.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders for the same task.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    split: Annotated[EvaluatedSplit, typer.Option()] = EvaluatedSplit.INTERNAL,
    resamples: Annotated[int, typer.Option(min=10, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Discrimination with CI of every run, and every pairwise difference between them.

    Survival tasks: Harrell's C, Uno's C, Brier score. Class tasks: AUC (DeLong), average
    precision, accuracy, ROC and precision-recall curves with bands.
    """
    with in_one_sentence():
        start_engine()
        from analysis.classification.evaluation import evaluate_labels
        from analysis.cohort.cohort import Cohort
        from analysis.evaluation import evaluate as evaluate_survival
        from analysis.external import open_run
        from analysis.store import ResultStore
        from sample_data.workspace import ENCODERS

        opened = Cohort.open(cohort)
        loaded = [open_run(run, [ENCODERS]) for run in runs]
        store = ResultStore(results or results_of(cohort))
        survival = loaded[0].config.task.kind == "survival"
        evaluate_runs = evaluate_survival if survival else evaluate_labels
        with stage_bar(err_console) as say:
            answer = evaluate_runs(
                loaded,
                opened,
                str(split),
                store,
                n_resamples=resamples,
                seed=seed,
                progress=lambda done, total: say("Evaluating runs", done, total),
            )
    if as_json:
        print_json(answer)
    elif survival:
        _print_evaluation(answer)
    else:
        _print_labels(answer)


def _print_evaluation(answer: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{answer['task_title']}: {answer['split']}, {answer['n']} patients, "
        f"{answer['events']} events"
    )
    for column in ("Run", "Harrell's C (95% CI)", "Uno's C", "Integrated Brier"):
        table.add_column(column)
    for row in answer["runs"]:
        c, uno, brier = row["c_index"], row["uno_c"], row["integrated_brier"]
        table.add_row(
            row["title"],
            f"{_short(c['value'])} ({_short(c['low'])} to {_short(c['high'])})",
            _short(uno["value"]),
            _short(brier["value"]),
        )
    out_console.print(table)
    if answer["differences"]:
        table = Table(title="Differences in C, paired over the same resamples of patients")
        for column in ("First minus second", "Points (95% CI)", "p", "p (Holm)"):
            table.add_column(column)
        for d in answer["differences"]:
            gap = d["difference"]
            points = [_short(None if gap[k] is None else 100 * gap[k], 1) for k in gap]
            table.add_row(
                f"{d['first']} - {d['second']}",
                f"{points[0]} ({points[1]} to {points[2]})",
                _short(d["p"]),
                _short(d["p_holm"]),
            )
        out_console.print(table)
    for row in answer["runs"]:
        stated = row.get("brier_at_horizon")
        if stated and stated["value"] is not None:
            print_line(
                f"{row['title']}: stated probabilities at day {stated['days']:g}: Brier score "
                f"{_short(stated['value'])}, of Kaplan-Meier {_short(stated['reference'])}."
            )
    _print_left_out(answer)
    if answer["undefined"]:
        out_console.print(answer["undefined"], markup=False)


def _print_left_out(answer: Mapping[str, Any]) -> None:
    left = answer.get("left_out")
    if left:
        each = ", ".join(f"{n:,} by {run}" for run, n in left["runs"].items())
        print_line(
            f"Left out: {left['n']:,} of {left['of']:,} patients, whom not every run predicts "
            f"(not predicted: {each})."
        )


def _print_labels(answer: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{answer['task_title']}: {answer['split']}, {answer['n']} patients, "
        f"{answer['class_counts']}"
    )
    for column in ("Run", "AUC (95% CI)", "Average precision", "Accuracy"):
        table.add_column(column)
    for row in answer["runs"]:
        table.add_row(
            row["title"], *(_told(row[n]) for n in ("auc", "average_precision", "accuracy"))
        )
    out_console.print(table)
    if answer["differences"]:
        table = Table(title="Differences in AUC (DeLong)")
        for column in ("First minus second", "AUC (95% CI)", "p", "p (Holm)"):
            table.add_column(column)
        for d in answer["differences"]:
            table.add_row(
                f"{d['first']} - {d['second']}",
                _told(d["difference"]),
                _short(d["p"]),
                _short(d["p_holm"]),
            )
        out_console.print(table)
    _print_left_out(answer)
    if answer["undefined"]:
        out_console.print(answer["undefined"], markup=False)


def _told(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None:
        return _short(None)
    ends = f"{_short(estimate['low'])} to {_short(estimate['high'])}"
    return f"{_short(estimate['value'])} ({ends})"


def _short(value: float | None, digits: int = 3) -> str:
    return "not defined" if value is None else f"{value:.{digits}f}"
