"""Pictures of class tasks; evaluations are what `evaluate_labels` and `by_combination` return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.figures.text import MISSING, count, interval, number, p_phrase, plain, title_lines
from app.theme import RunStyle
from app.workspace import SIGNIFICANT

Evaluation = Mapping[str, Any]
Table = Mapping[str, Any]
Styles = Mapping[str, RunStyle]
BandKind = Literal["pointwise", "whole", "none"]
Measure = Literal["auc", "accuracy", "c_index"]

MEASURE_TITLES: Mapping[str, str] = {
    "auc": "Area under the ROC curve",
    "accuracy": "Accuracy",
    "c_index": "Harrell's C",
}
_BAND_ENDS = {"pointwise": ("low", "high"), "whole": ("all_low", "all_high")}
# More bands than this hide one another; then only the best run has one.
_MOST_BANDS = 3
_SQUARE = 360


def roc_figure(evaluation: Evaluation, styles: Styles, band: BandKind = "pointwise") -> go.Figure:
    """ROC curves with 95% bands, the chosen cut-off marked; AUC and interval in the legend.

    band: of each place, of whole curves, or none; with more than three runs only the best run's.
    """
    figure = go.Figure()
    figure.add_shape(
        type="line",
        x0=0,
        y0=0,
        x1=1,
        y1=1,
        layer="below",
        line={"color": theme.MUTED, "width": 1.2, "dash": "dash"},
    )
    drawn = [row for row in _best_first(evaluation, "auc") if row["roc"]]
    banded = _banded(drawn, band)
    for row in drawn:
        style, roc = styles[row["run"]], row["roc"]
        if row["run"] in banded:
            _band(figure, row["run"], style, roc["band"], _BAND_ENDS[band])
        figure.add_trace(
            go.Scatter(
                x=roc["fpr"],
                y=roc["tpr"],
                mode="lines",
                line={"color": style.colour, "width": 2.2, "dash": _dash(style)},
                name=_entry(style, f"AUC {interval(row['auc'])}"),
                meta=row["run"],
                legendgroup=row["run"],
                hovertemplate=(
                    f"{plain(style.title)}<br>sensitivity %{{y:.3f}}, "
                    "1 − specificity %{x:.3f}<extra></extra>"
                ),
            )
        )
        _operating_point(figure, row, style)
    figure = _square(figure, evaluation, drawn, styles)
    figure.update_xaxes(title=_axis_title("1 − specificity"))
    figure.update_yaxes(title=_axis_title("Sensitivity"))
    return figure


def pr_figure(evaluation: Evaluation, styles: Styles, band: BandKind = "pointwise") -> go.Figure:
    """Precision-recall curves with 95% bands; average precision in the legend.

    The dashed line is the prevalence, what a run that knows nothing achieves. The curve is drawn
    in steps, so that the area under it is the average precision.
    """
    figure = go.Figure()
    drawn = [row for row in _best_first(evaluation, "average_precision") if row["pr"]]
    banded = _banded(drawn, band)
    for row in drawn:
        style, pr = styles[row["run"]], row["pr"]
        if row["run"] in banded:
            _band(figure, row["run"], style, pr["band"], _BAND_ENDS[band])
        figure.add_trace(
            go.Scatter(
                x=[0.0, *pr["recall"]],
                y=[pr["precision"][0], *pr["precision"]],
                mode="lines",
                line={"color": style.colour, "width": 2.2, "dash": _dash(style), "shape": "vh"},
                name=_entry(style, f"AP {interval(row['average_precision'])}"),
                meta=row["run"],
                legendgroup=row["run"],
                hovertemplate=(
                    f"{plain(style.title)}<br>precision %{{y:.3f}} at recall %{{x:.3f}}"
                    "<extra></extra>"
                ),
            )
        )
    if drawn:
        prevalence = drawn[0]["prevalence"]
        figure.add_shape(
            type="line",
            x0=0,
            x1=1,
            y0=prevalence,
            y1=prevalence,
            layer="below",
            line={"color": theme.MUTED, "width": 1.2, "dash": "dash"},
        )
        figure.add_annotation(
            x=0.01,
            y=prevalence,
            text=f"prevalence {number(prevalence)}",
            xanchor="left",
            yanchor="top" if prevalence > 0.1 else "bottom",
            showarrow=False,
            font={"size": 12, "color": theme.MUTED},
        )
    figure = _square(figure, evaluation, drawn, styles)
    figure.update_xaxes(title=_axis_title("Recall (sensitivity)"))
    figure.update_yaxes(title=_axis_title("Precision (PPV)"))
    return figure


def confusion_figure(evaluation: Evaluation, run: str) -> go.Figure:
    """Who is called what: patients, and their share of the row's true class."""
    row = next(row for row in evaluation["runs"] if row["run"] == run)
    classes, table = evaluation["classes"], row["confusion"]
    shares = [[n / sum(line) if sum(line) else None for n in line] for line in table]
    text = [
        [
            f"<b>{n:,}</b><br>{MISSING if share is None else f'{100 * share:.1f}%'}"
            for n, share in zip(line, parts, strict=True)
        ]
        for line, parts in zip(table, shares, strict=True)
    ]
    size = len(classes)
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=list(range(size)),
            y=list(range(size)),
            text=text,
            texttemplate="%{text}",
            textfont={"size": 14, "color": theme.INK},
            colorscale=theme.SEQUENTIAL,
            zmin=0,
            zmax=1,
            xgap=3,
            ygap=3,
            showscale=False,
            meta=run,
            hovertemplate="%{text}<extra></extra>",
        )
    )
    heads, reads = title_lines(row["title"], 44)
    head = [*(f"<b>{line}</b>" for line in heads), *(_muted(line) for line in reads)]
    lines = [*head, *(_muted(line) for line in title_lines(_called(row), 46)[0])]
    figure = theme.finish(
        figure,
        height=76 + 84 * size + 19 * len(lines),
        margin={"l": 10, "r": 10, "t": 52 + 19 * len(lines), "b": 10},
    )
    ticks = ["<br>".join(title_lines(name, 18)[0]) for name in classes]
    totals = [
        f"{t}<br>{_muted(f'n = {sum(line):,}')}" for t, line in zip(ticks, table, strict=True)
    ]
    _grid_axes(figure, ticks, totals)
    figure.update_xaxes(title=_axis_title("called"))
    figure.update_yaxes(title=_axis_title("truth"))
    _heading(figure, *lines)
    return figure


def combination_figure(
    tables: Sequence[Table], styles: Styles, measure: Measure | None = None
) -> go.Figure:
    """Runs by combinations of modalities: the measure with its 95% interval.

    Underlined: the best run of a combination, where several runs have it. A star: differs from
    the same run with all its modalities (Holm-adjusted p < 0.05). A dash: the run does not read
    all of these. measure: 'auc' or 'accuracy' for classes, 'c_index' for survival.
    """
    chosen = measure or (tables[0]["metric"] if tables else "auc")
    columns = _columns(tables)
    best = _best(tables, columns, chosen)
    values: list[list[float | None]] = []
    text: list[list[str]] = []
    hover: list[list[str]] = []
    for row, table in enumerate(tables):
        entries = {frozenset(e["modalities"]): e[chosen] for e in table["combinations"]}
        found = _differences(table, chosen)
        values.append([])
        text.append([])
        hover.append([])
        for column in columns:
            estimate = entries.get(frozenset(column))
            if estimate is None or estimate["value"] is None:
                values[-1].append(None)
                text[-1].append(MISSING)
                hover[-1].append("not read by this run")
                continue
            difference = found.get(frozenset(column))
            star = "*" if _real(difference) else ""
            shown = f"<b>{number(estimate['value'], 2)}</b>{star}"
            if best.get(column) == row:
                shown = f"<u>{shown}</u>"
            ends = f"{number(estimate['low'], 2)} to {number(estimate['high'], 2)}"
            values[-1].append(estimate["value"])
            text[-1].append(f'{shown}<br><span style="font-size:11px">{ends}</span>')
            hover[-1].append(_cell_hover(table, column, estimate, difference))
    same = len({(table["n"], table["events"]) for table in tables}) < 2
    labels = [_row_label(table, styles, counted=not same) for table in tables]
    heads = ["<br>+ ".join(_titles(tables, column)) for column in columns]
    known = [v for line in values for v in line if v is not None]
    low, high = (min(known), max(known)) if known else (0.5, 1.0)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(range(len(columns))),
            y=list(range(len(tables))),
            text=text,
            texttemplate="%{text}",
            textfont={"size": 13, "color": theme.INK},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=theme.SEQUENTIAL,
            # Room at both ends: the lowest cell is not blank, text on the highest is legible.
            zmin=low - 0.25 * max(high - low, 0.02),
            zmax=high + 0.4 * max(high - low, 0.02),
            xgap=3,
            ygap=3,
            showscale=False,
        )
    )
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value is None:
                figure.add_annotation(
                    x=column, y=row, text=MISSING, showarrow=False, font={"color": theme.FAINT}
                )
    lines = _combination_lines(tables, chosen, best, same=same)
    deepest = max((len(c) for c in columns), default=1)
    tall = max((label.count("<br>") + 1 for label in labels), default=1)
    top = 24 + 17 * deepest + 19 * len(lines)
    figure = theme.finish(
        figure,
        height=top + 16 + max(50, 16 * tall + 10) * max(len(tables), 1),
        margin={"l": 10, "r": 10, "t": top, "b": 10},
    )
    _grid_axes(figure, heads, labels)
    _heading(figure, *lines)
    return figure


def combination_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """One row a run and combination, in full precision; differences are the whole minus it."""
    rows = []
    for table in tables:
        measures = ("auc", "accuracy") if table["metric"] == "auc" else ("c_index",)
        for entry in table["combinations"]:
            row: dict[str, Any] = {
                "run": table["run"],
                "title": table["title"],
                "task": table["task"],
                "split": table["split"],
                "patients": table["n"],
                "events": table["events"],
                "combination": " + ".join(entry["modalities"]),
            }
            for measure in measures:
                found = _differences(table, measure).get(frozenset(entry["modalities"]))
                gap = found["difference"] if found else dict.fromkeys(("value", "low", "high"))
                row |= {
                    measure: entry[measure]["value"],
                    f"{measure}_low": entry[measure]["low"],
                    f"{measure}_high": entry[measure]["high"],
                    f"{measure}_difference": gap["value"],
                    f"{measure}_difference_low": gap["low"],
                    f"{measure}_difference_high": gap["high"],
                    f"{measure}_p_holm": found["p_holm"] if found else None,
                }
            rows.append(row)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- pieces of curves


def _best_first(evaluation: Evaluation, measure: str) -> list[Mapping[str, Any]]:
    def value(row: Mapping[str, Any]) -> float:
        return -float((row[measure] or {}).get("value") or 0.0)

    return sorted(evaluation["runs"], key=value)


def _banded(rows: Sequence[Mapping[str, Any]], band: BandKind) -> set[str]:
    if band == "none":
        return set()
    return {row["run"] for row in (rows if len(rows) <= _MOST_BANDS else rows[:1])}


def _band(
    figure: go.Figure,
    run: str,
    style: RunStyle,
    band: Mapping[str, Sequence[float]],
    ends: tuple[str, str],
) -> None:
    low, high = (list(band[end]) for end in ends)
    at = list(band["at"])
    figure.add_trace(
        go.Scatter(
            x=[*at, *reversed(at)],
            y=[*low, *reversed(high)],
            fill="toself",
            fillcolor=theme.faded(style.colour, 0.13),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=run,
            meta=f"{run}/band",
        )
    )


def _operating_point(figure: go.Figure, row: Mapping[str, Any], style: RunStyle) -> None:
    """Where the run's cut-off lies; not for K > 2 classes, which have none."""
    found = row.get("sensitivity"), row.get("specificity")
    if any(part is None or part["value"] is None for part in found):
        return
    sensitivity, specificity = (float(part["value"]) for part in found if part is not None)
    figure.add_trace(
        go.Scatter(
            x=[1 - specificity],
            y=[sensitivity],
            mode="markers",
            marker={
                "color": style.colour,
                "symbol": style.symbol,
                "size": 10,
                "line": {"color": "#FFFFFF", "width": 1.5},
            },
            showlegend=False,
            legendgroup=row["run"],
            meta=f"{row['run']}/cutoff",
            hovertemplate=(
                f"{plain(style.title)}<br>{plain(_called(row))}<br>"
                f"sensitivity {interval(row['sensitivity'])}<br>"
                f"specificity {interval(row['specificity'])}<extra></extra>"
            ),
        )
    )


def _square(
    figure: go.Figure, evaluation: Evaluation, drawn: Sequence[Mapping[str, Any]], styles: Styles
) -> go.Figure:
    """Equal axes from 0 to 1 with the legend below, and who was counted above."""
    lines = sum(trace.name.count("<br>") + 1 for trace in figure.data if trace.name)
    below = 62 + 17 * lines + 7 * len(drawn)
    figure = theme.finish(
        figure,
        height=_SQUARE + below + 40,
        margin={"l": 10, "r": 10, "t": 40, "b": below},
        showlegend=True,
        # Placed by the axes: a legend placed by the container takes its width off the axes.
        legend={
            "orientation": "v",
            "x": 0,
            "xanchor": "left",
            "y": -52 / _SQUARE,
            "yanchor": "top",
            "font": {"size": 12},
            "tracegroupgap": 4,
        },
    )
    ticks = {"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "gridcolor": theme.GRID, "zeroline": False}
    # Where the page is narrow the square shrinks towards its heading, not into the middle.
    figure.update_xaxes(
        range=[0, 1], constrain="domain", constraintoward="left", automargin=True, **ticks
    )
    figure.update_yaxes(
        range=[0, 1],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        automargin=True,
        **ticks,
    )
    _heading(figure, _who(evaluation))
    if not drawn:
        figure.add_annotation(
            x=0.5,
            y=0.5,
            text="<br>".join(title_lines(evaluation.get("undefined") or "no runs", 44)[0]),
            showarrow=False,
            font={"color": theme.MUTED},
        )
    return figure


def _who(evaluation: Evaluation) -> str:
    """'Internal test: 120 patients, 54 with heart failure', or the patients of each class."""
    who = f"<b>{theme.split_title(evaluation['split'])}</b>: {count(evaluation['n'], 'patient')}"
    counts = evaluation["class_counts"]
    if evaluation.get("positive_class") is not None:
        return f"{who}, {evaluation['positives']:,} with {plain(evaluation['positive_class'])}"
    return f"{who} ({', '.join(f'{plain(name)} {n:,}' for name, n in counts.items())})"


def _entry(style: RunStyle, words: str) -> str:
    heads, reads = title_lines(style.title, 40)
    return "<br>".join([*heads, *(_muted(line) for line in reads), words])


def _dash(style: RunStyle) -> str:
    """A second sign beside the colour, the same as the run's mark elsewhere."""
    return {"circle": "solid", "diamond": "dot", "square": "solid"}.get(style.symbol, "dash")


def _called(row: Mapping[str, Any]) -> str:
    cutoff = row["cutoff"]
    if cutoff["rule"] == "largest":
        return "the most probable class"
    learned = {
        "youden": f"Youden's index on {cutoff['n']:,} {cutoff['learned_on']} patients",
        "half": "not learned",
        "fixed": "set by hand",
    }[cutoff["rule"]]
    return f"called at a probability ≥ {number(cutoff['value'], 3)} ({learned})"


# ---------------------------------------------------------------- pieces of tables


def _columns(tables: Sequence[Table]) -> list[tuple[str, ...]]:
    """Combinations of any run, small ones first, modalities in the order of the widest run."""
    widest = sorted(tables, key=lambda table: -len(table["modalities"]))
    names = list(dict.fromkeys(name for table in widest for name in table["modalities"]))
    found = {frozenset(e["modalities"]) for t in tables for e in t["combinations"]}
    columns = [tuple(name for name in names if name in one) for one in found]
    return sorted(columns, key=lambda c: (len(c), [names.index(name) for name in c]))


def _titles(tables: Sequence[Table], column: tuple[str, ...]) -> list[str]:
    titles = {name: title for table in tables for name, title in table["modalities"].items()}
    return [plain(titles[name]) for name in column]


def _best(
    tables: Sequence[Table], columns: Sequence[tuple[str, ...]], measure: str
) -> dict[tuple[str, ...], int]:
    """Row of the best run of each combination that at least two runs have."""
    best = {}
    for column in columns:
        values = {
            row: float(entry[measure]["value"])
            for row, table in enumerate(tables)
            for entry in table["combinations"]
            if frozenset(entry["modalities"]) == frozenset(column)
            and entry[measure]["value"] is not None
        }
        if len(values) > 1:
            best[column] = max(values, key=values.__getitem__)
    return best


def _differences(table: Table, measure: str) -> dict[frozenset[str], Mapping[str, Any]]:
    return {
        frozenset(d["modalities"]): d["accuracy"] if measure == "accuracy" else d
        for d in table["differences"]
    }


def _real(difference: Mapping[str, Any] | None) -> bool:
    p = difference["p_holm"] if difference else None
    return p is not None and p < SIGNIFICANT


def _cell_hover(
    table: Table,
    column: tuple[str, ...],
    estimate: Mapping[str, float | None],
    difference: Mapping[str, Any] | None,
) -> str:
    lines = [plain(table["title"]), " + ".join(_titles([table], column)), interval(estimate)]
    if difference is not None and difference["difference"]["value"] is not None:
        gap = interval(difference["difference"])
        lines.append(f"all minus these {gap}, Holm {p_phrase(difference['p_holm'])}")
    return "<br>".join(lines)


def _row_label(table: Table, styles: Styles, *, counted: bool) -> str:
    heads, reads = title_lines(styles[table["run"]].title, 24)
    below = [*reads[:2], *([_counted(table)] if counted else [])]
    return "<br>".join([*heads, *(_muted(line) for line in below)])


def _counted(table: Table) -> str:
    """'92 patients, 40 with heart failure', '92 patients, 49 events'."""
    patients, events = count(table["n"], "patient"), table["events"]
    if events is None:
        return patients
    if table["metric"] == "auc":
        return f"{patients}, {events:,} with {plain(table['classes'][1])}"
    return f"{patients}, {count(events, 'event')}"


def _combination_lines(
    tables: Sequence[Table], measure: str, best: Mapping[tuple[str, ...], int], *, same: bool
) -> list[str]:
    if not tables:
        return ["no runs"]
    counted = f": {_counted(tables[0])}" if same else ""
    first = f"<b>{MEASURE_TITLES[measure]}</b>, {theme.split_title(tables[0]['split'])}{counted}"
    who = "patients with all of a run's modalities"
    signs = [who, "* differs from all modalities (Holm p &lt; 0.05)"]
    if best:
        signs.insert(1, "<u>best run</u>")
    return [first, _muted("; ".join(signs))]


# ---------------------------------------------------------------- shared pieces


def _grid_axes(figure: go.Figure, heads: Sequence[str], labels: Sequence[str]) -> None:
    plain_axis = {"ticks": "", "showgrid": False, "zeroline": False}
    figure.update_xaxes(
        tickvals=list(range(len(heads))),
        ticktext=list(heads),
        side="top",
        range=[-0.5, len(heads) - 0.5],
        tickangle=0,
        **plain_axis,
    )
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=list(labels),
        range=[len(labels) - 0.5, -0.5],
        automargin=True,
        **plain_axis,
    )


def _heading(figure: go.Figure, *lines: str) -> None:
    """Lines at the figure's upper left corner, wherever its axes begin."""
    figure.update_layout(
        title={
            "text": "<br>".join(lines),
            "font": {"size": 13, "color": theme.INK},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            # Plotly hangs the first of several lines above the edge.
            "pad": {"t": 14 if len(lines) > 1 else 8, "l": 8},
        }
    )


def _axis_title(text: str) -> dict[str, Any]:
    return {"text": text, "font": {"color": theme.MUTED, "size": 12}, "standoff": 8}


def _muted(text: str) -> str:
    return f'<span style="color:{theme.MUTED}">{text}</span>'
