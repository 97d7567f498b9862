"""Bedside scores of acute pulmonary embolism, counted from a cohort's events.

PESI: Aujesky et al., Am J Respir Crit Care Med 2005; 172:1041. Age in years plus points for ten
items; classes I (up to 65), II (86), III (106), IV (126) and V. Simplified PESI: Jiménez et al.,
Arch Intern Med 2010; 170:1383. One point an item; 0 is low risk.

A history item is present where a code of it stands in the record up to the index time, and absent
otherwise: what nobody coded scores nothing, as at the bedside. A vital sign is the latest value of
the last hours before the index time; where there is none, the patient has no score, unless told
to assume it normal. Who has no record at all has no score either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.clinical_codes import HISTORY, VITALS, History, Vital, diagnosis, matches
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.events import STATIC, EventTable
from analysis.cohort.schema import CohortError, Split
from models.contracts import Kind

VITALS_DAYS = 1.0
_DAY_US = 86_400_000_000
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Item:
    """One line of a score. of: what it looks at; below, from_: the threshold of a vital sign."""

    name: str
    title: str
    points: int
    of: str
    below: float | None = None
    from_: float | None = None


@dataclass(frozen=True)
class Score:
    """A score as published.

    age: 'years' adds completed years, 'over 80' a point. bounds: highest points of each class but
    the last.
    """

    name: str
    title: str
    citation: str
    age: str
    items: tuple[Item, ...]
    bounds: tuple[int, ...]
    classes: tuple[str, ...]


PESI = Score(
    "pesi",
    "PESI",
    "Aujesky et al. 2005",
    "years",
    (
        Item("male", "Male sex", 10, "sex"),
        Item("cancer", "Cancer", 30, "cancer"),
        Item("heart_failure", "Heart failure", 10, "heart_failure"),
        Item("chronic_lung", "Chronic lung disease", 10, "chronic_lung"),
        Item("pulse", "Pulse 110/min or more", 20, "heart_rate", from_=110),
        Item("systolic", "Systolic pressure below 100 mm Hg", 30, "sbp", below=100),
        Item("breathing", "Respiratory rate 30/min or more", 20, "respiratory_rate", from_=30),
        Item("temperature", "Temperature below 36 °C", 20, "temperature", below=36),
        Item("mental", "Altered mental status", 60, "altered_mental_status"),
        Item("saturation", "Oxygen saturation below 90 %", 20, "spo2", below=90),
    ),
    (65, 85, 105, 125),
    ("I", "II", "III", "IV", "V"),
)
SPESI = Score(
    "spesi",
    "Simplified PESI",
    "Jiménez et al. 2010",
    "over 80",
    (
        Item("cancer", "Cancer", 1, "cancer"),
        Item("cardiopulmonary", "Chronic cardiopulmonary disease", 1, "cardiopulmonary"),
        Item("pulse", "Pulse 110/min or more", 1, "heart_rate", from_=110),
        Item("systolic", "Systolic pressure below 100 mm Hg", 1, "sbp", below=100),
        Item("saturation", "Oxygen saturation below 90 %", 1, "spo2", below=90),
    ),
    (0,),
    ("low", "high"),
)
SCORES: Mapping[str, Score] = {score.name: score for score in (PESI, SPESI)}


@dataclass(frozen=True)
class Scored:
    """A score of every patient of a cohort.

    points: by subject_id, one column an item and 'age', missing where it is not known. total:
    their sum, missing where an item is. group: the class, or None. report: counts as plain JSON.
    """

    score: Score
    points: pd.DataFrame
    total: pd.Series[float]
    group: pd.Series[str]
    report: Mapping[str, Any]

    def table(self) -> pd.DataFrame:
        """Those who have a score, ready to import: subject_id, risk, class, points an item."""
        known = self.total.notna()
        frame = self.points[known].add_prefix("points_").astype("int64")
        frame.insert(0, "class", self.group[known])
        frame.insert(0, "risk", self.total[known].astype("int64"))
        return frame.reset_index()


def clinical_score(
    cohort: Cohort,
    name: str,
    *,
    vitals_days: float | None = VITALS_DAYS,
    assume_normal: bool = False,
) -> Scored:
    """A score for all patients of a cohort.

    vitals_days: how old a vital sign may be at the index time; None: any age. Raises CohortError
    for an unknown score, a cohort without events, or one that has none of the codes of an item.
    """
    if name not in SCORES:
        raise CohortError(f"there is no score '{name}'; choose one of {', '.join(SCORES)}.")
    score = SCORES[name]
    record = _Record(cohort, vitals_days)
    points = pd.DataFrame(index=cohort.subjects.index)
    points["age"] = _age_points(score, cohort)
    measured = {item.of for item in score.items if item.of in VITALS}
    notes: list[str] = []
    for item in score.items:
        points[item.name] = _points(item, record, notes)
    lacking = points.isna()
    if assume_normal:
        vital = [item.name for item in score.items if item.of in measured]
        for column in vital:
            points[column] = points[column].where(~(points[column].isna() & record.there), 0.0)
    total = points.sum(axis=1, skipna=False).where(record.there)
    at = np.searchsorted(np.asarray(score.bounds), total.fillna(0).to_numpy())
    group = pd.Series(np.asarray(score.classes, object)[at], index=total.index).where(
        total.notna(), None
    )
    report = _report(score, cohort, record, lacking, total, group, assume_normal, notes)
    return Scored(score, points, total, group, report)


# ---------------------------------------------------------------- what the record says


class _Record:
    """All events of a cohort up to the index time. there: (S,) who has any, by subject."""

    def __init__(self, cohort: Cohort, vitals_days: float | None) -> None:
        names = [n for n, spec in cohort.spec.modalities.items() if spec.kind is Kind.EVENTS]
        if not names:
            raise CohortError(
                f"cohort '{cohort.spec.name}' has no events, from which the score is counted; it "
                f"has {', '.join(cohort.spec.modalities)}."
            )
        self.cohort, self.vitals_days = cohort, vitals_days
        self.index = cohort.subjects.index
        self.tables = [(cohort.events(n), cohort.usable_events(n)) for n in names]
        self.there = np.zeros(len(self.index), bool)
        for table, usable in self.tables:
            self.there |= self.index.isin(table.row_subjects()[usable])

    def has(self, history: History, *, acute: bool) -> Bools:
        """(S,) whether a code of it stands in the record; acute: within the vital signs' window."""
        found = np.zeros(len(self.index), bool)
        for table, usable in self.tables:
            rows = usable & self._codes(table, history)[table.code_index]
            if acute:
                rows &= self._recent(table)
            found |= self.index.isin(table.row_subjects()[rows])
        return found

    def latest(self, vital: Vital) -> tuple[pd.Series[float], int, int]:
        """The last plausible value by subject, how many were converted, how many not plausible."""
        parts = []
        for table, usable in self.tables:
            named = np.array([matches(code, vital.codes) for code in table.codes], bool)
            rows = usable & named[table.code_index] & self._recent(table)
            rows &= ~np.isnan(table.value)
            parts.append(
                pd.DataFrame(
                    {
                        "subject_id": table.row_subjects()[rows],
                        "time": table.time_us[rows],
                        "value": table.value[rows].astype(np.float64),
                    }
                )
            )
        frame = pd.concat(parts).sort_values(["subject_id", "time"], kind="stable")
        value, converted = vital.in_unit(frame["value"].to_numpy(np.float64))
        plausible = (value >= vital.low) & (value <= vital.high)
        frame = frame.assign(value=value)[plausible]
        last = frame.groupby("subject_id")["value"].last().reindex(self.index)
        return last, int((converted & plausible).sum()), int((~plausible).sum())

    def _codes(self, table: EventTable, history: History) -> Bools:
        known = self.cohort.codes
        found = []
        for code in table.codes:
            broader = known[code].parents if code in known else ()
            found.append(any(diagnosis(name, history) for name in (code, *broader)))
        return np.array(found, bool)

    def _recent(self, table: EventTable) -> Bools:
        """(E,) rows with a time, not older than a vital sign may be."""
        dated = table.time_us != STATIC
        if self.vitals_days is None:
            return np.asarray(dated, bool)
        index_us = np.repeat(self.cohort.index_time_us(table.subject_ids), np.diff(table.starts))
        dated &= index_us != STATIC
        oldest = np.where(dated, index_us, 0) - int(self.vitals_days * _DAY_US)
        return np.asarray(dated & (table.time_us >= oldest), bool)


def _age_points(score: Score, cohort: Cohort) -> pd.Series[float]:
    """Completed years, or a point above 80 of them."""
    years = np.floor(cohort.subjects["age_years"].to_numpy(np.float64))
    if score.age != "years":
        years = np.where(np.isnan(years), np.nan, years > 80)
    return pd.Series(years, index=cohort.subjects.index)


def _points(item: Item, record: _Record, notes: list[str]) -> pd.Series[float]:
    index = record.index
    if item.of == "sex":
        sex = record.cohort.subjects["sex"].astype("string").str.upper().str[:1]
        known = sex.isin(["M", "F"]).fillna(False).to_numpy(bool)
        male = (sex == "M").fillna(False).to_numpy(bool)
        return pd.Series(np.where(known, item.points * male, np.nan), index=index)
    if item.of in HISTORY:
        history = HISTORY[item.of]
        there = record.has(history, acute=history.acute)
        return pd.Series(np.where(record.there, item.points * there, np.nan), index=index)
    value, converted, odd = record.latest(VITALS[item.of])
    if converted:
        notes.append(f"{item.title}: {converted:,} values in {VITALS[item.of].other} converted.")
    if odd:
        notes.append(f"{item.title}: {odd:,} values that cannot be are left out.")
    given = value.to_numpy(np.float64)
    hit = given < item.below if item.below is not None else given >= (item.from_ or 0)
    return pd.Series(np.where(np.isnan(given), np.nan, item.points * hit), index=index)


# ---------------------------------------------------------------- counts


def _report(
    score: Score,
    cohort: Cohort,
    record: _Record,
    lacking: pd.DataFrame,
    total: pd.Series[float],
    group: pd.Series[str],
    assume_normal: bool,
    notes: Sequence[str],
) -> dict[str, Any]:
    split = cohort.subjects["split"]
    present = [str(s) for s in Split if (split == str(s)).any()]
    titles = {"age": "Age", **{item.name: item.title for item in score.items}}
    if total.isna().all():
        worst = str(lacking[record.there].sum().idxmax())
        raise CohortError(
            f"cohort '{cohort.spec.name}': nobody has all items of {score.title}; most lack "
            f"'{titles[worst]}'. Use --assume-normal, a longer --vitals-days, or events that "
            "hold it."
        )
    return {
        "score": score.name,
        "title": score.title,
        "citation": score.citation,
        "cohort": cohort.spec.name,
        "fingerprint": cohort.fingerprint,
        "vitals_days": record.vitals_days,
        "assume_normal": assume_normal,
        "n": len(total),
        "scored": int(total.notna().sum()),
        "without_record": int((~record.there).sum()),
        "splits": {
            s: {
                "n": int((split == s).sum()),
                "scored": int(total[split == s].notna().sum()),
                "classes": {c: int((group[split == s] == c).sum()) for c in score.classes},
            }
            for s in present
        },
        "missing": {
            name: {"title": title, "n": int((lacking[name] & record.there).sum())}
            for name, title in titles.items()
        },
        "notes": list(notes),
    }
