"""How far a picture on a plane keeps the neighbourhoods of the embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from sklearn.manifold import trustworthiness

from analysis.representation.meaning import Meaning
from models.registry import Registry

Floats = npt.NDArray[np.float64]
JUDGED_NEIGHBOURS = 15
MOST_JUDGED = 3_000


class PictureMetric(Meaning, ABC):
    """A measure of a picture (N, 2) of points (N, D), with k neighbours."""

    better = "higher"
    low, high = 0.0, 1.0
    chance = "about 50% for places drawn at random"
    moves_with_axes = False

    @abstractmethod
    def measure(self, points: Floats, picture: Floats, k: int) -> float:
        """The measure, in [0, 1]."""


PICTURE_METRICS: Registry[PictureMetric] = Registry("measure of a picture")


@PICTURE_METRICS.register("trustworthiness")
class Trustworthiness(PictureMetric):
    """Are neighbours in the picture neighbours among the embeddings (Venna & Kaski 2001)?

    In [0, 1], higher is better, 1 when every one is; random places have about 0.5.
    """

    title = "Trustworthiness of the picture"
    says = "Points that lie together in the picture are neighbours in fact; 100% when all are."
    source = "Venna & Kaski, ICANN 2001"

    def measure(self, points: Floats, picture: Floats, k: int) -> float:
        """By scikit-learn."""
        return float(trustworthiness(points, picture, n_neighbors=k))


@PICTURE_METRICS.register("continuity")
class Continuity(PictureMetric):
    """Are neighbours among the embeddings neighbours in the picture (Venna & Kaski 2001)?

    In [0, 1], higher is better, 1 when every one is; random places have about 0.5. It is
    trustworthiness with embeddings and picture exchanged.
    """

    title = "Continuity of the picture"
    says = "Neighbours in fact lie together in the picture; 100% when none is torn away."
    source = "Venna & Kaski, ICANN 2001"

    def measure(self, points: Floats, picture: Floats, k: int) -> float:
        """By scikit-learn."""
        return float(trustworthiness(picture, points, n_neighbors=k))


def judge(points: Floats, picture: Floats, seed: int = 0) -> dict[str, float]:
    """Every registered measure of a picture by name, with `neighbours` and `points` it is from.

    Of 15 neighbours, on at most 3,000 of the points, drawn with `seed`.
    """
    rows = np.arange(len(points))
    if len(rows) > MOST_JUDGED:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), MOST_JUDGED, replace=False))
    k = min(JUDGED_NEIGHBOURS, (len(rows) - 1) // 2)
    found: dict[str, float] = {
        name: PICTURE_METRICS.get(name)().measure(points[rows], picture[rows], k)
        for name in PICTURE_METRICS
    }
    return {**found, "neighbours": k, "points": len(rows)}
