from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from analysis.baseline_file import read_baseline
from analysis.classification.data import probability
from analysis.classification.proportions import wilson
from analysis.evaluation import survival_data
from analysis.missing.design import design_of
from analysis.missing.lattice import edges, lattice
from analysis.missing.loss import survival_loss
from analysis.missing.monotonicity import changes, monotonicity
from analysis.missing.predictions import subset_predictions
from analysis.survival.baseline import survival_curve
from tests.analysis.classification.toys import HF, TABLES
from tests.analysis.missing.toys import by_hand, constant, first

ALL = tuple(TABLES)


def rows(answer):
    return {row["modality"]: row for row in answer["modalities"]}


def softplus(x):
    return np.log1p(np.exp(x))


def test_a_modality_that_only_pushes_up_harms_those_without_the_class(runs, cohort, store):
    """The ecg adds 1 to everybody's logit, the echo nothing, labs push down by 0.5."""
    run = by_hand(runs["three"], {"labs": constant(-0.5), "ecg": constant(1.0)}, base=0.2)
    answer = monotonicity(run, cohort, "internal", store, n_resamples=100)
    ids = cohort.subject_ids("internal", "hf")
    label = cohort.outcomes("hf", ids).label
    has = {n: cohort.availability().loc[ids, n].to_numpy() for n in ALL}
    found = rows(answer)

    more = has["ecg"] & (has["labs"] | has["echo"])
    ecg = found["ecg"]
    assert (ecg["n"], ecg["only"]) == (more.sum(), (has["ecg"] & ~more).sum())
    assert ecg["worse"] == (label[more] == 0).sum()
    assert ecg["better"] == (label[more] == 1).sum()
    assert ecg["same"] == 0
    share = wilson(ecg["worse"], ecg["n"])
    assert ecg["worse_share"] == {"value": share.value, "low": share.low, "high": share.high}
    before = 0.2 - 0.5 * has["labs"]
    sign = np.where(label == 1, -1, 1)
    change = softplus(sign * (before + 1)) - softplus(sign * before)
    assert ecg["mean_change"]["value"] == pytest.approx(change[more].mean(), abs=1e-6)
    assert ecg["loss_with"] - ecg["loss_without"] == pytest.approx(change[more].mean(), abs=1e-6)
    worst = ecg["worst"]
    assert len(worst) == 20
    gaps = [row["change"] for row in worst]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx(change[more].max(), abs=1e-6)
    for row in worst:
        at = int(np.flatnonzero(ids == row["subject_id"])[0])
        assert row["class"] == HF[0]
        assert row["has"] == [n for n in ALL if has[n][at]]
        assert row["probability_without"] == pytest.approx(1 / (1 + np.exp(before[at])), abs=1e-6)
        assert row["probability_with"] < row["probability_without"]

    echo = found["echo"]
    assert (echo["worse"], echo["better"], echo["worst"]) == (0, 0, [])
    assert echo["same"] == echo["n"] == (has["echo"] & (has["labs"] | has["ecg"])).sum()
    assert echo["mean_change"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert echo["harm"] is None
    assert echo["p"] == 1.0
    # Everybody is ranked alike, so no edge of the lattice moves.
    assert answer["lattice"]["lower"] == answer["lattice"]["beyond_chance"] == 0
    json.dumps(answer, allow_nan=False)

    table = changes(run, cohort, "internal", store, n_resamples=100)
    mine = table[table["modality"] == "ecg"]
    assert len(mine) == ecg["n"]
    assert (mine["change"] > 0).sum() == ecg["worse"]


def test_a_modality_that_misleads_is_told_from_noise(runs, cohort, store):
    """An echo that is read upside down spoils the ranks; an ecg of 1e-7 changes nothing."""
    terms = {"labs": first(0.7), "ecg": first(1e-7), "echo": first(0.7)}
    run = by_hand(runs["time"], terms)
    answer = monotonicity(run, cohort, "internal", store, n_resamples=200)
    ids = cohort.subject_ids("internal", "incident_hf")
    data = survival_data(cohort, "incident_hf", ids)
    found = subset_predictions(run, cohort, "internal", store)
    spoiled = by_hand(runs["time"], {**terms, "echo": first(-1.0)})
    other = type(store)(store.folder / "spoiled")
    bad = monotonicity(spoiled, cohort, "internal", other, n_resamples=200)
    assert rows(answer)["echo"]["mean_change"]["value"] < 0
    assert rows(bad)["echo"]["harm"] == "worse"
    assert rows(bad)["echo"]["mean_change"]["low"] > 0
    # A change below a float32's own error is no change at all.
    ecg = rows(answer)["ecg"]
    assert (ecg["worse"], ecg["better"], ecg["harm"]) == (0, 0, None)
    assert ecg["same"] == ecg["n"] > 50

    risk = found.as_they_are[:, 0]
    baseline = read_baseline(run.folder)
    without = survival_loss(data, found.of(("labs", "ecg"))[:, 0], baseline)
    change = survival_loss(data, risk, baseline) - without
    more = found.have[:, 2] & found.have[:, :2].any(axis=1)
    echo = rows(answer)["echo"]
    assert echo["n"] == more.sum()
    assert (echo["worse"], echo["better"]) == ((change[more] > 0).sum(), (change[more] < 0).sum())
    assert echo["mean_change"]["value"] == pytest.approx(change[more].mean())
    one = echo["worst"][0]
    at = int(np.flatnonzero(ids == one["subject_id"])[0])
    assert (one["time_days"], one["event"]) == (data.time_days[at], data.event[at])
    curve = survival_curve(baseline, [risk[at]], [answer["horizon_days"]])
    assert one["event_free_with"] == pytest.approx(curve[0, 0])

    spoilt = bad["lattice"]
    beyond = [e for e in spoilt["edges"] if e["difference"]["high"] < 0]
    assert spoilt["beyond_chance"] == len(beyond) > 0
    assert {e["added"] for e in beyond} <= {"echo", "labs", "ecg"}
    assert any(e["added"] == "echo" and e["modalities"] == ["labs"] for e in beyond)


@pytest.mark.parametrize(("name", "measure"), [("three", "auc"), ("time", "c_index")])
def test_edges_are_differences_of_their_ends(runs, cohort, store, name, measure):
    run = runs[name]
    made = monotonicity(run, cohort, "internal", store, n_resamples=60)["lattice"]
    found = subset_predictions(run, cohort, "internal", store)
    truth = cohort.outcomes(run.config.task.name, found.subject_ids[found.complete])

    def score(combination):
        values = found.of(combination)[found.complete]
        if measure == "auc":
            return roc_auc_score(truth.label, probability(values))
        return concordance_index(truth.time_days, -values[:, 0], truth.event)

    assert made["n"] == found.complete.sum()
    assert len(made["nodes"]) == 7
    for node in made["nodes"]:
        assert node[measure]["value"] == pytest.approx(score(node["modalities"]))
    assert len(made["edges"]) == 9
    assert len({(*e["modalities"], e["added"]) for e in made["edges"]}) == 9
    for edge in made["edges"]:
        assert edge["added"] not in edge["modalities"]
        gap = score([*edge["modalities"], edge["added"]]) - score(edge["modalities"])
        assert edge["difference"]["value"] == pytest.approx(gap)
        assert edge["p_holm"] >= edge["p"]
    values = [e["difference"]["value"] for e in made["edges"]]
    assert made["lower"] == sum(v < 0 for v in values)


def test_edges_of_seven_and_of_a_sample():
    assert len(edges(design_of(tuple("abcdefg")))) == 7 * 2**6 - 7
    sample = design_of(tuple("abcdefghi"))
    found = edges(sample)
    assert all(
        low in sample and high in sample and len(high) == len(low) + 1 for low, high in found
    )
    assert sum(high == sample.modalities for _, high in found) == 9


def test_where_nobody_is_complete_there_is_no_lattice(runs, cohort, store):
    run = runs["three"]
    found = subset_predictions(run, cohort, "internal", store)
    have = found.have.copy()
    have[have[:, 0], 2] = False  # who has labs has no echo
    answer = lattice(run, cohort, replace(found, have=have), 20, 0)
    assert answer["nodes"] == answer["edges"] == []
    assert answer["undefined"] == "No patient has all of the run's modalities."
