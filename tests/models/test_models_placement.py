"""A model whose networks are on another device says the same, and its callers stay on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from models.contracts import Encoded, EventPositions
from models.fusion.base import STRATEGIES

# Float32, and other kernels for the same sums (attention in one piece or in steps).
ROUNDING = 1e-5


def test_every_strategy_says_the_same_elsewhere_and_gradients_come_back():
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.placed"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    # Other tests may have registered strategies of their own in this process.
    assert len(found) >= 20
    assert set(found) <= set(STRATEGIES)
    for name, one in found.items():
        assert one["numbers"]["answers"] > 0
        assert one["numbers"]["by input"] > 0, name
        assert all(d <= ROUNDING for d in one["differences"].values()), (name, one)
    assert found["co_attention"]["numbers"]["by attention"] > 0


def test_elsewhere_is_as_strict_as_a_gpu():
    """Else the comparison above would show nothing."""
    asked = (
        "import torch; from tests.models.elsewhere import begin; begin();"
        "x = torch.ones(3).to('elsewhere'); assert (2 * x).cpu().sum() == 6; x + torch.ones(3)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert done.returncode == 1
    assert "one tensor on elsewhere, one on cpu" in done.stderr


@pytest.mark.parametrize("attention", [None, torch.rand(4, 3)])
def test_one_patient_repeated_travels_once(attention):
    one = torch.randn(1, 3, 2).expand(4, 3, 2)
    there = torch.ones(1, 3, dtype=torch.bool).expand(4, 3)
    encoded = Encoded(
        one, there, one[:, 0], there[:, 0].expand(4), EventPositions(), attention=attention
    )
    moved = encoded.to("cpu")
    assert moved.is_one_repeated
    assert torch.equal(moved.tokens, one)
    assert moved.attention is attention or torch.equal(moved.attention, attention)
