"""Pictures of a cohort."""

from __future__ import annotations

import plotly.graph_objects as go

from app import theme
from app.figures.text import count, plain
from app.workspace import CohortSummary


def availability(summary: CohortSummary) -> go.Figure:
    """Share of patients who have each modality, by split."""
    splits = list(summary.splits)
    names = list(summary.available)
    have = [[summary.available[name][split] for split in splits] for name in names]
    share = [
        [n / summary.splits[split] for n, split in zip(row, splits, strict=True)] for row in have
    ]
    text = [
        [f"{s:.0%}  ({n:,})" for s, n in zip(shares, counts, strict=True)]
        for shares, counts in zip(share, have, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            x=[f"{theme.split_title(s)}<br>{count(summary.splits[s], 'patient')}" for s in splits],
            y=[plain(summary.titles[name]) for name in names],
            z=share,
            customdata=have,
            text=text,
            texttemplate="%{text}",
            textfont={"size": 12},
            hovertemplate="%{y}: %{customdata:,} patients, %{z:.1%}<extra></extra>",
            zmin=0,
            zmax=1,
            xgap=3,
            ygap=3,
            colorscale=theme.SEQUENTIAL,
            showscale=False,
        )
    )
    figure = theme.finish(
        figure, height=70 + 38 * len(names), margin={"l": 10, "r": 10, "t": 54, "b": 6}
    )
    figure.update_xaxes(side="top", ticks="", showgrid=False, zeroline=False, automargin=True)
    figure.update_yaxes(
        autorange="reversed", ticks="", showgrid=False, zeroline=False, automargin=True
    )
    return figure
