"""Shares and what carries them in words: signs, colours, values with units, time before.

A colour says what a share means for the patient: red is worse, blue is better, and brown and teal
where neither is (a class logit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.attribution.parts import DEMOGRAPHICS
from analysis.cohort.readers.echo_header import VIEW_TITLES
from app import theme
from app.figures.text import MISSING, count, minus, number, plain, signed

BETTER, WORSE = theme.GROUP_COLOURS[2]
_LESS, _MORE = theme.DIVERGING[0][1], theme.DIVERGING[-1][1]


@dataclass(frozen=True)
class Direction:
    """What a positive and a negative share mean, in colours and words, and how they are written.

    percent: the explained number is a probability; shares are written in percentage points.
    """

    raising: str
    lowering: str
    raises: str
    lowers: str
    percent: bool = False
    hazard: bool = False

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> Direction:
        """From a result's `target` (title, unit, worse_is_higher)."""
        percent = target.get("unit") == "probability"
        hazard = target.get("unit") == "log hazard ratio"
        worse = target.get("worse_is_higher")
        if worse is None:
            title = str(target.get("title", "the number"))
            return cls(_MORE, _LESS, f"raises the {title}", f"lowers the {title}", percent)
        if worse:
            return cls(WORSE, BETTER, "raises the risk", "lowers the risk", percent, hazard)
        return cls(BETTER, WORSE, "raises survival", "lowers survival", percent, hazard)

    def colour(self, share: float) -> str:
        """Of a share; grey for none."""
        if not share:
            return theme.FAINT
        return self.raising if share > 0 else self.lowering

    def words(self, share: float) -> str:
        """'raises the risk', 'lowers the risk', 'no share'."""
        if not share:
            return "no share"
        return self.raises if share > 0 else self.lowers

    def share(self, value: float | None) -> str:
        """'+0.31', or '+4.2 points' of a probability."""
        if self.percent:
            text = signed(None if value is None else 100 * value)
            return text if text == MISSING else f"{text} points"
        return _fine(value)

    def level(self, value: float) -> str:
        """The explained number itself: '−0.42', or '81.3%'."""
        return f"{number(100 * value, 1)}%" if self.percent else number(value, 2)

    def legend(self) -> str:
        """Two coloured squares with their meaning, as Plotly text."""
        worse_first = sorted(
            [(self.raising, self.raises), (self.lowering, self.lowers)],
            key=lambda pair: pair[0] not in (WORSE, _MORE),
        )
        note = {WORSE: " (worse)", BETTER: " (better)"}
        return "&nbsp;&nbsp;&nbsp;".join(
            f'<span style="color:{colour}">■</span> {plain(words)}{note.get(colour, "")}'
            for colour, words in worse_first
        )


def _fine(value: float | None) -> str:
    """Two digits, or three where two would round a share to nothing."""
    if value is None or abs(value) >= 0.01 or not value:
        return signed(value, 2)
    return signed(value, 3) if abs(value) >= 0.0005 else minus(f"{value:+.0e}")


def part_title(part: Mapping[str, Any]) -> str:
    """A part in a few words: its description, or whatever names it."""
    for column in ("description", "title", "name", "code", "instance", "lead", "view"):
        value = part.get(column)
        if value is not None and str(value).strip():
            return VIEW_TITLES.get(str(value), str(value)) if column == "view" else str(value)
    return "unnamed"


def short_title(part: Mapping[str, Any]) -> str:
    """Its title as a label: a measurement's name without specimen and method (LOINC's brackets)."""
    title = part_title(part)
    return title.split(" [")[0] if value_text(part.get("value")) else title


def part_note(part: Mapping[str, Any]) -> str:
    """Its value with the unit and how long before the index time: '7.3 g/dL, 12 days before'.

    What has held since birth is not dated; a birth says the age.
    """
    if part.get("group") == DEMOGRAPHICS:
        old = part.get("days_before") if part.get("code") == "MEDS_BIRTH" else None
        return "" if old is None or pd.isna(old) else f"{float(old) / 365.25:.1f} years old"
    words = [value_text(part.get("value"), part.get("unit")), ago(part.get("days_before"))]
    return ", ".join(word for word in words if word)


_UNITS = {
    "Cel": "°C",
    "mm[Hg]": "mmHg",
    "m[IU]/L": "mIU/L",
    "[pH]": "",
    "{INR}": "INR",
    "ug/dL": "µg/dL",
    "10*3/uL": "10³/µL",
    "10*6/uL": "10⁶/µL",
    "mL/min/{1.73_m2}": "mL/min/1.73 m²",
    "ng/mL{DDU}": "ng/mL DDU",
    "ug/mL{FEU}": "µg/mL FEU",
    "kg/m2": "kg/m²",
}


def value_text(value: Any, unit: Any = "") -> str:
    """'7.3 g/dL'; empty when there is no value. Units in UCUM are written as on a lab report."""
    if value is None or pd.isna(value):
        return ""
    text = value if isinstance(value, str) else minus(f"{float(value):.4g}")
    if not isinstance(value, str) and 1e4 <= abs(float(value)) < 1e7:
        text = minus(f"{float(value):,.0f}")
    written = "" if unit is None or (not isinstance(unit, str) and pd.isna(unit)) else str(unit)
    return f"{text} {_UNITS.get(written, written)}".strip()


def ago(days_before: Any) -> str:
    """'12 days before', '6 hours before', '3.1 years before'; empty for facts without a date."""
    if days_before is None or pd.isna(days_before):
        return ""
    day = float(days_before)
    if day < 1 / 24:
        return "within the last hour"
    if day < 2:
        return f"{count(round(day * 24), 'hour')} before"
    if day < 365:
        return f"{count(round(day), 'day')} before"
    return f"{day / 365.25:.1f} years before"
