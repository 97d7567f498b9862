from __future__ import annotations

import json

import numpy as np
import pytest

from analysis.attribution.case import AttributionError, open_case
from analysis.baseline_file import read_baseline
from analysis.classification.data import probability
from analysis.cohort.schema import CohortError
from analysis.missing.combinations import by_combination
from analysis.missing.drop import drop_curve
from analysis.missing.patient import patient_combinations
from analysis.missing.predictions import subset_predictions
from analysis.missing.report import missing_report
from analysis.survival.baseline import survival_curve
from tests.analysis.classification.toys import HF, TABLES

ALL = tuple(TABLES)


def test_one_patient_is_a_row_of_everybodys(runs, cohort, store):
    run = runs["time"]
    found = subset_predictions(run, cohort, "internal", store)
    lacking = int(np.flatnonzero(found.have.sum(axis=1) == 2)[0])
    for row in (int(np.flatnonzero(found.complete)[0]), lacking):
        subject = int(found.subject_ids[row])
        case = open_case(run, cohort, subject)
        baseline = read_baseline(run.folder)
        answer = patient_combinations(case, baseline, 400.0)
        has = [n for n, h in zip(ALL, found.have[row], strict=True) if h]
        assert answer["present"] == has
        assert answer["absent"] == [n for n in ALL if n not in has]
        assert len(answer["rows"]) == 2 ** len(has)
        assert answer["rows"][0]["modalities"] == has
        assert answer["rows"][-1] == {**answer["rows"][-1], "modalities": [], "hidden": has}
        sizes = [len(r["modalities"]) for r in answer["rows"]]
        assert sizes == sorted(sizes, reverse=True)
        for one in answer["rows"]:
            risk = found.of(one["modalities"])[row, 0]
            assert one["log_risk"] == pytest.approx(risk, abs=2e-5)
            assert one["relative_log_risk"] == pytest.approx(
                one["log_risk"] - baseline.reference_log_risk
            )
            curve = survival_curve(baseline, [one["log_risk"]], [400.0])[0, 0]
            assert one["event_free"] == pytest.approx(curve)
            assert sorted([*one["modalities"], *one["hidden"]]) == sorted(has)
        json.dumps(answer, allow_nan=False)


def test_one_patient_of_a_class_task(runs, cohort, store):
    run = runs["three"]
    found = subset_predictions(run, cohort, "internal", store)
    row = int(np.flatnonzero(found.complete)[3])
    answer = patient_combinations(open_case(run, cohort, int(found.subject_ids[row])), None)
    assert answer["horizon_days"] is None
    for one in answer["rows"]:
        p = probability(found.of(one["modalities"])[row : row + 1])[0]
        assert one["probabilities"] == pytest.approx({HF[0]: 1 - p, HF[1]: p}, abs=1e-5)


def test_the_report_is_its_parts(runs, cohort, store):
    run = runs["three"]
    subject = int(cohort.subject_ids("internal", "hf")[0])
    given = {"n_resamples": 40}
    said = []
    answer = missing_report(
        run, cohort, "internal", store, patient=subject, repeats=5, **given,
        progress=lambda *told: said.append(told),
    )  # fmt: skip
    assert said[-1] == ("Predicting with fewer modalities", 120, 120)
    assert answer["combinations"] == by_combination(run, cohort, "internal", store, **given)
    assert answer["everyone"]["population"] == "everyone"
    assert answer["drop"] == drop_curve(run, cohort, "internal", store, repeats=5, **given)
    assert answer["design"] == "All 7 combinations of 3 modalities."
    assert answer["patient"]["patient"] == subject
    assert answer["notes"] == []
    json.dumps(answer, allow_nan=False)


def test_what_cannot_be_answered_is_refused(runs, cohort, store):
    with pytest.raises(CohortError, match="reads labs alone"):
        missing_report(runs["one"], cohort, "internal", store)
    with pytest.raises(CohortError, match="no split 'extern'"):
        missing_report(runs["three"], cohort, "extern", store)
    with pytest.raises(AttributionError, match="no patient 99999"):
        missing_report(runs["three"], cohort, "internal", store, patient=99999)
    assert not store.folder.exists()
