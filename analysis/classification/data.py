"""Labels and predicted probabilities, checked once so that the code behind them can trust them.

Conventions of the whole folder: a label is the number of its class, from 0. With two classes,
class 1 is the positive one and a prediction is its probability (n,); with more, a prediction is
(n, K) probabilities, one column a class, and every measure is one class against the rest,
averaged with equal weight a class (macro).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.data import Bools, Floats, Ints

__all__ = ["Bools", "Floats", "Ints", "LabelData", "as_probability", "one_vs_rest", "probability"]

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class LabelData:
    """The classes of n patients, one entry a patient.

    label: (n,) whole numbers from 0 to K - 1; copied and made read-only. classes: K >= 2 names,
    all different. Raises ValueError, in one sentence, for anything else.
    """

    label: Ints
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(
                "A class task needs at least two different class names, not "
                f"{', '.join(map(repr, self.classes)) or 'none'}."
            )
        given = np.array(self.label)
        if given.ndim != 1 or given.dtype.kind not in "iub":
            raise ValueError(
                f"label must be (n,) whole numbers, not {given.dtype} of shape {given.shape}."
            )
        if given.size == 0:
            raise ValueError("There are no patients: label is empty.")
        label = given.astype(np.int64)
        wrong = (label < 0) | (label >= len(self.classes))
        if wrong.any():
            raise ValueError(
                f"label {label[wrong][0]} at position {int(np.argmax(wrong))} is none of the "
                f"{len(self.classes)} classes, which are numbered from 0."
            )
        label.setflags(write=False)
        object.__setattr__(self, "label", label)

    @property
    def n(self) -> int:
        """Number of patients."""
        return int(self.label.size)

    @property
    def counts(self) -> Ints:
        """(K,) patients of each class."""
        return np.bincount(self.label, minlength=len(self.classes)).astype(np.int64)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, of which class 1 is the positive one."""
        return len(self.classes) == 2

    @property
    def undefined(self) -> str | None:
        """Why an area under the curve has no value for these patients; None when it has one."""
        lacking = [name for name, n in zip(self.classes, self.counts, strict=True) if n == 0]
        if not lacking:
            return None
        return (
            f"None of the {self.n} patients is of class '{lacking[0]}', so nobody can be ranked "
            "against that class."
        )

    def subset(self, chosen: Bools | Ints) -> LabelData:
        """The chosen patients: (n,) bool mask or integer positions, at least one."""
        return LabelData(self.label[chosen], self.classes)


def probability(values: npt.ArrayLike) -> Floats:
    """Probabilities from the logits of a run: (n, 1) gives (n,) of class 1, (n, K) gives (n, K).

    Logistic function and softmax, in a form that does not overflow.
    """
    logits = np.asarray(values, np.float64)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"Logits must be (n, K), not of shape {logits.shape}.")
    if logits.shape[1] == 1:
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits[:, 0])), np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


def as_probability(data: LabelData, given: npt.ArrayLike, name: str = "probability") -> Floats:
    """The prediction as float64, (n,) for two classes and (n, K) for more.

    Raises ValueError for a wrong shape, a missing value, or numbers that are no probabilities.
    """
    try:
        checked = np.array(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers only.") from error
    expected = (data.n,) if data.is_binary else (data.n, len(data.classes))
    if checked.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, not {checked.shape}.")
    if not np.isfinite(checked).all():
        raise ValueError(f"{name} is missing or infinite for some patients.")
    if (checked < 0).any() or (checked > 1).any():
        raise ValueError(f"{name} must lie between 0 and 1; turn logits into probabilities first.")
    if not data.is_binary and (np.abs(checked.sum(axis=1) - 1) > _SUM_TOLERANCE).any():
        raise ValueError(f"{name} must sum to 1 over the classes of every patient.")
    return checked


def one_vs_rest(data: LabelData, given: Floats) -> Iterator[tuple[str, Bools, Floats]]:
    """(name, positive (n,) bool, score (n,)) of the positive class, or of each of K > 2 classes."""
    if data.is_binary:
        yield data.classes[1], data.label == 1, given
        return
    for number, name in enumerate(data.classes):
        yield name, data.label == number, given[:, number]


def resample_batches(
    data: LabelData, n_resamples: int, seed: int, cells: int = 4_000_000
) -> Iterator[Ints]:
    """Yield (b, n) counts of how often each patient is drawn, n_resamples rows in all.

    Patients are drawn with replacement within their class (stratified), so that every resample
    has the classes in the cohort's proportions; all runs see the same draws, which pairs them.
    """
    if n_resamples < 1:
        raise ValueError(f"Cannot draw {n_resamples} resamples; ask for at least 1.")
    rng = np.random.default_rng(seed)
    members: Sequence[Ints] = [np.flatnonzero(data.label == c) for c in range(len(data.classes))]
    rows = max(1, cells // data.n)
    for first in range(0, n_resamples, rows):
        many = min(rows, n_resamples - first)
        weights = np.zeros((many, data.n), np.int64)
        for chosen in members:
            if len(chosen):
                drawn = rng.integers(0, len(chosen), (many, len(chosen)))
                offsets = drawn + len(chosen) * np.arange(many)[:, None]
                counted = np.bincount(offsets.ravel(), minlength=many * len(chosen))
                weights[:, chosen] = counted.reshape(many, len(chosen))
        yield weights
