"""Who looks at whom as a picture: a row a token that looks, a column a token that is looked at.

The whole matrix is sent once and drawn in the browser; ordering, zooming and pointing never ask
the server, a click on a row or a column does.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import streamlit as st

from app import theme
from app.panels import static
from app.panels.event_timeline import resolve

_SCRIPT = static.text("picture.js", "attention_matrix.js")
_STYLE = static.text("picture.css", "attention_matrix.css")

TOP = 40
NOTHING = "looks at nothing"
_DARK = "#12395C"


class Selection(TypedDict):
    """A row or a column of the matrix, by its number in the weights."""

    axis: Literal["row", "column"]
    index: int


def show(
    weights: npt.ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    key: str,
    row_title: str,
    column_title: str,
    null: npt.ArrayLike | None = None,
    own: float = 0.0,
    shares: bool = True,
    selected: Selection | None = None,
    top: int = TOP,
) -> Selection | None:
    """Draw the matrix; returns the row or column that is selected, or None.

    weights: (Q, K) >= 0. null: (Q,) what went to no token. own: what every token keeps of itself.
    shares: rows are shares of 1; pass False for weights that add up to nothing ('max' and
    'gradient' maps), then a weight is compared with the map's mean instead of with an even
    spread. rows, columns: labels. row_title, column_title: what they are ('EHR events', 'CT
    regions'). selected: a choice made elsewhere; it counts when it changes, a later click counts
    more. Raises ValueError when labels and weights differ in length.
    """
    digest, message = pack(
        weights,
        rows,
        columns,
        row_title=row_title,
        column_title=column_title,
        null=null,
        own=own,
        shares=shares,
        top=top,
    )
    clicked = st.session_state.get(key) or {}
    memory = st.session_state.setdefault(f"{key}-chosen", {})
    now, stamp = resolve(memory, clicked.get("picked"), digest, selected)
    component = st.components.v2.component(
        "fusionlens_attention_matrix", html='<div class="matrix"></div>', css=_STYLE, js=_SCRIPT
    )
    view = {"key": key, "hash": digest, "selected": now, "stamp": stamp}
    component(key=key, data=_framed(view, message), on_picked_change=_nothing)
    return now


def pack(
    weights: npt.ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_title: str,
    column_title: str,
    null: npt.ArrayLike | None = None,
    own: float = 0.0,
    shares: bool = True,
    top: int = TOP,
) -> tuple[str, bytes]:
    """A name for the content, and the content: header and float32 weights, null weights last."""
    matrix = np.ascontiguousarray(weights, "<f4")
    expected = (len(rows), len(columns))
    if matrix.shape != expected or not matrix.size:
        raise ValueError(f"weights are {matrix.shape}, labels say {expected}")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ValueError("attention weights must be finite and not negative")
    nothing = np.zeros(0, "<f4") if null is None else np.ascontiguousarray(null, "<f4")
    if null is not None and nothing.shape != expected[:1]:
        raise ValueError(f"{nothing.shape} null weights for {expected[0]} rows")
    content = {
        "rows": [str(row) for row in rows],
        "columns": [str(column) for column in columns],
        "rowTitle": row_title,
        "columnTitle": column_title,
        "nothing": None if null is None else NOTHING,
        "shares": shares,
        "even": even_weight(matrix, null is not None, own, shares),
        "meaning": meaning(row_title, shares, null is not None, own),
        "limit": limit(matrix),
        "largest": float(matrix.max()),
        "top": top,
        "ramp": [[at, colour] for at, colour in _ramp()],
    }
    text = json.dumps(content)
    body = _aligned(text.encode()) + matrix.tobytes() + nothing.tobytes()
    return hashlib.sha256(body).hexdigest()[:24], body


def even_weight(matrix: npt.NDArray[Any], has_null: bool, own: float, shares: bool) -> float:
    """The weight of an even spread over all keys; the map's mean where rows are no shares."""
    if not shares:
        return float(matrix.mean(dtype=np.float64))
    return (1.0 - own) / (matrix.shape[1] + has_null)


def limit(matrix: npt.NDArray[Any]) -> float:
    """Where the colours end: most weights lie far below the largest, which would hide them."""
    drawn = matrix[matrix > 0]
    return float(np.quantile(drawn, 0.995)) if drawn.size else 1.0


def meaning(row_title: str, shares: bool, has_null: bool, own: float) -> str:
    """What a cell's colour says, in a sentence."""
    if not shares:
        return "Darker: a larger weight. Weights of this kind add up to nothing in particular."
    parts = ["its cells"]
    if has_null:
        parts.append(f"“{NOTHING}”")
    if own:
        parts.append(f"the {own:.0%} that a token keeps of itself")
    joined = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"Darker: a larger share of the row's attention. A row adds up to 1 over {joined}."


def _ramp() -> list[tuple[float, str]]:
    stops = [(0.62 * at, colour) for at, colour in theme.SEQUENTIAL]
    return [*stops, (1.0, _DARK)]


def _framed(view: dict[str, Any], message: bytes) -> bytes:
    return _aligned(json.dumps(view).encode()) + message


def _aligned(text: bytes) -> bytes:
    """Length (4 bytes, little endian) and text, padded so that what follows starts on 4 bytes."""
    padded = text + b" " * (-len(text) % 4)
    return struct.pack("<I", len(padded)) + padded


def _nothing() -> None:
    """Streamlit tells a component's state only to those who give a callback."""
