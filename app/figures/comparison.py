"""Pictures of a comparison; evaluations are what `analysis.evaluation.evaluate` returns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from analysis.evaluation import best_unimodal, find_difference
from analysis.external import EXTERNAL
from app import theme
from app.figures.text import (
    count,
    interval,
    number,
    p_phrase,
    plain,
    signed,
    signed_interval,
    title_lines,
    two_lines,
)
from app.theme import RunStyle
from app.workspace import SIGNIFICANT, Gain, excludes_zero, gains, is_real, leader

Evaluation = Mapping[str, Any]
Styles = Mapping[str, RunStyle]
_ROW = 44
_GAP = 0.36  # share of a panel's width: room for the numbers written right of each


def ordered(evaluation: Evaluation) -> list[str]:
    """Names of runs as figures list them: fusion, single modalities, predictions made elsewhere.

    Best first within each.
    """
    rows = sorted(
        evaluation["runs"],
        key=lambda row: (
            row["strategy"] == EXTERNAL,
            row["strategy"] == "unimodal",
            -(row["c_index"]["value"] or 0),
        ),
    )
    return [row["run"] for row in rows]


def forest(evaluations: Mapping[str, Evaluation], styles: Styles) -> go.Figure:
    """C with its 95% interval, one panel a split on one scale; the best single modality dashed."""
    first = next(iter(evaluations.values()))
    names = ordered(first)
    ends = [
        row["c_index"][end]
        for evaluation in evaluations.values()
        for row in evaluation["runs"]
        for end in ("low", "high")
        if row["c_index"]["value"] is not None
    ]
    titles = [_forest_title(split, evaluation) for split, evaluation in evaluations.items()]
    figure = _panels(titles, names, styles, "Harrell's C (0.5 is chance, 1 is perfect)")
    for panel, evaluation in enumerate(evaluations.values(), start=1):
        rows = {row["run"]: row for row in evaluation["runs"]}
        baseline = best_unimodal(evaluation["runs"])
        if baseline is not None:
            _reference(figure, panel, baseline["c_index"]["value"], len(names), "dash")
        for position, name in enumerate(names):
            _estimate(figure, panel, position, name, rows[name]["c_index"], styles[name], ".3f")
            _beside(figure, panel, position, interval(rows[name]["c_index"]))
    _share_range(figure, len(evaluations), ends)
    return figure


def gain(found: Mapping[str, Sequence[Gain]], names: Sequence[str], styles: Styles) -> go.Figure:
    """What fusion adds to the best single modality, in points of C, one panel a split.

    names: the fusion runs in the order to list them. A split without a baseline has no panel.
    """
    shown = {split: gains for split, gains in found.items() if gains}
    titles = [
        f"<b>{theme.split_title(split)}</b><br>"
        f'<span style="color:{theme.MUTED}">against {plain(gains[0].baseline_title)}</span>'
        for split, gains in shown.items()
    ]
    figure = _panels(titles, names, styles, "Gain in points of C (C x 100)")
    ends = [0.0]
    for panel, split_gains in enumerate(shown.values(), start=1):
        by_name = {g.run: g for g in split_gains}
        _reference(figure, panel, 0.0, len(names), "solid")
        for position, name in enumerate(names):
            g = by_name[name]
            ends += [v for v in (g.points["low"], g.points["high"]) if v is not None]
            _estimate(figure, panel, position, name, g.points, styles[name], "+.1f")
            percent = f"{signed(g.percent['value'])}%" if g.percent["value"] is not None else ""
            _beside(figure, panel, position, f"{signed_interval(g.points)}<br>{percent}")
    _share_range(figure, len(shown), ends)
    return figure


def differences(evaluation: Evaluation, styles: Styles) -> go.Figure:
    """Every run against every other: row minus column in points of C."""
    names = ordered(evaluation)
    size = len(names)
    values: list[list[float | None]] = [[None] * size for _ in names]
    text = [[""] * size for _ in names]
    hover = [[""] * size for _ in names]
    figure = go.Figure()
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            found = find_difference(evaluation, row, column) if i != j else None
            if found is None or found["difference"]["value"] is None:
                continue
            points = {k: 100 * v for k, v in found["difference"].items()}
            values[i][j] = points["value"]
            label = signed(points["value"])
            text[i][j] = f"<b>{label}</b>" if excludes_zero(points) else label
            hover[i][j] = (
                f"{plain(styles[row].title)}<br>minus {plain(styles[column].title)}<br>"
                f"{signed_interval(points)} points, Holm {p_phrase(found['p_holm'])}"
            )
            if is_real(found):
                _outline(figure, i, j)
    largest = max((abs(v) for row in values for v in row if v is not None), default=1.0)
    figure.add_trace(
        go.Heatmap(
            z=values,
            x=list(range(size)),
            y=list(range(size)),
            text=text,
            texttemplate="%{text}",
            textfont={"size": 12},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=theme.DIVERGING,
            zmid=0,
            zmin=-max(largest, 1.0),
            zmax=max(largest, 1.0),
            xgap=2,
            ygap=2,
            colorbar={
                "title": {"text": "points of C", "side": "right", "font": {"size": 12}},
                "tickfont": {"size": 11},
                "thickness": 10,
                "len": 0.9,
                "outlinewidth": 0,
            },
        )
    )
    figure = theme.finish(
        figure,
        height=110 + _row_height(names, styles) * size,
        margin={"l": 10, "r": 10, "t": 60, "b": 10},
    )
    figure.update_xaxes(
        tickvals=list(range(size)),
        ticktext=[str(i + 1) for i in range(size)],
        side="top",
        title={"text": "minus run", "font": {"color": theme.MUTED, "size": 12}, "standoff": 4},
        ticks="",
        showgrid=False,
        zeroline=False,
        range=[-0.5, size - 0.5],
    )
    figure.update_yaxes(
        tickvals=list(range(size)),
        ticktext=[_labelled(styles[n], f"{i + 1}   ") for i, n in enumerate(names)],
        range=[size - 0.5, -0.5],
        ticks="",
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return figure


def winners(tasks: Mapping[str, Mapping[str, Evaluation]], styles: Styles) -> go.Figure:
    """Which run leads in each task and split, and whether it beats every single modality.

    tasks: {title: {split: evaluation}}.
    """
    splits = list(dict.fromkeys(split for found in tasks.values() for split in found))
    figure = go.Figure()
    for row, found in enumerate(tasks.values()):
        for column, split in enumerate(splits):
            best = leader(found[split]) if split in found else None
            if best is None:
                _cell(figure, row, column, "no comparison", theme.FAINT)
                continue
            _cell(figure, row, column, _winner(found[split], best), styles[best["run"]].colour)
    figure = theme.finish(
        figure, height=60 + 124 * len(tasks), margin={"l": 10, "r": 10, "t": 40, "b": 6}
    )
    figure.update_xaxes(
        tickvals=list(range(len(splits))),
        ticktext=[theme.split_title(s) for s in splits],
        side="top",
        ticks="",
        range=[-0.5, len(splits) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=list(range(len(tasks))),
        ticktext=["<br>".join(map(plain, textwrap.wrap(title, 24))) for title in tasks],
        range=[len(tasks) - 0.5, -0.5],
        ticks="",
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return figure


# ---------------------------------------------------------------- pieces


def _forest_title(split: str, evaluation: Evaluation) -> str:
    baseline = best_unimodal(evaluation["runs"])
    dashed = (
        "no single modality among the chosen runs"
        if baseline is None
        else f"dashed: {plain(baseline['title'])}, {number(baseline['c_index']['value'])}"
    )
    return (
        f"<b>{theme.split_title(split)}</b>: {count(evaluation['n'], 'patient')}, "
        f"{count(evaluation['events'], 'event')}"
        f'<br><span style="color:{theme.MUTED}">{dashed}</span>'
    )


def _panels(titles: Sequence[str], names: Sequence[str], styles: Styles, unit: str) -> go.Figure:
    """Empty panels side by side with one row a run; labels stand left of the first."""
    n = max(len(titles), 1)
    width, gap = 1 / n, _GAP if n > 1 else _GAP / 2
    layout: dict[str, Any] = {}
    annotations = []
    for i, title in enumerate(titles):
        tag = "" if i == 0 else str(i + 1)
        layout[f"xaxis{tag}"] = {
            "domain": [i * width, (i + 1 - gap) * width],
            "anchor": f"y{tag}",
            "title": {"text": unit, "font": {"color": theme.MUTED, "size": 12}, "standoff": 8},
            "gridcolor": theme.GRID,
            "zeroline": False,
            "automargin": True,
            "nticks": 5,
        }
        layout[f"yaxis{tag}"] = {
            "anchor": f"x{tag}",
            "range": [len(names) - 0.5, -0.5],
            "tickvals": list(range(len(names))),
            "ticktext": [_labelled(styles[name]) for name in names],
            "showticklabels": i == 0,
            "ticks": "",
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        }
        annotations.append(
            {
                "text": title,
                "xref": f"x{tag} domain",
                "yref": "paper",
                "x": 0,
                "y": 1,
                "yshift": 6,
                "xanchor": "left",
                "yanchor": "bottom",
                "align": "left",
                "showarrow": False,
            }
        )
    figure = go.Figure(layout={**layout, "annotations": annotations})
    return theme.finish(
        figure,
        height=130 + _row_height(names, styles) * len(names),
        margin={"l": 10, "r": 10, "t": 62, "b": 52},
    )


def _estimate(
    figure: go.Figure,
    panel: int,
    position: int,
    name: str,
    estimate: Mapping[str, float | None],
    style: RunStyle,
    form: str,
) -> None:
    if estimate["value"] is None:
        return
    low, value, high = (float(estimate[k] or 0.0) for k in ("low", "value", "high"))
    tag = "" if panel == 1 else str(panel)
    figure.add_trace(
        go.Scatter(
            x=[value],
            y=[position],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - value],
                "arrayminus": [value - low],
                "thickness": 2,
                "width": 0,
                "color": style.colour,
            },
            mode="markers",
            marker={
                "color": style.colour,
                "symbol": style.symbol,
                "size": 11,
                "line": {"color": "#FFFFFF", "width": 1},
            },
            name=plain(style.title),
            meta=name,
            customdata=[[low, high]],
            hovertemplate=(
                f"{plain(style.title)}<br>%{{x:{form}}} "
                f"(%{{customdata[0]:{form}}} to %{{customdata[1]:{form}}})<extra></extra>"
            ),
            xaxis=f"x{tag}",
            yaxis=f"y{tag}",
        )
    )


def _beside(figure: go.Figure, panel: int, position: int, text: str) -> None:
    tag = "" if panel == 1 else str(panel)
    figure.add_annotation(
        text=text,
        xref=f"x{tag} domain",
        yref=f"y{tag}",
        x=1,
        y=position,
        xshift=8,
        xanchor="left",
        align="left",
        showarrow=False,
        font={"size": 12, "color": theme.INK},
    )


def _reference(figure: go.Figure, panel: int, value: float, rows: int, dash: str) -> None:
    tag = "" if panel == 1 else str(panel)
    figure.add_shape(
        type="line",
        x0=value,
        x1=value,
        y0=-0.5,
        y1=rows - 0.5,
        xref=f"x{tag}",
        yref=f"y{tag}",
        layer="below",
        line={"color": theme.MUTED, "width": 1.5, "dash": dash},
    )


def _share_range(figure: go.Figure, panels: int, ends: Sequence[float]) -> None:
    """The same range on every panel, with a little air."""
    low, high = (min(ends), max(ends)) if ends else (0.4, 1.0)
    air = 0.06 * (high - low or 0.1)
    for panel in range(1, panels + 1):
        tag = "" if panel == 1 else str(panel)
        figure.layout[f"xaxis{tag}"].range = [low - air, high + air]


def _row_height(names: Sequence[str], styles: Styles) -> int:
    """Pixels a run needs: long titles take three lines or more."""
    lines = max(two_lines(styles[name].title).count("<br>") + 1 for name in names)
    return max(_ROW, 17 * lines + 8)


def _labelled(style: RunStyle, before: str = "") -> str:
    mark = {"circle": "●", "diamond": "◆", "square": "■", "triangle-up": "▲"}.get(style.symbol, "●")
    head, *rest = two_lines(style.title).split("<br>")
    coloured = f'<span style="color:{style.colour}">{mark}</span>'
    return "<br>".join([f"{before}{head} {coloured}", *rest])


def _outline(figure: go.Figure, row: int, column: int) -> None:
    figure.add_shape(
        type="rect",
        x0=column - 0.46,
        x1=column + 0.46,
        y0=row - 0.44,
        y1=row + 0.44,
        line={"color": theme.INK, "width": 2},
    )


def _cell(figure: go.Figure, row: int, column: int, text: str, colour: str) -> None:
    box = {"x0": column - 0.48, "x1": column + 0.48, "y0": row - 0.45, "y1": row + 0.45}
    figure.add_shape(
        type="rect", **box, fillcolor=theme.mix(colour, "#FFFFFF", 0.86), line={"width": 0}
    )
    figure.add_shape(
        type="rect", **{**box, "x1": column - 0.465}, fillcolor=colour, line={"width": 0}
    )
    figure.add_annotation(
        text=text, x=column - 0.44, y=row, xanchor="left", align="left", showarrow=False
    )


def _winner(evaluation: Evaluation, best: Mapping[str, Any]) -> str:
    heads, reads = title_lines(best["title"], 42)
    lines = [*(f"<b>{line}</b>" for line in heads), *reads, f"C {interval(best['c_index'])}"]
    return "<br>".join([*lines, _standing(evaluation, best)])


def _standing(evaluation: Evaluation, best: Mapping[str, Any]) -> str:
    if all(row["strategy"] == "unimodal" for row in evaluation["runs"]):
        return "no fusion run to compare with"
    if best["strategy"] == "unimodal":
        return "no fusion strategy is above it"
    baseline = best_unimodal(evaluation["runs"])
    found = next((g for g in gains(evaluation) if g.run == best["run"]), None)
    if baseline is None or found is None:
        return "no single modality to compare with"
    difference = find_difference(evaluation, best["run"], baseline["run"])
    words = f"{signed(found.points['value'])} points over the best single modality"
    if difference and is_real(difference):
        return f"<b>✓</b> {words}"
    p = difference["p"] if difference else None
    why = "lost after correction" if p is not None and p < SIGNIFICANT else "within chance"
    return f"{words}<br>({why})"
