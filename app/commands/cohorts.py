"""fusionlens sample, check, import, describe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.base import (
    JsonFlag,
    cli,
    err_console,
    in_one_sentence,
    out_console,
    print_json,
    print_line,
    print_note,
)
from sample_data.progress import stage_bar

Key = Annotated[
    Path | None, typer.Option(help="File with a secret key: names become keyed hashes.")
]
import_cli = typer.Typer(help="Turn data of other formats into a cohort.", no_args_is_help=True)
cli.add_typer(import_cli, name="import")


class PredictionKind(StrEnum):
    """What a table of predictions holds."""

    RISK = "risk"
    PROBABILITY = "probability"
    SURVIVAL = "survival"


class Size(StrEnum):
    """Sizes of simulated cohorts."""

    TINY = "tiny"
    SMALL = "small"
    PAPER = "paper"


class CohortName(StrEnum):
    """Simulated cohorts."""

    PE = "pe"
    CVD = "cvd"
    HF = "hf"
    HNSCC = "hnscc"


@cli.command()
def sample(
    out: Annotated[Path, typer.Argument(help="Folder of the cohort or workspace to write.")],
    cohort: Annotated[
        CohortName | None, typer.Option(help="Which cohort; without it a whole workspace.")
    ] = None,
    size: Annotated[
        Size, typer.Option(help="tiny: for tests; small: the demo; paper: the papers' counts.")
    ] = Size.SMALL,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    processes: Annotated[int, typer.Option(min=1)] = min(os.cpu_count() or 1, 8),
) -> None:
    """Write a simulated cohort with a known truth, or the demo's whole workspace."""
    from sample_data.workspace import write_sample, write_workspace

    with in_one_sentence(), stage_bar(err_console) as say:
        if cohort is None:
            write_workspace(out, str(size), seed, processes=processes, report=say)
        else:
            write_sample(str(cohort), str(size), seed, out, processes=processes, report=say)
    print_line(f"Written: {out}")


@cli.command()
def check(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.")],
    deep: Annotated[
        bool, typer.Option(help="Also read every voxel, not the headers only.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List every problem of a cohort; exit code 2 if there is an error among them."""
    from dataclasses import asdict

    from analysis.cohort.check import check_cohort

    with in_one_sentence():
        if not cohort.exists():
            raise ValueError(f"{cohort}: there is no such folder; name a cohort folder.")
        problems = check_cohort(cohort, deep=deep)
    errors = [p for p in problems if p.severity == "error"]
    if as_json:
        print_json({"ok": not errors, "problems": [asdict(p) for p in problems]})
    else:
        for problem in problems:
            style = "red" if problem.severity == "error" else "yellow"
            out_console.print(
                str(problem),
                style=style,
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        warnings = len(problems) - len(errors)
        out_console.print(
            f"{cohort}: {len(errors)} errors, {warnings} warnings.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if errors:
        raise typer.Exit(2)


@import_cli.command("hancock")
def import_hancock_command(
    src: Annotated[Path, typer.Argument(help="The feature tables of HANCOCK.")],
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.")],
    folds: Annotated[int, typer.Option(min=2, max=50)] = 10,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """HANCOCK head and neck cancer (Doerrich et al. 2025): five tables and tissue microarrays."""
    from analysis.cohort.importers.hancock import import_hancock

    with in_one_sentence():
        import_hancock(src, out, folds=folds, seed=seed, progress=print_note)
    print_line(f"Written: {out}")


@import_cli.command("scans")
def import_scans_command(
    src: Annotated[Path, typer.Argument(help="A NIfTI file, a DICOM series, or a folder of them.")],
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.")],
    like: Annotated[
        Path, typer.Option(help="Cohort whose tasks and modalities the new one takes over.")
    ],
    key: Key = None,
) -> None:
    """Scans of patients of whom nothing else is known, to be opened with runs of another cohort."""
    from analysis.cohort.importers.identities import Identities, read_key
    from analysis.cohort.importers.scans import import_scans

    with in_one_sentence():
        import_scans(src, out, like, note=print_note, identities=Identities(read_key(key)))
    print_line(f"Written: {out}")


@import_cli.command("recordings")
def import_recordings_command(
    src: Annotated[
        Path, typer.Argument(help="A folder of patient folders, or files of one patient.")
    ],
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.")],
    like: Annotated[
        Path, typer.Option(help="Cohort whose tasks and modalities the new one takes over.")
    ],
    view: Annotated[
        list[str] | None,
        typer.Option(help="FILE=VIEW of an echo whose header does not name its view."),
    ] = None,
    key: Key = None,
) -> None:
    """ECGs (WFDB, DICOM) and echo cines (DICOM) of patients of whom nothing else is known."""
    from analysis.cohort.importers.identities import Identities, read_key
    from analysis.cohort.importers.recordings import import_recordings

    with in_one_sentence():
        pairs = [text.partition("=") for text in view or []]
        for name, equals, value in pairs:
            if not (name and equals and value):
                raise ValueError(f"--view '{name}': write it as FILE=VIEW.")
        views = {name: value for name, _, value in pairs}
        identities = Identities(read_key(key))
        import_recordings(src, out, like, views, note=print_note, identities=identities)
    print_line(f"Written: {out}")


@import_cli.command("predictions")
def import_predictions_command(
    file: Annotated[
        Path, typer.Argument(help="Parquet or CSV: subject_id and risk, probability or survival.")
    ],
    cohort: Annotated[Path, typer.Option(help="Cohort folder whose patients are predicted.")],
    task: Annotated[str, typer.Option(help="A task of the cohort.")],
    name: Annotated[str, typer.Option(help="Name of the run.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    title: Annotated[str, typer.Option(help="How the run is called; its name if not said.")] = "",
    kind: Annotated[
        PredictionKind | None,
        typer.Option(help="risk: higher is worse; probability: of the event; survival: of none."),
    ] = None,
    horizon: Annotated[
        float | None,
        typer.Option(help="Days until which a probability counts; the task's if not said."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Predictions made elsewhere (a score, another model), to be compared with the runs."""
    from analysis.external_import import import_predictions

    with in_one_sentence():
        run = import_predictions(
            file,
            cohort,
            task,
            name,
            out,
            title=title,
            kind=None if kind is None else kind.value,
            horizon_days=horizon,
            note=print_note,
        )
    if as_json:
        print_json({"run": str(out), "hash": run.hash, **run.config.model_dump(mode="json")})
    else:
        n = sum(run.config.predictions.predicted.values())
        print_line(f"Written: {out}. {run.config.title}: {n:,} patients with an outcome.")


@import_cli.command("whas500")
def import_whas500_command(
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.")],
    folds: Annotated[int, typer.Option(min=2, max=50)] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Draws splits and folds.")] = 0,
) -> None:
    """Worcester Heart Attack Study (Hosmer et al. 2008): 500 real patients, three tables."""
    from analysis.cohort.importers.whas500 import import_whas500

    with in_one_sentence():
        import_whas500(out, folds=folds, seed=seed)
    print_line(f"Written: {out}")


@cli.command()
def describe(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.")],
    task: Annotated[
        str | None, typer.Option(help="Only patients with an outcome for it; all without it.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Who the patients are, by split (Table 1), and how many reach each task (flow)."""
    from analysis.cohort.cohort import Cohort
    from analysis.cohort.table_one import table_one, table_rows

    with in_one_sentence():
        content = table_one(Cohort.open(cohort), task)
    if as_json:
        print_json({**content, "rows": table_rows(content)})
        return
    _print_table_one(content, table_rows(content))
    for flow in content["flow"]:
        counts = flow["all"]
        having = (
            f"; of {counts['with_outcome']:,} with one {counts['without_any_modality']:,} lack "
            f"every modality and {counts['with_all_modalities']:,} have all."
            if counts["lacking"]
            else "; there is no modality yet."
        )
        print_line(
            f"{flow['title']}: {counts['subjects']:,} patients, {counts['without_outcome']:,} "
            f"without an outcome{having}"
        )


def _print_table_one(content: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{content['title']}: {content['n']:,} patients"))
    table.add_column("")
    names = list(content["splits"])
    pairs = [f"smd {a} vs {b}" for a, b in content["compared"]]
    for name in [*names, *(pair.replace("smd", "SMD") for pair in pairs)]:
        table.add_column(name)
    for row in rows:
        indent = "  " if row["kind"] in ("level", "missing") else ""
        gaps = ["" if row.get(p) is None else f"{row[p]:.2f}" for p in pairs]
        cells = [escape(f"{indent}{row['label']}"), *(escape(row.get(n, "")) for n in names)]
        table.add_row(*cells, *gaps)
    out_console.print(table)
