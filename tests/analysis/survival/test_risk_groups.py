import math

import numpy as np
import pytest

from analysis.survival.contrasts import hazard_ratio, logrank, rmst, rmst_difference
from analysis.survival.curves import kaplan_meier
from analysis.survival.data import SurvivalData
from analysis.survival.groups import RiskCutoffs, assign, km_split, learn_cutoffs


def test_rules_by_hand() -> None:
    risk = np.arange(1, 13)
    assert learn_cutoffs(risk, "median").values == (6.5,)
    assert learn_cutoffs(risk, "quartiles").values == (3.75, 6.5, 9.25)
    thirds = learn_cutoffs(risk, "tertiles")
    assert np.bincount(assign(thirds, risk)).tolist() == [4, 4, 4]
    assert (thirds.rule, thirds.learned_on, thirds.n) == ("tertiles", "train", 12)
    assert thirds.names == ("Low risk", "Intermediate risk", "High risk")
    fixed = learn_cutoffs(risk, 2.5, learned_on="literature")
    assert (fixed.rule, fixed.values, fixed.names) == ("fixed", (2.5,), ("Low risk", "High risk"))


def test_a_risk_on_the_cutoff_is_in_the_lower_group() -> None:
    cutoffs = RiskCutoffs("fixed", (0.5,), "train", 10)
    assert assign(cutoffs, [0.4, 0.5, 0.6]).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("risk", "rule", "message"),
    [
        ([1, 2], "deciles", "Unknown rule 'deciles'; use median, tertiles, quartiles"),
        ([], "median", "at least one risk"),
        ([1, math.nan], "median", "missing"),
        ([3, 3, 3], "median", "too few distinct"),
        ([1, 1, 1, 1, 9], "tertiles", "too few distinct"),
        ([1, 2], math.inf, "finite"),
    ],
)
def test_impossible_cutoffs_are_refused(risk: list, rule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn_cutoffs(risk, rule)
    with pytest.raises(ValueError, match="without a risk"):
        assign(RiskCutoffs("fixed", (0.5,), "train", 1), [math.nan])


def test_split_is_made_of_the_parts(cohort) -> None:
    _, (train_risk,) = cohort(300, seed=1)
    data, (risk,) = cohort(240, seed=2)
    cutoffs = learn_cutoffs(train_risk, "tertiles")
    split = km_split(data, risk, cutoffs, horizon_days=250, ticks_days=[0, 100, 200])
    groups = [data.subset(assign(cutoffs, risk) == g).censored_at(250) for g in range(3)]
    assert [g.n for g in split.groups] == [g.n for g in groups]
    assert [g.n_events for g in split.groups] == [g.n_events for g in groups]
    assert split.logrank == logrank(groups)
    assert split.tau_days == 250
    assert split.groups[1].rmst == rmst(groups[1], 250)
    assert split.rmst_difference == rmst_difference(groups[2], groups[0], 250)
    assert split.hazard_ratio == hazard_ratio(groups[2], groups[0])
    np.testing.assert_array_equal(split.groups[2].curve.survival, kaplan_meier(groups[2]).survival)
    assert split.groups[0].at_risk.at_risk[0] == groups[0].n
    assert split.cutoffs is cutoffs
    # The score was simulated to predict: the highest risk group must do worse.
    assert split.rmst_difference.high < 0
    assert split.hazard_ratio.low > 1
    assert split.logrank.p < 0.001


def test_without_horizon_tau_is_where_the_shortest_group_ends() -> None:
    data = SurvivalData([1, 4, 7, 2, 30, 50], [1, 1, 0, 1, 1, 0])
    split = km_split(data, [9, 9, 9, 1, 1, 1], RiskCutoffs("fixed", (5,), "train", 6))
    assert split.tau_days == 7
    assert split.groups[0].at_risk.ticks_days.tolist() == [0, 10, 20, 30, 40, 50]


def test_nothing_after_the_horizon_reaches_a_number(cohort) -> None:
    data, (risk,) = cohort(150)
    later = SurvivalData(
        np.where(data.time_days > 100, data.time_days * 3, data.time_days),
        np.where(data.time_days > 100, ~data.event, data.event),
    )
    cutoffs = learn_cutoffs(risk)
    ticks = [0, 50, 100]
    one, other = (km_split(d, risk, cutoffs, 100, ticks) for d in (data, later))
    assert one.logrank == other.logrank
    assert one.hazard_ratio == other.hazard_ratio
    assert one.rmst_difference == other.rmst_difference
    np.testing.assert_array_equal(one.groups[1].curve.survival, other.groups[1].curve.survival)


def test_an_empty_group_stays_visible_and_explains_itself() -> None:
    data = SurvivalData([1, 2, 3, 4], [1, 0, 1, 0])
    split = km_split(data, [0, 0, 1, 1], RiskCutoffs("tertiles", (-5, 5), "train", 100))
    assert [g.n for g in split.groups] == [0, 4, 0]
    assert split.groups[0].curve is None
    assert "one risk group" in (split.logrank.undefined or "")
    assert "highest and the lowest risk group is empty" in (split.hazard_ratio.undefined or "")
    assert "empty" in (split.rmst_difference.undefined or "")
    assert math.isnan(split.hazard_ratio.value)


def test_groups_without_events_and_a_single_patient() -> None:
    split = km_split(
        SurvivalData([3, 4], [0, 0]), [0, 1], RiskCutoffs("median", (0.5,), "train", 2)
    )
    assert "No patient in any group" in (split.logrank.undefined or "")
    assert "no event" in (split.hazard_ratio.undefined or "")
    assert split.groups[1].n == 1
    at_start = km_split(
        SurvivalData([0, 4], [1, 1]), [1, 0], RiskCutoffs("median", (0.5,), "train", 2)
    )
    assert "day 0" in (at_start.rmst_difference.undefined or "")
