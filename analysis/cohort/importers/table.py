"""A table with a row a patient: makes a cohort (who, time zero, outcomes), or adds its columns."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from analysis.cohort.importers.compose import (
    Addition,
    Note,
    Persons,
    adding,
    creating,
    is_cohort,
    study_spec,
)
from analysis.cohort.importers.identities import Identities, text_id
from analysis.cohort.importers.outcomes import (
    columns_of_outcomes,
    numbers_of,
    outcomes_from_columns,
    read_times,
    refuse_two_sources,
    stratum,
)
from analysis.cohort.importers.splits import draw_splits_by_person, read_splits, told_splits
from analysis.cohort.importers.study import Study, as_name, as_text
from analysis.cohort.readers.frame import read_arrow
from analysis.cohort.schema import CohortError, Column, ModalitySpec, Split
from analysis.cohort.write import write_table
from models.contracts import Kind

MOST_CATEGORIES = 20
_TEXT = (".csv", ".tsv", ".txt")
_BINARY = {"0": 0.0, "1": 1.0, "no": 0.0, "yes": 1.0, "false": 0.0, "true": 1.0}
_SEXES = {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male"}


def import_table(
    src: Path,
    out: Path,
    study: Study,
    *,
    name: str = "",
    identities: Identities | None = None,
    id_column: str = "",
    replace: bool = False,
    note: Note = lambda _: None,
) -> None:
    """Make a cohort `out` of the table `src`, or add its columns to one as the modality `name`.

    src: CSV, TSV or parquet, a row a patient (or study), with the columns that `study` names.
    With a new cohort and a `name`, the columns that are no outcome become the first modality.
    id_column: has the ids, where this table calls it otherwise than `study.columns.id`.
    Raises CohortError in one sentence; nothing is then left behind.
    """
    known = identities or Identities()
    if id_column:
        columns = study.columns.model_copy(update={"id": id_column})
        study = study.model_copy(update={"columns": columns})
    frame = read_any_table(Path(src), (study.columns.id, study.columns.person or ""))
    ids = _ids(frame, study.columns.id, Path(src))
    if is_cohort(out):
        if not name:
            raise CohortError(
                f"{out}: is a cohort already; name the modality that the table becomes with --as."
            )
        with adding(out, name, known, note, replace) as addition:
            studies = study.columns.person is not None and not id_column
            persons = Persons(addition.cohort, known, studies_first=studies)
            rows = persons.table(ids)
            persons.tell(note, name, Path(src))
            _add(addition, name, frame.set_axis(ids.to_numpy()), rows, study, Path(src), note)
        return
    subjects, outcomes = _patients(frame, ids, study, known, Path(src), note)
    spec = study_spec(study, {}, known, "a table")
    with creating(out, spec, subjects, outcomes, note, name) as addition:
        if name:
            rows = pd.DataFrame({"source_id": ids.to_numpy(), "subject_id": subjects.index})
            _add(addition, name, frame.set_axis(ids.to_numpy()), rows, study, Path(src), note)


# ---------------------------------------------------------------- reading


def read_any_table(path: Path, as_texts: tuple[str, ...] = ()) -> pd.DataFrame:
    """A CSV, TSV or parquet file; columns `as_texts` keep leading zeros.

    Raises CohortError when it is missing, empty or of another type.
    """
    if path.suffix.lower() not in _TEXT:
        return _frame(read_arrow(path), path)
    if not path.is_file() or path.stat().st_size == 0:
        raise CohortError(f"{path}: there is no such file, or it is empty; correct the path.")
    try:
        parse = pacsv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True)
        convert = pacsv.ConvertOptions(
            strings_can_be_null=True,
            column_types={name: pa.string() for name in as_texts if name},
        )
        table = pacsv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CohortError(
            f"{path}: not readable as a table ({' '.join(str(error).split())[:120]}); write it "
            "again as CSV."
        ) from error
    return _frame(table, path)


def _frame(table: pa.Table, path: Path) -> pd.DataFrame:
    """As a pandas frame. Raises CohortError on a name given twice, or texts of unknown letters."""
    names = [name.strip() for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CohortError(f"{path}: two columns are called '{twice[0]}'; rename one.")
    for name in names:
        if pa.types.is_binary(table.schema.field(names.index(name)).type):
            raise CohortError(f"{path}: column '{name}' is not in UTF-8; save the file as UTF-8.")
    frame: pd.DataFrame = table.rename_columns(names).to_pandas(ignore_metadata=True)
    return frame


def _delimiter(path: Path) -> str:
    """Of the first line: the one of tab, semicolon and comma that occurs most."""
    with path.open("rb") as stream:
        first = stream.readline(1 << 20).decode("utf-8", "replace")
    return max("\t;,", key=lambda mark: (first.count(mark), mark == ","))


def _ids(frame: pd.DataFrame, column: str, src: Path) -> pd.Series[str]:
    """The ids as text, in the order of the rows."""
    if column not in frame:
        found = ", ".join(map(str, list(frame)[:12]))
        raise CohortError(
            f"{src}: there is no column '{column}' (found: {found}); say which one has the ids "
            "under columns.id in study.yaml."
        )
    given = frame[column]
    if given.isna().any():
        raise CohortError(
            f"{src}: column '{column}' is empty in {int(given.isna().sum())} rows; fill it or "
            "remove them."
        )
    ids = given.map(text_id)
    twice = ids[ids.duplicated()]
    if len(twice):
        raise CohortError(
            f"{src}: '{twice.iloc[0][:40]}' has more than one row ({len(twice)} rows too many); "
            "keep one row a patient."
        )
    return ids


# ---------------------------------------------------------------- patients


def _patients(
    frame: pd.DataFrame,
    ids: pd.Series[str],
    study: Study,
    identities: Identities,
    src: Path,
    note: Note,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """subjects.parquet and outcomes.parquet."""
    refuse_two_sources(study, src)
    waiting = [name for name, task in study.tasks.items() if task.from_record]
    if waiting:
        raise CohortError(
            f"{src}: the outcome of task '{waiting[0]}' lies in the events of a record; import "
            "that first ('fusionlens import meds'), then add this table."
        )
    columns = study.columns
    person = ids if columns.person is None else _cells(frame, columns.person, src).map(text_id)
    numbers = pd.Index(identities.numbers(ids.tolist()), name="subject_id")
    frame = frame.set_axis(numbers)
    person = person.set_axis(numbers)
    subjects = pd.DataFrame({"source_id": identities.names(person)}, index=numbers)
    subjects["index_time"] = _index_times(frame, study, src)
    outcomes = outcomes_from_columns(study, frame, subjects["index_time"], src, note)
    if identities.hidden:
        shift = pd.to_timedelta([identities.shift_us(p) for p in person], unit="us")
        subjects["index_time"] = (subjects["index_time"] + shift).astype("datetime64[us]")
    if columns.person is not None:
        subjects["study_id"] = identities.names(ids)
    if columns.site is not None:
        subjects["site"] = _cells(frame, columns.site, src).map(as_name, na_action="ignore")
    if columns.age_years is not None:
        ages = pd.to_numeric(_cells(frame, columns.age_years, src), errors="coerce")
        subjects["age_years"] = ages.astype("float64")
    if columns.sex is not None:
        texts = _cells(frame, columns.sex, src).map(as_text, na_action="ignore")
        subjects["sex"] = texts.map(lambda text: _SEXES.get(text, text), na_action="ignore")
    subjects["split"] = _splits(frame, subjects, outcomes, study, src)
    note(f"{len(subjects):,} patients: {told_splits(subjects['split'])}.")
    return subjects, outcomes


def _cells(frame: pd.DataFrame, name: str, src: Path) -> pd.Series[Any]:
    if name not in frame:
        found = ", ".join(map(str, list(frame)[:12]))
        raise CohortError(f"{src}: there is no column '{name}' (found: {found}); correct it.")
    return frame[name]


def _index_times(frame: pd.DataFrame, study: Study, src: Path) -> pd.Series[pd.Timestamp]:
    index = study.index
    if index is None:
        return pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us]")
    if index.column is None:
        raise CohortError(
            f"{src}: time zero lies in the events of a record; import that first "
            "('fusionlens import meds'), or name a column of times under index.column."
        )
    times = read_times(_cells(frame, index.column, src), f"{src}: column '{index.column}'")
    return (times + pd.Timedelta(hours=index.plus_hours)).astype("datetime64[us]")


def _splits(
    frame: pd.DataFrame, subjects: pd.DataFrame, outcomes: pd.DataFrame, study: Study, src: Path
) -> pd.Series[str]:
    split = study.split
    outside = pd.Series(False, index=subjects.index)
    if split.external:
        if "site" not in subjects:
            raise CohortError(f"{src}: split.external names sites; say which column has the site.")
        outside = subjects["site"].map(as_text, na_action="ignore").isin(split.external)
        if not outside.any():
            raise CohortError(
                f"{src}: no patient is of a site named under split.external "
                f"({', '.join(split.external)}); correct the names."
            )
    if split.column is not None:
        where = f"{src}: column '{split.column}'"
        chosen = read_splits(_cells(frame, split.column, src), split.values, where)
    else:
        inside = subjects.index[~outside]
        event = stratum(outcomes, inside, next(iter(study.tasks)))
        persons = subjects["source_id"].loc[inside]
        chosen = draw_splits_by_person(event, persons, split.seed).reindex(subjects.index)
    return chosen.mask(outside, Split.EXTERNAL.value)


# ---------------------------------------------------------------- columns


def _add(
    addition: Addition,
    name: str,
    frame: pd.DataFrame,
    rows: pd.DataFrame,
    study: Study,
    src: Path,
    note: Note,
) -> None:
    """The table's columns as a modality. frame: by source id. rows: source_id, subject_id."""
    said = study.modality(name, name.replace("_", " ").capitalize())
    columns = said.columns or _guessed(frame, study, note)
    if not columns:
        raise CohortError(
            f"{src}: has no column that can be read as a number or a category; name some under "
            f"modalities.{name}.columns in study.yaml."
        )
    told = columns_of_outcomes(study) & set(columns)
    if told:
        raise CohortError(
            f"{src}: column '{min(told)}' tells an outcome and cannot be read as a predictor; take "
            f"it out of modalities.{name}.columns."
        )
    values, columns = _values(frame, columns, f"{src}: modalities.{name}", src)
    table = values.loc[rows["source_id"]].set_axis(rows["subject_id"].to_numpy(np.int64))
    table.index.name = "subject_id"
    table = table[table.notna().any(axis=1)]
    write_table(addition.file("table.parquet"), table.reset_index(), columns)
    addition.modalities[name] = ModalitySpec(
        kind=Kind.TABLE,
        title=said.title,
        unit=said.unit,
        path=addition.place("table.parquet"),
        columns=columns,
    )


def _values(
    frame: pd.DataFrame, columns: Mapping[str, Column], where: str, src: Path
) -> tuple[pd.DataFrame, dict[str, Column]]:
    """The columns as a cohort has them, categories as texts, all others as numbers; their specs."""
    made, specs = {}, dict(columns)
    for name, column in columns.items():
        cells, here = _cells(frame, name, src), f"{where}: column '{name}'"
        if column.kind == "nominal":
            made[name] = cells.map(_category, na_action="ignore")
            found = sorted(made[name].dropna().unique())
            if not column.categories:
                specs[name] = column.model_copy(update={"categories": tuple(found)})
            odd = sorted(set(found) - set(specs[name].categories))
            if odd:
                raise CohortError(f"{here} holds '{odd[0][:40]}'; add it to its categories.")
            continue
        if column.kind == "binary":
            texts = cells.map(as_text, na_action="ignore")
            cells = texts.map(lambda t: _BINARY.get(t, t), na_action="ignore")
        made[name] = numbers_of(cells, here)
    return pd.DataFrame(made, index=frame.index), specs


def _category(value: Any) -> str:
    return text_id(value) if not isinstance(value, bool) else str(value).lower()


def _guessed(frame: pd.DataFrame, study: Study, note: Note) -> dict[str, Column]:
    """Columns that no part of the study names: numbers, two values, or a few categories."""
    taken = {name for name in study.columns.model_dump().values() if name}
    taken |= columns_of_outcomes(study) | {study.split.column or ""}
    taken |= {study.index.column or ""} if study.index else set()
    found: dict[str, Column] = {}
    odd = []
    for name in map(str, frame):
        if name in taken:
            continue
        column = _kind(frame[name])
        if column is None:
            odd.append(name)
        else:
            found[name] = column
    if odd:
        shown = ", ".join(odd[:6]) + (", …" if len(odd) > 6 else "")
        note(
            f"{len(odd)} columns are neither numbers nor a few categories and were left out "
            f"({shown})."
        )
    if found:
        note(f"{len(found)} columns are read as they are; give units and titles in study.yaml.")
    return found


def _kind(cells: pd.Series[Any]) -> Column | None:
    there = cells.dropna()
    if not len(there) or pd.api.types.is_datetime64_any_dtype(cells):
        return None
    if isinstance(there.iloc[0], datetime.date):
        return None
    texts = set(there.map(as_text).unique())
    if texts <= set(_BINARY):
        return Column(kind="binary")
    if pd.api.types.is_numeric_dtype(cells):
        return Column()
    names = sorted(set(there.map(_category)))
    few = len(names) <= min(MOST_CATEGORIES, max(2, len(there) // 2))
    return Column(kind="nominal", categories=tuple(names)) if few else None
