from __future__ import annotations

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from analysis.classification.data import probability
from analysis.classification.evaluation import evaluate_labels
from analysis.evaluation import evaluate
from analysis.missing import design
from analysis.missing.drop import draws, drop_curve, left_over
from analysis.missing.predictions import subset_predictions
from tests.analysis.classification.toys import TABLES
from tests.analysis.missing.toys import by_hand, first

ALL = tuple(TABLES)


def have_and_drawn(n=400, m=4, repeats=30):
    rng = np.random.default_rng(1)
    have = rng.random((n, m)) < 0.7
    return have, rng.random((repeats, n, m))


def test_nobody_loses_everything_and_nothing_comes_back():
    have, drawn = have_and_drawn()
    before = np.broadcast_to(have, drawn.shape)
    for chance in (0.0, 0.2, 0.5, 0.9, 1.0):
        kept = left_over(have, drawn, chance)
        assert not (kept & ~before).any()  # a lower chance keeps at least as much
        assert (kept.any(axis=2) == have.any(axis=1)).all()
        before = kept
    assert (left_over(have, drawn, 0.0) == have).all()
    assert (left_over(have, drawn, 1.0).sum(axis=2) == have.any(axis=1)).all()


def test_the_chance_is_kept_but_for_the_last_one():
    """Of m present ones m p are lost on average, less the p^m cases in which one is given back."""
    have, drawn = have_and_drawn()
    for chance in (0.3, 0.7):
        kept = left_over(have, drawn, chance).sum(axis=2)
        own = have.sum(axis=1)
        expected = np.where(own > 0, own * (1 - chance) + chance**own, 0)
        error = np.sqrt(kept.var() / kept.size)
        assert kept.mean() == pytest.approx(expected.mean(), abs=5 * error)


def test_draws_belong_to_the_cohorts_modalities():
    one, two = draws(20, ["a", "b", "c"], 5, 0), draws(20, ["a", "b", "c"], 5, 0)
    assert all(np.array_equal(one[n], two[n]) for n in "abc")
    assert not np.array_equal(one["a"], one["b"])
    assert one["c"].shape == (5, 20)


def test_nothing_dropped_is_the_plain_score(runs, cohort, store):
    given = {"repeats": 6, "n_resamples": 60}
    curve = drop_curve(runs["time"], cohort, "internal", store, **given)
    (row,) = evaluate([runs["time"]], cohort, "internal", store, n_resamples=60)["runs"]
    c = curve["measures"]["c_index"]
    assert c["plain"] == row["c_index"]
    assert c["mean"][0] == c["low"][0] == c["high"][0] == pytest.approx(row["c_index"]["value"])
    curve = drop_curve(runs["three"], cohort, "internal", store, **given)
    (row,) = evaluate_labels([runs["three"]], cohort, "internal", store, 60)["runs"]
    for measure in ("auc", "accuracy"):
        assert curve["measures"][measure]["plain"] == row[measure]
        assert curve["measures"][measure]["mean"][0] == pytest.approx(row[measure]["value"])
    assert curve["cutoff"]["value"] == row["cutoff"]["value"]
    assert curve["told"][0] == pytest.approx(
        cohort.availability()
        .loc[cohort.subject_ids("internal", "hf"), list(ALL)]
        .sum(axis=1)
        .mean()
    )


def test_against_one_repeat_at_a_time(runs, cohort, store):
    """Slow twin: for each repeat and patient the combination that is left."""
    chances = (0.0, 0.4, 0.9)
    for name, measure in (("time", "c_index"), ("three", "auc")):
        run = runs[name]
        curve = drop_curve(
            run, cohort, "internal", store, chances=chances, repeats=4, n_resamples=20, seed=7
        )
        found = subset_predictions(run, cohort, "internal", store)
        drawn = draws(len(found.subject_ids), list(cohort.spec.modalities), 4, 7)
        truth = cohort.outcomes(run.config.task.name, found.subject_ids)
        there = cohort.availability()
        for at, chance in enumerate(chances):
            scores = []
            for repeat in range(4):
                values = []
                for i, subject in enumerate(found.subject_ids):
                    has = [n for n in ALL if there.loc[subject, n]]
                    kept = [n for n in has if drawn[n][repeat, i] >= chance]
                    if not kept and has:
                        kept = [max(has, key=lambda n: drawn[n][repeat, i])]
                    values.append(found.of(kept)[i])
                values = np.array(values)
                if measure == "auc":
                    scores.append(roc_auc_score(truth.label, probability(values)))
                else:
                    scores.append(concordance_index(truth.time_days, -values[:, 0], truth.event))
            assert curve["measures"][measure]["mean"][at] == pytest.approx(np.mean(scores))
            assert curve["measures"][measure]["high"][at] <= max(scores) + 1e-12


def test_an_ignored_modality_may_go(runs, cohort, store):
    """A run that reads labs alone answers from them alone, and falls as they are dropped."""
    run = by_hand(runs["time"], {"labs": first()})
    curve = drop_curve(run, cohort, "internal", store, repeats=10, n_resamples=20)
    found = subset_predictions(run, cohort, "internal", store)
    assert np.array_equal(found.of(("labs",)), found.as_they_are)
    mean = curve["measures"]["c_index"]["mean"]
    assert mean[0] > 0.6
    assert mean[-1] < mean[0] - 0.02


def test_a_sampled_design_gives_the_same_curve(runs, cohort, store, tmp_path, monkeypatch):
    given = {"repeats": 3, "n_resamples": 20, "chances": (0.0, 0.5)}
    exact = drop_curve(runs["time"], cohort, "internal", store, **given)
    monkeypatch.setattr(design, "MOST_ALL", 2)
    other = drop_curve(runs["time"], cohort, "internal", type(store)(tmp_path / "two"), **given)
    np.testing.assert_allclose(
        other["measures"]["c_index"]["mean"], exact["measures"]["c_index"]["mean"], atol=2e-3
    )
