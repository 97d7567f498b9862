"""fusionlens precompute."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from app.adapters import VARIABLE
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
    from analysis.cohort.cohort import Cohort
    from analysis.precompute.plan import Setting, What
    from analysis.precompute.pool import Pool
    from models.checkpoint import Run

FAILED_SHOWN = 20


@cli.command()
def precompute(
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders; all of the workspace that fit the cohort, if none."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Whose patients are explained: all, internal, external, ...")
    ] = "all",
    what: Annotated[
        str,
        typer.Option(
            help="Of predictions, parts, maps, missing, embeddings, with commas between; all."
        ),
    ] = "all",
    patients: Annotated[
        int | None, typer.Option(min=1, help="Explain so many patients, test patients first.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes here, or workers on the cluster.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster that computes ('auto', 'ray://HOST:10001'; 'local' "
            "starts one here). The workspace must be readable from its machines under this path."
        ),
    ] = None,
    devices: Annotated[
        str,
        typer.Option(
            help="Where networks compute: cpu, cuda (every GPU here, or one a worker of the "
            "cluster), or cuda:0,cuda:1; a process each, if --jobs says no more."
        ),
    ] = "cpu",
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute for a whole cohort what the app would compute when a page is opened.

    May be stopped at any moment, even by kill -9: the same command goes on from there. The
    results are the same to the last bit however many processes or machines compute them; those
    of a GPU differ from the processor's by rounding. A patient who cannot be read is named at
    the end, with exit code 2; the others are computed.
    """
    with in_one_sentence():
        start_engine()
        from analysis.cohort.cohort import Cohort
        from analysis.precompute import run as running
        from analysis.store import ResultStore

        whats = _whats(what)
        where = _devices(devices, on_cluster=ray is not None)
        opened, store = Cohort.open(cohort), ResultStore(results or results_of(cohort))
        places = _encoder_places(cohort)
        planned, setting = running.prepare(
            _loaded(runs or _runs_of(opened), places),
            opened,
            store,
            training=_Training(opened),
            encoder_places=places,
            adapters=tuple(os.environ.get(VARIABLE, "").split()),
            devices=where,
        )
        with _pool(setting, jobs, ray) as pool, stage_bar(err_console) as say:
            summary = running.precompute(
                planned,
                opened,
                store,
                pool,
                whats=whats,
                split=split,
                patients=patients,
                say=say,
            )
    answer = {
        "cohort": opened.spec.name,
        "what": [str(w) for w in whats],
        "devices": list(where),
        **summary.as_json(),
    }
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    if summary.failures:
        _say_failed(running.failed_in_words(summary.failures))
        raise typer.Exit(2)


def _whats(text: str) -> list[What]:
    from analysis.precompute.plan import What

    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(What)
    unknown = [name for name in names if name not in set(What)]
    if unknown or not names:
        raise ValueError(
            f"--what '{unknown[0] if unknown else text}': choose of {', '.join(What)}, with commas "
            "between, or all."
        )
    return [one for one in What if one in names]


def _devices(asked: str, *, on_cluster: bool) -> tuple[str, ...]:
    from analysis.precompute.devices import devices_of

    if not on_cluster:
        return devices_of(asked)
    if asked not in ("cpu", "cuda"):
        raise ValueError(
            f"--devices {asked}: on a Ray cluster every worker gets its own; write cpu or cuda."
        )
    return (asked,)


def _encoder_places(cohort: Path) -> list[Path]:
    from sample_data.workspace import ENCODERS

    return [results_of(cohort).parent / "encoders", ENCODERS]


def _runs_of(cohort: Cohort) -> list[Path]:
    """The runs of the cohort's workspace that are made for it and hold a model."""
    from models.checkpoint import RunError, read_config

    home = results_of(cohort.folder).parent / "runs"
    known = {cohort.folder.absolute().name, cohort.spec.name, cohort.spec.follows}
    found = []
    for folder in sorted(home.glob("[!.]*/")):
        try:
            config = read_config(folder)
        except RunError:
            continue  # broken, or predictions made elsewhere: there is nothing to compute
        if config.cohort.name in known and config.task.name in cohort.spec.tasks:
            found.append(folder)
    if not found:
        raise ValueError(f"{home}: there is no run for cohort '{cohort.spec.name}'; name some.")
    return found


def _loaded(folders: Sequence[Path], places: Sequence[Path]) -> Iterator[Run]:
    from models.checkpoint import load_run

    for folder in dict.fromkeys(path.absolute() for path in folders):
        yield load_run(folder, places)


class _Training:
    """The cohort that a run was trained on: this one, or a neighbour in the workspace."""

    def __init__(self, cohort: Cohort) -> None:
        from analysis.cohort.cohort import Cohort
        from analysis.cohort.schema import CohortError

        self._known = [cohort]
        beside = cohort.folder.absolute().parent
        for folder in sorted(beside.glob("[!.]*/cohort.yaml")) if beside.name == "cohorts" else ():
            if folder.parent != cohort.folder.absolute():
                try:
                    self._known.append(Cohort.open(folder.parent))
                except (CohortError, OSError):
                    continue

    def __call__(self, run: Run) -> Cohort | None:
        entry = run.config.cohort
        same = [c for c in self._known if c.fingerprint == entry.fingerprint]
        named = [c for c in self._known if c.spec.name == entry.name]
        return next(iter(same + named), None)


def _pool(setting: Setting, jobs: int, ray: str | None) -> Pool:
    from analysis.precompute import pool

    if ray is not None:
        return pool.RayCluster(setting, ray, jobs if jobs > 1 else None)
    jobs = max(jobs, len(setting.devices))
    return pool.Processes(setting, jobs) if jobs > 1 else pool.Serial(setting)


def _print(answer: Mapping[str, Any]) -> None:
    table = Table(title=f"{answer['cohort']}: {len(answer['runs'])} runs")
    for column in ("", "number"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("patients explained, by run", f"{answer['explained']:,}")
    table.add_row("  of them without any of its modalities", f"{answer['without_any_modality']:,}")
    table.add_row("results computed", f"{answer['computed']:,}")
    table.add_row("results that were there", f"{answer['found']:,}")
    table.add_row("patients encoded by frozen encoders", f"{answer['encoded']:,}")
    table.add_row("failed", f"{len(answer['failed']):,}")
    table.add_row("seconds", f"{answer['seconds']['all']:,.1f}")
    rate = answer["patients_per_second"]
    table.add_row("patients explained a second", "" if rate is None else f"{rate:,.1f}")
    memory = answer["peak_memory_mib"]["largest_worker"]
    table.add_row("memory of the largest worker, MiB", f"{memory:,.0f}")
    out_console.print(table)


def _say_failed(sentences: Sequence[str]) -> None:
    for sentence in sentences[:FAILED_SHOWN]:
        err_console.print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    if len(sentences) > FAILED_SHOWN:
        print_line(f"... and {len(sentences) - FAILED_SHOWN:,} more; --json lists them all.")
