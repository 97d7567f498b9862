"""What all commands share: the command itself, how failures end, how JSON is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

cli = typer.Typer(
    name="fusionlens",
    help="Train, open, compare and explain multimodal fusion models for time-to-event tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

out_console = Console()
err_console = Console(stderr=True)
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@cli.callback()
def options(
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="package.module:Class, a network of your own that runs may name; repeatable."
        ),
    ] = None,
) -> None:
    """Train, open, compare and explain multimodal fusion models for time-to-event tasks."""
    from app.adapters import use_adapters

    with in_one_sentence():
        use_adapters(adapter or [])


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Bad input ends with its sentence and exit code 2, not with a traceback."""
    try:
        yield
    except (ValueError, KeyError, FileNotFoundError, PermissionError, FileExistsError) as error:
        text = str(error.args[0]) if error.args and isinstance(error, KeyError) else str(error)
        err_console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        err_console.print("Stopped; the same command goes on from here.", style="yellow")
        raise typer.Exit(130) from error


def print_json(content: Any) -> None:
    """JSON to standard output."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def print_line(text: str) -> None:
    """A plain line to standard output."""
    out_console.print(text, markup=False, highlight=False, soft_wrap=True)


def start_engine() -> None:
    """Process-wide settings before torch is used in earnest."""
    from models.runtime import keep_large_blocks, quiet_transformers

    keep_large_blocks()
    quiet_transformers()


def results_of(cohort: Path) -> Path:
    """WORKSPACE/results for a cohort inside a workspace, else a folder beside the cohort."""
    beside = cohort.absolute().parent
    return (beside.parent if beside.name == "cohorts" else beside) / "results"


def print_note(text: str) -> None:
    """A sentence on the way, beside the result: to the terminal's error stream, as it is."""
    err_console.print(text, markup=False, highlight=False, soft_wrap=True)
