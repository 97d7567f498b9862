"""Table 1 of a cohort: who its patients are, by split, and how far the splits differ.

Continuous and ordinal variables as median and quartiles, others as counts of those in whom they
are known; what is missing is counted apart. Plain JSON, and rows ready for a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.balance import smd_numbers, smd_shares
from analysis.cohort.cohort import Cohort
from analysis.cohort.flow import cohort_flow, events_of
from analysis.cohort.schema import CohortError, Split
from analysis.survival.curves import kaplan_meier
from analysis.survival.data import SurvivalData
from models.contracts import Kind

ALL = "all"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "development": ("train", "tuning"),
    "internal": ("internal",),
    "external": ("external",),
}
"""Whose differences are measured: the patients a run is made with against each test set."""

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Variable:
    """One variable of all described patients, by subject_id; missing is nan.

    levels: names of the categories that `values` numbers; None for a continuous variable.
    """

    section: str
    name: str
    title: str
    unit: str
    values: pd.Series[float]
    levels: tuple[str, ...] | None = None
    binary: bool = False

    def of(self, ids: Ids) -> Floats:
        """(n,) values of those patients."""
        return np.asarray(self.values.reindex(pd.Index(ids)), np.float64)


def table_one(cohort: Cohort, task: str | None = None) -> dict[str, Any]:
    """Who the patients are, by split; those with an outcome for `task`, all without one.

    {'cohort', 'title', 'fingerprint', 'task', 'n', 'splits': {split: n, also 'all'}, 'outcomes':
    [...], 'flow': [...], 'variables': [...], 'compared': [[group, group], ...], 'groups'}.
    outcomes: a task and split each, n, events, follow-up in days (reverse Kaplan-Meier median;
    longest). variables: section ('patient', 'modalities' or a table modality), name, title, unit,
    kind 'number' (median, q1, q3, mean, sd) or 'levels' (counts), by split with n and missing,
    and smd {'development vs internal': value or None}. flow: `cohort_flow` of the tasks.
    """
    ids = cohort.subject_ids(None, task)
    if not len(ids):
        raise CohortError(
            f"cohort '{cohort.spec.name}' has nobody with an outcome for task '{task}'."
        )
    tasks = list(cohort.spec.tasks) if task is None else [task]
    split = cohort.subjects.loc[ids, "split"].astype(str)
    members = {str(s): ids[(split == str(s)).to_numpy()] for s in Split}
    members = {ALL: ids, **{name: found for name, found in members.items() if len(found)}}
    groups = {
        name: np.concatenate([members[s] for s in parts if s in members])
        for name, parts in GROUPS.items()
        if any(s in members for s in parts)
    }
    compared = list(combinations(groups, 2))
    return {
        "cohort": cohort.spec.name,
        "title": cohort.spec.title,
        "fingerprint": cohort.fingerprint,
        "task": task,
        "n": len(ids),
        "splits": {name: len(found) for name, found in members.items()},
        "groups": {name: list(GROUPS[name]) for name in groups},
        "compared": [list(pair) for pair in compared],
        "outcomes": [_outcome(cohort, t, s, found) for t in tasks for s, found in members.items()],
        "variables": [
            _described(variable, members, groups, compared) for variable in _variables(cohort, ids)
        ],
        "flow": [cohort_flow(cohort, t) for t in tasks],
    }


# ---------------------------------------------------------------- what is described


def _variables(cohort: Cohort, ids: Ids) -> Iterator[_Variable]:
    subjects = cohort.subjects.loc[ids]
    age = subjects["age_years"].astype("float64")
    yield _Variable("patient", "age", "Age", "years", age)
    for name in ("sex", "site"):
        yield _text_levels("patient", name, name.capitalize(), subjects[name])
    there = cohort.availability().loc[ids]
    for name, spec in cohort.spec.modalities.items():
        has = there[name].astype("float64")
        yield _Variable("modalities", name, f"{spec.title} available", "", has, ("no", "yes"), True)
    for name, spec in cohort.spec.modalities.items():
        if spec.kind is Kind.TABLE:
            yield from _columns(cohort, name, ids)


def _text_levels(section: str, name: str, title: str, given: pd.Series[Any]) -> _Variable:
    known = given.dropna().astype(str)
    levels = tuple(sorted(known.unique()))
    number = {level: at for at, level in enumerate(levels)}
    values = known.map(number).reindex(given.index).astype("float64")
    return _Variable(section, name, title, "", values, levels)


def _columns(cohort: Cohort, modality: str, ids: Ids) -> Iterator[_Variable]:
    table = cohort.table(modality)
    numbers = np.where(table.mask, table.values.astype(np.float64), np.nan)
    frame = pd.DataFrame(numbers, index=table.subject_ids, columns=list(table.names)).reindex(ids)
    for name, column in cohort.spec.modalities[modality].columns.items():
        title = column.title or name.replace("_", " ")
        binary = column.kind == "binary"
        levels: tuple[str, ...] | None = ("no", "yes") if binary else None
        if column.kind == "nominal":
            levels = column.categories
        yield _Variable(modality, name, title, column.unit, frame[name], levels, binary)


# ---------------------------------------------------------------- what is said


def _outcome(cohort: Cohort, task: str, split: str, ids: Ids) -> dict[str, Any]:
    spec, found = cohort.spec.task(task), cohort.outcomes(task, ids)
    said: dict[str, Any] = {
        "task": task,
        "title": spec.title,
        "event_title": spec.event_title or (spec.classes[-1] if spec.classes else ""),
        "kind": spec.kind,
        "split": split,
        "n": len(found),
        "events": events_of(cohort, task, ids) if len(found) else None,
    }
    if found.label is not None:
        counts = np.bincount(found.label, minlength=len(spec.classes)).tolist()
        said["classes"] = dict(zip(spec.classes, counts, strict=False))
    if found.time_days is not None and found.event is not None and len(found):
        # The event is taken as the censoring, so that deaths do not shorten the follow-up.
        followed = kaplan_meier(SurvivalData(found.time_days, ~found.event)).median_days
        said["median_follow_up_days"] = _number(followed)
        said["longest_follow_up_days"] = float(found.time_days.max())
    return said


def _described(
    variable: _Variable,
    members: Mapping[str, Ids],
    groups: Mapping[str, Ids],
    compared: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    return {
        "section": variable.section,
        "name": variable.name,
        "title": variable.title,
        "unit": variable.unit,
        "kind": "number" if variable.levels is None else "levels",
        "binary": variable.binary,
        "levels": list(variable.levels or ()),
        "by_split": {name: _summary(variable, ids) for name, ids in members.items()},
        "smd": {f"{a} vs {b}": _smd(variable, groups[a], groups[b]) for a, b in compared},
    }


def _summary(variable: _Variable, ids: Ids) -> dict[str, Any]:
    values = variable.of(ids)
    known = values[~np.isnan(values)]
    said: dict[str, Any] = {"n": len(known), "missing": len(values) - len(known)}
    if variable.levels is not None:
        said["counts"] = _counts(variable.levels, known)
    elif len(known):
        q1, median, q3 = np.percentile(known, [25, 50, 75])
        said |= {"median": _short(median), "q1": _short(q1), "q3": _short(q3)}
        said["mean"] = _short(known.mean())
        said["sd"] = _short(known.std(ddof=1)) if len(known) > 1 else None
        said |= {"min": _short(known.min()), "max": _short(known.max())}
    return said


def _counts(levels: Sequence[str], known: Floats) -> list[int]:
    counted = np.bincount(known.astype(np.int64), minlength=len(levels))
    return [int(n) for n in counted]


def _smd(variable: _Variable, first: Ids, second: Ids) -> float | None:
    a, b = variable.of(first), variable.of(second)
    levels = variable.levels
    if levels is None:
        return smd_numbers(a, b)
    return smd_shares(_counts(levels, a[~np.isnan(a)]), _counts(levels, b[~np.isnan(b)]))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _short(value: float) -> float:
    """Seven significant digits, which is what a table's float32 holds."""
    return float(f"{value:.7g}")


# ---------------------------------------------------------------- rows of a table

Cell = str | float | None
RowKind = Literal["outcome", "variable", "level", "missing"]


def table_rows(content: Mapping[str, Any]) -> list[dict[str, Cell]]:
    """The rows of Table 1, in order: section, kind, label, one text a split, one number an SMD.

    kind: 'outcome', 'variable', 'level' (a category of the variable above) or 'missing' (how
    many lack it; only where somebody does). Splits are columns by their names, 'all' first;
    differences by 'smd development vs internal' and so on, None where not defined. Counts come
    with their share of those in whom the variable is known.
    """
    splits = list(content["splits"])
    rows: list[dict[str, Cell]] = []

    def add(section: str, kind: RowKind, label: str, cells: Mapping[str, str], **more: Any) -> None:
        rows.append({"section": section, "kind": kind, "label": label, **cells, **more})

    add("patient", "outcome", "Patients", {s: f"{n:,}" for s, n in content["splits"].items()})
    for task in dict.fromkeys(o["task"] for o in content["outcomes"]):
        mine = {o["split"]: o for o in content["outcomes"] if o["task"] == task}
        for label, cells in _outcome_cells(mine):
            add("outcomes", "outcome", label, cells)
    for variable in content["variables"]:
        said = variable["by_split"]
        smd = {f"smd {pair}": value for pair, value in variable["smd"].items()}
        unit = f", {variable['unit']}" if variable["unit"] else ""
        head = f"{variable['title']}{unit}"
        if variable["kind"] == "number":
            cells = {s: _median(said[s]) for s in splits}
            add(variable["section"], "variable", f"{head}, median (IQR)", cells, **smd)
        elif variable["binary"]:
            cells = {s: _share(said[s], 1) for s in splits}
            add(variable["section"], "variable", f"{head}, n (%)", cells, **smd)
        else:
            add(variable["section"], "variable", f"{head}, n (%)", dict.fromkeys(splits, ""), **smd)
            for at, level in enumerate(variable["levels"]):
                cells = {s: _share(said[s], at) for s in splits}
                add(variable["section"], "level", level, cells)
        if any(said[s]["missing"] for s in splits):
            of = {s: said[s]["missing"] / max(said[s]["n"] + said[s]["missing"], 1) for s in splits}
            cells = {s: f"{said[s]['missing']:,} ({of[s]:.0%})" for s in splits}
            add(variable["section"], "missing", "Missing", cells)
    return rows


def _outcome_cells(mine: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    """(label, a text a split) of one task."""
    first = next(iter(mine.values()))
    yield f"{first['title']}: outcome known", {s: f"{o['n']:,}" for s, o in mine.items()}
    if first["events"] is not None:
        what = first["event_title"] or "event"
        rates = {s: f"{o['events']:,} ({o['events'] / o['n']:.0%})" if o["n"] else "0"
                 for s, o in mine.items()}  # fmt: skip
        yield f"{first['title']}: {what}, n (%)", rates
    else:
        for name in first.get("classes", {}):
            yield (
                f"{first['title']}: {name}",
                {s: f"{o['classes'][name]:,}" for s, o in mine.items()},
            )
    if first["kind"] == "survival":
        days = {s: _days(o.get("median_follow_up_days")) for s, o in mine.items()}
        yield f"{first['title']}: median follow-up, days", days


def _days(value: float | None) -> str:
    return "not reached" if value is None else f"{value:,.0f}"


def _median(said: Mapping[str, Any]) -> str:
    if not said["n"]:
        return "none known"
    three = said["median"], said["q1"], said["q3"]
    largest = max(map(abs, three))
    decimals = 0 if largest >= 100 else 1 if largest >= 10 else 2
    if all(value == round(value) for value in three):
        decimals = 0
    median, low, high = (f"{value:,.{decimals}f}" for value in three)
    return f"{median} ({low} to {high})"


def _share(said: Mapping[str, Any], at: int) -> str:
    if not said["n"]:
        return "none known"
    return f"{said['counts'][at]:,} ({said['counts'][at] / said['n']:.0%})"
