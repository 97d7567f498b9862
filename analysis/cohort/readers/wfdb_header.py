"""What a WFDB header claims, held against the files beside it before wfdb believes it."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.cohort.schema import CohortError

_MOST_BYTES = 4 << 20
_MOST_SAMPLES = 8 << 20
_MOST_SHRUNK = 1000
"""Samples a byte; FLAC comes to a few, and gaps between segments to some hundreds."""
_NUMBER = re.compile(r"\d+")
_FORMAT = re.compile(r"\d+(?:x(\d+))?(?::(\d+))?")


def check_record(path: Path) -> None:
    """Whether the header's files lie beside it and can hold the samples that it claims.

    Raises CohortError. What else is wrong with a header is left to wfdb.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise CohortError(f"{path}: longer than a WFDB header can be; copy it again.")
    raw = path.read_text(encoding="latin-1")
    lines = [line.split() for line in raw.splitlines() if line.strip() and line[0] != "#"]
    if not lines:
        raise CohortError(f"{path}: the header is empty; copy it again.")
    names = {line[0] for line in lines[1:]} - {"~"}
    for name in sorted(names):
        if re.search(r"[/\\:\0]", name) or name in (".", ".."):
            raise CohortError(
                f"{path}: names the file '{name[:80]}', which is not beside it; mend the header."
            )
    claimed = _samples(lines)
    beside = sum(
        p.stat().st_size
        for p in path.parent.iterdir()
        if (p.name in names or p.stem in names) and p.is_file()
    )
    if claimed > max(_MOST_SAMPLES, _MOST_SHRUNK * beside):
        raise CohortError(
            f"{path}: claims {claimed:,} samples, which {beside:,} bytes beside it cannot hold; "
            "copy the record again."
        )


def _samples(lines: list[list[str]]) -> int:
    """Samples of all signals, with those that a skew adds."""
    about = lines[0]
    numbers = [int(found[0][:20]) if (found := _NUMBER.match(f)) else 0 for f in about[1:4]]
    signals, length = (numbers[at] if len(numbers) > at else 0 for at in (0, 2))
    if "/" in about[0]:
        return signals * length
    formats = [found for line in lines[1:] if len(line) > 1 if (found := _FORMAT.match(line[1]))]
    frames = sum(int((found[1] or "1")[:20]) for found in formats)
    skew = max((int((found[2] or "0")[:20]) for found in formats), default=0)
    return max(frames, signals) * (length + skew)
