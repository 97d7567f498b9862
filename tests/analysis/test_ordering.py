"""The order of parts in two explanations, against a hand-made example and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.ordering import ordering

NAMES = ("age", "sodium", "sex", "height")
DIAGNOSIS = [0.5, -2.0, 0.0, 0.25]
RISK = [-30.0, 10.0, 0.0, -20.0]


def test_ranks_go_by_absolute_share_and_signs_stay():
    made = ordering(NAMES, {"diagnosis": DIAGNOSIS, "risk": RISK}, top=2)
    assert made.ranks["diagnosis"].tolist() == [2, 1, 4, 3]
    assert made.ranks["risk"].tolist() == [1, 3, 4, 2]
    assert made.signs["diagnosis"].tolist() == [1, -1, 0, 1]
    assert made.signs["risk"].tolist() == [-1, 1, 0, -1]


def test_the_scale_of_an_explanation_changes_nothing():
    one = ordering(NAMES, {"diagnosis": DIAGNOSIS, "risk": RISK})
    other = ordering(NAMES, {"diagnosis": DIAGNOSIS, "risk": np.multiply(RISK, 1e-4)})
    for name in ("diagnosis", "risk"):
        np.testing.assert_array_equal(one.ranks[name], other.ranks[name])
    np.testing.assert_array_equal(one.agreement.rank, other.agreement.rank)


def test_the_first_of_either_are_listed_by_their_best_rank():
    made = ordering(NAMES, {"diagnosis": DIAGNOSIS, "risk": RISK}, top=2)
    # Sodium and age are first of one each; height is second of the risk; sex is nowhere.
    assert [NAMES[i] for i in made.first(2)] == ["age", "sodium", "height"]
    assert [NAMES[i] for i in made.first(1)] == ["age", "sodium"]


def test_agreement_is_scipys_and_counts_what_is_shared():
    made = ordering(NAMES, {"diagnosis": DIAGNOSIS, "risk": RISK}, top=2).agreement
    expected = spearmanr(np.abs(DIAGNOSIS), np.abs(RISK)).statistic
    assert made.rank[0, 1] == pytest.approx(expected)
    assert (made.k, made.chance) == (2, 0.5)
    assert made.top[0, 1] == 0.5  # age is among the first two of both


def test_an_explanation_of_other_parts_is_refused():
    with pytest.raises(ValueError, match="'risk' is no explanation of these 4 parts"):
        ordering(NAMES, {"diagnosis": DIAGNOSIS, "risk": [1.0, 2.0]})
