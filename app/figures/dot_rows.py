"""Combinations of modalities as rows of dots, with panels of numbers right of them."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures.text import plain

ROW, BELOW = 30, 58
# Of a modality: letters of its title in one line above its column, share of the figure's width.
_WIDE, _NARROW = (13, 0.085), (9, 0.062)
_FEW = 4
_LINE = 16


class DotRows:
    """A figure that begins as a matrix: a row a combination, a column a modality.

    A dark dot: told, or there; a pale ring: not told. `absent` modalities, which no row can have,
    have a dash. Panels are added from left to right; `rows` counts them from the top.
    """

    def __init__(
        self,
        combinations: Sequence[Collection[str]],
        titles: Mapping[str, str],
        *,
        absent: Collection[str] = (),
        above: int = 0,
        marginals: Mapping[str, int] | None = None,
        words: tuple[str, str] = ("told", "not told"),
    ) -> None:
        self.rows = len(combinations)
        self.names = list(titles)
        self._letters, share = _WIDE if len(self.names) <= _FEW else _NARROW
        self.width = min(0.5, max(0.16, share * len(self.names)))
        self.figure = go.Figure()
        self._panels = 1
        heads = [self._head(titles[n], absent=n in absent) for n in self.names]
        if marginals is not None:
            heads = [
                f"{head}<br><b>{marginals[n]:,}</b>"
                for head, n in zip(heads, self.names, strict=True)
            ]
        self.top = 10 + above + _LINE * max(head.count("<br>") + 1 for head in heads)
        self._matrix(combinations, titles, absent, words)
        self._axes(heads)

    def _head(self, title: str, *, absent: bool) -> str:
        lines = [
            plain(line) for line in textwrap.wrap(title, self._letters, break_long_words=False)
        ]
        if absent:
            faint = f'<span style="color:{theme.FAINT}">'
            return "<br>".join(
                [*(f"{faint}{line}</span>" for line in lines), f"{faint}absent</span>"]
            )
        return "<br>".join(lines)

    def _matrix(
        self,
        combinations: Sequence[Collection[str]],
        titles: Mapping[str, str],
        absent: Collection[str],
        words: tuple[str, str],
    ) -> None:
        lines_x: list[float | None] = []
        lines_y: list[float | None] = []
        dots: dict[bool, list[tuple[int, int, str]]] = {True: [], False: []}
        for row, combination in enumerate(combinations):
            told = [i for i, name in enumerate(self.names) if name in combination]
            if len(told) > 1:
                lines_x += [told[0], told[-1], None]
                lines_y += [row, row, None]
            for column, name in enumerate(self.names):
                if name not in absent:
                    has = name in combination
                    hover = f"{plain(titles[name])}: {words[0] if has else words[1]}"
                    dots[has].append((column, row, hover))
        self.figure.add_trace(
            go.Scatter(
                x=lines_x,
                y=lines_y,
                mode="lines",
                hoverinfo="skip",
                meta="links",
                line={"color": theme.INK, "width": 2},
            )
        )
        marks = {
            False: {"color": "#FFFFFF", "size": 9, "line": {"color": "#B9C2CA", "width": 1.5}},
            True: {"color": theme.INK, "size": 11},
        }
        for has, mark in marks.items():
            found = dots[has]
            self.figure.add_trace(
                go.Scatter(
                    x=[d[0] for d in found],
                    y=[d[1] for d in found],
                    mode="markers",
                    marker=mark,
                    customdata=[d[2] for d in found],
                    hovertemplate="%{customdata}<extra></extra>",
                    meta="told" if has else "not told",
                )
            )
        for column, name in enumerate(self.names):
            if name in absent:
                for row in range(self.rows):
                    self.figure.add_annotation(
                        x=column, y=row, text="–", showarrow=False, font={"color": theme.FAINT}
                    )

    def _axes(self, heads: Sequence[str]) -> None:
        size = len(self.names)
        self.figure.update_layout(
            xaxis={
                "domain": [0, self.width],
                "range": [-0.6, size - 0.4],
                "tickvals": list(range(size)),
                "ticktext": list(heads),
                "side": "top",
                "tickangle": 0,
                "tickfont": {"size": 12},
                "ticks": "",
                "showgrid": False,
                "zeroline": False,
                "anchor": "y",
            },
            yaxis={
                "range": [self.rows - 0.5, -0.5],
                "visible": False,
                "anchor": "x",
            },
        )
        for row in range(0, self.rows, 2):
            self.figure.add_shape(
                type="rect",
                xref="paper",
                x0=0,
                x1=1,
                yref="y",
                y0=row - 0.5,
                y1=row + 0.5,
                fillcolor="#F7F9FA",
                line={"width": 0},
                layer="below",
            )

    def panel(
        self, start: float, end: float, title: str, span: Sequence[float], *, form: str = ""
    ) -> str:
        """A panel over a share of what is right of the matrix; returns its axis, such as 'x2'."""
        self._panels += 1
        number = self._panels
        left = self.width + 0.02
        room = 1 - left
        low, high = min(span), max(span)
        air = 0.06 * ((high - low) or 0.1)
        self.figure.layout[f"xaxis{number}"] = {
            "domain": [left + start * room, left + end * room],
            "anchor": "y",
            "range": [low - air, high + air],
            "title": {"text": title, "font": {"color": theme.MUTED, "size": 12}, "standoff": 6},
            "gridcolor": theme.GRID,
            "zeroline": False,
            "nticks": 6,
            "tickformat": form,
        }
        return f"x{number}"

    def estimates(
        self,
        axis: str,
        found: Sequence[Mapping[str, float | None] | None],
        colour: str,
        hovers: Sequence[str],
        *,
        symbol: str = "circle",
        shift: float = 0.0,
        name: str = "",
        hollow: bool = False,
    ) -> None:
        """A point with its interval a row; a row without a value has none."""
        known = [
            (row + shift, e, hover)
            for row, (e, hover) in enumerate(zip(found, hovers, strict=True))
            if e is not None and e["value"] is not None
        ]
        values = [float(e["value"] or 0.0) for _, e, _ in known]
        low, high = (
            [float(e["value" if e[end] is None else end] or 0.0) for _, e, _ in known]
            for end in ("low", "high")
        )
        self.figure.add_trace(
            go.Scatter(
                x=values,
                y=[at for at, _, _ in known],
                xaxis=axis,
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [h - v for h, v in zip(high, values, strict=True)],
                    "arrayminus": [v - e for e, v in zip(low, values, strict=True)],
                    "thickness": 1.8,
                    "width": 0,
                    "color": colour,
                },
                mode="markers",
                marker={
                    "color": "#FFFFFF" if hollow else colour,
                    "symbol": symbol,
                    "size": 9,
                    "line": {
                        "color": colour if hollow else "#FFFFFF",
                        "width": 1.6 if hollow else 1,
                    },
                },
                name=name,
                meta=name or "estimates",
                customdata=[hover for _, _, hover in known],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )

    def bars(self, axis: str, values: Sequence[float], texts: Sequence[str], colour: str) -> None:
        """A bar a row with its text right of it."""
        self.figure.add_trace(
            go.Bar(
                x=list(values),
                y=list(range(self.rows)),
                xaxis=axis,
                orientation="h",
                marker={"color": colour},
                width=0.56,
                text=list(texts),
                textposition="outside",
                textfont={"size": 12},
                cliponaxis=False,
                hoverinfo="skip",
                meta="bars",
            )
        )

    def line(self, axis: str, value: float, dash: str = "dash") -> None:
        """A reference through all rows of a panel."""
        self.figure.add_shape(
            type="line",
            x0=value,
            x1=value,
            y0=-0.5,
            y1=self.rows - 0.5,
            xref=axis,
            yref="y",
            layer="below",
            line={"color": theme.MUTED, "width": 1.5, "dash": dash},
        )

    def text(self, axis: str, texts: Sequence[str]) -> None:
        """A text a row, right of a panel."""
        for row, text in enumerate(texts):
            self.figure.add_annotation(
                text=text,
                xref=f"{axis} domain",
                yref="y",
                x=1,
                y=row,
                xshift=8,
                xanchor="left",
                align="left",
                showarrow=False,
                font={"size": 12, "color": theme.INK},
            )

    def head(self, axis: str, text: str) -> None:
        """Words above a panel."""
        self.figure.add_annotation(
            text=text,
            xref=f"{axis} domain",
            yref="paper",
            x=0,
            y=1,
            yshift=6,
            xanchor="left",
            yanchor="bottom",
            align="left",
            showarrow=False,
        )

    def finish(self, *, row: int = ROW, right: int = 10, **layout: Any) -> go.Figure:
        """The figure in the house's dress."""
        return theme.finish(
            self.figure,
            height=self.top + BELOW + row * self.rows,
            margin={"l": 10, "r": right, "t": self.top, "b": BELOW},
            **layout,
        )
