"""What a run achieves, and says of a patient, when it is told less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.dot_rows import DotRows
from app.figures.text import (
    count,
    counted,
    interval,
    number,
    p_phrase,
    plain,
    signed,
    signed_interval,
)
from app.theme import RunStyle
from app.workspace import SIGNIFICANT

MEASURES = {"c_index": "Harrell's C", "auc": "AUC"}
_MANY = 4  # modalities; of more, a short list is offered


def short_list(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The whole, all but one, and each alone."""
    m = len(table["modalities"])
    return [e for e in reversed(table["combinations"]) if len(e["modalities"]) in (m, m - 1, 1)]


def is_long(table: Mapping[str, Any]) -> bool:
    """Whether the full list is long enough to offer the short one."""
    return len(table["modalities"]) >= _MANY


def combinations(
    table: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], style: RunStyle
) -> go.Figure:
    """A row a combination: what is told, its score with interval, and what is lost by it.

    entries: of `by_combination`'s table, in the order to draw them. The dashed line is the score
    with everything.
    """
    metric = table["metric"]
    losses = {frozenset(d["modalities"]): d for d in table["differences"]}
    drawn = DotRows([e["modalities"] for e in entries], table["modalities"], above=22)
    found = [e[metric] for e in entries]
    ends = [v for f in found for v in f.values() if v is not None] or [0.4, 1.0]
    axis = drawn.panel(0.0, 0.3, f"{MEASURES[metric]} (0.5 is chance)", ends)
    whole = table["combinations"][-1][metric]["value"]
    if whole is not None:
        drawn.line(axis, whole)
    hovers = [_hover(table, e, losses.get(frozenset(e["modalities"]))) for e in entries]
    drawn.estimates(axis, found, style.colour, hovers, symbol=style.symbol, name="score")
    drawn.text(axis, [interval(f, 2 if is_long(table) else 3) for f in found])
    gaps = [_points(losses.get(frozenset(e["modalities"]))) for e in entries]
    lost = [v for g in gaps if g is not None for v in g.values() if v is not None]
    second = drawn.panel(0.54, 0.73, f"Points of {MEASURES[metric]} lost", [0.0, *lost])
    drawn.line(second, 0.0, "solid")
    drawn.estimates(second, gaps, theme.INK, hovers, symbol="square", name="lost")
    drawn.text(
        second,
        [
            _lost(g, losses.get(frozenset(e["modalities"])))
            for g, e in zip(gaps, entries, strict=True)
        ],
    )
    drawn.head(axis, f"<b>{theme.split_title(table['split'])}</b>: {_who(table)}")
    return drawn.finish()


def _points(difference: Mapping[str, Any] | None) -> dict[str, float | None] | None:
    if difference is None:
        return None
    return {k: None if v is None else 100 * v for k, v in difference["difference"].items()}


def _lost(points: Mapping[str, float | None] | None, difference: Mapping[str, Any] | None) -> str:
    if points is None or difference is None:
        return "everything is told"
    p = difference["p_holm"]
    star = " *" if p is not None and p < SIGNIFICANT else ""
    return f"{signed_interval(points)}{star}"


def _hover(
    table: Mapping[str, Any], entry: Mapping[str, Any], difference: Mapping[str, Any] | None
) -> str:
    told = " + ".join(plain(table["modalities"][n]) for n in entry["modalities"])
    lines = [told, interval(entry[table["metric"]])]
    if difference is not None and difference["p_holm"] is not None:
        lines.append(f"against everything: Holm {p_phrase(difference['p_holm'])}")
    if entry["untold"]:
        lines.append(f"{count(entry['untold'], 'patient')} have none of it")
    return "<br>".join(lines)


def _who(table: Mapping[str, Any]) -> str:
    positive = plain(table["classes"][1]) if table["metric"] == "auc" else ""
    return counted(table["n"], table["events"], positive)


# ---------------------------------------------------------------- by nature and by force


def natural(
    answer: Mapping[str, Any], titles: Mapping[str, str], style: RunStyle, positive: str = ""
) -> go.Figure:
    """A row a pattern that occurs: the score of those who came so, and of those made so.

    positive: the class that is counted, for a class task.
    """
    metric, patterns = answer["metric"], answer["patterns"]
    drawn = DotRows(
        [p["modalities"] for p in patterns], titles, above=22, words=("has it", "lacks it")
    )
    own = [p["natural"][metric] for p in patterns]
    forced = [p["forced"][metric] if p["forced"] else None for p in patterns]
    ends = [v for f in [*own, *forced] if f is not None for v in f.values() if v is not None]
    axis = drawn.panel(0.0, 0.36, f"{MEASURES[metric]} (0.5 is chance)", ends or [0.4, 1.0])
    lines = [
        [_group(p[which], metric, plain(positive)) for which in ("natural", "forced") if p[which]]
        for p in patterns
    ]
    drawn.estimates(
        axis,
        own,
        style.colour,
        [f"came so<br>{line[0]}" for line in lines],
        symbol=style.symbol,
        shift=-0.17,
        name="came so",
    )
    drawn.estimates(
        axis,
        forced,
        theme.MUTED,
        [f"the rest hidden<br>{line[-1]}" for line in lines],
        shift=0.17,
        name="the rest hidden",
        hollow=True,
    )
    muted = f'<span style="color:{theme.MUTED}">'
    drawn.text(
        axis, ["<br>".join([line[0], *(f"{muted}{x}</span>" for x in line[1:])]) for line in lines]
    )
    mark = {"circle": "●", "diamond": "◆"}.get(style.symbol, "■")
    key = (
        f'<span style="color:{style.colour}">{mark}</span> patients who came so&nbsp;&nbsp;&nbsp;'
        f'<span style="color:{theme.MUTED}">○</span> complete patients, the rest hidden'
    )
    drawn.head(axis, key)
    return drawn.finish(row=46)


def _group(group: Mapping[str, Any], metric: str, positive: str) -> str:
    score = interval(group[metric], 2) if group[metric]["value"] is not None else "no score"
    return f"{score}; {counted(group['n'], group['events'], positive)}"


def natural_frame(answer: Mapping[str, Any], titles: Mapping[str, str]) -> pd.DataFrame:
    """One row a pattern, in full precision."""
    metric = answer["metric"]
    rows = []
    for pattern in answer["patterns"]:
        row: dict[str, Any] = {f"has_{n}": n in pattern["modalities"] for n in titles}
        for which in ("natural", "forced"):
            group = pattern[which]
            row[f"{which}_patients"] = group["n"] if group else None
            row[f"{which}_events"] = group["events"] if group else None
            for end, tail in (("value", ""), ("low", "_low"), ("high", "_high")):
                row[f"{which}_{metric}{tail}"] = group[metric][end] if group else None
        gap = pattern["difference"] or dict.fromkeys(("value", "low", "high"))
        rows.append(
            {
                **row,
                "difference": gap["value"],
                "difference_low": gap["low"],
                "difference_high": gap["high"],
                "p": pattern["p"],
                "undefined": pattern["natural"]["undefined"],
            }
        )
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- one patient


def patient(answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], colour: str) -> go.Figure:
    """One patient: what the run says under each combination of what they have."""
    drawn = DotRows([r["modalities"] for r in rows], answer["modalities"], absent=answer["absent"])
    values = [said(answer, r) for r in rows]
    title = said_title(answer)
    known = [v for v in values if v is not None]
    axis = drawn.panel(0.0, 0.52, title, [0.0, 1.0], form=".0%")
    whole = said(answer, answer["rows"][0])
    if whole is not None and known:
        drawn.line(axis, whole)
    drawn.estimates(
        axis,
        [{"value": v, "low": v, "high": v} for v in values],
        colour,
        [f"{title}: {_percent(v)}" for v in values],
        name="said",
    )
    drawn.text(axis, [_moved(v, whole, r) for v, r in zip(values, rows, strict=True)])
    return drawn.finish()


def said(answer: Mapping[str, Any], row: Mapping[str, Any]) -> float | None:
    """The number of a row: event-free probability at the horizon, or that of the last class."""
    if answer["horizon_days"] is not None:
        value: float | None = row["event_free"]
        return value
    return float(list(row["probabilities"].values())[-1])


def said_title(answer: Mapping[str, Any]) -> str:
    """What the number is."""
    if answer["horizon_days"] is not None:
        return f"Predicted to be event-free at {answer['horizon_days']:,.0f} days"
    return f"Predicted probability of {plain(list(answer['rows'][0]['probabilities'])[-1])}"


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{number(100 * value, 1)}%"


def _moved(value: float | None, whole: float | None, row: Mapping[str, Any]) -> str:
    text = f"<b>{_percent(value)}</b>"
    if not row["hidden"]:
        return f"{text} all that is there"
    if value is None or whole is None:
        return text
    gap = f"{signed(100 * (value - whole))} points"
    return f"{text} {gap if row['modalities'] else 'told nothing'}"


def patient_frame(answer: Mapping[str, Any]) -> pd.DataFrame:
    """One row a combination, in full precision; a modality that is absent has no value."""
    rows = []
    for row in answer["rows"]:
        told: dict[str, Any] = {
            f"told_{n}": None if n in answer["absent"] else n in row["modalities"]
            for n in answer["modalities"]
        }
        if answer["horizon_days"] is not None:
            told |= {
                "log_risk": row["log_risk"],
                "relative_log_risk": row["relative_log_risk"],
                "horizon_days": answer["horizon_days"],
                "event_free": row["event_free"],
            }
        else:
            told |= {f"probability_{name}": p for name, p in row["probabilities"].items()}
        rows.append({"patient": answer["patient"], **told})
    return pd.DataFrame(rows)
