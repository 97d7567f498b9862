"""fusionlens import dicom, inspect, mimic-ecg, mimic-echo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.base import err_console, in_one_sentence, print_line, print_note
from app.commands.cohorts import import_cli
from sample_data.progress import stage_bar

if TYPE_CHECKING:
    from analysis.cohort.importers.identities import Identities
    from analysis.cohort.importers.imaging_add import How
    from analysis.cohort.importers.study import Study


class TimeUnit(StrEnum):
    """Units of a time to event."""

    SECONDS = "seconds"
    MINUTES = "minutes"
    HOURS = "hours"
    DAYS = "days"


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


@import_cli.command("inspect")
def import_inspect_command(
    src: Annotated[Path, typer.Argument(help="INSPECT's folder 'full', or the one above it.")],
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.")],
    study: StudyFile = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only these tasks; repeatable. Without it the usual ones."),
    ] = None,
    unit: Annotated[
        TimeUnit | None,
        typer.Option(help="Of tte_*; found by the labels of one year if not said."),
    ] = None,
    index_offset_days: Annotated[
        int,
        typer.Option(
            min=-366, max=366, help="Time zero, days after the scan; -1: the day before it."
        ),
    ] = 0,
    keep_test: Annotated[
        bool,
        typer.Option(
            "--keep-test", help="Of persons in several splits keep the test studies only."
        ),
    ] = False,
    link: Annotated[
        bool,
        typer.Option("--link", help="Link the scans (same disk) instead of writing them anew."),
    ] = False,
    key: Key = None,
    jobs: Jobs = None,
    strict: Strict = False,
) -> None:
    """INSPECT (Huang et al. 2023): CT pulmonary angiographies and outcomes, one row a study.

    The health record comes afterwards, with `fusionlens import meds`.
    """
    from analysis.cohort.importers.inspect_study import import_inspect

    with in_one_sentence(), _how(None, False, jobs, strict, link) as how:
        import_inspect(
            src,
            out,
            tasks=task or (),
            study=_study(study),
            identities=_identities(key),
            unit=None if unit is None else unit.value,
            index_offset_days=index_offset_days,
            keep_test=keep_test,
            how=how,
        )
    print_line(f"Written: {out}")


@import_cli.command("mimic-ecg")
def import_mimic_ecg_command(
    src: Annotated[
        Path, typer.Argument(help="Folder of MIMIC-IV-ECG with record_list.csv and files/.")
    ],
    out: Out,
    study: StudyFile = None,
    name: Annotated[str, typer.Option("--as", help="Name of the modality in the cohort.")] = "ecg",
    every: All = False,
    measurements: Measurements = False,
    key: Key = None,
    replace: Replace = False,
    jobs: Jobs = None,
    strict: Strict = False,
) -> None:
    """Add the last ECG of MIMIC-IV-ECG before the index time to a cohort of MIMIC-IV patients."""
    from analysis.cohort.importers.mimic_ecg import import_mimic_ecg

    with in_one_sentence(), _how(None, False, jobs, strict) as how:
        done = import_mimic_ecg(
            src,
            out,
            name=name,
            every=every,
            measurements=measurements,
            study=_study(study),
            identities=_identities(key),
            replace_it=replace,
            how=how,
        )
    print_line(f"Added to {out}: {', '.join(done)}.")


@import_cli.command("mimic-echo")
def import_mimic_echo_command(
    src: Annotated[
        Path, typer.Argument(help="Folder of MIMIC-IV-ECHO with echo-record-list.csv and files/.")
    ],
    out: Out,
    views: Annotated[
        Path | None,
        typer.Option(
            help="CSV of dicom_filepath, view, and where known probability, as a view classifier "
            "writes it."
        ),
    ] = None,
    study: StudyFile = None,
    name: Annotated[str, typer.Option("--as", help="Name of the modality in the cohort.")] = "echo",
    every: All = False,
    measurements: Measurements = False,
    key: Key = None,
    replace: Replace = False,
    mask: Mask = None,
    mask_outside_sector: OutsideSector = False,
    jobs: Jobs = None,
    strict: Strict = False,
) -> None:
    """Add the cines of the last MIMIC-IV-ECHO study before the index time to a cohort."""
    from analysis.cohort.importers.mimic_echo import import_mimic_echo

    with in_one_sentence(), _how(mask, mask_outside_sector, jobs, strict) as how:
        done = import_mimic_echo(
            src,
            out,
            name=name,
            views=views,
            every=every,
            measurements=measurements,
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
        yield How(masks, jobs, strict, link, print_note, say)


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
