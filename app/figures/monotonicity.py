"""Whether a modality more ever makes it worse; results of `monotonicity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.fewer import MEASURES
from app.figures.text import interval, p_phrase, plain, signed_interval

Row = Mapping[str, Any]
BETTER, WORSE = theme.DIVERGING[-1][1], theme.DIVERGING[0][1]
SAME = "#D5DBE0"
KINDS = (
    ("higher", "#C3CBD2", "solid", 1.2, "scores higher with one more"),
    ("lower", WORSE, "dot", 1.8, "lower, within chance"),
    ("beyond", "#B2182B", "solid", 2.6, "lower, interval below zero"),
)
_LABELLED = 3  # modalities; with more, names stand in the hover


def shares(rows: Sequence[Row], titles: Mapping[str, str]) -> go.Figure:
    """For each modality the patients whom it made better, left alone, or made worse."""
    figure = go.Figure()
    names = list(reversed(rows))
    parts = (
        ("better", "better with it", BETTER),
        ("same", "the same", SAME),
        ("worse", "worse with it", WORSE),
    )
    for part, words, colour in parts:
        share = [row[part] / row["n"] if row["n"] else 0.0 for row in names]
        figure.add_trace(
            go.Bar(
                x=share,
                y=[plain(titles[row["modality"]]) for row in names],
                orientation="h",
                marker={"color": colour},
                name=words,
                meta=part,
                text=[
                    f"{row[part]:,}" if s >= 0.04 else ""
                    for row, s in zip(names, share, strict=True)
                ],
                textposition="inside",
                insidetextanchor="middle",
                textfont={"color": theme.INK if part == "same" else "#FFFFFF", "size": 12},
                customdata=[[row[part], row["n"]] for row in names],
                hovertemplate=(
                    f"%{{y}}: {words}<br>%{{customdata[0]:,}} of %{{customdata[1]:,}} patients, "
                    "%{x:.1%}<extra></extra>"
                ),
            )
        )
    figure = theme.finish(
        figure,
        height=100 + 38 * len(names),
        margin={"l": 10, "r": 16, "t": 34, "b": 46},
        barmode="stack",
        bargap=0.35,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
    )
    figure.update_xaxes(
        range=[0, 1],
        tickformat=".0%",
        gridcolor=theme.GRID,
        zeroline=False,
        title={
            "text": "Patients who have it and something else",
            "font": {"color": theme.MUTED, "size": 12},
            "standoff": 6,
        },
    )
    figure.update_yaxes(ticks="", ticksuffix="  ", showgrid=False, automargin=True)
    return figure


def lattice(found: Mapping[str, Any], titles: Mapping[str, str]) -> go.Figure:
    """Combinations by size with their score; a line leads to the same with one modality more."""
    metric = found["metric"]
    nodes = {frozenset(n["modalities"]): n for n in found["nodes"]}
    place = _places(list(nodes), list(titles))
    figure = go.Figure()
    for kind, colour, dash, width, _ in KINDS:
        _edges(figure, found, nodes, place, kind, {"color": colour, "dash": dash, "width": width})
    few = len(titles) <= _LABELLED
    figure.add_trace(
        go.Scatter(
            x=[place[key] for key in nodes],
            y=[node[metric]["value"] for node in nodes.values()],
            mode="markers+text" if few else "markers",
            marker={"color": theme.INK, "size": 9, "line": {"color": "#FFFFFF", "width": 1.5}},
            text=[_names(node["modalities"], titles) for node in nodes.values()] if few else None,
            textposition="top center",
            textfont={"size": 11},
            cliponaxis=False,
            customdata=[
                f"{_names(n['modalities'], titles)}<br>{MEASURES[metric]} {interval(n[metric])}"
                for n in nodes.values()
            ],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            meta="nodes",
        )
    )
    figure = theme.finish(
        figure,
        height=430,
        margin={"l": 10, "r": 40, "t": 44, "b": 46},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    size = len(titles)
    figure.update_xaxes(
        range=[0.45, size + 0.45],
        tickvals=list(range(1, size + 1)),
        showgrid=False,
        zeroline=False,
        title={"text": "Modalities told", "font": {"color": theme.MUTED, "size": 12}},
    )
    figure.update_yaxes(
        gridcolor=theme.GRID,
        zeroline=False,
        automargin=True,
        title={"text": MEASURES[metric], "font": {"color": theme.MUTED, "size": 12}},
    )
    return figure


def _places(keys: Sequence[frozenset[str]], names: Sequence[str]) -> dict[frozenset[str], float]:
    """Where each combination stands: its size, moved a little so that lines do not hide others."""
    place: dict[frozenset[str], float] = {}
    for size in range(1, len(names) + 1):
        members = [key for key in keys if len(key) == size]
        step = 0.5 / max(len(members), 2)
        for i, key in enumerate(members):
            place[key] = size + step * (i - (len(members) - 1) / 2)
    return place


def kind_of(edge: Mapping[str, Any]) -> str | None:
    """'higher', 'lower' (within chance) or 'beyond' (its interval lies below zero)."""
    gap = edge["difference"]
    if gap["value"] is None:
        return None
    if gap["value"] >= 0:
        return "higher"
    return "beyond" if gap["high"] is not None and gap["high"] < 0 else "lower"


def _edges(
    figure: go.Figure,
    found: Mapping[str, Any],
    nodes: Mapping[frozenset[str], Any],
    place: Mapping[frozenset[str], float],
    kind: str,
    line: Mapping[str, Any],
) -> None:
    metric = found["metric"]
    x: list[float | None] = []
    y: list[float | None] = []
    for edge in found["edges"]:
        if kind_of(edge) != kind:
            continue
        low = frozenset(edge["modalities"])
        high = low | {edge["added"]}
        x += [place[low], place[high], None]
        y += [nodes[low][metric]["value"], nodes[high][metric]["value"], None]
    words = next(w for k, _, _, _, w in KINDS if k == kind)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line=dict(line),
            name=f"{words} ({len(x) // 3})",
            hoverinfo="skip",
            meta=kind,
            showlegend=True,
        )
    )


def _names(modalities: Sequence[str], titles: Mapping[str, str]) -> str:
    return " + ".join(plain(titles[name]) for name in modalities)


def edge_words(edge: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """'ECG added to Labs: −1.2 (−2.0 to −0.4) points, Holm p = 0.03'."""
    points = {k: None if v is None else 100 * v for k, v in edge["difference"].items()}
    names = " + ".join(titles[n] for n in edge["modalities"])
    return (
        f"{titles[edge['added']]} added to {names}: {signed_interval(points)} points, "
        f"Holm {p_phrase(edge['p_holm'])}"
    )


def shares_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a modality, in full precision."""
    out = []
    for row in rows:
        change = row["mean_change"]
        out.append(
            {
                **{k: row[k] for k in ("modality", "n", "only", "worse", "same", "better")},
                "worse_share": row["worse_share"]["value"],
                "worse_share_low": row["worse_share"]["low"],
                "worse_share_high": row["worse_share"]["high"],
                "loss_with": row["loss_with"],
                "loss_without": row["loss_without"],
                "mean_change": change["value"],
                "mean_change_low": change["low"],
                "mean_change_high": change["high"],
                "p": row["p"],
                "p_holm": row["p_holm"],
                "harm": row["harm"],
            }
        )
    return pd.DataFrame(out)


def lattice_frame(found: Mapping[str, Any]) -> pd.DataFrame:
    """One row an edge, in full precision."""
    return pd.DataFrame(
        [
            {
                "combination": " + ".join(edge["modalities"]),
                "added": edge["added"],
                "difference": edge["difference"]["value"],
                "low": edge["difference"]["low"],
                "high": edge["difference"]["high"],
                "p": edge["p"],
                "p_holm": edge["p_holm"],
            }
            for edge in found["edges"]
        ]
    )
