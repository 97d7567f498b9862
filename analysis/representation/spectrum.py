"""How much of a patient's modalities lies in one direction: singular values (HAF, sec. 2.4.2)."""

from __future__ import annotations

import numpy as np

from analysis.representation.embeddings import Floats
from analysis.representation.metrics import METRICS, Measured, Metric, Part, Study, weighted_mean

N_SHUFFLES = 10


@METRICS.register("sigma1")
class DominantShare(Metric):
    """sigma_1 / (sigma_1 + ... + sigma_M) of one patient's embeddings side by side.

    Of the matrix of Zheng et al. 2026 (HAF), eq. 5; in [1 / M, 1] for M modalities, 1 when all
    point along one line. Columns are scaled to unit length, so that no modality dominates by its
    length; HAF's loss takes the softmax of the singular values of unscaled columns, which needs
    its temperature. By chance: the matrix made of embeddings of different patients, mean of 10
    shuffles.
    """

    title = "Share of the first singular value"
    better = "higher"
    low, high = 0.0, 1.0
    scope = "patient"
    chance = "embeddings of different patients"
    says = (
        "Share of the largest of the singular values of one patient's embeddings side by side: "
        "100% when all modalities point along one line, 1 / number of modalities when they are at "
        "right angles. Reached by different patients, too, it is not the patient that is shared."
    )
    source = "Zheng et al. 2026 (HAF), eq. 5"

    def measure(self, study: Study, part: Part) -> Measured:
        """On the patients who have all modalities."""
        own = shares(columns(study, part))
        shuffled = [
            shares(columns(study, part, np.random.default_rng([study.seed, i])))[:, 0].mean()
            for i in range(N_SHUFFLES)
        ]
        return Measured(weighted_mean(own[:, 0]).replicate, float(np.mean(shuffled)))


def columns(study: Study, part: Part, rng: np.random.Generator | None = None) -> Floats:
    """(m, D, M) matrix of each patient's embeddings; with `rng` those of different patients."""
    m = len(part.rows)
    rows = [part.rows if rng is None else part.rows[rng.permutation(m)] for _ in part.of]
    return np.stack(
        [study.stage.vectors[name][r] for name, r in zip(part.of, rows, strict=True)], axis=2
    )


def shares(matrices: Floats) -> Floats:
    """(m, min(D, M)) singular values of (m, D, M), largest first, as shares of their sum."""
    values = np.linalg.svd(matrices, compute_uv=False)
    total = values.sum(axis=1, keepdims=True)
    return np.asarray(values / np.where(total > 0, total, 1.0), np.float64)
