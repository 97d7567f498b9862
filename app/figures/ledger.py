"""A prediction from what the model says of nobody in particular, share by share.

Every waterfall is additive: what it starts from and its bars end at the number that the app shows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.attribution.modalities import ModalityLedger
from analysis.attribution.result import Attribution
from app import theme
from app.figures.shares import Direction, part_note, part_title, short_title
from app.figures.text import count, number, plain

_PLURALS = {
    "events": "events",
    "table": "columns",
    "text": "words",
    "signal": "leads",
    "video": "views",
    "bag": "instances",
    "volume": "regions",
}
ABSENT = "not there"
NOT_READ = "not read"
_TOLERANCE = 1e-3
_GAP = 0.03  # between two panels, share of the width
# Heights in pixels.
_ROW, _TALL_ROW, _TITLE, _BELOW, _LINE = 40, 44, 34, 52, 20
_NUMBERS = {1: 0.14, 2: 0.27}  # share of a panel's width, right of the bars, for the numbers
_LEGEND = 34  # letters of a legend that fit in a line above one panel of two
_NOTE = {1: 110, 2: 62}  # letters of a note that fit under a panel


# ---------------------------------------------------------------- modalities


@dataclass(frozen=True, eq=False)
class Ledger:
    """What each modality carries of one run's prediction for one patient.

    base: what the model says of a patient of whom it knows nothing. shares: by the modality's
    title, None where the patient lacks it. base + shares = prediction, else ValueError.
    interactions: {(title, title): how much more the two do together than apart}. also: the same
    ledger on a second scale, S(horizon), whose numbers stand beside. zero: what the axis calls 0;
    a Cox model's log-risk has no zero of its own, so runs share an axis only from, say, the mean
    of their training patients. zero_title: 0 in words, '' where the number has a zero. task: in
    words, where ledgers of several tasks stand side by side.
    """

    title: str
    colour: str
    target: Mapping[str, Any]
    base: float
    shares: Mapping[str, float | None]
    prediction: float
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)
    also: Ledger | None = None
    zero: float = 0.0
    zero_title: str = ""
    task: str = ""

    def __post_init__(self) -> None:
        total = self.base + sum(share or 0.0 for share in self.shares.values())
        if not abs(total - self.prediction) <= _TOLERANCE * max(1.0, abs(self.prediction)):
            raise ValueError(
                f"ledger of '{self.title}': base and shares add up to {total:g}, the prediction is "
                f"{self.prediction:g}."
            )

    @classmethod
    def of(
        cls,
        found: ModalityLedger,
        title: str,
        colour: str,
        *,
        also: ModalityLedger | None = None,
        zero: float = 0.0,
        zero_title: str = "",
        task: str = "",
        output: int = 0,
    ) -> Ledger:
        """From the analysis' own ledger; `also` is the one of S(horizon) for the same case."""
        shares = {
            found.titles[name]: None if share is None else float(share[output])
            for name in found.titles
            for share in [found.share(name)]
        }
        return cls(
            title=title,
            colour=colour,
            target=found.target,
            base=float(found.base[output]),
            shares=shares,
            prediction=float(found.whole[output]),
            interactions={
                (found.titles[a], found.titles[b]): float(value[output])
                for (a, b), value in found.interactions.items()
            },
            also=cls.of(also, title, colour, output=output) if also is not None else None,
            zero=zero,
            zero_title=zero_title,
            task=task,
        )


@dataclass(frozen=True)
class _Step:
    """One row of a waterfall: a level (a diamond) or a share (a bar)."""

    label: str
    start: float
    share: float | None  # None: a level, or nothing there
    text: str
    hover: str
    colour: str
    absent: bool = False


def waterfall(
    ledgers: Sequence[Ledger],
    *,
    base_title: str = "Knowing nothing",
    base_note: str = "every modality absent",
) -> go.Figure:
    """One run's ledger, or two side by side; rows are the modalities of both.

    Runs of one task share a scale. Runs of different tasks have each their own, with its title,
    its colours' meaning and its task: their numbers are about different things. A modality that
    the patient lacks has no bar: its row says 'not there', and 'not read' where the run does not
    know it. Raises ValueError without a ledger, or when two of one task explain different numbers.
    """
    if not ledgers:
        raise ValueError("a waterfall needs at least one ledger")
    together = len({led.task for led in ledgers}) == 1
    if together and len({(led.target.get("title"), led.target.get("unit")) for led in ledgers}) > 1:
        raise ValueError("ledgers of one task side by side must explain the same number")
    names = list(dict.fromkeys(name for ledger in ledgers for name in ledger.shares))
    rows = [base_title, *names, "Prediction"]
    panels = [_modality_steps(ledger, names, base_title) for ledger in ledgers]
    labels = [_label(base_title, base_note), *(f"<b>{plain(name)}</b>" for name in names)]
    zeros = [ledger.zero if ledger.zero_title else None for ledger in ledgers]
    across = [_range(panels, zeros[0])] * len(panels)
    if not together:
        across = [_range([steps], zero) for steps, zero in zip(panels, zeros, strict=True)]
    return _draw(
        [*labels, "<b>Prediction</b>"],
        rows,
        panels,
        [
            _Scale(
                Direction.of(ledger.target),
                _axis_title(ledger.target, ledger.zero_title),
                ends,
                zero is not None,
            )
            for ledger, ends, zero in zip(ledgers, across, zeros, strict=True)
        ],
        titles=[(ledger.title, ledger.colour, ledger.task) for ledger in ledgers],
        levels=[ledger.colour for ledger in ledgers],
        heads=[_heads(ledger) for ledger in ledgers],
        notes=[_notes(ledger, _NOTE[min(len(ledgers), 2)]) for ledger in ledgers],
        row=_ROW if all(ledger.also is None for ledger in ledgers) else _TALL_ROW,
    )


def _modality_steps(ledger: Ledger, names: Sequence[str], base_title: str) -> list[_Step]:
    direction = Direction.of(ledger.target)
    at = ledger.base - ledger.zero
    also = ledger.also
    steps = [
        _Step(
            base_title,
            at,
            None,
            _both(direction.level(at), also and _level(also, also.base)),
            f"{plain(base_title)}<br>{direction.level(at)}",
            ledger.colour,
        )
    ]
    for name in names:
        share = ledger.shares.get(name)
        other = also.shares.get(name) if also else None
        if share is None:
            words = ABSENT if name in ledger.shares else NOT_READ
            steps.append(_Step(name, at, None, words, "", "", absent=True))
            continue
        beside = _share_of(also, other) if also and other is not None else None
        hover = f"{plain(name)} {direction.words(share)}: {direction.share(share)}"
        if direction.hazard:
            hover += f"<br>multiplies the hazard by {number(float(np.exp(share)), 2)}"
        if beside:
            assert also is not None
            hover += f"<br>{plain(str(also.target['title']))}: {beside}"
        steps.append(
            _Step(
                name,
                at,
                share,
                _both(f"<b>{direction.share(share)}</b>", beside),
                hover,
                direction.colour(share),
            )
        )
        at += share
    end = ledger.prediction - ledger.zero
    steps.append(
        _Step(
            "Prediction",
            end,
            None,
            _both(f"<b>{direction.level(end)}</b>", also and _level(also, also.prediction)),
            f"Prediction<br>{direction.level(end)}",
            ledger.colour,
        )
    )
    return steps


def _level(ledger: Ledger, value: float) -> str:
    return Direction.of(ledger.target).level(value)


def _share_of(ledger: Ledger, value: float) -> str:
    return Direction.of(ledger.target).share(value)


def _both(first: str, second: str | None) -> str:
    """The number, and under it, quieter, the same on the second scale."""
    if not second:
        return first
    return f'{first}<br><span style="color:{theme.MUTED};font-size:12px">{second}</span>'


def _heads(ledger: Ledger) -> str:
    title = str(ledger.target.get("title", ""))
    titles = [title] if ledger.also is None else [title, str(ledger.also.target.get("title", ""))]
    return "<br>".join(plain(line) for t in titles for line in textwrap.wrap(t, 14))


def _notes(ledger: Ledger, width: int) -> list[str]:
    """The interactions in words, and who is missing."""
    direction = Direction.of(ledger.target)
    pairs = sorted(ledger.interactions.items(), key=lambda pair: -abs(pair[1]))
    lines = [together(*names, value, direction) for names, value in pairs[:SHOWN_PAIRS]]
    if len(pairs) > SHOWN_PAIRS:
        least = abs(pairs[SHOWN_PAIRS][1])
        told = f"{direction.share(least).lstrip('+')} or less (in the data)"
        told = "as much as apart" if least < NOTHING else told
        lines.append(f"{len(pairs) - SHOWN_PAIRS} other pairs: {told}.")
    return [part for line in lines for part in textwrap.wrap(line, width)]


# Below float32's own error in an additive model.
NOTHING = 1e-5
SHOWN_PAIRS = 3


def together(first: str, second: str, value: float, direction: Direction) -> str:
    """'CT and EHR together: +0.12 more than apart.'"""
    text = direction.share(value)
    if abs(value) < NOTHING or not any(digit in "123456789" for digit in text):
        return f"{first} and {second} together: as much as apart."
    if value > 0:
        return f"{first} and {second} together: {text} more than apart."
    return f"{first} and {second} together: {text} (less than apart)."


def ledger_table(ledgers: Sequence[Ledger]) -> pd.DataFrame:
    """Every number of the figure, one row a run and entry, for the CSV beside it."""
    rows = []
    for ledger in ledgers:
        entries: list[tuple[str, str, float | None]] = [
            ("base", "", ledger.base),
            *(("share", name, share) for name, share in ledger.shares.items()),
            ("prediction", "", ledger.prediction),
            *(("interaction", " x ".join(pair), v) for pair, v in ledger.interactions.items()),
        ]
        second: dict[tuple[str, str], float | None] = {}
        if ledger.also is not None:
            also = ledger.also
            second = {("base", ""): also.base, ("prediction", ""): also.prediction}
            second |= {("share", name): share for name, share in also.shares.items()}
        for kind, name, value in entries:
            row = {"run": ledger.title, "entry": kind, "modality": name, "value": value}
            row["unit"] = ledger.target.get("unit", "")
            if ledger.also is not None:
                row[str(ledger.also.target["title"])] = second.get((kind, name))
            rows.append(row)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- parts of a modality


def event_waterfall(
    attribution: Attribution,
    top: int = 10,
    output: int = 0,
    *,
    zero: float = 0.0,
    zero_title: str = "",
    share_of: str = "",
) -> go.Figure:
    """From the reference by the `top` largest shares and all others to the explained number.

    Works for events, columns and instances alike. output: which of the T explained numbers.
    A gap between the shares and the number has a row of its own when it would be seen. zero:
    what the axis calls 0, in words zero_title. share_of: the modality, where the shares add up to
    its share in the ledger and not to the explained number; the steps then start at 0.
    """
    direction = Direction.of(attribution.target)
    ends = ("Without any of these", "What the model says")
    about = str(attribution.target.get("title", ""))
    if share_of:
        zero, zero_title = float(attribution.reference[output]), ""
        ends, about = ("None of these", f"{share_of}: its share"), "as in the ledger above"
    shares = attribution.values[:, output]
    order = np.argsort(-np.abs(shares), kind="stable")
    first, rest = order[:top], order[top:]
    at = float(attribution.reference[output]) - zero
    level = direction.share if share_of else direction.level
    colour = theme.ACCENT
    start = level(at) if at or not share_of else "0"
    steps = [_Step("reference", at, None, start, ends[0], colour)]
    removed = _PLURALS.get(attribution.kind, "parts")
    labels = [_label(ends[0], f"all {count(len(order), '', removed)} removed")]
    for row in first:
        share = float(shares[row])
        part = attribution.parts.iloc[int(row)]
        steps.append(_bar(f"part-{row}", at, share, part_title(part), direction))
        labels.append(_label(short_title(part), part_note(part)))
        at += share
    if len(rest):
        share = float(shares[rest].sum())
        raising, lowering = (int((shares[rest] * sign > 0).sum()) for sign in (1, -1))
        others = f"{count(len(rest), 'other')}"
        steps.append(_bar("others", at, share, others, direction))
        labels.append(_label(others, f"{raising} raise it, {lowering} lower it"))
        at += share
    end = float(attribution.whole[output]) - zero
    if abs(end - at) > _TOLERANCE * max(1.0, abs(end)):
        steps.append(_bar("gap", at, end - at, "not accounted for", direction))
        labels.append(_label("Not accounted for", "the estimate's own error"))
    steps.append(_Step("whole", end, None, f"<b>{level(end)}</b>", ends[1], colour))
    labels.append(_label(ends[1], about))
    return _draw(
        labels,
        [step.label for step in steps],
        [steps],
        [
            _Scale(
                direction, _axis_title(attribution.target, zero_title), _range([steps], None), False
            )
        ],
        titles=[],
        levels=[colour],
        heads=[],
        notes=[[]],
        row=_TALL_ROW - 4,
    )


def _bar(key: str, at: float, share: float, title: str, direction: Direction) -> _Step:
    hover = f"{plain(title)}<br>{direction.words(share)}: {direction.share(share)}"
    if direction.hazard:
        hover += f"<br>multiplies the hazard by {number(float(np.exp(share)), 2)}"
    text = f"<b>{direction.share(share)}</b>"
    return _Step(key, at, share, text, hover, direction.colour(share))


# ---------------------------------------------------------------- drawing


@dataclass(frozen=True)
class _Scale:
    """What a panel's axis means. across: its low and its high end. zero: whether 0 is marked."""

    direction: Direction
    title: str
    across: list[float]
    zero: bool


def _draw(
    labels: Sequence[str],
    rows: Sequence[str],
    panels: Sequence[Sequence[_Step]],
    scales: Sequence[_Scale],
    *,
    titles: Sequence[tuple[str, str, str]],
    levels: Sequence[str],
    heads: Sequence[str],
    notes: Sequence[Sequence[str]],
    row: int,
) -> go.Figure:
    """Horizontal waterfalls, a column each with a scale each."""
    legends = [_legend(scale.direction, len(panels)) for scale in scales]
    head_lines = max((text.count("<br>") + 1 for text in [*heads, *legends]), default=0)
    tasks = any(task for _, _, task in titles)
    raised = _LINE * max(head_lines, 1) + 4
    above = _TITLE + (_LINE * max(head_lines, 1) if titles else 0) + (_LINE if tasks else 0)
    note_lines = max(len(lines) for lines in notes)
    below = _BELOW + (note_lines * _LINE + 10 if note_lines else 0)
    figure = go.Figure()
    for at, (steps, scale) in enumerate(zip(panels, scales, strict=True)):
        name = "" if at == 0 else str(at + 1)
        left = at / len(panels) + (_GAP / 2 if at else 0)
        right = (at + 1) / len(panels) - (_GAP / 2 if at < len(panels) - 1 else 0)
        cut = right - _NUMBERS[min(len(panels), 2)] * (right - left)
        shown = labels if at == 0 else [""] * len(rows)
        figure.update_layout(_axes(name, [left, cut], scale, shown))
        _panel(figure, steps, name, rows, levels[at])
        _numbers(figure, steps, name, cut)
        if titles:
            _title(figure, *titles[at], left, len(panels), raised)
        if heads:
            text = f'<span style="color:{theme.MUTED};font-size:12px">{heads[at]}</span>'
            _write(figure, text, cut, 1, yanchor="bottom", xshift=8, yshift=2)
        for line, words in enumerate(notes[at]):
            _write(figure, plain(words), left, 0, yanchor="top", yshift=-_BELOW - line * _LINE)
        if at == 0 or legends[at] != legends[0]:
            legend = f'<span style="font-size:12px">{legends[at]}</span>'
            _write(figure, legend, left, 1, yanchor="bottom", yshift=6)
    figure = theme.finish(
        figure,
        height=above + row * len(rows) + below,
        margin={"l": 10, "r": 16, "t": above, "b": below},
        bargap=0.42,
    )
    return figure.update_layout(hovermode="closest")


def _legend(direction: Direction, panels: int) -> str:
    """In one line, or in two where it would run into the numbers of a narrow panel."""
    parts = direction.legend().split("&nbsp;&nbsp;&nbsp;")
    wide = panels == 1 or len(direction.raises + direction.lowers) <= _LEGEND
    return "&nbsp;&nbsp;&nbsp;".join(parts) if wide else "<br>".join(parts)


def _range(panels: Sequence[Sequence[_Step]], zero: float | None) -> list[float]:
    """From the lowest to the highest level of all panels, with air."""
    ends = [v for steps in panels for s in steps for v in (s.start, s.start + (s.share or 0.0))]
    if zero is not None:
        ends.append(0.0)
    air = 0.06 * ((max(ends) - min(ends)) or 1.0)
    return [min(ends) - air, max(ends) + air]


def _axes(name: str, domain: list[float], scale: _Scale, labels: Sequence[str]) -> dict[str, Any]:
    return {
        f"xaxis{name}": {
            "domain": domain,
            "anchor": f"y{name}",
            "range": scale.across,
            "gridcolor": theme.GRID,
            "zeroline": scale.zero,
            "zerolinecolor": theme.FAINT,
            "tickformat": ".0%" if scale.direction.percent else "",
            "tickfont": {"size": 12},
            "nticks": 6,
            "title": {"text": plain(scale.title), "standoff": 6, "font": {"size": 12}},
        },
        f"yaxis{name}": {
            "anchor": f"x{name}",
            "range": [len(labels) - 0.5, -0.5],
            "tickvals": list(range(len(labels))),
            "ticktext": list(labels),
            "tickfont": {"size": 13},
            "ticks": "",
            "ticklen": 6,
            "showgrid": False,
            "zeroline": False,
            "automargin": not name,
        },
    }


def _title(
    figure: go.Figure, title: str, colour: str, task: str, left: float, panels: int, yshift: int
) -> None:
    short = textwrap.shorten(title, 56 if panels > 1 else 110, placeholder=" …")
    text = f'<span style="color:{colour}">●</span> <b>{plain(short)}</b>'
    if task:
        short = textwrap.shorten(task, 72 if panels > 1 else 110, placeholder=" …")
        text += f'<br><span style="color:{theme.MUTED};font-size:12px">{plain(short)}</span>'
    _write(figure, text, left, 1, yanchor="bottom", yshift=yshift)


def _write(figure: go.Figure, text: str, x: float, y: float, **where: Any) -> None:
    """Text that starts at a place of the paper."""
    figure.add_annotation(
        text=text,
        xref="paper",
        yref="paper",
        x=x,
        y=y,
        xanchor="left",
        align="left",
        showarrow=False,
        **where,
    )


def _panel(
    figure: go.Figure, steps: Sequence[_Step], name: str, rows: Sequence[str], colour: str
) -> None:
    where = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    at = {label: position for position, label in enumerate(rows)}
    for before, after in pairwise(steps):
        level = before.start + (before.share or 0.0)
        figure.add_shape(
            type="line",
            xref=where["xaxis"],
            yref=where["yaxis"],
            x0=level,
            x1=level,
            y0=at[before.label] + (0 if before.share is None else 0.29),
            y1=at[after.label] + (0 if after.share is None else -0.29),
            line={"color": theme.FAINT, "width": 1, "dash": "dot"},
            layer="below",
        )
    bars = [step for step in steps if step.share is not None]
    figure.add_trace(
        go.Bar(
            x=[step.share for step in bars],
            base=[step.start for step in bars],
            y=[at[step.label] for step in bars],
            orientation="h",
            marker={"color": [step.colour for step in bars], "line": {"width": 0}},
            customdata=[step.hover for step in bars],
            hovertemplate="%{customdata}<extra></extra>",
            ids=[step.label for step in bars],
            name="shares",
            meta="shares",
            **where,
        )
    )
    ends = [steps[0], steps[-1]]
    figure.add_trace(
        go.Scatter(
            x=[step.start for step in ends],
            y=[at[step.label] for step in ends],
            mode="markers",
            marker={
                "symbol": ["diamond-open", "diamond"],
                "size": 13,
                "color": colour,
                "line": {"width": 2},
            },
            customdata=[step.hover for step in ends],
            hovertemplate="%{customdata}<extra></extra>",
            name="levels",
            meta="levels",
            **where,
        )
    )


def _numbers(figure: go.Figure, steps: Sequence[_Step], name: str, cut: float) -> None:
    """A column of numbers right of the bars, where no bar can run into them."""
    for position, step in enumerate(steps):
        colour = theme.MUTED if step.absent else theme.INK
        figure.add_annotation(
            text=f"<i>{step.text}</i>" if step.absent else step.text,
            xref="paper",
            yref=f"y{name}",
            x=cut,
            y=position,
            xanchor="left",
            align="left",
            xshift=8,
            showarrow=False,
            font={"size": 13, "color": colour},
        )


def _label(title: str, note: str, width: int = 40) -> str:
    """Two lines: the name, and under it, quieter, what belongs to it."""
    lines = textwrap.wrap(title, width, break_on_hyphens=False) or [""]
    short = lines[0] if len(lines) == 1 else lines[0].rstrip(" ,;:") + " …"
    if not note:
        return plain(short)
    small = plain(textwrap.shorten(note, width + 6, placeholder=" …"))
    return f'{plain(short)}<br><span style="color:{theme.MUTED};font-size:12px">{small}</span>'


def _axis_title(target: Mapping[str, Any], zero_title: str = "") -> str:
    title = str(target.get("title", ""))
    title = title[:1].upper() + title[1:]
    if target.get("unit") == "log hazard ratio":
        title += ", further right is worse"
    return f"{title} (0: {zero_title})" if zero_title else title
