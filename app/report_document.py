"""One HTML file that asks nothing of any network and prints on A4: its parts and its shell.

Everything that comes from files is escaped; figures are drawn in the browser by the plotly.js that
the file brings along.
"""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from app import theme
from app.figures.text import MISSING, minus, number

WIDTH = 932  # of a figure on screen, in pixels; on paper it is scaled to the page
_STATIC = Path(__file__).resolve().parent / "static"
_LOGO = (_STATIC / "logo.svg").read_text(encoding="utf-8")
_STYLE = (_STATIC / "report.css").read_text(encoding="utf-8")
_SCRIPT = (_STATIC / "report.js").read_text(encoding="utf-8")
# Whatever a file's names may hold, a browser loads nothing for this page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# The words of the card on the page (panels/trust_card.py).
LEVELS = {
    "good": "checks passed",
    "mixed": "read with care",
    "fails": "fails its checks",
    "unknown": "not checked",
}


# ---------------------------------------------------------------- what a report is made of


@dataclass(frozen=True, eq=False)
class Chart:
    """A Plotly figure. alt: what it shows, for those who cannot see it. task: whose outcome it may
    tell, where a report has several tasks.
    """

    figure: go.Figure
    alt: str
    title: str = ""
    caption: str = ""
    task: str = ""


@dataclass(frozen=True, eq=False)
class Picture:
    """A PNG, as `figures.ct_slices.slices_png` gives it."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """Text in rows. numeric: positions of the columns that are set to the right.

    The first cell of a row is its heading. Raises ValueError when a row has not a cell a column.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Iterable[int] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table '{self.caption}' has {len(self.columns)} columns, a row {len(row)}."
                )

    @classmethod
    def of(cls, frame: pd.DataFrame, caption: str, digits: int = 3, note: str = "") -> Table:
        """From a frame: numbers with `digits` decimals, dates as days, a dash for none."""
        numeric = [i for i, c in enumerate(frame.columns) if i and frame[c].dtype.kind in "iuf"]
        rows = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False)]
        return cls(caption, [str(c) for c in frame.columns], rows, numeric, note)


class Block(Protocol):
    """What draws itself; see `report_blocks`."""

    @property
    def html(self) -> str:
        """Its HTML, everything that comes from files escaped."""
        ...


class Card(Protocol):
    """How far a map may be trusted. level: 'good', 'mixed', 'fails' or 'unknown'."""

    @property
    def level(self) -> str:
        """How the checks went."""
        ...

    @property
    def sentences(self) -> Sequence[str]:
        """What was measured."""
        ...


# ---------------------------------------------------------------- the shell


def document(name: str, body: str, charts: Sequence[Chart], whose: str) -> str:
    """The whole file. name: its title. body: HTML of sections. whose: at the foot of every page."""
    footer = f"<footer><p>{escaped(theme.APP_NAME)}. {escaped(theme.NOTICE)}</p></footer>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escaped(name)}, {escaped(theme.APP_NAME)} report</title>"
        f"<style>{_css(whose)}</style></head>\n"
        f'<body><main class="sheet">{body}{footer}</main>\n'
        f"{_scripts(charts)}</body></html>\n"
    )


def header(name: str, lead: Iterable[str], facts: Mapping[str, str], more: str = "") -> str:
    """The head of the first page. more: HTML between the lead and the facts."""
    told = ", ".join(escaped(text) for text in lead if text)
    return (
        f'<header><div class="brand">{_LOGO}<p class="notice">{escaped(theme.NOTICE)}</p></div>'
        f"<h1>{escaped(name)}</h1>"
        + (f'<p class="lead">{told}</p>' if told else "")
        + more
        + f"{fact_list(facts)}</header>"
    )


def fact_list(facts: Mapping[str, str]) -> str:
    """Facts by name."""
    entries = "".join(
        f"<div><dt>{escaped(k)}</dt><dd>{escaped(v)}</dd></div>" for k, v in facts.items()
    )
    return f'<dl class="facts">{entries}</dl>'


def _css(whose: str) -> str:
    colours = "".join(
        f"--{key}:{value};"
        for key, value in {
            "ink": theme.INK,
            "muted": theme.MUTED,
            "grid": theme.GRID,
            "panel": theme.PANEL,
            "accent": theme.ACCENT,
            "worse": theme.GROUP_COLOURS[2][1],
            "font": theme.FONT,
            "width": f"{WIDTH}px",
        }.items()
    )
    # Pages come apart: each says whose it is.
    return (
        f":root{{{colours}}}\n{_STYLE}\n"
        f"@page{{@bottom-left{{content:{_css_text(f'{whose}. {theme.NOTICE}')}}}}}"
    )


def _css_text(text: str) -> str:
    """A string in CSS that nothing in it can end."""
    escaped = "".join(c if c.isalnum() or c in " .,:" else f"\\{ord(c):x} " for c in text)
    return f'"{escaped}"'


def _scripts(charts: Sequence[Chart]) -> str:
    """plotly.js once and packed, each figure as data, and the few lines that draw them."""
    if not charts:
        return ""
    data = "".join(
        f'<script type="application/json" data-figure="{key}">{_data(chart)}</script>\n'
        for chart, key in zip(charts, chart_ids(charts).values(), strict=True)
    )
    return (
        f'<script type="application/gzip" id="plotly">{_packed_plotly()}</script>\n{data}'
        f"<script>{_SCRIPT}</script>"
    )


def chart_ids(charts: Sequence[Chart]) -> dict[int, str]:
    """{id of a chart: its name in the file}, for `chart_html`."""
    return {id(chart): f"figure-{n}" for n, chart in enumerate(charts, start=1)}


@cache
def _packed_plotly() -> str:
    """plotly.js, gzip, base64: 2 MB instead of 4.8 in every report."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def _data(chart: Chart) -> str:
    """A figure as JSON; Plotly writes < and > so that they cannot end the element it stands in."""
    sized = go.Figure(chart.figure).update_layout(width=WIDTH, autosize=False)
    return str(sized.to_json(validate=False))


# ---------------------------------------------------------------- parts


def section(heading: str, inner: str) -> str:
    """A heading and the HTML below it."""
    return f"<section><h2>{escaped(heading)}</h2>{inner}</section>"


def chart_html(chart: Chart, ids: Mapping[int, str]) -> str:
    """Where a figure is drawn. ids: of `chart_ids`."""
    key = ids[id(chart)]
    height = int(chart.figure.layout.height or 450)
    title = f"<h3>{escaped(chart.title)}</h3>" if chart.title else ""
    caption = f"<figcaption>{escaped(chart.caption)}</figcaption>" if chart.caption else ""
    return (
        f'<figure class="chart">{title}<div class="plot" id="{key}" role="img" '
        f'aria-label="{escaped(chart.alt)}" style="height:{height}px"></div>'
        f"<noscript><p>{escaped(chart.alt)}</p></noscript>{caption}</figure>"
    )


def picture_html(picture: Picture) -> str:
    """A picture that lies in the file."""
    data = base64.b64encode(picture.png).decode("ascii")
    caption = f"<figcaption>{escaped(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure class="picture"><img src="data:image/png;base64,{data}" '
        f'alt="{escaped(picture.alt)}">{caption}</figure>'
    )


def cards_html(cards: Mapping[str, Card]) -> str:
    """Cards by their titles."""
    return "".join(_card(title, card) for title, card in cards.items())


def _card(title: str, card: Card) -> str:
    sentences = "".join(f"<li>{escaped(sentence)}</li>" for sentence in card.sentences)
    return (
        f'<aside class="card {escaped(card.level)}"><h3>{escaped(title)}: '
        f'<span class="level">{escaped(LEVELS[card.level])}</span></h3>'
        + (f"<ul>{sentences}</ul>" if sentences else "")
        + "</aside>"
    )


def table_html(table: Table, kind: str = "") -> str:
    """A table. kind: its class in the style sheet."""
    numeric = set(table.numeric)

    def cell(position: int, text: str) -> str:
        style = ' class="number"' if position in numeric else ""
        if position == 0:
            return f'<th scope="row"{style}>{escaped(text)}</th>'
        return f"<td{style}>{escaped(text)}</td>"

    heads = "".join(
        f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if i in numeric else ""}>'
        f"{escaped(name)}</th>"
        if name
        else "<td></td>"
        for i, name in enumerate(table.columns)
    )
    rows = "".join(
        f"<tr>{''.join(cell(i, text) for i, text in enumerate(row))}</tr>" for row in table.rows
    )
    body = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>" if table.rows else ""
    note = f'<p class="note">{escaped(table.note)}</p>' if table.note else ""
    if not body:
        return f'<div class="table"><p class="caption">{escaped(table.caption)}</p>{note}</div>'
    kind = f' class="{kind}"' if kind else ""
    return (
        f'<div class="table"><table{kind}><caption>{escaped(table.caption)}</caption>{body}</table>'
        f"{note}</div>"
    )


# ---------------------------------------------------------------- text


def escaped(text: object) -> str:
    """Text as HTML, in an element or an attribute."""
    return html.escape(str(text), quote=True)


def _cell(value: Any, digits: int) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return minus(str(value))  # perhaps a patient's number: no thousands separators
    if isinstance(value, float | np.floating):
        return number(float(value), digits)
    return day_text(value) if isinstance(value, datetime) else str(value)


def day_text(value: Any) -> str:
    """A date as 2026-01-31; '' for none."""
    if value is None or pd.isna(value):
        return ""
    return f"{pd.Timestamp(value):%Y-%m-%d}"
