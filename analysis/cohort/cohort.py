"""An opened cohort folder: who is in it, what happened to them, and which modalities they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.readers.bag import Bag, read_bag
from analysis.cohort.readers.cines import Cines
from analysis.cohort.readers.events import STATIC, Code, EventTable, read_codes, read_events
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.readers.index import feature_subjects, read_imaging, read_subjects, usable_rows
from analysis.cohort.readers.table import Table, read_table
from analysis.cohort.schema import (
    COHORT_FILE,
    OUTCOMES_FILE,
    SUBJECTS_FILE,
    CohortError,
    CohortSpec,
    ModalitySpec,
    Split,
    fingerprint,
    read_spec,
)
from models.contracts import Kind


@dataclass(frozen=True)
class Outcomes:
    """What happened to some subjects, in the order asked for.

    subject_ids: (N,) int64. Survival: time_days (N,) float64 and event (N,) bool, true when it
    happened. Classification: label (N,) int64. without: subjects asked for who have no outcome
    for this task and were left out.
    """

    task: str
    subject_ids: npt.NDArray[np.int64]
    time_days: npt.NDArray[np.float64] | None
    event: npt.NDArray[np.bool_] | None
    label: npt.NDArray[np.int64] | None
    without: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.subject_ids)


class Cohort:
    """A cohort folder, opened. Files of modalities are read once, when first needed."""

    def __init__(self, folder: Path, spec: CohortSpec, subjects: pd.DataFrame) -> None:
        self.folder = folder
        self.spec = spec
        self.subjects = subjects
        """Indexed by subject_id (int64, ascending): split, site, age_years, sex, index_time
        (datetime64[us]), source_id and further columns; absent optional ones are all missing."""
        self._events: dict[str, EventTable] = {}
        self._usable: dict[str, npt.NDArray[np.bool_]] = {}
        self._tables: dict[str, Table] = {}
        self._bags: dict[str, Bag] = {}
        self._files: dict[str, Mapping[int, Path]] = {}
        self._videos: dict[str, Cines] = {}
        self._asked: dict[tuple[str | None, str | None], npt.NDArray[np.int64]] = {}

    @classmethod
    def open(cls, folder: Path | str) -> Cohort:
        """Open a folder. Raises CohortError naming the file, the field and the remedy."""
        folder = Path(folder)
        spec = read_spec(folder)
        for name in (SUBJECTS_FILE, OUTCOMES_FILE):
            if not (folder / name).is_file():
                raise CohortError(f"{folder / name}: there is no such file; the cohort needs it.")
        return cls(folder, spec, read_subjects(folder))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits naming what the cohort states (spec, subjects, outcomes)."""
        return fingerprint(self.folder)

    # ------------------------------------------------------------ subjects and outcomes

    def subject_ids(
        self, split: Split | str | None = None, task: str | None = None
    ) -> npt.NDArray[np.int64]:
        """(N,) int64, ascending: subjects of a split (None: all) with an outcome for `task`."""
        key = (None if split is None else str(split), task)
        if key not in self._asked:
            self._asked[key] = self._subject_ids(split, task)
        return self._asked[key].copy()

    def _subject_ids(self, split: Split | str | None, task: str | None) -> npt.NDArray[np.int64]:
        ids = self.subjects.index.to_numpy(np.int64)
        if split is not None:
            if str(split) not in set(Split):
                raise CohortError(f"there is no split '{split}'; choose one of {', '.join(Split)}.")
            ids = ids[(self.subjects["split"] == str(split)).to_numpy()]
        return ids if task is None else self.outcomes(task, ids).subject_ids

    def outcomes(self, task: str, subject_ids: Sequence[int] | npt.ArrayLike) -> Outcomes:
        """Outcomes of `subject_ids`, in that order; those without one are said in `without`.

        Raises CohortError on an unknown task or an outcome that is not complete.
        """
        spec = self.spec.task(task)
        asked = np.asarray(subject_ids, np.int64).reshape(-1)
        table = self._outcome_table
        rows = table[table["task"].map(str) == task].set_index("subject_id")
        where = f"{self.folder / OUTCOMES_FILE}: task '{task}'"
        if rows.index.has_duplicates:
            twice = rows.index[rows.index.duplicated()][0]
            raise CohortError(f"{where}: subject {twice} has two outcomes; keep one.")
        known = np.isin(asked, rows.index.to_numpy(np.int64))
        kept, without = asked[known], tuple(int(i) for i in asked[~known])
        rows = rows.loc[kept]
        needed = ("time_days", "event") if spec.kind == "survival" else ("label",)
        for name in needed:
            if name not in rows or rows[name].isna().any():
                raise CohortError(f"{where}: column '{name}' is missing or has gaps; fill it.")
        try:
            if spec.kind == "classification":
                label = pd.to_numeric(rows["label"]).to_numpy(np.int64)
                return Outcomes(task, kept, None, None, label, without)
            time, event = (pd.to_numeric(rows[name]).to_numpy(np.float64) for name in needed)
        except (ValueError, TypeError, OverflowError) as error:
            raise CohortError(f"{where}: an outcome is no number; mend the file.") from error
        if not np.isfinite(time).all() or (time < 0).any():
            raise CohortError(
                f"{where}: a time is negative or infinite; run 'fusionlens check' to see which."
            )
        if not np.isin(event, (0, 1)).all():
            raise CohortError(f"{where}: event must be 0 or 1; run 'fusionlens check'.")
        return Outcomes(task, kept, time, event.astype(bool), None, without)

    @cached_property
    def _outcome_table(self) -> pd.DataFrame:
        return read_frame(self.folder / OUTCOMES_FILE, ("subject_id", "task"))

    @cached_property
    def folds(self) -> pd.Series[int] | None:
        """Fold number (int64) by subject_id, or None where the cohort states no folds."""
        if self.spec.folds is None:
            return None
        path = self.folder / self.spec.folds
        frame = read_frame(path, ("subject_id", "fold"))
        if frame["subject_id"].duplicated().any() or frame["fold"].isna().any():
            raise CohortError(f"{path}: every subject needs exactly one fold; mend the file.")
        try:
            series: pd.Series[int] = frame.set_index("subject_id")["fold"].astype("int64")
        except (ValueError, TypeError, OverflowError) as error:
            raise CohortError(f"{path}: a fold is no whole number; mend the file.") from error
        return series.sort_index()

    # ------------------------------------------------------------ modalities

    def modality(self, name: str, *kinds: Kind) -> ModalitySpec:
        """The spec of a modality. Raises CohortError when unknown or of another kind."""
        if name not in self.spec.modalities:
            raise CohortError(
                f"{COHORT_FILE}: there is no modality '{name}'; choose one of "
                f"{', '.join(self.spec.modalities)}."
            )
        spec = self.spec.modalities[name]
        if kinds and spec.kind not in kinds:
            raise CohortError(
                f"{COHORT_FILE}: modality '{name}' is {spec.kind}, not {' or '.join(kinds)}."
            )
        return spec

    def path(self, name: str) -> Path:
        """Where a modality lies: the file or folder that its spec names."""
        return self.folder / self.modality(name).path

    def events(self, name: str) -> EventTable:
        """All events of an events modality, also those after the index time."""
        self.modality(name, Kind.EVENTS)
        if name not in self._events:
            self._events[name] = read_events(self.path(name))
        return self._events[name]

    def table(self, name: str) -> Table:
        """A table modality."""
        spec = self.modality(name, Kind.TABLE)
        if name not in self._tables:
            self._tables[name] = read_table(self.path(name), spec.columns)
        return self._tables[name]

    def bag(self, name: str) -> Bag:
        """A bag modality."""
        spec = self.modality(name, Kind.BAG)
        if name not in self._bags:
            self._bags[name] = read_bag(self.path(name), spec.feature_width or 0)
        return self._bags[name]

    def volumes(self, name: str) -> Mapping[int, Path]:
        """File or DICOM folder by subject: the last one acquired by the end of the index day.

        Without acquisition times the first path in alphabetical order counts. Files are not
        opened here. Raises CohortError when the index or a path in it is not valid.
        """
        self.modality(name, Kind.VOLUME)
        return self._last_files(name)

    def signals(self, name: str) -> Mapping[int, Path]:
        """WFDB header or DICOM waveform by subject, chosen as `volumes` does."""
        self.modality(name, Kind.SIGNAL)
        return self._last_files(name)

    def videos(self, name: str) -> Cines:
        """The cines of each subject by view: the last of a view by the end of the index day.

        Without acquisition times the first path in alphabetical order counts. A subject's headers
        are read when that subject is looked up: stills and spectral strips are no cines, so a
        view that has nothing else is not there; a missing or damaged file counts until it is
        read. Rows without a view are left out. Raises CohortError as `volumes` does.
        """
        self.modality(name, Kind.VIDEO)
        if name not in self._videos:
            rows = self._index(name)
            unnamed: dict[int, list[Path]] = {}
            loose = rows[rows["view"].isna()]
            for subject, path in zip(loose["subject_id"], loose["file"], strict=True):
                unnamed.setdefault(int(subject), []).append(path)
            rows = rows[rows["view"].notna()]
            candidates: dict[int, dict[str, list[Path]]] = {}
            # The rows come oldest first; of each view the last is wanted.
            for subject, view, path in zip(
                rows["subject_id"][::-1], rows["view"][::-1], rows["file"][::-1], strict=True
            ):
                candidates.setdefault(int(subject), {}).setdefault(str(view), []).append(path)
            self._videos[name] = Cines(candidates, unnamed)
        return self._videos[name]

    def _last_files(self, name: str) -> Mapping[int, Path]:
        if name not in self._files:
            rows = self._index(name)
            self._files[name] = {
                int(subject): path
                for subject, path in zip(rows["subject_id"], rows["file"], strict=True)
            }
        return self._files[name]

    def _index(self, name: str) -> pd.DataFrame:
        """Rows of the imaging index by the end of the index day, the most wanted last."""
        index = read_imaging(self.path(name))
        rows = usable_rows(index[index["modality"] == name], self.subjects["index_time"])
        home = self.folder.resolve()
        for path in rows["path"].astype(str):
            if "\0" in path or len(path) > 4000 or max(map(len, path.split("/"))) > 255:
                raise CohortError(f"{self.path(name)}: '{path[:80]}' is no path; mend it.")
            if Path(path).is_absolute() or not (self.folder / path).resolve().is_relative_to(home):
                raise CohortError(
                    f"{self.path(name)}: path '{path}' leaves the cohort folder; make it relative."
                )
        files = pd.Series(list(map(self.folder.joinpath, rows["path"].astype(str))), dtype=object)
        return rows.assign(file=files.to_numpy())

    @cached_property
    def codes(self) -> Mapping[str, Code]:
        """Code to description and parents, of all events modalities."""
        merged: dict[str, Code] = {}
        for name, spec in self.spec.modalities.items():
            if spec.kind is Kind.EVENTS:
                merged.update(read_codes(self.path(name)))
        return merged

    def usable_events(self, name: str) -> npt.NDArray[np.bool_]:
        """(E,) bool by row of `events(name)`: static, or not after the subject's index time."""
        if name not in self._usable:
            self._usable[name] = self._not_after_index(self.events(name))
        return self._usable[name]

    def _not_after_index(self, table: EventTable) -> npt.NDArray[np.bool_]:
        index_us = self.index_time_us(table.subject_ids)
        limit = np.repeat(index_us, np.diff(table.starts))
        before = (limit != STATIC) & (table.time_us <= limit)
        return np.asarray(before | (table.time_us == STATIC), bool)

    def index_time_us(self, subject_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """(N,) int64 microseconds since 1970 of time zero; STATIC where the subject has none."""
        times = self.subjects["index_time"].reindex(np.asarray(subject_ids, np.int64))
        return times.to_numpy("datetime64[us]").astype(np.int64)

    def having(self, name: str, among: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """(N,) int64: subjects whose own data of a modality can be read (cached features aside).

        Events count when one is usable at the index time; a table row when a value is there; a
        volume, signal or video when a file of it is there, which is not opened. among: only these
        subjects are looked at, so that one patient costs the same in a cohort of any size.
        """
        spec = self.modality(name)
        asked = self.subjects.index.to_numpy(np.int64)
        if among is not None:
            few = np.unique(np.asarray(among, np.int64).reshape(-1))
            asked = few[self.subjects.index.get_indexer(pd.Index(few)) >= 0]
        ids: npt.NDArray[np.int64]
        if spec.kind is Kind.EVENTS:
            events, usable = self.events(name), self.usable_events(name)
            if among is None:
                ids = np.unique(events.row_subjects()[usable])
            else:
                there = [bool(usable[events.rows(int(subject))].any()) for subject in asked]
                ids = asked[np.asarray(there, bool)]
        elif spec.kind is Kind.TABLE:
            table = self.table(name)
            ids = table.subject_ids[table.mask.any(axis=1)]
        elif spec.kind is Kind.BAG:
            ids = self.bag(name).subject_ids
        elif spec.kind in (Kind.VOLUME, Kind.SIGNAL):
            files = self._last_files(name)
            there = [int(s) in files and files[int(s)].exists() for s in asked]
            ids = asked[np.asarray(there, bool)]
        elif spec.kind is Kind.VIDEO:
            self.videos(name)
            ids = np.asarray(self._videos[name].with_files(asked.tolist()), np.int64)
        else:
            ids = np.empty(0, np.int64)
        return np.intersect1d(ids, asked)

    def having_features(self, name: str) -> npt.NDArray[np.int64]:
        """(N,) int64: subjects with outputs of a frozen encoder in features/NAME/."""
        self.modality(name)
        files = sorted((self.folder / "features" / name).glob("*.safetensors"))
        found = np.concatenate([np.empty(0, np.int64), *map(feature_subjects, files)])
        return np.intersect1d(found, self.subjects.index.to_numpy(np.int64))

    def availability(self) -> pd.DataFrame:
        """Subject x modality, bool: own data or a cached feature are there. No file is opened."""
        columns = {}
        for name in self.spec.modalities:
            ids = np.union1d(self.having(name), self.having_features(name))
            columns[name] = self.subjects.index.isin(ids)
        return pd.DataFrame(columns, index=self.subjects.index)
