"""The part of the cohort check that looks into the files of one modality."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.cohort.check_duplicates import digests
from analysis.cohort.check_recordings import check_signals, check_videos
from analysis.cohort.readers.events import STATIC, EventTable, read_codes, read_events
from analysis.cohort.readers.frame import integers, read_arrow, read_frame
from analysis.cohort.readers.index import feature_subjects, read_imaging
from analysis.cohort.readers.table import column_numbers
from analysis.cohort.readers.volume import probe_volume, read_volume
from analysis.cohort.report import ListedFile, Report, some
from analysis.cohort.schema import SUBJECTS_FILE, CohortSpec, ModalitySpec
from models.contracts import Kind

_NOUNS = {Kind.VOLUME: "scan", Kind.SIGNAL: "recording", Kind.VIDEO: "cine"}


def check_modality(
    report: Report,
    spec: CohortSpec,
    name: str,
    subjects: pd.DataFrame,
    ids: frozenset[int],
    deep: bool,
) -> set[int] | None:
    """Note the problems of one modality.

    Gives the subjects that have it, or None where that cannot be told (an unreadable file).
    """
    modality = spec.modalities[name]
    features = _features(report, name, ids)
    if not (report.folder / modality.path).exists():
        if features:
            return features
        report.error(modality.path, f"modality {name}", "there is no such file", "add it")
        return None
    found = None
    with report.guard(modality.path):
        if modality.kind is Kind.TABLE:
            found = _table(report, modality, ids)
        elif modality.kind is Kind.BAG:
            found = _bag(report, modality, ids)
        elif modality.kind is Kind.EVENTS:
            found = _events(report, modality, subjects, ids)
        elif modality.kind is Kind.VOLUME:
            found = _volumes(report, _files(report, name, modality, subjects, ids), deep)
        elif modality.kind is Kind.SIGNAL:
            listed = _files(report, name, modality, subjects, ids)
            found = check_signals(report, modality, (item[:3] for item in listed), deep)
        elif modality.kind is Kind.VIDEO:
            listed = _files(report, name, modality, subjects, ids)
            found = check_videos(report, modality, listed, deep)
        else:
            what = f"kind {modality.kind} cannot be checked yet"
            report.warn(modality.path, f"modality {name}", what, "check it by hand")
    if found is not None:
        return found | features
    return None


def _features(report: Report, name: str, ids: frozenset[int]) -> set[int]:
    found: set[int] = set()
    for path in sorted((report.folder / "features" / name).glob("*.safetensors")):
        file = path.relative_to(report.folder).as_posix()
        listed = report.attempt(file, partial(feature_subjects, path))
        if listed is not None:
            _strangers(report, file, listed, ids)
            found |= set(listed.tolist())
    return found


def _strangers(
    report: Report, file: str, listed: npt.NDArray[np.int64], ids: frozenset[int]
) -> None:
    unknown = sorted(set(np.unique(listed).tolist()) - ids)
    if unknown and ids:
        what = f"{some(unknown)} not in {SUBJECTS_FILE}"
        report.error(file, "subject_id", what, "add or remove them")


def _table(report: Report, modality: ModalitySpec, ids: frozenset[int]) -> set[int] | None:
    file, path = modality.path, report.folder / modality.path
    frame = read_frame(path, ("subject_id",))
    report.tables[file] = frame
    listed = frame["subject_id"].to_numpy(np.int64)
    _strangers(report, file, listed, ids)
    twice = frame["subject_id"][frame["subject_id"].duplicated()].unique()
    if len(twice):
        report.error(file, "subject_id", f"{some(twice)} listed twice", "keep one row a subject")
    filled = np.zeros(len(frame), bool)
    for name, column in modality.columns.items():
        where = f"column {name}"
        if name not in frame:
            report.error(file, where, "is missing", "add it or drop it in cohort.yaml")
            continue
        numbers = report.attempt(file, partial(column_numbers, frame[name], name, column, path))
        if numbers is None:
            continue
        there = ~np.isnan(numbers)
        filled |= there
        # A table without rows is a modality that nobody has, not columns that were forgotten.
        if len(frame) and not there.any():
            report.warn(file, where, "has no value at all", "fill or drop it")
        elif len(np.unique(numbers[there])) == 1 and there.sum() > 1:
            report.warn(file, where, "is the same for everybody", "drop it, it tells nothing")
    extra = [str(name) for name in frame if name not in {"subject_id", *modality.columns}]
    if extra:
        what = f"columns {', '.join(extra[:5])} are not in cohort.yaml"
        report.warn(file, "", what, "describe them there or drop them")
    return set(listed[filled].tolist())


def _bag(report: Report, modality: ModalitySpec, ids: frozenset[int]) -> set[int] | None:
    file, path = modality.path, report.folder / modality.path
    table = read_arrow(path, ("subject_id", "instance", "features"), ())
    listed = integers(table, "subject_id", path)
    _strangers(report, file, listed, ids)
    kind = table["features"].type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)):
        report.error(file, "features", f"holds {kind}", "write lists of float32")
        return None
    width = modality.feature_width
    lengths = pc.fill_null(pc.list_value_length(table["features"]), 0).to_numpy()
    wrong = np.unique(listed[lengths != width])
    if len(wrong):
        what = f"{some(wrong)} with instances that are not {width} wide"
        report.error(file, "features", what, "write equal widths or mend feature_width")
    flat = np.asarray(pc.cast(pc.list_flatten(table["features"]), pa.float64()).to_numpy())
    owner = np.repeat(listed, lengths)
    broken = np.unique(owner[~np.isfinite(flat)])
    if len(broken):
        what = f"{some(broken)} with NaN or infinite features"
        report.error(file, "features", what, "compute them again or remove the instances")
    if not len(wrong):
        report.contents[file] = digests(listed, flat.reshape(-1, width or 1))
    pairs = pd.DataFrame({"s": listed, "i": table["instance"].to_pylist()})
    twice = pairs["s"][pairs.duplicated()].unique()
    if len(twice):
        report.warn(file, "instance", f"{some(twice)} with an instance twice", "keep one")
    return set(listed.tolist())


def _events(
    report: Report, modality: ModalitySpec, subjects: pd.DataFrame, ids: frozenset[int]
) -> set[int] | None:
    file, path = modality.path, report.folder / modality.path
    table = read_events(path)
    report.events[file] = table
    if not len(table):
        report.lack(file, "", "holds no events", "add them or drop the modality")
        return set()
    _strangers(report, file, table.subject_ids, ids)
    if not table.sorted_on_disk:
        what = "events are not sorted by subject and time"
        report.warn(file, "time", what, "sort them, MEDS 0.4 asks for it")
    home = f"{file}/metadata/codes.parquet"
    codes = report.attempt(home, lambda: read_codes(path))
    if codes is not None:
        used = {table.codes[i] for i in np.unique(table.code_index)}
        unlisted = sorted(used - set(codes))
        if unlisted:
            what = f"{len(unlisted)} of {len(used)} codes are not listed, e.g. {unlisted[0]}"
            report.warn(home, "code", what, "list every code, MEDS 0.4 asks for it")
        blank = sorted(code for code in used & set(codes) if not codes[code].description)
        if blank:
            what = f"{len(blank)} codes have no description, e.g. {blank[0]}"
            report.warn(home, "description", what, "describe them, readers see only the code")
    infinite = np.unique(table.row_subjects()[np.isinf(table.value)])
    if len(infinite):
        what = f"{some(infinite)} with infinite values"
        report.warn(file, "numeric_value", what, "leave them empty, they count as none")
    return _usable(report, file, table, subjects, ids)


def _usable(
    report: Report, file: str, table: EventTable, subjects: pd.DataFrame, ids: frozenset[int]
) -> set[int]:
    """Subjects with an event at or before the index time; notes those without an index time."""
    owner = table.row_subjects()
    static = table.time_us == STATIC
    times = pd.Series(pd.NaT, index=sorted(ids), dtype="datetime64[us]")
    if "index_time" in subjects:
        stated = subjects.drop_duplicates("subject_id").set_index("subject_id")["index_time"]
        times = pd.to_datetime(stated, errors="coerce", utc=True).dt.tz_localize(None)
    limit = times.astype("datetime64[us]").reindex(owner).to_numpy().astype(np.int64)
    undated = np.unique(owner[~static & (limit == STATIC)])
    undated = np.intersect1d(undated, sorted(ids))
    if len(undated):
        what = f"{some(undated)} with events but no index_time"
        report.error(SUBJECTS_FILE, "index_time", what, "state time zero, later events are hidden")
    good = static | ((limit != STATIC) & (table.time_us <= limit))
    late = np.setdiff1d(np.intersect1d(table.subject_ids, sorted(ids)), owner[good])
    late = np.setdiff1d(late, undated)
    if len(late):
        what = f"{some(late)} with events only after the index time"
        report.warn(file, "time", what, "check index_time; they count as lacking the modality")
    return set(np.unique(owner[good]).tolist())


def _volumes(report: Report, files: Iterator[ListedFile], deep: bool) -> set[int]:
    having: set[int] = set()
    for subject, text, path, _ in files:
        having.add(subject)
        with report.guard(text):
            if deep:
                read_volume(path)
            else:
                probe_volume(path)
    return having


def _files(
    report: Report,
    name: str,
    modality: ModalitySpec,
    subjects: pd.DataFrame,
    ids: frozenset[int],
) -> Iterator[ListedFile]:
    """The files that the imaging index lists and that are there; notes the others."""
    index = read_imaging(report.folder / modality.path)
    rows = index[index["modality"] == name]
    if not len(rows):
        report.error(modality.path, f"modality {name}", "lists no files", "add rows for it")
        return
    _strangers(report, modality.path, rows["subject_id"].to_numpy(np.int64), ids)
    if "index_time" in subjects and rows["acquired"].notna().any():
        stated = subjects.drop_duplicates("subject_id").set_index("subject_id")["index_time"]
        zero = pd.to_datetime(stated, errors="coerce", utc=True).dt.tz_localize(None)
        last = rows["subject_id"].map(zero.dt.normalize())
        late = rows["subject_id"][rows["acquired"].dt.normalize() > last]
        if len(late):
            what = f"{some(late.unique())} with a {_NOUNS[modality.kind]} after the index day"
            report.warn(modality.path, "acquired", what, "check the times; it is not used")
    home = report.folder.resolve()
    views = rows["view"].where(rows["view"].notna(), None)
    for subject, given, view in zip(rows["subject_id"], rows["path"], views, strict=True):
        where, text = f"subject {subject}", str(given)
        pure = PurePosixPath(text)
        whole = report.folder / text
        if pure.is_absolute() or ".." in pure.parts or not whole.resolve().is_relative_to(home):
            what = f"path '{text}' leaves the cohort folder"
            report.error(modality.path, where, what, "make it relative, below the folder")
        elif not whole.exists():
            report.error(modality.path, where, f"file '{text}' is missing", "add it or its row")
        else:
            listed = (int(subject), text, whole, None if view is None else str(view))
            report.files.setdefault(name, []).append(listed)
            yield listed
