"""fusionlens benchmark."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    start_engine,
)
from sample_data.progress import stage_bar

if TYPE_CHECKING:
    from analysis.benchmark.table import Line

benchmark_cli = typer.Typer(
    help="Strategies beside plain regressions on the folds of a real cohort.", no_args_is_help=True
)
cli.add_typer(benchmark_cli, name="benchmark")


class BenchmarkTask(StrEnum):
    """Tasks of the comparison."""

    DEATH = "death_within_3_years"
    SURVIVAL = "overall_survival"


@benchmark_cli.command("hancock")
def benchmark_hancock(
    src: Annotated[Path, typer.Argument(help="The feature tables of HANCOCK.")],
    out: Annotated[Path, typer.Option(help="Folder of the table and of finished folds.")],
    row: Annotated[
        list[str] | None, typer.Option(help="Repeat to choose rows; all without it.")
    ] = None,
    task: Annotated[
        list[BenchmarkTask] | None, typer.Option(help="Repeat to choose tasks; both without it.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=50)] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Draws folds, tuning patients, weights.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """HAF's comparison (tables 1 and 2): AUC and accuracy of death within 3 years, and C.

    Writes table.md, table.csv and benchmark.json into OUT after every finished fold of a row.
    The same command goes on where it was stopped.
    """
    with in_one_sentence():
        start_engine()
        from analysis.benchmark.rows import choose_rows
        from analysis.benchmark.suite import run_hancock

        tasks = tuple(t.value for t in BenchmarkTask if not task or t in task)
        rows = choose_rows(row or [], tasks)
        with stage_bar(err_console) as say:
            made = run_hancock(
                src, out, rows, tasks=tasks, folds=folds, seed=seed, jobs=jobs, report=say
            )
    if as_json:
        print_json({"about": made.about, "rows": made.records})
        return
    for name in tasks:
        told = made.about["tasks"][name]
        title = f"{told['title']}: {told['n']} patients, {told['events']} events"
        _print(title, [line for line in made.lines if line.task == name])
    print_line(f"Written: {out / 'table.md'}, table.csv and benchmark.json")


def _print(title: str, lines: list[Line]) -> None:
    if not lines:
        return
    from analysis.benchmark.table import MEASURE_TITLES, difference_text, spread_text

    measures = tuple(lines[0].mean)
    table = Table(title=f"{title}; mean ± sd over folds")
    for column in ("Row", "Folds", *(MEASURE_TITLES[m] for m in measures)):
        table.add_column(column)
    table.add_column(f"{MEASURE_TITLES[measures[0]]} minus best regression (95% CI)")
    table.add_column("s a fold", justify="right")
    for line in lines:
        table.add_row(
            line.row.title,
            str(line.folds),
            *(spread_text(line.mean[m], line.sd[m]) for m in measures),
            difference_text(line),
            f"{line.seconds:.1f}",
        )
    out_console.print(table)
