from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import analysis.similar as similar_module
from analysis.attribution.case import AttributionError, open_case
from analysis.cohort.cohort import Cohort
from analysis.predict import Predictions, predict_stored
from analysis.similar import similar_patients, standardised_distance
from analysis.store import ResultStore
from models.checkpoint import load_run


def planted(monkeypatch, fused, *, subject=99, mine=None, known=None, kind="survival"):
    """Patients 0..n-1 with these fused vectors; the case is `subject` at `mine`."""
    n = len(fused)
    ids = np.arange(n, dtype=np.int64)
    known = np.ones(n, bool) if known is None else known
    predictions = Predictions(
        "toy", "0", "f", ids, ids[:, None] / 10, {"a": known}, {}, {}, fused.astype(np.float32)
    )
    monkeypatch.setattr(similar_module, "predict_stored", lambda *a: predictions)
    subjects = pd.DataFrame(
        {"age_years": 50.0 + ids, "sex": "F", "site": "A"}, index=pd.Index(ids, name="subject_id")
    )

    def outcomes(task, asked):
        asked = np.asarray(asked)
        return SimpleNamespace(time_days=asked * 2.0, event=asked % 2 == 0, label=asked % 3)

    cohort = SimpleNamespace(
        spec=SimpleNamespace(name="toys"),
        fingerprint="f",
        subjects=subjects,
        outcomes=outcomes,
        subject_ids=lambda split, task: ids,
    )
    task = SimpleNamespace(name="death", kind=kind)
    mine = fused[subject] if mine is None else mine
    return SimpleNamespace(
        run=SimpleNamespace(config=SimpleNamespace(task=task)),
        cohort=cohort,
        subject_id=subject,
        output=SimpleNamespace(fused=torch.tensor(mine, dtype=torch.float32)[None]),
    )


def clusters(n=60, seed=0):
    """Patients n of cluster n % 3, whose centres differ in the first (small) dimension only."""
    rng = np.random.default_rng(seed)
    fused = rng.normal(0, [0.01, 100.0, 0.0], (n, 3))
    fused[:, 0] += np.arange(n) % 3
    fused[:, 1] = rng.permutation(n)  # large numbers, no structure
    return fused


def test_planted_clusters_are_found_whatever_the_scale(monkeypatch):
    fused = clusters()
    fused[:, 1] /= 10  # sd about 1.7, still far above 0.8 of the first
    case = planted(monkeypatch, fused, mine=np.array([1.0, 3.0, 0.0]))
    frame = similar_patients(case, None, k=6)
    assert set(frame["subject_id"] % 3) == {1}
    sd = fused.std(axis=0)[:2]
    z = (fused[:, :2] - [1.0, 3.0]) / sd
    expected = np.sort(np.sqrt((z**2).mean(axis=1)))[:6]
    np.testing.assert_allclose(frame["distance"], expected, rtol=1e-5)
    np.testing.assert_allclose(frame["similarity"], 1 / (1 + expected), rtol=1e-5)


def test_neighbours_come_with_what_happened_to_them(monkeypatch):
    frame = similar_patients(planted(monkeypatch, clusters(), mine=np.zeros(3)), None, k=4)
    np.testing.assert_allclose(frame["time_days"], frame["subject_id"] * 2)
    assert list(frame["event"]) == list(frame["subject_id"] % 2 == 0)
    np.testing.assert_allclose(frame["log_risk"], frame["subject_id"] / 10)
    np.testing.assert_allclose(frame["age_years"], frame["subject_id"] + 50)
    assert list(frame.columns) == [
        "subject_id",
        "distance",
        "similarity",
        "log_risk",
        "time_days",
        "event",
        "age_years",
        "sex",
        "site",
    ]
    classes = planted(monkeypatch, clusters(), mine=np.zeros(3), kind="classification")
    frame = similar_patients(classes, None, k=4)
    assert list(frame["label"]) == list(frame["subject_id"] % 3)
    assert frame["log_risk"].isna().all()


def test_the_patient_is_no_neighbour_of_their_own(monkeypatch):
    fused = clusters()
    frame = similar_patients(planted(monkeypatch, fused, subject=7), None, k=59)
    assert 7 not in set(frame["subject_id"])
    assert frame["distance"].is_monotonic_increasing
    # In another cohort the same number is another patient.
    case = planted(monkeypatch, fused, subject=7)
    other = SimpleNamespace(**{**vars(case.cohort), "fingerprint": "g"})
    frame = similar_patients(case, None, k=1, among=other)
    assert frame["subject_id"][0] == 7
    assert frame["distance"][0] == pytest.approx(0, abs=1e-4)


def test_patients_whom_the_run_knows_nothing_of_are_left_out(monkeypatch):
    known = np.arange(60) % 2 == 0
    case = planted(monkeypatch, clusters(), mine=np.zeros(3), known=known)
    assert set(similar_patients(case, None, k=30)["subject_id"] % 2) == {0}
    with pytest.raises(AttributionError, match="has 30 other patients"):
        similar_patients(case, None, k=31)


def test_too_few_patients_are_one_sentence(monkeypatch):
    case = planted(monkeypatch, clusters(5), subject=2)
    with pytest.raises(AttributionError, match=r"has 4 other patients of split 'train'.*the 8"):
        similar_patients(case, None)


def test_dimensions_that_do_not_vary_are_left_out():
    many = np.array([[1.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(standardised_distance(np.array([5.0, 0.0]), many), [0, 2])
    np.testing.assert_allclose(standardised_distance(np.array([5.0]), np.ones((3, 1))), 0)


def test_of_a_shipped_run(tiny_workspace, tmp_path):
    run = load_run(tiny_workspace / "runs" / "pe-late-onehot")
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    store = ResultStore(tmp_path)
    found = predict_stored(run, cohort, "train", store)
    case = open_case(run, cohort, int(found.subject_ids[0]))
    k = min(5, len(found.subject_ids) - 2)
    frame = similar_patients(case, store, k)
    fused = found.fused[1:].astype(float)
    sd = fused.std(axis=0)
    keep = sd > 1e-6 * np.abs(fused).max()
    distance = np.sqrt((((fused - found.fused[0]) / np.where(keep, sd, 1))[:, keep] ** 2).mean(1))
    assert list(frame["subject_id"]) == list(found.subject_ids[1:][np.argsort(distance)[:k]])
    assert frame["log_risk"].iloc[0] == found.risk[1:][np.argsort(distance)[0]]
    assert not any(m.training for m in run.model.modules())
