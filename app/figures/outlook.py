"""What is predicted for one patient: the survival curve, and where the risk stands."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from analysis.attribution.result import Attribution
from app import theme
from app.figures.shares import Direction, part_title
from app.figures.survival import day_ticks
from app.figures.text import count, number, plain, signed

Floats = npt.NDArray[np.float64]
WHAT_IF = "what if"
_BAND = theme.mix(theme.FAINT, "#FFFFFF", 0.72)
# Heights in pixels.
_CURVES, _AXIS, _LINE, _STRIP = 290, 52, 20, 62


# ---------------------------------------------------------------- S(t)


@dataclass(frozen=True, eq=False)
class Outlook:
    """One run's predicted S(t) for the patient, with its training patients' predictions around.

    times_days: (T,) from 0 on. patient, cohort_median, cohort_low, cohort_high, what_if: (T,)
    probabilities, nan where nothing is known; low and high hold 10% and 90% of the training
    patients' predicted curves.
    """

    title: str
    colour: str
    times_days: Floats
    patient: Floats
    cohort_median: Floats
    cohort_low: Floats
    cohort_high: Floats
    what_if: Floats | None = None

    def __post_init__(self) -> None:
        expected = np.shape(self.times_days)
        for name in ("patient", "cohort_median", "cohort_low", "cohort_high", "what_if"):
            curve = getattr(self, name)
            if curve is not None and np.shape(curve) != expected:
                raise ValueError(f"{name} is {np.shape(curve)}, the times are {expected}")

    def at(self, curve: Floats, day: float) -> float:
        """A curve's value on a day: it is a step function. nan before the first time."""
        position = int(np.searchsorted(self.times_days, day, side="right")) - 1
        return float(curve[position]) if position >= 0 else float("nan")


@dataclass(frozen=True)
class Outcome:
    """What happened: the event, or only that it had not happened yet. title: of the event."""

    time_days: float
    event: bool
    title: str = "event"

    @property
    def words(self) -> str:
        """'day 45: death from any cause', 'no death from any cause up to day 359'."""
        day = f"day {self.time_days:,.0f}"
        return f"{day}: {self.title}" if self.event else f"no {self.title} up to {day}"


def survival_outlook(
    curves: Sequence[Outlook],
    horizon_days: float,
    *,
    time_title: str = "Days after the index time",
    event_title: str = "the event",
    outcome: Outcome | None = None,
    what_if_title: str = WHAT_IF,
) -> go.Figure:
    """The patient's predicted curve, one panel a run on the same axes.

    Around it the training patients' median and the band from 10% to 90% of their predictions;
    the horizon is marked with S(horizon). outcome: pass it only when a reader asked for it.
    Raises ValueError when a curve is not known at the horizon.
    """
    if not curves:
        raise ValueError("an outlook needs at least one run")
    for curve in curves:
        if not np.isfinite(curve.at(curve.patient, horizon_days)) or (
            horizon_days > curve.times_days[-1]
        ):
            raise ValueError(f"'{curve.title}' knows no survival at day {horizon_days:g}")
    last = max(float(curve.times_days[-1]) for curve in curves)
    if outcome is not None:
        last = max(last, outcome.time_days)
    gap = 0.05 if len(curves) > 1 else 0.0
    figure = go.Figure()
    for at, curve in enumerate(curves):
        name = "" if at == 0 else str(at + 1)
        share = (1 - gap * (len(curves) - 1)) / len(curves)
        left = at * (share + gap)
        # A late horizon's numbers stand right of the axes, where no curve runs.
        right = left + share * (1 - _beside(horizon_days, last) * len(curves))
        figure.update_layout(
            _time_axes(name, [left, right], last, time_title, event_title, at == 0)
        )
        _curve(figure, curve, name, what_if_title)
        _horizon(figure, curve, horizon_days, last, name, what_if_title)
        if outcome is not None:
            _outcome(figure, curve, outcome, last, name)
        _head(figure, curve, left, 50 if len(curves) > 1 else 110, what_if_title)
    top = 10 + _LINE * (
        1 + max(len(_wrapped(c.title, 50 if len(curves) > 1 else 110)) for c in curves)
    )
    figure = theme.finish(
        figure,
        height=top + _CURVES + _AXIS,
        margin={"l": 10, "r": 16, "t": top, "b": _AXIS},
    )
    return figure.update_layout(hovermode="closest")


def _time_axes(
    name: str, across: list[float], last: float, time_title: str, event_title: str, first: bool
) -> dict[str, Any]:
    ticks = day_ticks(last)
    return {
        f"xaxis{name}": {
            "domain": across,
            "anchor": f"y{name}",
            "range": [0, last * 1.02],
            "tickvals": ticks,
            "ticktext": [f"{tick:,.0f}" for tick in ticks],
            "ticks": "outside",
            "showline": True,
            "linecolor": theme.FAINT,
            "showgrid": False,
            "zeroline": False,
            "title": {"text": plain(time_title), "standoff": 6, "font": {"size": 12}},
        },
        f"yaxis{name}": {
            "anchor": f"x{name}",
            "range": [0, 1.02],
            "tickformat": ".0%",
            "gridcolor": theme.GRID,
            "zeroline": False,
            "automargin": True,
            "title": {
                "text": f"Predicted chance to be without<br>{plain(event_title)}" if first else "",
                "font": {"size": 12},
            },
        },
    }


def _curve(figure: go.Figure, curve: Outlook, name: str, what_if_title: str) -> None:
    where = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    time = curve.times_days
    known = np.isfinite(curve.cohort_low) & np.isfinite(curve.cohort_high)
    stepped = np.repeat(time[known], 2)[1:]
    low, high = (np.repeat(c[known], 2)[:-1] for c in (curve.cohort_low, curve.cohort_high))
    figure.add_trace(
        go.Scatter(
            x=np.r_[stepped, stepped[::-1]],
            y=np.r_[high, low[::-1]],
            fill="toself",
            fillcolor=_BAND,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="training patients, 10% to 90%",
            meta="band",
            **where,
        )
    )
    around = np.c_[curve.cohort_low, curve.cohort_high]
    lines = [
        ("median training patient", "median", curve.cohort_median, theme.MUTED, 1.4, "solid"),
        (curve.title, "patient", curve.patient, curve.colour, 2.6, "solid"),
    ]
    if curve.what_if is not None:
        lines.append((what_if_title, "what_if", curve.what_if, curve.colour, 2.2, "dash"))
    for title, meta, values, colour, width, dash in lines:
        words = "this patient" if meta == "patient" else plain(title)
        hover = f"{words}, day %{{x:,.0f}}: %{{y:.1%}}"
        if meta == "median":
            hover += "<br>8 in 10 training patients: %{customdata[0]:.0%} to %{customdata[1]:.0%}"
        figure.add_trace(
            go.Scatter(
                x=time,
                y=values,
                customdata=around,
                mode="lines",
                line={"shape": "hv", "color": colour, "width": width, "dash": dash},
                hovertemplate=f"{hover}<extra></extra>",
                name=title,
                meta=meta,
                **where,
            )
        )


def _horizon(
    figure: go.Figure, curve: Outlook, day: float, last: float, name: str, what_if_title: str
) -> None:
    """A thin line at the horizon, with the numbers that the curves have there."""
    where = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    figure.add_shape(
        type="line",
        xref=where["xaxis"],
        yref=where["yaxis"],
        x0=day,
        x1=day,
        y0=0,
        y1=1,
        line={"color": theme.FAINT, "width": 1, "dash": "dot"},
    )
    marks = [("this patient", curve.patient, curve.colour, "circle")]
    if curve.what_if is not None:
        marks.append((what_if_title, curve.what_if, curve.colour, "circle-open"))
    marks.append(("median", curve.cohort_median, theme.MUTED, "circle"))
    values = [curve.at(values, day) for _, values, _, _ in marks]
    heights = apart([1 - value for value in values], 0.075, 0.03, 0.98)
    outside = bool(_beside(day, last))
    for (words, _, colour, symbol), value, height in zip(marks, values, heights, strict=True):
        figure.add_trace(
            go.Scatter(
                x=[day],
                y=[value],
                mode="markers",
                marker={"color": colour, "size": 9, "symbol": symbol, "line": {"width": 1.5}},
                hovertemplate=f"{plain(words)}, day {day:,.0f}: {value:.1%}<extra></extra>",
                cliponaxis=False,
                name=f"{words} at the horizon",
                meta="horizon",
                **where,
            )
        )
        strong = words == "this patient"
        label = f"<b>{number(100 * value, 1)}%</b>"
        if not strong:
            label += f" {plain(textwrap.shorten(words, 20, placeholder=' …'))}"
        figure.add_annotation(
            text=label,
            xref=where["xaxis"],
            yref=where["yaxis"],
            x=day,
            y=1 - height,
            xanchor="left",
            xshift=9,
            showarrow=False,
            bgcolor="rgba(255,255,255,0)" if outside else "rgba(255,255,255,0.82)",
            borderpad=1,
            font={"size": 14 if strong else 12, "color": colour},
        )
    figure.add_annotation(
        text=f"day {day:,.0f}",
        xref=where["xaxis"],
        yref=where["yaxis"],
        x=day,
        y=0,
        yanchor="bottom",
        xanchor="right",
        xshift=-4,
        showarrow=False,
        font={"size": 12, "color": theme.MUTED},
    )


def _beside(day: float, last: float) -> float:
    """The share of a panel's width that the numbers of a late horizon need."""
    return 0.09 if day > 0.8 * last else 0.0


def apart(values: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """The values moved as little as labels need to stay `least` apart, within [low, high]."""
    order = np.argsort(values, kind="stable")
    placed = np.asarray(values, np.float64)[order].clip(low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + least)
    placed[-1:] = placed[-1:].clip(max=high)
    for i in range(len(placed) - 2, -1, -1):
        placed[i] = min(placed[i], placed[i + 1] - least)
    moved = np.empty_like(placed)
    moved[order] = placed
    return [float(value) for value in moved]


def _outcome(figure: go.Figure, curve: Outlook, outcome: Outcome, last: float, name: str) -> None:
    """A cross where the event happened; a tick where the patient was last seen without it."""
    where = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    level = curve.at(curve.patient, outcome.time_days)
    if not np.isfinite(level):
        level = float(curve.patient[np.isfinite(curve.patient)][-1])
    symbol = "x-thin" if outcome.event else "line-ns"
    figure.add_trace(
        go.Scatter(
            x=[outcome.time_days],
            y=[level],
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 13 if outcome.event else 18,
                "color": theme.INK,
                "line": {"width": 3, "color": theme.INK},
            },
            hovertemplate=f"Observed: {plain(outcome.words)}<extra></extra>",
            cliponaxis=False,
            name="observed",
            meta="outcome",
            **where,
        )
    )
    figure.add_shape(
        type="line",
        xref=where["xaxis"],
        yref=where["yaxis"],
        x0=outcome.time_days,
        x1=outcome.time_days,
        y0=0,
        y1=level,
        line={"color": theme.INK, "width": 1},
    )
    late = outcome.time_days > 0.5 * last
    figure.add_annotation(
        text=f"<b>Observed</b> {plain(outcome.words)}",
        xref=where["xaxis"],
        yref=where["yaxis"],
        x=outcome.time_days,
        y=0.13,
        xanchor="right" if late else "left",
        xshift=-4 if late else 4,
        showarrow=False,
        bgcolor="rgba(255,255,255,0.9)",
        borderpad=2,
        font={"size": 12, "color": theme.INK},
    )


def _wrapped(title: str, width: int) -> list[str]:
    return textwrap.wrap(title, width, break_on_hyphens=False)[:2] or [""]


def _head(figure: go.Figure, curve: Outlook, left: float, width: int, what_if_title: str) -> None:
    lines = "<br>".join(f"<b>{plain(line)}</b>" for line in _wrapped(curve.title, width))
    own = f'<span style="color:{curve.colour}"><b>━</b></span> this patient&nbsp;&nbsp; '
    if curve.what_if is not None:
        short = plain(textwrap.shorten(what_if_title, 24, placeholder=" …"))
        own += f'<span style="color:{curve.colour}"><b>╌</b></span> {short}&nbsp;&nbsp; '
    band = theme.mix(_BAND, "#000000", 0.1)
    around = (
        f'{own}<span style="color:{theme.MUTED}"><b>━</b></span> median and '
        f'<span style="color:{band}">■</span> middle 80% of the training patients'
    )
    figure.add_annotation(
        text=f'{lines}<br><span style="color:{theme.MUTED};font-size:12px">{around}</span>',
        xref="paper",
        yref="paper",
        x=left,
        y=1,
        xanchor="left",
        yanchor="bottom",
        align="left",
        yshift=4,
        showarrow=False,
    )


# ---------------------------------------------------------------- where the risk stands


@dataclass(frozen=True, eq=False)
class Standing:
    """A patient's risk among the training patients, on a scale where more is worse.

    risk, training (n,), what_if: on the same scale; runs that are shown together must share it
    (the predicted chance of the event at the horizon does, log-risks of two runs do not).
    """

    title: str
    colour: str
    risk: float
    training: Floats
    what_if: float | None = None

    @property
    def percentile(self) -> float:
        """Percent of the training patients with a lower risk; equals count half."""
        training = np.asarray(self.training)
        below = (training < self.risk).sum() + 0.5 * (training == self.risk).sum()
        return float(100 * below / len(training))

    @property
    def words(self) -> str:
        """'higher than 87% of 1,098 training patients'."""
        n = count(len(self.training), "training patient")
        if self.risk > np.max(self.training):
            return f"higher than all {n}"
        if self.risk < np.min(self.training):
            return f"lower than all {n}"
        return f"higher than {min(max(self.percentile, 1), 99):.0f}% of {n}"


def percentile_strip(
    standings: Sequence[Standing], axis_title: str, *, percent: bool = True, bins: int = 60
) -> go.Figure:
    """One quiet strip a run: how the training patients' risks spread, and where this one is.

    percent: the risks are probabilities.
    """
    if not standings:
        raise ValueError("a strip needs at least one run")
    every = np.concatenate([np.r_[s.training, s.risk, s.what_if or s.risk] for s in standings])
    low, high = (0.0, float(every.max())) if percent else (float(every.min()), float(every.max()))
    air = 0.03 * ((high - low) or 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    top, total = 6, len(standings) * (_STRIP + _LINE + 6)
    figure = go.Figure()
    for at, standing in enumerate(standings):
        name = "" if at == 0 else str(at + 1)
        upper = total - at * (_STRIP + _LINE + 6) - _LINE
        figure.update_layout(
            {
                f"xaxis{name}": {
                    "anchor": f"y{name}",
                    "range": [low - air, high + air],
                    "tickformat": ".0%" if percent else "",
                    "showgrid": False,
                    "zeroline": False,
                    "showline": True,
                    "linecolor": theme.FAINT,
                    "ticks": "outside" if at == len(standings) - 1 else "",
                    "showticklabels": at == len(standings) - 1,
                    "title": {
                        "text": plain(axis_title) if at == len(standings) - 1 else "",
                        "standoff": 4,
                        "font": {"size": 12},
                    },
                },
                f"yaxis{name}": {
                    "domain": [(upper - _STRIP) / total, upper / total],
                    "anchor": f"x{name}",
                    "visible": False,
                    "range": [0, 1.25],
                },
            }
        )
        _strip(figure, standing, name, edges, upper / total, percent)
    figure = theme.finish(
        figure,
        height=top + total + 46,
        margin={"l": 10, "r": 16, "t": top, "b": 46},
        bargap=0,
    )
    return figure.update_layout(hovermode="closest")


def _strip(
    figure: go.Figure, standing: Standing, name: str, edges: Floats, top: float, percent: bool
) -> None:
    where = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    patients, _ = np.histogram(standing.training, edges)
    written = ".1%" if percent else ".2f"
    figure.add_trace(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=patients / max(patients.max(), 1),
            width=np.diff(edges) * 0.92,
            customdata=patients,
            marker={"color": theme.mix(theme.FAINT, "#FFFFFF", 0.45), "line": {"width": 0}},
            hovertemplate=(
                f"about %{{x:{written}}}: %{{customdata}} training patients<extra></extra>"
            ),
            name=f"{standing.title}: training patients",
            meta="training",
            **where,
        )
    )
    marks = [("patient", standing.risk, "solid", "triangle-down")]
    if standing.what_if is not None:
        marks.append(("what_if", standing.what_if, "dash", "triangle-down-open"))
    for meta, risk, dash, symbol in marks:
        words = "this patient" if meta == "patient" else WHAT_IF
        figure.add_trace(
            go.Scatter(
                x=[risk, risk],
                y=[0, 1.12],
                mode="lines+markers",
                line={"color": standing.colour, "width": 2, "dash": dash},
                marker={"symbol": symbol, "size": [0, 11], "color": standing.colour},
                hovertemplate=f"{words}: %{{x:{written}}}<extra></extra>",
                name=f"{standing.title}: {words}",
                meta=meta,
                cliponaxis=False,
                **where,
            )
        )
    value = f"{number(100 * standing.risk, 1)}%" if percent else number(standing.risk, 2)
    title = textwrap.shorten(standing.title, 90, placeholder=" …")
    figure.add_annotation(
        text=(
            f'<span style="color:{standing.colour}"><b>{plain(title)}</b></span>: <b>{value}</b>, '
            f"{standing.words}"
        ),
        xref="paper",
        yref="paper",
        x=0,
        y=top,
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )


# ---------------------------------------------------------------- shares over time


def shares_over_time(
    attribution: Attribution, names: Sequence[str] | None = None, top: int = 6
) -> go.Figure:
    """The `top` parts' shares of S(t) at every t of the explained curve, and of all others.

    names: of the parts, else their descriptions. The parts are those with the largest share at
    any time. Raises ValueError unless the explained number is a curve over days.
    """
    days = attribution.target.get("days")
    if days is None or len(days) != attribution.values.shape[1] or len(days) < 2:
        raise ValueError("shares over time need an explanation of survival at several days")
    titles = names or [part_title(part) for _, part in attribution.parts.iterrows()]
    direction = Direction.of(attribution.target)
    values = 100 * attribution.values
    order = np.argsort(-np.abs(values).max(axis=0 if not len(values) else 1), kind="stable")
    first, rest = order[:top], order[top:]
    lines: list[tuple[str, Floats, str, float, str]] = [
        (titles[row], values[row], direction.colour(float(values[row, -1])), 2.0, "solid")
        for row in first
    ]
    if len(rest):
        others = f"{count(len(rest), 'other')}"
        lines.append((others, values[rest].sum(axis=0), theme.MUTED, 1.6, "dash"))
    whole = 100 * (attribution.whole - attribution.reference)
    lines.append(("all together", whole, theme.INK, 2.4, "solid"))
    figure = go.Figure()
    for title, shares, colour, width, dash in lines:
        figure.add_trace(
            go.Scatter(
                x=list(days),
                y=shares,
                mode="lines",
                line={"color": colour, "width": width, "dash": dash},
                name=title,
                hovertemplate=(
                    f"{plain(title)}<br>day %{{x:,.0f}}: %{{y:+.1f}} points of survival"
                    "<extra></extra>"
                ),
            )
        )
    drawn = np.concatenate([line[1] for line in lines])
    low, high = min(0.0, float(drawn.min())), max(0.0, float(drawn.max()))
    air = 0.06 * ((high - low) or 1.0)
    height = 360
    least = 17 / (height - 70) * (high - low + 2 * air)
    ends = apart([float(line[1][-1]) for line in lines], least, low - air, high + air)
    for (title, shares, colour, _, _), end in zip(lines, ends, strict=True):
        short = textwrap.shorten(title, 34, placeholder=" …")
        figure.add_annotation(
            text=f"{signed(float(shares[-1]))} {plain(short)}",
            xref="paper",
            x=1,
            y=end,
            xanchor="left",
            xshift=8,
            showarrow=False,
            font={"size": 12, "color": colour},
        )
    ticks = day_ticks(float(days[-1]))
    figure.update_xaxes(
        range=[float(days[0]), float(days[-1])],
        tickvals=ticks,
        ticktext=[f"{tick:,.0f}" for tick in ticks],
        ticks="outside",
        showgrid=False,
        zeroline=False,
        title={"text": "Days", "standoff": 6, "font": {"size": 12}},
    )
    figure.update_yaxes(
        range=[low - air, high + air],
        gridcolor=theme.GRID,
        zeroline=True,
        zerolinecolor=theme.FAINT,
        automargin=True,
        title={"text": "Share of predicted survival, points", "font": {"size": 12}},
    )
    figure.add_annotation(
        text=direction.legend(),
        xref="paper",
        yref="paper",
        x=0,
        y=1,
        xanchor="left",
        yanchor="bottom",
        yshift=4,
        showarrow=False,
        font={"size": 12},
    )
    figure = theme.finish(figure, height=height, margin={"l": 10, "r": 260, "t": 26, "b": 44})
    return figure.update_layout(hovermode="closest")
