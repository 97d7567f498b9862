import numpy as np
import pytest
from scipy.stats import chi2
from sksurv.metrics import concordance_index_censored

from analysis.survival.comparison import ConfidenceInterval
from analysis.survival.concordance import resample_weights
from analysis.survival.data import SurvivalData
from analysis.survival.subgroups import Subgroup, drop, heterogeneity, subgroup_c


def test_scores_of_levels_and_their_copies(cohort) -> None:
    data, risks = cohort(200, seed=3, scores=2)
    inside = np.arange(200) < 90
    weights = resample_weights(200, 150, seed=0)
    rows = subgroup_c(data, risks, {"site": {"A": inside, "B": ~inside}}, weights)
    assert [len(row) for row in rows] == [2, 2]
    for row, risk in zip(rows, risks, strict=True):
        part = data.subset(inside)
        expected = concordance_index_censored(part.event, part.time_days, risk[inside], tied_tol=0)[
            0
        ]
        assert row[0].score.value == pytest.approx(expected, rel=1e-12)
        drawn = []
        for w in weights:
            chosen = np.repeat(np.arange(200), w * inside)
            drawn.append(
                concordance_index_censored(
                    data.event[chosen], data.time_days[chosen], risk[chosen], tied_tol=0
                )[0]
            )
        assert row[0].score.low == pytest.approx(np.quantile(drawn, 0.025))
        assert row[0].variance == pytest.approx(np.var(drawn, ddof=1))


def test_cochran_by_hand() -> None:
    def level(name: str, value: float, variance: float) -> Subgroup:
        return Subgroup("sex", name, 50, 20, ConfidenceInterval(value, 0, 1), variance)

    found = heterogeneity([level("F", 0.8, 0.01), level("M", 0.6, 0.03)])
    # Two levels: the squared z of their difference, on the logit scale.
    variance = 0.01 / 0.16**2 + 0.03 / 0.24**2
    z = (np.log(0.8 / 0.2) - np.log(0.6 / 0.4)) / np.sqrt(variance)
    assert found.q == pytest.approx(z**2)
    assert found.df == 1
    assert found.p == pytest.approx(chi2.sf(z**2, 1))
    three = heterogeneity([level("a", 0.8, 0.01), level("b", 0.6, 0.02), level("c", 0.7, 0.02)])
    logits = np.log([0.8 / 0.2, 0.6 / 0.4, 0.7 / 0.3])
    spread = np.array([0.01, 0.02, 0.02]) / np.array([0.16, 0.24, 0.21]) ** 2
    centre = np.average(logits, weights=1 / spread)
    expected = ((logits - centre) ** 2 / spread).sum()
    assert (three.q, three.df) == (pytest.approx(expected), 2)


def test_tiny_groups_are_counted_and_have_no_score(cohort) -> None:
    data, risks = cohort(60, seed=0)
    tiny, empty = np.arange(60) < 4, np.zeros(60, bool)
    levels = {"tiny": tiny, "empty": empty, "rest": ~tiny}
    weights = resample_weights(60, 50, seed=0)
    (row,) = subgroup_c(data, risks, {"age": levels}, weights)
    assert [level.n for level in row] == [4, 0, 56]
    assert "too few for a score" in (row[0].undefined or "")
    assert row[1].undefined == "No patient is in this group."
    assert np.isnan(row[0].score.value)
    assert row[2].undefined is None
    test = heterogeneity(row)
    assert np.isnan(test.p)
    assert test.undefined == "Fewer than 2 groups by age have a score with a spread."
    nobody = SurvivalData(data.time_days, np.zeros(60))
    (none,) = subgroup_c(nobody, risks, {"age": {"rest": ~tiny}}, weights)
    assert "56 patients with 0 events" in (none[0].undefined or "")
    with pytest.raises(ValueError, match="one attribute"):
        heterogeneity([row[0], Subgroup("sex", "F", 1, 1, row[0].score, 1.0)])


def test_a_drop_is_judged_by_independent_draws() -> None:
    rng = np.random.default_rng(0)
    first, second = 0.8 + 0.03 * rng.normal(size=4000), 0.7 + 0.04 * rng.normal(size=4000)
    found = drop(0.8, first, 0.7, second, None)
    assert found.change.value == pytest.approx(-0.1)
    assert found.change.low == pytest.approx(-0.1 - 1.96 * 0.05, abs=0.006)
    assert found.change.high == pytest.approx(-0.1 + 1.96 * 0.05, abs=0.006)
    assert found.p == pytest.approx(0.0455, abs=0.012)
    nothing = drop(np.nan, np.full(9, np.nan), 0.7, second[:9], "No event.")
    assert np.isnan(nothing.p)
    assert np.isnan(nothing.change.value)
    assert nothing.second.value == 0.7
