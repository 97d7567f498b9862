"""What each modality adds to the score of a cohort: Shapley values and what it adds to the rest.

The worth of a set of modalities is the run's Harrell's C (AUC for labels) when every patient is
told what they have of the set; told nothing, the run ranks nobody and is worth 0.5. So the
Shapley values of all modalities sum to the run's score minus 0.5. A score counts ranks: what a
modality can do alone counts in full, however little it moves predictions once others are told;
`utilisation` and the patients' shares (shares.py) show that. For the same reason the interaction
of a pair is below 0 even where two terms are simply added: C cannot rise by both. A bootstrap
of patients, the same for all sets, gives intervals of everything that is made of these worths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.classification.evaluation import AUC_CONVENTION, interval_json, number_json
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import C_CONVENTION, N_RESAMPLES, check_fit
from analysis.features import Progress
from analysis.imbalance.game import balance, interaction_weights, last_weights, shapley_weights
from analysis.imbalance.scores import CHANCE, Floats, Scorer
from analysis.missing.design import MOST_ALL
from analysis.missing.predictions import SubsetPredictions, subset_predictions
from analysis.store import ResultStore
from analysis.survival.comparison import ConfidenceInterval, holm, percentile_interval, two_sided_p
from models.checkpoint import Run

SHAPLEY_CONVENTION = (
    "Exact Shapley values of the score over all sets of modalities; told nothing the run is worth "
    "0.5, so the values sum to its score minus 0.5."
)


@dataclass(frozen=True, eq=False)
class Game:
    """The worth of every set of modalities to one cohort.

    modalities: (M) players, bit i of a set's number. values: (2^M,) scores, values[0] = 0.5.
    sample: (2^M, B) the same in B shared resamples of patients.
    """

    modalities: tuple[str, ...]
    values: Floats
    sample: Floats

    def interval(self, weights: Floats) -> ConfidenceInterval:
        """A weighted sum (2^M,) of the worths, with its interval."""
        return percentile_interval(float(weights @ self.values), weights @ self.sample)

    def score(self, code: int) -> ConfidenceInterval:
        """The worth of one set."""
        return percentile_interval(float(self.values[code]), self.sample[code])

    @property
    def everything(self) -> int:
        """The number of the set of all modalities."""
        return len(self.values) - 1

    @property
    def shares(self) -> tuple[Floats, Floats]:
        """(M,) and (M, B) each Shapley value over the sum of all positive ones; nan for no sum."""
        weights = shapley_weights(len(self.modalities))
        return _shares(weights @ self.values), _shares(weights @ self.sample)

    @property
    def balance(self) -> ConfidenceInterval:
        """Normalised entropy of the Shapley values, 1 alike and 0 one alone."""
        own, sample = self.shares
        return _bounded(float(balance(np.nan_to_num(own))), balance(np.nan_to_num(sample)))


def _bounded(value: float, sample: Floats) -> ConfidenceInterval:
    """The interval of a number between 0 and 1, from resamples (b,) without those that are nan.

    Resamples scatter away from a bound, to one side of a value beside it only; the interval then
    reaches to the value.
    """
    found = percentile_interval(value, sample[~np.isnan(sample)])
    return ConfidenceInterval(
        found.value, min(found.low, found.value), max(found.high, found.value)
    )


def by_code(found: SubsetPredictions) -> Floats:
    """(2^M, n, K) predictions in the order of the sets' numbers (`Design.code`).

    Raises CohortError for more than 7 modalities, of whose sets only a sample is asked.
    """
    if not found.design.all_of_them:
        raise CohortError(
            f"run '{found.run}' reads {len(found.design.modalities)} modalities; exact Shapley "
            f"values need every combination, which is asked of up to {MOST_ALL}."
        )
    order = np.argsort([found.design.code(c) for c in found.design.combinations])
    return np.asarray(found.values[order], np.float64)


def score_game(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Game, dict[str, Any]]:
    """The game of a run and a split, and who was counted (n, events, metric, undefined); stored.

    All patients of the split with an outcome, whatever they lack. Raises CohortError for a split
    without patients or more than 7 modalities.
    """
    check_fit(run, cohort)
    parameters = {
        "method": "score_game",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        found = subset_predictions(run, cohort, split, store, progress)
        told = by_code(found)[1:]
        scorer = Scorer.of_patients(run, cohort, found.subject_ids)
        sample = scorer.resampled(told, n_resamples, seed)
        nothing = np.full((1, sample.shape[1]), CHANCE)
        return {
            "metric": scorer.metric,
            "n": len(found.subject_ids),
            "n_incomplete": int((~found.complete).sum()),
            "events": scorer.events,
            "undefined": scorer.undefined,
            "dropped": n_resamples - sample.shape[1],
        }, {
            "values": np.r_[CHANCE, scorer.of(told)],
            "sample": np.concatenate([nothing, sample]),
        }

    stored = store.compute(parameters, make)
    game = Game(tuple(run.config.modalities), stored.arrays["values"], stored.arrays["sample"])
    return game, dict(stored.content)


def cohort_shapley(game: Game) -> dict[str, Any]:
    """Shapley values, their shares and interactions of pairs, with intervals; plain JSON.

    value: on the score's scale, 0.01 is a point. share: over the sum of the positive ones.
    above_chance: the score of everything minus 0.5, which the values sum to. balance: normalised
    entropy of the shares in [0, 1].
    """
    m = len(game.modalities)
    own, sample = game.shares
    above = np.zeros(1 << m)
    above[game.everything], above[0] = 1.0, -1.0
    return {
        "score": interval_json(game.score(game.everything)),
        "above_chance": interval_json(game.interval(above)),
        "modalities": [
            {
                "modality": name,
                "value": interval_json(game.interval(weights)),
                "share": interval_json(_bounded(float(own[i]), sample[i])),
                "alone": interval_json(game.score(1 << i)),
            }
            for i, (name, weights) in enumerate(
                zip(game.modalities, shapley_weights(m), strict=True)
            )
        ],
        "interactions": [
            {
                "modalities": [game.modalities[i], game.modalities[j]],
                "value": interval_json(game.interval(weights)),
            }
            for (i, j), weights in interaction_weights(m).items()
        ],
        "balance": interval_json(game.balance),
        "convention": SHAPLEY_CONVENTION,
    }


def utilisation(game: Game) -> list[dict[str, Any]]:
    """What each modality adds to all the others: score of everything minus everything but it.

    gain with its paired interval, p two-sided by the same resamples, p_holm over the modalities.
    """
    weights = last_weights(len(game.modalities))
    p = np.array([two_sided_p(row @ game.sample) for row in weights])
    adjusted = holm(p)
    return [
        {
            "modality": name,
            "without": interval_json(game.score(game.everything & ~(1 << i))),
            "gain": interval_json(game.interval(weights[i])),
            "p": number_json(float(p[i])),
            "p_holm": number_json(float(adjusted[i])),
        }
        for i, name in enumerate(game.modalities)
    ]


def score_convention(metric: str) -> str:
    """What the score counts, in a sentence."""
    return C_CONVENTION if metric == "c_index" else AUC_CONVENTION.split("; interval")[0] + "."


def _shares(values: Floats) -> Floats:
    carried = np.maximum(values, 0.0)
    total = carried.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, carried / total, np.nan), np.float64)
