"""The events of a record on a time axis, each as large and as coloured as its share.

Everything that a reader does but a click happens in the browser: pointing, zooming, hiding a kind
of code and changing the axis never ask the server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.attribution.parts import DEMOGRAPHICS, OTHER, VISIT, code_group
from analysis.attribution.result import Attribution
from app import theme
from app.figures.shares import Direction, ago, part_title, short_title, value_text
from app.figures.text import minus
from app.panels import static

_SCRIPT = static.text("picture.js", "event_timeline.js")
_STYLE = static.text("picture.css", "event_timeline.css")

BIRTH = "MEDS_BIRTH"
# Lanes from the top; the plural where a lane holds many of a kind.
GROUP_TITLES = {
    DEMOGRAPHICS: DEMOGRAPHICS,
    "Diagnosis": "Diagnoses",
    "Procedure": "Procedures",
    "Laboratory": "Laboratory",
    "Vital sign": "Vital signs",
    "Medication": "Medication",
    "Intake and output": "Intake and output",
    VISIT: "Visits",
    "Note": "Notes",
    "Death": "Death",
    OTHER: OTHER,
}
_ORDER = list(GROUP_TITLES.values())


def show(
    attribution: Attribution,
    *,
    key: str,
    selected: int | None = None,
    output: int = 0,
    index_title: str = "index time",
) -> int | None:
    """Draw the timeline; returns the row of `attribution.parts` that is selected, or None.

    selected: a row that was chosen elsewhere on the page; it counts when it changes, and a later
    click counts more. A selection ends when the shown data change. output: which of the T
    explained numbers. Needs parts with `days_before` (NaN: a fact without a date).
    """
    content = payload(attribution, output, index_title)
    clicked = st.session_state.get(key) or {}
    now, stamp = resolve(
        st.session_state.setdefault(f"{key}-chosen", {}),
        clicked.get("picked"),
        content["hash"],
        selected,
    )
    component = st.components.v2.component(
        "fusionlens_event_timeline", html='<div class="timeline"></div>', css=_STYLE, js=_SCRIPT
    )
    data = {"key": key, "content": content, "selected": now, "stamp": stamp}
    component(key=key, data=data, on_picked_change=_nothing)
    return now


def resolve(
    memory: dict[str, Any], clicked: Mapping[str, Any] | None, digest: str, given: Any
) -> tuple[Any, float]:
    """What is selected now, and the stamp of the last click that was seen.

    Of a click and a choice made elsewhere the newer counts. clicked: {hash, stamp, value}.
    memory: kept between the runs of a page; changed here.
    """
    stamp = float(clicked["stamp"]) if clicked else 0.0
    if memory.get("hash") != digest:
        memory.update(hash=digest, given=given, now=given, stamp=memory.get("stamp", 0.0))
    fresh = stamp > memory.get("stamp", 0.0)
    if fresh and clicked is not None and clicked["hash"] == digest:
        memory["now"] = clicked["value"]
    elif given != memory["given"]:
        memory["now"] = given
    memory.update(given=given, stamp=max(stamp, memory["stamp"]))
    return memory["now"], memory["stamp"]


def payload(
    attribution: Attribution, output: int = 0, index_title: str = "index time"
) -> dict[str, Any]:
    """All that the browser needs, numbers already written as text; `hash` names the content."""
    parts = attribution.parts
    direction = Direction.of(attribution.target)
    shares = attribution.values[:, output].astype(np.float64)
    groups = group_titles(parts)
    lanes = sorted(set(groups), key=lambda g: (_ORDER.index(g) if g in _ORDER else 99, g))
    where = np.asarray([lanes.index(group) for group in groups], int)
    scale = 100 if direction.percent else 1
    spreads = attribution.spread if output == 0 else None
    content: dict[str, Any] = {
        "index": index_title,
        "words": [direction.raises, direction.lowers],
        "colours": [direction.raising, direction.lowering, theme.OTHER_GREY],
        "limit": float(np.abs(shares).max(initial=0.0)),
        "limitText": direction.share(float(np.abs(shares).max(initial=0.0))).lstrip("+"),
        "title": f"Shares of {attribution.target.get('title', 'the prediction')}",
        "lanes": [
            {
                "title": lane,
                "count": int((where == i).sum()),
                "sum": direction.share(float(shares[where == i].sum())),
                "sign": int(np.sign(shares[where == i].sum())),
            }
            for i, lane in enumerate(lanes)
        ],
        "lane": where.tolist(),
        "days": _days(parts),
        "share": shares.tolist(),
        "name": [part_title(part) for _, part in parts.iterrows()],
        "label": [_label(part) for _, part in parts.iterrows()],
        "about": [
            _about(part, group) for (_, part), group in zip(parts.iterrows(), groups, strict=True)
        ],
        "value": [_value(part) for _, part in parts.iterrows()],
        "when": [_when(part) for _, part in parts.iterrows()],
        "shareText": [f"{direction.share(share)} {direction.words(share)}" for share in shares],
        "spreadText": [
            "" if spreads is None else f"± {_plain(float(scale * spread))}"
            for spread in (shares if spreads is None else spreads)
        ],
    }
    text = json.dumps(content, sort_keys=True)
    return {"hash": hashlib.sha256(text.encode()).hexdigest()[:24], **content}


def group_titles(parts: pd.DataFrame) -> list[str]:
    """The kind of each event's code, in words; a kind that is not known keeps its own name."""
    groups = parts["group"] if "group" in parts else parts["code"].map(code_group)
    return [GROUP_TITLES.get(group, group) for group in groups.fillna(OTHER).astype(str)]


def _days(parts: pd.DataFrame) -> list[float | None]:
    """Days before the index time; None for facts: without a date, or recorded with the birth."""
    days = parts["days_before"].to_numpy(np.float64)
    born = days[(parts["code"] == BIRTH).to_numpy()]
    fact = ~np.isfinite(days) | np.isin(days, born[np.isfinite(born)])
    return [
        None if static else max(float(day), 0.0) for day, static in zip(days, fact, strict=True)
    ]


def _value(part: Mapping[str, Any]) -> str:
    """The value with its unit, or the words that were recorded in its place."""
    text = part.get("text")
    return value_text(part.get("value"), part.get("unit")) or (
        "" if text is None or pd.isna(text) else str(text)
    )


def _label(part: Mapping[str, Any]) -> str:
    return f"{short_title(part)} {value_text(part.get('value'), part.get('unit'))}".strip()


def _time(part: Mapping[str, Any]) -> Any:
    time = part.get("time")
    return part.get("date") if time is None else time


def _when(part: Mapping[str, Any]) -> str:
    time = _time(part)
    if time is None or pd.isna(time):
        return "no date"
    return f"{pd.Timestamp(time):%-d %b %Y, %H:%M} ({ago(part.get('days_before'))})"


def _about(part: Mapping[str, Any], group: str) -> str:
    return f"{part.get('code', '')} · {group}"


def _plain(value: float) -> str:
    return minus(f"{value:.1f}" if value >= 1 else f"{value:.2g}")


def tables(
    attribution: Attribution, n: int = 8, output: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The `n` events that raise the explained number most, and the `n` that lower it most.

    Columns: description, value (as text with digits of a lab report), unit, date, share, and
    spread where the estimate has one. The index is the row of `attribution.parts`.
    """
    parts = attribution.parts
    table = pd.DataFrame(
        {
            "description": [part_title(part) for _, part in parts.iterrows()],
            "value": [_value({**part, "unit": ""}) for _, part in parts.iterrows()],
            "unit": [_unit(part) for _, part in parts.iterrows()],
            "date": pd.to_datetime([_time(part) for _, part in parts.iterrows()]),
            "share": attribution.values[:, output],
        }
    )
    if attribution.spread is not None and output == 0:
        table["spread"] = attribution.spread
    largest = table.sort_values("share", ascending=False, kind="stable")
    raising = largest[largest["share"] > 0].head(n)
    lowering = largest[largest["share"] < 0].iloc[::-1].head(n)
    return raising, lowering


def _unit(part: Mapping[str, Any]) -> str:
    with_unit = value_text(part.get("value"), part.get("unit"))
    return with_unit[len(value_text(part.get("value"))) :].strip()


def _nothing() -> None:
    """Streamlit tells a component's state only to those who give a callback."""
