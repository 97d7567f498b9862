"""Guard: times must be in days; files give minutes, hours, months and years as well."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.cohort.evidence import DAY_US, Bools, Evidence, Floats, TaskData
from analysis.cohort.readers.events import STATIC
from analysis.cohort.schema import OUTCOMES_FILE

_YEAR = 365.25
_LIFE = 120 * _YEAR
_PARTS = {"hours": 24.0, "minutes": 1440.0, "seconds": 86400.0}
"""How many of a unit make a day."""
_MULTIPLES = {"weeks": 7.0, "months": _YEAR / 12, "years": _YEAR}
"""How many days make one of a unit."""


def check_time_units(evidence: Evidence) -> None:
    """Note survival tasks whose time_days is probably in another unit, and which.

    1. By the record (an error): days from time zero to MEDS_DEATH of those with event 1 (tasks of
       death), or else to the last event, over time_days. In days the ratio is 1 or scatters; the
       rule fires when both quartiles of 10 patients or more lie within 8 % of another unit.
    2. By life: a time beyond 120 years, or (3 patients and 1 % or more) an age at the end of
       follow-up beyond 115 years, cannot be days (an error). The unit named is the smallest
       part of a day that brings both below.
    3. By the horizon (a warning): of 20 patients or more nobody is followed for a fifth of it.
       The unit named is the smallest that brings the longest time to 80 % of it. Without a
       horizon: all times are below 20 and most are no whole numbers.
    """
    last, deaths = evidence.last_us(), evidence.death_us()
    for task in evidence.tasks:
        if task.time_days is None or task.event is None:
            continue
        time, event = task.time_days, task.event
        if not _by_record(evidence, task, time, event, deaths, last) and not _by_life(
            evidence, task, time
        ):
            _by_horizon(evidence, task, time)


def _by_record(
    evidence: Evidence,
    task: TaskData,
    time: Floats,
    event: Bools,
    deaths: pd.Series[int],
    last: pd.Series[int],
) -> bool:
    index = evidence.index_of(task.subject_ids)
    sources = [("the last event of the record", last, np.ones(len(time), bool))]
    if task.of_death:
        sources.insert(0, ("MEDS_DEATH", deaths, event))
    for title, times, chosen in sources:
        at = times.reindex(task.subject_ids, fill_value=int(STATIC)).to_numpy(np.int64)
        use = chosen & (at != STATIC) & (index != STATIC) & (time > 0)
        days = (at[use].astype(float) - index[use]) / DAY_US
        ratio = days[days > 0] / time[use][days > 0]
        if len(ratio) < 10:
            continue
        quartiles = np.quantile(ratio, (0.25, 0.5, 0.75))
        units = list(_MULTIPLES.items())
        units += [(unit, 1 / size) for unit, size in _PARTS.items()]
        for unit, size in units:
            if (np.abs(quartiles[[0, 2]] / size - 1) < 0.08).all():
                what = (
                    f"{title} lies {quartiles[1]:.4g} days after time zero for every 1 of "
                    f"time_days (median of {len(ratio)} patients, quartiles {quartiles[0]:.4g} "
                    f"and {quartiles[2]:.4g}): the times are in {unit}"
                )
                evidence.report.error(OUTCOMES_FILE, task.where, what, _remedy(unit))
                return True
    return False


def _by_life(evidence: Evidence, task: TaskData, time: Floats) -> bool:
    age = np.full(len(time), np.nan)
    if "age_years" in evidence.subjects:
        given = pd.to_numeric(evidence.subjects["age_years"], errors="coerce")
        age = given.where(given.between(0, 115)).reindex(task.subject_ids).to_numpy(np.float64)
    aged = age + time / _YEAR > 115
    too_old = aged.sum() >= max(3, 0.01 * len(time))
    if time.max() <= _LIFE and not too_old:
        return False
    if time.max() > _LIFE:
        what = f"the longest time is {time.max():,.6g}, in days {time.max() / _YEAR:,.0f} years"
    else:
        what = (
            f"{aged.sum()} of {np.isfinite(age).sum()} patients would be older than 115 years at "
            f"the end of their follow-up, the oldest {np.nanmax(age + time / _YEAR):.0f}"
        )
    for unit, size in _PARTS.items():
        fits = time.max() / size <= _LIFE / 3
        if fits and not (age + time / size / _YEAR > 115).sum() >= max(3, 0.01 * len(time)):
            what += f"; in {unit} it would be {time.max() / size:,.4g} days at most"
            evidence.report.error(OUTCOMES_FILE, task.where, what, _remedy(unit))
            return True
    evidence.report.error(OUTCOMES_FILE, task.where, what, "give time_days in days")
    return True


def _by_horizon(evidence: Evidence, task: TaskData, time: Floats) -> None:
    if len(time) < 20:
        return
    longest, horizon = float(time.max()), task.spec.horizon_days
    if horizon is None:
        whole = float((time % 1 == 0).mean())
        if longest < 20 and whole < 0.5:
            what = (
                f"all {len(time)} times are below {longest:.4g} and {1 - whole:.0%} are no whole "
                "numbers: they look like years or months"
            )
            evidence.report.warn(OUTCOMES_FILE, task.where, what, _remedy("years or months"))
        return
    if longest >= horizon / 5:
        return
    what = (
        f"the longest of {len(time)} times is {longest:.4g}, {longest / horizon:.1%} of the "
        f"horizon of {horizon:g} days"
    )
    remedy = "give time_days in days, or a horizon that somebody reaches"
    for unit, size in _MULTIPLES.items():
        if longest * size >= 0.8 * horizon and longest * size < _LIFE:
            what += f"; in {unit} it would be {longest * size:,.0f} days"
            remedy = _remedy(unit)
            break
    evidence.report.warn(OUTCOMES_FILE, task.where, what, remedy)


def _remedy(unit: str) -> str:
    if unit in _PARTS:
        return f"divide the times by {_PARTS[unit]:g} if they are in {unit}"
    if unit in _MULTIPLES:
        return f"multiply the times by {_MULTIPLES[unit]:.6g} if they are in {unit}"
    return f"give days, multiply by {_YEAR:g} or {_YEAR / 12:.4g} if they are in {unit}"
