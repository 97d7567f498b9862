from __future__ import annotations

import numpy as np
import pytest

from analysis.attribution.regions import region_name, token_regions
from analysis.cohort.readers.volume import Volume
from models.contracts import VoxelGrid


def scan(shift: int = 0) -> Volume:
    """30 x 40 x 60 voxels of 4, 3, 2 mm: a body of 20 x 40 voxels in air, `shift` voxels to the
    right of the volume's centre, in all slices but 6 of air at the head."""
    array = np.full((30, 40, 60), -1024, np.float32)
    array[:24, 10:30, 10 + shift : 50 + shift] = 40
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-200, 50, 1000]
    return Volume(array, affine, (4.0, 3.0, 2.0))


@pytest.mark.parametrize("shift", [0, 8])
@pytest.mark.parametrize(
    ("dhw", "words"),
    [
        ((20, 27, 45), "right upper, front"),
        ((20, 12, 15), "left upper, back"),
        ((12, 20, 15), "left middle, centre"),
        ((3, 27, 45), "right lower, front"),
        ((3, 20, 30), "midline lower, centre"),
        ((29, 39, 50), "right upper, front"),  # outside the body: the nearest third
    ],
)
def test_words_follow_the_body(dhw: tuple[int, int, int], words: str, shift: int) -> None:
    volume = scan(shift)
    d, h, w = dhw
    where = volume.to_mm([(d, h, w + shift)])[0]
    x, y, z = (round(v) for v in where)
    expected = f"{words} (x {x}, y {y}, z {z} mm, slice {30 - d} of 30)"
    assert region_name(where, volume) == expected


def test_one_organ_or_cable_does_not_move_the_midline() -> None:
    volume = scan()
    volume.array[:8, 10:30, 2:10] = 60  # an arm in a third of the slices
    volume.array[:, 35, 3] = 900
    assert region_name(volume.to_mm([(12, 20, 30)])[0], volume).startswith("midline middle, centre")


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [-1, 1])
def test_a_point_outside_the_scan_is_said_to_be_outside(axis: int, end: int) -> None:
    volume = scan()
    at = (np.asarray(volume.array.shape) - 1) / 2
    at[axis] += end * (volume.array.shape[axis] / 2 + 0.1)
    assert region_name(volume.to_mm([at])[0], volume).startswith("outside the scan (x ")
    at[axis] -= end * 0.2
    assert "slice" in region_name(volume.to_mm([at])[0], volume)


def test_a_point_outside_the_scan_has_no_slice() -> None:
    assert "slice" not in region_name((0.0, 0.0, 0.0), scan())


def test_air_only_is_named_by_the_scan_itself() -> None:
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    volume = Volume(np.full((10, 10, 10), -1024, np.float32), affine, (10.0, 10.0, 10.0))
    assert region_name((90, 90, 90), volume).startswith("right upper, front")
    assert region_name((45, 45, 45), volume).startswith("midline middle, centre")


def test_tokens_in_order_with_and_without_a_scan() -> None:
    layout = VoxelGrid((2, 2, 3), (60.0, 60.0, 40.0))
    volume = scan()
    table = token_regions(layout, volume)
    bare = token_regions(layout, None)
    middle = volume.to_mm([(14.5, 19.5, 29.5)])[0]
    for frame, centre in ((table, middle), (bare, np.zeros(3))):
        assert list(frame.columns[1:4]) == ["x_mm", "y_mm", "z_mm"]
        places = frame[["x_mm", "y_mm", "z_mm"]].to_numpy()
        np.testing.assert_allclose(places.mean(axis=0), centre, atol=1e-9)
        np.testing.assert_allclose(places[1] - places[0], [40, 0, 0])
        np.testing.assert_allclose(places[3] - places[0], [0, 60, 0])
        np.testing.assert_allclose(places[6] - places[0], [0, 0, 60])
        sizes = frame[["size_x_mm", "size_y_mm", "size_z_mm"]].to_numpy()
        assert (sizes == [40, 60, 60]).all()
        assert frame["name"].is_unique
        assert len(frame) == 12
    assert bare["name"][0] == "left lower, back (x -40, y -30, z -30 mm from the centre)"
    assert bare["name"][7].startswith("midline upper, back")
    assert table["name"][11].startswith("right upper, front")
