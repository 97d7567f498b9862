"""Guard: 1 must mean that the event happened; data sets also say it the other way round."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from analysis.classification.roc import auc
from analysis.cohort.evidence import DAY_US, Bools, Evidence, Floats, TaskData
from analysis.cohort.readers.events import STATIC
from analysis.cohort.schema import OUTCOMES_FILE, SUBJECTS_FILE

_REMEDY = "write 1 where it happened and 0 where censored, swap them if they are inverted"
_TRUE = frozenset(("1", "1.0", "true", "yes", "y", "dead", "deceased", "died", "death", "censored"))
_FALSE = frozenset(("0", "0.0", "false", "no", "n", "alive", "living", "observed", "uncensored"))


def check_polarity(evidence: Evidence) -> None:
    """Note survival tasks whose event looks inverted.

    Three rules, each of at least 5 patients on either side:

    1. By time, of 40 patients or more (a warning). Those still event-free when the study closes
       have the longest times, so in sound data the longest times belong to 0. The rule fires when
       at least 90 % of those who share the longest time (5 patients and 5 % or more) have event 1
       and at most 70 % of the others; or when events lie late: their share among the quarter
       followed longest is 60 % or more and 20 points above that of the shortest quarter, and
       events have the longer times (AUC >= 0.6, Mann-Whitney p < 0.001). Sound public data sets
       reach 17 points (senators of Canada, where the youngest are the censored ones), usual ones
       are negative; inverted they reach 23 to 96.
    2. By the record, for a task of death: 80 % or more of those with MEDS_DEATH have event 0 and
       80 % or more of the rest have event 1 (an error); or MEDS_DEATH lies within the follow-up of
       patients with event 0, 3 of them and 20 % or more (a warning).
    3. By another column of subjects or outcomes that says died or censored, in the same way.
    """
    deaths = evidence.death_us()
    for task in evidence.tasks:
        if task.event is None or task.time_days is None:
            continue
        if not _against_columns(evidence, task) and not _against_deaths(evidence, task, deaths):
            _by_time(evidence, task, task.time_days, task.event)


def _by_time(evidence: Evidence, task: TaskData, time: Floats, event: Bools) -> None:
    n, happened = len(event), int(event.sum())
    if n < 40 or min(happened, n - happened) < 5:
        return
    last = time == time.max()
    at_end, before = int(event[last].sum()), int(event[~last].sum())
    piled = last.sum() >= max(5, 0.05 * n) and not last.all()
    if piled and at_end >= 0.9 * last.sum() and before <= 0.7 * (~last).sum():
        what = (
            f"{at_end} of the {last.sum()} patients with the longest time ({time.max():g}) have "
            f"event 1, but {before} of the {(~last).sum()} others: the end of the study looks "
            "like the event"
        )
        evidence.report.warn(OUTCOMES_FILE, task.where, what, _REMEDY)
        return
    late, early = time >= np.quantile(time, 0.75), time <= np.quantile(time, 0.25)
    top, bottom = float(event[late].mean()), float(event[early].mean())
    longer = auc(event, time)
    if top < 0.6 or top - bottom < 0.2 or longer < 0.6:
        return
    if mannwhitneyu(time[event], time[~event], alternative="greater").pvalue >= 1e-3:
        return
    what = (
        f"event 1 in {top:.0%} of the quarter followed longest and {bottom:.0%} of the quarter "
        f"followed shortest; those with 0 leave early (median {np.median(time[~event]):g}, with "
        f"1 {np.median(time[event]):g}), as if 0 were the event"
    )
    evidence.report.warn(OUTCOMES_FILE, task.where, what, _REMEDY)


def _against_deaths(evidence: Evidence, task: TaskData, deaths: pd.Series[int]) -> bool:
    """Rule 2; whether it fired."""
    if not task.of_death or not len(deaths) or task.event is None or task.time_days is None:
        return False
    died = np.isin(task.subject_ids, deaths.index.to_numpy(np.int64))
    if _opposite(evidence, task, died, "MEDS_DEATH in the record", OUTCOMES_FILE, task.where):
        return True
    index = evidence.index_of(task.subject_ids)
    at = deaths.reindex(task.subject_ids, fill_value=int(STATIC)).to_numpy(np.int64)
    known = died & (index != STATIC)
    days = np.where(known, (at.astype(float) - index) / DAY_US, np.nan)
    within = known & (days >= 0) & (days <= task.time_days)
    missed = within & ~task.event
    if missed.sum() >= max(3, 0.2 * within.sum()):
        what = (
            f"{missed.sum()} of {within.sum()} patients with MEDS_DEATH within their follow-up "
            f"have event 0, e.g. subject {task.subject_ids[missed][0]}"
        )
        evidence.report.warn(OUTCOMES_FILE, task.where, what, _REMEDY)
        return True
    return False


def _against_columns(evidence: Evidence, task: TaskData) -> bool:
    """Rule 3; whether it fired."""
    sources = [
        (OUTCOMES_FILE, task.rows.set_index("subject_id")),
        (SUBJECTS_FILE, evidence.subjects.reindex(task.subject_ids)),
    ]
    for file, frame in sources:
        for column in map(str, frame.columns):
            meaning = _meaning(column, task)
            if meaning is None or (given := _yes_no(frame[column])) is None:
                continue
            expected = given if meaning else 1 - given
            known = np.isfinite(expected)
            title = f"column {column} that says {'it happened' if meaning else 'not censored'}"
            if _opposite(evidence, task, expected == 1, title, file, f"column {column}", known):
                return True
    return False


def _meaning(column: str, task: TaskData) -> bool | None:
    """True: yes means the event; False: yes means censored; None: it tells nothing of the task."""
    name = column.lower()
    if "censor" in name:
        others = name.replace("is_censored", "").replace("censored", "").strip("_")
        return False if not others or others in task.name else None
    of_death = re.search(r"dead|death|died|deceased|vital|survival_status", name)
    return True if of_death and task.of_death else None


def _yes_no(column: pd.Series[str]) -> Floats | None:
    """1, 0 and NaN of a column that says yes or no in words or numbers; None for any other."""
    words = column.dropna().map(lambda value: str(value).strip().lower())
    if not len(words) or not set(words) <= _TRUE | _FALSE:
        return None
    return np.asarray(words.isin(_TRUE).astype("float64").reindex(column.index), np.float64)


def _opposite(
    evidence: Evidence,
    task: TaskData,
    expected: Bools,
    title: str,
    file: str,
    where: str,
    known: Bools | None = None,
) -> bool:
    """Whether the event is the opposite of what another source says, which is noted."""
    assert task.event is not None
    known = np.ones(len(expected), bool) if known is None else known
    yes, no = expected & known, ~expected & known
    wrong_yes, wrong_no = int((yes & ~task.event).sum()), int((no & task.event).sum())
    if min(yes.sum(), no.sum()) < 5:
        return False
    if wrong_yes < 0.8 * yes.sum() or wrong_no < 0.8 * no.sum():
        return False
    what = (
        f"{wrong_yes} of {yes.sum()} patients with {title} have event 0 in task {task.name}, and "
        f"{wrong_no} of the {no.sum()} others event 1: the event is inverted"
    )
    evidence.report.error(file, where, what, _REMEDY)
    return True
