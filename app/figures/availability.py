"""Who has what: an upset plot with the outcome of each pattern; results of `availability`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.dot_rows import DotRows
from app.figures.text import count, interval, number, plain

Group = Mapping[str, Any]
SHOWN = 20


def upset(answer: Mapping[str, Any], group: Group) -> go.Figure:
    """Patterns as rows, most frequent first: dots, patients, and how often the outcome happened.

    Above each column: patients who have the modality. Beyond 20 patterns the rest are in the data.
    """
    patterns = group["patterns"][:SHOWN]
    drawn = DotRows(
        [p["modalities"] for p in patterns],
        answer["modalities"],
        marginals=group["marginals"],
        words=("has it", "lacks it"),
    )
    sizes = [p["n"] for p in patterns]
    rated = group["rate"] is not None
    bars = drawn.panel(0.0, 0.34 if rated else 0.8, "Patients", [0, max(sizes)])
    drawn.figure.layout[bars.replace("x", "xaxis")].range = [0, max(sizes) * 1.02]
    share = [f"{n:,} ({n / group['n']:.0%})" for n in sizes]
    drawn.bars(bars, sizes, share, theme.ACCENT)
    if rated:
        _outcomes(drawn, answer["kind"], plain(answer["outcome"]), group)
    return drawn.finish(right=10)


def _outcomes(drawn: DotRows, kind: str, outcome: str, group: Group) -> None:
    patterns = group["patterns"][:SHOWN]
    percent = kind != "survival"
    scale = 100.0 if percent else 1.0
    found = [{k: _times(v, scale) for k, v in p["rate"].items()} for p in patterns]
    whole = _times(group["rate"]["value"], scale)
    title = f"Patients with {outcome} (%)" if percent else "Events per 100 patient-years"
    # The interval of a pattern of a handful of patients would dwarf all others; its point is shown.
    ends = [e for f, p in zip(found, patterns, strict=True) if p["n"] >= 10 for e in f.values()]
    known = [e for e in [*ends, *(f["value"] for f in found), whole] if e is not None]
    axis = drawn.panel(0.52, 0.8, title, [0, *known])
    if whole is not None:
        drawn.line(axis, whole)
    digits = 0 if percent else 1
    drawn.estimates(
        axis,
        found,
        theme.INK,
        [
            f"{count(p['events'], 'event')} of {p['n']:,}: {interval(f, 1)}"
            for p, f in zip(patterns, found, strict=True)
        ],
    )
    drawn.text(
        axis,
        [
            f"{p['events']:,} of {p['n']:,}: {number(f['value'], digits)}{'%' if percent else ''}"
            for p, f in zip(patterns, found, strict=True)
        ],
    )


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def frame(answer: Mapping[str, Any]) -> pd.DataFrame:
    """One row a split, site and pattern, in full precision."""
    rows = []
    for group in answer["groups"]:
        for pattern in group["patterns"]:
            rate = pattern["rate"] or dict.fromkeys(("value", "low", "high"))
            rows.append(
                {
                    "split": group["split"],
                    "site": group["site"],
                    **{f"has_{n}": n in pattern["modalities"] for n in answer["modalities"]},
                    "patients": pattern["n"],
                    "events": pattern["events"],
                    "rate": rate["value"],
                    "rate_low": rate["low"],
                    "rate_high": rate["high"],
                    "test": group["test"]["name"],
                    "test_p": group["test"]["p"],
                }
            )
    return pd.DataFrame(rows)
