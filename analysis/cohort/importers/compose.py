"""Puts a cohort together from several sources: one import makes it, others add a modality each.

A source's patients are found by the id that the cohort keeps as `source_id`; one person may be
several subjects (one a study), who then all get the person's data. A modality that is added lies
in COHORT/imported/NAME; it exists from the moment that cohort.yaml, replaced in one step, names
it, so that a reader, and a process that is killed, never leave half of one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.study import Study
from analysis.cohort.schema import (
    COHORT_FILE,
    SUBJECTS_FILE,
    CohortError,
    CohortSpec,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import atomic_folder, write_outcomes, write_subjects

Note = Callable[[str], None]
IMPORTED = "imported"
_SHOWN = 3


def is_cohort(out: Path) -> bool:
    """Whether there is a cohort to add to."""
    return (Path(out) / COHORT_FILE).is_file()


def study_spec(
    study: Study, modalities: Mapping[str, ModalitySpec], identities: Identities, source: str
) -> CohortSpec:
    """cohort.yaml of a study. source: what the data are, where the study does not say."""
    return CohortSpec(
        name=study.name,
        title=study.title,
        description=study.description,
        index_event=study.index_event,
        modalities=dict(modalities),
        tasks={
            name: TaskSpec(
                kind=task.kind,
                title=task.title,
                event_title=task.event_title or (task.title if task.kind == "survival" else ""),
                horizon_days=task.horizon_days or task.within_days,
                classes=(task.classes or ("no", "yes")) if task.kind == "classification" else (),
            )
            for name, task in study.tasks.items()
        },
        provenance=Provenance(
            source=study.source or source,
            licence=study.licence,
            citation=study.citation,
            seed=study.split.seed,
        ),
        pseudonyms=identities.pseudonyms,
    )


@contextmanager
def creating(
    out: Path,
    spec: CohortSpec,
    subjects: pd.DataFrame,
    outcomes: pd.DataFrame,
    note: Note,
    name: str = "",
) -> Iterator[Addition]:
    """Write a cohort of `subjects` and `outcomes`; inside, the modality `name` may be added.

    The importer fills `addition.modalities`, as in `adding`.

    Raises CohortError, and leaves nothing behind, when the check finds an error.
    """
    if name:
        _check_name(name)
    with atomic_folder(out) as folder:
        write_subjects(folder, subjects)
        write_outcomes(folder, outcomes)
        write_spec(spec, folder)
        addition = Addition(Cohort.open(folder), folder, Path(IMPORTED) / (name or "first"))
        yield addition
        made = spec.model_copy(update={"modalities": {**spec.modalities, **addition.modalities}})
        write_spec(made, folder)
        _accept(folder, made, note, out)


@dataclass
class Addition:
    """Where the files of a modality go, and what became of them.

    cohort: as it is without the modality. home: folder to write below; `place` says how a file
    there is called in cohort.yaml. modalities: filled by the importer.
    """

    cohort: Cohort
    home: Path
    prefix: Path
    modalities: dict[str, ModalitySpec] = field(default_factory=dict)

    def file(self, *parts: str) -> Path:
        """Where to write, its folder made. `place` of the same parts goes into the spec."""
        path = self.home.joinpath(self.prefix, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def place(self, *parts: str) -> str:
        """The path relative to the cohort, as cohort.yaml and imaging.parquet have it."""
        return self.prefix.joinpath(*parts).as_posix()


@contextmanager
def adding(
    out: Path, name: str, identities: Identities, note: Note, replace: bool = False
) -> Iterator[Addition]:
    """`_adding`, one at a time: a second import into the same cohort waits for the first."""
    _check_name(name)
    if not is_cohort(out):
        Cohort.open(out)  # says what is wrong
    home = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(home, fcntl.LOCK_EX)
        with _adding(out, name, identities, note, replace) as addition:
            yield addition
    finally:
        os.close(home)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise CohortError(
            f"--as '{name[:60]}': the name of a modality starts with a small letter and holds only "
            "small letters, digits and _ (at most 40); rename it."
        )


@contextmanager
def _adding(
    out: Path, name: str, identities: Identities, note: Note, replace: bool
) -> Iterator[Addition]:
    """Add the modality `name` to a cohort; inside, its files are written.

    The importer puts what it made into `addition.modalities` under `name`, or nothing, when
    nobody in the cohort has it (CohortError). Nothing stays behind on an error.
    """
    out = Path(out)
    cohort = Cohort.open(out)
    same_key(cohort, identities)
    if name in cohort.spec.modalities and not replace:
        raise CohortError(
            f"{out}: has a modality '{name}' already; give another name with --as, or --replace."
        )
    # Written apart and moved, so that a modality being replaced stays whole until the end.
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=out))
    at = _free(out / IMPORTED, name, cohort.spec)
    addition = Addition(cohort, partial, Path(IMPORTED) / at)
    final = out / IMPORTED / at
    try:
        yield addition
        if name not in addition.modalities:
            raise CohortError(f"{out}: nothing was found for '{name}'; nothing was written.")
        final.parent.mkdir(exist_ok=True)
        (partial / IMPORTED / at).rename(final)
        spec = cohort.spec.model_copy(
            update={"modalities": {**cohort.spec.modalities, **addition.modalities}}
        )
        # What encoders made of a modality that is replaced is not the new one's.
        stale = [out / "features" / made for made in addition.modalities]
        stale = [path for path in stale if path.is_dir()]
        try:
            _accept(out, spec, note, out, addition.place())
            write_spec(spec, partial)
            for path in stale:
                path.rename(partial / f"features-{path.name}")
            os.replace(partial / COHORT_FILE, out / COHORT_FILE)
        except BaseException:
            for path in stale:
                if not path.exists():
                    (partial / f"features-{path.name}").rename(path)
            shutil.rmtree(final, ignore_errors=True)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _sweep(out, Cohort.open(out).spec)


def _free(home: Path, name: str, spec: CohortSpec) -> str:
    """A folder's name that is not in use, nor was: results are kept by what cohort.yaml says."""
    at, n = name, 1
    if name in spec.modalities and _imported(spec.modalities[name].path):
        before = Path(spec.modalities[name].path).parts[1].removeprefix(f"{name}-")
        n = int(before) if before.isdigit() else 1
        at = f"{name}-{n + 1}"
    while (home / at).exists():
        n += 1
        at = f"{name}-{n}"
    return at


def _sweep(out: Path, spec: CohortSpec) -> None:
    """Remove what no modality names: left by a kill, or replaced."""
    for path in out.glob(".*.partial-*"):
        shutil.rmtree(path, ignore_errors=True)
    used = {Path(m.path).parts[1] for m in spec.modalities.values() if _imported(m.path)}
    for path in (out / IMPORTED).iterdir():
        if path.name not in used:
            shutil.rmtree(path, ignore_errors=True)


def _imported(path: str) -> bool:
    parts = Path(path).parts
    return len(parts) > 1 and parts[0] == IMPORTED


def same_key(cohort: Cohort, identities: Identities) -> None:
    """Raises CohortError unless the cohort was made with this key, or both are without one."""
    if cohort.spec.pseudonyms == identities.pseudonyms:
        return
    if cohort.spec.pseudonyms is None:
        raise CohortError(
            f"{cohort.folder}: keeps its ids as they are, so a key would find nobody; leave "
            "--key out, or make the cohort again with it."
        )
    raise CohortError(
        f"{cohort.folder}: its ids are hashed with "
        + ("a key; name it with --key." if not identities.key else "another key; name that one.")
    )


def _accept(folder: Path, spec: CohortSpec, note: Note, out: Path, about: str = "") -> None:
    """Tell the check's warnings of the files `about`. Raises CohortError on an error.

    That a patient has no modality yet is no error here: another import may bring one.
    """
    problems = check_cohort(folder, spec=spec)
    errors = []
    for problem in problems:
        waiting = (problem.file, problem.where) == (COHORT_FILE, "modalities") or (
            problem.file == SUBJECTS_FILE and "without any modality" in problem.what
        )
        if problem.severity == "error" and not waiting:
            errors.append(problem)
        elif problem.file.startswith(about):
            note(f"warning: {str(problem).partition(': ')[2]}")
    if errors:
        more = f" ({len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise CohortError(f"{out}: {str(errors[0]).removeprefix('error: ').rstrip('.')}.{more}")


class Persons:
    """Which subjects of a cohort a source's person is.

    studies_first: ids are those of studies where the cohort has such a study, else of persons;
    otherwise the other way round.
    """

    def __init__(self, cohort: Cohort, identities: Identities, studies_first: bool = False) -> None:
        self.cohort = cohort
        self.identities = identities
        self.asked: set[str] = set()
        self.found: set[str] = set()
        self._reached: set[int] = set()
        both = (self._studies, self._persons) if studies_first else (self._persons, self._studies)
        self._by_name = {**both[1], **both[0]}

    @cached_property
    def _persons(self) -> Mapping[str, tuple[int, ...]]:
        known: dict[str, list[int]] = {}
        sources = self.cohort.subjects["source_id"]
        for subject, source in zip(sources.index, sources, strict=True):
            name = str(subject) if pd.isna(source) else str(source)
            known.setdefault(name, []).append(int(subject))
        return {name: tuple(subjects) for name, subjects in known.items()}

    @cached_property
    def _studies(self) -> Mapping[str, tuple[int, ...]]:
        if "study_id" not in self.cohort.subjects:
            return {}
        studies = self.cohort.subjects["study_id"].dropna()
        pairs = zip(studies.index.to_numpy(np.int64), studies, strict=True)
        return {str(name): (int(subject),) for subject, name in pairs}

    def subjects(self, source_id: object) -> tuple[int, ...]:
        """subject_ids of a person, or of a study of one; () for a stranger."""
        name = self.identities.name(source_id)
        self.asked.add(name)
        found = self._by_name.get(name, ())
        if found:
            self.found.add(name)
            self._reached.update(found)
        return found

    def table(self, source_ids: Iterable[object]) -> pd.DataFrame:
        """Rows of source_id, subject_id, shift_us for those who are in the cohort.

        shift_us is that of the id: of a person's, not of the id of a study of theirs.
        """
        rows = [
            (source, subject, self.identities.shift_us(source))
            for source in dict.fromkeys(source_ids)
            for subject in self.subjects(source)
        ]
        return pd.DataFrame(rows, columns=["source_id", "subject_id", "shift_us"])

    def tell(self, note: Note, what: str, src: Path) -> None:
        """Say who was found. Raises CohortError when nobody was, with ids of both sides."""
        if not self.found:
            theirs, ours = _examples(sorted(self.asked)), _examples(sorted(self._persons))
            raise CohortError(
                f"{src}: none of its {len(self.asked)} persons ({theirs}) is in the cohort, whose "
                f"ids are {ours}; compare the ids, or say with --id which column has them."
            )
        everybody = len(self.cohort.subjects)
        unit = "patients" if len(self._persons) == everybody else "studies"
        without = everybody - len(self._reached)
        strangers = len(self.asked) - len(self.found)
        note(
            f"{what}: {len(self._reached):,} of {everybody:,} {unit} of the cohort"
            + (f", {without:,} without" if without else "")
            + (
                f"; {strangers:,} of the source are not in the cohort and were left out."
                if strangers
                else "."
            )
        )


def _examples(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name[:40]}'" for name in names[:_SHOWN])
    return f"{shown}, …" if len(names) > _SHOWN else shown or "none"
