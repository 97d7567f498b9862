"""A cohort as a torch Dataset: one sample a subject, padded batches as the models want them.

Nothing after a subject's index time is ever read. An absent modality is marked, not imitated: its
`present` is false and its numbers are padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from analysis.cohort.batch import Batch, Sample, collate
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers import echo, signal
from analysis.cohort.readers.events import STATIC, EventTable
from analysis.cohort.readers.volume import read_volume
from analysis.cohort.reading_kinds import (
    BagReading,
    EventReading,
    Reading,
    SignalReading,
    TableReading,
    TextReading,
    VideoReading,
    VolumeReading,
)
from analysis.cohort.schema import CohortError
from models.contracts import Kind, ModalityInput
from models.vocabulary import Vocabulary

__all__ = [
    "BagReading",
    "Batch",
    "CohortDataset",
    "EventReading",
    "Reading",
    "Sample",
    "SignalReading",
    "TableReading",
    "TextReading",
    "VideoReading",
    "VolumeReading",
    "all_inputs",
    "collate",
    "event_rows",
    "fit_vocabulary",
]

_DAY_US = 86_400_000_000.0


class CohortDataset(Dataset[Sample]):
    """Samples of some subjects of a cohort, in the order given.

    readings: how to read each wanted modality, by name. task: None for inputs alone. Subjects
    without an outcome for the task are left out and listed in `without_outcome`.
    Raises CohortError when a reading does not fit its modality, when a subject with timed
    events has no index time, or when a subject has a modality only as a cached feature.
    """

    def __init__(
        self,
        cohort: Cohort,
        subject_ids: Sequence[int] | npt.ArrayLike,
        readings: Mapping[str, Reading],
        task: str | None = None,
    ) -> None:
        self.cohort = cohort
        self.readings = dict(readings)
        self.task = task
        ids = np.asarray(subject_ids, np.int64).reshape(-1)
        unknown = ids[~np.isin(ids, cohort.subjects.index.to_numpy(np.int64))]
        if len(unknown):
            raise CohortError(f"{cohort.folder}: there is no subject {unknown[0]}; leave it out.")
        self.outcomes = None if task is None else cohort.outcomes(task, ids)
        self.subject_ids = ids if self.outcomes is None else self.outcomes.subject_ids
        self.without_outcome = () if self.outcomes is None else self.outcomes.without
        self._having = {}
        for name, reading in self.readings.items():
            cohort.modality(name, reading.kind)
            self._having[name] = frozenset(cohort.having(name, ids).tolist())
            self._refuse(name, reading)
            if isinstance(reading, TextReading):
                self._told(name, reading)
        self._usable = {
            name: cohort.usable_events(name)
            for name, reading in self.readings.items()
            if isinstance(reading, EventReading)
        }

    def _refuse(self, name: str, reading: Reading) -> None:
        ids = self.subject_ids
        only = np.setdiff1d(self.cohort.having_features(name), list(self._having[name]))
        only = np.intersect1d(only, ids)
        if len(only):
            raise CohortError(
                f"{self.cohort.folder}: {len(only)} subjects (first {only[0]}) have '{name}' only "
                "as cached features; leave it out of the readings and use the features."
            )
        if isinstance(reading, EventReading):
            events = self.cohort.events(name)
            dated = [bool((events.time_us[events.rows(int(i))] != STATIC).any()) for i in ids]
            timed = np.unique(ids[np.asarray(dated, bool)])
            undated = timed[self.cohort.index_time_us(timed) == STATIC]
            if len(undated):
                raise CohortError(
                    f"{self.cohort.folder}: subject {undated[0]} has events but no index_time, so "
                    "what came before it is not known; fill index_time in subjects.parquet."
                )

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __getitem__(self, index: int) -> Sample:
        subject = int(self.subject_ids[index])
        inputs = {name: self._read(name, subject) for name in self.readings}
        outcomes = self.outcomes
        if outcomes is None:
            return Sample(subject, inputs, None, None, None)
        if outcomes.time_days is not None and outcomes.event is not None:
            time, event = float(outcomes.time_days[index]), bool(outcomes.event[index])
            return Sample(subject, inputs, time, event, None)
        assert outcomes.label is not None
        return Sample(subject, inputs, None, None, int(outcomes.label[index]))

    def _read(self, name: str, subject: int) -> ModalityInput:
        reading = self.readings[name]
        present = subject in self._having[name]
        kind = reading.kind
        if isinstance(reading, VolumeReading):
            fields = self._volume(name, subject, reading, present)
        elif isinstance(reading, EventReading):
            table = self.cohort.events(name)
            fields = _events(self.cohort, table, self._usable[name], subject, reading)
        elif isinstance(reading, TableReading):
            fields = self._row(name, subject, present)
        elif isinstance(reading, SignalReading):
            fields = self._signal(name, subject, reading, present)
            present = bool(fields["mask"].any())
        elif isinstance(reading, VideoReading):
            fields = self._video(name, subject, reading, present)
            present = bool(fields["mask"].any())
        elif isinstance(reading, TextReading):
            row = self._row(name, subject, present)
            order = self._told(name, reading)
            fields = reading.sentences.encode(row["values"][:, order], row["mask"][:, order])
            present = bool(fields["mask"].any())
            kind = Kind.TEXT
        else:
            fields = self._instances(name, subject)
        return ModalityInput(kind, fields, torch.tensor([present]))

    def _volume(
        self, name: str, subject: int, reading: VolumeReading, present: bool
    ) -> dict[str, Tensor]:
        if not present:
            return {"volume": torch.zeros(1, 1, *reading.shape)}
        path = self.cohort.volumes(name)[subject]
        volume = read_volume(path, reading.spacing_mm, reading.shape)
        return {"volume": torch.from_numpy(volume.array)[None, None]}

    def _signal(
        self, name: str, subject: int, reading: SignalReading, present: bool
    ) -> dict[str, Tensor]:
        shape = (1, len(reading.leads), reading.samples)
        if not present:
            return {"signal": torch.zeros(shape), "mask": torch.zeros(shape).bool()}
        recording = signal.read_signal(self.cohort.signals(name)[subject])
        array, mask = signal.for_model(
            recording, reading.leads, reading.rate_hz, reading.seconds, reading.band_hz
        )
        return {"signal": torch.from_numpy(array)[None], "mask": torch.from_numpy(mask)[None]}

    def _video(
        self, name: str, subject: int, reading: VideoReading, present: bool
    ) -> dict[str, Tensor]:
        n, size = len(reading.views), reading.size
        video = torch.zeros(1, n, 3, reading.frames, size, size)
        mask = torch.zeros(1, n, dtype=torch.bool)
        cines = self.cohort.videos(name)[subject] if present else {}
        for at, view in enumerate(reading.views):
            if view in cines:
                seen = echo.read_for_model(cines[view], reading.frames, reading.stride, size)
                video[0, at] = torch.from_numpy(seen)
                mask[0, at] = True
        return {"video": video, "mask": mask}

    def _told(self, name: str, reading: TextReading) -> list[int]:
        """Where the table has each column that is told, in the order of the sentences."""
        path, table = self.cohort.path(name), self.cohort.table(name)
        spec = self.cohort.modality(name).columns
        for column in reading.sentences.columns:
            if column.name not in table.names:
                raise CohortError(
                    f"{path}: column '{column.name}' is told in sentences but not there; add it."
                )
            own = spec[column.name].categories
            if column.kind == "nominal" and own != column.categories:
                raise CohortError(
                    f"{path}: column '{column.name}' has the categories {', '.join(own)}, its "
                    f"sentences know {', '.join(column.categories)}; give the same, in order."
                )
        return [table.names.index(column.name) for column in reading.sentences.columns]

    def _row(self, name: str, subject: int, present: bool) -> dict[str, Tensor]:
        table = self.cohort.table(name)
        width = len(table.names)
        if not present:
            return {"values": torch.zeros(1, width), "mask": torch.zeros(1, width).bool()}
        at = int(np.searchsorted(table.subject_ids, subject))
        return {
            "values": torch.from_numpy(table.values[at : at + 1].copy()),
            "mask": torch.from_numpy(table.mask[at : at + 1].copy()),
        }

    def _instances(self, name: str, subject: int) -> dict[str, Tensor]:
        bag = self.cohort.bag(name)
        features = torch.from_numpy(bag.features[bag.rows(subject)].copy())
        return {
            "features": features[None],
            "mask": torch.ones(1, len(features), dtype=torch.bool),
        }


def event_rows(
    table: EventTable, usable: npt.NDArray[np.bool_], subject: int, max_events: int
) -> npt.NDArray[np.int64]:
    """Rows of `table` that an EventReading gives a model, in its order: event n is token n."""
    rows = table.rows(subject)
    kept = np.arange(rows.start, rows.stop)[usable[rows]]
    static = int((table.time_us[kept] == STATIC).sum())
    timed = len(kept) - static
    room = max_events - min(static, max_events // 4)
    timed_kept = min(timed, room)
    static_kept = min(static, max_events - timed_kept)
    return np.concatenate([kept[:static_kept], kept[len(kept) - timed_kept :]]).astype(np.int64)


def _events(
    cohort: Cohort,
    table: EventTable,
    usable: npt.NDArray[np.bool_],
    subject: int,
    reading: EventReading,
) -> dict[str, Tensor]:
    rows = event_rows(table, usable, subject, reading.max_events)
    time = table.time_us[rows]
    timed = time != STATIC
    days = np.zeros(len(rows), np.float32)
    if timed.any():
        zero = int(cohort.index_time_us([subject])[0])
        days[timed] = (zero - time[timed]) / _DAY_US
        days[~timed] = days[timed].max()
    value = table.value[rows]
    has_value = np.isfinite(value)
    ids = reading.vocabulary.ids(table.codes[i] for i in table.code_index[rows])
    return {
        "codes": torch.tensor([ids], dtype=torch.int64),
        "values": torch.from_numpy(np.where(has_value, value, 0).astype(np.float32))[None],
        "has_value": torch.from_numpy(has_value)[None],
        "days_before": torch.from_numpy(days)[None],
        "mask": torch.ones(1, len(rows), dtype=torch.bool),
    }


def all_inputs(dataset: CohortDataset) -> Batch:
    """Every sample of a dataset as one batch."""
    if not len(dataset):
        raise CohortError(f"{dataset.cohort.folder}: no subjects are left; choose another split.")
    return collate([dataset[i] for i in range(len(dataset))])


def fit_vocabulary(
    cohort: Cohort,
    modality: str,
    subject_ids: Sequence[int] | npt.ArrayLike,
    min_patients: int = 1,
) -> Vocabulary:
    """Codes and value scales of these (training) subjects, up to their index times."""
    table = cohort.events(modality)
    owners = table.row_subjects()
    keep = cohort.usable_events(modality) & np.isin(owners, np.asarray(subject_ids, np.int64))
    owners, code, value = owners[keep], table.code_index[keep], table.value[keep]
    pairs = np.unique(np.stack([code.astype(np.int64), owners]), axis=1)
    seen, patients = np.unique(pairs[0], return_counts=True)
    counts = {table.codes[i]: int(n) for i, n in zip(seen, patients, strict=True)}
    finite = np.isfinite(value)
    code, value = code[finite], value[finite]
    order = np.argsort(code, kind="stable")
    groups, first = np.unique(code[order], return_index=True)
    parts = np.split(value[order].astype(np.float64), first[1:])
    values = {table.codes[i]: part.tolist() for i, part in zip(groups, parts, strict=False)}
    return Vocabulary.fit(counts, values, min_patients=min_patients)
