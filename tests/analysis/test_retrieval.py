from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.predict import predict
from analysis.retrieval import cross_modal, evaluate_retrieval, ranked, ranks, retrieve
from analysis.store import ResultStore
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(80, 6))
    return [shared + 0.9 * rng.normal(size=shared.shape) for _ in range(2)]


def cosine(query, target):
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (query, target)]
    return unit[0] @ unit[1].T


def test_retrieval_equals_scikit_learn(pair):
    found = retrieve(*pair, n_resamples=50)
    similarity = cosine(*pair)
    own = np.eye(80, dtype=int)
    expected = label_ranking_average_precision_score(own, similarity)
    assert found.lrap.value == pytest.approx(expected)
    for k, hit in found.recall.items():
        assert hit.value == pytest.approx(top_k_accuracy_score(np.arange(80), similarity, k=k))
        assert hit.low <= hit.value <= hit.high
    assert found.lrap.low < found.lrap.value < found.lrap.high
    assert found.median_rank.value in {np.floor(m := np.median(ranks(*pair))), np.ceil(m)}


def test_three_patients_by_hand():
    """Similarities are cosines: -1 for patient 3, whom both others are nearer to."""
    query = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, -0.2]])
    target = np.array([[2.0, 0.0], [0.0, 3.0], [5.0, 1.0]])
    assert ranks(query, target).tolist() == [1, 3, 3]
    target[2] = [5.0, -9.0]
    assert ranks(query, target).tolist() == [1, 3, 2]
    found = retrieve([[1.0, 0], [1, 0], [1, 0]], [[1.0, 0], [1, 1], [0, 1]], n_resamples=5)
    assert found.lrap.value == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert {k: r.value for k, r in found.recall.items()} == pytest.approx({1: 1 / 3, 2: 2 / 3})
    assert found.median_rank.value == 2
    assert found.chance_lrap == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_ties_are_counted_against_the_model():
    """One point for everybody finds nobody, as scikit-learn counts it, too."""
    same = np.ones((5, 3))
    assert ranks(same, 2 * same).tolist() == [5] * 5
    expected = label_ranking_average_precision_score(np.eye(5, dtype=int), np.ones((5, 5)))
    assert retrieve(same, same, n_resamples=3).lrap.value == pytest.approx(expected)
    assert ranks(np.zeros((3, 2)), np.eye(3)[:, :2]).tolist() == [3, 3, 3]


@pytest.mark.parametrize("pool", [1, 2, 4, 7])
def test_a_pool_is_the_exact_mean_over_all_pools(pool):
    """All pools of 7 patients written out, against the hypergeometric answer."""
    rng = np.random.default_rng(2)
    query, target = rng.normal(size=(2, 7, 3))
    similarity = cosine(query, target)
    places = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        places += [
            1 + sum(similarity[i, j] >= similarity[i, i] for j in drawn)
            for drawn in combinations(others, pool - 1)
        ]
    places = np.array(places)
    found = retrieve(query, target, pool, n_resamples=3)
    assert found.lrap.value == pytest.approx((1 / places).mean())
    assert set(found.recall) == {k for k in (1, 2, 5) if k <= pool}
    for k, hit in found.recall.items():
        assert hit.value == pytest.approx((places <= k).mean())
    reached = [(places <= k).mean() >= 0.5 for k in range(1, pool + 1)]
    assert found.median_rank.value == 1 + reached.index(True)


def test_random_embeddings_reach_the_stated_chance():
    rng = np.random.default_rng(5)
    query, target = rng.normal(size=(2, 1500, 20))
    for pool in (4, 40):
        found = retrieve(query, target, pool, n_resamples=200)
        assert found.lrap.low < found.chance_lrap < found.lrap.high
        assert found.recall[1].low < found.chance_recall[1] < found.recall[1].high
        assert found.chance_recall[2] == 2 / pool
        assert found.median_rank.value == pytest.approx(found.chance_median_rank, abs=1)


def test_intervals_have_the_width_of_a_proportion(pair):
    """Recall@1 is a share of patients: its bootstrap width is the binomial one."""
    found = retrieve(*pair, n_resamples=2000).recall[1]
    error = np.sqrt(found.value * (1 - found.value) / 80)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_the_answer_does_not_depend_on_order_or_scale(pair):
    query, target = pair
    order = np.random.default_rng(1).permutation(80)
    first = retrieve(query, target, 10, n_resamples=2)
    again = retrieve(query[order] * 3, target[order] * 0.1, 10, n_resamples=2)
    assert again.lrap.value == pytest.approx(first.lrap.value)


def test_candidates_are_ranked_by_cosine():
    ids, similarity = ranked(
        [1.0, 0.0], [[0.0, 2.0], [3.0, 3.0], [-1.0, 0.0], [0.0, 0.0]], [7, 8, 9, 4]
    )
    assert ids.tolist() == [8, 7, 4, 9]
    assert similarity == pytest.approx([np.sqrt(0.5), 0, 0, -1])


def test_wrong_input_is_refused(pair):
    query, target = pair
    with pytest.raises(ValueError, match="pool_size 81 does not fit: 80 patients"):
        retrieve(query, target, 81)
    with pytest.raises(ValueError, match="one width"):
        retrieve(query, target[:, :3])
    with pytest.raises(ValueError, match="missing or infinite"):
        retrieve(query, np.full_like(query, np.nan))
    with pytest.raises(ValueError, match=r"they need \(D,\)"):
        ranked(query, target, np.arange(80))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort.open(write_cohort(tmp_path_factory.mktemp("cohorts") / "hf", lacking=0.2))


def test_every_direction_of_a_run_on_the_same_patients(cohort, tmp_path):
    run = train(cohort.folder, tmp_path / "contrastive", strategy="contrastive")
    predicted = predict(run, cohort, cohort.subject_ids("internal", "hf"))
    found = cross_modal(predicted, 10, n_resamples=20)
    directions = {(r.query, r.target) for r in found}
    assert len(directions) == len(found) == 6
    everything = np.stack(list(predicted.present.values())).all(axis=0)
    assert {r.n for r in found} == {int(everything.sum())}
    assert everything.sum() < len(everything)
    first = found[0]
    direct = retrieve(
        predicted.after[first.query][everything],
        predicted.after[first.target][everything],
        10,
        n_resamples=20,
    )
    assert direct.lrap == first.lrap
    store = ResultStore(tmp_path / "results")
    answer = evaluate_retrieval(run, cohort, "internal", store, 10, n_resamples=20)
    assert answer["directions"][0]["lrap"]["value"] == first.lrap.value
    assert answer["n"] + answer["n_incomplete"] == len(everything)
    json.dumps(answer, allow_nan=False)
    assert evaluate_retrieval(run, cohort, "internal", store, 10, n_resamples=20) == answer
    with pytest.raises(CohortError, match="pool_size 1000 does not fit"):
        evaluate_retrieval(run, cohort, "internal", store, 1000)
    alone = replace(predicted, after={"labs": predicted.after["labs"]})
    with pytest.raises(ValueError, match="retrieval needs two"):
        cross_modal(alone)
