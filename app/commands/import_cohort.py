"""fusionlens import table, meds: cohorts put together from several sources by one study.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.base import in_one_sentence, print_line, print_note
from app.commands.cohorts import import_cli

StudyFile = Annotated[
    Path, typer.Option(help="study.yaml: time zero, tasks, splits, what columns mean.")
]
Out = Annotated[Path, typer.Argument(help="Cohort folder: made if it is not there, else added to.")]
Key = Annotated[
    Path | None,
    typer.Option(help="File with a secret key: ids become keyed hashes, times are moved."),
]
Replace = Annotated[bool, typer.Option(help="Put it in the place of the modality of this name.")]


@import_cli.command("table")
def import_table_command(
    src: Annotated[Path, typer.Argument(help="CSV, TSV or parquet with a row a patient.")],
    out: Out,
    study: StudyFile,
    name: Annotated[
        str,
        typer.Option("--as", help="Modality that its columns become; without it outcomes only."),
    ] = "",
    id_column: Annotated[
        str, typer.Option("--id", help="Column with the ids, where study.yaml has another.")
    ] = "",
    key: Key = None,
    replace: Replace = False,
) -> None:
    """Who the patients are, their time zero and outcomes; or columns of patients already there."""
    with in_one_sentence():
        from analysis.cohort.importers.identities import Identities, read_key
        from analysis.cohort.importers.study import read_study
        from analysis.cohort.importers.table import import_table

        import_table(
            src,
            out,
            read_study(study),
            name=name,
            identities=Identities(read_key(key)),
            id_column=id_column,
            replace=replace,
            note=print_note,
        )
    print_line(f"Written: {out}")


@import_cli.command("meds")
def import_meds_command(
    src: Annotated[Path, typer.Argument(help="A MEDS folder, or one parquet file of events.")],
    out: Out,
    study: StudyFile,
    name: Annotated[str, typer.Option("--as", help="How the modality is called.")] = "ehr",
    key: Key = None,
    replace: Replace = False,
) -> None:
    """Events of a record (MEDS 0.4 or older); makes a cohort with outcomes, or adds to one."""
    with in_one_sentence():
        from analysis.cohort.importers.identities import Identities, read_key
        from analysis.cohort.importers.meds import import_meds
        from analysis.cohort.importers.study import read_study

        import_meds(
            src,
            out,
            read_study(study),
            name=name,
            identities=Identities(read_key(key)),
            replace=replace,
            note=print_note,
        )
    print_line(f"Written: {out}")
