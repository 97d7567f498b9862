"""Adds MIMIC-IV-ECG (Gow et al., PhysioNet 2023) to a cohort: 12 leads, 10 s, 500 Hz.

Leads stand in the order I, II, III, aVR, aVF, aVL, V1 to V6 there: they are taken by name. What
was not recorded stays a gap. The cart's measurements may become a table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.compose import Addition, Persons, adding, same_key
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_add import How, Wanted, add_files, counted
from analysis.cohort.importers.imaging_files import Item
from analysis.cohort.importers.mimic import before_index, read_list
from analysis.cohort.importers.study import Study
from analysis.cohort.schema import CohortError, Column, ModalitySpec
from analysis.cohort.write import write_table
from models.contracts import Kind

RECORDS, MEASURED = "record_list.csv", "machine_measurements.csv"
_FALL_BACK = 5  # as many earlier ECGs stand in for one that cannot be read
_SENTINEL = 29999
_TIMES = ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end")
_AXES = ("p_axis", "qrs_axis", "t_axis")
COLUMNS = {
    "rr_interval": Column(unit="ms", title="RR interval"),
    "pr_interval": Column(unit="ms", title="PR interval"),
    "p_duration": Column(unit="ms", title="P duration"),
    "qrs_duration": Column(unit="ms", title="QRS duration"),
    "qt_interval": Column(unit="ms", title="QT interval"),
    "p_axis": Column(unit="°", title="P axis"),
    "qrs_axis": Column(unit="°", title="QRS axis"),
    "t_axis": Column(unit="°", title="T axis"),
}
"""Intervals are made of the onsets and ends in the file, which count from the trace's start."""


def import_mimic_ecg(
    src: Path,
    out: Path,
    *,
    name: str = "ecg",
    every: bool = False,
    measurements: bool = False,
    study: Study | None = None,
    identities: Identities | None = None,
    replace_it: bool = False,
    how: How | None = None,
) -> list[str]:
    """Add the last ECG by the end of the index day of each patient; gives the modalities' names.

    src: the folder with record_list.csv and files/. every: all ECGs by then. measurements: also a
    table NAME_measurements of the last one that was measured. Raises CohortError when nobody of
    the cohort has an ECG that can be read; the cohort is then as before.
    """
    src, out, how = Path(src), Path(out), how or How()
    identities = identities or Identities()
    cohort = Cohort.open(out)
    same_key(cohort, identities)
    table = f"{name}_measurements"
    if measurements and table in cohort.spec.modalities and not replace_it:
        raise CohortError(f"{out}: has a modality '{table}' already; give --as, or --replace.")
    records = read_list(src / RECORDS, ("subject_id", "study_id", "ecg_time", "path"))
    measured = _measured(src) if measurements else None
    persons = Persons(cohort, identities)
    rows = before_index(records, "ecg_time", persons, how.note, "ECG")
    persons.tell(how.note, name, src)
    wanted = _wanted(src, rows, every, how)
    if not wanted:
        raise CohortError(
            f"{src}: no ECG of the cohort's patients by the end of their index day is there; "
            "download the files of these patients."
        )
    with adding(out, name, identities, how.note, replace_it) as addition:
        having = add_files(addition, name, Kind.SIGNAL, wanted, how, study)
        if measured is not None:
            _table(addition, table, measured, identities, how, study)
    how.note(f"{name}: {counted(len(having), 'patient')} now with it.")
    return [name, *([table] if measured is not None else [])]


def _wanted(src: Path, rows: pd.DataFrame, every: bool, how: How) -> list[Wanted]:
    """Newest first of each subject; subjects with the same ECGs share the file."""
    shared: dict[tuple[Item, ...], tuple[list[int], int]] = {}
    absent = 0
    for _, of in rows.groupby("subject_id", sort=True):
        subject, items = int(of["subject_id"].iloc[0]), []
        newest = of[::-1]
        for path, time in zip(newest["path"], newest["taken"], strict=True):
            header = src / f"{str(path).removesuffix('.hea')}.hea"
            if header.is_file():
                items.append(Item(Kind.SIGNAL, header, acquired=time.to_pydatetime()))
            else:
                absent += 1
            if not every and len(items) > _FALL_BACK:
                break
        shift = int(of["shift_us"].iloc[0])
        for choices in [(item,) for item in items] if every else [tuple(items)] * bool(items):
            shared.setdefault(choices, ([], shift))[0].append(subject)
    if absent:
        how.note(f"{counted(absent, 'ECG')} listed without its file (a part of the download?).")
    return [Wanted(tuple(s), choices, shift) for choices, (s, shift) in shared.items()]


# ---------------------------------------------------------------- measurements


def _measured(src: Path) -> pd.DataFrame:
    frame = read_list(src / MEASURED, ("subject_id", "ecg_time", *_TIMES, *_AXES))
    made = frame[["subject_id", "ecg_time"]].join(measurements_of(frame))
    return made[made[list(COLUMNS)].notna().any(axis=1)]


def measurements_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Intervals in ms and axes in degrees, missing where the machine found none.

    29999 stands for missing, and so does 0 of a time, which no wave can have. Angles beyond
    -180 to 360 are none.
    """
    numbers = frame[[*_TIMES, *_AXES]].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    numbers = numbers.mask(numbers.abs() >= _SENTINEL)
    times = numbers[list(_TIMES)].where(numbers[list(_TIMES)] > 0)
    made = pd.DataFrame(
        {
            "rr_interval": times["rr_interval"],
            "pr_interval": times["qrs_onset"] - times["p_onset"],
            "p_duration": times["p_end"] - times["p_onset"],
            "qrs_duration": times["qrs_end"] - times["qrs_onset"],
            "qt_interval": times["t_end"] - times["qrs_onset"],
        }
    )
    made = made.where(made > 0)
    axes = numbers[list(_AXES)]
    return made.join(axes.where((axes >= -180) & (axes <= 360)))


def _table(
    addition: Addition,
    name: str,
    measured: pd.DataFrame,
    identities: Identities,
    how: How,
    study: Study | None,
) -> None:
    persons = Persons(addition.cohort, identities)
    rows = before_index(measured, "ecg_time", persons, lambda _: None, "measurement")
    last = rows.groupby("subject_id", sort=True).tail(1)
    if not len(last):
        raise CohortError(
            f"{MEASURED}: measures no ECG of the cohort's patients by the end of their index day; "
            "leave --measurements out."
        )
    write_table(addition.file("measurements.parquet"), last, COLUMNS)
    title = "ECG measurements" if study is None else study.modality(name, "ECG measurements").title
    addition.modalities[name] = ModalitySpec(
        kind=Kind.TABLE,
        title=title,
        path=addition.place("measurements.parquet"),
        columns=dict(COLUMNS),
    )
    how.note(f"{name}: {counted(len(last), 'patient')}.")
