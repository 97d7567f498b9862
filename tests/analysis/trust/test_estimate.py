from __future__ import annotations

import numpy as np
import pytest

from analysis.trust.estimate import (
    mean_interval,
    median_interval,
    proportion_interval,
    ratio_interval,
)


def test_mean_leaves_out_what_is_undefined_and_says_how_many_are_left() -> None:
    found = mean_interval([1.0, np.nan, 3.0, 2.0])
    assert (found["value"], found["n"]) == (2.0, 3)
    assert 1.0 <= found["low"] < 2.0 < found["high"] <= 3.0


def test_bootstrap_interval_has_the_width_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = mean_interval(values)
    half = 1.96 * values.std() / 20
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.015)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.015)


def test_nothing_known_gives_none_not_nan() -> None:
    assert mean_interval([np.nan]) == {"value": None, "low": None, "high": None, "n": 0}
    assert proportion_interval([])["value"] is None
    assert ratio_interval([1.0], [0.0])["value"] is None
    assert median_interval([])["n"] == 0


def test_wilson_interval_of_all_hits_is_not_a_point() -> None:
    # R: prop.test(10, 10, correct = FALSE)$conf.int -> 0.7224672 1.0000000
    found = proportion_interval(np.ones(10))
    assert (found["value"], found["high"]) == (1.0, pytest.approx(1.0))
    assert found["low"] == pytest.approx(0.7224672, abs=1e-6)


def test_ratio_is_of_sums_so_a_tiny_denominator_does_not_decide() -> None:
    assert ratio_interval([1.0, 1.0], [1e-9, 2.0])["value"] == pytest.approx(1.0)


def test_median_is_between_its_bounds() -> None:
    found = median_interval([1.0, 2.0, 100.0])
    assert found["value"] == 2.0
    assert found["low"] <= 2.0 <= found["high"]
