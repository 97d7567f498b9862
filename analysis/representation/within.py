"""Measures of how points lie among each other: uniformity, and who the nearest neighbours are."""

from __future__ import annotations

import numpy as np
from scipy.special import hyp0f1

from analysis.representation.embeddings import Floats, Ids
from analysis.representation.metrics import (
    METRICS,
    NEIGHBOURS,
    Measured,
    Metric,
    Part,
    Study,
    weighted_mean,
)

_T = 2.0


@METRICS.register("uniformity")
class Uniformity(Metric):
    """log of the mean of exp(-2 |x - y|^2) over pairs of patients (Wang & Isola 2020).

    In [-8, 0], lower is more spread over the sphere; 0 is one point for everybody. By chance:
    points spread evenly over the sphere of this width, exact: exp(-4) 0F1(; D / 2; 4) inside the
    log. It depends on the width, so stages of different width do not compare.
    """

    title = "Uniformity"
    better = "lower"
    low, high = -8.0, 0.0
    scope = "modality"
    resampling = "jackknife"
    chance = "points spread evenly over the sphere"
    says = (
        "How evenly the patients of one modality spread over the unit sphere; 0 when everybody is "
        "one point. Alignment that is paid for with uniformity has made patients alike."
    )
    source = "Wang & Isola, ICML 2020"
    moves_with_axes = False

    def measure(self, study: Study, part: Part) -> Measured:
        """Over pairs of different patients who have the modality."""
        x = study.stage.vectors[part.of[0]][part.rows]
        length = np.sum(x**2, axis=1)
        squared = length[:, None] + length[None, :] - 2 * (x @ x.T)
        near = np.exp(-_T * np.clip(squared, 0.0, None)).astype(np.float32)
        np.fill_diagonal(near, 0.0)

        def replicate(weights: Floats) -> Floats:
            pairs = weights.sum(axis=1) ** 2 - np.sum(weights**2, axis=1)
            inside = np.sum((weights.astype(np.float32) @ near) * weights, axis=1)
            mean = np.divide(inside, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
            return np.asarray(np.log(mean), np.float64)

        return Measured(replicate, even_uniformity(x.shape[1]))


def even_uniformity(width: int) -> float:
    """Uniformity of points spread evenly over the unit sphere in `width` dimensions.

    E exp(-t |x - y|^2) = exp(-2t) E exp(2t cos) and E exp(k cos) = 0F1(; D / 2; k^2 / 4).
    """
    return float(-2 * _T + np.log(hyp0f1(width / 2, _T**2)))


class _Purity(Metric):
    """Share of the nearest neighbours that are of the same group."""

    low, high = 0.0, 1.0
    scope = "modality"
    source = "k-nearest-neighbour purity; k = 10"


@METRICS.register("modality_purity")
class ModalityPurity(_Purity):
    """Share of a point's 10 nearest neighbours that are of its own modality.

    In [0, 1]; 1 is islands of modalities, chance is modalities that lie mixed: the modality's
    share of all other points. Lower is more mixed, which alignment aims at.
    """

    title = "Neighbours of the same modality"
    better = "lower"
    chance = "modalities mixed evenly"
    says = (
        "Share of the 10 nearest neighbours of an embedding that are of the same modality. 100% "
        "are islands of modalities; by chance it is the modality's share of all points."
    )

    def measure(self, study: Study, part: Part) -> Measured:
        """Of the points of one modality, among all points."""
        points = study.stage.points
        at, number = _points_of(study, part)
        near = study.neighbours[at][:, :NEIGHBOURS]
        same = (points.modality[near] == number).mean(axis=1)
        chance = (len(at) - 1) / (len(points) - 1)
        return Measured(weighted_mean(same).replicate, float(chance))

    def why_not(self, study: Study) -> str | None:
        """It takes two modalities."""
        if len(study.stage.vectors) < 2:
            return "it takes two modalities."
        return super().why_not(study)


@METRICS.register("outcome_purity")
class OutcomePurity(_Purity):
    """Share of a point's 10 nearest neighbours of other patients that had the same outcome.

    In [0, 1], higher: the outcome can be read from the neighbourhood. By chance: the share of
    points of the same outcome among those of other patients. Only patients whose outcome is known
    (for survival: event by the horizon, or followed beyond it) count.
    """

    title = "Neighbours of the same outcome"
    better = "higher"
    chance = "outcomes mixed evenly"
    says = (
        "Share of the 10 nearest neighbours (other patients, any modality) that had the same "
        "outcome. Read it beside chance, which is high where an outcome is rare."
    )

    def measure(self, study: Study, part: Part) -> Measured:
        """Of the points of one modality, among those of patients whose outcome is known."""
        points, outcome = study.stage.points, study.outcome
        at, _ = _points_of(study, part)
        near = study.neighbours[at]
        group = outcome[points.rows]
        others = points.rows[near] != points.rows[at][:, None]
        nearest = others & (np.cumsum(others, axis=1) <= NEIGHBOURS)
        known = nearest & (group[near] >= 0)
        same = known & (group[near] == group[at][:, None])
        mine = group[at] >= 0
        counts = known.sum(axis=1) * mine
        measured = weighted_mean(same.sum(axis=1) * mine, counts)
        return Measured(measured.replicate, _chance_of_outcome(points.rows, group, at[mine]))

    def why_not(self, study: Study) -> str | None:
        """It takes two outcomes among the patients."""
        known = np.unique(study.outcome[study.outcome >= 0])
        if len(known) < 2:
            return "the patients whose outcome is known all had the same one."
        return super().why_not(study)


def _points_of(study: Study, part: Part) -> tuple[Ids, int]:
    """Positions of a modality's points, in the order of the part's rows, and its number."""
    number = list(study.stage.vectors).index(part.of[0])
    return np.flatnonzero(study.stage.points.modality == number), number


def _chance_of_outcome(rows: Ids, group: Ids, at: Ids) -> float:
    """Mean over points `at` of the share of their outcome among known points of other patients."""
    if not len(at):
        return float("nan")
    known = group >= 0
    points = np.bincount(rows[known], minlength=rows.max() + 1)
    sizes = np.bincount(group[known])
    own = points[rows[at]]
    return float(np.mean((sizes[group[at]] - own) / (known.sum() - own)))
