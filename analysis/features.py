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
import os
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
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
        save_file(content, partial, metadata=self.metadata)
        partial.rename(path)


def stored_subjects(path: Path) -> Ids:
    """(n,) int64 subjects of a feature file; empty where there is no file."""
    return feature_subjects(path) if path.is_file() else np.empty(0, np.int64)


@dataclass(frozen=True)
class _Stored:
    """The content of a feature file, which fits together."""

    ids: Ids
    offsets: Ids
    tokens: Tensor
    places: Tensor | None
    pooled: Tensor
    layout: Layout


def _stored(path: Path) -> _Stored:
    """Raises CohortError where the file is damaged or its parts do not fit together."""
    try:
        with _open(path) as stream:
            layout = layout_from_json(stream.metadata()["layout"])
            names = stream.keys()
            every = {name: stream.get_tensor(name) for name in names}
        places = every.get("places")
        found = _Stored(
            every["subject_id"].numpy(),
            every["offsets"].numpy(),
            every["tokens"],
            places,
            every["pooled"].float(),
            layout,
        )
    except CohortError:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CohortError(
            f"{path}: not a feature file ({error}); delete the file, it is made again."
        ) from error
    n, total = len(found.ids), len(found.tokens) if found.tokens.ndim == 2 else -1
    fits = (
        found.ids.dtype == np.int64
        and found.offsets.dtype == np.int64
        and (found.ids.shape, found.offsets.shape) == ((n,), (n + 1,))
        and found.pooled.ndim == 2
        and len(found.pooled) == n
        and bool((np.diff(found.ids) > 0).all() and (np.diff(found.offsets) >= 0).all())
        and (int(found.offsets[0]), int(found.offsets[-1])) == (0, total)
        and (places is None or (places.shape == (total,) and places.dtype == torch.int64))
    )
    if fits and places is not None and total:
        # A place beyond the layout's cells would make room for all those before it.
        fits = int(places.min()) >= 0 and int(places.max()) < MOST_PLACES
    if not fits:
        raise CohortError(
            f"{path}: its parts do not fit together; delete the file, it is made again."
        )
    return found


def read_features(path: Path, subject_ids: npt.ArrayLike) -> Encoded:
    """Features of `subject_ids`, in that order; patients who are not in the file are absent.

    Raises CohortError where the file is damaged.
    """
    asked = np.asarray(subject_ids, np.int64)
    stored = _stored(path)
    ids, offsets, every, places = stored.ids, stored.offsets, stored.tokens, stored.places
    layout, pooled_all = stored.layout, stored.pooled
    rows = np.searchsorted(ids, asked).clip(max=max(len(ids) - 1, 0))
    there = ids[rows] == asked if len(ids) else np.zeros(len(asked), bool)
    parts = [slice(int(offsets[r]), int(offsets[r + 1])) for r in rows] if len(ids) else []
    at = {
        int(i): torch.arange(parts[i].stop - parts[i].start) if places is None else places[parts[i]]
        for i in np.flatnonzero(there)
    }
    longest = max([1, *(int(place.max()) + 1 for place in at.values() if len(place))])
    tokens = torch.zeros(len(asked), longest, every.shape[1])
    mask = torch.zeros(len(asked), longest, dtype=torch.bool)
    for i, place in at.items():
        tokens[i, place] = every[parts[i]].float()
        mask[i, place] = True
    present = torch.from_numpy(there)
    pooled = torch.where(present[:, None], pooled_all[torch.from_numpy(rows)], 0.0)
    return Encoded(tokens=tokens, mask=mask, pooled=pooled, present=present, layout=layout)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CohortError(
            f"{path}: not readable as safetensors ({error}); delete the file, it is made again."
        ) from error


def ensure_features(
    cohort: Cohort,
    modality: str,
    encoder: ModalityEncoder,
    encoder_hash: str,
    reading: Reading,
    subject_ids: npt.ArrayLike,
    *,
    progress: Progress | None = None,
    batch_size: int = 16,
) -> Path:
    """The feature file of a frozen encoder, with every one of `subject_ids` who can be in it.

    Patients without the modality stay out of it. Raises CohortError when some have it only as
    features of another encoder.
    """
    path = feature_path(cohort.folder, modality, encoder_hash)
    have = stored_subjects(path)
    asked = np.unique(np.asarray(subject_ids, np.int64))
    raw = cohort.having(modality)
    wanted = np.setdiff1d(np.intersect1d(asked, raw), have)
    elsewhere = np.intersect1d(asked, cohort.having_features(modality))
    lost = np.setdiff1d(np.setdiff1d(elsewhere, have), raw)
    if len(lost):
        raise CohortError(
            f"{cohort.folder}: {len(lost)} subjects (first {lost[0]}) have '{modality}' only as "
            f"features of another encoder than {encoder_hash}; add their files or leave them out."
        )
    if not len(wanted):
        return path
    dataset = CohortDataset(cohort, wanted, {modality: reading})
    order = np.arange(len(wanted))
    if isinstance(reading, EventReading):
        table = cohort.events(modality)
        order = np.argsort([table.rows(int(s)).stop - table.rows(int(s)).start for s in wanted])
    writer = FeatureWriter(modality, encoder_hash)
    if len(have):
        writer.add(have.tolist(), read_features(path, have))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = collate([dataset[int(i)] for i in order[start : start + batch_size]])
            inputs = batch.inputs[modality]
            if isinstance(reading, EventReading):
                inputs = trim(inputs)
            writer.add(batch.subject_ids.tolist(), encoder(inputs).at_stored_precision())
            if progress is not None:
                progress(min(start + batch_size, len(order)), len(order))
    writer.write(path)
    return path
