"""fusionlens represent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
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
    start_engine,
)
from app.commands.patient import _opened, _own
from sample_data.progress import stage_bar


class Picture(StrEnum):
    """How points are laid on a plane; `none` gives the numbers alone."""

    TSNE = "tsne"
    UMAP = "umap"
    NONE = "none"


class Rows(StrEnum):
    """Scales of one patient's rows."""

    AS_GIVEN = "as_given"
    STANDARDISED = "standardised"


@cli.command()
def represent(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    split: Annotated[
        str, typer.Option(help="Whose embeddings: train, tuning, internal, external or all.")
    ] = "internal",
    picture: Annotated[
        Picture, typer.Option(help="Picture whose coordinates and quality are given.")
    ] = Picture.TSNE,
    out: Annotated[
        Path | None, typer.Option(help="CSV file for the picture's coordinates, one row a point.")
    ] = None,
    patient: Annotated[
        int | None, typer.Option(help="Also how alike this patient's modalities are.")
    ] = None,
    rows: Annotated[
        Rows, typer.Option(help="The patient's rows as given, or standardised over patients.")
    ] = Rows.AS_GIVEN,
    training_cohort: Annotated[
        Path | None,
        typer.Option(help="Cohort the run was trained on, for percentiles; --cohort if it fits."),
    ] = None,
    most_points: Annotated[
        int, typer.Option(min=10, help="Above this many embeddings a designed sample is taken.")
    ] = 15_000,
    resamples: Annotated[int, typer.Option(min=10, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[
        Path | None, typer.Option(help="Store of results; the cohort's workspace if not said.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What alignment changed: the numbers of the Representation page, and its picture as a file."""
    with in_one_sentence():
        start_engine()
        if out is not None and picture is Picture.NONE:
            raise ValueError("--out holds a picture's coordinates; choose --picture tsne or umap.")
        if out is not None and not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first.")
        from analysis.cohort.cohort import Cohort
        from analysis.representation.patient import patient_rows, rows_json
        from analysis.representation.population import population
        from analysis.representation.report import representation

        loaded, opened, store = _opened(run, cohort, results)
        trained = Cohort.open(training_cohort) if training_cohort else _own(loaded, opened)
        with stage_bar(err_console) as say:
            people = population(
                loaded,
                opened,
                split,
                store,
                training=trained,
                most_points=most_points,
                seed=seed,
                progress=lambda done, total: say("Predicting", done, total),
            )
            # An unknown patient ends the command before the work, not after it.
            one = patient_rows(people, patient, rows.value) if patient is not None else None
            answer = representation(
                people,
                store,
                n_resamples=resamples,
                seed=seed,
                progress=lambda done, total: say("Measuring", done, total),
            )
            if picture is not Picture.NONE:
                answer["picture"] = _picture(people, picture, store, seed, out, say)
        if one is not None:
            answer["patient"] = rows_json(one)
    if as_json:
        print_json(answer)
    else:
        _print(answer, out)


def _picture(
    people: Any, picture: Picture, store: Any, seed: int, out: Path | None, say: Any
) -> dict[str, Any]:
    from analysis.representation.projection import Method
    from analysis.representation.stored import (
        coordinates,
        drawable,
        picture_json,
        stored_projection,
    )

    made = stored_projection(people, Method(picture.value), store, seed=seed, say=say)
    if out is not None:
        partial = out.with_name(f".{out.name}.partial")
        coordinates(people, made).to_csv(partial, index=False)
        partial.replace(out)
    return picture_json(made, drawable(people)[1])


def _print(answer: Mapping[str, Any], out: Path | None) -> None:
    table = Table(
        title=f"{answer['title']}: {', '.join(answer['splits'])}, {answer['n']:,} patients, "
        f"{answer['n_points']:,} embeddings"
    )
    for column in ("", "before (95% CI)", "by chance", "after (95% CI)", "by chance", "change"):
        table.add_column(column)
    for row in answer["measures"]:
        change = row["change"]
        table.add_row(
            f"{row['title']} ({row['better']} is better)",
            *(text for stage in ("before", "after") for text in _told(row[stage])),
            "" if change is None else _interval(change, "+"),
        )
    out_console.print(table)
    for stage, judged in answer.get("picture", {}).get("quality", {}).items():
        print_line(
            f"Picture {stage} alignment: trustworthiness {judged['trustworthiness']:.3f}, "
            f"continuity {judged['continuity']:.3f} ({judged['neighbours']} neighbours, "
            f"{judged['points']:,} embeddings)."
        )
    for stage, one in answer.get("patient", {}).get("stages", {}).items():
        print_line(
            f"Patient {answer['patient']['subject_id']}, {stage} alignment: mean correlation "
            f"{_number(one['mean_correlation'])}, with other patients "
            f"{_number(one['with_other_patients'])}."
        )
    print_line(f"After alignment: {answer['after_is']}")
    if out is not None:
        print_line(f"Written: {out}")


def _told(number: Mapping[str, Any] | None) -> tuple[str, str]:
    if number is None:
        return "", ""
    if number["value"] is None:
        return str(number["why"] or "not defined"), ""
    return _interval(number), _number(number["chance"])


def _interval(number: Mapping[str, Any], sign: str = "") -> str:
    ends = f"{_number(number['low'], sign)} to {_number(number['high'], sign)}"
    return f"{_number(number['value'], sign)} ({ends})"


def _number(value: float | None, sign: str = "") -> str:
    return "not defined" if value is None else f"{value:{sign}.3f}"
