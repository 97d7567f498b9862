"""Problems found in a cohort, collected so that one bad file does not hide the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import pandas as pd

from analysis.cohort.readers.events import EventTable
from analysis.cohort.schema import CohortError

Severity = Literal["error", "warning"]
T = TypeVar("T")
ListedFile = tuple[int, str, Path, str | None]
"""Subject, path as the imaging index gives it, whole path, view."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong. file: relative to the cohort folder. where: column, row or subject."""

    file: str
    where: str
    what: str
    remedy: str
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.file} ({self.where})" if self.where else self.file
        return f"{self.severity}: {place}: {self.what}; {self.remedy}."


@dataclass
class Report:
    """Collects problems of one cohort folder."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    follows: bool = False
    """The cohort follows another: it need not be fit for training."""
    events: dict[str, EventTable] = field(default_factory=dict)
    """What was read of events modalities, by path; the guards need not read it again."""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """What was read of table modalities, by path."""
    files: dict[str, list[ListedFile]] = field(default_factory=dict)
    """Files that the imaging index lists and that are there, by name of the modality."""
    contents: dict[str, dict[int, str]] = field(default_factory=dict)
    """sha256 of what each subject has of a bag modality, by path."""

    def error(self, file: str, where: str, what: str, remedy: str) -> None:
        """Note something that makes the cohort unusable."""
        self._note(Problem(file, where, what, remedy))

    def lack(self, file: str, where: str, what: str, remedy: str) -> None:
        """Note something without which nothing can be trained; an error unless it `follows`."""
        if not self.follows:
            self.error(file, where, what, remedy)

    def warn(self, file: str, where: str, what: str, remedy: str) -> None:
        """Note something that deserves a look."""
        self._note(Problem(file, where, what, remedy, "warning"))

    def _note(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def attempt(self, file: str, read: Callable[[], T]) -> T | None:
        """What `read` gives, or None with its failure noted."""
        given: list[T] = []
        with self.guard(file):
            given.append(read())
        return given[0] if given else None

    @contextmanager
    def guard(self, file: str) -> Iterator[None]:
        """Note any failure inside and go on: a check never raises, whatever the files hold."""
        try:
            yield
        except CohortError as error:
            what, _, remedy = str(error).rstrip(".").rpartition("; ")
            for prefix in (f"{self.folder / file}: ", f"{self.folder}/"):
                what = what.removeprefix(prefix)
            self.error(file, "", what or remedy, remedy if what else "mend or remove it")
        except Exception as error:  # broken files make libraries raise anything
            reason = " ".join(str(error).split())[:160]
            self.error(
                file, "", f"cannot be read ({type(error).__name__}: {reason})", "write it again"
            )


def some(ids: Iterable[object], limit: int = 5) -> str:
    """'3 subjects: 1, 4, 9', shortened after `limit` names."""
    names = [str(item) for item in ids]
    shown = ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
    return f"{len(names)} subject{'s' if len(names) != 1 else ''}: {shown}"
