"""What the CT viewer sends to the browser, read back byte by byte."""

from __future__ import annotations

import gc
import json
import struct
import time
from typing import Any

import numpy as np
import pytest

from analysis.cohort.readers.volume import Volume
from app.panels import ct_viewer
from app.panels.ct_viewer import Mask, Overlay, Region, pack, thinning, thinning_text
from tests.browser import ct_viewer_page as scene


def opened(message: bytes) -> tuple[dict[str, Any], list[bytes]]:
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    body = message[4 + length :]
    assert all(start % 8 == 0 for start, _ in header["blobs"])
    return header, [body[start : start + size] for start, size in header["blobs"]]


def numbered(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 3000 - 1000
    return Volume(array, scene.affine(spacing, (-7.0, 11.0, 300.0)), spacing)


def view(volume: Volume, *overlays: Overlay, **more: Any) -> tuple[dict[str, Any], list[bytes]]:
    settings = {
        "key": "k", "alt": "a", "title": "", "start_mm": None, "regions": (), "outlines": (),
        "window": ct_viewer.CTPA,
    }  # fmt: skip
    return opened(ct_viewer.view_message(pack(volume), overlays, **(settings | more)))


def test_the_voxels_arrive_as_whole_hu_with_their_place() -> None:
    volume = Volume(
        np.array([[[-1024.0, 0.4], [0.6, 40000.0]]], np.float32),
        np.diag([1.5, 2, 5, 1]),
        (5, 2, 1.5),
    )
    packed = pack(volume)
    header, (voxels,) = opened(packed.message)
    assert header["kind"] == "volume"
    assert header["digest"] == packed.digest
    read = np.frombuffer(voxels, "<i2").reshape(header["shape"])
    assert read.tolist() == [[[-1024, 0], [1, 32767]]]
    assert packed.spacing_mm == (5.0, 2.0, 1.5)
    assert opened(packed.receipt) == ({"kind": "held", "digest": packed.digest, "blobs": []}, [])


@pytest.mark.parametrize("limit", [10**9, 900, 250, 60])
def test_a_thinned_volume_keeps_every_voxel_at_its_mm(limit: int) -> None:
    volume = numbered((11, 14, 17), (3.0, 0.7, 0.7))
    packed = pack(volume, limit)
    _, (voxels,) = opened(packed.message)
    read = np.frombuffer(voxels, "<i2").reshape(packed.shape)
    assert read.size <= limit
    assert all(
        n - step < (kept - 1) * step + 1 <= n
        for n, step, kept in zip(volume.array.shape, packed.steps, packed.shape, strict=True)
    )
    for place in np.ndindex(packed.shape):
        mm = np.asarray(packed.origin_mm) + np.asarray(place) * packed.spacing_mm
        d, h, w = np.rint(volume.to_voxels(mm[::-1])[0]).astype(int)
        np.testing.assert_allclose(volume.to_mm([[d, h, w]])[0], mm[::-1], atol=1e-6)
        assert read[place] == volume.array[d, h, w]


def test_the_finest_axes_are_thinned_first_and_said_in_words() -> None:
    assert thinning((300, 512, 512), (1.0, 0.7, 0.7)) == (1, 2, 2)
    assert thinning((100, 400, 400), (5.0, 0.8, 0.8)) == (1, 1, 1)
    assert thinning((900, 512, 512), (0.6, 0.7, 0.7)) == (3, 2, 2)
    assert thinning_text((1, 1, 1)) == ""
    assert thinning_text((2, 2, 2)) == "Shown at every 2nd voxel"
    assert thinning_text((1, 2, 3)) == (
        "Shown at every 2nd voxel anterior-posterior, every 3rd voxel right-left"
    )


def test_packing_happens_once_for_a_volume_and_again_for_another() -> None:
    volume = numbered((60, 256, 256), (2.0, 1.0, 1.0))
    first = pack(volume)
    started = time.perf_counter()
    assert pack(volume) is first
    assert time.perf_counter() - started < 0.005
    same = pack(Volume(volume.array.copy(), volume.affine, volume.spacing_mm))
    assert same is not first
    assert same.digest == first.digest
    changed = volume.array.copy()
    changed[5, 5, 5] += 1
    moved = volume.affine.copy()
    moved[0, 3] += 1
    assert pack(Volume(changed, volume.affine, volume.spacing_mm)).digest != first.digest
    assert pack(Volume(volume.array, moved, volume.spacing_mm)).digest != first.digest


def test_nothing_is_remembered_of_a_volume_that_is_gone() -> None:
    volume = numbered((4, 4, 4), (1.0, 1.0, 1.0))
    pack(volume)
    known = id(volume.array)
    assert any(place[0] == known for place in ct_viewer._memory)
    del volume
    gc.collect()
    assert not any(place[0] == known for place in ct_viewer._memory)


def test_a_turned_volume_is_refused() -> None:
    volume = numbered((4, 4, 4), (1.0, 1.0, 1.0))
    for affine in (np.diag([-1.0, 1, 1, 1]), np.eye(4)[[1, 0, 2, 3]]):
        with pytest.raises(ValueError, match="superior, anterior and right"):
            pack(Volume(volume.array, affine, volume.spacing_mm))


@pytest.mark.parametrize("make", [scene.hot_cell, scene.turned])
def test_an_overlay_is_found_by_its_mm(make: Any) -> None:
    overlay = make()
    assert overlay.peak_mm == pytest.approx((13.0, 65.0, -51.0))
    header, (values,) = view(scene.volume(), overlay)
    told = header["overlays"][0]
    read = np.frombuffer(values, "<f4").reshape(told["shape"])
    back = np.asarray(told["back"]).reshape(3, 4)
    w, h, d = np.rint(back @ [13.0, 65.0, -51.0, 1.0]).astype(int)
    assert read[d, h, w] == 1.0
    assert told["limit"] == 1.0
    assert told["note"] == overlay.note


def test_overlays_that_cannot_be_drawn_are_refused() -> None:
    values = np.ones((2, 2, 2), np.float32)
    for wrong, words in (
        ({"values": values[0]}, "not .d, h, w"),
        ({"values": values * np.nan}, "NaN"),
        ({"values": -values}, "signed=True"),
        ({"affine": np.zeros((4, 4))}, "invertible"),
        ({"limit": 0.0}, "positive"),
    ):
        fields = {"values": values, "affine": np.eye(4), "signed": False, "title": "t"} | wrong
        with pytest.raises(ValueError, match=words):
            Overlay(**fields)


def test_two_overlays_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two overlays are called 'Hot cell'"):
        view(scene.volume(), scene.hot_cell(), scene.hot_cell())


def test_a_map_of_zeros_is_sent_with_no_limit() -> None:
    header, _ = view(scene.volume(), Overlay(np.zeros((2, 2, 2), np.float32), np.eye(4), True, "t"))
    assert header["overlays"][0]["limit"] == 0


def test_regions_and_the_start_are_told_in_mm() -> None:
    region = Region("cell", (np.float32(1), 2.0, 3.0), (4.0, 5.0, 6.0), np.float32(0.5))
    header, _ = view(scene.volume(), regions=[region], start_mm=np.array([1.0, 2.0, 3.0]))
    expected = {"name": "cell", "center": [1, 2, 3], "size": [4, 5, 6], "weight": 0.5}
    assert header["regions"] == [expected]
    assert header["start"] == [1, 2, 3]
    assert header["window"] == [100, 700]


def bits_of(described: dict[str, Any], bits: bytes, shape: tuple[int, ...]) -> np.ndarray:
    box = np.unpackbits(
        np.frombuffer(bits, np.uint8), count=np.prod(described["shape"]), bitorder="little"
    )
    full = np.zeros(shape, bool)
    span = zip(described["low"], described["shape"], strict=True)
    full[tuple(slice(a, a + n) for a, n in span)] = box.reshape(described["shape"])
    return full


def test_a_mask_comes_back_from_its_bits() -> None:
    volume = numbered((9, 10, 11), (1.0, 1.0, 1.0))
    inside = np.random.default_rng(0).random((9, 10, 11)) < 0.1
    inside[:2] = inside[:, :, 8:] = False
    described, bits = ct_viewer._outline(Mask("m", inside), volume, (1, 1, 1))
    assert (bits_of(described, bits, inside.shape) == inside).all()
    assert described["low"][0] >= 2
    empty, nothing = ct_viewer._outline(Mask("m", np.zeros_like(inside)), volume, (1, 1, 1))
    assert (empty["shape"], nothing) == ([0, 0, 0], b"")
    with pytest.raises(ValueError, match=r"mask 'm' is \(8, 10, 11\)"):
        ct_viewer._outline(Mask("m", inside[1:]), volume, (1, 1, 1))


def test_thinning_never_loses_a_voxel_of_a_mask() -> None:
    volume = numbered((9, 10, 11), (1.0, 1.0, 1.0))
    packed = pack(volume, 100)
    assert min(packed.steps) > 1
    for place in ((0, 0, 0), (8, 9, 10), (4, 3, 7)):
        inside = np.zeros(volume.array.shape, bool)
        inside[place] = True
        described, bits = ct_viewer._outline(Mask("m", inside), volume, packed.steps)
        ((d, h, w),) = np.argwhere(bits_of(described, bits, packed.shape))
        kept = np.asarray(packed.origin_mm) + np.array([d, h, w]) * packed.spacing_mm
        true = volume.to_mm([place])[0][::-1]
        # The nearest kept voxel; at the end of an axis there may be none behind.
        assert (np.abs(kept - true) <= np.asarray(packed.spacing_mm) / 2 + 0.51).all()


def test_a_pick_belongs_to_its_volume() -> None:
    value = {"mm": [1, 2.5, -3], "digest": "this"}
    assert ct_viewer._picked(value, "this") == (1.0, 2.5, -3.0)
    assert ct_viewer._picked(value, "other") is None
    assert ct_viewer._picked(None, "this") is None


def test_presets_are_those_of_the_reading_room() -> None:
    told = {preset.name: (preset.level, preset.width) for preset in ct_viewer.PRESETS}
    assert told == {
        "Lung": (-600, 1500),
        "Mediastinum": (40, 400),
        "CTPA": (100, 700),
        "Bone": (400, 1800),
        "Liver": (90, 150),
        "PE (model's view)": (400, 1000),
    }
