"""Adds scans, ECGs and cines to a cohort: NIfTI files, DICOM of any nesting, WFDB records.

Whose a file is comes from its name, its folder, the DICOM header or a table; what it is comes
from its content. Nothing of its header is kept but numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.compose import Persons, adding, same_key
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_add import (
    NAMES,
    How,
    Wanted,
    add_files,
    counted,
    tell_found,
    tell_text,
)
from analysis.cohort.importers.imaging_files import Found, Item, classify, files_below, is_nifti
from analysis.cohort.importers.study import Study
from analysis.cohort.readers.echo_header import VIEWS, view_name
from analysis.cohort.schema import CohortError
from models.contracts import Kind

WAYS = ("name", "folder", "patient-id")
_NOUNS = {Kind.VOLUME: "scans", Kind.SIGNAL: "ECGs", Kind.VIDEO: "cines"}


def import_imaging(
    src: Path,
    out: Path,
    *,
    name: str | None = None,
    index: Path | None = None,
    id_from: str | None = None,
    views: Mapping[str, str] | None = None,
    study: Study | None = None,
    identities: Identities | None = None,
    replace_it: bool = False,
    how: How | None = None,
) -> list[str]:
    """Add what is found in `src` to the cohort `out`; gives the names of the modalities.

    Scans, ECGs and cines each become a modality (ct, ecg, echo), or `name` where only one kind
    is there. index: a CSV of id, path [, acquired, view]; only what it lists is then taken.
    id_from: 'name' of the file (of the folder, for a series), first 'folder' below `src`,
    'patient-id' of the DICOM header, or a regular expression on the path below `src`, whose first
    group is the id; without it patient-id for DICOM and name for other files. views: {file name:
    view} where the header does not tell.
    Raises CohortError when nothing is usable; the cohort is then as before.
    """
    src, out, how = Path(src), Path(out), how or How()
    identities = identities or Identities()
    cohort = Cohort.open(out)
    same_key(cohort, identities)
    if not src.exists():
        raise CohortError(f"{src}: there is no such file or folder; name one with imaging data.")
    named = _views(views or {})
    if index is None:
        found = classify(files_below(src), lambda at, n: how.say("looking", at, n))
        ways = _ways(id_from)
        found.items = [_owned(choices, src, ways[0]) for choices in found.items]
    else:
        found, ways = _listed(src, index, study, how), []
    tell_found(found, how, src.name)
    kinds = found.kinds()
    if not kinds:
        raise CohortError(
            f"{src}: holds no scan (NIfTI, CT series), no ECG (WFDB, DICOM waveform) and no "
            "ultrasound cine; name another folder."
            + (
                f" First of what could not be read: {found.unreadable[0]}"
                if found.unreadable
                else ""
            )
        )
    names = _names(kinds, name, src)
    _free(cohort, names, out, replace_it)
    done = []
    for kind in kinds:
        chosen = [choices for choices in found.items if choices[0].kind is kind]
        if kind is Kind.VIDEO:
            chosen = _viewed(chosen, named, src, how)
        persons = Persons(cohort, identities)
        wanted = _wanted(chosen, persons, identities)
        if not wanted:
            raise CohortError(_nobody(src, chosen, persons, ways, kind))
        persons.tell(how.note, names[kind], src)
        if kind is Kind.VIDEO:
            tell_text((one.items[0] for one in wanted), how)
        with adding(out, names[kind], identities, how.note, replace_it) as addition:
            having = add_files(addition, names[kind], kind, wanted, how, study)
        how.note(f"{names[kind]}: {counted(len(having), 'patient')} now with it.")
        done.append(names[kind])
    return done


def _names(kinds: Sequence[Kind], name: str | None, src: Path) -> dict[Kind, str]:
    if name is None:
        return {kind: NAMES[kind] for kind in kinds}
    if len(kinds) > 1:
        there = " and ".join(_NOUNS[kind] for kind in kinds)
        raise CohortError(
            f"{src}: holds {there}; without --as each becomes a modality of its own, or name a "
            "folder with one kind."
        )
    return {kinds[0]: name}


def _free(cohort: Cohort, names: Mapping[Kind, str], out: Path, replace_it: bool) -> None:
    for kind, name in names.items():
        before = cohort.spec.modalities.get(name)
        if before is not None and before.kind is not kind:
            raise CohortError(
                f"{out}: its modality '{name}' is of kind '{before.kind}', and what was found is "
                f"of kind '{kind}'; give another name with --as."
            )
        if before is not None and not replace_it:
            raise CohortError(
                f"{out}: has a modality '{name}' already; give another name with --as, or "
                "--replace."
            )


# ---------------------------------------------------------------- whose a file is


def _ways(id_from: str | None) -> list[Callable[[Item, Path], str]]:
    """How to tell the person, the way that counts first; the others are for advice."""
    named = {"name": _by_name, "folder": _by_folder, "patient-id": _by_header}
    if id_from is None:
        return [_by_kind, *named.values()]
    if id_from in named:
        return [named[id_from], *named.values()]
    try:
        pattern = re.compile(id_from)
    except re.error as error:
        raise CohortError(
            f"--id-from '{id_from}': not a regular expression ({error}); give one, or one of "
            f"{', '.join(WAYS)}."
        ) from error
    if not pattern.groups:
        raise CohortError(
            f"--id-from '{id_from}': has no group; put parentheses around the id, or give one of "
            f"{', '.join(WAYS)}."
        )

    def by_pattern(item: Item, src: Path) -> str:
        match = pattern.search(_relative(item.path, src).as_posix())
        return (match[1] or "") if match else ""

    return [by_pattern, *named.values()]


def _relative(path: Path, src: Path) -> Path:
    """The path below the source; its name alone where it is the source, or lies elsewhere."""
    root = src if src.is_dir() else src.parent
    inside = path != root and path.is_relative_to(root)
    return path.relative_to(root) if inside else Path(path.name)


def _by_name(item: Item, src: Path) -> str:
    name = item.path.name
    if is_nifti(item.path):
        return name[: -len(".nii.gz")] if name.lower().endswith(".gz") else name[: -len(".nii")]
    return (
        name
        if item.path.suffix.lower() not in (".hea", ".dcm", ".dicom", ".ima")
        else (item.path.stem)
    )


def _by_folder(item: Item, src: Path) -> str:
    parts = _relative(item.path, src).parts
    return parts[0] if len(parts) > 1 or item.files else ""


def _by_header(item: Item, src: Path) -> str:
    return item.patient_id


def _by_kind(item: Item, src: Path) -> str:
    is_dicom = bool(item.files) or not (is_nifti(item.path) or item.path.suffix.lower() == ".hea")
    return _by_header(item, src) if is_dicom else _by_name(item, src)


def _owned(
    choices: tuple[Item, ...], src: Path, way: Callable[[Item, Path], str]
) -> tuple[Item, ...]:
    return tuple(replace(item, person=way(item, src).strip()) for item in choices)


def _wanted(
    chosen: Sequence[tuple[Item, ...]], persons: Persons, identities: Identities
) -> list[Wanted]:
    made, sources = [], persons.cohort.subjects["source_id"]
    for choices in chosen:
        person = choices[0].person
        subjects = persons.subjects(person) if person else ()
        if subjects and identities.hidden and sources[subjects[0]] != identities.name(person):
            # Found by the id of a study: how far its person's times are moved is not known.
            choices = tuple(replace(item, acquired=None) for item in choices)
        if subjects:
            made.append(Wanted(subjects, choices, identities.shift_us(person)))
    return made


def _nobody(
    src: Path,
    chosen: Sequence[tuple[Item, ...]],
    persons: Persons,
    ways: Sequence[Callable[[Item, Path], str]],
    kind: Kind,
) -> str:
    """Why nobody was found, and which other way of telling the person would find somebody."""
    named = dict(zip(WAYS, ways[1:], strict=True)) if ways else {}
    better = []
    for name, way in named.items():
        told = {way(choices[0], src).strip() for choices in chosen}
        hits = sum(bool(persons.subjects(person)) for person in told if person)
        if hits:
            better.append(f"--id-from {name} would find {hits:,}")
    seen = sorted({c[0].person for c in chosen if c[0].person})
    shown = ", ".join(f"'{person[:40]}'" for person in seen[:3]) or "none"
    ours = persons.cohort.subjects["source_id"].dropna().astype(str)
    theirs = ", ".join(f"'{i[:40]}'" for i in sorted(ours)[:3]) or "the subject_ids"
    return (
        f"{src}: none of the persons of its {len(chosen):,} {_NOUNS[kind]} ({shown}) is in the "
        f"cohort, whose ids are like {theirs}; "
        + (f"{', '.join(better)}." if better else "say with --id-from or --index whose they are.")
    )


# ---------------------------------------------------------------- what a table says


def _listed(src: Path, index: Path, study: Study | None, how: How) -> Found:
    """What a table of id, path, acquired and view lists."""
    try:
        table = pd.read_csv(index, dtype=str)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CohortError(f"{index}: not readable as CSV ({reason}); write it again.") from error
    own = study.columns.id if study is not None else "id"
    column = next((name for name in ("id", own) if name in table), None)
    if column is None or "path" not in table:
        missing = "id" if column is None else "path"
        raise CohortError(f"{index}: column '{missing}' is missing; give id, path, acquired, view.")
    times = _times(table, index)
    found = Found()
    for at, row in enumerate(table.to_dict("records")):
        how.say("looking", at + 1, len(table))
        path = src / str(row["path"])
        files = files_below(path) if path.exists() else []
        if path.with_suffix(".hea").is_file() and not files:
            files = [path.with_suffix(".hea")]
        if not files or pd.isna(row["path"]) or pd.isna(row[column]):
            found.unreadable.append(f"{index}: row {at + 2}: there is no file '{row['path']}'.")
            continue
        one = classify(files)
        person, view = str(row[column]).strip(), _told_view(row.get("view"), index, at)
        for choices in one.items:
            found.items.append(tuple(_told(item, person, times[at], view) for item in choices))
        found.unreadable += one.unreadable
        found.aside += one.aside
    return found


def _told(item: Item, person: str, time: datetime | None, view: str | None) -> Item:
    return replace(item, person=person, acquired=time or item.acquired, view=view or item.view)


def _told_view(given: object, index: Path, at: int) -> str | None:
    if not isinstance(given, str) or not given.strip():
        return None
    return _view(given.strip(), f"{index}: row {at + 2}")


def _times(table: pd.DataFrame, index: Path) -> list[datetime | None]:
    if "acquired" not in table:
        return [None] * len(table)
    try:
        times = pd.to_datetime(table["acquired"], format="ISO8601")
        if getattr(times.dt, "tz", None) is not None:
            times = times.dt.tz_localize(None)
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise CohortError(
            f"{index}: column 'acquired' does not hold times ({reason}); write them as "
            "2020-12-31 23:59:00."
        ) from error
    return [None if pd.isna(time) else time.to_pydatetime() for time in times]


# ---------------------------------------------------------------- views


def _views(given: Mapping[str, str]) -> dict[str, str]:
    return {file: _view(view, f"--view {file}") for file, view in given.items()}


def _view(text: str, where: str) -> str:
    view = text if text in VIEWS else view_name(text)
    if view is None:
        raise CohortError(
            f"{where}: there is no view '{text[:40]}'; choose one of {', '.join(VIEWS)}."
        )
    return view


def _viewed(
    chosen: Sequence[tuple[Item, ...]], named: Mapping[str, str], src: Path, how: How
) -> list[tuple[Item, ...]]:
    """Cines with their view; those of none are set aside."""
    kept: list[tuple[Item, ...]] = []
    for choices in chosen:
        item = choices[0]
        view = named.get(item.path.name) or named.get(_relative(item.path, src).as_posix())
        view = view or item.view or view_name(item.path.stem)
        if view is not None:
            kept.append((replace(item, view=view),))
    without = len(chosen) - len(kept)
    cines = counted(without, "cine")
    if without:
        remedy = "name it with --view FILE=VIEW, or in a column 'view' of --index"
        if not kept:
            raise CohortError(f"{src}: none of its {cines} names its view; {remedy}.")
        how.note(f"echo: set aside, the view is not named: {cines}; {remedy}.")
    return kept
