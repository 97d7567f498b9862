"""Adds the files of one imaging modality to a cohort, whatever the source's layout is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pandas as pd

from analysis.cohort.importers.compose import Addition, Note
from analysis.cohort.importers.imaging_convert import SUFFIX, Done, Job, convert, in_order, workers
from analysis.cohort.importers.imaging_files import Found, Item
from analysis.cohort.importers.masking import NO_MASKS, Masks
from analysis.cohort.importers.study import Study
from analysis.cohort.schema import CohortError, ModalitySpec
from analysis.cohort.write import IMAGING_FILE, write_imaging
from models.contracts import Kind

Say = Callable[[str, int, int], None]
NAMES = {Kind.VOLUME: "ct", Kind.SIGNAL: "ecg", Kind.VIDEO: "echo"}
_TITLES = {"ct": "CT", "ecg": "ECG", "echo": "Echo"}
_UNITS = {Kind.VOLUME: "HU", Kind.SIGNAL: "mV", Kind.VIDEO: ""}
_SHOWN = 10


def _silent(text: str) -> None: ...


def _still(stage: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class How:
    """How files are imported. note: told a sentence. say: told how far a stage is.

    jobs: processes; by the amount of work where not stated. strict: the first file that cannot be
    read ends the import. link: NIfTI files are linked, headers and all, not written anew.
    """

    masks: Masks = NO_MASKS
    jobs: int | None = None
    strict: bool = False
    link: bool = False
    note: Note = _silent
    say: Say = _still


@dataclass(frozen=True)
class Wanted:
    """A file that a cohort shall have. subjects: all of the person. items: the first that can be
    read counts. shift_us: added to their times.
    """

    subjects: tuple[int, ...]
    items: tuple[Item, ...]
    shift_us: int = 0

    def time(self, item: Item) -> datetime | None:
        """When the item was acquired, as the cohort has it."""
        if item.acquired is None:
            return None
        return item.acquired + timedelta(microseconds=self.shift_us)


def add_files(
    addition: Addition,
    name: str,
    kind: Kind,
    wanted: Sequence[Wanted],
    how: How,
    study: Study | None = None,
) -> set[int]:
    """Write the files and their index below `addition`; gives the subjects who have one.

    A file that cannot be read is named and left out. Raises CohortError, with the first reason,
    when none is left, and at once when `how` is strict.
    """
    jobs = _jobs(addition, wanted, how)
    suffix, rows = SUFFIX[kind], []
    problems: list[str] = []
    doubts: list[str] = []
    for at, done in enumerate(in_order(convert, jobs, workers(how.jobs, len(jobs))), start=1):
        one, job = wanted[at - 1], jobs[at - 1]
        if how.strict and done.problems:
            raise CohortError(done.problems[0])
        problems += done.problems
        if done.doubt:
            doubts.append(done.doubt)
        how.say(f"writing {name}", at, len(jobs))
        rows += _rows(addition, name, one, job.out.name + suffix, done)
    tell_files(how.note, problems, f"{name}: could not be read and were set aside")
    tell_files(how.note, doubts, f"{name}: warning: imported, but odd")
    if not rows:
        raise CohortError(
            problems[0] if problems else f"{addition.cohort.folder}: nothing to import for {name}."
        )
    frame = pd.DataFrame(rows, columns=["modality", "subject_id", "path", "view", "acquired"])
    frame["acquired"] = pd.to_datetime(frame["acquired"])
    write_imaging(addition.file(IMAGING_FILE).parent, frame)
    addition.modalities[name] = spec_of(addition, name, kind, study)
    return set(frame["subject_id"])


def spec_of(addition: Addition, name: str, kind: Kind, study: Study | None) -> ModalitySpec:
    """What cohort.yaml says of an imaging modality."""
    title = _TITLES.get(name, name)
    if study is not None:
        title = study.modality(name, title).title
    return ModalitySpec(
        kind=kind, title=title, path=addition.place(IMAGING_FILE), unit=_UNITS[kind]
    )


def below(addition: Addition, name: str) -> Addition:
    """The same addition, its files in a folder `name` of their own."""
    return replace(addition, prefix=addition.prefix / name)


def _jobs(addition: Addition, wanted: Sequence[Wanted], how: How) -> list[Job]:
    made: Counter[int] = Counter()
    jobs = []
    for one in wanted:
        first = one.subjects[0]
        made[first] += 1
        stem = f"{first}-{made[first]}"
        names = (addition.cohort.spec.name, first, made[first])
        starts = tuple(map(one.time, one.items))
        jobs.append(Job(one.items, addition.file(stem), names, starts, how.masks, how.link))
    return jobs


def _rows(addition: Addition, name: str, one: Wanted, file: str, done: Done) -> list[list[object]]:
    if done.used is None:
        return []
    item = one.items[done.used]
    place, time = addition.place(file), one.time(item)
    return [[name, subject, place, item.view, time] for subject in one.subjects]


def counted(n: int, noun: str) -> str:
    """'1 file', '2,000 files'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def tell_files(note: Note, sentences: Sequence[str], what: str) -> None:
    """Say how many files something holds for, and the first of them by name."""
    if not sentences:
        return
    note(f"{what}: {counted(len(sentences), 'file')}.")
    for sentence in sentences[:_SHOWN]:
        note(f"  {sentence.rstrip('.')}.")
    if len(sentences) > _SHOWN:
        note(f"  … and {len(sentences) - _SHOWN:,} more.")


def tell_found(found: Found, how: How, what: str) -> None:
    """Say what was set aside while looking. Raises CohortError on a bad file when strict."""
    if how.strict and found.unreadable:
        raise CohortError(found.unreadable[0])
    tell_files(how.note, found.unreadable, f"{what}: could not be read and were set aside")
    for reason, count in sorted(found.aside.items()):
        how.note(f"{what}: set aside, {reason}: {counted(count, 'file')}.")


def tell_text(items: Iterable[Item], how: How) -> None:
    """Warn of cines that may have a name painted into the picture and are not masked."""
    doubtful = [] if how.masks else [item.path.name for item in items if item.text]
    if doubtful:
        how.note(
            "warning: no header rules out text within the picture (BurnedInAnnotation) of "
            f"{counted(len(doubtful), 'cine')}, e.g. {doubtful[0]}; look at one, and blacken it "
            "with --mask-outside-sector or --mask X0,Y0,X1,Y1 where a name shows."
        )
