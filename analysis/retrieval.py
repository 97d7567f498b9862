"""Cross-modal retrieval: does a patient's scan find the same patient's laboratory values?

Every patient who has both modalities asks once: the embeddings of the other modality are ordered
by cosine similarity, and the patient's own one is the single right answer. Its rank gives
    LRAP      mean of 1 / rank (label ranking average precision with one relevant answer)
    Recall@k  share of patients whose own one is among the first k
Of equally similar candidates the right one is counted last, as scikit-learn counts ties, so
that a model which maps everybody to one point finds nobody.

How hard this is depends on the number of candidates. With `pool_size` P the right one stands
among P - 1 others drawn without replacement; rather than by drawing pools, every number is the
exact mean over all of them (the number of nearer candidates drawn is hypergeometric).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from analysis.classification.evaluation import interval_json
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import N_RESAMPLES
from analysis.features import Ids, Progress
from analysis.predict import Predictions, predict_stored
from analysis.store import ResultStore
from analysis.survival.comparison import LEVEL, ConfidenceInterval
from analysis.survival.concordance import resample_batches
from models.checkpoint import Run

Floats = npt.NDArray[np.float64]
Stage = Literal["before", "after"]
RECALLS = (1, 2, 5)
_ROWS = 1024
_TIE = 1e-12


@dataclass(frozen=True)
class Retrieval:
    """How well `query` finds `target` among n patients who have both.

    pool: candidates per question, the right one among them. lrap in (0, 1]; recall: {k: in
    [0, 1]}; median_rank: least rank within which half of the right ones are, 1 is best. chance:
    the same of a random order: lrap, median_rank and recall. Intervals are percentiles over
    resampled patients who ask; the candidates stay.
    """

    query: str
    target: str
    n: int
    pool: int
    lrap: ConfidenceInterval
    recall: dict[int, ConfidenceInterval]
    median_rank: ConfidenceInterval
    chance_lrap: float
    chance_recall: dict[int, float]
    chance_median_rank: float


def ranked(
    query: npt.ArrayLike, candidates: npt.ArrayLike, subject_ids: npt.ArrayLike
) -> tuple[Ids, Floats]:
    """Subjects by falling cosine similarity to a query, and the similarities in [-1, 1].

    query (D,), candidates (n, D), subject_ids (n,). Equal similarities keep their order. An
    embedding of zeros is similar to nothing (0). Raises ValueError for shapes that do not fit.
    """
    ids = np.asarray(subject_ids, np.int64)
    one, many = np.asarray(query, np.float64), np.asarray(candidates, np.float64)
    if one.ndim != 1 or many.shape != (len(ids), len(one)):
        raise ValueError(
            f"The query has shape {one.shape} and the candidates {many.shape}; they need (D,) and "
            f"({len(ids)}, D)."
        )
    similarity = _unit(many) @ _unit(one[None])[0]
    order = np.argsort(-similarity, kind="stable")
    return ids[order], similarity[order]


@dataclass(frozen=True)
class Candidates:
    """What one patient's query finds: subject_ids by falling similarity, and at which rank its own
    stands (1 is first).
    """

    subject_ids: Ids
    similarity: Floats
    own_rank: int


def candidates(predicted: Predictions, subject_id: int, query: str, target: str) -> Candidates:
    """A patient's candidates of another modality, among those of `complete`.

    Raises ValueError when the patient is not one of them.
    """
    rows = np.flatnonzero(_complete(predicted))
    ids = predicted.subject_ids[rows]
    if subject_id not in ids:
        raise ValueError(f"patient {subject_id} lacks one of the modalities; choose another.")
    at = int(rows[int(np.flatnonzero(ids == subject_id)[0])])
    order, similarity = ranked(predicted.after[query][at], predicted.after[target][rows], ids)
    return Candidates(order, similarity, int(np.flatnonzero(order == subject_id)[0]) + 1)


def complete(predicted: Predictions) -> Ids:
    """(n,) the patients who have all of the run's modalities."""
    return predicted.subject_ids[_complete(predicted)]


def _complete(predicted: Predictions) -> npt.NDArray[np.bool_]:
    return np.asarray(np.stack(list(predicted.present.values())).all(axis=0), bool)


def ranks(query: npt.ArrayLike, target: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """(n,) rank of each patient's own target embedding among all n, 1 the most similar.

    query, target: (n, D), row i of the same patient. Candidates as similar as the right one
    stand before it. Raises ValueError for shapes that differ or missing values.
    """
    nearer, tied = standing(query, target)
    return nearer + tied


def standing(
    query: npt.ArrayLike, target: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(n,) candidates more similar to each patient's query than their own target, and (n,) as
    similar, their own among them. Arguments and errors as of `ranks`.
    """
    asks, answers = np.asarray(query, np.float64), np.asarray(target, np.float64)
    if asks.shape != answers.shape or asks.ndim != 2 or not asks.size:
        raise ValueError(
            "Retrieval needs two embeddings of one width a patient; they have shapes "
            f"{asks.shape} and {answers.shape}."
        )
    if not (np.isfinite(asks).all() and np.isfinite(answers).all()):
        raise ValueError("An embedding is missing or infinite, so it has no similarity.")
    asks, answers = _unit(asks), _unit(answers)
    nearer, tied = np.empty((2, len(asks)), np.int64)
    for first in range(0, len(asks), _ROWS):
        rows = np.arange(first, min(first + _ROWS, len(asks)))
        similarity = asks[rows] @ answers.T
        own = similarity[np.arange(len(rows)), rows][:, None]
        # A product of equal vectors may differ in the last bits from place to place.
        nearer[rows] = (similarity > own + _TIE).sum(axis=1)
        tied[rows] = (similarity >= own - _TIE).sum(axis=1) - nearer[rows]
    return nearer, tied


def retrieve(
    query: npt.ArrayLike,
    target: npt.ArrayLike,
    pool_size: int | None = None,
    *,
    names: tuple[str, str] = ("query", "target"),
    recalls: Sequence[int] = RECALLS,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Retrieval:
    """Retrieval of (n, D) target embeddings by query embeddings, row i of the same patient.

    pool_size: candidates per question, from 1 to n; all n patients if None. Recalls beyond the
    pool are left out. Raises ValueError for a pool that does not fit.
    """
    found = ranks(query, target)
    n = len(found)
    pool = n if pool_size is None else int(pool_size)
    if not 1 <= pool <= n:
        raise ValueError(
            f"pool_size {pool} does not fit: {n} patients have both modalities, so a pool holds "
            f"1 to {n} of them."
        )
    kept = [k for k in recalls if k <= pool]
    within = None if pool == n else _within(found, n, pool)
    per_patient = _per_patient(found, within, kept)

    def measure(weights: Floats) -> Floats:
        """(b, 2 + recalls) of weights (b, n) that sum to 1: LRAP, median rank, Recall@k."""
        means = weights @ per_patient
        return np.column_stack([means[:, 0], _median(weights, found, within), means[:, 1:]])

    samples = [measure(weights / n) for weights in resample_batches(n, n_resamples, seed)]
    value = measure(np.full((1, n), 1 / n))[0]
    low, high = np.quantile(np.concatenate(samples), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    intervals = [
        ConfidenceInterval(float(v), float(a), float(b))
        for v, a, b in zip(value, low, high, strict=True)
    ]
    return Retrieval(
        query=names[0],
        target=names[1],
        n=n,
        pool=pool,
        lrap=intervals[0],
        median_rank=intervals[1],
        recall=dict(zip(kept, intervals[2:], strict=True)),
        chance_lrap=float((1 / np.arange(1, pool + 1)).mean()),
        chance_recall={k: k / pool for k in kept},
        chance_median_rank=float((pool + 1) // 2),
    )


def cross_modal(
    predictions: Predictions,
    pool_size: int | None = None,
    *,
    stage: Stage = "after",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[Retrieval, ...]:
    """Retrieval in every ordered pair of modalities, over the patients who have all of them.

    The same patients in every direction, so that directions compare. Raises ValueError when the
    run has fewer than two modalities with embeddings, or fewer than two such patients.
    """
    embeddings = getattr(predictions, stage)
    names = [name for name in predictions.present if name in embeddings]
    if len(names) < 2:
        raise ValueError(
            f"Run '{predictions.run}' has embeddings {stage} alignment of "
            f"{', '.join(names) or 'no modality'}; retrieval needs two."
        )
    both = np.stack([predictions.present[name] for name in names]).all(axis=0)
    if both.sum() < 2:
        raise ValueError(
            f"{int(both.sum())} patients have all of {', '.join(names)}; retrieval needs two."
        )
    return tuple(
        retrieve(
            embeddings[query][both],
            embeddings[target][both],
            pool_size,
            names=(query, target),
            n_resamples=n_resamples,
            seed=seed,
        )
        for query, target in permutations(names, 2)
    )


def evaluate_retrieval(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    pool_size: int | None = None,
    *,
    stage: Stage = "after",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Retrieval in every direction as plain JSON, stored. Raises CohortError where there is none.

    Needs embeddings of one width: a strategy that aligns modalities gives them.
    """
    parameters = {
        "method": "retrieval",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "pool_size": pool_size,
        "stage": stage,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        predicted = predict_stored(run, cohort, split, store, progress)
        try:
            found = cross_modal(
                predicted, pool_size, stage=stage, n_resamples=n_resamples, seed=seed
            )
        except ValueError as error:
            raise CohortError(f"cohort '{cohort.spec.name}', split '{split}': {error}") from error
        return {
            "run": run.config.name,
            "title": run.config.title,
            "strategy": run.config.strategy.name,
            "cohort": cohort.spec.name,
            "split": split,
            "stage": stage,
            "modalities": {m: entry.title for m, entry in run.config.modalities.items()},
            "n": found[0].n,
            "n_incomplete": len(predicted.subject_ids) - found[0].n,
            "pool": found[0].pool,
            "directions": [_json(one) for one in found],
            "resamples": {"n": n_resamples, "seed": seed, "units": "patients who ask"},
        }, {}

    return dict(store.compute(parameters, make).content)


def _json(found: Retrieval) -> dict[str, Any]:
    return {
        "query": found.query,
        "target": found.target,
        "lrap": interval_json(found.lrap),
        "recall": {str(k): interval_json(r) for k, r in found.recall.items()},
        "median_rank": interval_json(found.median_rank),
        "chance": {
            "lrap": found.chance_lrap,
            "recall": {str(k): r for k, r in found.chance_recall.items()},
            "median_rank": found.chance_median_rank,
        },
    }


def _within(found: npt.NDArray[np.int64], n: int, pool: int) -> Floats:
    """(n, pool) chance that the rank in a pool is at most k, k from 1.

    Of the n - 1 others rank - 1 are nearer, and pool - 1 of the others are drawn.
    """
    rank, back = np.unique(found, return_inverse=True)
    table = hypergeom.cdf(np.arange(pool)[None, :], n - 1, rank[:, None] - 1, pool - 1)
    return np.asarray(table[back.ravel()], np.float64)


def _per_patient(
    found: npt.NDArray[np.int64], within: Floats | None, recalls: Sequence[int]
) -> Floats:
    """(n, 1 + recalls) mean 1 / rank of each patient, and the chance to be among the first k."""
    if within is None:
        return np.column_stack([1 / found, *(found <= k for k in recalls)])
    inverse = np.diff(within, axis=1, prepend=0.0) @ (1 / np.arange(1, within.shape[1] + 1))
    return np.column_stack([inverse, *(within[:, k - 1] for k in recalls)])


def _median(weights: Floats, found: npt.NDArray[np.int64], within: Floats | None) -> Floats:
    """(b,) least rank that at least half of the weight (b, n) reaches."""
    half = 0.5 - 1e-9
    if within is not None:
        return np.asarray(1 + (weights @ within < half).sum(axis=1), np.float64)
    order = np.argsort(found, kind="stable")
    first = (np.cumsum(weights[:, order], axis=1) < half).sum(axis=1)
    return np.asarray(found[order][first], np.float64)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), np.float64)
