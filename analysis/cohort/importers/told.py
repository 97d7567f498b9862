"""What the check finds in a cohort that was just imported, told to whoever imports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.cohort.check import check_cohort


def tell_problems(folder: Path, note: Callable[[str], None] | None) -> None:
    """Call `note` with a sentence a problem of the cohort, errors first; nothing without `note`."""
    if note is not None:
        for problem in check_cohort(folder):
            note(str(problem))
