"""Which file shows which view of which subject, with headers read no sooner than needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from analysis.cohort.readers.echo_header import is_still
from analysis.cohort.schema import CohortError


class Cines(Mapping[int, Mapping[str, Path]]):
    """Cines by subject and view.

    candidates: the files of each view, the most wanted first. Looking a subject up reads the
    headers of its files and keeps, of each view, the first one that is no still. A file that is
    missing or cannot be read stands for its view: whoever reads it says what is wrong with it.
    unnamed: the subjects' files of no stated view; only stills among them count.
    """

    def __init__(
        self,
        candidates: Mapping[int, Mapping[str, Sequence[Path]]],
        unnamed: Mapping[int, Sequence[Path]] | None = None,
    ) -> None:
        self._candidates = candidates
        self._unnamed = unnamed or {}
        self._found: dict[int, Mapping[str, Path]] = {}

    def __getitem__(self, subject: int) -> Mapping[str, Path]:
        if subject not in self._found:
            views = self._candidates[subject]
            chosen = {view: _first_cine(views[view]) for view in sorted(views)}
            self._found[subject] = {view: path for view, path in chosen.items() if path}
        return self._found[subject]

    def __iter__(self) -> Iterator[int]:
        return iter(self._candidates)

    def __len__(self) -> int:
        return len(self._candidates)

    def __contains__(self, subject: object) -> bool:
        return subject in self._candidates

    def stills(self, subject: int) -> list[tuple[str | None, Path]]:
        """View, None where none is stated, and file of each still or strip of a subject.

        Reads the headers of all of the subject's files; one that cannot be read is no still.
        """
        named = self._candidates.get(subject, {})
        files = [(view, path) for view in sorted(named) for path in named[view]]
        unnamed = [(None, path) for path in self._unnamed.get(subject, ())]
        return [(view, path) for view, path in (*files, *unnamed) if _is_still(path)]

    def with_files(self, among: Iterable[int] | None = None) -> list[int]:
        """Subjects (all, or some of `among`) with at least one file that exists; none is opened."""
        return [
            subject
            for subject in (self._candidates if among is None else among)
            if any(
                path.exists()
                for paths in self._candidates.get(subject, {}).values()
                for path in paths
            )
        ]


def _is_still(path: Path) -> bool:
    try:
        return is_still(path)
    except CohortError:
        return False


def _first_cine(paths: Sequence[Path]) -> Path | None:
    for path in paths:
        try:
            if not is_still(path):
                return path
        except CohortError:
            return path
    return None
