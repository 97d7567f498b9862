"""One patient's embeddings as rows of colour, and what the singular values say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.representation.patient import PatientRows
from app import theme
from app.figures.representation import STAGE_TITLES
from app.figures.text import number, plain

SCALE_TITLES = {"as_given": "typical size = 1", "standardised": "sd from the mean patient"}
_ROW, _TITLE, _FOOT = 30, 46, 44
_SHOWN = 3.0


def rows_figure(found: Mapping[str, PatientRows], titles: Mapping[str, str]) -> go.Figure:
    """Modalities by dimensions, one panel a stage on one colour scale that ends at +-3."""
    stages = [s for s in STAGE_TITLES if s in found]
    height = len(stages) * (_TITLE + _ROW * len(titles)) + _FOOT
    figure = go.Figure()
    for panel, stage in enumerate(stages, start=1):
        figure.add_trace(_panel(found[stage], titles, panel))
    theme.finish(
        figure,
        height=height,
        margin={"l": 10, "r": 10, "t": _TITLE - 12, "b": _FOOT},
        coloraxis={
            "colorscale": theme.DIVERGING,
            "cmin": -_SHOWN,
            "cmax": _SHOWN,
            "colorbar": {
                "title": {"text": _scale_title(found), "side": "right", "font": {"size": 12}},
                "tickvals": [-3, -2, -1, 0, 1, 2, 3],
                "ticktext": ["−3 or less", "−2", "−1", "0", "1", "2", "3 or more"],
                "thickness": 12,
                "outlinewidth": 0,
            },
        },
    )
    inside = height - (_TITLE - 12) - _FOOT
    for panel, stage in enumerate(stages, start=1):
        top = 1 - (panel - 1) * (_TITLE + _ROW * len(titles)) / inside
        bottom = top - _ROW * len(titles) / inside
        _axes(figure, panel, found[stage], titles, (max(bottom, 0.0), min(top, 1.0)))
    return figure


def rows_frame(found: Mapping[str, PatientRows], titles: Mapping[str, str]) -> pd.DataFrame:
    """Every cell in full precision."""
    return pd.DataFrame(
        [
            {
                "subject_id": one.subject_id,
                "stage": stage,
                "scale": one.scale,
                "modality": name,
                "modality_title": titles[name],
                "dimension": i + 1,
                "value": float(value),
            }
            for stage, one in found.items()
            for name, row in one.rows.items()
            for i, value in enumerate(row)
        ]
    )


def spectrum(shares: Mapping[str, Any]) -> go.Figure:
    """Mean share of every singular value, the stages beside each other.

    shares: `spectrum` of `representation`.
    """
    figure = go.Figure()
    looks = {"before": theme.OTHER_GREY, "after": theme.ACCENT}
    largest = 0.0
    for stage, colour in looks.items():
        values: Sequence[float] = shares.get(stage) or ()
        if not values:
            continue
        largest = max(largest, *values)
        figure.add_trace(
            go.Bar(
                x=[f"σ<sub>{i + 1}</sub>" for i in range(len(values))],
                y=list(values),
                name=STAGE_TITLES[stage],
                marker={"color": colour},
                text=[number(v, 2) for v in values],
                textposition="outside",
                textfont={"size": 11},
                cliponaxis=False,
                hovertemplate="%{x}: %{y:.3f}<extra></extra>",
            )
        )
    theme.finish(
        figure,
        height=300,
        margin={"l": 10, "r": 10, "t": 30, "b": 40},
        barmode="group",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_yaxes(
        title={"text": "Share of the sum", "font": {"size": 12, "color": theme.MUTED}},
        range=[0, min(1.08, largest * 1.2)],
        gridcolor=theme.GRID,
        automargin=True,
    )
    figure.update_xaxes(
        title={"text": "Singular value", "font": {"size": 12, "color": theme.MUTED}}
    )
    return figure


def spectrum_frame(shares: Mapping[str, Any]) -> pd.DataFrame:
    """The bars in full precision."""
    return pd.DataFrame(
        [
            {"stage": stage, "singular_value": i + 1, "share": v, "patients": shares["n"]}
            for stage in STAGE_TITLES
            for i, v in enumerate(shares.get(stage) or ())
        ]
    )


def _panel(one: PatientRows, titles: Mapping[str, str], panel: int) -> go.Heatmap:
    width = max((len(row) for row in one.rows.values()), default=1)
    values = np.full((len(titles), width), np.nan)
    for at, name in enumerate(titles):
        if name in one.rows:
            values[at, : len(one.rows[name])] = one.rows[name]
    tag = "" if panel == 1 else str(panel)
    return go.Heatmap(
        z=values,
        x=np.arange(1, width + 1),
        y=[plain(title) for title in titles.values()],
        coloraxis="coloraxis",
        hoverongaps=False,
        ygap=2,
        hovertemplate="%{y}, dimension %{x}: %{z:.2f}<extra></extra>",
        meta=one.stage,
        xaxis=f"x{tag}",
        yaxis=f"y{tag}",
    )


def _scale_title(found: Mapping[str, PatientRows]) -> str:
    return SCALE_TITLES[next(iter(found.values())).scale]


def _axes(
    figure: go.Figure,
    panel: int,
    one: PatientRows,
    titles: Mapping[str, str],
    domain: tuple[float, float],
) -> None:
    tag = "" if panel == 1 else str(panel)
    last = panel == sum(isinstance(t, go.Heatmap) for t in figure.data)
    label = {"text": "Dimension", "font": {"size": 12, "color": theme.MUTED}, "standoff": 6}
    figure.update_layout(
        {
            f"xaxis{tag}": {
                "anchor": f"y{tag}",
                "showgrid": False,
                "zeroline": False,
                "ticks": "",
                "fixedrange": True,
                "showticklabels": last,
                "title": label if last else None,
            },
            f"yaxis{tag}": {
                "anchor": f"x{tag}",
                "domain": list(domain),
                "autorange": "reversed",
                "showgrid": False,
                "zeroline": False,
                "ticks": "",
                "fixedrange": True,
                "automargin": True,
            },
        }
    )
    words = "" if np.isnan(one.mean) else f": mean correlation of its rows {number(one.mean, 2)}"
    if not np.isnan(one.others):
        words += f" (with rows of other patients {number(one.others, 2)})"
    figure.add_annotation(
        text=f"<b>{STAGE_TITLES[one.stage]}</b>{words}",
        xref=f"x{tag} domain",
        yref="paper",
        x=0,
        y=domain[1],
        yshift=3,
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )
    absent = [name for name in titles if name not in one.rows]
    for name in absent:
        figure.add_annotation(
            text="absent in this patient",
            xref=f"x{tag} domain",
            yref=f"y{tag}",
            x=0.5,
            y=plain(titles[name]),
            showarrow=False,
            font={"size": 12, "color": theme.MUTED},
        )
