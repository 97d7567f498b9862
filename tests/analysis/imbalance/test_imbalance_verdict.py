"""The verdict is right where the truth is known, and says what its rules say."""

from __future__ import annotations

import json

import pytest

from analysis.cohort.schema import CohortError
from analysis.imbalance.across import balance_point, unimodal_of
from analysis.imbalance.report import imbalance_report
from analysis.imbalance.verdict import RULES
from tests.analysis.missing.toys import by_hand, first

GIVEN = {"n_resamples": 100, "repeats": 20}


def test_a_run_without_the_gradient_of_a_modality_has_collapsed(collapsed, runs, cohort, store):
    report = imbalance_report(collapsed, cohort, "internal", store, [runs["echo"]], **GIVEN)
    verdict = report["verdict"]
    assert verdict["verdict"] == "collapse", verdict["words"]
    assert verdict["modality"] == "echo"
    assert verdict["words"].startswith(
        "Collapse suspected: the run hardly uses Echo, which alone reaches C 0."
    )
    row = verdict["modalities"][1]
    assert row["informative_by"] == "unimodal run"
    gap = report["alone"]["modalities"][1]["gap"]
    assert gap["low"] > 0
    assert report["point"]["gain"]["value"] < 0
    json.dumps(report, allow_nan=False)


def test_without_a_unimodal_run_a_collapse_cannot_be_told(collapsed, cohort, store):
    verdict = imbalance_report(collapsed, cohort, "internal", store, **GIVEN)["verdict"]
    assert verdict["verdict"] != "collapse"
    assert verdict["modalities"][1]["informative_by"] == "told alone"


def test_two_terms_that_both_tell_are_balanced(collapsed, cohort, store):
    run = by_hand(collapsed, {"labs": first(0.7), "echo": first(1.0)})
    report = imbalance_report(run, cohort, "train", store, **GIVEN)
    assert report["verdict"]["verdict"] == "balanced", report["verdict"]["words"]
    assert report["shapley"]["balance"]["value"] > 0.8
    assert "Collapse not suspected" in report["verdict"]["words"]


def test_the_only_term_dominates(runs, cohort, store):
    run = by_hand(runs["time"], {"echo": first(1.0)})
    report = imbalance_report(run, cohort, "internal", store, **GIVEN)
    verdict = report["verdict"]
    assert (verdict["verdict"], verdict["modality"]) == ("dominant", "echo"), verdict["words"]
    assert verdict["words"].startswith("Echo-dominant: Echo carries 100% (95% CI 100 to 100) of")
    assert verdict["rules"] == RULES


def test_a_run_that_says_nothing_is_no_better_than_chance(runs, cohort, store):
    report = imbalance_report(by_hand(runs["time"], {}), cohort, "internal", store, **GIVEN)
    assert report["verdict"]["verdict"] == "chance"
    assert report["shapley"]["balance"]["value"] is None
    json.dumps(report, allow_nan=False)


def test_the_point_is_the_reports(runs, cohort, store):
    run = runs["time"]
    unimodal = unimodal_of(run, list(runs.values()))
    assert [one.config.name for one in unimodal] == ["labs", "echo"]
    report = imbalance_report(run, cohort, "internal", store, unimodal, **GIVEN)
    point = balance_point(run, cohort, "internal", store, unimodal, n_resamples=100)
    assert report["point"] == point
    assert point["balance"] == report["shapley"]["balance"]
    assert point["gain"] == report["alone"]["best_single"]["gain"]


def test_one_modality_has_no_balance(runs, cohort, store):
    with pytest.raises(CohortError, match="reads labs alone"):
        imbalance_report(runs["labs"], cohort, "internal", store)
