"""Settings of a model that the shapes of its weights give away."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.importing.names import KeyReport, Rename, Shaped, compare

Path = tuple[str, ...]
Settings = Mapping[Path, int]
"""{path to a whole number or switch in the settings: its value}."""
Build = Callable[[Settings], Mapping[str, Shaped]]
"""The tensors of the model with some numbers changed."""
_MOST_SIDE = 1 << 20
_MOST_TRIED = 400


@dataclass(frozen=True)
class Inferred:
    """settings: numbers that differ from what was assumed. report: how the weights then fit."""

    settings: dict[Path, int]
    report: KeyReport


def infer_settings(
    build: Build,
    start: Settings,
    found: Mapping[str, Shaped],
    rules: Sequence[Rename] = (),
) -> Inferred:
    """The values of `start`'s numbers under which most of a checkpoint fits the model.

    build: the model's tensors for some changed numbers; called on torch's meta device, where
    tensors have a shape and no memory. A number is tried at the values that would turn a side that
    differs into the side the checkpoint has, or at the number of layers the checkpoint counts; the
    change that removes most misfits is kept, as long as one does. Numbers that no shape depends on
    stay, and all do where not one name of the checkpoint is the model's.
    """
    changed: dict[Path, int] = {}
    report = _fit(build, changed, found, rules)
    assert report is not None
    for _ in range(2 * len(start)):
        if not _misfits(report) or not report.of("matched", "renamed", "shape differs"):
            break
        best: tuple[int, dict[Path, int], KeyReport] | None = None
        for path, value in _trials(start, changed, report, found):
            tried = {**changed, path: value}
            fitted = _fit(build, tried, found, rules)
            if fitted is not None and (best is None or _misfits(fitted) < best[0]):
                best = (_misfits(fitted), tried, fitted)
        if best is None or best[0] >= _misfits(report):
            break
        _, changed, report = best
    return Inferred(changed, report)


def _fit(
    build: Build, settings: Settings, found: Mapping[str, Shaped], rules: Sequence[Rename]
) -> KeyReport | None:
    """How the checkpoint fits the model with those settings; None where there is no such model."""
    expected = _built(build, settings)
    return None if expected is None else compare(expected, found, rules)


def _built(build: Build, settings: Settings) -> Mapping[str, Shaped] | None:
    try:
        with torch.device("meta"):
            return build(settings)
    except (ValueError, RuntimeError, ArithmeticError, AssertionError):
        if not settings:
            raise
        return None


def _misfits(report: KeyReport) -> int:
    """Tensors of the model or the checkpoint that found no partner; a wrong shape weighs double."""
    return len(report.of("missing", "unexpected")) + 2 * len(report.of("shape differs"))


def _trials(
    start: Settings,
    changed: Settings,
    report: KeyReport,
    found: Mapping[str, Shaped],
) -> Iterable[tuple[Path, int]]:
    """(path, value) worth trying, each once."""
    sides = {
        pair
        for line in report.of("shape differs")
        for pair in _sides(line.why)
        if 0 < pair[0] <= _MOST_SIDE and 0 < pair[1] <= _MOST_SIDE
    }
    layers = _layers(found)
    tried = 0
    for path, first in start.items():
        value = changed.get(path, first)
        new = {have * value // want for have, want in sides if (have * value) % want == 0}
        # A side may hold something beside the number (special codes, a class token).
        new |= {value + have - want for have, want in sides}
        if report.of("missing", "unexpected"):
            new |= layers
        if isinstance(first, bool):
            new = {1 - value}
        for candidate in sorted(new - {value}):
            fits = isinstance(first, bool) or 0 < candidate <= _MOST_SIDE
            if fits and tried < _MOST_TRIED:
                tried += 1
                yield path, candidate


def _sides(why: str) -> list[tuple[int, int]]:
    """(side in the checkpoint, side in the model) that differ, of '(3, 4) instead of (3, 5)'."""
    have, want = ([int(n) for n in re.findall(r"\d+", part)] for part in why.split(" instead of "))
    if len(have) != len(want):
        return []
    return [(a, b) for a, b in zip(have, want, strict=True) if a != b]


def _layers(found: Mapping[str, Shaped]) -> set[int]:
    """How many numbered layers stand side by side, wherever some do."""
    highest: dict[str, int] = {}
    for name in found:
        parts = re.split(r"(\d+)", name)
        for i in range(1, len(parts), 2):
            before = "".join(parts[:i])
            if len(parts[i]) < 4:
                highest[before] = max(highest.get(before, 0), int(parts[i]))
    return {n + 1 for n in highest.values() if n < 200}


def numbers_in(settings: Mapping[str, Any], but: Collection[str] = ()) -> dict[Path, int]:
    """The whole numbers and switches among settings by path, those in lists of them, too.

    but: settings to leave out.
    """
    found: dict[Path, int] = {}
    for name, value in settings.items():
        if name in but:
            continue
        if isinstance(value, int):
            found[(name,)] = value
        elif isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
            found.update({(name, str(i)): v for i, v in enumerate(value)})
    return found


def with_numbers(settings: Mapping[str, Any], changed: Settings) -> dict[str, Any]:
    """The settings with some numbers replaced."""
    new = dict(settings)
    for path, value in changed.items():
        name = path[0]
        if len(path) == 1:
            new[name] = bool(value) if isinstance(new[name], bool) else value
        else:
            new[name] = [value if str(i) == path[1] else v for i, v in enumerate(new[name])]
    return new


def unseen(build: Build, start: Settings) -> list[Path]:
    """The numbers on which no shape depends, so that weights cannot confirm them."""
    at_first = _shapes(build, {})
    return [
        path
        for path, value in start.items()
        if all(
            shapes is None or shapes == at_first
            for shapes in (_shapes(build, {path: other}) for other in _others(value))
        )
    ]


def _others(value: int) -> list[int]:
    if isinstance(value, bool):
        return [not value]
    return [value + 1, 2 * value, *([value // 2] if value % 2 == 0 and value > 1 else [])]


def _shapes(build: Build, settings: Settings) -> dict[str, tuple[int, ...]] | None:
    expected = _built(build, settings)
    return None if expected is None else {name: tuple(t.shape) for name, t in expected.items()}
