"""Shapley values against games solved by hand and against all orders of joining."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from analysis.imbalance.game import (
    balance,
    interaction_weights,
    last_weights,
    shapley,
    shapley_weights,
)


def by_orders(values):
    """The mean over all orders of what each player adds on joining."""
    m = len(values).bit_length() - 1
    phi = np.zeros(m)
    orders = list(permutations(range(m)))
    for order in orders:
        s = 0
        for i in order:
            phi[i] += values[s | 1 << i] - values[s]
            s |= 1 << i
    return phi / len(orders)


def test_two_modalities_by_hand():
    # Nothing 0.50, CT 0.60, EHR 0.70, both 0.74.
    v = np.array([0.5, 0.6, 0.7, 0.74])
    assert shapley_weights(2) @ v == pytest.approx([0.07, 0.17])
    assert interaction_weights(2)[0, 1] @ v == pytest.approx(0.74 - 0.6 - 0.7 + 0.5)
    assert last_weights(2) @ v == pytest.approx([0.04, 0.14])


def test_three_players_by_hand():
    # Gloves: 0 holds a left one, 1 and 2 a right one each; a pair is worth 1.
    v = np.array([0, 0, 0, 1, 0, 1, 0, 1.0])
    assert shapley_weights(3) @ v == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    pairs = {pair: w @ v for pair, w in interaction_weights(3).items()}
    assert pairs == pytest.approx({(0, 1): 0.5, (0, 2): 0.5, (1, 2): -0.5})


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_all_orders_agree_and_the_values_sum_to_the_whole(m):
    v = np.random.default_rng(m).normal(size=1 << m)
    phi = shapley_weights(m) @ v
    assert phi == pytest.approx(by_orders(v))
    assert shapley(v) == pytest.approx(phi)
    assert phi.sum() == pytest.approx(v[-1] - v[0])


def test_who_adds_nothing_gets_nothing():
    v = np.random.default_rng(1).normal(size=4)
    with_a_dummy = np.concatenate([v, v])
    phi = shapley_weights(3) @ with_a_dummy
    assert phi == pytest.approx([*(shapley_weights(2) @ v), 0.0])
    assert shapley(with_a_dummy)[2] == 0.0
    assert interaction_weights(3)[0, 2] @ with_a_dummy == pytest.approx(0.0)


def test_balance():
    assert balance([0.1, 0.1, 0.1]) == pytest.approx(1.0)
    assert balance([0.2, -0.1]) == 0.0
    p = np.array([0.25, 0.75])
    assert balance(0.3 * p) == pytest.approx(-(p * np.log(p)).sum() / np.log(2))
    assert np.isnan(balance([-0.1, 0.0]))
