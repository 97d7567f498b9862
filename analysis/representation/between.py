"""Measures between two modalities of the same patients: gap, alignment, row correlation, CKA."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.representation.embeddings import Floats
from analysis.representation.metrics import METRICS, Measured, Metric, Part, Study, weighted_mean

N_SHUFFLES = 10


@METRICS.register("gap")
class ModalityGap(Metric):
    """Distance of the two modalities' centroids on the unit sphere (Liang et al. 2022).

    In [0, 2], lower is closer. By chance: what is left when each patient's two embeddings are
    swapped at random, in root mean square over all swaps (exact: sqrt(mean |x - y|^2 / n)).
    """

    title = "Modality gap"
    better = "lower"
    low, high = 0.0, 2.0
    scope = "pair"
    resampling = "jackknife"
    chance = "each patient's two embeddings swapped at random"
    says = (
        "Distance between the centres of two modalities on the unit sphere; 0 when they lie over "
        "each other. A small gap does not say that one patient's modalities meet."
    )
    source = "Liang et al., NeurIPS 2022"

    def measure(self, study: Study, part: Part) -> Measured:
        """On the patients who have both."""
        x, y = _both(study, part)
        apart = x - y

        def replicate(weights: Floats) -> Floats:
            total = weights.sum(axis=1)
            mean = weights @ apart / np.where(total > 0, total, np.nan)[:, None]
            return np.asarray(np.linalg.norm(mean, axis=1), np.float64)

        return Measured(replicate, float(np.sqrt(np.mean(np.sum(apart**2, axis=1)) / len(apart))))


@METRICS.register("alignment")
class PairDistance(Metric):
    """Mean squared distance of one patient's two unit embeddings (Wang & Isola 2020, alignment).

    In [0, 4], lower is closer; 2 is a right angle. By chance: between different patients, exact.
    """

    title = "Distance within a patient (alignment)"
    better = "lower"
    low, high = 0.0, 4.0
    scope = "pair"
    chance = "embeddings of two different patients"
    says = (
        "Mean squared distance between two modalities of one patient on the unit sphere: 0 the "
        "same direction, 2 a right angle. If it is no better than that of different patients, the "
        "patients were not matched, only the modalities moved."
    )
    source = "Wang & Isola, ICML 2020"

    def measure(self, study: Study, part: Part) -> Measured:
        """On the patients who have both."""
        x, y = _both(study, part)
        n = len(x)
        own = np.sum((x - y) ** 2, axis=1)
        lengths = n * (np.sum(x**2) + np.sum(y**2))
        every = lengths - 2 * float(x.sum(axis=0) @ y.sum(axis=0))
        chance = (every - own.sum()) / (n * (n - 1))
        return Measured(weighted_mean(own).replicate, float(chance))


@METRICS.register("row_correlation")
class RowCorrelation(Metric):
    """Mean Pearson correlation over dimensions of one patient's two embeddings (HAF, fig. 4).

    In [-1, 1], higher is more alike. By chance: between different patients, exact. It is what the
    heat map of one patient shows as bands of one colour.
    """

    title = "Correlation of a patient's rows"
    better = "higher"
    low, high = -1.0, 1.0
    scope = "pair"
    chance = "rows of two different patients"
    says = (
        "Correlation, over the dimensions, between two modalities of one patient; the mean over "
        "patients. High values that different patients reach, too, are a pattern of the "
        "modalities and not of the patient."
    )
    source = "Zheng et al. 2026 (HAF), fig. 4"

    def measure(self, study: Study, part: Part) -> Measured:
        """On the patients who have both."""
        x, y = (_standard_rows(v) for v in _both(study, part))
        n = len(x)
        own = np.sum(x * y, axis=1)
        chance = (float(x.sum(axis=0) @ y.sum(axis=0)) - own.sum()) / (n * (n - 1))
        return Measured(weighted_mean(own).replicate, float(chance))


@METRICS.register("cka")
class LinearCKA(Metric):
    """Linear centred kernel alignment of two modalities (Kornblith et al. 2019).

    In [0, 1], higher: the modalities arrange the patients alike, whatever their axes (it does not
    change when either is rotated or scaled, nor do widths have to agree). By chance: patients
    shuffled, mean of 10; it is far from 0 where dimensions are many and patients few.
    """

    title = "Linear CKA"
    better = "higher"
    low, high = 0.0, 1.0
    scope = "pair"
    resampling = "jackknife"
    chance = "patients of one modality shuffled"
    says = (
        "Do two modalities arrange the patients alike? 1 is the same arrangement up to rotation. "
        "It does not compare axes, so before and after can be compared as they are; few patients "
        "raise it, therefore read it beside chance."
    )
    source = "Kornblith et al., ICML 2019"
    moves_with_axes = False

    def measure(self, study: Study, part: Part) -> Measured:
        """On the patients who have both."""
        x, y = _both(study, part)
        whole = _Moments.of(x, y)
        rng = np.random.default_rng(study.seed)
        shuffled = [
            replace(whole, xy=x.T @ y[rng.permutation(len(y))]).cka for _ in range(N_SHUFFLES)
        ]

        def replicate(weights: Floats) -> Floats:
            return np.array([_weighted(whole, x, y, w).cka for w in weights])

        return Measured(replicate, float(np.mean(shuffled)))


@dataclass(frozen=True)
class _Moments:
    """Sums over patients of x (D,), y (E,) and of their products, of which CKA is made."""

    n: float
    x: Floats
    y: Floats
    xx: Floats
    yy: Floats
    xy: Floats

    @classmethod
    def of(cls, x: Floats, y: Floats, weights: Floats | None = None) -> _Moments:
        """Of x (n, D) and y (n, E), every patient counted `weights` (n,) times."""
        w = np.ones(len(x)) if weights is None else weights
        a, b = x * w[:, None], y * w[:, None]
        return cls(float(w.sum()), a.sum(axis=0), b.sum(axis=0), a.T @ x, b.T @ y, a.T @ y)

    def without(self, part: _Moments) -> _Moments:
        """The sums without those patients."""
        return _Moments(
            self.n - part.n,
            self.x - part.x,
            self.y - part.y,
            self.xx - part.xx,
            self.yy - part.yy,
            self.xy - part.xy,
        )

    @property
    def cka(self) -> float:
        """|X'Y|^2 / (|X'X| |Y'Y|), Frobenius, centred; nan where a modality does not vary."""
        if self.n <= 0:
            return float("nan")
        xx = self.xx - np.outer(self.x, self.x) / self.n
        yy = self.yy - np.outer(self.y, self.y) / self.n
        xy = self.xy - np.outer(self.x, self.y) / self.n
        below = np.linalg.norm(xx) * np.linalg.norm(yy)
        if below <= 1e-20 * self.n**2:
            return float("nan")
        return float(np.linalg.norm(xy) ** 2 / below)


def _weighted(whole: _Moments, x: Floats, y: Floats, weights: Floats) -> _Moments:
    """The sums for weights (n,); of those left out where few are, which is much faster."""
    out = weights == 0
    if np.all(out | (weights == 1)) and out.sum() < len(out) / 2:
        return whole.without(_Moments.of(x[out], y[out]))
    return _Moments.of(x, y, weights)


def _both(study: Study, part: Part) -> tuple[Floats, Floats]:
    first, second = part.of
    vectors = study.stage.vectors
    return vectors[first][part.rows], vectors[second][part.rows]


def _standard_rows(v: Floats) -> Floats:
    """Each row centred and of unit length, so that a product of two is their correlation."""
    centred = v - v.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1.0), np.float64)
