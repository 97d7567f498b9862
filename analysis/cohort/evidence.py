"""What the guards of a cohort look at: the readable part of it, gathered once and in arrays.

A guard judges data that can be read. Whatever cannot be read, or breaks the format, is noted by
the check itself and left out here, so that one fault is told once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.readers.events import STATIC, EventTable
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.report import ListedFile, Report
from analysis.cohort.schema import OUTCOMES_FILE, CohortSpec, ModalitySpec, TaskSpec
from models.contracts import Kind

DEATH = "MEDS_DEATH"
LOOKED_AT = 8
"""Files of a modality that are looked into without `deep`, spread over the list."""
DAY_US = 86_400_000_000

_DEATH_WORDS = re.compile(r"death|died|mortalit|overall[ _]survival")
_MORE_THAN_DEATH = re.compile(
    r"\bor\b|,|infarct|stroke|recurren|progress|readmi|cardiovascular|specific|cancer death"
)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TaskData:
    """Sound outcomes of one task: known subjects with one complete row each.

    subject_ids: (N,) int64. Survival: time_days (N,) float64 >= 0, event (N,) bool, label None.
    Classification: label (N,) int64, the others None. rows: (N,) the same rows as in the file.
    """

    name: str
    spec: TaskSpec
    subject_ids: Ints
    time_days: Floats | None
    event: Bools | None
    label: Ints | None
    rows: pd.DataFrame

    @property
    def where(self) -> str:
        """The place that a problem names."""
        return f"task {self.name}"

    @property
    def of_death(self) -> bool:
        """Whether the event is death of any cause, by what the task calls itself."""
        spec = self.spec
        text = (spec.event_title or f"{self.name} {spec.title}").lower()
        return bool(_DEATH_WORDS.search(text)) and not _MORE_THAN_DEATH.search(text)

    def groups(self) -> Iterator[tuple[str, Bools]]:
        """What to tell apart: 'the event' against the rest, or each class against the rest."""
        if self.event is not None:
            yield "the event", self.event
        elif self.label is not None:
            classes = self.spec.classes
            for number in range(1, 2) if len(classes) == 2 else range(len(classes)):
                yield f"class {classes[number]}", self.label == number


@dataclass(frozen=True, eq=False)
class Evidence:
    """The readable part of a cohort. subjects: one row a subject, indexed by subject_id."""

    report: Report
    spec: CohortSpec
    subjects: pd.DataFrame
    tasks: tuple[TaskData, ...]
    deep: bool

    @cached_property
    def index_us(self) -> pd.Series[int]:
        """Time zero in microseconds since 1970 by subject; STATIC where it is not stated."""
        times = pd.Series(pd.NaT, index=self.subjects.index, dtype="datetime64[us]")
        given = self.subjects.get("index_time", times)
        if pd.api.types.is_datetime64_any_dtype(given):  # anything else is noted by the check
            times = pd.to_datetime(given, errors="coerce", utc=True).dt.tz_localize(None)
        return times.astype("datetime64[us]").astype("int64")

    def index_of(self, subject_ids: npt.ArrayLike) -> Ints:
        """(N,) int64 time zero of subjects, STATIC where unknown."""
        found = self.index_us.reindex(np.asarray(subject_ids, np.int64), fill_value=int(STATIC))
        return np.asarray(found, np.int64)

    def looked_at(self, name: str) -> list[ListedFile]:
        """Files of a modality to look into: all if `deep`, else a few spread over the list."""
        files = self.report.files.get(name, [])
        if self.deep or not files:
            return files
        at = np.linspace(0, len(files) - 1, LOOKED_AT).round().astype(int)
        return [files[i] for i in np.unique(at)]

    @property
    def split(self) -> pd.Series[str]:
        """Split by subject, as text."""
        return self.subjects["split"].map(str)

    def events(self) -> Iterator[tuple[ModalitySpec, EventTable]]:
        """Events modalities that could be read and hold something."""
        for modality in self.spec.modalities.values():
            table = self.report.events.get(modality.path)
            if modality.kind is Kind.EVENTS and table is not None and len(table):
                yield modality, table

    def tables(self) -> Iterator[tuple[ModalitySpec, pd.DataFrame]]:
        """Table modalities that could be read: one row a known subject, indexed by it."""
        for modality in self.spec.modalities.values():
            frame = self.report.tables.get(modality.path)
            if modality.kind is Kind.TABLE and frame is not None:
                once = frame.drop_duplicates("subject_id").set_index("subject_id")
                yield modality, once[once.index.isin(self.subjects.index)]

    def usable(self, table: EventTable) -> Bools:
        """(E,) bool: static events, and those not after time zero; what a model may see."""
        limit = np.repeat(self.index_of(table.subject_ids), np.diff(table.starts))
        static = table.time_us == STATIC
        return np.asarray(static | ((limit != STATIC) & (table.time_us <= limit)))

    def death_us(self) -> pd.Series[int]:
        """Time of the first MEDS_DEATH by subject, of all events modalities together."""
        found = []
        for _, table in self.events():
            if DEATH in table.codes:
                rows = (table.code_index == table.codes.index(DEATH)) & (table.time_us != STATIC)
                found.append(pd.Series(table.time_us[rows], table.row_subjects()[rows]))
        if not found:
            return pd.Series(dtype="int64")
        first: pd.Series[int] = pd.concat(found).groupby(level=0).min()
        return first

    def last_us(self) -> pd.Series[int]:
        """Time of the last dated event by subject, of all events modalities together."""
        found = [
            pd.Series(table.time_us[table.starts[1:] - 1], table.subject_ids)
            for _, table in self.events()
        ]
        if not found:
            return pd.Series(dtype="int64")
        last: pd.Series[int] = pd.concat(found).groupby(level=0).max()
        return last[last != STATIC]


def gather(report: Report, spec: CohortSpec, subjects: pd.DataFrame, deep: bool) -> Evidence:
    """Evidence of a cohort whose check has come this far. Never raises on what was noted."""
    once = subjects.drop_duplicates("subject_id").set_index("subject_id")
    return Evidence(report, spec, once, tuple(_tasks(report, spec, once)), deep)


def _tasks(report: Report, spec: CohortSpec, subjects: pd.DataFrame) -> Iterator[TaskData]:
    frame = report.attempt(
        OUTCOMES_FILE, lambda: read_frame(report.folder / OUTCOMES_FILE, ("subject_id", "task"))
    )
    if frame is None:
        return
    frame = frame[frame["subject_id"].isin(subjects.index)]
    for name, task in spec.tasks.items():
        rows = frame[frame["task"] == name].drop_duplicates("subject_id", keep=False)
        needed = ("time_days", "event") if task.kind == "survival" else ("label",)
        if not len(rows) or any(column not in rows for column in needed):
            continue
        numbers = {c: pd.to_numeric(rows[c], errors="coerce").astype("float64") for c in needed}
        if task.kind == "survival":
            good = numbers["time_days"].between(0, np.finfo(float).max)
            good &= numbers["event"].isin((0, 1))
        else:
            good = numbers["label"].isin(range(len(task.classes)))
        kept: dict[str, Floats] = {c: np.asarray(v[good], np.float64) for c, v in numbers.items()}
        ids = rows["subject_id"][good].to_numpy(np.int64)
        if not len(ids):
            continue
        if task.kind == "survival":
            event = kept["event"] == 1
            yield TaskData(name, task, ids, kept["time_days"], event, None, rows[good])
        else:
            label = kept["label"].astype(np.int64)
            yield TaskData(name, task, ids, None, None, label, rows[good])
