"""Does a modality find its patient's other one? Recall and FOSCTTM, both directions."""

from __future__ import annotations

import numpy as np

from analysis.representation.metrics import METRICS, Measured, Metric, Part, Study, weighted_mean


class _Recall(Metric):
    """Share of patients whose own embedding is among the k nearest of the other modality."""

    k: int
    better = "higher"
    low, high = 0.0, 1.0
    scope = "pair"
    source = "Radford et al., ICML 2021; TGMM, eq. 16"

    def measure(self, study: Study, part: Part) -> Measured:
        """Mean of both directions, among all patients who have both."""
        hits = [nearer + tied <= self.k for nearer, tied in study.standings(part)]
        n = len(part.rows)
        return Measured(weighted_mean(np.mean(hits, axis=0)).replicate, min(self.k / n, 1.0))


@METRICS.register("recall_1")
class RecallAt1(_Recall):
    """How often the nearest embedding of the other modality is the patient's own.

    In [0, 1], higher is better; by chance 1 / n. Ties count against the model, as on the
    Retrieval page; candidates are all patients who have both modalities.
    """

    k = 1
    title = "R@1"
    chance = "1 of all candidates"
    says = (
        "Share of patients whose own embedding of the other modality is the nearest of all, mean "
        "of both directions. Candidates are all patients who have both."
    )


@METRICS.register("recall_5")
class RecallAt5(_Recall):
    """How often the patient's own is among the five nearest of the other modality.

    In [0, 1], higher is better; by chance 5 / n. Ties count against the model.
    """

    k = 5
    title = "R@5"
    chance = "5 of all candidates"
    says = (
        "Share of patients whose own embedding of the other modality is among the five nearest, "
        "mean of both directions. Candidates are all patients who have both."
    )


@METRICS.register("foscttm")
class FOSCTTM(Metric):
    """Fraction of samples closer than the true match (Liu et al. 2019, MMD-MA; SCOT).

    In [0, 1], lower is better, 0.5 is chance. Mean over patients and both directions of the share
    of other patients nearer than the patient's own; equally near ones count one half, so that a
    model which maps everybody to one point stands at chance.
    """

    title = "FOSCTTM"
    better = "lower"
    low, high = 0.0, 1.0
    scope = "pair"
    chance = "a random order"
    says = (
        "Fraction of samples closer than the true match: the share of other patients whose "
        "embedding is nearer than the patient's own, mean of both directions. 0 is perfect."
    )
    source = "Liu et al., WABI 2019"

    def measure(self, study: Study, part: Part) -> Measured:
        """On the patients who have both."""
        others = len(part.rows) - 1
        shares = [(nearer + (tied - 1) / 2) / others for nearer, tied in study.standings(part)]
        return Measured(weighted_mean(np.mean(shares, axis=0)).replicate, 0.5)
