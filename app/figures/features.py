"""Attention between modality-specific and shared features as matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.attribution.feature_attention import FeatureAttention
from app import theme
from app.figures.text import count, number, plain

_CELL, _LEFT, _TOP = 44, 150, 70


def feature_matrices(maps: Mapping[str, FeatureAttention]) -> go.Figure:
    """One matrix a group on one colour scale; rows look at columns."""
    names = list(maps)
    first = next(iter(maps.values()))
    short = ["<br>+ ".join(plain(part) for part in n.split(" + ")) for n in first.names]
    rows = [plain(n) for n in first.names]
    largest = max(float(np.nanmax(m.weights)) for m in maps.values())
    titles = [
        plain(n) if m.n == 1 else f"{plain(n)} ({count(m.n, 'patient')})" for n, m in maps.items()
    ]
    figure = make_subplots(
        rows=1, cols=len(names), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03
    )
    for at, name in enumerate(names, start=1):
        weights = maps[name].weights
        text = [["" if np.isnan(v) else number(float(v), 2) for v in row] for row in weights]
        hover = [
            [f"{r} looks at {c}: {t or 'not there'}" for c, t in zip(rows, line, strict=True)]
            for r, line in zip(rows, text, strict=True)
        ]
        figure.add_trace(
            go.Heatmap(
                z=weights,
                x=short,
                y=rows,
                text=text,
                texttemplate="%{text}",
                customdata=hover,
                hovertemplate="%{customdata}<extra></extra>",
                colorscale=theme.SEQUENTIAL,
                zmin=0,
                zmax=largest,
                hoverongaps=False,
                showscale=at == len(names),
                colorbar={"title": {"text": "attention"}, "thickness": 12},
                xgap=2,
                ygap=2,
            ),
            row=1,
            col=at,
        )
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    figure.update_xaxes(ticks="", showgrid=False, tickangle=0, tickfont={"size": 10})
    return theme.finish(
        figure,
        height=_TOP + _CELL * len(rows) + 80,
        margin={"l": _LEFT, "r": 20, "t": _TOP, "b": 60},
    )


def feature_frame(maps: Mapping[str, FeatureAttention]) -> pd.DataFrame:
    """Every cell in full precision."""
    rows: list[dict[str, object]] = []
    for group, found in maps.items():
        names: Sequence[str] = found.names
        for i, row in enumerate(names):
            for j, column in enumerate(names):
                rows.append(
                    {
                        "group": group,
                        "patients": found.n,
                        "from": row,
                        "to": column,
                        "attention": float(found.weights[i, j]),
                    }
                )
    return pd.DataFrame(rows)
