"""Pictures of what a reviewer asks; an assessment is what `analysis.reviewer` returns.

Calibration, net benefit, accuracy over time, the way to other patients, and subgroups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.survival import day_ticks
from app.figures.text import count, interval, number, p_phrase, plain, signed_interval, two_lines
from app.theme import RunStyle

Assessment = Mapping[str, Any]
Styles = Mapping[str, RunStyle]
_COLUMNS = 3
_PANEL = 300
_ROW = 40
_GREY = theme.OTHER_GREY


def rows_of(assessment: Assessment, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The assessed runs of these names, in that order."""
    by_name = {row["run"]: row for row in assessment["runs"]}
    return [by_name[name] for name in names if name in by_name]


# ---------------------------------------------------------------- calibration


def calibration(assessment: Assessment, names: Sequence[str], styles: Styles) -> go.Figure:
    """Observed against predicted risk, a panel a run: smooth curve with band, tenths with lines.

    Runs without a calibration (no probabilities) have no panel.
    """
    rows = [row for row in rows_of(assessment, names) if row["calibration"] is not None]
    figure = go.Figure()
    across = min(len(rows), _COLUMNS) or 1
    down = -(-len(rows) // across)
    for at, row in enumerate(rows):
        found, panel = row["calibration"], at + 1
        axes = _axes(panel)
        end = _end(found)
        figure.add_trace(_line([0, end], [0, end], axes, _GREY, dash="dash", width=1))
        if found["smooth"] is not None:
            _band(figure, found["smooth"], axes, styles[row["run"]].colour, "observed")
        figure.add_trace(_tenths(found, axes, styles[row["run"]]))
        _place(figure, panel, at % across, at // across, across, down)
        _axis_titles(figure, panel, "Predicted risk", "Observed risk", [0, end])
        _title(figure, panel, _calibration_title(found, styles[row["run"]].title))
    return theme.finish(
        figure, height=max(down, 1) * (_PANEL + 110), margin={"l": 60, "r": 10, "t": 106, "b": 50}
    )


def _end(found: Mapping[str, Any]) -> float:
    """End of both axes: no panel is mostly empty."""
    ends = [g["observed"]["high"] or g["observed"]["value"] or 0 for g in found["groups"]]
    ends += [g["predicted"] for g in found["groups"]]
    if found["smooth"] is not None:
        ends += [v for v in (*found["smooth"]["value"], *found["smooth"]["at"]) if v is not None]
    return min(1.0, 1.05 * max(ends, default=1.0))


def _tenths(found: Mapping[str, Any], axes: Mapping[str, str], style: RunStyle) -> go.Scatter:
    groups = [g for g in found["groups"] if g["observed"]["value"] is not None]
    value = [g["observed"]["value"] for g in groups]
    return go.Scatter(
        x=[g["predicted"] for g in groups],
        y=value,
        error_y={
            "array": [(g["observed"]["high"] or v) - v for g, v in zip(groups, value, strict=True)],
            "arrayminus": [
                v - (v if g["observed"]["low"] is None else g["observed"]["low"])
                for g, v in zip(groups, value, strict=True)
            ],
            "width": 0,
            "thickness": 1.2,
        },
        mode="markers",
        marker={"color": style.colour, "size": 7, "line": {"color": "#FFFFFF", "width": 1}},
        text=[
            f"{count(g['n'], 'patient')}: predicted {number(g['predicted'])}, "
            f"observed {interval(g['observed'])}"
            for g in groups
        ],
        hovertemplate="%{text}<extra></extra>",
        name=style.title,
        **axes,
    )


def _calibration_title(found: Mapping[str, Any], title: str) -> str:
    told = [f"<b>{two_lines(title, 34)}</b>"]
    if found["observed_to_expected"]["value"] is not None:
        told.append(f"O/E {interval(found['observed_to_expected'], 2)}")
    if found["slope"]["value"] is not None:
        told.append(f"slope {interval(found['slope'], 2)}")
    if found["ici"]["value"] is not None:
        told.append(f"ICI {interval(found['ici'], 3)}")
    return f"{told[0]}<br><span style='color:{theme.MUTED}'>{'<br>'.join(told[1:])}</span>"


def calibration_frame(assessment: Assessment) -> pd.DataFrame:
    """Every tenth of every run."""
    return pd.DataFrame(
        [
            {
                "run": row["run"],
                "group": at,
                "patients": group["n"],
                "predicted": group["predicted"],
                **_ends("observed", group["observed"]),
            }
            for row in assessment["runs"]
            if row["calibration"] is not None
            for at, group in enumerate(row["calibration"]["groups"], start=1)
        ]
    )


# ---------------------------------------------------------------- usefulness


def net_benefit(assessment: Assessment, names: Sequence[str], styles: Styles) -> go.Figure:
    """Decision curves beside treating everybody and nobody; the band is the reference run's."""
    figure = go.Figure()
    axes = _axes(1)
    everybody = assessment["treat_all"]
    figure.add_trace(_line(everybody["at"], everybody["value"], axes, _GREY, "everybody", "dot"))
    figure.add_trace(_line([0, 1], [0, 0], axes, theme.INK, "nobody", "dash", 1))
    top = [0.0]
    for row in rows_of(assessment, names):
        curve, style = row["net_benefit"], styles[row["run"]]
        if curve is None:
            continue
        if row["run"] == assessment["reference"]["run"]:
            _band(figure, curve, axes, style.colour, style.title)
        else:
            figure.add_trace(_line(curve["at"], curve["value"], axes, style.colour, style.title))
        top += [v for v in curve["value"] if v is not None]
    threshold = assessment["threshold"]
    if threshold is not None:
        figure.add_vline(
            x=threshold,
            line={"color": theme.MUTED, "width": 1, "dash": "dot"},
            annotation={"text": f"threshold {number(threshold, 2)}", "font": {"size": 11}},
        )
    figure = theme.finish(
        figure,
        height=420,
        margin={"l": 60, "r": 10, "t": 30, "b": 50},
        showlegend=True,
        legend={"font": {"size": 12}, "itemclick": False, "itemdoubleclick": False},
    )
    figure.update_xaxes(
        title=_small("Threshold probability of acting"), range=[0, 1], tickformat=".0%"
    )
    figure.update_yaxes(
        title=_small("Net benefit per patient"), range=[-0.3 * max(top), 1.15 * max(top) or 1]
    )
    return figure


def curve_frame(assessment: Assessment, name: str) -> pd.DataFrame:
    """A curve of every run in full: 'net_benefit', 'auc' or 'brier'."""
    parts = []
    for row in assessment["runs"]:
        found = row[name]
        curve = found if found is None or "at" in found else found.get("curve")
        if curve is not None:
            parts.append(pd.DataFrame({"run": row["run"], **curve}))
    empty = pd.DataFrame(columns=["run", "at", "value", "low", "high"])
    return pd.concat(parts, ignore_index=True) if parts else empty


# ---------------------------------------------------------------- over time


def over_time(
    assessment: Assessment, names: Sequence[str], styles: Styles, measure: str
) -> go.Figure:
    """Cumulative/dynamic AUC ('auc') or Brier score ('brier') at every time; band of the reference.

    The Brier score's dashed line is the Kaplan-Meier curve's, which tells nobody apart.
    """
    figure = go.Figure()
    axes = _axes(1)
    ends = [0.0]
    for row in rows_of(assessment, names):
        found, style = row[measure], styles[row["run"]]
        if found is None or found.get("curve") is None:
            continue
        curve = found["curve"]
        ends.append(max(curve["at"]))
        if measure == "brier" and row["run"] == assessment["reference"]["run"]:
            figure.add_trace(
                _line(curve["at"], found["reference"], axes, _GREY, "Kaplan-Meier", "dash")
            )
        if row["run"] == assessment["reference"]["run"]:
            _band(figure, curve, axes, style.colour, style.title)
        else:
            figure.add_trace(_line(curve["at"], curve["value"], axes, style.colour, style.title))
    figure = theme.finish(
        figure,
        height=380,
        margin={"l": 60, "r": 10, "t": 30, "b": 50},
        showlegend=True,
        legend={"font": {"size": 12}, "itemclick": False, "itemdoubleclick": False},
    )
    ticks = day_ticks(max(ends)) if max(ends) else [0]
    figure.update_xaxes(
        title=_small("Days since time zero"), tickvals=ticks, range=[0, max(ends) or 1]
    )
    title = "AUC (0.5 is chance)" if measure == "auc" else "Brier score (lower is better)"
    figure.update_yaxes(title=_small(title), gridcolor=theme.GRID)
    return figure


# ---------------------------------------------------------------- other patients


def transfer(assessment: Assessment, names: Sequence[str], styles: Styles) -> go.Figure:
    """Here and elsewhere, a row a run: full mark here, open mark there, the change in words."""
    rows = [row for row in rows_of(assessment, names) if row.get("elsewhere")]
    figure = go.Figure()
    words = []
    for at, row in enumerate(rows):
        style, there = styles[row["run"]], row["elsewhere"]
        here, other = row["score"], there["score"]
        if here["value"] is None or other["value"] is None:
            continue
        figure.add_trace(
            _line(
                [here["value"], other["value"]],
                [at - 0.14, at + 0.14],
                _axes(1),
                theme.faded(style.colour, 0.5),
                width=1.5,
            )
        )
        for found, shift, symbol in ((here, -0.14, style.symbol), (other, 0.14, "open")):
            figure.add_trace(_estimate(found, at + shift, style, symbol))
        words.append((at, f"{_points(there['change'])}, {p_phrase(there['p'])}"))
    figure = theme.finish(
        figure,
        height=90 + _ROW * max(len(rows), 1) + 50,
        margin={"l": 10, "r": 230, "t": 40, "b": 50},
    )
    for at, text in words:
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", y=at, text=text, showarrow=False, xshift=8,
            font={"size": 12},
        )  # fmt: skip
    titles = [plain(styles[row["run"]].title) for row in rows]
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=titles,
        range=[len(rows) - 0.5, -0.5],
        automargin=True,
        zeroline=False,
    )
    figure.update_xaxes(title=_small(_score_title(assessment)), gridcolor=theme.GRID)
    return figure


def _points(change: Mapping[str, Any]) -> str:
    scaled = {k: None if v is None else 100 * v for k, v in change.items()}
    return f"{signed_interval(scaled)} points"


def _score_title(assessment: Assessment) -> str:
    if assessment["metric"] == "auc":
        return "AUC (0.5 is chance, 1 is perfect)"
    return "Harrell's C (0.5 is chance, 1 is perfect)"


def _estimate(found: Mapping[str, Any], y: float, style: RunStyle, symbol: str) -> go.Scatter:
    hollow = symbol == "open"
    value = found["value"]
    return go.Scatter(
        x=[value],
        y=[y],
        error_x={
            "array": [(found["high"] or value) - value],
            "arrayminus": [value - (found["low"] or value)],
            "width": 0,
            "thickness": 1.4,
            "color": style.colour,
        },
        mode="markers",
        marker={
            "color": "#FFFFFF" if hollow else style.colour,
            "size": 9,
            "symbol": style.symbol,
            "line": {"color": style.colour, "width": 2},
        },
        hovertemplate=f"{plain(style.title)}: {interval(found)}<extra></extra>",
    )


def subgroups(assessment: Assessment, name: str, style: RunStyle) -> go.Figure:
    """One run in every subgroup; the line is all patients, p is of a difference between levels."""
    row = rows_of(assessment, [name])[0]
    labels: list[str] = []
    figure = go.Figure()
    words: list[tuple[float, str]] = []
    at = 0
    for attribute in row["subgroups"]:
        p = attribute["p_holm"]
        told = f"{p_phrase(p)} between levels" if p is not None else "not tested"
        labels.append(f"<b>{_attribute(attribute['attribute'])}</b>")
        words.append((at, f"<span style='color:{theme.MUTED}'>{told}</span>"))
        at += 1
        for level in attribute["levels"]:
            labels.append(f"{plain(level['level'])} ({level['n']:,}, {level['events']:,} events)")
            if level["score"]["value"] is not None:
                figure.add_trace(_estimate(level["score"], at, style, style.symbol))
                words.append((at, interval(level["score"])))
            else:
                words.append((at, "too few to score"))
            at += 1
    figure = theme.finish(
        figure,
        height=70 + 24 * max(at, 1) + 50,
        margin={"l": 10, "r": 230, "t": 20, "b": 50},
    )
    if row["score"]["value"] is not None:
        figure.add_vline(x=row["score"]["value"], line={"color": theme.MUTED, "dash": "dash"})
    for place, text in words:
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", y=place, text=text, showarrow=False, xshift=8,
            font={"size": 12},
        )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(at)),
        ticktext=labels,
        range=[at - 0.4, -0.6],
        automargin=True,
        zeroline=False,
    )
    figure.update_xaxes(title=_small(_score_title(assessment)), gridcolor=theme.GRID)
    return figure


def subgroup_frame(assessment: Assessment) -> pd.DataFrame:
    """Every run in every subgroup."""
    return pd.DataFrame(
        [
            {
                "run": row["run"],
                "attribute": attribute["attribute"],
                "level": level["level"],
                "patients": level["n"],
                "events": level["events"],
                **_ends("score", level["score"]),
                "p_between_levels": attribute["p"],
                "p_holm": attribute["p_holm"],
                "undefined": level["undefined"],
            }
            for row in assessment["runs"]
            for attribute in row["subgroups"]
            for level in attribute["levels"]
        ]
    )


def _attribute(name: str) -> str:
    modality = name.startswith("modality ")
    return "Modality" if modality else plain(name.replace("_", " ").capitalize())


# ---------------------------------------------------------------- pieces


def _axes(panel: int) -> dict[str, str]:
    tail = "" if panel == 1 else str(panel)
    return {"xaxis": f"x{tail}", "yaxis": f"y{tail}"}


def _line(
    x: Sequence[Any],
    y: Sequence[Any],
    axes: Mapping[str, str],
    colour: str,
    name: str = "",
    dash: str = "solid",
    width: float = 2,
) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        name=two_lines(name, 38) if name else "",
        showlegend=bool(name),
        hovertemplate=f"{plain(name)}: %{{y:.3f}}<extra></extra>" if name else None,
        hoverinfo=None if name else "skip",
        **axes,
    )


def _band(
    figure: go.Figure,
    curve: Mapping[str, Any],
    axes: Mapping[str, str],
    colour: str,
    name: str,
) -> None:
    """The curve over its 95% band."""
    known = [i for i, (a, b) in enumerate(zip(curve["low"], curve["high"], strict=True))
             if a is not None and b is not None]  # fmt: skip
    x = [curve["at"][i] for i in known]
    figure.add_trace(
        go.Scatter(
            x=[*x, *reversed(x)],
            y=[*(curve["high"][i] for i in known), *(curve["low"][i] for i in reversed(known))],
            fill="toself",
            fillcolor=theme.faded(colour, 0.16),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            **axes,
        )
    )
    figure.add_trace(_line(curve["at"], curve["value"], axes, colour, name))


def _place(figure: go.Figure, panel: int, column: int, row: int, across: int, down: int) -> None:
    tail = "" if panel == 1 else str(panel)
    gap, head = 0.07, 0.25 / down
    width = (1 - gap * (across - 1)) / across
    height = 1 / down
    left, top = column * (width + gap), 1 - row * height
    figure.update_layout(
        {
            f"xaxis{tail}": {"domain": [left, left + width], "anchor": f"y{tail}"},
            f"yaxis{tail}": {
                "domain": [top - height + 0.12 / down, top - (head if row else 0)],
                "anchor": f"x{tail}",
            },
        }
    )


def _axis_titles(figure: go.Figure, panel: int, x: str, y: str, limits: Sequence[float]) -> None:
    tail = "" if panel == 1 else str(panel)
    common = {"range": list(limits), "gridcolor": theme.GRID, "tickformat": ".0%", "nticks": 6}
    figure.update_layout(
        {
            f"xaxis{tail}": {"title": _small(x), **common},
            f"yaxis{tail}": {"title": _small(y), **common},
        }
    )


def _small(text: str) -> dict[str, Any]:
    return {"text": text, "font": {"size": 12, "color": theme.MUTED}, "standoff": 6}


def _title(figure: go.Figure, panel: int, text: str) -> None:
    tail = "" if panel == 1 else str(panel)
    figure.add_annotation(
        x=0,
        xref=f"x{tail} domain",
        y=1,
        yref=f"y{tail} domain",
        yanchor="bottom",
        xanchor="left",
        yshift=6,
        align="left",
        text=text,
        showarrow=False,
        font={"size": 12},
    )


def _ends(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
