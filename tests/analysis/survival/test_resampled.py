import numpy as np

from analysis.survival.comparison import percentile_interval, two_sided_p
from analysis.survival.resampled import difference_p, interval, pointwise


def test_bounds_are_percentiles_of_what_is_known() -> None:
    sample = np.random.default_rng(0).normal(size=(401, 3))
    sample[:100, 1] = np.nan
    sample[:300, 2] = np.nan
    found = pointwise(np.arange(3.0), np.zeros(3), sample)
    for place, first in ((0, 0), (1, 100)):
        known = percentile_interval(0.0, sample[first:, place])
        assert (found.low[place], found.high[place]) == (known.low, known.high)
    # Three of four resamples have no value: bounds would describe luckier patients.
    assert np.isnan(found.low[2])
    assert found.value[2] == 0
    assert np.isnan(pointwise(np.zeros(1), np.array([np.nan]), sample[:, :1]).high[0])
    one = interval(0.2, sample[:, 0])
    assert (one.value, one.low) == (0.2, found.low[0])


def test_p_leaves_out_what_has_no_value() -> None:
    gap = np.random.default_rng(1).normal(0.5, 1, 300)
    some = np.r_[gap, np.full(40, np.nan)]
    assert difference_p(some) == two_sided_p(gap)
    assert np.isnan(difference_p(np.r_[gap[:20], np.full(40, np.nan)]))
