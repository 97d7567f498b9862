"""A told table as HTML: every word coloured by its share in the prediction. All text is escaped."""

from __future__ import annotations

from html import escape

import numpy as np

from analysis.attribution.result import Attribution
from app.figures.shares import Direction

_MARKS = (".", ",", ";")


def told_html(found: Attribution, output: int = 0) -> str:
    """The text as the model reads it, and its key; deeper colour, larger share.

    Classes: told, sentence, word, value (a measured value) and told-key.
    """
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
        f"{escape(direction.words(-1.0))}</span> up to {escape(lowered)}"
        '<span class="hover">; hover for numbers</span></div>'
    )
    return f'{key}<div class="told" role="text">{text}</div>'


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
