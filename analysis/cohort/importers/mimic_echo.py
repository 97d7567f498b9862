"""Adds MIMIC-IV-ECHO (Gow et al., PhysioNet) to a cohort: the cines of a study by their view.

A study holds cines, stills and Doppler strips side by side and names no view. Which view a cine
shows comes from a table, such as a view classifier writes, or from the header where it says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.compose import Addition, Persons, adding, same_key
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_add import (
    How,
    Wanted,
    add_files,
    counted,
    tell_found,
    tell_text,
)
from analysis.cohort.importers.imaging_convert import in_order, workers
from analysis.cohort.importers.imaging_files import Found, Item, classify
from analysis.cohort.importers.mimic import before_index, read_list
from analysis.cohort.importers.study import Study
from analysis.cohort.readers.echo_header import VIEWS, view_name
from analysis.cohort.schema import CohortError, Column, ModalitySpec
from analysis.cohort.write import write_table
from models.contracts import Kind

RECORDS, MEASURED = "echo-record-list.csv", "structured-measurement.csv"
_LEAST_SHARE, _NUMERIC_SHARE, _MOST_COLUMNS = 0.2, 0.9, 60
Views = Mapping[str, tuple[str, float]]
"""View and its probability by path below the source, or by file name."""


def import_mimic_echo(
    src: Path,
    out: Path,
    *,
    name: str = "echo",
    views: Path | None = None,
    every: bool = False,
    measurements: bool = False,
    study: Study | None = None,
    identities: Identities | None = None,
    replace_it: bool = False,
    how: How | None = None,
) -> list[str]:
    """Add the last echo study by the end of the index day; gives the modalities' names.

    src: the folder with echo-record-list.csv and files/. views: a CSV of dicom_filepath, view and
    where known probability. Of each view the most probable cine is taken, else the last; every:
    all cines of all studies by then. measurements: also a table NAME_measurements of what was
    measured last. Raises CohortError when no cine of a named view is there; the cohort is then as
    before.
    """
    src, out, how = Path(src), Path(out), how or How()
    identities = identities or Identities()
    cohort = Cohort.open(out)
    same_key(cohort, identities)
    table = f"{name}_measurements"
    if measurements and table in cohort.spec.modalities and not replace_it:
        raise CohortError(f"{out}: has a modality '{table}' already; give --as, or --replace.")
    columns = ("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")
    records = read_list(src / RECORDS, columns)
    named = {} if views is None else read_views(Path(views))
    measured = _measured(src) if measurements else None
    persons = Persons(cohort, identities)
    rows = before_index(records, "acquisition_datetime", persons, how.note, "cine")
    persons.tell(how.note, name, src)
    wanted = _wanted(src, _studies(src, rows, every, how), named, every, how)
    tell_text((one.items[0] for one in wanted), how)
    with adding(out, name, identities, how.note, replace_it) as addition:
        having = add_files(addition, name, Kind.VIDEO, wanted, how, study)
        if measured is not None:
            _table(addition, table, measured, identities, how, study)
    how.note(f"{name}: {counted(len(having), 'patient')} now with it.")
    return [name, *([table] if measured is not None else [])]


def read_views(path: Path) -> Views:
    """A table of views. Raises CohortError when none of them is known here."""
    frame = read_list(path, ("dicom_filepath", "view"), ("probability",))
    texts = frame["view"].dropna().unique()
    known = {text: text if text in VIEWS else view_name(text) for text in texts}
    if not any(known.values()):
        given = ", ".join(sorted(map(str, known)))[:80] or "nothing"
        raise CohortError(
            f"{path}: column 'view' names no known view ({given}); use {', '.join(VIEWS)}."
        )
    sure = pd.to_numeric(frame.get("probability", pd.Series(1.0, frame.index)), errors="coerce")
    found: dict[str, tuple[str, float]] = {}
    for file, text, probability in zip(
        frame["dicom_filepath"], frame["view"], sure.fillna(0), strict=True
    ):
        view = known.get(text)
        if view is not None and isinstance(file, str):
            found[_key(file)] = found[PurePosixPath(file).name] = (view, float(probability))
    return found


def _key(file: str) -> str:
    parts = PurePosixPath(file).parts
    return "/".join(parts[parts.index("files") :] if "files" in parts else parts)


def _studies(src: Path, rows: pd.DataFrame, every: bool, how: How) -> list[pd.DataFrame]:
    """Rows of each study to look at, of all subjects who get it."""
    there = np.asarray([(src / file).is_file() for file in rows["dicom_filepath"]], bool)
    if not there.all():
        absent = int((~there).sum())
        how.note(f"{counted(absent, 'file')} listed but not there (a part of the download?).")
    rows = rows[there]
    if not every:
        # A study is as old as its last file: rows come by time.
        last = rows.groupby("subject_id")["study_id"].transform("last")
        rows = rows[rows["study_id"] == last]
    return [of for _, of in rows.groupby(["source_id", "study_id"], sort=True)]


def _look(files: tuple[Path, ...]) -> Found:
    return classify(files)


def _wanted(
    src: Path, studies: list[pd.DataFrame], named: Views, every: bool, how: How
) -> list[Wanted]:
    files = [tuple(src / f for f in dict.fromkeys(of["dicom_filepath"])) for of in studies]
    all_found, made, unnamed = Found(), [], 0
    looked = in_order(_look, files, workers(how.jobs, len(files)))
    for at, (of, found) in enumerate(zip(studies, looked, strict=True), start=1):
        how.say("looking", at, len(studies))
        all_found.unreadable += found.unreadable
        all_found.aside += found.aside
        times = dict(zip(of["dicom_filepath"], of["taken"], strict=True))
        cines = [choices[0] for choices in found.items if choices[0].kind is Kind.VIDEO]
        told = [_told(item, src, named, times) for item in cines]
        unnamed += sum(item.view is None for item, _ in told)
        subjects = tuple(int(s) for s in of["subject_id"].unique())
        shift = int(of["shift_us"].iloc[0])
        choices = _by_view(told)
        made += [
            Wanted(subjects, part, shift)
            for whole in choices
            for part in ([(item,) for item in whole] if every else [whole])
        ]
    tell_found(all_found, how, "echo")
    if unnamed:
        how.note(f"echo: set aside, the view is not named: {counted(unnamed, 'cine')}.")
    if not made:
        raise CohortError(
            f"{src}: no cine of a named view by the end of an index day "
            f"({counted(unnamed, 'cine')} without a view); give --views with a CSV of "
            "dicom_filepath and view."
        )
    return made


def _told(
    item: Item, src: Path, named: Views, times: Mapping[str, pd.Timestamp]
) -> tuple[Item, float]:
    """A cine with its view and time, and how sure the view is."""
    file = item.path.relative_to(src).as_posix()
    view, sure = named.get(_key(file)) or named.get(item.path.name) or (item.view, 0.0)
    time: datetime = times[file].to_pydatetime()
    return replace(item, view=view, acquired=time), sure


def _by_view(told: Iterable[tuple[Item, float]]) -> list[tuple[Item, ...]]:
    """Of each view the cines, the surest and then the latest first."""
    order = sorted(told, key=lambda pair: pair[0].path)
    order.sort(key=lambda pair: pair[0].acquired or datetime.min, reverse=True)
    order.sort(key=lambda pair: -pair[1])
    views: dict[str, list[Item]] = {}
    for item, _ in order:
        if item.view is not None:
            views.setdefault(item.view, []).append(item)
    return [tuple(views[view]) for view in sorted(views)]


# ---------------------------------------------------------------- measurements


def _measured(src: Path) -> pd.DataFrame:
    required = ("subject_id", "measurement_id", "measurement_datetime", "measurement", "result")
    return read_list(src / MEASURED, required, ("measurement_description", "unit"))


def _table(
    addition: Addition,
    name: str,
    measured: pd.DataFrame,
    identities: Identities,
    how: How,
    study: Study | None,
) -> None:
    """What was measured last by the end of the index day, numbers that many patients have."""
    persons = Persons(addition.cohort, identities)
    rows = before_index(measured, "measurement_datetime", persons, lambda _: None, "measurement")
    last = rows.groupby("subject_id")["measurement_id"].transform("last")
    rows = rows[rows["measurement_id"] == last]
    rows = rows.assign(number=pd.to_numeric(rows["result"], errors="coerce"))
    columns = _columns(rows)
    if not columns:
        raise CohortError(
            f"{MEASURED}: holds no number that {_LEAST_SHARE:.0%} of the measured patients have; "
            "leave --measurements out."
        )
    kept = rows[rows["measurement"].isin(columns) & rows["number"].notna()]
    wide = kept.pivot_table("number", "subject_id", "measurement", aggfunc="last")
    write_table(addition.file("measurements.parquet"), wide.reset_index(), columns)
    title = "Echo measurements"
    addition.modalities[name] = ModalitySpec(
        kind=Kind.TABLE,
        title=title if study is None else study.modality(name, title).title,
        path=addition.place("measurements.parquet"),
        columns=columns,
    )
    how.note(f"{name}: {len(columns)} numbers of {counted(len(wide), 'patient')}.")


def _columns(rows: pd.DataFrame) -> dict[str, Column]:
    patients = rows["subject_id"].nunique()
    filled = rows[rows["result"].notna()]
    shares: dict[str, float] = {}
    for measurement, of in filled.groupby("measurement"):
        numeric = of["number"].notna()
        share = of.loc[numeric, "subject_id"].nunique() / patients
        if numeric.mean() >= _NUMERIC_SHARE and share >= _LEAST_SHARE:
            shares[str(measurement)] = share
    most = sorted(sorted(shares), key=lambda name: -shares[name])[:_MOST_COLUMNS]
    return {name: _column(filled[filled["measurement"] == name], name) for name in sorted(most)}


def _column(of: pd.DataFrame, name: str) -> Column:
    def usual(column: str) -> str:
        texts = Counter(of[column].dropna().map(str)) if column in of else Counter()
        return texts.most_common(1)[0][0][:60] if texts else ""

    return Column(unit=usual("unit"), title=usual("measurement_description") or name)
