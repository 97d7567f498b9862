"""A 12-lead ECG on paper as a drawing of true size: for reports and for print.

The conventions are those of the paper in the browser (static/ecg_paper.js): 25 mm/s, 10 mm/mV,
3 x 4 leads of 2.5 s that go on in time, a rhythm strip of lead II, 1 mV of 200 ms before every row,
each lead placed by its median, and a map's colours as far as 1.2 mm around the trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.attribution.signal import SignalMap
from analysis.cohort.readers.signal import Signal
from app.figures import map_bar
from app.figures.text import plain

SPEED_MM_S, GAIN_MM_MV = 25.0, 10.0
PAGE_S = 10.0
_ROWS = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
    ("II",),
)
_ROW_MM, _TOP_MM, _FOOT_MM = 30, 5, 10
_LEFT_MM, _RIGHT_MM = 10, 5
_MOST_ABOVE_MM = 15
_OPACITY, HIDDEN, _FULL = 0.85, 0.1, 0.35
_LEVELS = 32  # colours that are told apart
COLUMN_MM, REACH_MM, ASIDE_COLUMNS = 0.25, 1.2, 2
_UNIT = 100  # a mm: whole numbers keep the file small
_MOST_HZ = 500.0  # 20 samples a mm; of more, the highest and the lowest
_PAPER, _LIGHT, _BOLD, _TRACE, _NOTE = "#FFFDFC", "#F8DCD9", "#EAA9A4", "#101418", "#4B5560"
_FONT = "Arial, Helvetica, sans-serif"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Cell:
    """A lead's part of the paper; seconds of the record."""

    lead: str
    row: int
    start: float
    end: float


def ecg_svg(
    signal: Signal,
    found: SignalMap | None,
    alt: str,
    ends: tuple[str, str] = ("", ""),
    filter_text: str = "unfiltered as recorded",
) -> str:
    """The first 10 s as an SVG element whose size is in mm.

    found: a map, as colour along the trace. ends: what the low and the high end of its colours
    mean. Every text is escaped. A lead without samples is written to be not recorded.
    """
    seconds = min(PAGE_S, signal.seconds)
    wide = int(np.ceil((_LEFT_MM + seconds * SPEED_MM_S + _RIGHT_MM) / 5 - 1e-9)) * 5
    cells = list(_cells(seconds))
    above = _room_above(signal, cells)
    tall = above + _TOP_MM + _ROW_MM * len(_ROWS) + _FOOT_MM
    legend = found is not None and not found.is_empty
    down = f'<g transform="translate(0 {above * _UNIT})"'
    parts = [
        f'<rect width="{wide * _UNIT}" height="{tall * _UNIT}" fill="{_PAPER}"/>',
        f"{down}>",
        "".join(_coloured(signal, found, cell) for cell in cells) if found is not None else "",
        f"</g>{_grid(wide, tall)}{down}>",
        "".join(_named(signal, cell) for cell in cells),
        f'</g>{down} fill="none" stroke="{_TRACE}" stroke-width="30" stroke-linejoin="bevel">',
        "".join(f'<path class="trace" d="{_trace(signal, cell)}"/>' for cell in cells),
        f'<path class="pulse" d="{_pulses()}"/></g>',
        _foot(signal, seconds, wide, tall, filter_text),
        _legend(found, ends, wide, tall) if legend and found is not None else "",
    ]
    return (
        f'<svg class="ecg-paper" role="img" aria-label="{plain(alt).replace(chr(34), "&quot;")}" '
        f'width="{wide}mm" height="{tall}mm" '
        f'viewBox="0 0 {wide * _UNIT} {tall * _UNIT}" font-family="{_FONT}" font-size="320">'
        f"{''.join(parts)}</svg>"
    )


def _cells(seconds: float) -> Iterator[_Cell]:
    for row, leads in enumerate(_ROWS):
        part = seconds / len(leads)
        for i, lead in enumerate(leads):
            yield _Cell(lead, row, i * part, (i + 1) * part)


def _room_above(signal: Signal, cells: Sequence[_Cell]) -> int:
    """Whole big boxes, in mm, that tall complexes of the first row need above the paper's edge."""
    highest = 0
    for cell in cells:
        found = _samples(signal, cell) if cell.row == 0 else None
        if found is not None:
            highest = min(highest, int(found[1][found[1] != _GAP].min(initial=0)))
    return min(_MOST_ABOVE_MM, 5 * int(np.ceil(-highest / (5 * _UNIT))))


def _x(time_s: float | Floats) -> npt.NDArray[np.int64]:
    return np.rint((_LEFT_MM + np.asarray(time_s) * SPEED_MM_S) * _UNIT).astype(np.int64)


def _base(row: int) -> int:
    return round((_TOP_MM + _ROW_MM * (row + 0.5)) * _UNIT)


# ---------------------------------------------------------------- the trace


def _samples(signal: Signal, cell: _Cell) -> tuple[Floats, npt.NDArray[np.int64]] | None:
    """Times and y of a cell's samples, NaN left in as the smallest number; None where none."""
    row = signal.lead(cell.lead).astype(np.float64)
    if np.isnan(row).all():
        return None
    first = int(np.ceil(cell.start * signal.rate_hz - 1e-6))
    last = min(len(row) - 1, int(np.floor(cell.end * signal.rate_hz + 1e-6)))
    at = np.arange(first, last + 1)
    at = _thinned(row, at, max(1, int(signal.rate_hz / _MOST_HZ)))
    y = _base(cell.row) - (row[at] - np.nanmedian(row)) * GAIN_MM_MV * _UNIT
    known = np.isfinite(y)
    whole = np.full(len(y), _GAP, np.int64)
    whole[known] = np.rint(y[known]).astype(np.int64)
    return at / signal.rate_hz, whole


_GAP = np.iinfo(np.int64).min


def _thinned(row: Floats, at: npt.NDArray[np.int64], bin_: int) -> npt.NDArray[np.int64]:
    """Of every `bin_` samples the highest and the lowest, in their order; gaps stay gaps."""
    if bin_ == 1:
        return at
    whole = at[: len(at) // bin_ * bin_].reshape(-1, bin_)
    values = row[whole]
    high = np.where(np.isnan(values), -np.inf, values).argmax(1)
    low = np.where(np.isnan(values), np.inf, values).argmin(1)
    picked = np.sort(np.stack([high, low], 1), axis=1)
    return np.unique(np.r_[np.take_along_axis(whole, picked, 1).ravel(), at[whole.size :]])


def _trace(signal: Signal, cell: _Cell) -> str:
    found = _samples(signal, cell)
    if found is None:
        return ""
    x, y = _x(found[0]), found[1]
    paths = []
    for known, run in groupby(range(len(y)), key=lambda i: bool(y[i] != _GAP)):
        if not known:
            continue
        at = list(run)
        dx, dy = np.diff(x[at]), np.diff(y[at])
        steps = "".join(f"{a:+d}{b:+d}" for a, b in zip(dx.tolist(), dy.tolist(), strict=True))
        paths.append(f"M{x[at[0]]} {y[at[0]]}" + (f"l{steps}" if steps else "h1"))
    return "".join(paths)


def _pulses() -> str:
    """1 mV for 200 ms before every row."""
    high, long = round(GAIN_MM_MV * _UNIT), round(0.2 * SPEED_MM_S * _UNIT)
    return "".join(f"M100 {_base(row)}h150v{-high}h{long}v{high}h150" for row in range(len(_ROWS)))


# ---------------------------------------------------------------- the map


def _coloured(signal: Signal, found: SignalMap, cell: _Cell) -> str:
    """Behind the trace, a column of 0.25 mm at a time."""
    limit = float(np.abs(found.values).max())
    drawn = _samples(signal, cell)
    if drawn is None or not limit or cell.lead not in found.leads:
        return ""
    columns = max(1, round((cell.end - cell.start) * SPEED_MM_S / COLUMN_MM))
    edges = np.linspace(cell.start, cell.end, columns + 1)
    values = found.on((edges[:-1] + edges[1:]) / 2)[found.leads.index(cell.lead)] / limit
    values = _strongest(values)
    shares = (values + 1) / 2 if found.signed else values
    level = np.rint(np.clip(shares, 0, 1) * _LEVELS) / _LEVELS
    alpha = map_bar.opacities(level, found.signed, _OPACITY, HIDDEN, _FULL)
    high, low = _envelope(*drawn, edges)
    stops = map_bar.SIGNED if found.signed else map_bar.ON_PAPER
    paint = np.rint(255 + (map_bar.colours(stops, level) - 255) * alpha[:, None]).astype(int)
    seen = (alpha > 0) & (high <= low)
    keys = [tuple(paint[i].tolist()) if seen[i] else None for i in range(columns)]
    x = _x(edges)
    out = []
    for colour, run in groupby(range(columns), key=lambda i: keys[i]):
        if colour is None:
            continue
        at = list(run)
        above = "".join(f"V{high[i]}H{x[i + 1]}" for i in at)
        below = "".join(f"V{low[i]}H{x[i]}" for i in reversed(at))
        rgb = "".join(f"{c:02X}" for c in colour)
        out.append(f'<path fill="#{rgb}" d="M{x[at[0]]} {low[at[0]]}{above}{below}Z"/>')
    return "".join(out)


def _strongest(values: npt.NDArray[np.floating]) -> Floats:
    """Of each column and its neighbours the largest |value|, with its sign.

    Grids are as fine as 8 ms, 0.2 mm: less than the width of the trace, which would hide them.
    """
    size = 2 * ASIDE_COLUMNS + 1
    high = ndimage.maximum_filter1d(values, size, mode="nearest")
    low = ndimage.minimum_filter1d(values, size, mode="nearest")
    return np.where(high >= -low, high, low).astype(np.float64)


def _envelope(
    times: Floats, y: npt.NDArray[np.int64], edges: Floats
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Highest and lowest y of the trace in each column and its neighbours, widened."""
    known = y != _GAP
    column = np.clip(np.searchsorted(edges, times[known], side="right") - 1, 0, len(edges) - 2)
    far = 10**7
    high = np.full(len(edges) - 1, far, np.int64)
    low = np.full(len(edges) - 1, -far, np.int64)
    np.minimum.at(high, column, y[known])
    np.maximum.at(low, column, y[known])
    size = 2 * ASIDE_COLUMNS + 1
    reach = round(REACH_MM * _UNIT)
    nothing = high > low  # a gap is not coloured from beside it
    high = ndimage.minimum_filter1d(high, size, mode="nearest") - reach
    low = ndimage.maximum_filter1d(low, size, mode="nearest") + reach
    high[nothing], low[nothing] = far, -far
    return high, low


# ---------------------------------------------------------------- the paper


def _grid(wide: int, tall: int) -> str:
    right, bottom = wide * _UNIT, tall * _UNIT
    out = []
    for every, colour, thick in ((1, _LIGHT, 9), (5, _BOLD, 14)):
        lines = [f"M{x * _UNIT} 0V{bottom}" for x in range(0, wide + 1, every)]
        lines += [f"M0 {y * _UNIT}H{right}" for y in range(0, tall + 1, every)]
        out.append(
            f'<path class="grid-{every}" fill="none" stroke="{colour}" stroke-width="{thick}" '
            f'd="{"".join(lines)}"/>'
        )
    return "".join(out)


def _named(signal: Signal, cell: _Cell) -> str:
    x, base = int(_x(cell.start)), _base(cell.row)
    # The first of a row is named above its pulse, where no complex can hide it.
    left = x + 100 if cell.start > 0 else 250
    y = base - round(_ROW_MM / 2 * _UNIT) + 400
    out = [
        f'<text x="{left}" y="{y}" font-weight="700" fill="{_TRACE}" stroke="{_PAPER}" '
        f'stroke-width="60" paint-order="stroke">{cell.lead}</text>'
    ]
    if cell.start > 0:
        out.append(
            f'<path stroke="{_TRACE}" stroke-width="20" d="M{x} {base - 300}v200m0 200v200"/>'
        )
    if np.isnan(signal.lead(cell.lead)).all():
        middle = (x + int(_x(cell.end))) // 2
        out.append(
            f'<text x="{middle}" y="{base + 100}" text-anchor="middle" fill="{_NOTE}">'
            "not recorded</text>"
        )
    return "".join(out)


def _foot(signal: Signal, seconds: float, wide: int, tall: int, filter_text: str) -> str:
    y = (tall - 3) * _UNIT
    left = f"{SPEED_MM_S:g} mm/s   {GAIN_MM_MV:g} mm/mV   {filter_text}"
    right = f"{signal.rate_hz:g} Hz   0.0–{seconds:.1f} s"
    if signal.seconds > seconds + 1e-6:
        right += f" of {signal.seconds:.1f} s"
    style = f'y="{y}" fill="{_TRACE}" stroke="{_PAPER}" stroke-width="60" paint-order="stroke"'
    return (
        f'<text x="250" {style} xml:space="preserve">{plain(left)}</text>'
        f'<text x="{wide * _UNIT - 250}" text-anchor="end" {style} xml:space="preserve">'
        f"{plain(right)}</text>"
    )


def _legend(found: SignalMap, ends: tuple[str, str], wide: int, tall: int) -> str:
    """In the middle of the paper's foot, on a plate of its own."""
    bar = map_bar.bar_svg(
        map_bar.SIGNED if found.signed else map_bar.ON_PAPER,
        float(np.abs(found.values).max()),
        ends,
        signed=found.signed,
        opacity=_OPACITY,
        threshold=HIDDEN,
        full=_FULL,
    )
    plate = f'<rect x="-150" y="-100" width="9300" height="900" fill="{_PAPER}"/>'
    place = f"translate({(wide * _UNIT - 9000) // 2} {(tall - 9) * _UNIT})"
    return f'<g transform="{place}" fill="{_TRACE}">{plate}{bar}</g>'
