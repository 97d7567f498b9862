"""How runs hold out when modalities go missing at random; results of `drop_curve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.text import number, plain, title_lines
from app.theme import RunStyle

Curve = Mapping[str, Any]
MEASURES = {"c_index": "Harrell's C", "auc": "AUC", "accuracy": "Accuracy"}
MOST_BANDS = 3
_HEIGHT = 360
# The second sign of a run beside its colour, as in ROC curves.
_DASHES = {"diamond": "dot"}


def curves(
    found: Sequence[Curve], measure: str, styles: Mapping[str, RunStyle], *, first: str = ""
) -> go.Figure:
    """The mean over repeats with the band that holds 95% of them, one line a run.

    Left of zero each run's interval over patients with everything, which the bands do not hold.
    Of more than three runs only `first` has band and interval.
    """
    figure = go.Figure()
    banded = [c for c in found if len(found) <= MOST_BANDS or c["run"] == first]
    for position, curve in enumerate(banded):
        values, style = curve["measures"][measure], styles[curve["run"]]
        _band(figure, curve, values, style)
        _patients(figure, values["plain"], style, curve["run"], -0.022 - 0.012 * position)
    for curve in found:
        _line(figure, curve, curve["measures"][measure], styles[curve["run"]])
    lines = sum(trace.name.count("<br>") + 1 for trace in figure.data if trace.name)
    below = 64 + 17 * lines + 4 * len(found)
    figure = theme.finish(
        figure,
        height=_HEIGHT + below,
        margin={"l": 10, "r": 10, "t": 16, "b": below},
        showlegend=True,
        legend={
            "orientation": "v",
            "x": 0,
            "xanchor": "left",
            "y": -52 / _HEIGHT,
            "yanchor": "top",
            "font": {"size": 12},
            "tracegroupgap": 2,
        },
    )
    figure.update_xaxes(
        title=_title("Chance that each modality of a patient is dropped"),
        tickformat=".0%",
        tickvals=[round(0.1 * i, 1) for i in range(10)],
        range=[-0.04 - 0.012 * len(banded), 0.92],
        gridcolor=theme.GRID,
        zeroline=False,
    )
    figure.update_yaxes(
        title=_title(MEASURES[measure]), gridcolor=theme.GRID, zeroline=False, automargin=True
    )
    return figure


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "font": {"color": theme.MUTED, "size": 12}, "standoff": 8}


def _line(figure: go.Figure, curve: Curve, values: Mapping[str, Any], style: RunStyle) -> None:
    heads, reads = title_lines(style.title, 44)
    figure.add_trace(
        go.Scatter(
            x=curve["chances"],
            y=values["mean"],
            mode="lines+markers",
            line={"color": style.colour, "width": 2.4, "dash": _DASHES.get(style.symbol, "solid")},
            marker={"color": style.colour, "symbol": style.symbol, "size": 7},
            name="<br>".join([*heads, *reads]),
            meta=curve["run"],
            customdata=[
                [low, high, told]
                for low, high, told in zip(
                    values["low"], values["high"], curve["told"], strict=True
                )
            ],
            hovertemplate=(
                f"{plain(style.title)}<br>dropped with %{{x:.0%}}: %{{y:.3f}} "
                "(%{customdata[0]:.3f} to %{customdata[1]:.3f})<br>"
                "%{customdata[2]:.2f} modalities left on average<extra></extra>"
            ),
        )
    )


def _band(figure: go.Figure, curve: Curve, values: Mapping[str, Any], style: RunStyle) -> None:
    x = list(curve["chances"])
    figure.add_trace(
        go.Scatter(
            x=[*x, *reversed(x)],
            y=[*values["low"], *reversed(values["high"])],
            fill="toself",
            fillcolor=theme.faded(style.colour, 0.12),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            meta=f"{curve['run']}/band",
        )
    )


def _patients(
    figure: go.Figure, plain_: Mapping[str, float | None], style: RunStyle, run: str, at: float
) -> None:
    if plain_["value"] is None or plain_["low"] is None or plain_["high"] is None:
        return
    figure.add_trace(
        go.Scatter(
            x=[at, at],
            y=[plain_["low"], plain_["high"]],
            mode="lines",
            line={"color": style.colour, "width": 3},
            showlegend=False,
            meta=f"{run}/patients",
            hovertemplate=(
                f"{plain(style.title)}<br>with everything: {number(plain_['value'])} "
                f"({number(plain_['low'])} to {number(plain_['high'])} over patients)"
                "<extra></extra>"
            ),
        )
    )


def frame(found: Sequence[Curve]) -> pd.DataFrame:
    """One row a run, measure and chance, in full precision."""
    return pd.DataFrame(
        [
            {
                "run": curve["run"],
                "measure": measure,
                "chance": chance,
                "modalities_left": told,
                "mean": mean,
                "low": low,
                "high": high,
                "plain_low": values["plain"]["low"],
                "plain_high": values["plain"]["high"],
                "patients": curve["n"],
                "events": curve["events"],
                "repeats": curve["repeats"],
                "seed": curve["seed"],
            }
            for curve in found
            for measure, values in curve["measures"].items()
            for chance, told, mean, low, high in zip(
                curve["chances"],
                curve["told"],
                values["mean"],
                values["low"],
                values["high"],
                strict=True,
            )
        ]
    )
