"""The observed share of a class in groups of patients: the twin of `survival.observed`.

Decision curves, alerts and reclassification are written for any `Observed`; labels are complete,
so a group's risk is a count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.classification.data import Bools, Floats
from analysis.survival.concordance import Multiplicities


@dataclass(frozen=True, eq=False)
class ByLabel:
    """positive (n,) bool: who is of the class, called `name`."""

    positive: Bools
    name: str

    @property
    def n(self) -> int:
        """Number of patients."""
        return int(self.positive.size)

    @property
    def n_events(self) -> int:
        """Patients of the class."""
        return int(self.positive.sum())

    def risk(self, members: Bools, weights: Multiplicities) -> Floats:
        """Share of the class (B, G) in G groups, members (G, n), of B copies; nan where empty."""
        inside = members.T.astype(np.float64)
        counts = np.asarray(weights, np.float64)
        whole = counts @ inside
        hit = counts @ (inside * self.positive[:, None])
        return np.asarray(hit / np.where(whole > 0, whole, np.nan), np.float64)

    def why_undefined(self) -> str | None:
        """Why nothing can be said of these patients, in one sentence; None otherwise."""
        if not self.n_events:
            return f"None of the {self.n} patients is of class '{self.name}'."
        if self.n_events == self.n:
            return f"All {self.n} patients are of class '{self.name}'."
        return None
