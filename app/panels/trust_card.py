"""What the checks of a map say, in one line beside it that opens to the details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import streamlit as st

from app.figures.text import markdown


class TrustCard(Protocol):
    """level: 'good', 'mixed', 'fails' or 'unknown'. sentences: the first says it all."""

    @property
    def level(self) -> str:
        """How the checks went."""
        ...

    @property
    def sentences(self) -> Sequence[str]:
        """Plain text, most important first."""
        ...


@dataclass(frozen=True)
class _Mark:
    """A level as icon, word and colour: never by colour alone."""

    icon: str
    word: str
    colour: str


_MARKS = {
    "good": _Mark(":material/check_circle:", "Checks passed", "green"),
    "mixed": _Mark(":material/error:", "Read with care", "orange"),
    "fails": _Mark(":material/cancel:", "Fails its checks", "red"),
    "unknown": _Mark(":material/help:", "Not checked", "gray"),
}
_NOTHING_SAID = {
    "good": "This map passed its checks.",
    "mixed": "Some of this map's checks failed.",
    "fails": "Do not read this map as the reason for the prediction.",
    "unknown": "Nobody has checked maps of this kind for this run.",
}
_STYLE = """
[class*="st-key-trust-"] :is(p, li) { font-size: 0.875rem; }
[class*="st-key-trust-"] summary { padding-block: 0.3rem; }
[class*="st-key-trust-"] [data-testid="stExpanderDetails"] { padding-block: 0.4rem; }
[class*="st-key-trust-bare-"] {
  border: 1px solid var(--st-border-color, #D9DFE5); border-radius: 0.4rem; padding: 0.3rem 0.75rem;
}
"""


def show(card: TrustCard, *, key: str, subject: str = "") -> None:
    """Draw a card: its mark and first sentence; the other sentences open on a click.

    A map that fails has its card open. subject: what was checked, when the place does not say.
    Raises ValueError for a level that does not exist.
    """
    if card.level not in _MARKS:
        raise ValueError(f"a trust card is {', '.join(_MARKS)}, not '{card.level}'")
    mark = _MARKS[card.level]
    first, *more = list(card.sentences) or [_NOTHING_SAID[card.level]]
    badge = f":{mark.colour}-badge[{mark.icon} {mark.word}]"
    name = f"**{markdown(subject)}** " if subject else ""
    line = f"{badge} {name}{markdown(first)}"
    with st.container(key=f"trust-{key}" if more else f"trust-bare-{key}", gap=None):
        st.html(f"<style>{_STYLE}</style>")
        if not more:
            st.markdown(line)
            return
        with st.expander(line, expanded=card.level == "fails"):
            st.markdown("\n".join(f"- {markdown(sentence)}" for sentence in more))
