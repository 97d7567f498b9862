"""Embeddings before and after alignment as points in one frame, and one patient's lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.text import count, plain

STAGE_TITLES = {"before": "Before alignment", "after": "After alignment"}
COLOURINGS = {
    "modality": "modality",
    "outcome": "outcome",
    "time_days": "time to event or censoring",
    "prediction": "prediction",
    "site": "site",
    "split": "split",
}
CONTINUOUS = ("time_days", "prediction")
_SCALES = {
    "time_days": ((0.0, "#B2182B"), (0.5, "#D9B365"), (1.0, "#2166AC")),
    "prediction": ((0.0, "#2166AC"), (0.5, "#C9C2D6"), (1.0, "#B2182B")),
}
_GREY = "#9AA5AF"
_HEIGHT, _TOP, _BOTTOM = 520, 34, 10
# Each panel keeps this share of the width; the rest is for the legend.
_PANEL, _GAP = 0.405, 0.02
_LARGE = 1_500


@dataclass(frozen=True)
class Named:
    """Names for people. modalities: {name: title} in the run's order. prediction: what the number
    is, percent: written as a percentage of 100. splits: {name: title}.
    """

    modalities: Mapping[str, str]
    prediction: str
    event: str = "event"


def picture(
    points: pd.DataFrame,
    limit: float,
    named: Named,
    colour: str = "modality",
    patient: int | None = None,
) -> go.Figure:
    """Every point of `points` (of `coordinates`), one panel a stage, within +-limit on both axes.

    colour: a key of COLOURINGS. patient: whose modalities are joined by lines; everybody else is
    then faded.
    """
    stages = [s for s in STAGE_TITLES if f"x_{s}" in points]
    figure = go.Figure()
    groups = _groups(points, named, colour)
    for panel, stage in enumerate(stages, start=1):
        for group in groups:
            figure.add_trace(_points(points, group, stage, panel, named, colour, patient))
        if patient is not None:
            for trace in _lines(points, stage, panel, named, patient):
                figure.add_trace(trace)
    for entry in _legend(points, groups, named, colour):
        figure.add_trace(entry)
    figure = theme.finish(
        figure,
        height=_HEIGHT,
        margin={"l": 10, "r": 10, "t": _TOP, "b": _BOTTOM},
        showlegend=True,
        dragmode="zoom",
        legend={
            "x": len(stages) * (_PANEL + _GAP) + 0.005,
            "y": 1,
            "xanchor": "left",
            "font": {"size": 12},
            "itemclick": False,
            "itemdoubleclick": False,
            "tracegroupgap": 12,
        },
        coloraxis=_colour_axis(points, colour, len(stages)) if colour in CONTINUOUS else None,
    )
    for panel, stage in enumerate(stages, start=1):
        _frame(figure, panel, stage, limit)
    return figure


def picture_frame(points: pd.DataFrame, named: Named) -> pd.DataFrame:
    """The table behind the picture, modalities by title."""
    return points.assign(modality_title=[named.modalities[name] for name in points["modality"]])


# ---------------------------------------------------------------- pieces


@dataclass(frozen=True)
class _Group:
    """Points drawn alike: their rows, one modality, what they are called and how they look."""

    rows: np.ndarray
    modality: str
    title: str
    colour: str | None
    symbol: str


def _groups(points: pd.DataFrame, named: Named, colour: str) -> list[_Group]:
    """One group a modality and category; a continuous colour has open marks for the censored."""
    found = []
    names = list(named.modalities)
    for name in names:
        base, symbol = theme.modality_mark(names.index(name))
        mine = (points["modality"] == name).to_numpy()
        if colour == "modality":
            found.append(_Group(np.flatnonzero(mine), name, "", base, symbol))
            continue
        if colour == "time_days":
            event = (points["outcome"] == "event").to_numpy()
            found.append(_Group(np.flatnonzero(mine & event), name, named.event, None, symbol))
            hollow = f"{symbol}-open"
            found.append(_Group(np.flatnonzero(mine & ~event), name, "censored", None, hollow))
            continue
        if colour == "prediction":
            found.append(_Group(np.flatnonzero(mine), name, "", None, symbol))
            continue
        for value, shade in categories(points, colour).items():
            rows = np.flatnonzero(mine & (points[colour] == value).to_numpy())
            found.append(_Group(rows, name, _words(value, colour, named), shade, symbol))
    return [group for group in found if len(group.rows)]


def categories(points: pd.DataFrame, colour: str) -> dict[str, str]:
    """{value: colour} of a categorical column, the most frequent last values kept in order."""
    values = sorted(points[colour].astype(str).unique())
    if colour == "outcome" and set(values) <= {"event", "censored"}:
        return {"censored": _GREY, "event": theme.GROUP_COLOURS[2][1]}
    if colour == "split":
        values = [s for s in theme.SPLIT_TITLES if s in values]
    if colour == "outcome" and len(values) == 2:
        # The reference class comes first in the task; its points are the ones with group 0.
        order = points.drop_duplicates("outcome").sort_values("group")["outcome"].tolist()
        return dict(zip(order, (_GREY, theme.GROUP_COLOURS[2][1]), strict=True))
    return {v: theme.modality_mark(i)[0] for i, v in enumerate(values)}


def _words(value: str, colour: str, named: Named) -> str:
    if colour == "split":
        return theme.split_title(value)
    if colour == "outcome" and value == "event":
        return named.event
    if colour == "site":
        return f"site {value}" if value else "site not stated"
    return value


def _points(
    points: pd.DataFrame,
    group: _Group,
    stage: str,
    panel: int,
    named: Named,
    colour: str,
    patient: int | None,
) -> go.Scattergl:
    rows = points.iloc[group.rows]
    marker: dict[str, Any] = {
        "symbol": group.symbol,
        "size": 6.5 if len(points) < _LARGE else 4.5 if len(points) < 6 * _LARGE else 3.5,
        "opacity": 0.72 if patient is None else 0.22,
    }
    if group.colour is None:
        marker |= {"color": rows[_shade(points, colour)].to_numpy(), "coloraxis": "coloraxis"}
    else:
        marker["color"] = group.colour
    if not group.symbol.endswith("-open"):
        marker["line"] = {"width": 0.4, "color": "#FFFFFF"}
    tag = "" if panel == 1 else str(panel)
    return go.Scattergl(
        x=rows[f"x_{stage}"].to_numpy(),
        y=rows[f"y_{stage}"].to_numpy(),
        mode="markers",
        marker=marker,
        # A click chooses the patient; nothing is greyed by the browser on its own.
        selected={"marker": {"opacity": marker["opacity"]}},
        unselected={"marker": {"opacity": marker["opacity"]}},
        customdata=rows[["subject_id", _shade(points, "prediction"), "time_days"]].to_numpy(),
        hovertemplate=_hover(points, group, named, colour),
        showlegend=False,
        meta=group.modality,
        xaxis=f"x{tag}",
        yaxis=f"y{tag}",
    )


def _shade(points: pd.DataFrame, colour: str) -> str:
    """The column that a continuous colour shows: a log-risk is shown as its percentile."""
    if colour == "prediction" and points["percentile"].notna().any():
        return "percentile"
    return colour


def _hover(points: pd.DataFrame, group: _Group, named: Named, colour: str) -> str:
    """Patient, modality, prediction; what happened only where the colour tells it anyway."""
    lines = ["<b>Patient %{customdata[0]}</b>", plain(named.modalities[group.modality])]
    if group.title:
        lines.append(plain(group.title))
    percentile = _shade(points, "prediction") == "percentile"
    form = ".0f}%" if percentile else ".3f}"
    lines.append(f"{plain(named.prediction)}: %{{customdata[1]:{form}")
    if colour == "time_days":
        lines.append("day %{customdata[2]:,.0f}")
    return "<br>".join(lines) + "<extra></extra>"


def _lines(
    points: pd.DataFrame, stage: str, panel: int, named: Named, patient: int
) -> list[go.Scatter]:
    """A patient's points joined to their centre, and drawn once more on top."""
    mine = points[points["subject_id"] == patient]
    if mine.empty:
        return []
    x, y = mine[f"x_{stage}"].to_numpy(), mine[f"y_{stage}"].to_numpy()
    tag = "" if panel == 1 else str(panel)
    axes = {"xaxis": f"x{tag}", "yaxis": f"y{tag}", "showlegend": False}
    spokes = np.full((len(mine), 3, 2), np.nan)
    spokes[:, 0], spokes[:, 1] = (x.mean(), y.mean()), np.column_stack([x, y])
    names = list(named.modalities)
    marks = [theme.modality_mark(names.index(name)) for name in mine["modality"]]
    return [
        go.Scatter(
            x=spokes[..., 0].ravel(),
            y=spokes[..., 1].ravel(),
            mode="lines",
            line={"color": theme.INK, "width": 1.6},
            hoverinfo="skip",
            meta="lines",
            **axes,
        ),
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={
                "color": [c for c, _ in marks],
                "symbol": [s for _, s in marks],
                "size": 13,
                "line": {"color": theme.INK, "width": 1.6},
            },
            customdata=mine[["subject_id"]].to_numpy(),
            text=[plain(named.modalities[name]) for name in mine["modality"]],
            hovertemplate="<b>Patient %{customdata[0]}</b><br>%{text}<extra></extra>",
            meta="patient",
            **axes,
        ),
    ]


def _legend(
    points: pd.DataFrame, groups: Sequence[_Group], named: Named, colour: str
) -> list[go.Scatter]:
    """What marks and colours mean, with the number of points of each."""
    names = list(named.modalities)
    entries = []
    for name in names:
        base, symbol = theme.modality_mark(names.index(name))
        n = int((points["modality"] == name).sum())
        shade = base if colour == "modality" else theme.MUTED
        words = f"{plain(named.modalities[name])} ({n:,})"
        entries.append(_entry(words, shade, symbol, "Modality (embeddings)"))
    if colour == "time_days":
        for title, symbol in ((named.event, "circle"), ("censored", "circle-open")):
            n = _patients(points, [g for g in groups if g.title == title])
            words = f"{plain(title)} ({count(n, 'patient')})"
            entries.append(_entry(words, theme.MUTED, symbol, "Outcome"))
    if colour not in ("modality", *CONTINUOUS):
        for value, shade in categories(points, colour).items():
            title = _words(value, colour, named)
            n = _patients(points, [g for g in groups if g.title == title])
            words = f"{plain(title)} ({count(n, 'patient')})"
            entries.append(_entry(words, shade, "circle", COLOURINGS[colour].capitalize()))
    return entries


def _patients(points: pd.DataFrame, groups: Sequence[_Group]) -> int:
    rows = np.concatenate([g.rows for g in groups]) if groups else np.empty(0, int)
    return int(points["subject_id"].iloc[rows].nunique())


def _entry(words: str, colour: str, symbol: str, group: str) -> go.Scatter:
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9},
        name=words,
        legendgroup=group,
        legendgrouptitle={"text": group, "font": {"size": 12, "color": theme.MUTED}},
        hoverinfo="skip",
    )


def _colour_axis(points: pd.DataFrame, colour: str, panels: int) -> dict[str, Any]:
    shade = _shade(points, colour)
    titles = {
        "time_days": "Followed for (days)",
        "percentile": "Risk percentile",
        "prediction": "Probability",
    }
    low, high = {"percentile": (0.0, 100.0), "prediction": (0.0, 1.0)}.get(
        shade, (0.0, float(np.nanmax(points["time_days"])) if colour == "time_days" else 1.0)
    )
    return {
        "colorscale": _SCALES[colour],
        "cmin": low,
        "cmax": high,
        "colorbar": {
            "title": {"text": titles[shade], "side": "top", "font": {"size": 12}},
            "thickness": 12,
            "len": 0.42,
            "x": panels * (_PANEL + _GAP) + 0.01,
            "xanchor": "left",
            "y": 0.02,
            "yanchor": "bottom",
            "outlinewidth": 0,
        },
    }


def _frame(figure: go.Figure, panel: int, stage: str, limit: float) -> None:
    """One square panel; all panels are zoomed together."""
    tag = "" if panel == 1 else str(panel)
    start = (panel - 1) * (_PANEL + _GAP)
    common = {
        "showticklabels": False,
        "ticks": "",
        "showgrid": False,
        "zeroline": False,
        "showline": True,
        "mirror": True,
        "linecolor": theme.GRID,
        "linewidth": 1.5,
        "range": [-limit, limit],
        "fixedrange": False,
        "constrain": "domain",
    }
    linked_x = {} if panel == 1 else {"matches": "x"}
    linked_y = {"scaleanchor": "x"} if panel == 1 else {"matches": "y"}
    figure.update_layout(
        {
            f"xaxis{tag}": {
                **common,
                **linked_x,
                "domain": [start, start + _PANEL],
                "anchor": f"y{tag}",
            },
            f"yaxis{tag}": {**common, **linked_y, "anchor": f"x{tag}", "constraintoward": "top"},
        }
    )
    figure.add_annotation(
        text=f"<b>{STAGE_TITLES[stage]}</b>",
        xref=f"x{tag} domain",
        yref=f"y{tag} domain",
        x=0,
        y=1,
        yshift=4,
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )
