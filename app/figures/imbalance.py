"""How balanced a run's modalities are; results of `analysis.imbalance`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.imbalance.shares import PatientShares
from app import theme
from app.figures.text import interval, plain, signed_interval
from app.theme import RunStyle
from models.fusion.base import STRATEGIES

Report = Mapping[str, Any]
SCORES = {"c_index": "Harrell's C", "auc": "AUC"}
MARKS = (
    ("shapley", "carries (Shapley value)", "circle", -0.24),
    ("gain", "adds to all the others", "diamond", 0.0),
    ("drop", "is lost when exchanged between patients", "square-open", 0.24),
)
_TASK_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "pentagon")


def forest(report: Report) -> go.Figure:
    """Three ways to ask what a modality is worth to the score, in points, with 95% intervals."""
    titles = report["modalities"]
    figure = go.Figure()
    for what, words, symbol, shift in MARKS:
        known = [
            (at, name, e) for at, (name, e) in enumerate(_worth(report, what).items())
            if e["value"] is not None
        ]  # fmt: skip
        values = [100 * e["value"] for _, _, e in known]
        colours = [theme.modality_mark(at)[0] for at, _, _ in known]
        figure.add_trace(
            go.Scatter(
                x=[x for _, _, e in known for x in (100 * e["low"], 100 * e["high"], None)],
                y=[y for at, _, _ in known for y in (at + shift, at + shift, None)],
                mode="lines",
                line={"color": theme.FAINT, "width": 1.8},
                hoverinfo="skip",
                showlegend=False,
                meta=f"{what}/interval",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=values,
                y=[at + shift for at, _, _ in known],
                mode="markers",
                marker={"color": colours, "symbol": symbol, "size": 10, "line": {"width": 1.6}},
                customdata=[
                    f"{plain(titles[name])} {words}: {signed_interval(_points(e))} points"
                    for _, name, e in known
                ],
                hovertemplate="%{customdata}<extra></extra>",
                showlegend=False,
                meta=what,
            )
        )
        # The key is grey: a colour stands for a modality, a mark for the question.
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                marker={"color": theme.MUTED, "symbol": symbol, "size": 10},
                name=words,
                meta=f"{what}/key",
            )
        )
    figure = theme.finish(
        figure,
        height=120 + 62 * len(titles),
        margin={"l": 10, "r": 16, "t": 40, "b": 46},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
    )
    figure.update_xaxes(
        title=_title(f"Points of {SCORES[report['metric']]} (95% interval)"),
        range=_span([x for trace in figure.data for x in trace.x if x is not None]),
        gridcolor=theme.GRID,
        zeroline=True,
        zerolinecolor=theme.MUTED,
    )
    figure.update_yaxes(
        tickvals=list(range(len(titles))),
        ticktext=[plain(t) for t in titles.values()],
        ticksuffix="  ",
        range=[len(titles) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return figure


def violins(found: PatientShares, titles: Mapping[str, str]) -> go.Figure:
    """How the share of each modality in a patient's prediction is spread over patients."""
    figure = go.Figure()
    for at, name in enumerate(found.modalities):
        own = found.shares[:, at]
        own = own[~np.isnan(own)]
        colour = theme.modality_mark(at)[0]
        figure.add_trace(
            go.Violin(
                x=own,
                y=[at] * len(own),
                orientation="h",
                width=0.8,
                spanmode="hard",
                line={"color": colour, "width": 1.4},
                fillcolor=theme.faded(colour, 0.25),
                box={"visible": True, "width": 0.14},
                points=False,
                hoverinfo="skip",
                name=plain(titles[name]),
                meta=name,
            )
        )
    m = len(found.modalities)
    figure.add_vline(x=1 / m, line={"color": theme.MUTED, "width": 1.5, "dash": "dash"})
    figure = theme.finish(figure, height=90 + 64 * m, margin={"l": 10, "r": 24, "t": 12, "b": 46})
    figure.update_xaxes(
        range=[0, 1],
        tickformat=".0%",
        gridcolor=theme.GRID,
        zeroline=False,
        title=_title("Share of a patient's own prediction (dashed: equal shares)"),
    )
    figure.update_yaxes(
        tickvals=list(range(m)),
        ticktext=[plain(titles[name]) for name in found.modalities],
        ticksuffix="  ",
        range=[m - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return figure


def ternary(found: PatientShares, titles: Mapping[str, str]) -> go.Figure:
    """Of three modalities: a patient a point, nearer to the corner that carries the prediction.

    Patients who have all three.
    """
    rows = ~np.isnan(found.shares).any(axis=1)
    a, b, c = found.shares[rows].T
    names = [plain(titles[name]) for name in found.modalities]
    figure = go.Figure(
        go.Scatterternary(
            a=a,
            b=b,
            c=c,
            mode="markers",
            marker={"color": theme.faded(theme.ACCENT, 0.45), "size": 6},
            customdata=found.subject_ids[rows],
            hovertemplate=(
                "Patient %{customdata}<br>"
                + "<br>".join(f"{n}: %{{{axis}:.0%}}" for n, axis in zip(names, "abc", strict=True))
                + "<extra></extra>"
            ),
            meta="patients",
        )
    )
    axis = {"tickformat": ".0%", "gridcolor": theme.GRID, "linecolor": theme.FAINT, "nticks": 5}
    figure = theme.finish(figure, height=400, margin={"l": 60, "r": 60, "t": 44, "b": 40})
    figure.update_layout(
        ternary={
            "bgcolor": "#FFFFFF",
            **{
                f"{which}axis": {**axis, "title": {"text": f"<b>{n}</b>", "font": {"size": 12}}}
                for which, n in zip("abc", names, strict=True)
            },
        }
    )
    return figure


def training(report: Report) -> go.Figure:
    """Share of the gradient norm by epoch, and beside it the score of each modality alone."""
    history, titles = report["history"], report["modalities"]
    score = SCORES[report["metric"]]
    figure = go.Figure()
    for at, name in enumerate(titles):
        colour, symbol = theme.modality_mark(at)
        for what, axis in (("gradient_share", ""), ("unimodal_score", "2")):
            figure.add_trace(
                go.Scatter(
                    x=history["epochs"],
                    y=history[what][name],
                    xaxis=f"x{axis}",
                    yaxis=f"y{axis}",
                    mode="lines+markers",
                    line={"color": colour, "width": 2},
                    marker={"color": colour, "symbol": symbol, "size": 6},
                    name=plain(titles[name]),
                    legendgroup=name,
                    showlegend=what == "gradient_share",
                    meta=f"{name}/{what}",
                    hovertemplate=(
                        f"{plain(titles[name])}, epoch %{{x}}: "
                        f"%{{y:{'.0%' if not axis else '.3f'}}}<extra></extra>"
                    ),
                )
            )
    figure.add_trace(
        go.Scatter(
            x=history["epochs"],
            y=history["tuning_score"],
            xaxis="x2",
            yaxis="y2",
            mode="lines",
            line={"color": theme.INK, "width": 2, "dash": "dash"},
            name="all modalities",
            meta="tuning_score",
            hovertemplate="all modalities, epoch %{x}: %{y:.3f}<extra></extra>",
        )
    )
    figure = theme.finish(
        figure,
        height=340,
        margin={"l": 10, "r": 10, "t": 40, "b": 46},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        xaxis={"domain": [0, 0.45], "title": _title("Epoch")},
        xaxis2={"domain": [0.55, 1], "title": _title("Epoch"), "anchor": "y2"},
        yaxis={"title": _title("Share of gradient norm"), "tickformat": ".0%", "range": [0, 1]},
        yaxis2={"title": _title(f"{score} of tuning patients"), "anchor": "x2"},
    )
    if history["best_epoch"] is not None:
        for axis in ("", "2"):
            figure.add_shape(
                type="line",
                x0=history["best_epoch"],
                x1=history["best_epoch"],
                y0=0,
                y1=1,
                xref=f"x{axis}",
                yref=f"y{axis} domain",
                layer="below",
                line={"color": theme.FAINT, "width": 1.5, "dash": "dot"},
            )
    figure.update_xaxes(gridcolor=theme.GRID, zeroline=False, fixedrange=True)
    figure.update_yaxes(gridcolor=theme.GRID, zeroline=False, fixedrange=True, automargin=True)
    return figure


def across(points: Sequence[Mapping[str, Any]], styles: Mapping[str, RunStyle]) -> go.Figure:
    """Balance of modalities against the gain of fusion over the best single one.

    A mark is a run on one split: colour by strategy, shape by task, hollow where external.
    """
    known = [
        p for p in points
        if p["balance"] and p["gain"]
        and p["balance"]["value"] is not None and p["gain"]["value"] is not None
    ]  # fmt: skip
    tasks = list(dict.fromkeys((p["cohort"], p["task"]) for p in known))
    symbols = {task: _TASK_SYMBOLS[i % len(_TASK_SYMBOLS)] for i, task in enumerate(tasks)}
    figure = go.Figure()
    for p in known:
        gain, colour = _points(p["gain"]), styles[p["run"]].colour
        symbol = symbols[p["cohort"], p["task"]]
        figure.add_trace(
            go.Scatter(
                x=[p["balance"]["value"]],
                y=[gain["value"]],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [(gain["high"] or 0.0) - (gain["value"] or 0.0)],
                    "arrayminus": [(gain["value"] or 0.0) - (gain["low"] or 0.0)],
                    "color": theme.faded(colour, 0.35),
                    "thickness": 1.2,
                    "width": 0,
                },
                mode="markers",
                marker={
                    "color": colour if p["split"] == "internal" else "#FFFFFF",
                    "symbol": symbol,
                    "size": 10,
                    "line": {"color": colour, "width": 1.8},
                },
                showlegend=False,
                meta=f"{p['run']}/{p['split']}",
                customdata=[_hover(p)],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    strategies = list(dict.fromkeys(p["strategy"] for p in known))
    for strategy in strategies:
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="lines",
                line={"color": theme.strategy_colour(strategy), "width": 6},
                name=plain(STRATEGIES.get(strategy).title),
                meta=f"{strategy}/key",
            )
        )
    for (cohort, task), symbol in symbols.items():
        one = next(p for p in known if (p["cohort"], p["task"]) == (cohort, task))
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                marker={"color": theme.MUTED, "symbol": symbol, "size": 10},
                name=f"{plain(one['cohort_title'])}: {plain(one['task_title'])}",
                meta=f"{cohort}/{task}/key",
            )
        )
    below = 70 + 20 * (len(symbols) + len(strategies))
    figure = theme.finish(
        figure,
        height=360 + below,
        margin={"l": 10, "r": 16, "t": 16, "b": below},
        showlegend=True,
        legend={"orientation": "v", "x": 0, "y": -56 / 344, "yanchor": "top", "font": {"size": 12}},
    )
    figure.update_xaxes(
        range=[-0.03, 1.03],
        gridcolor=theme.GRID,
        zeroline=False,
        title=_title("Balance of modalities: 0 one carries all, 1 all carry alike"),
    )
    figure.update_yaxes(
        gridcolor=theme.GRID,
        zeroline=True,
        zerolinecolor=theme.MUTED,
        automargin=True,
        title=_title("Gain over the best single modality, points"),
    )
    return figure


def _hover(p: Mapping[str, Any]) -> str:
    return (
        f"{plain(p['title'])}<br>{plain(p['cohort_title'])}: {plain(p['task_title'])}, "
        f"{theme.split_title(p['split']).lower()}, {p['n']:,} patients"
        f"<br>balance {interval(p['balance'], 2)}"
        f"<br>gain {signed_interval(_points(p['gain']))} points over {plain(p['best_title'])}"
    )


def frame(report: Report) -> pd.DataFrame:
    """One row a modality with every number of the verdict, in full precision."""
    shares = {row["modality"]: row for row in report["shares"]["modalities"]}
    alone = {row["modality"]: row for row in report["alone"]["modalities"]}
    seen = {row["modality"]: row for row in report["verdict"]["modalities"]}
    rows = []
    for at, name in enumerate(report["modalities"]):
        row: dict[str, Any] = {"run": report["run"], "split": report["split"], "modality": name}
        parts = {what: _worth(report, what)[name] for what, *_ in MARKS}
        parts |= {"share_of_score": report["shapley"]["modalities"][at]["share"]}
        parts |= {"told_alone": alone[name]["told_alone"], "unimodal": alone[name]["unimodal"]}
        parts |= {"unimodal_gap": alone[name]["gap"], "patient_share": shares[name]["mean"]}
        parts |= {what: shares[name][what] for what in ("changes", "decides")}
        for what, e in parts.items():
            for end in ("value", "low", "high"):
                row[what if end == "value" else f"{what}_{end}"] = None if e is None else e[end]
        row["exchanged_p"] = report["shuffled"]["modalities"][at]["p"]
        row["collapse_suspected"] = seen.get(name, {}).get("collapse_suspected")
        rows.append(row)
    return pd.DataFrame(rows)


def shares_frame(found: PatientShares) -> pd.DataFrame:
    """One row a patient: each modality's share, empty where it is not counted."""
    shares = {f"share_{name}": found.shares[:, at] for at, name in enumerate(found.modalities)}
    return pd.DataFrame({"subject_id": found.subject_ids, **shares})


def training_frame(report: Report) -> pd.DataFrame:
    """One row an epoch and modality."""
    history = report["history"]
    return pd.DataFrame(
        [
            {
                "epoch": epoch,
                "modality": name,
                **{
                    what: history[what][name][at]
                    for what in ("gradient_norm", "gradient_share", "unimodal_score")
                },
                "tuning_score": history["tuning_score"][at],
            }
            for name in report["modalities"]
            for at, epoch in enumerate(history["epochs"])
        ]
    )


def across_frame(points: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run and split, in full precision."""
    rows = []
    for p in points:
        row = {k: v for k, v in p.items() if k not in ("balance", "gain")}
        for what in ("balance", "gain"):
            for end in ("value", "low", "high"):
                key = what if end == "value" else f"{what}_{end}"
                row[key] = None if p[what] is None else p[what][end]
        rows.append(row)
    return pd.DataFrame(rows)


def _worth(report: Report, what: str) -> dict[str, Mapping[str, float | None]]:
    """{modality: estimate} of one of the three questions."""
    if what == "shapley":
        return {row["modality"]: row["value"] for row in report["shapley"]["modalities"]}
    if what == "gain":
        return {row["modality"]: row["gain"] for row in report["utilisation"]}
    return {row["modality"]: row["drop"] for row in report["shuffled"]["modalities"]}


def _span(values: Sequence[float]) -> list[float]:
    """An axis that holds zero and all values, with some air."""
    low, high = min([0.0, *values]), max([0.0, *values])
    air = 0.04 * ((high - low) or 1.0)
    return [low - air, high + air]


def _points(estimate: Mapping[str, float | None]) -> dict[str, float | None]:
    ends = ("value", "low", "high")
    return {end: None if (v := estimate[end]) is None else 100 * v for end in ends}


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "font": {"color": theme.MUTED, "size": 12}, "standoff": 8}
