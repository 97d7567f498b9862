"""fusionlens score: bedside scores counted from a cohort's events."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.commands.base import JsonFlag, cli, in_one_sentence, print_json, print_line


class ScoreName(StrEnum):
    """Scores that can be counted."""

    PESI = "pesi"
    SPESI = "spesi"


@cli.command()
def score(
    name: Annotated[ScoreName, typer.Argument(help="pesi, or spesi: the simplified one.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder with events.")],
    out: Annotated[Path, typer.Option(help="CSV to write, ready for 'import predictions'.")],
    vitals_days: Annotated[
        float, typer.Option(min=0.0, help="How old a vital sign may be at the index time.")
    ] = 1.0,
    assume_normal: Annotated[
        bool, typer.Option(help="Score a vital sign that was not measured as normal.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Pulmonary embolism severity from diagnoses and vital signs up to the index time.

    A patient who lacks a vital sign, or any record, has no score and no row.
    """
    from analysis.clinical_scores import clinical_score
    from analysis.cohort.cohort import Cohort

    with in_one_sentence():
        if out.suffix.lower() != ".csv":
            raise ValueError(f"{out}: name a file that ends in .csv.")
        if out.exists():
            raise ValueError(f"{out}: already exists; name another file.")
        made = clinical_score(
            Cohort.open(cohort), str(name), vitals_days=vitals_days, assume_normal=assume_normal
        )
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        made.table().to_csv(partial, index=False)
        partial.rename(out)
    report = made.report
    if as_json:
        print_json({**report, "out": str(out)})
        return
    print_line(
        f"Written: {out}. {report['title']} ({report['citation']}) of {report['scored']:,} of "
        f"{report['n']:,} patients."
    )
    for split, counted in report["splits"].items():
        classes = ", ".join(f"{c} {n:,}" for c, n in counted["classes"].items())
        print_line(f"{split}: {counted['scored']:,} of {counted['n']:,} scored; class {classes}.")
    lacking = [f"{m['title']} {m['n']:,}" for m in report["missing"].values() if m["n"]]
    if lacking:
        how = "assumed normal" if report["assume_normal"] else "without a score"
        print_line(f"Not measured ({how}): {'; '.join(lacking)}.")
    if report["without_record"]:
        print_line(f"Without any record, so without a score: {report['without_record']:,}.")
    for note in report["notes"]:
        print_line(note)
