"""Shares of events gathered by what a reader thinks in: codes, visits, kinds of code, parents.

Shapley shares add, so a group's share is the sum of its events' and nothing is lost or made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.case import AttributionError
from analysis.attribution.code_words import code_words
from analysis.attribution.parts import DEMOGRAPHICS
from analysis.attribution.result import Attribution
from analysis.cohort.readers.events import Code
from models.contracts import Kind

By = Literal["code", "visit", "group", "parent"]
GROUPINGS: tuple[By, ...] = ("code", "visit", "group", "parent")
NO_PARENT = "no parent recorded"
NO_DATE = "no date"
GAP_HOURS = 24.0
# Codes that open and end a stay, by their prefix (MEDS's transform of MIMIC-IV).
STAYS = {
    "HOSPITAL_ADMISSION": "HOSPITAL_DISCHARGE",
    "ED_REGISTRATION": "ED_OUT",
    "ICU_ADMISSION": "ICU_DISCHARGE",
}
OPENS = ("VISIT", "ENCOUNTER", "HOSPITAL_ADMISSION", "ED_REGISTRATION")


@dataclass(frozen=True, eq=False)
class GroupedShares:
    """groups: (G rows) key, title, events (their number), first, last (datetime or NaT), largest
    |sum of shares| over the outputs first. values: (G, T) sums of the events' shares. member:
    (P,) row of `groups` that each event belongs to. rule: how the groups were made, for a caption.
    """

    groups: pd.DataFrame
    values: npt.NDArray[np.float64]
    member: npt.NDArray[np.int64]
    rule: str

    def table(self) -> pd.DataFrame:
        """Groups with their share. Needs T = 1."""
        return self.groups.assign(share=self.values[:, 0])


def grouped(
    attribution: Attribution, by: By, codes: Mapping[str, Code] | None = None
) -> GroupedShares:
    """Sums of event shares by 'code', 'visit', 'group' (kind of code) or 'parent'.

    codes: the cohort's (`Cohort.codes`), for 'parent': the first parent that codes.parquet gives,
    by its description. A visit: see `visits`. Raises AttributionError when the attribution is
    not of events or `by` is unknown.
    """
    parts = attribution.parts
    if attribution.kind != "events" or "code" not in parts:
        raise AttributionError(
            f"only events are grouped by {by}; the parts of '{attribution.modality}' are not."
        )
    if by == "code":
        keys, titles = parts["code"], parts["description"]
        rule = "events of the same code"
    elif by == "group":
        keys = titles = parts["group"]
        rule = "events by kind of code"
    elif by == "parent":
        keys, titles = _parents(parts, codes or {})
        rule = "events by the first parent code that the cohort's codes.parquet gives"
    elif by == "visit":
        keys, titles = visits(parts)
        rule = VISIT_RULE
    else:
        raise AttributionError(
            f"there is no grouping '{by}'; choose one of {', '.join(GROUPINGS)}."
        )
    return _sums(attribution, keys, titles, rule)


def _sums(
    attribution: Attribution, keys: pd.Series[str], titles: pd.Series[str], rule: str
) -> GroupedShares:
    member, names = pd.factorize(keys)
    values = np.zeros((len(names), attribution.values.shape[1]))
    np.add.at(values, member, attribution.values)
    time = attribution.parts["time"].groupby(member)
    groups = pd.DataFrame(
        {
            "key": names,
            "title": titles.groupby(member).first().to_numpy(),
            "events": np.bincount(member, minlength=len(names)),
            "first": time.min().to_numpy(),
            "last": time.max().to_numpy(),
        }
    )
    order = np.argsort(-np.abs(values).max(axis=1), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return GroupedShares(
        groups.iloc[order].reset_index(drop=True), values[order], place[member], rule
    )


def _parents(
    parts: pd.DataFrame, codes: Mapping[str, Code]
) -> tuple[pd.Series[str], pd.Series[str]]:
    first = {c: codes[c].parents[0] for c in parts["code"].unique() if _has_parent(c, codes)}
    keys = parts["code"].map(first).fillna("")
    named = {
        p: (codes[p].description if p in codes else "") or code_words(p) for p in first.values()
    }
    return keys, keys.map({**named, "": NO_PARENT})


def _has_parent(code: str, codes: Mapping[str, Code]) -> bool:
    return code in codes and bool(codes[code].parents)


VISIT_RULE = (
    "an event belongs to the stay that was open at its time (admission to discharge), else to "
    "the last visit code before it, if no pause of more than 24 hours came between; without one, "
    "events less than 24 hours apart belong together; birth and demographics are apart"
)


def visits(parts: pd.DataFrame) -> tuple[pd.Series[str], pd.Series[str]]:
    """Key and title of the visit that each event belongs to; parts in the order of time.

    Where codes state ends (HOSPITAL_ADMISSION ... HOSPITAL_DISCHARGE, likewise ED and ICU), the
    span is a visit, the widest one that is open. Otherwise a code that opens a visit
    (Visit/IP, Encounter/...) starts one, as does a pause of more than 24 hours. Facts without a
    date and demographics (birth is dated decades before) have groups of their own.
    """
    times = parts["time"].to_numpy("datetime64[us]")
    prefix = parts["code"].str.split("/").str[0].str.upper().to_numpy()
    apart = (parts["group"] == DEMOGRAPHICS).to_numpy()
    keys = np.full(len(parts), "", object)
    titles = np.full(len(parts), "", object)
    dated = ~np.isnat(times) & ~apart
    for mask, name in ((apart, DEMOGRAPHICS), (np.isnat(times) & ~apart, NO_DATE)):
        keys[mask], titles[mask] = name, name
    spans = _spans(times, prefix, dated)
    pause = np.timedelta64(int(GAP_HOURS * 3600), "s")
    start = last = None
    name = ""
    for i in np.flatnonzero(dated):
        stay = next(((a, b, j) for a, b, j in spans if a <= times[i] <= b), None)
        if stay is not None:
            # What follows a discharge is no longer in hospital.
            keys[i], titles[i] = f"stay {stay[0]}", _title(parts, stay[2], stay[0])
            start = None
            continue
        opens = prefix[i] in OPENS
        if start is None or opens or times[i] - last > pause:
            start, name = i, _title(parts, int(i) if opens else None, times[i])
        keys[i], titles[i] = f"visit {start}", name
        last = times[i]
    return pd.Series(keys, parts.index), pd.Series(titles, parts.index)


def _spans(
    times: npt.NDArray[np.datetime64],
    prefix: npt.NDArray[np.object_],
    dated: npt.NDArray[np.bool_],
) -> list[tuple[np.datetime64, np.datetime64, int]]:
    """Start, end and opening event of stays whose end is recorded, the longest first."""
    found = []
    for opening, closing in STAYS.items():
        ends = np.flatnonzero(dated & (prefix == closing))
        starts = np.flatnonzero(dated & (prefix == opening))
        for n, i in enumerate(starts):
            until = starts[n + 1] if n + 1 < len(starts) else len(prefix)
            after = ends[(ends > i) & (ends < until)]
            if len(after):
                found.append((times[i], times[after[0]], int(i)))
    return sorted(found, key=lambda span: span[0] - span[1])


def _title(parts: pd.DataFrame, opener: int | None, time: np.datetime64) -> str:
    day = pd.Timestamp(time).strftime("%Y-%m-%d")
    return day if opener is None else f"{parts['description'].iloc[opener]}, {day}"


def by_column(found: Attribution) -> Attribution:
    """Shares of told words added up by the column that their sentence speaks of.

    The result is what a table of these columns would give: parts name, title, value, unit.
    Raises AttributionError for anything but a text.
    """
    if found.kind != Kind.TEXT:
        raise AttributionError(f"'{found.modality}' is {found.kind}, not a told table.")
    sentence = found.parts["sentence"].to_numpy(np.int64)
    order, member = np.unique(sentence, return_inverse=True)
    values = np.zeros((len(order), found.values.shape[1]))
    np.add.at(values, member, found.values)
    first = [int(np.flatnonzero(sentence == column)[0]) for column in order]
    parts = found.parts.iloc[first][["name", "title", "value", "unit"]].reset_index(drop=True)
    # The halves differ word by word; what their sums differ by is not kept.
    return replace(found, kind=str(Kind.TABLE), parts=parts, values=values, spread=None)
