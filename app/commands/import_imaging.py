"""fusionlens import dicom, inspect, mimic-ecg, mimic-echo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.base import err_console, in_one_sentence, print_line
from app.commands.cohorts import import_cli
from sample_data.progress import stage_bar

if TYPE_CHECKING:
    from analysis.cohort.importers.identities import Identities
    from analysis.cohort.importers.imaging_add import How
    from analysis.cohort.importers.study import Study

Out = Annotated[Path, typer.Argument(help="Cohort folder to add to.")]
Name = Annotated[str | None, typer.Option("--as", help="Name of the modality in the cohort.")]
StudyFile = Annotated[
    Path | None, typer.Option("--study", help="study.yaml: titles of tasks and modalities.")
]
Key = Annotated[
    Path | None,
    typer.Option(help="File with a secret key: ids become keyed hashes, times are moved."),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Put it in place of a modality of the same name.")
]
Jobs = Annotated[int | None, typer.Option(min=1, max=64, help="Processes; up to 4 if not said.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="End at the first file that cannot be read.")
]
Mask = Annotated[
    list[str] | None,
    typer.Option(
        help="X0,Y0,X1,Y1 to blacken in ultrasound pictures, in pixels, or in fractions where "
        "none exceeds 1; repeatable."
    ),
]
OutsideSector = Annotated[
    bool,
    typer.Option(
        "--mask-outside-sector",
        help="Blacken all of an ultrasound picture but the sector: names, dates, scales and a "
        "painted ECG.",
    ),
]
All = Annotated[
    bool, typer.Option("--all", help="All by the end of the index day, not the last one only.")
]
Measurements = Annotated[
    bool, typer.Option("--measurements", help="Add the measurements as a table, too.")
]


@import_cli.command("dicom")
def import_dicom_command(
    src: Annotated[
        Path, typer.Argument(help="Folder of NIfTI files, DICOM (any nesting) or WFDB records.")
    ],
    out: Out,
    study: StudyFile = None,
    name: Name = None,
    index: Annotated[
        Path | None,
        typer.Option(help="CSV of id, path, and where known acquired and view; only these."),
    ] = None,
    id_from: Annotated[
        str | None,
        typer.Option(
            help="Where the patient's id stands: name, folder, patient-id, or a regular "
            "expression on the path whose group is the id. Without it patient-id for DICOM, "
            "name for other files."
        ),
    ] = None,
    view: Annotated[
        list[str] | None,
        typer.Option(help="FILE=VIEW of a cine whose header does not name its view; repeatable."),
    ] = None,
    key: Key = None,
    replace: Replace = False,
    mask: Mask = None,
    mask_outside_sector: OutsideSector = False,
    jobs: Jobs = None,
    strict: Strict = False,
) -> None:
    """Add CTs, ECGs or echo cines to a cohort, matched by the patients' ids.

    Headers stay behind: names, dates, ids and UIDs of the source are not kept. Faces are not
    removed from CTs.
    """
    from analysis.cohort.importers.imaging import import_imaging

    with in_one_sentence(), _how(mask, mask_outside_sector, jobs, strict) as how:
        done = import_imaging(
            src,
            out,
            name=name,
            index=index,
            id_from=id_from,
            views=_views(view or []),
            study=_study(study),
            identities=_identities(key),
            replace_it=replace,
            how=how,
        )
    print_line(f"Added to {out}: {', '.join(done)}.")


@contextmanager
def _how(
    mask: list[str] | None, outside: bool, jobs: int | None, strict: bool, link: bool = False
) -> Iterator[How]:
    from analysis.cohort.importers.imaging_add import How
    from analysis.cohort.importers.masking import read_masks

    masks = read_masks(mask or [], outside)
    with stage_bar(err_console) as say:
        yield How(masks, jobs, strict, link, _note, say)


def _note(text: str) -> None:
    err_console.print(text, markup=False, highlight=False, soft_wrap=True)


def _study(path: Path | None) -> Study | None:
    from analysis.cohort.importers.study import read_study

    return None if path is None else read_study(path)


def _identities(key: Path | None) -> Identities:
    from analysis.cohort.importers.identities import Identities, read_key

    return Identities(read_key(key))


def _views(given: list[str]) -> dict[str, str]:
    pairs = [text.rpartition("=") for text in given]
    for file, equals, view in pairs:
        if not (file and equals and view):
            raise ValueError(f"--view '{file}{equals}{view}': write it as FILE=VIEW.")
    return {file: view for file, _, view in pairs}
