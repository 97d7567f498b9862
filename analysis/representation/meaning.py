"""What a number of this package means: every measure states it, and pages read it from there."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Better = Literal["higher", "lower", "neither"]


class Meaning:
    """What a number means.

    title; better: which way is better; low, high: its range; chance: what it would be if the
    modalities of different patients were mixed up, in words; says: what it is, for people; source:
    the paper. moves_with_axes: whether it compares modalities place by place; before alignment
    their axes need not mean the same, so such a number starts near chance.
    """

    title: ClassVar[str]
    better: ClassVar[Better]
    low: ClassVar[float]
    high: ClassVar[float]
    chance: ClassVar[str]
    says: ClassVar[str]
    source: ClassVar[str]
    moves_with_axes: ClassVar[bool] = True


def meaning_json(meaning: type[Meaning]) -> dict[str, Any]:
    """What a measure means, for hover text and legends."""
    return {
        "title": meaning.title,
        "better": meaning.better,
        "range": [meaning.low, meaning.high],
        "chance_is": meaning.chance,
        "says": meaning.says,
        "source": meaning.source,
        "compares_axes": meaning.moves_with_axes,
    }
