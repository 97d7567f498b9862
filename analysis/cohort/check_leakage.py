"""Guard: what a model is given must not be the outcome in another form.

Judged on all patients, whatever their split: this is a check of the data, no result of a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import hypergeom

from analysis.classification.roc import auc
from analysis.cohort.evidence import DAY_US, DEATH, Bools, Evidence, Floats, Ints, TaskData
from analysis.cohort.readers.events import STATIC, EventTable
from analysis.cohort.schema import Column, ModalitySpec

_LEAST, _SHARE, _ALPHA = 5, 0.1, 0.01
_AUC, _C = 0.98, 0.95
_MANY_DEAD = 0.01
_ENOUGH = 20


@dataclass(frozen=True, eq=False)
class _Carriers:
    """Distinct (subject, code) pairs of the events that a model may see."""

    subject: Ints
    code: Ints

    def count(self, subjects: Ints, codes: int) -> Ints:
        """(codes,) how many of `subjects` have each code."""
        return np.bincount(self.code[np.isin(self.subject, subjects)], minlength=codes)


def check_leaking_codes(evidence: Evidence) -> None:
    """Note codes at or before time zero that tell the outcome.

    An error: MEDS_DEATH among them (or without a date, which a model sees too) in 1 % of all
    patients or more, below it a warning; and a code that none without the event has, dated the
    day of the event in 5 patients and 10 % of them or more.
    A warning: a code that only patients with the event have (or only those without it), at least 5
    and 10 % of them, where chance is ruled out: Fisher's exact test (one side, hypergeometric)
    over the codes of 5 patients or more, Holm-adjusted p < 0.01.
    """
    for modality, table in evidence.events():
        usable = evidence.usable(table)
        _deaths(evidence, modality, table, usable)
        owner = table.row_subjects()[usable]
        width = len(table.codes)
        at = np.searchsorted(table.subject_ids, owner)
        pairs = np.unique(at * width + table.code_index[usable])
        carriers = _Carriers(table.subject_ids[pairs // width], pairs % width)
        for task in evidence.tasks:
            known = np.isin(task.subject_ids, table.subject_ids)
            for title, having in task.groups():
                same_day = _same_day(evidence, task, table, usable)
                found = _exclusive(task, title, having, known, table, carriers, same_day)
                for severe, what in found:
                    note = evidence.report.error if severe else evidence.report.warn
                    remedy = "leave the code out if it is written because of the outcome"
                    note(modality.path, task.where, what, remedy)


def _deaths(evidence: Evidence, modality: ModalitySpec, table: EventTable, usable: Bools) -> None:
    if DEATH not in table.codes:
        return
    rows = usable & (table.code_index == table.codes.index(DEATH))
    known = rows & np.isin(table.row_subjects(), evidence.subjects.index.to_numpy(np.int64))
    if not known.any():
        return
    seen = np.unique(table.row_subjects()[known])
    undated = len(np.unique(table.row_subjects()[known & (table.time_us == STATIC)]))
    what = (
        f"{DEATH} of {len(seen):,} patients is no later than time zero ({undated:,} of them "
        f"without a date), e.g. subject {seen[0]}: a model is told who dies"
    )
    remedy = "date deaths, check index_time, and drop patients who died before it"
    many = len(seen) >= _MANY_DEAD * len(evidence.subjects)
    note = evidence.report.error if many else evidence.report.warn
    note(modality.path, f"code {DEATH}", what, remedy)


def _same_day(evidence: Evidence, task: TaskData, table: EventTable, usable: Bools) -> Ints:
    """(codes,) patients with the event who have the code on its day, at or before time zero."""
    if task.time_days is None or task.event is None:
        return np.zeros(len(table.codes), np.int64)
    index = evidence.index_of(task.subject_ids)
    chosen = task.event & (index != STATIC) & (task.time_days < 1)
    day = (index[chosen] + (task.time_days[chosen] * DAY_US).astype(np.int64)) // DAY_US
    days = pd.Series(day, task.subject_ids[chosen])
    owner = table.row_subjects()
    rows = usable & (table.time_us != STATIC) & np.isin(owner, days.index.to_numpy(np.int64))
    at = np.flatnonzero(rows)
    at = at[table.time_us[at] // DAY_US == days.reindex(owner[at]).to_numpy(np.int64)]
    width = len(table.codes)
    pairs = np.unique(np.searchsorted(table.subject_ids, owner[at]) * width + table.code_index[at])
    return np.bincount(pairs % width, minlength=width)


def _exclusive(
    task: TaskData,
    title: str,
    having: Bools,
    known: Bools,
    table: EventTable,
    carriers: _Carriers,
    same_day: Ints,
) -> list[tuple[bool, str]]:
    """Severity and words of codes that one side alone has, of patients with a record."""
    sides = [task.subject_ids[known & having], task.subject_ids[known & ~having]]
    if min(map(len, sides)) < _LEAST:
        return []
    counts = [carriers.count(side, len(table.codes)) for side in sides]
    told: list[tuple[bool, str]] = []
    for one, other, words in (
        (0, 1, (f"with {title}", "without")),
        (1, 0, (f"without {title}", "with")),
    ):
        p = _holm_fisher(counts[one], counts[other], len(sides[one]), len(sides[other]))
        enough = counts[one] >= max(_LEAST, _SHARE * len(sides[one]))
        alone = enough & (counts[other] == 0) & (p < _ALPHA)
        dated = alone & (one == 0) & (same_day >= max(_LEAST, _SHARE * len(sides[0])))
        for severe, which in ((True, dated), (False, alone & ~dated)):
            codes = np.flatnonzero(which)
            if not len(codes):
                continue
            codes = codes[np.argsort(p[codes], kind="stable")]
            shown = "; ".join(
                f"code {table.codes[c]}: in {counts[one][c]} of {len(sides[one])} {words[0]}, in "
                f"0 of {len(sides[other])} {words[1]}"
                + (f", on its very day in {same_day[c]}" if severe else f" (p {p[c]:.1g})")
                for c in codes[:3]
            )
            number = f"{len(codes)} code{'s' if len(codes) != 1 else ''}"
            more = ", …" if len(codes) > 3 else ""
            together = f"{number} no later than time zero on one side only: {shown}{more}"
            told.append((severe, together))
    return told


def _holm_fisher(one: Ints, other: Ints, n_one: int, n_other: int) -> Floats:
    """(codes,) one-sided Fisher p that `one` has the code more often, Holm-adjusted; 1 if rare."""
    from analysis.survival.comparison import holm  # brings slow libraries along

    p = np.ones(len(one))
    tested = one + other >= _LEAST
    raw = hypergeom.sf(one - 1, n_one + n_other, n_one, one + other)[tested]
    if len(raw):
        p[tested] = holm(np.asarray(raw, np.float64))
    return p


def check_leaking_columns(evidence: Evidence) -> None:
    """Note table columns, or the gaps in them, that tell the outcome all alone (a warning).

    Of 20 patients or more with a value, 5 or more on either side: the area under the ROC curve
    for the event (each class against the rest) is 0.98 or more, in either direction, or Harrell's
    C for the times 0.95 or more. No single measurement of a patient is that good; outcomes and
    what is filled in because of them are. A nominal column counts category by category.
    """
    for modality, frame in evidence.tables():
        for name, column in modality.columns.items():
            if name not in frame:
                continue
            scores = _scores(frame[name], column)
            for task in evidence.tasks:
                rows = frame.index.isin(task.subject_ids)
                told = _telling(task, {k: v[rows] for k, v in scores.items()}, frame.index[rows])
                if told:
                    remedy = "drop it if it is written because of the outcome"
                    where = f"column {name}, task {task.name}"
                    evidence.report.warn(modality.path, where, told, remedy)


def _scores(series: pd.Series[float], column: Column) -> dict[str, Floats]:
    """What a column says of each row, as numbers to rank by; NaN where it says nothing."""
    gaps: Floats = np.asarray(series.isna(), np.float64)
    scores: dict[str, Floats] = {}
    if column.kind == "nominal":
        there = series.map(str, na_action="ignore")
        for category in column.categories:
            same = (there == category).astype("float64").where(series.notna())
            scores[f"category {category}"] = np.asarray(same, np.float64)
    else:
        values = np.asarray(pd.to_numeric(series, errors="coerce"), np.float64)
        scores["its value"] = np.where(np.isfinite(values), values, np.nan)
    return {**scores, "whether it is missing": gaps}


def _telling(task: TaskData, scores: dict[str, Floats], index: pd.Index[int]) -> str:
    """In words, the first score that separates the task's outcome; empty where none does."""
    order = pd.Series(np.arange(len(task.subject_ids)), task.subject_ids)
    at = order.reindex(index).to_numpy(np.int64)
    for said, score in scores.items():
        there = np.isfinite(score)
        if there.sum() < _ENOUGH or len(np.unique(score[there])) < 2:
            continue
        for title, having in task.groups():
            hit = having[at[there]]
            if min(hit.sum(), (~hit).sum()) < _LEAST:
                continue
            area = auc(hit, score[there])
            if max(area, 1 - area) >= _AUC:
                return (
                    f"{said} alone separates the {hit.sum()} patients with {title} from the "
                    f"{(~hit).sum()} without (AUROC {max(area, 1 - area):.3f})"
                )
        if task.time_days is None or task.event is None or said == "whether it is missing":
            continue
        c = _concordance(task.time_days[at[there]], task.event[at[there]], score[there])
        if max(c, 1 - c) >= _C:
            return (
                f"{said} alone puts the times of {there.sum()} patients in order "
                f"(Harrell's C {max(c, 1 - c):.3f})"
            )
    return ""


def _concordance(time: Floats, event: Bools, score: npt.NDArray[np.float64]) -> float:
    from analysis.survival.concordance import harrell_c  # brings slow libraries along
    from analysis.survival.data import SurvivalData

    if event.sum() < _LEAST:
        return 0.5
    c = harrell_c(SurvivalData(time, event), score)
    return c if np.isfinite(c) else 0.5
