"""Which modality carries a prediction: exact Shapley values over what the patient has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from analysis.attribution.case import AttributionError, Case, Subject
from analysis.attribution.result import describe_target
from analysis.attribution.target import Target
from models.contracts import Encoded

Floats = npt.NDArray[np.float64]
MAX_MODALITIES = 12
# Rows of one call: a fusion over many long sequences holds a matrix a row.
_BATCH = 32


@dataclass(frozen=True, eq=False)
class ModalityLedger:
    """A prediction as a sum over the patient's modalities.

    modalities: (M) the present ones, in the run's order; absent: the run's other ones, which
    have no share at all (not a share of zero). titles: for people, of all. shares: (M, T).
    base: (T,) the number when the model is told that all are absent. whole: (T,) the number
    that the app shows. subsets: {modalities that are left: (T,)}, all 2^M of them.
    interactions: {(a, b): (T,)}, a before b in the run's order; positive where the two together
    raise the number by more than each does alone.
    """

    subject: Subject
    target: Mapping[str, Any]
    modalities: tuple[str, ...]
    absent: tuple[str, ...]
    titles: Mapping[str, str]
    base: Floats
    shares: Floats
    whole: Floats
    interactions: Mapping[tuple[str, str], Floats]
    subsets: Mapping[frozenset[str], Floats]

    def __post_init__(self) -> None:
        expected = (len(self.modalities), len(self.whole))
        if self.shares.shape != expected or len(self.subsets) != 2 ** len(self.modalities):
            raise ValueError(
                f"shares are {self.shares.shape}, not {expected}, of {len(self.subsets)} subsets."
            )

    @property
    def gap(self) -> float:
        """Largest |base + sum of shares - whole| over the outputs."""
        return float(np.abs(self.base + self.shares.sum(axis=0) - self.whole).max())

    def share(self, modality: str) -> Floats | None:
        """(T,) a modality's share; None when the patient does not have it."""
        if modality in self.absent:
            return None
        share: Floats = self.shares[self.modalities.index(modality)]
        return share

    def value(self, left: frozenset[str] | set[str]) -> Floats:
        """(T,) the number when only these of the patient's modalities are left."""
        return self.subsets[frozenset(left)]

    def without(self, modality: str) -> Floats:
        """(T,) the number when this one modality is left out."""
        return self.value(frozenset(self.modalities) - {modality})

    def table(self) -> pd.DataFrame:
        """All of the run's modalities: modality, title, share, without; missing where absent.

        Needs T = 1.
        """
        rows = []
        for name in self.titles:
            share = self.share(name)
            rows.append(
                {
                    "modality": name,
                    "title": self.titles[name],
                    "share": np.nan if share is None else float(share[0]),
                    "without": np.nan if share is None else float(self.without(name)[0]),
                }
            )
        return pd.DataFrame(rows)


def modality_ledger(case: Case, target: Target) -> ModalityLedger:
    """Shapley values of the patient's modalities for a target, exact, with pair interactions.

    Left out means the model's own absent state, the one it was trained to expect. The value of
    a subset S is the model's number with S left, and modality i gets
        sum over S without i of |S|! (M - |S| - 1)! / M! (v(S + i) - v(S))
    (Shapley 1953); a pair gets the interaction index of Grabisch & Roubens (1999),
        sum over S without i, j of |S|! (M - |S| - 2)! / (M - 1)!
            (v(S + i + j) - v(S + i) - v(S + j) + v(S)).
    The encoders are not run again. Raises AttributionError for more than 12 modalities.
    """
    names = case.present
    if len(names) > MAX_MODALITIES:
        raise AttributionError(
            f"{len(names)} modalities have {2 ** len(names)} subsets; exact shares are given for "
            f"up to {MAX_MODALITIES}."
        )
    values = _subset_values(case, names, target)
    m = len(names)
    shares = np.zeros((m, values.shape[1]))
    interactions = {}
    for i in range(m):
        for subset in _subsets_without(m, i):
            weight = _weight(subset, m, 1)
            shares[i] += weight * (values[subset | 1 << i] - values[subset])
    for i, j in combinations(range(m), 2):
        index = np.zeros(values.shape[1])
        for subset in _subsets_without(m, i, j):
            both = values[subset | 1 << i | 1 << j] + values[subset]
            each = values[subset | 1 << i] + values[subset | 1 << j]
            index += _weight(subset, m, 2) * (both - each)
        interactions[names[i], names[j]] = index
    known = case.run.config.modalities
    return ModalityLedger(
        subject=case.subject,
        target=describe_target(target),
        modalities=names,
        absent=tuple(name for name in known if name not in names),
        titles={name: entry.title for name, entry in known.items()},
        base=values[0],
        shares=shares,
        whole=np.asarray(case.value(target), np.float64),
        interactions=interactions,
        subsets={
            frozenset(n for i, n in enumerate(names) if subset >> i & 1): values[subset]
            for subset in range(2**m)
        },
    )


def _subset_values(case: Case, names: tuple[str, ...], target: Target) -> Floats:
    """(2^M, T): row s has modality i left where bit i of s is set."""
    subsets = torch.arange(2 ** len(names))
    found = []
    with torch.inference_mode():
        for rows in torch.split(subsets, _BATCH):
            changed = {
                name: _hidden(case.encoded[name], (rows >> i & 1) == 0)
                for i, name in enumerate(names)
            }
            found.append(target(case.fuse(**changed).prediction).double())
    values: Floats = torch.cat(found).numpy()
    return values


def _hidden(encoded: Encoded, rows: torch.Tensor) -> Encoded:
    """The patient's encoding once a row, absent where `rows`."""
    return encoded.take(torch.zeros(len(rows), dtype=torch.long)).without(rows)


def _subsets_without(m: int, *members: int) -> list[int]:
    hidden = sum(1 << i for i in members)
    return [subset for subset in range(2**m) if not subset & hidden]


def _weight(subset: int, m: int, joining: int) -> float:
    """The Shapley weight of a subset that `joining` players join."""
    s = subset.bit_count()
    return factorial(s) * factorial(m - s - joining) / factorial(m - joining + 1)
