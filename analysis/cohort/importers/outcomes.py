"""Outcomes of a study from the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.cohort.importers.study import DAYS, Outcome, Study, as_text
from analysis.cohort.schema import CohortError

Note = Callable[[str], None]
COLUMNS = ("subject_id", "task", "time_days", "event", "label")


def outcomes_from_columns(
    study: Study, frame: pd.DataFrame, index_time: pd.Series[pd.Timestamp], src: Path, note: Note
) -> pd.DataFrame:
    """Rows of outcomes.parquet for every task of the study that names columns.

    frame: one row a subject, indexed by subject_id. index_time: by subject_id, for tasks that
    are given as dates. A subject whose outcome is not known is left out of that task, and counted.
    Raises CohortError when a column is missing or holds what study.yaml does not explain.
    """
    parts = []
    for name, task in study.tasks.items():
        if task.from_record:
            continue
        where = f"{src}: task '{name}'"
        if task.label is not None:
            part = _classes(task, frame, where)
        elif task.time is not None:
            part = _times(task, frame, where)
        else:
            part = _dates(task, frame, index_time, where)
        known = part.dropna()
        if not len(known):
            raise CohortError(f"{where}: no row has an outcome; compare study.yaml with the file.")
        lost = len(part) - len(known)
        if lost:
            note(f"{name}: {lost:,} of {len(part):,} rows have no outcome and are left out of it.")
        parts.append(known.assign(task=name).reset_index())
    return pd.concat(parts)[_present(parts)] if parts else pd.DataFrame(columns=list(COLUMNS))


def _present(parts: list[pd.DataFrame]) -> list[str]:
    return [name for name in COLUMNS if any(name in part for part in parts)]


def refuse_two_sources(study: Study, src: Path) -> None:
    """Raise CohortError where some tasks come from a record and some from columns."""
    record = [name for name, task in study.tasks.items() if task.from_record]
    table = [name for name, task in study.tasks.items() if not task.from_record]
    if record and table:
        raise CohortError(
            f"{src}: the outcome of task '{record[0]}' lies in a record and that of '{table[0]}' "
            "in columns of a table, but one source makes a cohort; keep the tasks of one of them."
        )


def columns_of_outcomes(study: Study) -> set[str]:
    """Columns that tell an outcome, which must never be read as a predictor."""
    used: set[str | None] = set()
    for task in study.tasks.values():
        used |= {task.time, task.event, task.event_date, task.last_date, task.label}
    return {name for name in used if name is not None}


def _column(frame: pd.DataFrame, name: str | None, where: str) -> pd.Series[str]:
    if name not in frame:
        found = ", ".join(map(str, list(frame)[:12]))
        raise CohortError(f"{where}: there is no column '{name}' (found: {found}); correct it.")
    return frame[name]


def _texts(values: pd.Series[str], unknown: tuple[str, ...]) -> pd.Series[str]:
    """Cells as they are compared with study.yaml; missing where empty or not known."""
    texts = values.map(as_text, na_action="ignore").astype(object)
    return texts.mask(texts.isin(("", *unknown)), None)


def numbers_of(values: pd.Series[Any], where: str) -> pd.Series[float]:
    """Cells as float64, NaN where empty. Raises CohortError on one that is no number."""
    numbers = pd.to_numeric(values, errors="coerce")
    odd = values.notna() & numbers.isna()
    if odd.any():
        first = str(values[odd].iloc[0])[:40]
        raise CohortError(f"{where} holds '{first}', which is no number; mend or empty it.")
    return numbers.astype("float64")


def _classes(task: Outcome, frame: pd.DataFrame, where: str) -> pd.DataFrame:
    given = _texts(_column(frame, task.label, where), task.unknown)
    order = {value: at for at, value in enumerate(task.class_texts)}
    _explained(given, order, f"{where}: column '{task.label}'", "classes")
    return pd.DataFrame({"label": given.map(order).astype("float64")})


def _times(task: Outcome, frame: pd.DataFrame, where: str) -> pd.DataFrame:
    time = numbers_of(_column(frame, task.time, where), f"{where}: column '{task.time}'")
    given = _texts(_column(frame, task.event, where), task.unknown)
    meaning = _meaning(task, given, f"{where}: column '{task.event}'")
    _explained(given, meaning, f"{where}: column '{task.event}'", "happened or censored")
    return pd.DataFrame({"time_days": time * DAYS[task.unit], "event": given.map(meaning)})


def _meaning(task: Outcome, given: pd.Series[str], where: str) -> dict[str, float]:
    """1 or 0 by value of the event column; a polarity that is not given is the other value's."""
    meaning = dict.fromkeys(task.happened or (), 1.0) | dict.fromkeys(task.censored or (), 0.0)
    if task.happened is not None and task.censored is not None:
        return meaning
    field, value = ("censored", 0.0) if task.happened is None else ("happened", 1.0)
    values = sorted(given.dropna().unique())
    others = [seen for seen in values if seen not in meaning]
    shown = ", ".join(f"'{seen}'" for seen in values[:6]) + (", …" if len(values) > 6 else "")
    # One that is never seen may be misspelt, and then everybody would be taken for the other.
    if len(others) == len(values):
        raise CohortError(
            f"{where} never holds {_or(tuple(meaning))} (it holds {shown or 'nothing'}); correct "
            f"'{field}'."
        )
    if len(others) > 1:
        raise CohortError(
            f"{where} holds {shown}; say under 'happened', 'censored' and 'unknown' what each "
            "means."
        )
    return meaning | dict.fromkeys(others, 1.0 - value)


def _dates(
    task: Outcome, frame: pd.DataFrame, index_time: pd.Series[pd.Timestamp], where: str
) -> pd.DataFrame:
    if index_time.isna().all():
        raise CohortError(f"{where}: dates count from time zero; give 'index' in study.yaml.")
    event = read_times(_column(frame, task.event_date, where), f"{where}: '{task.event_date}'")
    last = read_times(_column(frame, task.last_date, where), f"{where}: '{task.last_date}'")
    happened = event.notna()
    end = event.where(happened, last)
    # A date without a time means some moment of that day.
    zero = index_time.reindex(frame.index)
    dated = (end == end.dt.normalize()) & (end.dt.normalize() == zero.dt.normalize())
    days = ((end - zero) / pd.Timedelta(days=1)).where(~dated, 0.5)
    early = int((days < 0).sum())
    if early:
        raise CohortError(
            f"{where}: ends before time zero for {early:,} rows (first: subject "
            f"{days.index[days < 0][0]}); correct the dates, or leave those rows out."
        )
    return pd.DataFrame({"time_days": days, "event": happened.where(end.notna()).astype("float64")})


def read_times(values: pd.Series[str], where: str) -> pd.Series[pd.Timestamp]:
    """Times as datetime64[us] without zone; empty cells are NaT. Raises CohortError otherwise."""
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        raise CohortError(f"{where} holds numbers, not times; write them as 2020-01-31 12:00.")
    try:
        times = pd.to_datetime(values, utc=True, format="ISO8601")
        return times.dt.tz_localize(None).astype("datetime64[us]")
    except (ValueError, TypeError, OverflowError) as error:
        raise CohortError(
            f"{where} holds what is no time ({' '.join(str(error).split())[:80]}); write times as "
            "2020-01-31 12:00."
        ) from error


def _explained(given: pd.Series[str], meaning: Mapping[str, float], where: str, field: str) -> None:
    unknown = sorted(set(given.dropna()) - set(meaning))
    if unknown:
        raise CohortError(
            f"{where} holds '{unknown[0][:40]}'; say what it means under {field}, or list it under "
            "'unknown'."
        )


def _or(values: tuple[str, ...]) -> str:
    return " or ".join(f"'{value}'" for value in values)


def stratum(outcomes: pd.DataFrame, ids: pd.Index[int], task: str) -> pd.Series[bool]:
    """By subject: the event, or a class but the first, of a task; false where not known."""
    rows = outcomes[outcomes["task"] == task].set_index("subject_id")
    told = rows["event"] if "event" in rows and rows["event"].notna().any() else rows["label"]
    positive = np.asarray(told.to_numpy("float64") > 0)
    return pd.Series(positive, index=rows.index).reindex(ids, fill_value=False).astype(bool)
