"""Outputs of frozen encoders, kept in the cohort and computed once.

    COHORT/features/MODALITY/ENCODER_HASH.safetensors
        subject_id (n,) int64, tokens (total, T) float16, offsets (n + 1,) int64,
        places (total,) int64, pooled (n, P) float16; metadata: layout as JSON, encoder, modality

Tokens of all patients lie one after the other; patient i owns rows offsets[i] to offsets[i+1].
places: where a token stands among the layout's cells, which matters for patients who lack some
(a view, a lead); a file without them has every patient's tokens from the first cell on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, EventReading, Reading, collate
from analysis.cohort.readers.index import feature_subjects
from analysis.cohort.schema import CohortError
from analysis.partial import clear_stale, owned_folder
from analysis.writable import writable
from models.contracts import (
    Columns,
    Encoded,
    EventPositions,
    Instances,
    Layout,
    LeadTimeGrid,
    TextTokens,
    ViewGrid,
    VoxelGrid,
)
from models.encoders.base import ModalityEncoder
from models.pretraining import trim

BATCH = 16
Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
"""(patients done, patients in all)."""


MOST_PLACES = 1 << 16
"""Cells that a layout can have; the largest here has a few thousand."""
_STORED = VoxelGrid | EventPositions | Instances | Columns | LeadTimeGrid | ViewGrid | TextTokens


def layout_to_json(layout: Layout) -> str:
    """A layout of frozen features as text."""
    if isinstance(layout, _STORED):
        return json.dumps(asdict(layout))
    raise TypeError(f"{type(layout).__name__} belongs to trainable encoders and is not stored")


def layout_from_json(text: str) -> Layout:
    """Read what `layout_to_json` wrote."""
    content: dict[str, Any] = json.loads(text)
    kind = content.pop("kind")
    if kind == "voxel_grid":
        return VoxelGrid(tuple(content["shape"]), tuple(content["spacing_mm"]))
    if kind == "columns":
        return Columns(tuple(content["names"]))
    if kind == "lead_time_grid":
        return LeadTimeGrid(**{**content, "leads": tuple(content["leads"])})
    if kind == "view_grid":
        return ViewGrid(tuple(content["views"]), tuple(content["shape"]), content["frames"])
    if kind == "text_tokens":
        return TextTokens()
    return EventPositions() if kind == "event_positions" else Instances()


def feature_path(cohort_folder: Path, modality: str, encoder_hash: str) -> Path:
    """Where the features of one frozen encoder lie."""
    return cohort_folder / "features" / modality / f"{encoder_hash}.safetensors"


class FeatureWriter:
    """Collects encoded patients and writes them as one file, at once."""

    def __init__(self, modality: str, encoder_hash: str) -> None:
        self.metadata = {"modality": modality, "encoder": encoder_hash}
        self.ids: list[int] = []
        self.tokens: list[Tensor] = []
        self.places: list[Tensor] = []
        self.pooled: list[Tensor] = []

    def add(self, subject_ids: Sequence[int], encoded: Encoded) -> None:
        """Take the present patients of a batch; tokens are kept in half precision."""
        self.metadata["layout"] = layout_to_json(encoded.layout)
        for row, subject in enumerate(subject_ids):
            if bool(encoded.present[row]):
                self.ids.append(int(subject))
                self.tokens.append(encoded.tokens[row][encoded.mask[row]].half())
                self.places.append(torch.nonzero(encoded.mask[row])[:, 0])
                self.pooled.append(encoded.pooled[row].half())

    def take_over(self, path: Path) -> None:
        """Add whom a feature file holds in addition; nothing where there is no file."""
        have = np.setdiff1d(stored_subjects(path), self.ids)
        if len(have):
            self.add(have.tolist(), read_features(path, have))

    def write(self, path: Path) -> None:
        """Write the file under a temporary name and rename it; ids in ascending order."""
        if not self.ids:
            return
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        lengths = torch.tensor([len(self.tokens[i]) for i in order])
        content = {
            "subject_id": torch.tensor([self.ids[i] for i in order], dtype=torch.int64),
            "offsets": torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
            "tokens": torch.cat([self.tokens[i] for i in order]).contiguous(),
            "places": torch.cat([self.places[i] for i in order]).contiguous(),
            "pooled": torch.stack([self.pooled[i] for i in order]).contiguous(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_stale(path.parent, ".partial-*")
        with owned_folder(path.parent, ".partial-") as partial:
            save_file(content, partial / path.name, metadata=self.metadata)
            (partial / path.name).replace(path)


def stored_subjects(path: Path) -> Ids:
    """(n,) int64 subjects of a feature file; empty where there is no file."""
    return feature_subjects(path) if path.is_file() else np.empty(0, np.int64)


@dataclass(frozen=True)
class _Index:
    """What a feature file says of its rows; subject i owns offsets[i]:offsets[i + 1]."""

    ids: Ids
    offsets: Ids
    layout: Layout


def _index(stream: Any) -> _Index:
    """Raises ValueError where the parts of an open feature file do not fit together."""
    layout = layout_from_json(stream.metadata()["layout"])
    ids, offsets = (stream.get_tensor(name).numpy() for name in ("subject_id", "offsets"))
    shapes = {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
    n, total = len(ids), shapes["tokens"][0]
    fits = (
        (ids.dtype, offsets.dtype) == (np.int64, np.int64)
        and (ids.shape, offsets.shape) == ((n,), (n + 1,))
        and (len(shapes["tokens"]), len(shapes["pooled"]), shapes["pooled"][0]) == (2, 2, n)
        and bool((np.diff(ids) > 0).all() and (np.diff(offsets) >= 0).all())
        and (int(offsets[0]), int(offsets[-1])) == (0, total)
        and shapes.get("places", (total,)) == (total,)
    )
    if not fits:
        raise ValueError("its parts do not fit together")
    return _Index(ids, offsets, layout)


def read_features(path: Path, subject_ids: npt.ArrayLike) -> Encoded:
    """Features of `subject_ids`, in that order; patients who are not in the file are absent.

    Only the rows of these patients are read: one patient costs the same in a file of any size.
    Raises CohortError where the file is damaged.
    """
    asked = np.asarray(subject_ids, np.int64)
    try:
        with _open(path) as stream:
            return _read(stream, asked)
    except CohortError:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CohortError(
            f"{path}: not a feature file ({error}); delete the file, it is made again."
        ) from error


def _read(stream: Any, asked: Ids) -> Encoded:
    index = _index(stream)
    ids, offsets = index.ids, index.offsets
    rows = np.searchsorted(ids, asked).clip(max=max(len(ids) - 1, 0))
    there = ids[rows] == asked if len(ids) else np.zeros(len(asked), bool)
    stored, summaries = stream.get_slice("tokens"), stream.get_slice("pooled")
    places = stream.get_slice("places") if "places" in stream.keys() else None  # noqa: SIM118
    own: dict[int, Tensor] = {}
    at: dict[int, Tensor] = {}
    pooled = torch.zeros(len(asked), summaries.get_shape()[1])
    for i in np.flatnonzero(there).tolist():
        begin, end = int(offsets[rows[i]]), int(offsets[rows[i] + 1])
        own[i] = stored[begin:end]
        at[i] = torch.arange(end - begin) if places is None else _places(places[begin:end])
        pooled[i] = summaries[int(rows[i]) : int(rows[i]) + 1][0].float()
    longest = max([1, *(int(place.max()) + 1 for place in at.values() if len(place))])
    tokens = torch.zeros(len(asked), longest, stored.get_shape()[1])
    mask = torch.zeros(len(asked), longest, dtype=torch.bool)
    for i, place in at.items():
        tokens[i, place] = own[i].float()
        mask[i, place] = True
    return Encoded(
        tokens=tokens,
        mask=mask,
        pooled=pooled,
        present=torch.from_numpy(there),
        layout=index.layout,
    )


def _places(places: Tensor) -> Tensor:
    """Cells of a layout. One beyond its end would make room for all those before it."""
    if places.dtype != torch.int64 or (
        len(places) and not (int(places.min()) >= 0 and int(places.max()) < MOST_PLACES)
    ):
        raise ValueError("a token lies beyond its layout")
    return places


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CohortError(
            f"{path}: not readable as safetensors ({error}); delete the file, it is made again."
        ) from error


@dataclass(frozen=True)
class Pending:
    """What a feature file still lacks of the patients asked for.

    path: the file so far. target: where it is written, which is elsewhere for a cohort that may
    only be read. batches: patients to be encoded together, in order; the same patients are always
    put together in the same way, whoever encodes them, so that the file is the same to the last
    bit.
    """

    path: Path
    target: Path
    batches: tuple[Ids, ...]


def pending_features(
    cohort: Cohort,
    modality: str,
    encoder_hash: str,
    reading: Reading,
    subject_ids: npt.ArrayLike,
    *,
    batch_size: int = BATCH,
) -> Pending:
    """Which of `subject_ids` can be in the feature file of a frozen encoder and are not.

    Raises CohortError when some have the modality only as features of another encoder.
    """
    path = feature_path(cohort.folder, modality, encoder_hash)
    target = writable(path.parent.parent) / modality / path.name
    if target.is_file():
        path = target
    have = stored_subjects(path)
    asked = np.unique(np.asarray(subject_ids, np.int64))
    raw = cohort.having(modality, asked)
    wanted = np.setdiff1d(raw, have)
    elsewhere = np.intersect1d(asked, cohort.having_features(modality))
    lost = np.setdiff1d(np.setdiff1d(elsewhere, have), raw)
    if len(lost):
        raise CohortError(
            f"{cohort.folder}: {len(lost)} subjects (first {lost[0]}) have '{modality}' only as "
            f"features of another encoder than {encoder_hash}; add their files or leave them out."
        )
    if isinstance(reading, EventReading) and len(wanted):
        table = cohort.events(modality)
        length = [table.rows(int(s)).stop - table.rows(int(s)).start for s in wanted]
        wanted = wanted[np.argsort(length, kind="stable")]
    starts = range(0, len(wanted), batch_size)
    return Pending(path, target, tuple(wanted[start : start + batch_size] for start in starts))


def encode_batch(
    cohort: Cohort, modality: str, encoder: ModalityEncoder, reading: Reading, batch: Ids
) -> Encoded:
    """A batch of `pending_features`, encoded at the precision that is stored."""
    dataset = CohortDataset(cohort, batch, {modality: reading})
    inputs = collate([dataset[i] for i in range(len(batch))]).inputs[modality]
    if isinstance(reading, EventReading):
        inputs = trim(inputs)
    with torch.inference_mode():
        return encoder(inputs).at_stored_precision()


def ensure_features(
    cohort: Cohort,
    modality: str,
    encoder: ModalityEncoder,
    encoder_hash: str,
    reading: Reading,
    subject_ids: npt.ArrayLike,
    *,
    progress: Progress | None = None,
    batch_size: int = BATCH,
) -> Path:
    """The feature file of a frozen encoder, with every one of `subject_ids` who can be in it.

    Patients without the modality stay out of it. Raises CohortError when some have it only as
    features of another encoder.
    """
    found = pending_features(
        cohort, modality, encoder_hash, reading, subject_ids, batch_size=batch_size
    )
    if not found.batches:
        return found.path
    writer = FeatureWriter(modality, encoder_hash)
    done, n = 0, sum(map(len, found.batches))
    for batch in found.batches:
        writer.add(batch.tolist(), encode_batch(cohort, modality, encoder, reading, batch))
        done += len(batch)
        if progress is not None:
            progress(done, n)
    # Now, since others may have added theirs meanwhile.
    writer.take_over(found.target if found.target.is_file() else found.path)
    writer.write(found.target)
    return found.target
