"""study.yaml: what a data set does not say of a study made on it, validated.

    name: admissions
    title: Death after the first admission
    index_event: first hospital admission       what happened at time zero, in words
    columns: {id: patient_id, site: hospital}   where a table has them
    index: {codes: ["HOSPITAL_ADMISSION*"]}     or {column: scan_time}
    tasks:
      death:
        title: Death from any cause
        horizon_days: 365
        codes: [MEDS_DEATH]                     or time, event and happened: columns
    split: {}                                   drawn, where no column or file has one
    modalities:
      ehr: {title: EHR events}

One file serves all imports of a cohort: each reads the parts that concern it. Codes may hold `*`,
which stands for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from analysis.cohort.schema import CohortError, Column, Name, Split
from analysis.plain_yaml import read_plain_yaml

DEATH = "MEDS_DEATH"
Codes = Annotated[tuple[str, ...], Field(min_length=1)]
Unit = Literal["days", "weeks", "months", "years", "hours", "minutes", "seconds"]
DAYS: dict[Unit, float] = {
    "days": 1.0,
    "weeks": 7.0,
    "months": 365.25 / 12,
    "years": 365.25,
    "hours": 1 / 24,
    "minutes": 1 / 1440,
    "seconds": 1 / 86400,
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _texts(value: Any) -> Any:
    """YAML reads true and 1 as what they are; values of a column are compared as texts."""
    return tuple(map(as_text, value)) if isinstance(value, list | tuple) else value


def _names(value: Any) -> Any:
    return tuple(map(as_name, value)) if isinstance(value, list | tuple) else value


def _keys(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {as_text(name): as_text(meaning) for name, meaning in value.items()}


def as_name(value: Any) -> str:
    """A cell as text, the way it is written: 1.0 is '1', true is 'true'."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def as_text(value: Any) -> str:
    """`as_name` without regard to capitals: how cells are compared with study.yaml."""
    return as_name(value).lower()


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Columns(_Strict):
    """Columns of the table that lists the patients. Only `id` must be there.

    person: who it is, where one person has several rows (studies); they stay in one split.
    """

    id: str = "subject_id"
    person: str | None = None
    site: str | None = None
    age_years: str | None = None
    sex: str | None = None


class Index(_Strict):
    """Time zero: a column of times, or the first or last event of one of some codes.

    plus_hours: time zero lies so much later, e.g. 24 for a prediction after the first day.
    """

    column: str | None = None
    codes: Codes | None = None
    which: Literal["first", "last"] = "first"
    plus_hours: float = Field(default=0.0, ge=0, le=24 * 366)

    @model_validator(mode="after")
    def _one(self) -> Index:
        if (self.column is None) == (self.codes is None):
            raise ValueError("time zero comes either from a column or from codes")
        return self


class Outcome(_Strict):
    """A task, and where its outcome comes from: events of a record, or columns of a table.

    codes: the event is the first one after time zero. A patient who had one before is left out
    unless `again` is true. A record ends at its last event, or at one of `until`; death ends it,
    too. within_days (classification): the class is whether it happened by then; who was followed
    for less is of neither class.
    time, event: columns; time in `unit`. happened, censored: which values of `event` mean that it
    happened and that it did not; the other polarity follows from the one that is given.
    event_date, last_date: columns of dates instead, counted from time zero; the event happened
    where event_date is filled.
    label: column of a class; classes: its values in order, the first is 'no' of two.
    unknown: values of `event` or `label` that mean that it is not known, like an empty cell.
    """

    kind: Literal["survival", "classification"] = "survival"
    title: str
    event_title: str = ""
    horizon_days: float | None = Field(default=None, gt=0)
    codes: Codes | None = None
    again: bool = False
    until: Codes | None = None
    within_days: float | None = Field(default=None, gt=0)
    time: str | None = None
    unit: Unit = "days"
    event: str | None = None
    happened: Texts | None = None
    censored: Texts | None = None
    event_date: str | None = None
    last_date: str | None = None
    label: str | None = None
    classes: Names = ()
    unknown: Texts = ()

    @model_validator(mode="after")
    def _one_meaning(self) -> Outcome:
        if () in (self.happened, self.censored):
            raise ValueError("'happened' and 'censored' list at least one value")
        lists = (self.happened or (), self.censored or (), self.unknown, self.class_texts)
        listed = [value for values in lists for value in values]
        twice = sorted({value for value in listed if listed.count(value) > 1})
        if twice:
            raise ValueError(f"'{twice[0]}' is given two meanings; keep one")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Outcome:
        if self.kind == "classification":
            if (self.label is None) == (self.codes is None):
                raise ValueError("a class comes either from a column 'label' or from 'codes'")
            if self.label is not None and len(self.classes) < 2:
                raise ValueError("a label needs its 'classes', the values in order")
            if self.codes is not None and self.within_days is None:
                raise ValueError("a class from codes needs 'within_days'")
            return self
        ways = (
            self.codes is not None,
            self.time is not None or self.event is not None,
            self.event_date is not None or self.last_date is not None,
        )
        if sum(ways) != 1:
            raise ValueError("give codes, or time and event, or event_date and last_date")
        if ways[1]:
            if self.time is None or self.event is None:
                raise ValueError("'time' and 'event' come together")
            if self.happened is None and self.censored is None:
                raise ValueError(
                    f"say which values of '{self.event}' mean that it happened ('happened') or "
                    "that it did not ('censored')"
                )
        if ways[2] and (self.event_date is None or self.last_date is None):
            raise ValueError("'event_date' and 'last_date' come together")
        return self

    @property
    def class_texts(self) -> tuple[str, ...]:
        """The classes as cells are compared with them."""
        return tuple(map(as_text, self.classes))

    @property
    def from_record(self) -> bool:
        """Whether it is found in the events of a record rather than in columns."""
        return self.codes is not None


class Splitting(_Strict):
    """Who learns and who is tested. A column, else the data set's own file, else drawn.

    values: what the column's values mean; train, tuning (also valid, val), internal (also test,
    held_out) and external are known. external: sites whose patients are the external test set.
    Drawn: train 64 %, tuning 16 %, internal 20 % of the persons, stratified by the first task.
    """

    column: str | None = None
    values: Annotated[dict[str, Split], BeforeValidator(_keys)] = {}
    external: Texts = ()
    seed: int = Field(default=0, ge=0)


class Measured(_Strict):
    """A measurement in a record. codes: any of which may hold it. within_days: before time zero.

    The numbers are taken as they are, so all codes must count in the same unit.
    """

    codes: Codes
    unit: str = ""
    title: str = ""
    within_days: float | None = Field(default=None, gt=0)


class StudyModality(_Strict):
    """A modality in words.

    columns: of a table; all that can be read where none is named. values: of a record, which then
    becomes a table of the last values by time zero.
    """

    title: str = ""
    unit: str = ""
    columns: dict[str, Column] = {}
    values: dict[Name, Measured] = {}


class Study(_Strict):
    """The whole of study.yaml."""

    name: Name
    title: str
    description: str = ""
    index_event: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    columns: Columns = Columns()
    index: Index | None = None
    tasks: dict[Name, Outcome] = Field(min_length=1)
    split: Splitting = Splitting()
    modalities: dict[Name, StudyModality] = {}

    def modality(self, name: str, title: str) -> StudyModality:
        """What the study says of a modality, with a title where it has none."""
        given = self.modalities.get(name, StudyModality())
        return given if given.title else given.model_copy(update={"title": title})


def read_study(path: Path | str) -> Study:
    """The validated study.yaml. Raises CohortError naming the field and the remedy."""
    path = Path(path)
    if not path.is_file():
        raise CohortError(f"{path}: there is no such file; name the study's yaml with --study.")
    try:
        content = read_plain_yaml(path, yes_is_text=True)
    except (ValueError, OSError) as error:
        raise CohortError(
            f"{path}: cannot be read as a study: {str(error)[:200]}; mend it after the example in "
            "the README."
        ) from error
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise CohortError(f"{path}: {_told(error)}.") from error


def _told(error: ValidationError) -> str:
    """The first thing that is wrong with a study, as a sentence without its end."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if part != "[key]"]
    where = ".".join(parts) or "the file"
    kind = first["type"]
    if kind == "extra_forbidden":
        near = get_close_matches(parts[-1], _FIELDS, n=1)
        remedy = f"perhaps '{near[0]}' is meant" if near else "take it out"
        return f"there is no field '{where}'; {remedy}"
    if kind == "missing":
        return f"field '{where}' is missing; add it"
    if kind == "string_pattern_mismatch":
        return (
            f"the name '{parts[-1] if len(parts) > 1 else first['input']}' ({where}) must start "
            "with a small letter and hold only small letters, digits and _; rename it"
        )
    if kind == "value_error":
        return f"field '{where}': {first['msg'].removeprefix('Value error, ')}"
    given = str(first["input"])[:40]
    what = first["msg"][:1].lower() + first["msg"][1:]
    return f"field '{where}' holds '{given}': {what}; correct it"


_FIELDS = sorted(
    {
        name
        for model in (Study, Columns, Index, Outcome, Splitting, Measured, StudyModality, Column)
        for name in model.model_fields
    }
)
