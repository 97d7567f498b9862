"""Guard: what is there twice under two subjects; across splits a model is tested on what it saw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from analysis.cohort.content import full_content, part_of_content, size_of_content
from analysis.cohort.evidence import Evidence
from analysis.cohort.report import ListedFile, some

_Copy = tuple[int, str]
"""A subject, and where its copy lies (in brackets, or nothing)."""
_LEAST_VALUES = 5
_REMEDY = "find out whose it is, and keep one"


def check_same_content(evidence: Evidence) -> None:
    """Note files of one content under two subjects: an error across splits, else a warning.

    The content is the bytes: of a .gz what is packed, of a WFDB record its signal files, of a
    DICOM folder all its files. Sizes are compared first (of a .gz the checksum that it carries),
    then the start, middle and end, and only what still agrees is read whole (sha256). So two
    exports of one scan with different headers are not found. Bags: the number of instances and
    the first, middle and last one agree.
    """
    for name, files in evidence.report.files.items():
        groups = _same(files)
        told = [(item[0], f" ({item[1]})") for group in groups for item in group]
        sizes = [len(group) for group in groups]
        path = evidence.spec.modalities[name].path
        _note(evidence, path, f"modality {name}", _cut(told, sizes), "file content")
    for path, contents in evidence.report.contents.items():
        by_digest: dict[str, list[_Copy]] = {}
        for subject, digest in contents.items():
            by_digest.setdefault(digest, []).append((subject, ""))
        groups_of_bags = [group for group in by_digest.values() if len(group) > 1]
        _note(evidence, path, "features", groups_of_bags, "instances")


def check_same_rows(evidence: Evidence) -> None:
    """Note subjects whose table rows agree in every continuous value.

    Two of a kind are one patient twice: severity as for files. Three and more are a warning:
    missing rows filled in with one and the same values. A row counts when it has five continuous
    values or more that are rare, i.e. held by no more than 10 % of the patients (or two): zeros
    and limits of detection are no fingerprint.
    """
    for modality, frame in evidence.tables():
        names = [n for n, c in modality.columns.items() if c.kind == "continuous" and n in frame]
        if len(names) < _LEAST_VALUES or len(frame) < 2:
            continue
        values = frame[names].apply(pd.to_numeric, errors="coerce").astype("float64")
        matrix = values.to_numpy(np.float64)
        twice = values.duplicated(keep=False).to_numpy()
        rare = np.zeros(len(frame), np.int64)
        for column in matrix.T:
            there = np.isfinite(column)
            held = rankdata(column[there], "max") - rankdata(column[there], "min") + 1
            rare[there] += held <= max(2, 0.1 * len(frame))
        ids = frame.index.to_numpy(np.int64)
        chosen = np.flatnonzero(twice & (rare >= _LEAST_VALUES))
        groups: dict[bytes, list[_Copy]] = {}
        for at in chosen.tolist():
            key = np.nan_to_num(matrix[at], nan=np.inf).tobytes()
            groups.setdefault(key, []).append((int(ids[at]), ""))
        title = f"row of up to {len(names)} continuous values"
        pairs = [group for group in groups.values() if len(group) == 2]
        _note(evidence, modality.path, "subject_id", pairs, title)
        filled = [group for group in groups.values() if len(group) > 2]
        if filled:
            count = sum(map(len, filled))
            shown = some([subject for subject, _ in filled[0]])
            what = (
                f"{count} of {len(frame)} rows agree in every continuous value with two others "
                f"or more ({shown}), as if filled in, not measured"
            )
            remedy = "leave missing values empty, models are told what is missing"
            evidence.report.warn(modality.path, "subject_id", what, remedy)


def digests(listed: npt.NDArray[np.int64], rows: npt.NDArray[np.float64]) -> dict[int, str]:
    """A fingerprint of each subject's instances: their number, and the first, middle and last.

    listed: (R,) the subject of each row of rows (R, F). Subjects all of whose instances are one
    and the same number are left out: they are empty, not the same.
    """
    order = np.argsort(listed, kind="stable")
    subjects, first = np.unique(listed[order], return_index=True)
    found: dict[int, str] = {}
    ends = [*first.tolist(), len(listed)]
    for subject, (start, end) in zip(subjects.tolist(), pairwise(ends), strict=True):
        picked = rows[order[[start, (start + end) // 2, end - 1]]].astype(np.float32)
        if picked.size and not (picked == picked[0, 0]).all():
            digest = hashlib.sha256(f"{end - start}:".encode() + picked.tobytes())
            found[int(subject)] = digest.hexdigest()
    return found


def _same(files: Iterable[ListedFile]) -> list[list[ListedFile]]:
    """Groups of files of one content that belong to two subjects or more."""
    groups = [[item for item in files if item[2].is_dir() or item[2].stat().st_size]]
    stages: tuple[Callable[[Path], Hashable], ...] = (
        size_of_content,
        part_of_content,
        full_content,
    )
    for stage in stages:
        finer: list[list[ListedFile]] = []
        for group in groups:
            by_key: dict[Hashable, list[ListedFile]] = {}
            for item in group:
                try:
                    by_key.setdefault(stage(item[2]), []).append(item)
                except (OSError, EOFError, ValueError):  # unreadable files are noted elsewhere
                    continue
            finer += [same for same in by_key.values() if len({item[0] for item in same}) > 1]
        groups = finer
    return groups


def _cut(items: list[_Copy], sizes: list[int]) -> list[list[_Copy]]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [items[a:b] for a, b in pairwise(ends)]


def _note(evidence: Evidence, file: str, where: str, groups: list[list[_Copy]], title: str) -> None:
    """One problem for the groups that cross splits, one for the others."""
    split = evidence.split
    crossing: list[list[_Copy]] = []
    within: list[list[_Copy]] = []
    for group in groups:
        known = [twin for twin in group if twin[0] in split.index]
        if len({twin[0] for twin in known}) < 2:
            continue
        homes = [str(split[twin[0]]) for twin in known]
        # One of each split first, because only the first few are shown.
        again = [home in homes[:at] for at, home in enumerate(homes)]
        known = [known[at] for at in sorted(range(len(known)), key=lambda at: again[at])]
        (crossing if len(set(homes)) > 1 else within).append(known)
    for chosen, note, words in (
        (crossing, evidence.report.error, "in different splits "),
        (within, evidence.report.warn, ""),
    ):
        if not chosen:
            continue
        subjects = {twin[0] for group in chosen for twin in group}
        shown = "; ".join(
            " and ".join(f"subject {s} in {split[s]}{place}" for s, place in group[:3])
            for group in chosen[:3]
        )
        more = ", …" if len(chosen) > 3 else ""
        what = f"{len(subjects)} subjects {words}share the same {title}: {shown}{more}"
        note(file, where, what, _REMEDY)
