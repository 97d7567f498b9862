"""A told table with every word coloured by its share in the prediction."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st

from analysis.attribution.result import Attribution
from app.figures.shares import Direction

_STYLE = """
<style>
.told { line-height: 2.05; max-width: 75rem; }
.told .sentence { margin-right: 0.7em; }
.told .word { padding: 0.12em 0.22em; border-radius: 0.25em; }
.told .value { font-weight: 600; }
.told-key { font-size: 0.85rem; opacity: 0.85; }
.told-key .word { padding: 0.1em 0.5em; border-radius: 0.25em; }
</style>
"""
_MARKS = (".", ",", ";")


def show(found: Attribution, output: int = 0) -> None:
    """The text as the model reads it; deeper colour, larger share; the number under the cursor."""
    shares = found.values[:, output]
    direction = Direction.of(found.target)
    largest = float(np.abs(shares).max()) or 1.0
    sentences: dict[int, list[str]] = {}
    words = zip(
        found.parts["word"], found.parts["sentence"], found.parts["is_value"], shares, strict=True
    )
    for word, sentence, is_value, share in words:
        sentences.setdefault(int(sentence), []).append(
            _word(str(word), bool(is_value), float(share), largest, direction)
        )
    text = " ".join(f'<span class="sentence">{"".join(s)}</span>' for s in sentences.values())
    raised, lowered = direction.share(largest), direction.share(-largest)
    key = (
        f'<div class="told-key"><span class="word" style="{_shade(1.0, direction)}">'
        f"{escape(direction.words(1.0))}</span> up to {escape(raised)} &nbsp; "
        f'<span class="word" style="{_shade(-1.0, direction)}">'
        f"{escape(direction.words(-1.0))}</span> up to {escape(lowered)}; hover for numbers</div>"
    )
    st.html(f'{_STYLE}{key}<div class="told" role="text">{text}</div>')


def _word(word: str, is_value: bool, share: float, largest: float, direction: Direction) -> str:
    gap = "" if word in _MARKS else " "
    kind = "word value" if is_value else "word"
    told = f"{direction.words(share)}: {direction.share(share)}"
    style = _shade(share / largest, direction)
    return f'{gap}<span class="{kind}" style="{style}" title="{escape(told)}">{escape(word)}</span>'


def _shade(share: float, direction: Direction) -> str:
    """A background from nothing to the direction's own colour; dark letters stay readable."""
    colour = direction.colour(share)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"background: rgba({red}, {green}, {blue}, {min(abs(share), 1.0) * 0.6:.3f})"
