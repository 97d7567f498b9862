import json
import math
from pathlib import Path

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.datasets import load_lung

from analysis.survival.curves import kaplan_meier, life_table, number_at_risk
from analysis.survival.data import SurvivalData

R = json.loads(
    (Path(__file__).parents[2] / "reference" / "r_survival.json").read_text(encoding="utf-8")
)


def test_by_hand() -> None:
    # 5 patients: 1 of 5 dies at 2, 2 of 4 at 4 (one censored there too), the last censored at 9.
    curve = kaplan_meier(SurvivalData([2, 4, 4, 4, 9], [1, 1, 1, 0, 0]))
    assert curve.time_days.tolist() == [0, 2, 4, 9]
    np.testing.assert_allclose(curve.survival, [1, 0.8, 0.4, 0.4])
    assert curve.at_risk.tolist() == [5, 5, 4, 1]
    assert curve.events.tolist() == [0, 1, 2, 0]
    assert curve.censored.tolist() == [0, 0, 1, 1]
    assert curve.censor_times.tolist() == [4, 9]
    assert curve.median_days == 4
    np.testing.assert_allclose(curve.at([0, 1.9, 2, 8.9]), [1, 1, 0.8, 0.4])
    assert math.isnan(curve.at([9.1])[0])


@pytest.mark.parametrize("seed", range(4))
def test_equals_lifelines(cohort, seed: int) -> None:
    data, _ = cohort(120, seed)
    theirs = KaplanMeierFitter().fit(data.time_days, data.event)
    ours = kaplan_meier(data)
    np.testing.assert_array_equal(ours.time_days, theirs.timeline)
    np.testing.assert_allclose(
        ours.survival, theirs.survival_function_.to_numpy()[:, 0], atol=1e-12
    )
    bounds = theirs.confidence_interval_.to_numpy()
    alive = (ours.survival > 0) & (ours.survival < 1)
    np.testing.assert_allclose(ours.low[alive], bounds[alive, 0], atol=1e-9)
    np.testing.assert_allclose(ours.high[alive], bounds[alive, 1], atol=1e-9)
    assert ours.median_days == theirs.median_survival_time_
    table = theirs.event_table.iloc[1:]
    np.testing.assert_array_equal(ours.at_risk[1:], table.at_risk)
    np.testing.assert_array_equal(ours.events[1:], table.observed)
    np.testing.assert_array_equal(ours.censored[1:], table.censored)


@pytest.mark.parametrize("group", ["Maintained", "Nonmaintained"])
def test_equals_r_on_aml(group: str) -> None:
    given, printed = R["aml"]["data"][group], R["aml"]["survfit"][group]
    data = SurvivalData(given["time"], given["status"])
    curve, day = kaplan_meier(data), life_table(data).events > 0
    np.testing.assert_allclose(curve.at(printed["time"]), printed["survival"], atol=0.00051)
    assert life_table(data).at_risk[day].tolist() == printed["n_risk"]
    assert curve.median_days == printed["median"]
    if "std_err" in printed:
        error = curve.survival[1:] * np.sqrt(np.cumsum(life_table(data).greenwood()))
        np.testing.assert_allclose(error[day], printed["std_err"], atol=0.00006)


def test_equals_r_on_lung() -> None:
    lung = load_lung()
    curve = kaplan_meier(SurvivalData(lung.time, lung.status))
    printed = R["lung"]["survfit"]
    assert (curve.n, curve.n_events) == (printed["n"], printed["events"])
    assert curve.median_days == printed["median"]


def test_horizon_hides_what_came_later_and_changes_nothing_before(cohort) -> None:
    data, _ = cohort(150, 3)
    whole, cut = kaplan_meier(data), kaplan_meier(data, horizon_days=200)
    before = whole.time_days < 200
    np.testing.assert_array_equal(cut.survival[:-1], whole.survival[before])
    np.testing.assert_array_equal(cut.low[:-1], whole.low[before])
    assert cut.time_days[-1] == 200
    assert cut.survival[-1] == whole.at([200])[0]
    # Still being followed at the horizon is not a loss: no tick mark, no count.
    assert cut.censored.sum() == cut.censor_times.size == (~data.event[data.time_days <= 200]).sum()
    assert cut.n_events == data.event[data.time_days <= 200].sum()


def test_everybody_dies() -> None:
    curve = kaplan_meier(SurvivalData([1, 2], [1, 1]))
    assert curve.survival.tolist() == [1, 0.5, 0]
    assert np.isnan(curve.low[-1])
    assert 0 <= curve.low[1] < 0.5 < curve.high[1] <= 1
    assert curve.median_days == 1
    assert curve.at([99])[0] == 0


@pytest.mark.parametrize("n", [1, 4])
def test_all_censored_stays_at_one_and_says_so(n: int) -> None:
    curve = kaplan_meier(SurvivalData(np.arange(n) + 1, np.zeros(n)))
    assert (curve.survival == 1).all()
    assert (curve.low == 1).all()
    assert math.isnan(curve.median_days)
    assert f"None of the {n} patients" in (curve.undefined or "")


def test_no_event_within_the_horizon_names_the_horizon() -> None:
    curve = kaplan_meier(SurvivalData([5, 9], [1, 1]), horizon_days=3)
    assert "within 3 days" in (curve.undefined or "")
    assert curve.at_risk.tolist() == [2, 2]


def test_leaving_on_day_zero() -> None:
    curve = kaplan_meier(SurvivalData([0, 0, 3, 4], [1, 0, 1, 0]))
    assert curve.time_days.tolist() == [0, 3, 4]
    np.testing.assert_allclose(curve.survival, [0.75, 0.375, 0.375])


def test_number_at_risk_counts_just_before_the_tick(cohort) -> None:
    table = number_at_risk(SurvivalData([2, 4, 4, 9], [1, 1, 0, 0]), [0, 2, 4, 4.5, 10])
    assert table.at_risk.tolist() == [4, 4, 3, 1, 0]
    assert table.events.tolist() == [0, 0, 1, 2, 2]
    assert table.censored.tolist() == [0, 0, 0, 1, 2]
    data, _ = cohort(100)
    table = number_at_risk(data, np.arange(0, 1000, 31))
    assert (table.at_risk + table.events + table.censored == 100).all()
    curve = kaplan_meier(data)
    np.testing.assert_array_equal(number_at_risk(data, curve.time_days).at_risk, curve.at_risk)


def test_ticks_are_checked() -> None:
    with pytest.raises(ValueError, match="ticks_days"):
        number_at_risk(SurvivalData([1], [1]), [-1])
