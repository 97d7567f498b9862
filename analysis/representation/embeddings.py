"""Embeddings of a run's patients before and after alignment, as geometry.

Everything here is told by direction: every embedding is scaled to unit length, so that its
neighbours by distance are its neighbours by cosine and that no modality counts by its length.
An absent modality has no embedding: its row is nan, so that a number made of it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.predict import Predictions

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
STAGES = ("before", "after")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """One stage's embeddings of n patients.

    subject_ids (n,). vectors: {modality: (n, D) float64} of unit length, nan where the patient
    lacks the modality; widths may differ between modalities. An embedding of zeros stays zero.
    """

    subject_ids: Ids
    vectors: Mapping[str, Floats]

    @classmethod
    def of(
        cls,
        subject_ids: npt.ArrayLike,
        vectors: Mapping[str, npt.ArrayLike],
        present: Mapping[str, npt.ArrayLike],
    ) -> Embeddings:
        """From a model's numbers (n, D) and who has what (n,) bool.

        Raises ValueError for shapes that do not fit or a value that is not finite.
        """
        ids = np.asarray(subject_ids, np.int64)
        found = {}
        for name, given in vectors.items():
            rows, there = np.array(given, np.float64), np.asarray(present[name], bool)
            if rows.ndim != 2 or len(rows) != len(ids) or there.shape != ids.shape:
                raise ValueError(
                    f"modality '{name}': embeddings {rows.shape} and presence {there.shape} of "
                    f"{len(ids)} patients do not fit."
                )
            if not np.isfinite(rows[there]).all():
                raise ValueError(f"modality '{name}': an embedding is missing or infinite.")
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(length > 0, length, 1.0)
            rows[~there] = np.nan
            found[name] = rows
        return cls(subject_ids=ids, vectors=found)

    @cached_property
    def present(self) -> dict[str, npt.NDArray[np.bool_]]:
        """{modality: (n,)} who has it."""
        return {n: np.asarray(np.isfinite(v).all(axis=1)) for n, v in self.vectors.items()}

    @property
    def widths(self) -> dict[str, int]:
        """{modality: D}."""
        return {name: v.shape[1] for name, v in self.vectors.items()}

    @property
    def share_axes(self) -> bool:
        """Whether all modalities have one width; only then can they be laid over each other."""
        return len(set(self.widths.values())) <= 1

    def having(self, modalities: Sequence[str]) -> Ids:
        """Positions of the patients who have all of these modalities."""
        return np.flatnonzero(np.all([self.present[name] for name in modalities], axis=0))

    def pairs(self) -> list[tuple[str, str]]:
        """Every two modalities, in the run's order."""
        return list(combinations(self.vectors, 2))

    def take(self, rows: npt.ArrayLike) -> Embeddings:
        """The patients at these positions."""
        at = np.asarray(rows)
        return Embeddings(
            subject_ids=self.subject_ids[at],
            vectors={name: v[at] for name, v in self.vectors.items()},
        )

    def only(self, modalities: Sequence[str]) -> Embeddings:
        """Some of the modalities, in this order."""
        return Embeddings(
            subject_ids=self.subject_ids, vectors={name: self.vectors[name] for name in modalities}
        )

    @cached_property
    def points(self) -> Points:
        """Every modality of every patient who has it. Raises ValueError for differing widths."""
        if not self.share_axes:
            raise ValueError(unlike_widths(self))
        rows = [np.flatnonzero(there) for there in self.present.values()]
        return Points(
            rows=np.concatenate(rows),
            modality=np.repeat(np.arange(len(rows)), [len(r) for r in rows]),
            vectors=np.concatenate(
                [v[r] for v, r in zip(self.vectors.values(), rows, strict=True)]
            ),
        )


@dataclass(frozen=True)
class Points:
    """N points: rows (N,) position of the patient, modality (N,) number of it, vectors (N, D)."""

    rows: Ids
    modality: Ids
    vectors: Floats

    def __len__(self) -> int:
        return len(self.rows)


def unlike_widths(stage: Embeddings) -> str:
    """Why modalities of this stage cannot be compared place by place."""
    told = ", ".join(f"{name} {width}" for name, width in stage.widths.items())
    return f"the modalities have different widths here ({told}), so they share no axes."


def stages_of(predicted: Predictions, modalities: Sequence[str]) -> dict[str, Embeddings]:
    """{'before', 'after': embeddings} of those stages that the run gives, modalities in order."""
    found = {}
    for stage in STAGES:
        given = getattr(predicted, stage)
        vectors = {name: given[name] for name in modalities if name in given}
        if vectors:
            found[stage] = Embeddings.of(predicted.subject_ids, vectors, predicted.present)
    return found


def designed_sample(people: pd.DataFrame, n: int, seed: int = 0) -> Ids:
    """Positions, ascending, of `n` of the patients, each with the same chance to be drawn.

    A systematic sample (every k-th from a random start; Cochran 1977, ch. 8) of the patients
    sorted by all columns of `people`, first column first: every group that these columns make is
    in the sample with its share of the patients, to within one patient. All if n is not smaller.
    """
    total = len(people)
    if n >= total:
        return np.arange(total)
    rng = np.random.default_rng(seed)
    keys = people.reset_index(drop=True)
    # Patients who are alike in everything stand in a random order.
    keys = keys.assign(_order=rng.permutation(total)).sort_values([*people.columns, "_order"])
    picked = np.floor((np.arange(n) + rng.random()) * total / n).astype(np.int64)
    return np.sort(keys.index.to_numpy(np.int64)[picked])
