"""Numbers and names as text, the same way in figures, tables and sentences."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Mapping

MISSING = "–"
_EMOJI = re.compile(r":(?=[\w+\-/]+:)")
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?i:(?<=www))(?=\.)|(?<=@)(?=[\w\-])")


def plain(text: str) -> str:
    """A name for a figure: Plotly reads HTML tags in text, a name from a file has none."""
    return html.escape(text, quote=False)


def markdown(text: str) -> str:
    """A name for Markdown: its special characters show as themselves.

    Streamlit also turns :name: into an icon and an address into a link after escapes are gone; a
    word joiner prevents it.
    """
    text = _ADDRESS.sub("\u2060", text)
    escaped = re.sub(r"([\\`*_{}\[\]()#+\-.!|<>$~:&^=])", r"\\\1", _EMOJI.sub(":\u2060", text))
    return escaped.replace("\n", " ")


def title_lines(title: str, width: int) -> tuple[list[str], list[str]]:
    """A run's title for a figure, wrapped: the strategy, and what it reads."""
    head, _, tail = title.partition(": ")
    heads = [plain(line) for line in _wrapped(head, width)] or [""]
    return heads, [plain(line) for line in _wrapped(tail, width + 4)]


def two_lines(title: str, width: int = 30) -> str:
    """A run's title for an axis: the strategy, and under it, smaller, what it reads."""
    heads, tails = title_lines(title, width)
    small = [f'<span style="color:#5F6B77;font-size:0.9em">{line}</span>' for line in tails]
    return "<br>".join([*heads, *small])


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    return minus(f"{value:.{digits}f}")


def signed(value: float | None, digits: int = 1) -> str:
    """A number with its sign; zero has none."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:+.{digits}f}"
    return minus(text if float(text) else text.lstrip("+-"))


def minus(text: str) -> str:
    """With a real minus sign, and none before a zero."""
    return text.lstrip("-") if text.startswith("-") and not float(text) else text.replace("-", "−")


def interval(estimate: Mapping[str, float | None], digits: int = 3) -> str:
    """'0.781 (0.742 to 0.818)', or a dash."""
    if estimate["value"] is None:
        return MISSING
    low, high = (number(estimate[end], digits) for end in ("low", "high"))
    return f"{number(estimate['value'], digits)} ({low} to {high})"


def signed_interval(estimate: Mapping[str, float | None], digits: int = 1, unit: str = "") -> str:
    """'+4.2 (+1.1 to +7.4)', or a dash."""
    if estimate["value"] is None:
        return MISSING
    value, low, high = (signed(estimate[part], digits) for part in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def p_value(p: float | None) -> str:
    """'0.012', or '< 0.001'."""
    if p is None or math.isnan(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_phrase(p: float | None) -> str:
    """'p = 0.012', or 'p < 0.001'."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def count(n: float, noun: str, plural: str = "") -> str:
    """'1 patient', '1,098 patients'."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def counted(n: int, events: int | None, positive: str = "") -> str:
    """'231 patients, 38 events', or '231 patients, 102 with heart failure'."""
    patients = count(n, "patient")
    if events is None:
        return patients
    happened = f"{events:,} with {positive}" if positive else count(events, "event")
    return f"{patients}, {happened}"


def days(value: float | None) -> str:
    """'1,200 days', or a dash."""
    return MISSING if value is None or math.isnan(value) else minus(f"{value:,.0f}") + " days"


def listed(words: list[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
