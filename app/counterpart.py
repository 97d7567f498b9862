"""One strategy under several tasks of a cohort: which run of another task is its counterpart."""

from __future__ import annotations

from collections.abc import Sequence

from app.workspace import RunEntry
from models.checkpoint import RunConfig

# What a strategy is told of its task says nothing about which strategy it is.
_OF_THE_TASK = frozenset({"task", "guidance_text", "answers"})


def counterpart(config: RunConfig, entries: Sequence[RunEntry]) -> RunEntry | None:
    """Of another task's runs, the one most like a run: same strategy and the same modalities.

    Among several, the one that agrees in more of: encoders, settings of the strategy, title. None
    where no run has the same strategy and reads the same modalities. Ties: the first.
    """
    alike = [entry for entry in entries if _same(config, entry.config)]
    return max(alike, key=lambda entry: _likeness(config, entry.config), default=None)


def _same(one: RunConfig, other: RunConfig | None) -> bool:
    return (
        other is not None
        and one.strategy.name == other.strategy.name
        and set(one.modalities) == set(other.modalities)
    )


def _likeness(one: RunConfig, other: RunConfig | None) -> tuple[int, int, bool]:
    """Larger is more alike: encoders in common, settings in common, the same title."""
    assert other is not None
    encoders = sum(
        modality.encoder.name == other.modalities[name].encoder.name
        for name, modality in one.modalities.items()
    )
    names = (set(one.strategy.config) | set(other.strategy.config)) - _OF_THE_TASK
    settings = sum(one.strategy.config.get(n) == other.strategy.config.get(n) for n in names)
    return encoders, settings, one.title == other.title
