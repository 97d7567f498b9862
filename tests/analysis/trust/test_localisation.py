from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from analysis.attribution.case import Subject
from analysis.attribution.result import VolumeMap
from analysis.cohort.readers.volume import Volume
from analysis.cohort.schema import CohortError
from analysis.trust.localisation import (
    MapScore,
    auroc,
    grow,
    score_events,
    score_map,
    score_values,
    summarise_events,
    summarise_maps,
)


def lesion():
    mask = np.zeros((4, 6, 6), bool)
    mask[1, 2, 2:4] = True
    return mask


def test_grow_reaches_the_tolerance_along_each_axis_and_no_further() -> None:
    grown = grow(lesion(), (5.0, 2.0, 2.0), (5.0, 4.0, 0.5))
    expected = np.zeros((4, 6, 6), bool)
    expected[0:3, 0:5, 2:4] = True
    assert np.array_equal(grown, expected)


def test_pointing_energy_and_chance_by_hand() -> None:
    mask = lesion()
    grown = grow(mask, (1, 1, 1), (1, 1, 1))  # 3 x 3 x 4 voxels
    heat = np.zeros((4, 6, 6))
    heat[1, 2, 2], heat[0, 1, 1], heat[3, 5, 5], heat[0, 0, 0] = 3, 5, 2, -9
    found = score_values(heat, mask, grown)
    # The peak 5 lies beside the lesion, within the tolerance; negatives are not energy.
    assert found == MapScore(1.0, 3 / 10, 2 / 144, 36 / 144, False)
    heat[3, 5, 5] = 6
    assert score_values(heat, mask, grown).pointing == 0


def test_a_flat_map_points_by_chance_and_an_empty_one_misses() -> None:
    mask = lesion()
    grown = grow(mask, (1, 1, 1), (1, 1, 1))
    flat = score_values(np.ones((4, 6, 6)), mask, grown)
    assert flat.pointing == pytest.approx(flat.chance)
    assert flat.energy == pytest.approx(flat.lesion_share)
    empty = score_values(-np.ones((4, 6, 6)), mask, grown)
    assert (empty.pointing, empty.energy, empty.empty) == (0, 0, True)


def test_no_lesion_or_another_shape_is_refused() -> None:
    none = np.zeros((4, 6, 6), bool)
    with pytest.raises(ValueError, match="no lesion"):
        score_values(np.ones((4, 6, 6)), none, none)
    with pytest.raises(ValueError, match="the mask"):
        score_values(np.ones((4, 6, 5)), lesion(), lesion())


def coarse_map(values, affine):
    return VolumeMap(
        subject=Subject("r", "h", "c", 1), modality="ct", method="m", layer=None, target={},
        values=np.asarray(values, np.float32), affine=affine, signed=False, whole=0.0,
    )  # fmt: skip


def test_a_map_on_another_grid_is_brought_to_the_scan_by_millimetres() -> None:
    # The scan: 4 x 6 x 6 voxels of 2 mm; the map: 2 x 3 x 3 cells of 4 mm over the same body.
    scan = Volume(np.zeros((4, 6, 6), np.float32), np.diag([2.0, 2, 2, 1]), (2.0, 2.0, 2.0))
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 1.0
    values = np.zeros((2, 3, 3))
    values[0, 1, 1] = 1
    mask = np.zeros((4, 6, 6), bool)
    mask[0:2, 2:4, 2:4] = True  # the very voxels of that cell
    found = score_map(coarse_map(values, affine), scan, mask, mask)
    assert found.pointing == 1
    # Linear spreading loses some energy to the neighbours; nearly half stays, chance is 8/144.
    assert 0.25 < found.energy < 0.9
    elsewhere = np.roll(mask, 2, axis=2)
    assert score_map(coarse_map(values, affine), scan, elsewhere, elsewhere).pointing == 0
    with pytest.raises(CohortError, match="one grid"):
        score_map(coarse_map(values, affine), scan, mask[:2], mask[:2])


def test_maps_over_patients() -> None:
    scores = [
        MapScore(1.0, 0.5, 0.01, 0.05, False),
        MapScore(1.0, 0.2, 0.02, 0.05, False),
        MapScore(0.0, 0.0, 0.01, 0.02, True),
    ]
    said = summarise_maps(scores)
    assert said["pointing"]["value"] == pytest.approx(2 / 3)
    assert said["chance"] == pytest.approx(0.04)
    assert said["energy_ratio"]["value"] == pytest.approx(10)  # of 50, 10, 0
    assert said["energy_ratio_mean"]["value"] == pytest.approx(20)
    assert said["energy_ratio_pooled"]["value"] == pytest.approx(0.7 / 0.04)
    assert said["no_positive_evidence"] == 1


def test_auroc_is_that_of_sklearn_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.random(40) < 0.3
        score = rng.integers(0, 6, 40)
        assert auroc(score, truth) == pytest.approx(roc_auc_score(truth, score))
    assert np.isnan(auroc([1.0, 2.0], [True, True]))


def parts(*rows):
    return pd.DataFrame(rows, columns=["code", "value"])


def test_events_by_hand() -> None:
    # The older troponin is not read by the hazard; "cough" twice cancels within its code.
    frame = parts(
        ("troponin", 1.0), ("cough", np.nan), ("cancer", np.nan), ("cough", np.nan),
        ("troponin", 2.0),
    )  # fmt: skip
    shares = np.array([0.1, 0.6, 0.5, -0.6, -0.4])
    causes = {"troponin": {"injury"}, "cancer": {"cancer"}, "never": {"age"}}
    found = score_events(frame, shares, causes)
    # |share| of causes 0.1 0.5 0.4, of others 0.6 0.6
    assert found.auroc["event"] == 0.0
    assert found.auroc["event_signed"] == roc_auc_score([1, 0, 1, 0, 1], shares)
    # by code: cancer 0.5, cough 0, troponin |-0.3|
    assert found.auroc["code"] == 1.0
    assert found.auroc["code_gross"] == 0.0  # 0.5 and 0.5 below 1.2
    assert found.auroc["code_signed"] == 0.5  # 0.5 above 0, -0.3 below
    # without the older troponin: causes 0.5 0.4, others 0.6 0.6
    assert found.auroc["decisive"] == 0.0
    assert found.rank == pytest.approx(0.25)  # places 0 and 1 of 0..2
    assert found.first == 1.0
    assert found.by_term["injury"] == 1.0
    assert np.isnan(found.by_term["age"])
    assert (found.n_causal, found.n_codes) == (2, 3)
    # A run that never saw 'cancer' is judged on troponin against cough alone.
    assert score_events(frame, -shares, causes, {"troponin", "cough"}).auroc["code_known"] == 1.0
    assert np.isnan(score_events(frame, shares, causes, {"cough"}).auroc["code_known"])


def test_decisive_leaves_the_older_values_out_of_both_sides() -> None:
    frame = parts(("troponin", 1.0), ("other", 3.0), ("troponin", 2.0))
    shares = np.array([0.0, 0.3, 0.5])
    found = score_events(frame, shares, {"troponin": {"injury"}})
    assert found.auroc["event"] == 0.5
    assert found.auroc["decisive"] == 1.0


def test_patients_without_a_cause_or_without_others_are_left_out_and_counted() -> None:
    causes = {"a": {"t"}}
    scores = [
        score_events(parts(("a", 1.0), ("b", 1.0)), np.array([2.0, 1.0]), causes),
        score_events(parts(("b", 1.0), ("c", 1.0)), np.array([2.0, 1.0]), causes),
        score_events(parts(("a", 1.0)), np.array([2.0]), causes),
    ]
    said = summarise_events(scores)
    assert (said["n"], said["left_out"]) == (1, 2)
    assert said["auroc"]["code"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert said["mean_place"]["value"] == 0.0


def test_random_shares_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    frame = parts(*[(f"c{i}", 1.0) for i in range(30)])
    causes = {f"c{i}": {"t"} for i in range(4)}
    scores = [score_events(frame, rng.normal(size=30), causes) for _ in range(60)]
    said = summarise_events(scores)
    assert said["auroc"]["code"]["low"] < 0.5 < said["auroc"]["code"]["high"]
    assert said["mean_place"]["value"] == pytest.approx(0.5, abs=0.06)
