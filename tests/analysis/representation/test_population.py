"""Whose embeddings, the report made of them, one patient's rows, and the table of places."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr, percentileofscore

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.predict import predict_stored
from analysis.representation.patient import patient_rows, rows_json, scaled
from analysis.representation.population import outcome_groups, outcome_words, population
from analysis.representation.projection import Method
from analysis.representation.report import METRICS, representation
from analysis.representation.stored import (
    coordinates,
    drawable,
    projection_key,
    stored_projection,
)
from analysis.store import ResultStore
from models.checkpoint import load_run
from models.fusion.base import STRATEGIES
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("representation")


@pytest.fixture(scope="module")
def cohort(home):
    return Cohort.open(write_cohort(home / "hf", lacking=0.15))


@pytest.fixture(scope="module")
def store(home):
    return ResultStore(home / "results")


@pytest.fixture(scope="module")
def run(cohort, home):
    return train(cohort.folder, home / "contrastive", strategy="contrastive")


@pytest.fixture(scope="module")
def people(run, cohort, store):
    return population(run, cohort, "internal", store, training=cohort)


@pytest.fixture(scope="module")
def risky(cohort, store, home):
    """A survival run that aligns nothing."""
    made = train(cohort.folder, home / "late", task="incident_hf", strategy="late")
    return population(made, cohort, "internal", store, training=cohort)


# ---------------------------------------------------------------- whose


def test_patients_and_points_are_those_of_the_split(people, run, cohort, store):
    predicted = predict_stored(run, cohort, "internal", store)
    known = predicted.known
    assert people.people["subject_id"].tolist() == predicted.subject_ids[known].tolist()
    assert people.n_all == len(known)
    assert people.n_unread == int((~known).sum())
    assert people.n_points == sum(int(p.sum()) for p in predicted.present.values())
    for name, there in predicted.present.items():
        rows = people.stages["after"].vectors[name]
        np.testing.assert_array_equal(np.isfinite(rows).all(axis=1), there[known])
        expected = predicted.after[name][known & there]
        np.testing.assert_allclose(rows[there[known]], expected, atol=1e-6)  # it gives unit vectors
    chance = 1 / (1 + np.exp(-predicted.values[known, 0]))
    np.testing.assert_allclose(people.people["prediction"], chance)
    assert people.people["percentile"].isna().all()
    assert set(people.people["outcome"]) == {"no heart failure", "heart failure"}


def test_all_is_every_split_with_an_outcome(run, cohort, store):
    found = population(run, cohort, "all", store)
    assert found.splits == ("train", "tuning", "internal", "external")
    assert found.n_all == len(cohort.subject_ids(None, "hf"))
    assert found.people["split"].value_counts().to_dict().keys() == set(found.splits)


def test_above_the_cap_a_sample_of_whole_patients(run, cohort, store, people):
    found = population(run, cohort, "internal", store, most_points=150)
    assert 130 < found.n_points <= 160
    assert found.n_all == people.n_all
    assert set(found.people["subject_id"]) < set(people.people["subject_id"])
    shares = [p.people["outcome"].eq("heart failure").mean() for p in (found, people)]
    assert shares[0] == pytest.approx(shares[1], abs=1 / len(found.people) + 1e-9)
    # Every modality of a drawn patient is there.
    first = found.people["subject_id"][0]
    at = people.people.index[people.people["subject_id"] == first][0]
    for name, there in found.stages["before"].present.items():
        assert there[0] == people.stages["before"].present[name][at]


def test_risks_are_compared_with_the_training_patients(risky, cohort, store):
    training = predict_stored(risky.run, cohort, "train", store).risk
    expected = [percentileofscore(training, r, "mean") for r in risky.people["prediction"][:9]]
    np.testing.assert_allclose(risky.people["percentile"][:9], expected, atol=0.7)
    assert risky.compared_with == "the run's training patients"
    alone = population(risky.run, cohort, "internal", store)
    assert alone.compared_with == "the patients shown"
    assert alone.people["percentile"].mean() == pytest.approx(50, abs=1)


def test_outcome_groups_leave_out_whom_nobody_followed():
    event, time = [True, True, False, False, False], [10, 400, 365, 100, 365.0]
    assert outcome_groups(event, time, 365).tolist() == [1, 0, 0, -1, 0]
    assert outcome_groups(event, time, None).tolist() == [1, 1, 0, 0, 0]


def test_a_split_without_patients_is_one_sentence(run, cohort, store):
    with pytest.raises(CohortError, match="there is no split 'nowhere'"):
        population(run, cohort, "nowhere", store)
    fake = run.config.task.model_copy(update={"name": "incident_hf"})
    other = replace(run, config=run.config.model_copy(update={"task": fake}))
    with pytest.raises(CohortError, match="survival in cohort 'hf'"):
        population(other, cohort, "internal", store)


# ---------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def answer(people, store):
    return representation(people, store, n_resamples=60)


def test_every_measure_before_after_and_its_change(answer, people):
    json.dumps(answer, allow_nan=False)
    assert answer["measures"][0]["name"] == "gap"
    assert {row["name"] for row in answer["measures"]} == set(METRICS)
    for row in answer["measures"]:
        for stage in ("before", "after"):
            told = row[stage]
            assert told["low"] <= told["value"] <= told["high"]
            parts = [part[stage]["value"] for part in row["parts"]]
            assert told["value"] == pytest.approx(np.mean(parts))
        change = row["change"]
        assert change["value"] == pytest.approx(row["after"]["value"] - row["before"]["value"])
        assert change["low"] <= change["value"] <= change["high"]
    assert answer["n"] == len(people.people)
    assert answer["alignment_loss"] == "InfoNCE"
    spectrum = answer["spectrum"]
    sigma = next(row for row in answer["measures"] if row["name"] == "sigma1")
    for stage in ("before", "after"):
        assert sum(spectrum[stage]) == pytest.approx(1)
        assert spectrum[stage][0] == pytest.approx(sigma[stage]["value"])
    assert spectrum["n"] == len(people.stages["after"].having(list(people.titles)))


def test_the_report_is_found_again(answer, people, store, monkeypatch):
    monkeypatch.setattr("analysis.representation.report._row", None)
    assert representation(people, store, n_resamples=60) == answer


def test_a_strategy_that_aligns_nothing_shows_what_there_is(risky, store):
    found = representation(risky, store, n_resamples=20)
    assert found["stages"] == ["before"]
    assert "predicts by itself" in found["after_is"]
    for row in found["measures"]:
        assert row["before"]["value"] is not None
        assert row["after"] is None
        assert row["change"] is None
    assert list(stored_projection(risky, Method.TSNE, store).places) == ["before"]


def test_one_modality_says_what_it_cannot(cohort, store, home):
    alone = train(cohort.folder, home / "labs", strategy="unimodal", modalities=("labs",))
    found = representation(population(alone, cohort, "internal", store), store, n_resamples=20)
    told = {row["name"]: row["before"] for row in found["measures"]}
    assert told["gap"]["why"] == "it takes two modalities."
    assert told["gap"]["value"] is None
    assert told["uniformity"]["value"] < 0
    assert found["spectrum"] is None


def test_widths_that_differ_are_said_and_the_rest_is_shown(people, store):
    """Before alignment modalities may have widths of their own."""
    before = {n: v if n != "ecg" else v[:, :30] for n, v in people.raw.before.items()}
    wide = replace(
        people.stages["before"],
        vectors={
            n: v if n != "ecg" else v[:, :30] for n, v in people.stages["before"].vectors.items()
        },
    )
    odd = replace(
        people,
        raw=replace(people.raw, before=before),
        stages={**people.stages, "before": wide},
        seed=99,
    )
    found = representation(odd, store, n_resamples=20)
    told = {row["name"]: row for row in found["measures"]}
    assert "different widths here (labs 64, ecg 30, echo 64)" in told["gap"]["before"]["why"]
    assert told["gap"]["after"]["value"] is not None
    assert told["gap"]["change"] is None
    assert told["cka"]["change"]["value"] is not None
    drawn, why = drawable(odd)
    assert list(drawn) == ["after"]
    assert "different widths" in why["before"]
    subject = int(odd.people["subject_id"][0])
    rows = patient_rows(odd, subject, "as_given")
    assert rows["before"].correlation == {}
    json.dumps(rows_json(rows), allow_nan=False)


def test_every_strategy_says_what_after_is():
    for name in STRATEGIES:
        words = STRATEGIES.get(name).alignment
        assert words.__doc__
        assert name in ("tgmm",) or words is not STRATEGIES.get(name).__mro__[1].alignment


def test_the_order_of_modalities_is_the_runs_fresh_or_stored(run, cohort, tmp_path):
    """A file gives arrays by the alphabet; points would belong to other patients."""
    assert list(run.config.modalities) != sorted(run.config.modalities)
    store = ResultStore(tmp_path)
    fresh, again = (population(run, cohort, "external", store) for _ in range(2))
    for stage in ("before", "after"):
        assert list(again.stages[stage].vectors) == list(run.config.modalities)
        first, second = fresh.stages[stage].points, again.stages[stage].points
        np.testing.assert_array_equal(first.vectors, second.vectors)


def test_a_shipped_run_has_the_same_points_in_both_stages(tiny_workspace, tmp_path):
    """A strategy may name its modalities in another order after fusion than before."""
    run = load_run(tiny_workspace / "runs" / "pe-cross-attention-onehot")
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    store = ResultStore(tmp_path)
    found = population(run, cohort, "all", store, training=cohort)
    assert list(found.raw.before) != list(found.raw.after)
    drawn, _ = drawable(found)
    first, second = drawn["before"].points, drawn["after"].points
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.modality, second.modality)
    assert list(drawn["after"].vectors) == list(run.config.modalities)


# ---------------------------------------------------------------- places


def test_places_are_told_with_whom_they_are_of(people, store):
    made = stored_projection(people, Method.TSNE, store, seed=1)
    assert store.has(projection_key(people, Method.TSNE, 1))
    table = coordinates(people, made)
    assert len(table) == people.n_points
    some = table[table["subject_id"] == people.people["subject_id"][5]]
    present = [n for n, p in people.stages["after"].present.items() if p[5]]
    assert some["modality"].tolist() == present
    np.testing.assert_array_equal(table[["x_after", "y_after"]], made.places["after"])
    last = people.stages["after"].points
    at = int(np.flatnonzero(last.rows == 5)[-1])
    assert table["subject_id"][at] == people.people["subject_id"][5]


def test_too_few_points_are_one_sentence(run, cohort, store):
    few = population(run, cohort, "internal", store, most_points=6)
    drawn, why = drawable(few)
    assert drawn == {}
    assert "a picture takes 10 embeddings; there are" in why["after"]
    with pytest.raises(CohortError, match="Choose other patients"):
        stored_projection(few, Method.TSNE, store)


# ---------------------------------------------------------------- one patient


@pytest.mark.parametrize("scale", ["as_given", "standardised"])
def test_one_patients_rows_and_their_correlation(people, scale):
    at = int(people.stages["after"].having(["labs", "ecg", "echo"])[3])
    subject = int(people.people["subject_id"][at])
    found = patient_rows(people, subject, scale)["after"]
    there = people.raw.present
    rows = {}
    for name, given in people.raw.after.items():
        every = given.astype(float)
        if scale == "as_given":
            rows[name] = every / np.sqrt((every**2).mean(axis=1, keepdims=True))
        else:
            mine = every[there[name]]
            rows[name] = (every - mine.mean(0)) / mine.std(0)
        np.testing.assert_allclose(found.rows[name], rows[name][at], rtol=1e-5, atol=1e-7)
    pairs = {("labs", "ecg"), ("labs", "echo"), ("ecg", "echo")}
    assert set(found.correlation) == pairs
    for (a, b), r in found.correlation.items():
        assert r == pytest.approx(pearsonr(rows[a][at], rows[b][at]).statistic)
    others = []
    for a, b in [*pairs, *((b, a) for a, b in pairs)]:
        rest = np.flatnonzero(there[b] & (np.arange(len(there[b])) != at))
        others += [pearsonr(rows[a][at], rows[b][j]).statistic for j in rest]
    assert found.others == pytest.approx(np.mean(others))
    assert found.mean == pytest.approx(np.mean(list(found.correlation.values())))


def test_an_absent_modality_has_no_row(people):
    at = int(np.flatnonzero(~people.stages["after"].present["ecg"])[0])
    found = patient_rows(people, int(people.people["subject_id"][at]), "as_given")
    assert "ecg" not in found["after"].rows
    assert all("ecg" not in pair for pair in found["after"].correlation)
    with pytest.raises(ValueError, match="patient 987654 is not among"):
        patient_rows(people, 987654, "as_given")


def test_what_does_not_vary_becomes_zero():
    rows = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(scaled(rows, "standardised"), [[-1, 0], [1, 0]])
    assert np.isfinite(scaled(np.zeros((2, 3)), "as_given")).all()


def test_words_for_groups(risky, people):
    assert outcome_words(risky.run) == {0: "no event seen", 1: "event"}
    assert outcome_words(people.run) == {0: "no heart failure", 1: "heart failure"}
