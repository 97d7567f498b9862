"""Colours of maps over recordings, as the viewers in the browser have them (static/viewer.js)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.figures.ct_slices import DIVERGING, INFERNO
from app.figures.text import minus, plain

# White to rust: the strongest is the darkest on white paper, and still light under black.
ON_PAPER = ("#FFFFFF", "#FEE3B3", "#FDB863", "#F28E2B", "#D1580A")
ON_FRAMES, SIGNED = INFERNO, DIVERGING
_STEPS = 40


def colours(stops: Sequence[str], shares: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(..., 3) RGB, 0 to 255, between stops that are equally far apart. shares: 0 to 1."""
    at = np.asarray(shares, np.float64)
    places = np.linspace(0, 1, len(stops))
    channels = [[int(stop[i : i + 2], 16) for stop in stops] for i in (1, 3, 5)]
    return np.stack([np.interp(at, places, channel) for channel in channels], axis=-1)


def strength(shares: npt.ArrayLike, signed: bool) -> npt.NDArray[np.float64]:
    """How strong a place of the colours is, 0 to 1; the middle of signed ones is nothing."""
    at = np.asarray(shares, np.float64)
    return np.abs(2 * at - 1) if signed else at


def opacities(
    shares: npt.ArrayLike, signed: bool, opacity: float, threshold: float, full: float
) -> npt.NDArray[np.float64]:
    """Opacity at places of the colours: none below the threshold, all of it from `full` on."""
    strong = strength(shares, signed)
    return np.where(
        (strong < threshold) | (strong == 0), 0.0, opacity * np.minimum(1, strong / full)
    )


def bar_svg(
    stops: Sequence[str],
    limit: float,
    ends: tuple[str, str],
    *,
    signed: bool,
    opacity: float,
    threshold: float,
    full: float,
    ground: int = 255,
) -> str:
    """The colours from low to high with their numbers and what the ends mean, 90 x 9 mm.

    Lengths are in hundredths of a mm. ground: the grey that the colours lie on; what is hidden is
    that grey.
    """
    shares = (np.arange(_STEPS) + 0.5) / _STEPS
    alpha = opacities(shares, signed, opacity, threshold, full)[:, None]
    seen = np.rint(colours(stops, shares) * alpha + ground * (1 - alpha)).astype(int)
    wide = 9000 // _STEPS
    cells = "".join(
        f'<rect x="{i * wide}" width="{wide + 5}" height="320" fill="rgb({r},{g},{b})"/>'
        for i, (r, g, b) in enumerate(seen.tolist())
    )
    low = -limit if signed else 0.0
    words = [f"{_number(low, signed)} {ends[0]}".strip(), f"{ends[1]} {_number(limit, signed)}"]
    return (
        f'<g shape-rendering="crispEdges">{cells}</g>'
        '<rect width="9000" height="320" fill="none" stroke="#8A949E" stroke-width="12"/>'
        f'<text y="660">{plain(words[0])}</text>'
        + ('<text x="4500" y="660" text-anchor="middle">0</text>' if signed else "")
        + f'<text x="9000" y="660" text-anchor="end">{plain(words[1])}</text>'
    )


def _number(value: float, signed: bool) -> str:
    if value == 0:
        return "0"
    return minus(f"{value:+.3g}" if signed else f"{value:.3g}")
