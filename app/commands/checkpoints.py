"""fusionlens import checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from app.adapters import use_adapters
from app.commands.base import (
    JsonFlag,
    in_one_sentence,
    out_console,
    print_json,
    print_line,
    print_note,
    start_engine,
)
from app.commands.cohorts import import_cli

if TYPE_CHECKING:
    from analysis.importing.checkpoint import Examined


@import_cli.command("checkpoint")
def import_checkpoint_command(
    src: Annotated[Path, typer.Argument(help="The checkpoint: a file, an index or a folder.")],
    config: Annotated[Path, typer.Option(help="model.yaml, which describes the model.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    allow_missing: Annotated[
        list[str] | None,
        typer.Option(help="A tensor, or a pattern with *, that may be missing; repeatable."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="package.module:Class, your own network, where model.yaml names one."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Compare and report; write nothing.")] = False,
    every: Annotated[bool, typer.Option(help="List the tensors that match, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """A model trained elsewhere becomes a run; nothing that came with its weights is run."""
    with in_one_sentence():
        start_engine()
        use_adapters([adapter] if adapter else [])
        from analysis.importing.checkpoint import examine_checkpoint, import_checkpoint
        from analysis.importing.summary import summary

        places = _places(out)
        examined = examine_checkpoint(src, config, places)
        if as_json:
            print_json(summary(examined, allow_missing or []))
        else:
            _print(examined, every)
        if dry_run:
            return
        run = import_checkpoint(
            examined,
            out,
            allow_missing=allow_missing or (),
            encoder_places=places,
            command=f"fusionlens import checkpoint {src.name} --config {config.name}",
            note=print_note,
        )
        score = run.config.training.tuning_score
        if score is not None:
            print_note(f"C-index on the cohort's tuning patients: {score:.3f}.")
    if not as_json:
        print_line(f"Written: {out}")


def _places(out: Path) -> list[Path]:
    """The encoders of the workspace, and those that ship."""
    from sample_data.workspace import ENCODERS

    beside = out.absolute().parent
    return [(beside.parent if beside.name == "runs" else beside) / "encoders", ENCODERS]


def _print(examined: Examined, every: bool) -> None:
    from analysis.importing.summary import STATES, suggested

    checkpoint = examined.checkpoint
    where = f", weights at {checkpoint.within}" if checkpoint.within else ""
    print_line(f"{checkpoint.path.name}: {checkpoint.form}{where}. {examined.report.words}")
    table = Table("", "In the model", "In the checkpoint", "Why")
    for state in STATES:
        lines = examined.report.of(state)
        if state in ("matched", "renamed") and not every:
            lines = lines[:0]
        for line in lines:
            table.add_row(state, *(_plain(t) for t in (line.name, line.source, line.why)))
    if table.row_count:
        out_console.print(table, markup=False)
    for rule in suggested(examined):
        print_line(
            f"A rename rule that fits {rule['tensors']} more: {{prefix: {_plain(rule['prefix'])}, "
            f"to: {_plain(rule['to'])}}}"
        )
    for name, value in examined.inferred.items():
        print_line(f"Read off the shapes: {name} = {value}")
    for name, value in examined.assumed.items():
        print_line(f"Assumed, as no shape shows it: {name} = {value}")
    if examined.looks_like:
        print_line(f"Looks like {examined.looks_like}.")


def _plain(text: str) -> Any:
    """Text of a file for a table's cell: no markup, nothing that moves the cursor."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else "?" for c in text))
