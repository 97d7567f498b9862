from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.attribution.case import Subject, open_case
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.outlook import ClassOutlook, SurvivalOutlook, observed, outlook, percentile
from analysis.predict import predict_stored
from analysis.store import ResultStore
from analysis.survival.baseline import BaselineHazard, survival_curve
from models.checkpoint import load_run

BASE = BaselineHazard(np.array([10.0, 20.0, 30.0]), np.array([0.1, 0.4, 0.9]), 0.5)
SUBJECT = Subject("toy", "0" * 16, "f" * 16, 1)


def case(*prediction: float, kind: str = "survival", horizon=None, classes=()):
    task = SimpleNamespace(kind=kind, horizon_days=horizon, classes=classes)
    run = SimpleNamespace(config=SimpleNamespace(task=task))
    return SimpleNamespace(run=run, prediction=torch.tensor([prediction]), subject=SUBJECT)


def test_the_patients_curve_by_hand():
    made = outlook(case(0.5 + np.log(2)), BASE, [0.0, 0.5, 1.0], 20.0)
    assert isinstance(made, SurvivalOutlook)
    assert made.relative == pytest.approx(np.log(2), abs=1e-6)
    assert list(made.times_days) == [0, 10, 20, 30]
    # Twice the hazard of the reference: exp(-2 H0).
    np.testing.assert_allclose(made.survival, np.exp([0, -0.2, -0.8, -1.8]), rtol=1e-6)
    assert made.at_horizon == pytest.approx(np.exp(-0.8), rel=1e-6)
    assert made.median_days == 20.0
    np.testing.assert_allclose(made.median, np.exp([0, -0.1, -0.4, -0.9]), rtol=1e-6)


def test_percentile_counts_ties_half():
    risks = np.array([0.0, 1.0, 1.0, 1.0, 5.0])
    assert percentile(1.0, risks) == pytest.approx(100 * (1 + 1.5) / 5)
    assert percentile(1.0 + 1e-8, risks) == pytest.approx(50.0)
    assert percentile(-1.0, risks) == 0.0
    assert percentile(6.0, risks) == 100.0
    assert percentile(5.0, risks) == 90.0
    assert percentile(3.0, risks) == 80.0


@pytest.mark.parametrize("n", [1, 2, 11, 200])
def test_the_band_is_the_quantile_of_all_curves(n):
    risks = np.random.default_rng(0).normal(0.4, 1.2, n)
    made = outlook(case(0.3), BASE, risks)
    curves = survival_curve(BASE, risks, made.times_days)
    np.testing.assert_allclose(made.low, np.quantile(curves, 0.1, axis=0), atol=1e-12)
    np.testing.assert_allclose(made.high, np.quantile(curves, 0.9, axis=0), atol=1e-12)
    assert (made.low <= made.median + 1e-12).all()
    assert (made.median <= made.high + 1e-12).all()
    assert made.n_training == n


def test_nothing_is_said_beyond_the_follow_up():
    made = outlook(case(-3.0), BASE, [0.0], 31.0)
    assert np.isnan(made.at_horizon)
    assert made.horizon_days == 31.0
    assert made.median_days is None
    assert made.times_days[-1] == 30.0
    assert np.isfinite(made.survival).all()
    # Without a horizon: the task's own, else the end of the follow-up.
    assert outlook(case(0.5, horizon=10.0), BASE, [0.0]).at_horizon == pytest.approx(np.exp(-0.1))
    assert outlook(case(0.5), BASE, [0.0]).at_horizon == pytest.approx(np.exp(-0.9))


def test_a_day_zero_in_the_baseline_is_not_doubled():
    base = BaselineHazard(np.array([0.0, 5.0]), np.array([0.2, 0.3]))
    made = outlook(case(0.0), base, [0.0])
    assert list(made.times_days) == [0, 5]
    np.testing.assert_allclose(made.survival, np.exp([-0.2, -0.3]), rtol=1e-6)


def test_classes_get_probabilities():
    three = outlook(case(0.0, np.log(2), np.log(5), kind="classification"), None, None)
    assert isinstance(three, ClassOutlook)
    assert dict(three.probabilities) == pytest.approx(
        {"class 0": 1 / 8, "class 1": 2 / 8, "class 2": 5 / 8}
    )
    two = outlook(case(np.log(3), kind="classification", classes=("no", "yes")), None, None)
    assert dict(two.probabilities) == pytest.approx({"no": 0.25, "yes": 0.75})


def test_missing_pieces_are_refused():
    with pytest.raises(ValueError, match="needs the run's baseline hazard"):
        outlook(case(0.0), None, [1.0])
    with pytest.raises(ValueError, match="at least one patient"):
        outlook(case(0.0), BASE, [])
    with pytest.raises(ValueError, match="finite"):
        outlook(case(0.0), BASE, [np.nan])


def test_without_the_training_cohort_there_is_a_curve_but_no_standing():
    found = outlook(case(0.3), BASE, None, 20.0)
    assert found.n_training == 0
    assert np.isnan([found.percentile, *found.median, *found.low, *found.high]).all()
    assert found.at_horizon == pytest.approx(np.exp(-0.4 * np.exp(0.3 - 0.5)))


def test_outcomes_are_read_apart():
    class Found:
        def __init__(self, n=1, label=None):
            self.n, self.time_days, self.event = n, np.array([12.0]), np.array([True])
            if label is not None:
                self.time_days = self.event = None
                self.label = np.array([label])

        def __len__(self):
            return self.n

    spec = SimpleNamespace(task=lambda name: SimpleNamespace(classes=("no", "yes")))
    for found, expected in (
        (Found(), (12.0, True, None)),
        (Found(label=1), (None, None, "yes")),
    ):
        cohort = SimpleNamespace(spec=spec, outcomes=lambda task, ids, found=found: found)
        made = observed(cohort, "death", 1)
        assert (made.time_days, made.event, made.label) == expected
    nobody = SimpleNamespace(spec=spec, outcomes=lambda task, ids: Found(0))
    assert observed(nobody, "death", 1) is None


def test_of_a_shipped_run(tiny_workspace, tmp_path):
    run = load_run(tiny_workspace / "runs" / "pe-late-onehot")
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    base = read_baseline(run.folder)
    found = predict_stored(run, cohort, "train", ResultStore(tmp_path))
    at = int(np.argsort(found.risk)[len(found.risk) // 2])
    opened = open_case(run, cohort, int(found.subject_ids[at]))
    made = outlook(opened, base, found.risk)
    below = np.sum(found.risk < found.risk[at])
    assert made.percentile == pytest.approx(100 * (below + 0.5) / len(found.risk))
    assert made.log_risk == pytest.approx(found.risk[at], abs=1e-5)
    np.testing.assert_allclose(
        made.survival, survival_curve(base, [made.log_risk], made.times_days)[0]
    )
    truth = observed(cohort, "mortality", opened.subject_id)
    row = cohort.outcomes("mortality", [opened.subject_id])
    assert (truth.time_days, truth.event) == (row.time_days[0], row.event[0])
