"""What a measure of alignment is: its meaning, its parts, and how its intervals are made.

A measure is taken on parts (two modalities, one modality, or whole patients), and its headline
is the mean over parts. Patients are the units of resampling: one draw serves all parts and both
stages, so that the change from before to after is judged on the same patients.

Means over patients have percentile intervals over resampled patients (Efron & Tibshirani 1993,
ch. 13). A measure that is no mean is biased by patients who are drawn twice; its interval comes
from the delete-a-group jackknife instead (Efron & Tibshirani 1993, ch. 11), which repeats nobody.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from analysis.representation.embeddings import Embeddings, Floats, Ids, unlike_widths
from analysis.representation.meaning import Meaning
from analysis.retrieval import standing
from analysis.survival.comparison import LEVEL, ConfidenceInterval
from analysis.survival.concordance import resample_weights
from models.registry import Registry

NEIGHBOURS = 10
N_GROUPS = 40
FEWEST = 3
_Z = 1.959963984540054


@dataclass(frozen=True)
class Part:
    """What a value speaks of: modalities, and rows (m,), the positions of its patients."""

    of: tuple[str, ...]
    rows: Ids


@dataclass(frozen=True)
class Measured:
    """A measure on one part: what it is for weights (b, m) of the part's patients, and by chance.

    replicate gives (b,), nan where the weights leave nothing.
    """

    replicate: Callable[[Floats], Floats]
    chance: float


class Study:
    """One stage's embeddings with what the measures share: outcomes and nearest neighbours.

    outcome: (n,) int group of every patient (event by the horizon or not, class), -1 unknown.
    """

    def __init__(self, stage: Embeddings, outcome: npt.ArrayLike, seed: int = 0) -> None:
        self.stage = stage
        self.outcome = np.asarray(outcome, np.int64)
        self.seed = seed
        self._standings: dict[tuple[str, ...], list[tuple[Ids, Ids]]] = {}
        if self.outcome.shape != stage.subject_ids.shape:
            raise ValueError(f"{len(stage.subject_ids)} patients, {len(self.outcome)} outcomes.")

    def standings(self, part: Part) -> list[tuple[Ids, Ids]]:
        """`standing` of a pair in both directions; three measures are made of it."""
        if part.of not in self._standings:
            first, second = (self.stage.vectors[name][part.rows] for name in part.of)
            self._standings[part.of] = [standing(first, second), standing(second, first)]
        return self._standings[part.of]

    @cached_property
    def neighbours(self) -> npt.NDArray[np.int64]:
        """(N, k) the points nearest to each point, itself left out, nearest first.

        Enough of them that `NEIGHBOURS` are left when a patient's own others are not counted.
        """
        points = self.stage.points
        wanted = min(NEIGHBOURS + len(self.stage.vectors) - 1, len(points) - 1)
        search = NearestNeighbors(algorithm="brute", n_neighbors=wanted + 1)
        found = search.fit(points.vectors).kneighbors(points.vectors, return_distance=False)
        return _without_self(found)[:, :wanted]


class Metric(Meaning, ABC):
    """A measure of one stage's embeddings. resampling: how its intervals are made."""

    scope: ClassVar[Literal["pair", "modality", "patient"]]
    resampling: ClassVar[Literal["bootstrap", "jackknife"]] = "bootstrap"

    def parts(self, stage: Embeddings) -> list[Part]:
        """The parts that at least three patients have."""
        sets: list[tuple[str, ...]]
        if self.scope == "pair":
            sets = [*stage.pairs()]
        elif self.scope == "modality":
            sets = [(name,) for name in stage.vectors]
        else:
            sets = [tuple(stage.vectors)] if len(stage.vectors) > 1 else []
        found = [Part(names, stage.having(names)) for names in sets]
        return [part for part in found if len(part.rows) >= FEWEST]

    def why_not(self, study: Study) -> str | None:
        """Why this stage has no such number, in a sentence; None where it has one."""
        stage = study.stage
        if self.scope != "modality" and len(stage.vectors) < 2:
            return "it takes two modalities."
        if self.moves_with_axes and not stage.share_axes:
            return unlike_widths(stage)
        if not self.parts(stage):
            have = {"pair": "two of the modalities", "patient": "all modalities"}
            return f"fewer than {FEWEST} patients have {have.get(self.scope, 'a modality')}."
        return None

    @abstractmethod
    def measure(self, study: Study, part: Part) -> Measured:
        """The measure on a part."""


METRICS: Registry[Metric] = Registry("measure of alignment")


def weighted_mean(values: npt.ArrayLike, counts: npt.ArrayLike | None = None) -> Measured:
    """Mean over patients of `values` (m,); with `counts` (m,), sum of values over sum of counts.

    Chance is left nan for the caller to state.
    """
    top = np.asarray(values, np.float64)
    below = np.ones_like(top) if counts is None else np.asarray(counts, np.float64)

    def replicate(weights: Floats) -> Floats:
        total = weights @ below
        missing = np.full(len(weights), np.nan)
        return np.asarray(np.divide(weights @ top, total, out=missing, where=total > 0))

    return Measured(replicate, np.nan)


def replicate_weights(
    n: int, how: Literal["bootstrap", "jackknife"], n_resamples: int, seed: int
) -> Floats:
    """(1 + b, n) weights of patients: all once in the first row, then the replicates.

    A jackknife leaves out each of 40 groups of patients in turn, of one patient where there are
    fewer than 80.
    """
    if how == "bootstrap":
        drawn = resample_weights(n, n_resamples, seed).astype(np.float64)
    else:
        groups = n if n < 2 * N_GROUPS else N_GROUPS
        group = np.random.default_rng(seed).permutation(n) % groups
        drawn = (group[None, :] != np.arange(groups)[:, None]).astype(np.float64)
    return np.concatenate([np.ones((1, n)), drawn])


def interval(
    replicates: Floats,
    how: Literal["bootstrap", "jackknife"],
    low: float = -np.inf,
    high: float = np.inf,
) -> ConfidenceInterval:
    """The value (first of the replicates) with its 95% interval, kept inside the range."""
    value, others = float(replicates[0]), replicates[1:][np.isfinite(replicates[1:])]
    if not np.isfinite(value) or len(others) < 2:
        return ConfidenceInterval(value, np.nan, np.nan)
    if how == "bootstrap":
        ends = np.quantile(others, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    else:
        groups = len(others)
        error = np.sqrt((groups - 1) / groups * np.sum((others - others.mean()) ** 2))
        ends = np.clip([value - _Z * error, value + _Z * error], low, high)
    return ConfidenceInterval(value, float(ends[0]), float(ends[1]))


def _without_self(found: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Neighbours (N, k + 1) without the point itself; the last where it is not among them."""
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    return np.asarray(found[~own].reshape(len(found), -1))
