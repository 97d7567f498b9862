import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_lung
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import restricted_mean_survival_time

from analysis.survival.concordance import harrell_c
from analysis.survival.contrasts import hazard_ratio, logrank, rmst, rmst_difference
from analysis.survival.data import SurvivalData

R = json.loads(
    (Path(__file__).parents[2] / "reference" / "r_survival.json").read_text(encoding="utf-8")
)
AML = {g: SurvivalData(d["time"], d["status"]) for g, d in R["aml"]["data"].items()}
KEPT, STOPPED = AML["Maintained"], AML["Nonmaintained"]


def lung() -> tuple[SurvivalData, SurvivalData, SurvivalData, pd.DataFrame]:
    table = load_lung()
    both = SurvivalData(table.time, table.status)
    men = (table.sex == 1).to_numpy()
    return both, both.subset(men), both.subset(~men), table


def test_logrank_equals_r() -> None:
    for groups, printed in (
        ([KEPT, STOPPED], R["aml"]["survdiff"]),
        (lung()[1:3], R["lung"]["survdiff_sex"]),
    ):
        test = logrank(groups)
        assert test.observed == tuple(printed["observed"])
        np.testing.assert_allclose(test.expected, printed["expected"], atol=0.051)
        assert test.chi2 == pytest.approx(printed["chisq"], abs=0.051)
        assert test.p == pytest.approx(printed["p"], rel=0.005)
        assert test.df == 1


@pytest.mark.parametrize("n_groups", [2, 3, 5])
def test_logrank_equals_lifelines(cohort, n_groups: int) -> None:
    data, _ = cohort(150, seed=n_groups)
    group = np.random.default_rng(0).integers(0, n_groups, data.n)
    theirs = multivariate_logrank_test(data.time_days, group, data.event)
    ours = logrank([data.subset(group == g) for g in range(n_groups)])
    assert ours.chi2 == pytest.approx(theirs.test_statistic, rel=1e-9)
    assert ours.p == pytest.approx(theirs.p_value, rel=1e-9)
    assert ours.df == n_groups - 1
    assert sum(ours.observed) == pytest.approx(sum(ours.expected))


def test_logrank_by_hand() -> None:
    # Times 1 (group A), 2 (group B), then B alone: E_A = 1/2, V = 1/4 from the first event only.
    test = logrank([SurvivalData([1], [1]), SurvivalData([2], [1])])
    assert test.expected == (0.5, 1.5)
    assert test.chi2 == pytest.approx(0.25 / 0.25)


def test_logrank_leaves_out_a_group_that_left_before_any_event() -> None:
    early = SurvivalData([1, 1], [0, 0])
    test = logrank([KEPT, early, STOPPED])
    assert test.df == 1
    assert test.chi2 == pytest.approx(logrank([KEPT, STOPPED]).chi2)


def test_logrank_undefined_says_why() -> None:
    nobody = logrank([SurvivalData([1, 2], [0, 0]), SurvivalData([3], [0])])
    assert math.isnan(nobody.chi2)
    assert math.isnan(nobody.p)
    assert "No patient in any group" in (nobody.undefined or "")
    apart = logrank([SurvivalData([1, 2], [0, 0]), SurvivalData([3, 4], [1, 1])])
    assert "Fewer than 2 groups" in (apart.undefined or "")
    together = logrank([SurvivalData([3], [1]), SurvivalData([3], [1])])
    assert "everybody had it" in (together.undefined or "")
    with pytest.raises(ValueError, match="at least 2 groups"):
        logrank([KEPT])


def test_rmst_by_hand() -> None:
    # S is 1 to day 2, 1/2 to day 4, then 0: area to 4 is 2 + 1 = 3, to 3 it is 2.5.
    data = SurvivalData([2, 4], [1, 1])
    assert rmst(data, 4).value == 3
    assert rmst(data, 3).value == 2.5
    assert rmst(data, 2).value == 2
    assert rmst(data, 50).value == 3
    # At the first event: area after it is 0.5 (to day 3), Greenwood term 1 / (2 * 1).
    assert rmst(data, 3).se == pytest.approx(math.sqrt(0.25 / 2))


def test_rmst_equals_r() -> None:
    for data, printed, tau in (
        (KEPT, R["aml"]["survfit"]["Maintained"], 161),
        (STOPPED, R["aml"]["survfit"]["Nonmaintained"], 161),
        (lung()[0], R["lung"]["survfit"], 1022),
    ):
        found = rmst(data, tau)
        assert found.value == pytest.approx(printed["rmean"], abs=0.051)
        assert found.se == pytest.approx(printed["se_rmean"], abs=0.051)


@pytest.mark.parametrize("tau", [50, 133.5, 300])
def test_rmst_equals_lifelines(cohort, tau: float) -> None:
    data, _ = cohort(150)
    theirs = restricted_mean_survival_time(
        KaplanMeierFitter().fit(data.time_days, data.event), t=tau
    )
    assert rmst(data, tau).value == pytest.approx(theirs, rel=1e-10)


def test_rmst_standard_error_is_what_resampling_finds(cohort) -> None:
    data, _ = cohort(300)
    rng = np.random.default_rng(0)
    values = [rmst(data.subset(rng.integers(0, 300, 300)), 200).value for _ in range(400)]
    assert rmst(data, 200).se == pytest.approx(np.std(values), rel=0.12)


def test_rmst_beyond_follow_up_is_not_invented() -> None:
    found = rmst(SurvivalData([5, 10], [1, 0]), 20)
    assert math.isnan(found.value)
    assert "ends at 10 days" in (found.undefined or "")
    assert rmst(SurvivalData([5, 10], [0, 0]), 8).value == 8
    with pytest.raises(ValueError, match="tau_days"):
        rmst(KEPT, 0)


def test_rmst_difference() -> None:
    found = rmst_difference(STOPPED, KEPT, 40)
    a, b = rmst(STOPPED, 40), rmst(KEPT, 40)
    assert found.value == a.value - b.value < 0
    assert found.se == pytest.approx(math.hypot(a.se, b.se))
    assert found.low < found.value < found.high
    turned = rmst_difference(KEPT, STOPPED, 40)
    assert (turned.value, turned.low) == pytest.approx((-found.value, -found.high))
    nothing = rmst_difference(SurvivalData([9], [0]), SurvivalData([9], [0]), 5)
    assert math.isnan(nothing.p)
    assert "no event" in (nothing.undefined or "")


def test_hazard_ratio_equals_r() -> None:
    printed = R["aml"]["coxph"]
    found = hazard_ratio(STOPPED, KEPT)
    assert found.value == pytest.approx(printed["exp_coef"], abs=0.00006)
    assert found.p == pytest.approx(printed["p"], abs=0.00006)
    half = 1.959964 * printed["se_coef"]
    assert math.log(found.high) == pytest.approx(printed["coef"] + half, abs=0.0003)
    _, men, women, _ = lung()
    printed, found = R["lung"]["coxph_sex"], hazard_ratio(women, men)
    assert found.value == pytest.approx(printed["exp_coef"], abs=0.00006)
    assert (found.low, found.high) == pytest.approx((printed["lower"], printed["upper"]), abs=6e-5)
    assert found.p == pytest.approx(printed["p"], abs=6e-6)


def test_concordance_equals_r() -> None:
    both, _, _, table = lung()
    by_sex, model = R["lung"]["coxph_sex"], R["lung"]["coxph_age_sex"]
    assert harrell_c(both, -table.sex) == pytest.approx(by_sex["concordance"], abs=0.00051)
    predictor = model["coef_age"] * table.age + model["coef_sex"] * table.sex
    assert harrell_c(both, predictor) == pytest.approx(model["concordance"], abs=0.00051)


@pytest.mark.parametrize("seed", range(4))
def test_hazard_ratio_equals_lifelines(cohort, seed: int) -> None:
    data, (risk,) = cohort(160, seed)
    high = risk > 0.3
    frame = pd.DataFrame({"t": data.time_days, "e": data.event, "x": high.astype(float)})
    theirs = CoxPHFitter().fit(frame, "t", "e").summary.loc["x"]
    ours = hazard_ratio(data.subset(high), data.subset(~high))
    assert ours.value == pytest.approx(theirs["exp(coef)"], rel=1e-5)
    assert ours.low == pytest.approx(theirs["exp(coef) lower 95%"], rel=1e-5)
    assert ours.high == pytest.approx(theirs["exp(coef) upper 95%"], rel=1e-5)
    assert ours.p == pytest.approx(theirs["p"], rel=1e-3)


def test_hazard_ratio_turns_over_with_the_groups() -> None:
    one, other = hazard_ratio(STOPPED, KEPT), hazard_ratio(KEPT, STOPPED)
    assert one.value * other.value == pytest.approx(1)
    assert one.low * other.high == pytest.approx(1)


def test_hazard_ratio_survives_a_very_large_effect() -> None:
    rng = np.random.default_rng(0)
    early = SurvivalData(rng.uniform(0, 1, 400), np.ones(400))
    late = SurvivalData(np.r_[0.0001, rng.uniform(5, 9, 399)], np.ones(400))
    found = hazard_ratio(early, late)
    assert 100 < found.value < math.inf
    assert found.undefined is None


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (SurvivalData([5, 6], [0, 0]), STOPPED, "the first group had no event"),
        (STOPPED, SurvivalData([5, 6], [0, 0]), "the second group had no event"),
        (SurvivalData([1, 2], [1, 1]), SurvivalData([3, 4], [1, 1]), "second group had no event"),
    ],
)
def test_infinite_hazard_ratio_is_named(first, second, reason: str) -> None:
    found = hazard_ratio(first, second)
    assert math.isnan(found.value)
    assert reason in (found.undefined or "")
