"""Shares in each patient's own prediction."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.attribution.case import open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.target import LogRisk
from analysis.evaluation import cutoffs_of
from analysis.imbalance.shares import patient_shares, share_summary, shares_of_run
from analysis.missing.predictions import subset_predictions
from tests.analysis.classification.toys import TABLES
from tests.analysis.missing.toys import by_hand, first

ALL = tuple(TABLES)


def test_it_is_the_ledger_of_every_patient(runs, cohort, store):
    run = runs["time"]
    found = patient_shares(subset_predictions(run, cohort, "internal", store))
    lacking = int(np.flatnonzero(found.have.sum(axis=1) == 2)[0])
    whole = int(np.flatnonzero(found.have.all(axis=1))[0])
    for row in (whole, lacking):
        case = open_case(run, cohort, int(found.subject_ids[row]))
        ledger = modality_ledger(case, LogRisk())
        for at, name in enumerate(ALL):
            share = ledger.share(name)
            if share is None:
                assert found.phi[at, row, 0] == 0
                assert np.isnan(found.shares[row, at])
            else:
                assert found.phi[at, row, 0] == pytest.approx(float(share[0]), abs=2e-5)
        assert np.nansum(found.shares[row]) == pytest.approx(1.0)


def test_a_sum_is_shared_by_its_terms_and_the_ignored_modality_has_none(runs, cohort, store):
    run = by_hand(runs["time"], {"labs": first(3.0), "ecg": first(1.0)})
    found = patient_shares(subset_predictions(run, cohort, "internal", store))
    assert np.nanmax(found.shares[:, 2]) == 0.0
    both = found.have[:, 0] & found.have[:, 1]
    labs, ecg = np.abs(found.phi[0, both, 0]), np.abs(found.phi[1, both, 0])
    assert found.shares[both, 0] == pytest.approx(labs / (labs + ecg))


def test_of_several_classes_only_differences_count(runs, cohort, store):
    found = subset_predictions(runs["grade"], cohort, "internal", store)
    same = type(found)(**{**vars_of(found), "values": found.values + 3 * found.values[..., :1]})
    moved = patient_shares(found).shares
    assert patient_shares(same).shares == pytest.approx(moved, nan_ok=True)


def vars_of(found):
    names = ("run", "run_hash", "cohort", "design", "subject_ids", "have", "values")
    return {name: getattr(found, name) for name in names}


def test_in_whom_a_modality_matters(runs, cohort, store):
    run = runs["time"]
    found, words = shares_of_run(run, cohort, "internal", store)
    cut = cutoffs_of(run, cohort, store, "median").values[0]
    assert f"{cut:.3f}" in words
    predicted = subset_predictions(run, cohort, "internal", store)
    high = predicted.as_they_are[:, 0] > cut
    for at, name in enumerate(ALL):
        without = predicted.of([n for n in ALL if n != name])[:, 0] > cut
        alone = predicted.of([name])[:, 0] > cut
        counted = found.have[:, at] & (found.have.sum(axis=1) > 1)
        assert (found.changes[:, at] == (counted & (without != high))).all()
        assert (found.decides[:, at] == (found.changes[:, at] & (alone == high))).all()
    answer = share_summary(run, cohort, "internal", store, n_resamples=50)
    assert answer["n_counted"] == int((found.have.sum(axis=1) > 1).sum())
    for at, row in enumerate(answer["modalities"]):
        own = found.shares[:, at]
        assert row["mean"]["value"] == pytest.approx(np.nanmean(own))
        assert row["mean"]["low"] <= row["mean"]["value"] <= row["mean"]["high"]
        assert row["quantiles"]["0.5"] == pytest.approx(np.nanmedian(own))
        assert row["changes"]["hits"] == int(found.changes[:, at].sum())
        assert row["changes"]["value"] == pytest.approx(row["changes"]["hits"] / row["n"])
