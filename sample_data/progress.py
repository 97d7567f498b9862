"""A progress bar on the terminal for work in stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def stage_bar(console: Console) -> Iterator[Callable[..., None]]:
    """A function say(stage, done, total, numbers); stages become known as they come."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def say(
            stage: str, done: int, total: int, numbers: Mapping[str, float] | None = None
        ) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, note="")
            known = {k: v for k, v in (numbers or {}).items() if math.isfinite(v)}
            note = "  ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in known.items())
            bar.update(tasks[stage], completed=done, total=total, note=note)

        yield say
