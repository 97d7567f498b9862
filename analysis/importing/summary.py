"""What the comparison of a checkpoint with its model says, as plain values for JSON and pages."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.importing.names import KeyReport, Line
from models.importing.suggest import suggest_rules

if TYPE_CHECKING:
    from analysis.importing.checkpoint import Examined
    from models.importing.source import Checkpoint

STATES = ("shape differs", "type differs", "missing", "unexpected", "renamed", "matched")
"""What can become of a tensor, what stands in the way of an import first."""
FITTING = ("matched", "renamed")
_SHOWN = 5
_MOST_PATTERNS = 12


def summary(examined: Examined, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """Everything of an examined checkpoint; `tensors` has every line of the report.

    allowed: names, or patterns with *, of tensors that may be missing.
    """
    checkpoint = examined.checkpoint
    wrong = misfits(examined.report, allowed)
    return {
        "source": checkpoint.path.name,
        "form": checkpoint.form,
        "within": checkpoint.within,
        "hyperparameters": dict(checkpoint.settings),
        "looks_like": examined.looks_like,
        "counts": examined.report.counts,
        "tensors": [asdict(line) for line in examined.report.lines],
        "inferred": examined.inferred,
        "assumed": examined.assumed,
        "learnt_on_the_cohort": list(examined.notes),
        "rules_that_fit_more": suggested(examined),
        "fits": not wrong,
        "misfits": wrong,
    }


def suggested(examined: Examined) -> list[dict[str, Any]]:
    """Rename rules that would bring more tensors in: prefix, to, and how many by each."""
    if not examined.report.of("missing"):
        return []
    draft, entries = examined.draft, examined.checkpoint.entries
    rules = suggest_rules(draft.expected(), entries, draft.file.rules, examined.report)
    return [{"prefix": rule.pattern, "to": rule.to, "tensors": n} for rule, n in rules]


def contents(checkpoint: Checkpoint, looks_like: str) -> dict[str, Any]:
    """What lies in a checkpoint, before any model is described.

    numbers: how many all tensors hold together. parts: {beginning of the names up to the first part
    in which they differ: tensors}.
    """
    return {
        "form": checkpoint.form,
        "within": checkpoint.within,
        "hyperparameters": dict(checkpoint.settings),
        "looks_like": looks_like,
        "numbers": sum(entry.numel for entry in checkpoint.entries.values()),
        "parts": _beginnings(list(checkpoint.entries)),
        "tensors": [
            {"name": name, "shape": list(entry.shape), "type": str(entry.dtype)[6:]}
            for name, entry in checkpoint.entries.items()
        ],
    }


def _beginnings(names: Sequence[str]) -> dict[str, int]:
    split = [name.split(".") for name in names]
    shared = 0
    while split and all(len(p) > shared + 1 and p[shared] == split[0][shared] for p in split):
        shared += 1
    found: dict[str, int] = {}
    for parts in split:
        beginning = ".".join(parts[: shared + 1])
        found[beginning] = found.get(beginning, 0) + 1
    return found


def report_of(told: Mapping[str, Any]) -> KeyReport:
    """The report of a summary."""
    return KeyReport(tuple(Line(**line) for line in told["tensors"]))


def misfits(report: KeyReport, allowed: Sequence[str] = ()) -> list[str]:
    """Why a checkpoint cannot be accepted, a sentence each; allowed: as in `summary`."""
    found = []
    lines = [line for line in report.of("missing") if not allows(allowed, line.name)]
    if lines:
        words = "tensor is" if len(lines) == 1 else "tensors are"
        found.append(f"{len(lines)} {words} missing ({first_few(lines)})")
    for what in ("shape", "type"):
        lines = list(report.of(f"{what} differs"))
        if lines:
            words = "tensor has" if len(lines) == 1 else "tensors have"
            found.append(f"{len(lines)} {words} another {what} ({first_few(lines)})")
    return found


def first_few(lines: Sequence[Line]) -> str:
    """The first lines of a report by name, and why where they are not just missing."""
    shown = [f"{n.name}: {n.why}" if n.state != "missing" else n.name for n in lines[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(lines) > _SHOWN else "")


def allows(allowed: Sequence[str], name: str) -> bool:
    """Whether one of the patterns names the tensor."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)


def missing_patterns(report: KeyReport) -> dict[str, int]:
    """{pattern with *: missing tensors it names}, at most twelve, together all that are missing.

    A pattern is the module that the tensors lie in, or one further out where there are many; a
    tensor that is alone is named itself.
    """
    names = [line.name for line in report.of("missing")]
    deepest = max((name.count(".") for name in names), default=0)
    found: dict[str, int] = {}
    for depth in range(max(deepest, 1), 0, -1):
        found = _grouped(names, depth)
        if len(found) <= _MOST_PATTERNS:
            break
    return found


def _grouped(names: Sequence[str], depth: int) -> dict[str, int]:
    """{pattern: names it alone stands for}, of modules at most so many parts deep."""
    inside: dict[str, list[str]] = {}
    for name in names:
        module = name.split(".")[:-1][:depth]
        inside.setdefault(".".join([*module, "*"]) if module else name, []).append(name)
    found: dict[str, int] = {}
    for pattern, members in inside.items():
        # A module around other modules would name what is in them, too.
        if len(members) == 1 or sum(allows([pattern], name) for name in names) > len(members):
            found.update(dict.fromkeys(members, 1))
        else:
            found[pattern] = len(members)
    return found
