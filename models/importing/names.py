"""From the names in a checkpoint to the names of a model, and a report of every one of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Protocol

import torch

from models.importing.pickles import CheckpointError

# What wrappers put into a name, wherever they wrapped: torch.compile, FSDP, activation checkpoints.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_LONGEST_NAME = 500


_MOST_SECONDS = 8
_MOST_REPEATS = 3


class Shaped(Protocol):
    """A tensor, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sides."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""


@dataclass(frozen=True)
class Rename:
    """A rule: where `pattern` is found in a name, `to` is put in its place.

    pattern: a prefix, or a regular expression if `regex` (`to` may then name its groups). A prefix
    that is to go has an empty `to`. Raises CheckpointError for an expression that is none, or that
    could take for ever on a name that someone made up for it.
    """

    pattern: str
    to: str = ""
    regex: bool = False

    def __post_init__(self) -> None:
        why = _why_slow(self.pattern) if self.regex else ""
        if why:
            raise CheckpointError(f"the rename rule '{self.pattern[:80]}' {why}.")

    def __str__(self) -> str:
        return f"{self.pattern} → {self.to or '(nothing)'}"

    def apply(self, name: str) -> str:
        """The name after the rule."""
        if self.regex:
            try:
                return re.sub(self.pattern, self.to, name)
            except (re.error, IndexError) as error:
                raise CheckpointError(
                    f"the rename rule '{self}' cannot be applied ({error}); mend it."
                ) from error
        if name.startswith(self.pattern):
            return self.to + name.removeprefix(self.pattern)
        return name


@dataclass(frozen=True)
class Line:
    """What became of one tensor.

    state: matched, renamed, missing, unexpected, shape differs or type differs. name: in the
    model, or in the checkpoint where the model has none. source: its name in the checkpoint.
    why: the rule that renamed it, or what differs.
    """

    state: str
    name: str
    source: str = ""
    why: str = ""


@dataclass(frozen=True)
class KeyReport:
    """Every tensor of a checkpoint and of a model, and whether they meet."""

    lines: tuple[Line, ...]

    def of(self, *states: str) -> tuple[Line, ...]:
        """The lines in those states."""
        return tuple(line for line in self.lines if line.state in states)

    @property
    def counts(self) -> dict[str, int]:
        """{state: tensors}, of the states that occur."""
        found: dict[str, int] = {}
        for line in self.lines:
            found[line.state] = found.get(line.state, 0) + 1
        return found

    @property
    def sources(self) -> dict[str, str]:
        """{name in the model: name in the checkpoint} of all that fits."""
        return {line.name: line.source for line in self.of("matched", "renamed")}

    @property
    def words(self) -> str:
        """The counts, as a sentence."""
        return ", ".join(f"{n} {state}" for state, n in self.counts.items()) + "."


def compare(
    expected: Mapping[str, Shaped], found: Mapping[str, Shaped], rules: Sequence[Rename] = ()
) -> KeyReport:
    """Bring the names of a checkpoint to those of a model.

    expected: the model's tensors, found: the checkpoint's. Names lose what wrappers put there, then
    `rules` are applied in order, then the prefix under which most of the model is found is taken
    off. Raises CheckpointError when two tensors end up with one name.
    """
    renamed, why = {}, {}
    start = time.process_time()
    for source in found:
        renamed[source], why[source] = _renamed(source, rules)
        if time.process_time() - start > _MOST_SECONDS:
            raise CheckpointError(
                "the rename rules take too long; write regular expressions with fewer * and +"
            )
    prefix = common_prefix(expected, renamed.values())
    given: dict[str, str] = {}
    unexpected = []
    for source, name in renamed.items():
        inner = name.removeprefix(prefix) if name.startswith(prefix) else None
        if inner is None or inner not in expected:
            unexpected.append(Line("unexpected", name, source))
            continue
        if inner in given:
            raise CheckpointError(
                f"'{given[inner][:80]}' and '{source[:80]}' both become '{inner[:80]}'; mend the "
                "rename rules."
            )
        given[inner] = source
        if prefix:
            why[source] = "; ".join(filter(None, [why[source], f"{prefix} taken off"]))
    lines = [_line(name, expected[name], given.get(name), found, why) for name in expected]
    return KeyReport((*lines, *unexpected))


def _renamed(source: str, rules: Sequence[Rename]) -> tuple[str, str]:
    if len(source) > _LONGEST_NAME:
        raise CheckpointError("it holds a tensor with a name of more than 500 letters")
    parts = source.split(".")
    kept = [part for part in parts if part not in _WRAPPERS]
    name = ".".join(kept)
    why = [] if len(kept) == len(parts) else ["wrappers' names taken out"]
    for rule in rules:
        after = rule.apply(name)
        if after != name:
            why.append(str(rule))
            name = after
    return name, "; ".join(why)


def _why_slow(pattern: str) -> str:
    """Why a regular expression is refused; empty where it is not.

    Repeats within repeats can try exponentially many ways on a name that nearly fits, and several
    beside each other the product of their lengths; names have up to 500 letters.
    """
    try:
        parsed = _parser.parse(pattern)
        repeats, nested = _repeats(parsed, False)
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression ({error}); mend it"
    if nested:
        return "repeats what is itself repeated or a choice; write it without"
    if repeats > _MOST_REPEATS:
        return f"has more than {_MOST_REPEATS} repeats without end; write fewer * and +"
    return ""


def _repeats(parsed: Any, inside: bool) -> tuple[int, bool]:
    """How many repeats without end an expression has, and whether one holds a repeat or choice."""
    count, nested = 0, False
    for kind, argument in parsed:
        name = str(kind)
        within = inside
        if name.endswith("REPEAT"):
            nested |= inside
            # Few repeats of something are as good as writing it out.
            within = inside or argument[1] > 8
            count += argument[1] > 8
        elif name == "BRANCH":
            nested |= inside
        for inner in _inner(argument):
            below, worse = _repeats(inner, within)
            count, nested = count + below, nested or worse
    return count, nested


def _inner(argument: Any) -> list[Any]:
    """The expressions within a part of an expression."""
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, list | tuple):
        return [inner for part in argument for inner in _inner(part)]
    return []


def _line(
    name: str,
    wanted: Shaped,
    source: str | None,
    found: Mapping[str, Shaped],
    why: Mapping[str, str],
) -> Line:
    if source is None:
        return Line("missing", name, "", f"{tuple(wanted.shape)}")
    have = found[source]
    if tuple(have.shape) != tuple(wanted.shape):
        differs = f"{tuple(have.shape)} instead of {tuple(wanted.shape)}"
        return Line("shape differs", name, source, differs)
    if not _converts(have.dtype, wanted.dtype):
        return Line("type differs", name, source, f"{have.dtype} instead of {wanted.dtype}")
    return Line("renamed" if why[source] else "matched", name, source, why[source])


def _converts(have: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether numbers of one type mean the same in the other: floats among each other only."""
    if have.itemsize < 2 and have.is_floating_point:
        return False
    return have.is_floating_point == wanted.is_floating_point and not have.is_complex


def common_prefix(expected: Iterable[str], names: Iterable[str]) -> str:
    """The beginning, up to a dot, under which most of the expected names are found.

    Empty where that is no better than none; of equals the shortest.
    """
    wanted = set(expected)
    counts: dict[str, int] = {"": 0}
    for name in names:
        parts = name.split(".")
        for cut in range(min(len(parts), 6)):
            if ".".join(parts[cut:]) in wanted:
                prefix = "".join(f"{part}." for part in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)))
