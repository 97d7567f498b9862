"""Rename rules that would bring more of a checkpoint to a model, found in names and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from models.importing.names import KeyReport, Rename, Shaped, compare
from models.importing.pickles import CheckpointError

_MOST_RULES = 6
_MOST_TRIED = 24
_MOST_PARTNERS = 40


def suggest_rules(
    expected: Mapping[str, Shaped],
    found: Mapping[str, Shaped],
    rules: Sequence[Rename],
    report: KeyReport,
) -> list[tuple[Rename, int]]:
    """[(rule, tensors that find a partner by it)], to be applied in order after `rules`.

    report: how they fit so far. A rule is tried when a tensor that is left over and one that is
    missing have one shape and end alike; it is kept when it brings more in than any other one and
    takes nothing that fitted. Names say nothing of what a tensor means: whoever knows the model
    decides. Empty where nothing is missing.
    """
    kept: list[tuple[Rename, int]] = []
    for _ in range(_MOST_RULES):
        before = [*rules, *(rule for rule, _ in kept)]
        best: tuple[int, Rename, KeyReport] | None = None
        for rule in _candidates(expected, found, report):
            try:
                after = compare(expected, found, [*before, rule])
            except CheckpointError:  # two tensors would have one name
                continue
            gained = _fitting(after) - _fitting(report)
            lost = len(after.of("shape differs")) > len(report.of("shape differs"))
            if gained > 0 and not lost and (best is None or gained > best[0]):
                best = (gained, rule, after)
        if best is None:
            break
        kept.append((best[1], best[0]))
        report = best[2]
    return kept


def _fitting(report: KeyReport) -> int:
    return len(report.of("matched", "renamed"))


def _candidates(
    expected: Mapping[str, Shaped], found: Mapping[str, Shaped], report: KeyReport
) -> list[Rename]:
    """Prefixes and what may take their place, those first that most pairs of tensors ask for."""
    wanted: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for line in report.of("missing"):
        key = (line.name.rpartition(".")[2], tuple(expected[line.name].shape))
        wanted.setdefault(key, []).append(line.name)
    votes: Counter[tuple[str, str]] = Counter()
    for line in report.of("unexpected"):
        key = (line.name.rpartition(".")[2], tuple(found[line.source].shape))
        pairs = [_prefixes(line.name, name) for name in wanted.get(key, [])[:_MOST_PARTNERS]]
        # Only those that share the longest ending: the others are neighbours of like shape.
        shortest = min((len(have) for have, _ in pairs), default=0)
        votes.update({pair for pair in pairs if len(pair[0]) == shortest and pair[0]})
    order = sorted(votes, key=lambda pair: (-votes[pair], len(pair[0]), pair))
    return [Rename(have, to) for have, to in order[:_MOST_TRIED]]


def _prefixes(have: str, want: str) -> tuple[str, str]:
    """What stands before the common ending, in whole parts, of two names."""
    one, two = have.split("."), want.split(".")
    shared = 0
    while shared < min(len(one), len(two)) and one[-1 - shared] == two[-1 - shared]:
        shared += 1
    return (
        "".join(f"{part}." for part in one[: len(one) - shared]),
        "".join(f"{part}." for part in two[: len(two) - shared]),
    )
