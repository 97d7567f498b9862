from __future__ import annotations

import numpy as np
import pytest

from analysis.attribution.target import LogRisk
from analysis.attribution.volume import volume_map
from analysis.trust.faithfulness import Blocks, area, curve, faithfulness, schedule, summarise
from tests.analysis.attribution.toys_ct import case_of, resnet_run

SHARES = np.array([4.0, 0.0, -1.0, 3.0])


def additive(kept):
    """f = sum of the shares of what is kept; f(x) = 6, f(removed) = 0."""
    return kept @ SHARES


def test_curves_and_areas_by_hand() -> None:
    made = faithfulness(additive, {"right": SHARES}, n_random=4)["right"]
    # removed in the order 4, 3, 0, -1: 6, 2, -1, -1, 0; put back: 0, 4, 7, 7, 6
    assert made.removed.tolist() == [0, 1, 2, 3, 4]
    assert made.deletion.tolist() == [6, 2, -1, -1, 0]
    assert made.insertion.tolist() == [0, 4, 7, 7, 6]
    assert area(made.removed, made.deletion) == pytest.approx((3 + 2 - 1 - 1 + 0) / 4)
    assert area(made.removed, made.insertion) == pytest.approx((0 + 4 + 7 + 7 + 3) / 4)
    assert made.span == 6
    assert made.deletion_advantage == pytest.approx((made.random_area - 0.75) / 6)
    assert made.insertion_advantage == pytest.approx((5.25 - made.random_area) / 6)


def test_every_step_of_a_random_order_is_on_the_line_on_average() -> None:
    made = faithfulness(additive, {"a": SHARES}, n_random=4000)["a"]
    assert made.random.mean(axis=0) == pytest.approx([6, 4.5, 3, 1.5, 0], abs=0.12)
    assert made.random_area == pytest.approx(3.0, abs=0.1)


def test_the_true_order_is_the_best_of_all_and_its_reverse_the_worst() -> None:
    rng = np.random.default_rng(0)
    orders = {str(i): rng.permutation(4).astype(float) for i in range(40)}
    made = faithfulness(additive, {"true": SHARES, "reverse": -SHARES, **orders}, n_random=3)
    best = max(m.deletion_advantage + m.insertion_advantage for m in made.values())
    worst = min(m.deletion_advantage + m.insertion_advantage for m in made.values())
    assert made["true"].deletion_advantage + made["true"].insertion_advantage == best
    assert made["reverse"].deletion_advantage + made["reverse"].insertion_advantage == worst
    assert best > 0.7
    assert worst < -0.7


def test_random_and_constant_attributions_have_no_advantage() -> None:
    weights = np.random.default_rng(1).normal(size=30) + 0.5
    patients = {"random": [], "constant": [], "true": []}
    for seed in range(60):
        given = {
            "random": np.random.default_rng(900 + seed).normal(size=30),
            "constant": np.ones(30),
            "true": weights,
        }
        found = faithfulness(lambda kept: kept @ weights, given, n_random=5, seed=seed)
        for name, item in found.items():
            patients[name].append(item)
    for name in ("random", "constant"):
        said = summarise(patients[name])
        assert abs(said["deletion"]["value"]) < 0.06
        assert said["deletion"]["low"] < 0 < said["deletion"]["high"]
        assert abs(said["insertion"]["value"]) < 0.06
    said = summarise(patients["true"])
    assert said["deletion"]["low"] > 0.3
    assert said["insertion"]["low"] > 0.3
    # What one random order a patient would give, over 60 patients: narrow, and around 0.
    assert -0.15 < said["random_range"]["low"] < 0 < said["random_range"]["high"] < 0.15
    one = summarise(patients["true"][:1])["random_range"]
    assert one["high"] - one["low"] > 2 * (
        said["random_range"]["high"] - said["random_range"]["low"]
    )


def test_a_harmful_span_does_not_turn_the_sign() -> None:
    # Removing everything raises the number: taking out the most positive first is still right.
    shares = np.array([2.0, -5.0, 1.0])
    made = faithfulness(lambda kept: kept @ shares, {"true": shares}, n_random=200)["true"]
    assert made.span == -2
    assert made.deletion_advantage > 0.5
    assert made.insertion_advantage > 0.5


def test_nothing_to_explain_gives_no_number() -> None:
    made = faithfulness(lambda kept: np.zeros(len(kept)), {"a": np.arange(3.0)})["a"]
    assert np.isnan(made.deletion_advantage)
    assert summarise([made])["deletion"]["value"] is None


def test_long_records_are_removed_in_doubling_symmetric_steps() -> None:
    assert schedule(5).tolist() == [0, 1, 2, 3, 4, 5]
    steps = schedule(1728, 12)
    assert len(steps) <= 13
    assert steps[[0, -1]].tolist() == [0, 1728]
    assert (steps + steps[::-1] == 1728).all()
    assert steps[1] == 1
    with pytest.raises(ValueError, match="no part"):
        schedule(0)


def test_curve_removes_the_named_parts_first() -> None:
    assert curve(additive, np.array([3, 0, 1, 2]), np.array([0, 1, 2])).tolist() == [6, 3, -1]


def test_an_attribution_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="not \\(4,\\) parts"):
        faithfulness(additive, {"a": SHARES, "b": np.ones(3)})


@pytest.fixture(scope="module")
def scan_case(tmp_path_factory):
    array = np.random.default_rng(0).normal(0, 200, (16, 32, 32))
    return case_of(tmp_path_factory.mktemp("scan"), resnet_run(), array)


def test_blocks_keep_and_remove_the_scan(scan_case) -> None:
    blocks = Blocks(scan_case, "ct", LogRisk(), batch=2)
    assert blocks.shape == (4, 4, 4)
    ends = np.stack([np.ones(64, bool), np.zeros(64, bool), np.ones(64, bool)])
    ends[2, 0] = False
    values = blocks(ends)
    assert values[0] == pytest.approx(scan_case.value(LogRisk())[0], abs=1e-5)
    assert len(set(values.round(7))) == 3


def test_block_sums_are_of_the_block_they_name(scan_case, monkeypatch) -> None:
    blocks = Blocks(scan_case, "ct", LogRisk())
    made = volume_map(scan_case, "ct", LogRisk(), "hirescam", "backbone.layer1")
    values = np.zeros((16, 32, 32), np.float32)
    values[4:8, 8:16, 24:32] = 1  # block (1, 1, 3) of 4 x 8 x 8 voxels
    monkeypatch.setattr(type(made), "on", lambda self, scan: values)
    parts = blocks.parts(made)
    assert parts[1 * 16 + 1 * 4 + 3] == 4 * 8 * 8
    assert parts.sum() == 4 * 8 * 8
