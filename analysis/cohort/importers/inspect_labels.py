"""INSPECT's outcomes: texts TRUE, FALSE and Censored, and times whose unit is not stated.

Censored means that nobody knows, and is missing here, never 'no'. Users of the tables read tte_*
as minutes, the authors' later code says seconds: the unit is the one in which the times agree
with the labels of one year.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.importers.compose import Note
from analysis.cohort.importers.study import DAYS, Unit
from analysis.cohort.schema import CohortError, TaskSpec

UNITS: tuple[Unit, ...] = ("seconds", "minutes", "hours", "days")
_YEAR = 365.0
_AGREES, _CLEARLY = 0.9, 0.05
_YES, _NO, _UNKNOWN = {"true", "1", "1.0"}, {"false", "0", "0.0"}, {"censored", "censor", ""}
_AFTER = "after CT pulmonary angiography"


@dataclass(frozen=True)
class _Source:
    """Where a task's outcome stands. survival: tte_X and is_censored_X, else the column X."""

    column: str
    spec: TaskSpec
    usual: bool = True

    @property
    def survival(self) -> bool:
        return self.spec.kind == "survival"

    def columns(self) -> tuple[str, ...]:
        if self.survival:
            return f"tte_{self.column}", f"is_censored_{self.column}"
        return (self.column,)


def _time(column: str, title: str, event: str, usual: bool = True) -> _Source:
    spec = TaskSpec(kind="survival", title=title, event_title=event, horizon_days=_YEAR)
    return _Source(column, spec, usual)


def _label(column: str, title: str, horizon: float | None, usual: bool = True) -> _Source:
    spec = TaskSpec(kind="classification", title=title, horizon_days=horizon, classes=("no", "yes"))
    return _Source(column, spec, usual)


_MONTHS = {1: 30.0, 6: 182.0, 12: _YEAR}
_FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural_Effusion")
TASKS: Mapping[str, _Source] = {
    "mortality": _time("mortality", f"Death {_AFTER}", "death from any cause"),
    "readmission": _time("readmission", f"Readmission {_AFTER}", "readmission to hospital"),
    "pulmonary_hypertension": _time(
        "PH", f"Pulmonary hypertension {_AFTER}", "diagnosis of pulmonary hypertension"
    ),
    "pe": _label("pe_positive_nlp", "Pulmonary embolism on the scan, by its report", None),
    **{
        f"{name}_{m}_month": _label(
            f"{m}_month_{name}", f"{title} within {m} month{'s' if m > 1 else ''}", days
        )
        for name, title in (("mortality", "Death"), ("readmission", "Readmission"))
        for m, days in _MONTHS.items()
    },
    "pulmonary_hypertension_12_month": _label(
        "12_month_PH", "Pulmonary hypertension within 12 months", _YEAR
    ),
    **{
        name.lower(): _time(
            name, f"{name.replace('_', ' ').capitalize()} {_AFTER}",
            f"diagnosis of {name.replace('_', ' ').lower()}", False,
        )
        for name in _FINDINGS
    },
    "pe_acute": _label("pe_acute", "Acute pulmonary embolism on the scan", None, False),
    "pe_subsegmental_only": _label(
        "pe_subsegmentalonly", "Subsegmental pulmonary embolism only", None, False
    ),
}  # fmt: skip
"""Task to its source. Findings and kinds of embolism come when they are asked for."""


def choose(studies: pd.DataFrame, asked: Sequence[str]) -> dict[str, TaskSpec]:
    """The tasks asked for, or the usual ones that the tables have. CohortError on others."""
    there = {n: s for n, s in TASKS.items() if set(s.columns()) <= set(studies)}
    missing = [name for name in asked if name not in there]
    if missing or not there:
        name = missing[0] if missing else "any"
        raise CohortError(
            f"the tables have no outcome of task '{name}'; choose from "
            f"{', '.join(there) or 'other tables'}."
        )
    chosen = asked or [name for name, source in there.items() if source.usual] or list(there)
    return {name: there[name].spec for name in chosen}


def outcomes(
    studies: pd.DataFrame,
    tasks: Sequence[str],
    unit: Unit | None,
    offset_days: int,
    note: Note,
) -> pd.DataFrame:
    """Rows of study, task, time_days, event, label. Who is of neither class has no row.

    unit: of the times; found by the labels of one year where not stated. offset_days: from the
    scan to time zero; events before it are left out.
    """
    parts = []
    if any(TASKS[name].survival for name in tasks):
        unit = unit or find_unit(studies, note)
    for name in tasks:
        source = TASKS[name]
        if source.survival:
            assert unit is not None
            part = _times(studies, source, unit, offset_days)
        else:
            label = three_valued(studies[source.column], source.column).dropna()
            part = pd.DataFrame({"study": label.index, "label": label.to_numpy()})
        note(f"{name}: {len(part):,} of {len(studies):,} studies have an outcome.")
        parts.append(part.assign(task=name))
    frame = pd.concat(parts, ignore_index=True)
    return frame.reindex(columns=["study", "task", "time_days", "event", "label"])


def three_valued(column: pd.Series[str], name: str) -> pd.Series[float]:
    """1 for TRUE, 0 for FALSE, NaN for Censored or nothing. Raises CohortError on other texts."""
    texts = column.fillna("").map(lambda value: str(value).strip().lower())
    unknown = sorted(set(texts) - _YES - _NO - _UNKNOWN)
    if unknown:
        raise CohortError(
            f"column '{name}' holds '{unknown[0][:40]}'; expected TRUE, FALSE or Censored."
        )
    values = np.where(texts.isin(_YES), 1.0, np.where(texts.isin(_NO), 0.0, np.nan))
    return pd.Series(values, index=column.index)


def find_unit(studies: pd.DataFrame, note: Note) -> Unit:
    """The unit in which tte_mortality agrees with 12_month_mortality, told with its evidence.

    Raises CohortError when no unit fits, or two do.
    """
    needed = ("tte_mortality", "12_month_mortality")
    if not set(needed) <= set(studies):
        raise CohortError(
            f"the unit of tte_* cannot be told without {' and '.join(needed)}; state it with "
            "--unit minutes (or seconds, hours, days)."
        )
    time = pd.to_numeric(studies["tte_mortality"], errors="coerce").to_numpy(np.float64)
    died = three_valued(studies["12_month_mortality"], "12_month_mortality").to_numpy()
    known = np.isfinite(time) & np.isfinite(died)
    time, dead = time[known], died[known] == 1
    if not dead.any() or dead.all():
        raise CohortError(
            "the unit of tte_* cannot be told, because 12_month_mortality is not both TRUE and "
            "FALSE; state it with --unit minutes (or seconds, hours, days)."
        )
    fits = {unit: _agreement(time * DAYS[unit], dead) for unit in UNITS}
    order = sorted(UNITS, key=lambda unit: -fits[unit])
    told = ", ".join(f"{unit} {fits[unit]:.1%}" for unit in order)
    evidence = (
        f"of {len(dead):,} studies with a 12-month label the side of 365 days agrees with it "
        f"(mean of those who died and those who did not): {told}"
    )
    if fits[order[0]] < _AGREES or fits[order[0]] - fits[order[1]] < _CLEARLY:
        raise CohortError(
            f"the unit of tte_mortality cannot be told; {evidence}; check the file, or state it "
            "with --unit."
        )
    note(f"Unit of tte_*: {order[0]}; {evidence}.")
    return order[0]


def _agreement(days: npt.NDArray[np.float64], dead: npt.NDArray[np.bool_]) -> float:
    """Mean over both classes; a time within a day of the year agrees with either."""
    agrees = ((days <= _YEAR) == dead) | (np.abs(days - _YEAR) <= 1)
    return float((agrees[dead].mean() + agrees[~dead].mean()) / 2)


def _times(studies: pd.DataFrame, source: _Source, unit: Unit, offset_days: int) -> pd.DataFrame:
    time_name, censored_name = source.columns()
    days = pd.to_numeric(studies[time_name], errors="coerce") * DAYS[unit] - offset_days
    censored = three_valued(studies[censored_name], censored_name)
    usable = np.isfinite(days) & (days >= 0) & censored.notna()
    return pd.DataFrame(
        {
            "study": studies.index[usable],
            "time_days": days[usable].to_numpy(),
            "event": (1 - censored[usable]).to_numpy(),
        }
    )
