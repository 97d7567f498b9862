"""The chest phantom: reproducible, anatomically oriented, and true to its own measures."""

import numpy as np
import pytest
from scipy import ndimage

from sample_data import phantom
from sample_data.phantom import ChestParameters, render_chest

LUNG = (-900, -650)


def chest(seed=0, *, shape=(48, 96, 96), spacing_mm=(5.5, 3.6, 3.6), **changes):
    settings = {"contrast": True, "clot_burden": 0.0, "rv_lv_ratio": 0.9, "calcium": 0.0}
    parameters = ChestParameters(**settings | changes)
    return render_chest(parameters, np.random.default_rng(seed), shape=shape, spacing_mm=spacing_mm)


def test_same_seed_same_bytes_and_another_seed_another_patient():
    first, again, other = (chest(s, clot_burden=0.5, calcium=0.4) for s in (3, 3, 4))
    assert first.volume.tobytes() == again.volume.tobytes()
    assert first.embolus.tobytes() == again.embolus.tobytes()
    assert first.measures == again.measures
    assert np.abs(first.volume.astype(float) - other.volume).mean() > 20


def test_tissues_have_their_hounsfield_units():
    scan = chest(1, noise_hu=0.0)
    volume = scan.volume
    assert volume.dtype == np.int16
    assert volume.min() >= -1024
    assert volume[-1, -1, -1] == -1024, "a scanner pads outside its circle"
    assert volume[-1, -2, volume.shape[2] // 2] == -1000
    share = {
        name: np.mean((volume >= low) & (volume <= high))
        for name, (low, high) in {
            "lung": LUNG,
            "fat": (-115, -80),
            "muscle": (35, 70),
            "arteries": (260, 390),
            "bone": (390, 900),
        }.items()
    }
    litres = {name: s * volume.size * np.prod(scan.spacing_mm) / 1e6 for name, s in share.items()}
    assert 3.0 < litres["lung"] < 7.5
    assert litres["fat"] > 0.8
    assert litres["muscle"] > 1.2
    assert 0.1 < litres["arteries"] < 0.7
    assert 0.05 < litres["bone"] < 0.8
    assert 400 < scan.measures["heart_volume_ml"] < 850


def test_unenhanced_heart_is_as_dense_as_blood():
    scan = chest(1, contrast=False, noise_hu=0.0)
    middle = scan.volume[14:20, 50:56, 40:52]
    assert 30 < np.median(middle) < 60


def test_noise_has_the_standard_deviation_asked_for():
    quiet, noisy = chest(2, noise_hu=0.0), chest(2, noise_hu=20.0)
    tissue = quiet.volume > 0
    difference = (noisy.volume.astype(float) - quiet.volume)[tissue]
    assert difference.std() == pytest.approx(20.0, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_heart_lies_left_of_the_midline_and_the_spine_behind(seed):
    scan = chest(seed, noise_hu=0.0)
    volume = scan.volume
    body = ndimage.binary_fill_holes((volume > -300).any(axis=0))
    centre_h, centre_w = ndimage.center_of_mass(body)
    chambers = ndimage.binary_opening((volume > 190) & (volume < 360), iterations=2)
    level, h, w = ndimage.center_of_mass(chambers)
    assert w < centre_w - 1.0
    bone_h = ndimage.center_of_mass((volume > 390)[:, :, 44:52])[1]
    assert bone_h < centre_h - 8 < h
    # Lungs fill the upper half, the liver lies low on the patient's right.
    liver = (volume[:6] > 65) & (volume[:6] < 95)
    assert liver[:, :, 48:].sum() > 2 * liver[:, :, :48].sum()
    assert level < 24


@pytest.mark.parametrize("burden", [0.1, 0.5, 1.0])
def test_emboli_are_filling_defects_inside_the_arteries(burden):
    quiet, clot = (chest(5, noise_hu=0.0, clot_burden=b) for b in (0.0, burden))
    mask = clot.embolus
    assert mask.any()
    assert clot.volume[mask].max() < 240
    # Half a voxel of clot (at most 66 HU) in place of blood (at least 270 HU) is 100 HU darker.
    drop = quiet.volume[mask].astype(float) - clot.volume[mask]
    assert drop.min() > 60 if burden < 0.2 else drop.min() > 95
    assert np.median(quiet.volume[mask]) > (100 if burden > 0.4 else -300)
    # A clot only ever darkens, and only next to itself.
    changed = clot.volume != quiet.volume
    assert (clot.volume <= quiet.volume).all()
    near = ndimage.binary_dilation(mask, np.ones((3, 3, 3)), iterations=2)
    assert (changed & ~near).sum() < 0.1 * changed.sum()
    assert clot.measures["embolus_volume_ml"] == pytest.approx(
        mask.sum() * np.prod(clot.spacing_mm) / 1000
    )


def test_unenhanced_clot_is_invisible():
    without, with_clot = (chest(5, contrast=False, clot_burden=b) for b in (0.0, 0.6))
    assert with_clot.embolus.any()
    noise_free = [chest(5, contrast=False, noise_hu=0.0, clot_burden=b) for b in (0.0, 0.6)]
    np.testing.assert_array_equal(noise_free[0].volume, noise_free[1].volume)
    assert without.measures["clot_burden_percent"] == 0.0


def test_no_burden_no_lesion():
    scan = chest(6)
    assert not scan.embolus.any()
    assert not scan.calcium.any()
    assert scan.measures["clot_burden_percent"] == 0.0
    assert scan.measures["calcium_agatston"] == 0.0


def test_realised_clot_burden_grows_with_the_target():
    targets = (0.05, 0.2, 0.45, 0.7, 1.0)
    scans = [[chest(s, clot_burden=b) for s in range(6)] for b in targets]
    percent = [np.mean([s.measures["clot_burden_percent"] for s in row]) for row in scans]
    volume = [np.mean([s.measures["embolus_volume_ml"] for s in row]) for row in scans]
    assert np.all(np.diff(percent) > 5)
    assert np.all(np.diff(volume) > 0)
    np.testing.assert_allclose(percent, 80 * np.array(targets), atol=8)


def test_calcium_is_bright_and_its_score_grows():
    amounts = (0.05, 0.3, 0.6, 1.0)
    scans = [[chest(s, contrast=False, noise_hu=0.0, calcium=a) for s in range(6)] for a in amounts]
    score = [np.mean([s.measures["calcium_agatston"] for s in row]) for row in scans]
    assert np.all(np.diff(score) > 0)
    for scan in (s for row in scans for s in row):
        assert scan.calcium.any()
        assert scan.volume[scan.calcium].min() >= 130
        assert scan.volume[scan.calcium].max() <= 900


@pytest.mark.parametrize("ratio", [0.6, 0.9, 1.4, 2.2])
def test_rv_lv_ratio_can_be_measured_on_the_images(ratio, monkeypatch):
    seen = {}

    def spy(name):
        original = getattr(phantom, name)

        def wrapped(*args):
            seen[name] = original(*args)
            return seen[name]

        monkeypatch.setattr(phantom, name, wrapped)

    spy("build_heart")
    spy("_random_grid")
    spy("_densities")
    scan = chest(7, rv_lv_ratio=ratio, noise_hu=0.0, shape=(80, 150, 150), spacing_mm=(2, 1.6, 1.6))
    heart, grid, hu_of = (seen[k] for k in ("build_heart", "_random_grid", "_densities"))
    wall, lv, rv = (hu_of[k] for k in ("myocardium", "left_ventricle", "right_ventricle"))
    classes = (("lv", (wall + lv) / 2, (lv + rv) / 2), ("rv", (wall + rv) / 2, rv + 30))
    widths = {"lv": 0.0, "rv": 0.0}
    steps = np.arange(-45.0, 130.0, 0.5)
    for along in np.arange(-16.0, 29.0, 4.0):
        for up in np.arange(-20.0, 13.0, 4.0):
            local = np.stack([np.full_like(steps, along), steps, np.full_like(steps, up)], axis=1)
            points = (heart.lv_centre + local @ heart.frame) @ grid.turn().T + grid.pose[:3]
            index = points[:, ::-1] / grid.spacing + (np.array(grid.shape) - 1) / 2
            hu = ndimage.map_coordinates(scan.volume.astype(np.float32), index.T, order=1)
            for name, low, high in classes:
                runs, n = ndimage.label((hu > low) & (hu < high))
                lengths = np.bincount(runs)[1:] * 0.5
                middles = ndimage.mean(steps, runs, np.arange(1, n + 1))
                beyond = np.asarray(middles) > 0.5 * heart.lv_radii[1]
                kept = lengths[beyond if name == "rv" else ~beyond]
                widths[name] = max(widths[name], kept.max(initial=0.0))
    assert widths["rv"] / widths["lv"] == pytest.approx(ratio, rel=0.1)
    assert scan.measures["rv_lv_ratio"] == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((32, 64, 64), (8.0, 5.4, 5.4)), ((20, 40, 48), (3.0, 4.0, 4.0)), ((2, 16, 16), (20, 22, 22))],
)
def test_any_grid(shape, spacing_mm):
    scan = chest(8, shape=shape, spacing_mm=spacing_mm, clot_burden=0.8, calcium=0.8, effusion=0.7)
    assert scan.volume.shape == scan.embolus.shape == scan.calcium.shape == shape
    assert scan.spacing_mm == spacing_mm
    assert np.isfinite(list(scan.measures.values())).all()


def test_grid_does_not_change_the_patient():
    coarse = chest(9, shape=(24, 48, 48), spacing_mm=(11.0, 7.2, 7.2), noise_hu=0.0)
    fine = chest(9, noise_hu=0.0)
    pooled = fine.volume.reshape(24, 2, 48, 2, 48, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(pooled.ravel(), coarse.volume.ravel())[0, 1] > 0.97


def test_effusion_lies_in_the_dependent_lung():
    dry, wet = (chest(10, noise_hu=0.0, effusion=e) for e in (0.0, 1.0))
    fluid = (wet.volume > -30) & (dry.volume < -700)
    assert fluid.sum() * np.prod(wet.spacing_mm) / 1000 > 200
    lung = np.argwhere((dry.volume > LUNG[0]) & (dry.volume < LUNG[1]))
    assert np.argwhere(fluid)[:, 1].mean() < lung[:, 1].mean() - 5


@pytest.mark.parametrize(
    ("change", "word"),
    [({"clot_burden": 1.2}, "clot_burden"), ({"rv_lv_ratio": 3.0}, "rv_lv_ratio")],
)
def test_parameters_out_of_range_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        chest(0, **change)
