"""Kaplan-Meier curves of risk groups with the numbers at risk under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.survival.curves import KaplanMeierCurve
from analysis.survival.groups import KaplanMeierSplit, RiskGroup
from app import theme
from app.figures.text import count, number, p_phrase, plain, title_lines

FEW_AT_RISK = 10
_STEPS = (1, 2, 5, 7, 14, 30, 60, 90, 180, 365, 730, 1095, 1825, 3650)
# Heights in pixels: the table's ticks must stand exactly under those of the curves.
_TITLE, _CURVES, _AXIS, _LINE, _BELOW = 66, 300, 74, 22, 26
_COLUMNS = 2
_WIDTH = 44  # letters of a title that fit above a panel
_AIR = "&nbsp;" * 3


@dataclass(frozen=True)
class Panel:
    """The risk groups of one run: its name, its title for people, and the result."""

    run: str
    title: str
    split: KaplanMeierSplit


def day_ticks(end_days: float, at_most: int = 6) -> list[float]:
    """Days to label from 0 to the end: weeks, months of 30 days or years of 365, whichever fits."""
    step = next((s for s in _STEPS if end_days / s <= at_most), end_days / at_most)
    return [float(day) for day in np.arange(0, end_days + step * 1e-6, step)]


def kaplan_meier(panels: Sequence[Panel], end_days: float, time_title: str) -> go.Figure:
    """One panel a run on the same axes. Curves are faint where fewer than 10 are at risk."""
    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    groups = max(len(panel.split.groups) for panel in panels)
    table = _LINE * groups + 6
    above = _TITLE + _LINE * max(_lines(p.title) - 1 for p in panels)
    block = above + _CURVES + _AXIS + table + _BELOW
    total = block * rows
    layout: dict[str, Any] = {}
    figure = go.Figure()
    for number_, panel in enumerate(panels):
        row, column = divmod(number_, columns)
        top = total - row * block
        curves = [(top - above - _CURVES) / total, (top - above) / total]
        bottom = top - above - _CURVES - _AXIS
        beneath = [(bottom - table) / total, bottom / total]
        across = [column / columns + (0.085 if column else 0), (column + 1) / columns]
        axes = _Axes(2 * number_ + 1)
        layout |= axes.layout(across, curves, beneath, end_days, time_title, panel.split)
        _draw(figure, panel.split, axes)
        _caption(figure, panel, axes, curves[1], beneath[1])
    figure.update_layout(layout)
    figure = theme.finish(figure, height=total, margin={"l": 118, "r": 24, "t": 0, "b": 0})
    return figure.update_layout(hovermode="closest")


@dataclass(frozen=True)
class _Axes:
    """Names of the two pairs of axes of a panel: curves, and the table under them."""

    first: int

    @property
    def curves(self) -> str:
        return "" if self.first == 1 else str(self.first)

    @property
    def table(self) -> str:
        return str(self.first + 1)

    def layout(
        self,
        across: list[float],
        curves: list[float],
        beneath: list[float],
        end_days: float,
        time_title: str,
        split: KaplanMeierSplit,
    ) -> dict[str, Any]:
        """Where the axes lie and what they say; every panel has the same range."""
        ticks = next(g.at_risk.ticks_days.tolist() for g in split.groups if g.at_risk is not None)
        time = {
            "domain": across,
            "range": [-0.05 * end_days, 1.03 * end_days],
            "tickvals": ticks,
            "showgrid": False,
            "zeroline": False,
        }
        return {
            f"xaxis{self.curves}": {
                **time,
                "anchor": f"y{self.curves}",
                "ticktext": [f"{tick:,.0f}" for tick in ticks],
                "ticks": "outside",
                "showline": True,
                "linecolor": theme.FAINT,
                "title": {"text": plain(time_title), "standoff": 6, "font": {"size": 12}},
            },
            f"yaxis{self.curves}": {
                "domain": curves,
                "anchor": f"x{self.curves}",
                "range": [0, 1.02],
                "tickformat": ".0%",
                "gridcolor": theme.GRID,
                "zeroline": False,
                "title": {"text": "Patients without the event", "font": {"size": 12}},
            },
            f"xaxis{self.table}": {
                **time,
                "anchor": f"y{self.table}",
                "showticklabels": False,
                "ticks": "",
            },
            f"yaxis{self.table}": {
                "domain": beneath,
                "anchor": f"x{self.table}",
                "range": [len(split.groups) - 0.5, -0.5],
                "tickvals": list(range(len(split.groups))),
                "ticktext": [
                    f'<span style="color:{colour}"><b>━</b></span> {_short(group.name)}{_AIR}'
                    for group, colour in zip(split.groups, _colours(split), strict=True)
                ],
                "ticks": "",
                "showgrid": False,
                "zeroline": False,
            },
        }


def _draw(figure: go.Figure, split: KaplanMeierSplit, axes: _Axes) -> None:
    for position, (group, colour) in enumerate(zip(split.groups, _colours(split), strict=True)):
        where = {"xaxis": f"x{axes.curves}", "yaxis": f"y{axes.curves}"}
        if group.curve is not None:
            figure.add_trace(_band(group, group.curve, colour, where))
            for trace in _steps(group, group.curve, colour, where):
                figure.add_trace(trace)
            figure.add_trace(_censored(group, group.curve, colour, where))
        figure.add_trace(_counts(group, position, axes))


def _band(
    group: RiskGroup, curve: KaplanMeierCurve, colour: str, where: dict[str, str]
) -> go.Scatter:
    """The 95% interval as one polygon of steps; it ends where no interval exists."""
    known = np.isfinite(curve.low) & np.isfinite(curve.high)
    end = len(known) if known.all() else int(np.argmin(known))
    time = np.repeat(curve.time_days[:end], 2)[1:]
    low, high = np.repeat(curve.low[:end], 2)[:-1], np.repeat(curve.high[:end], 2)[:-1]
    return go.Scatter(
        x=np.r_[time, time[::-1]],
        y=np.r_[high, low[::-1]],
        fill="toself",
        fillcolor=theme.faded(colour, 0.13),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=f"{group.name}: 95% interval",
        **where,
    )


def _steps(
    group: RiskGroup, curve: KaplanMeierCurve, colour: str, where: dict[str, str]
) -> list[go.Scatter]:
    """The curve, solid as long as 10 are at risk and faint from then on."""
    few = np.flatnonzero(curve.at_risk < FEW_AT_RISK)
    # at_risk[i] holds from the time before until time i, so the faint part begins there.
    cut = int(few[0]) if few.size else len(curve.time_days)
    parts = [(group.name, slice(0, cut), 1.0)]
    if few.size:
        parts.append((f"{group.name}: fewer than 10 at risk", slice(max(cut - 1, 0), None), 0.35))
    return [
        go.Scatter(
            x=curve.time_days[part],
            y=curve.survival[part],
            customdata=np.c_[curve.low, curve.high, curve.at_risk][part],
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 2.2},
            opacity=opacity,
            name=name,
            hovertemplate=(
                f"{group.name}, day %{{x:,.0f}}<br>%{{y:.1%}} without the event "
                "(%{customdata[0]:.1%} to %{customdata[1]:.1%})<br>"
                "%{customdata[2]:,} at risk<extra></extra>"
            ),
            **where,
        )
        for name, part, opacity in parts
    ]


def _censored(
    group: RiskGroup, curve: KaplanMeierCurve, colour: str, where: dict[str, str]
) -> go.Scatter:
    return go.Scatter(
        x=curve.censor_times,
        y=curve.at(curve.censor_times),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 7, "color": colour, "line": {"width": 1.2}},
        opacity=0.7,
        hoverinfo="skip",
        name=f"{group.name}: censored",
        **where,
    )


def _counts(group: RiskGroup, position: int, axes: _Axes) -> go.Scatter:
    """One line of the table: at risk, and events so far in brackets."""
    table = group.at_risk
    ticks = table.ticks_days.tolist() if table is not None else []
    text = (
        [f"{n:,} ({d:,})" for n, d in zip(table.at_risk, table.events, strict=True)]
        if table is not None
        else []
    )
    return go.Scatter(
        x=ticks,
        y=[position] * len(ticks),
        text=text,
        mode="text",
        textfont={"size": 12, "color": theme.INK},
        hoverinfo="skip",
        cliponaxis=False,
        name=f"{group.name}: at risk (events so far)",
        xaxis=f"x{axes.table}",
        yaxis=f"y{axes.table}",
    )


def _caption(figure: go.Figure, panel: Panel, axes: _Axes, top: float, table_top: float) -> None:
    split = panel.split
    ratio = split.hazard_ratio
    heads, reads = title_lines(panel.title, _WIDTH)
    title = "<br>".join([*(f"<b>{line}</b>" for line in heads), *reads])
    tests = f"log-rank {p_phrase(split.logrank.p)}"
    if split.logrank.undefined:
        tests = "log-rank test undefined"
    if not ratio.undefined:
        tests += (
            f"; hazard ratio {number(ratio.value, 2)} "
            f"({number(ratio.low, 2)} to {number(ratio.high, 2)})"
        )
    patients = sum(g.n for g in split.groups)
    events = sum(g.n_events for g in split.groups)
    counts = f"{count(patients, 'patient')}, {count(events, 'event')}"
    base: dict[str, Any] = {
        "xref": f"x{axes.curves} domain",
        "yref": "paper",
        "x": 0,
        "xanchor": "left",
        "yanchor": "bottom",
        "align": "left",
        "showarrow": False,
    }
    figure.add_annotation(
        text=f'{title}<br><span style="color:{theme.MUTED}">{counts}<br>{tests}</span>',
        y=top,
        yshift=4,
        **base,
    )
    figure.add_annotation(
        text=f'<span style="color:{theme.MUTED}">At risk (events so far)</span>',
        y=table_top,
        **{**base, "font": {"size": 12}},
    )


def _lines(title: str) -> int:
    heads, reads = title_lines(title, _WIDTH)
    return len(heads) + len(reads)


def _colours(split: KaplanMeierSplit) -> tuple[str, ...]:
    return theme.GROUP_COLOURS[len(split.groups)]


def _short(name: str) -> str:
    return name.removesuffix(" risk").replace("ntermediate", "nt.")
