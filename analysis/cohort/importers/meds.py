"""A record in MEDS: makes a cohort (who, time zero, outcomes), or adds the events of its patients.

MEDS 0.4 (data/**/*.parquet, metadata/codes.parquet, metadata/subject_splits.parquet) and the older
dialect, or a single file of events. Shards are read one at a time, twice: once for who is in them
and when, once to write the events of those who are in the cohort. Memory holds one shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.cohort.importers.codes import CodeSet
from analysis.cohort.importers.compose import (
    Addition,
    Note,
    Persons,
    adding,
    creating,
    is_cohort,
    study_spec,
)
from analysis.cohort.importers.identities import DAY_US, Identities
from analysis.cohort.importers.meds_values import add_values
from analysis.cohort.importers.outcomes import COLUMNS, refuse_two_sources, stratum
from analysis.cohort.importers.splits import draw_splits_by_person, read_splits, told_splits
from analysis.cohort.importers.study import DEATH, Outcome, Study
from analysis.cohort.readers.events import STATIC, EventTable, event_files, read_codes, read_events
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError, ModalitySpec
from analysis.cohort.write import CODE_TYPES, EVENT_TYPES
from models.contracts import Kind

BIRTH = "MEDS_BIRTH"
SPLITS_FILE = "metadata/subject_splits.parquet"
_SEXES = {"GENDER//F": "female", "GENDER//M": "male", "Gender/F": "female", "Gender/M": "male"}
_YEAR_US = 365.25 * DAY_US
_NEVER = np.iinfo(np.int64).max


def import_meds(
    src: Path,
    out: Path,
    study: Study,
    *,
    name: str = "ehr",
    identities: Identities | None = None,
    replace: bool = False,
    note: Note = lambda _: None,
) -> None:
    """Make a cohort `out` of the record `src`, or add its events to one as the modality `name`.

    Where `study.modalities[name].values` names measurements, the modality is a table of those.

    A new cohort holds everyone who has a time zero (`study.index`) and is alive then; outcomes are
    the first of a task's codes after it. Raises CohortError in one sentence; nothing is then left
    behind.
    """
    known = identities or Identities()
    src, files = Path(src), event_files(Path(src))
    if is_cohort(out):
        with adding(out, name, known, note, replace) as addition:
            persons = Persons(addition.cohort, known)
            add = add_values if study.modality(name, "").values else _add
            add(addition, name, files, persons, study, src, note)
            persons.tell(note, name, src)
        return
    subjects, outcomes = _patients(files, study, known, src, note)
    spec = study_spec(study, {}, known, "a record in MEDS")
    with creating(out, spec, subjects, outcomes, note, name) as addition:
        add = add_values if study.modality(name, "").values else _add
        add(addition, name, files, Persons(addition.cohort, known), study, src, note)


# ---------------------------------------------------------------- who and when


@dataclass
class _Facts:
    """By person (int64 index), microseconds since 1970 or _NEVER: what decides who is in."""

    frame: pd.DataFrame

    @classmethod
    def of(cls, table: EventTable, study: Study) -> _Facts:
        """Of one shard."""
        timed = table.time_us != STATIC
        index = study.index
        assert index is not None
        assert index.codes is not None
        starts = CodeSet(index.codes).rows(table) & timed
        birth, death = CodeSet([BIRTH]).rows(table), CodeSet([DEATH]).rows(table) & timed
        frame = pd.DataFrame(index=pd.Index(table.subject_ids, name="person"))
        frame["index"] = (_last if index.which == "last" else _first)(table, starts)
        frame["birth"] = _first(table, birth & timed)
        frame["death"] = _first(table, death)
        # A correction that is entered after death is no follow-up.
        frame["last"] = _last(table, timed & ~birth)
        sexes = {code: sex for code, sex in _SEXES.items() if code in table.codes}
        frame["sex"] = None
        for code, sex in sexes.items():
            having = table.row_subjects()[CodeSet([code]).rows(table)]
            frame.loc[np.unique(having), "sex"] = sex
        return cls(frame)

    @classmethod
    def together(cls, parts: Iterable[_Facts], which: str) -> _Facts:
        """Of all shards; a person may be in several."""
        frame = pd.concat([part.frame for part in parts])
        pick = "max" if which == "last" else "min"
        how = {"index": pick, "birth": "min", "death": "min", "last": "max", "sex": "first"}
        merged = frame.groupby(level=0).agg(how)
        merged["index"] = merged["index"].replace(-_NEVER, _NEVER)
        return cls(merged.sort_index())


def _first(table: EventTable, rows: npt.NDArray[np.bool_]) -> pd.Series[Any]:
    """(S,) earliest time of the chosen rows by person, or _NEVER."""
    times = np.where(rows, table.time_us, _NEVER)
    found = np.minimum.reduceat(times, table.starts[:-1]) if len(times) else times[:0]
    return pd.Series(found, index=table.subject_ids)


def _last(table: EventTable, rows: npt.NDArray[np.bool_]) -> pd.Series[Any]:
    """(S,) latest time of the chosen rows by person, or -_NEVER."""
    times = np.where(rows, table.time_us, -_NEVER)
    found = np.maximum.reduceat(times, table.starts[:-1]) if len(times) else times[:0]
    return pd.Series(found, index=table.subject_ids)


def _patients(
    files: Sequence[Path], study: Study, identities: Identities, src: Path, note: Note
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """subjects.parquet and outcomes.parquet."""
    index = study.index
    if index is None or index.codes is None:
        raise CohortError(
            f"{src}: a cohort made of a record needs time zero as index.codes in study.yaml; a "
            "column of times belongs to a table, which is imported first ('fusionlens import "
            "table')."
        )
    refuse_two_sources(study, src)
    waiting = [name for name, task in study.tasks.items() if not task.from_record]
    if waiting:
        raise CohortError(
            f"{src}: the outcome of task '{waiting[0]}' lies in columns of a table; import that "
            "first ('fusionlens import table'), then add this record."
        )
    facts = _Facts.together((_Facts.of(read_events(f), study) for f in files), index.which).frame
    plus = round(index.plus_hours * DAY_US / 24)
    facts["index"] = facts["index"].where(facts["index"] == _NEVER, facts["index"] + plus)
    facts = _alive_at_index(facts, index.codes, src, note)
    outcomes = _outcomes(files, facts, study, src, note)
    persons = [int(i) for i in facts.index]
    numbers = pd.Index(identities.numbers(persons), name="subject_id")
    shift = np.asarray([identities.shift_us(p) for p in persons], np.int64)
    subjects = pd.DataFrame({"source_id": identities.names(persons)}, index=numbers)
    zero = facts["index"].to_numpy(np.int64)
    subjects["index_time"] = (zero + shift).astype("datetime64[us]")
    born = facts["birth"].to_numpy(np.int64)
    subjects["age_years"] = np.where(born == _NEVER, np.nan, (zero - born) / _YEAR_US)
    subjects["sex"] = facts["sex"].to_numpy(object)
    of_person = dict(zip(persons, numbers, strict=True))
    outcomes["subject_id"] = outcomes["subject_id"].map(of_person)
    subjects["split"] = _splits(subjects, persons, outcomes, study, src)
    note(f"{len(subjects):,} patients: {told_splits(subjects['split'])}.")
    return subjects, outcomes


def _alive_at_index(
    facts: pd.DataFrame, codes: Sequence[str], src: Path, note: Note
) -> pd.DataFrame:
    """Those with a time zero who have not died before it."""
    having = facts[facts["index"] != _NEVER]
    if not len(having):
        raise CohortError(
            f"{src}: nobody has an event {' or '.join(codes)}; correct index.codes in study.yaml."
        )
    if len(having) < len(facts):
        note(f"{len(facts) - len(having):,} persons have no time zero and are not in the cohort.")
    dead = having["death"] + _within_day(having["death"]) < having["index"]
    if dead.any():
        note(f"{int(dead.sum()):,} persons died before time zero and are not in the cohort.")
    return having[~dead]


def _within_day(time: pd.Series[int]) -> pd.Series[int]:
    """A date without a time may be any moment of its day: microseconds to its end."""
    return (time % DAY_US == 0).astype("int64") * (DAY_US - 1)


# ---------------------------------------------------------------- outcomes


def _outcomes(
    files: Sequence[Path], facts: pd.DataFrame, study: Study, src: Path, note: Note
) -> pd.DataFrame:
    """Rows of outcomes.parquet, subject_id being the person."""
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in study.tasks}
    for file in files:
        table = read_events(file)
        for name, task in study.tasks.items():
            found[name].append(_of_task(table, facts, task))
    parts = []
    for name, task in study.tasks.items():
        times = pd.concat(found[name]).groupby(level=0)
        merged = times.agg({"before": "any", "event": "min", "until": "max"})
        made = _told(name, task, facts, merged.reindex(facts.index), note)
        if not len(made):
            raise CohortError(f"{src}: task '{name}': nobody has an outcome; correct study.yaml.")
        positive = made["event"] if task.kind == "survival" else made["label"] > 0
        if not positive.any():
            raise CohortError(
                f"{src}: task '{name}': no event {' or '.join(task.codes or ())} after time zero; "
                "correct its codes in study.yaml."
            )
        note(f"{name}: {len(made):,} patients, {int(positive.sum()):,} with the event.")
        parts.append(made.assign(task=name))
    together = pd.concat(parts, ignore_index=True)
    return together[[column for column in COLUMNS if column in together]]


def _of_task(table: EventTable, facts: pd.DataFrame, task: Outcome) -> pd.DataFrame:
    """By person of a shard: whether the event came before, when after, the end of the record."""
    zero = facts["index"].reindex(table.subject_ids).fillna(_NEVER).astype("int64")
    owner_zero = np.repeat(zero.to_numpy(), np.diff(table.starts))
    timed = table.time_us != STATIC
    hits = CodeSet(task.codes or ()).rows(table) & timed
    # A patient who was alive at time zero and died on a bare date of that day died after it.
    dated = (table.time_us % DAY_US == 0) & (owner_zero - table.time_us < DAY_US)
    after = (table.time_us > owner_zero) | (dated & CodeSet([DEATH]).rows(table))
    frame = pd.DataFrame(index=pd.Index(table.subject_ids, name="person"))
    frame["before"] = _first(table, hits & ~after) != _NEVER
    frame["event"] = _first(table, hits & after)
    frame["until"] = -_NEVER
    if task.until:
        frame["until"] = _last(table, CodeSet(task.until).rows(table) & timed)
    return frame


def _told(
    name: str, task: Outcome, facts: pd.DataFrame, found: pd.DataFrame, note: Note
) -> pd.DataFrame:
    """Outcomes of a task. found: `_of_task` of all shards, by person."""
    zero, death = facts["index"], facts["death"]
    end = found["until"] if task.until else facts["last"]
    end = end.clip(upper=death.where(death != _NEVER, end))
    # What is entered after death (bills, corrections) did not happen then.
    alive = found["event"] <= (death + _within_day(death)).where(death != _NEVER, _NEVER)
    event = found["event"].where(alive, _NEVER)
    happened = event != _NEVER
    kept = pd.Series(True, index=facts.index)
    if not task.again:
        kept &= ~found["before"].astype(bool)
        if (~kept).any():
            note(f"{name}: {int((~kept).sum()):,} had the event before time zero and are left out.")
    unseen = kept & ~happened & (end <= zero)
    if unseen.any():
        note(f"{name}: {int(unseen.sum()):,} were not followed after time zero and are left out.")
        kept &= ~unseen
    # The moment of a bare date on the day of time zero is not known: half a day after.
    days = (event.where(happened, end) - zero) / DAY_US
    days = days.where(days > 0, 0.5)
    if task.kind == "survival":
        made = pd.DataFrame({"time_days": days, "event": happened.astype("int8")})
        return made[kept].rename_axis("subject_id").reset_index()
    within = task.within_days or 0.0
    label = (happened & (days <= within)).astype("int64")
    short = kept & (label == 0) & (days < within)
    if short.any():
        note(f"{name}: {int(short.sum()):,} were followed for less and are of neither class.")
    made = pd.DataFrame({"label": label})
    return made[kept & ~short].rename_axis("subject_id").reset_index()


def _splits(
    subjects: pd.DataFrame, persons: Sequence[int], outcomes: pd.DataFrame, study: Study, src: Path
) -> pd.Series[str]:
    if study.split.external:
        raise CohortError(
            f"{src}: split.external names sites, which a record does not have; take it out."
        )
    if study.split.column is not None:
        raise CohortError(
            f"{src}: split.column names a column of a table, which a record does not have; take "
            "it out, then metadata/subject_splits.parquet is read, or splits are drawn."
        )
    file = src / SPLITS_FILE
    if not (src.is_dir() and file.is_file()):
        event = stratum(outcomes, subjects.index, next(iter(study.tasks)))
        return draw_splits_by_person(event, subjects["source_id"], study.split.seed)
    frame = read_frame(file, ("subject_id", "split"))
    twice = frame["subject_id"][frame["subject_id"].duplicated()]
    if len(twice):
        raise CohortError(f"{file}: subject {twice.iloc[0]} has two splits; keep one.")
    given = frame.set_index("subject_id")["split"].reindex(pd.Index(persons))
    return read_splits(given, study.split.values, str(file)).set_axis(subjects.index)


# ---------------------------------------------------------------- events


def _add(
    addition: Addition,
    name: str,
    files: Sequence[Path],
    persons: Persons,
    study: Study,
    src: Path,
    note: Note,
) -> None:
    """Write the events of the cohort's subjects, a shard for a shard.

    A subject without a time zero gets none: what came before it is not known.
    """
    used: set[str] = set()
    kept = 0
    dated = addition.cohort.subjects["index_time"].notna()
    undated: set[int] = set()
    for at, file in enumerate(files):
        table = read_events(file)
        rows = persons.table(int(i) for i in table.subject_ids)
        known = rows["subject_id"].map(dated).astype(bool)
        undated |= set(rows["subject_id"][~known].tolist())
        rows = rows[known]
        if not len(rows):
            continue
        made = _shard(table, rows)
        used |= set(made["code"].unique().to_pylist())
        kept += len(made)
        pq.write_table(made, addition.file("data", f"{at}.parquet"), compression="zstd")
    if not kept:
        persons.tell(note, name, src)
        raise CohortError(f"{src}: the cohort's patients have no events; compare the ids.")
    _write_codes(addition.file("metadata", "codes.parquet"), src, used)
    said = study.modality(name, "EHR events")
    addition.modalities[name] = ModalitySpec(
        kind=Kind.EVENTS, title=said.title, unit=said.unit, path=addition.place()
    )
    note(f"{kept:,} events of {len(used):,} codes.")
    if undated:
        note(f"No events are taken for {len(undated):,} of the subjects: no time zero is known.")


def _shard(table: EventTable, rows: pd.DataFrame) -> pa.Table:
    """The events of some persons under their subject_ids, with their times moved."""
    order = rows.sort_values("subject_id")
    spans = [table.rows(int(person)) for person in order["source_id"]]
    counts = np.asarray([span.stop - span.start for span in spans], np.int64)
    at = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    subject = np.repeat(order["subject_id"].to_numpy(np.int64), counts)
    shift = np.repeat(order["shift_us"].to_numpy(np.int64), counts)
    time = table.time_us[at]
    static = time == STATIC
    # A death dated without a time may be any moment of its day. It is entered at the end: a
    # patient who was alive at time zero must not seem dead to a model by then.
    dated = ~static & CodeSet([DEATH]).rows(table)[at] & (time % DAY_US == 0)
    shift = shift + np.where(dated, DAY_US - 1, 0)
    text = table.text_index[at]
    value = table.value[at]
    columns = {
        "subject_id": pa.array(subject),
        "time": pa.array(np.where(static, 0, time + shift), pa.timestamp("us"), mask=static),
        "code": _texts(table.codes, table.code_index[at], EVENT_TYPES["code"]),
        "numeric_value": pa.array(value, pa.float32(), mask=np.isnan(value)),
        "text_value": _texts(table.texts, text, EVENT_TYPES["text_value"]),
    }
    return pa.table(columns)


def _texts(words: Sequence[str], at: npt.NDArray[np.int32], kind: pa.DataType) -> pa.Array:
    index = pa.array(at, pa.int32(), mask=at < 0)
    return pa.DictionaryArray.from_arrays(index, pa.array(list(words), kind)).cast(kind)


def _write_codes(path: Path, src: Path, used: set[str]) -> None:
    """Every code that occurs, with what the source says of it."""
    known = read_codes(src)
    names = sorted(used)
    columns = {
        "code": names,
        "description": [known[c].description or None if c in known else None for c in names],
        "parent_codes": [list(known[c].parents) if c in known else None for c in names],
    }
    arrays = [pa.array(columns[name], kind) for name, kind in CODE_TYPES.items()]
    pq.write_table(pa.table(arrays, names=list(CODE_TYPES)), path, compression="zstd")
