"""Simulated echo: what is measured in the picture is the heart that was asked for."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from sample_data.echo_loop import render_loop
from sample_data.echo_texture import fan
from sample_data.heart import VIEWS, Heart

DOPPLER = tuple(view for view in VIEWS if "Doppler" in view)
GREY = tuple(view for view in VIEWS if view not in DOPPLER)
LEAKING = Heart(regurgitation=0.7, la_diameter_mm=46.0)


def loop_of(view, seed=0, heart=None, *, size=112, frames=32, **changes):
    heart = replace(heart or Heart(), **changes)
    return render_loop(heart, view, np.random.default_rng(seed), size=size, frames=frames)


def principal(mask):
    """Pixels of a mask along its long and its short principal axis, (n, 2), centred."""
    points = np.argwhere(mask).astype(float)
    points -= points.mean(axis=0)
    _, axes = np.linalg.eigh(points.T @ points)
    return points @ axes[:, ::-1]


def extent_mm(loop, mask, axis):
    along = principal(mask)[:, axis]
    return (np.ptp(along) + 1.0) * loop.mm_per_pixel


def area_length_volume(loop, frame):
    """8 A^2 / (3 pi L), in ml, of the left ventricular cavity."""
    mask = loop.masks["lv_cavity"][frame]
    area = mask.sum() * loop.mm_per_pixel**2
    return 8.0 * area**2 / (3.0 * np.pi * extent_mm(loop, mask, 0)) / 1000.0


def middle(mask):
    y, x = ndimage.center_of_mass(mask)
    return x, y


@pytest.mark.parametrize("view", ["A4C", "A2C"])
@pytest.mark.parametrize(
    ("ejection_fraction", "lv_diameter_mm", "rhythm"),
    [(0.18, 66.0, "sinus"), (0.35, 58.0, "af"), (0.50, 40.0, "sinus"), (0.70, 48.0, "sinus")],
)
def test_ejection_fraction_by_area_length(view, ejection_fraction, lv_diameter_mm, rhythm):
    for seed in range(4):
        loop = loop_of(
            view,
            seed,
            ejection_fraction=ejection_fraction,
            lv_diameter_mm=lv_diameter_mm,
            rhythm=rhythm,
            rate_bpm=95.0 if rhythm == "af" else 70.0,
        )
        before, after = (area_length_volume(loop, f) for f in (loop.ed_frame, loop.es_frame))
        assert 1.0 - after / before == pytest.approx(ejection_fraction, abs=0.05)
    # An ordinary ventricle of 48 mm holds about 100 ml (Lang 2015: 62 to 150 in men).
    if lv_diameter_mm == 48.0:
        assert 80.0 < before < 135.0


def test_end_diastole_and_end_systole_are_the_largest_and_the_smallest_cavity():
    loop = loop_of("A4C", 3)
    area = loop.masks["lv_cavity"].sum(axis=(1, 2))
    assert area[loop.ed_frame] > 0.98 * area.max()
    assert area[loop.es_frame] < 1.02 * area.min()
    assert loop.ed_frame < loop.es_frame
    assert loop.phase[loop.ed_frame] < 0.1


@pytest.mark.parametrize("diameter", [40.0, 50.0, 60.0])
def test_diameter_of_the_left_ventricle_in_the_parasternal_long_axis(diameter):
    for seed in range(4):
        loop = loop_of("Parasternal_Long", seed, lv_diameter_mm=diameter)
        measured = extent_mm(loop, loop.masks["lv_cavity"][loop.ed_frame], 1)
        assert measured == pytest.approx(diameter, abs=4.0)


@pytest.mark.parametrize(("wall", "diameter"), [(7.0, 62.0), (9.0, 48.0), (16.0, 42.0)])
def test_wall_thickness(wall, diameter):
    loop = loop_of("Parasternal_Short", 5, wall_mm=wall, lv_diameter_mm=diameter)
    frame, scale = loop.ed_frame, loop.mm_per_pixel
    cavity = loop.masks["lv_cavity"][frame].sum()
    ring = loop.masks["lv_wall"][frame].sum()
    inner, outer = (np.sqrt(a / np.pi) * scale for a in (cavity, cavity + ring))
    assert outer - inner == pytest.approx(wall, abs=0.8)
    assert 2.0 * inner == pytest.approx(diameter, abs=1.5)

    # Posterior wall below the middle of the cavity in the long axis, along one column of pixels.
    loop = loop_of("Parasternal_Long", 5, size=224, wall_mm=wall, lv_diameter_mm=diameter)
    x, y = middle(loop.masks["lv_cavity"][loop.ed_frame])
    column = loop.masks["lv_wall"][loop.ed_frame][round(y) :, round(x)]
    assert column.sum() * loop.mm_per_pixel == pytest.approx(wall, abs=2.0)


def test_the_wall_thickens_but_keeps_its_volume():
    loop = loop_of("Parasternal_Short", 1, ejection_fraction=0.6)
    ed, es = loop.ed_frame, loop.es_frame
    ring = loop.masks["lv_wall"].sum(axis=(1, 2))
    # The ventricle shortens by a quarter of 0.6, so its ring must gain 1 / (1 - 0.15).
    assert ring[es] / ring[ed] == pytest.approx(1.0 / 0.85, abs=0.05)


@pytest.mark.parametrize("view", ["A4C", "A2C", "Parasternal_Long", "Subcostal"])
def test_left_atrium_grows_with_its_diameter(view):
    areas = []
    for diameter in (28.0, 36.0, 44.0):
        loop = loop_of(view, 2, la_diameter_mm=diameter)
        areas.append(loop.masks["la"][loop.es_frame].sum() * loop.mm_per_pixel**2)
    assert all(later > 1.15 * sooner for sooner, later in pairwise(areas))


def test_left_atrial_diameter_and_emptying_in_the_parasternal_long_axis():
    loop = loop_of("Parasternal_Long", 0, la_diameter_mm=38.0, depth_mm=180.0)
    assert extent_mm(loop, loop.masks["la"][loop.es_frame], 1) == pytest.approx(38.0, abs=4.0)
    area = loop.masks["la"].sum(axis=(1, 2))
    assert area[loop.es_frame] > 1.3 * area[loop.ed_frame]


def test_right_ventricle_grows_with_its_diameter():
    areas = [loop_of("A4C", 2, rv_diameter_mm=d).masks["rv"][3].sum() for d in (26.0, 34.0, 42.0)]
    assert all(later > 1.15 * sooner for sooner, later in pairwise(areas))


def test_orientation_of_the_chambers():
    loop = loop_of("A4C")
    lv, rv, la, ra = (middle(loop.masks[n][loop.ed_frame]) for n in ("lv_cavity", "rv", "la", "ra"))
    assert rv[0] < lv[0] > ra[0] < la[0], "the left heart is on the right of the picture"
    assert lv[1] < la[1], "the apex is up"
    assert rv[1] < ra[1]

    loop = loop_of("Parasternal_Long")
    lv, la, ao, rv = (
        middle(loop.masks[n][loop.ed_frame]) for n in ("lv_cavity", "la", "aorta", "rv")
    )
    assert lv[0] < ao[0]
    assert lv[0] < la[0]
    assert rv[1] < lv[1]
    assert ao[1] < la[1], "the left atrium lies behind the aorta"

    loop = loop_of("Parasternal_Short")
    lv, rv = (middle(loop.masks[n][loop.ed_frame]) for n in ("lv_cavity", "rv"))
    assert rv[0] < lv[0]
    loop = loop_of("Subcostal")
    lv, rv, ra = (middle(loop.masks[n][loop.ed_frame]) for n in ("lv_cavity", "rv", "ra"))
    assert rv[1] < lv[1], "the right ventricle lies next to the liver"
    assert ra[0] < rv[0], "the apex points to the right"
    assert "aorta" in loop_of("A5C").masks
    assert "aorta" not in loop_of("A4C").masks


def blood_reaches(loop, frame, start, end, valve):
    """Whether a path of blood leads from one chamber to the other past the leaflets."""
    chambers = loop.masks[start][frame] | loop.masks[end][frame]
    pools, _ = ndimage.label(chambers & ~loop.masks[valve][frame])
    largest = [
        np.bincount(pools[loop.masks[name][frame]], minlength=2)[1:].argmax()
        for name in (start, end)
    ]
    return largest[0] == largest[1]


@pytest.mark.parametrize("view", ["A4C", "A2C", "A3C", "Parasternal_Long"])
def test_mitral_valve_is_shut_in_systole_and_open_in_early_filling(view):
    loop = loop_of(view, 4, size=224)
    systole = (loop.ed_frame + loop.es_frame) // 2
    filling = loop.es_frame + 4
    assert not blood_reaches(loop, systole, "lv_cavity", "la", "mitral_valve")
    assert blood_reaches(loop, filling, "lv_cavity", "la", "mitral_valve")


@pytest.mark.parametrize("view", ["A3C", "A5C", "Parasternal_Long"])
def test_aortic_valve_opens_in_systole(view):
    loop = loop_of(view, 4, size=224)
    systole = (loop.ed_frame + loop.es_frame) // 2
    assert blood_reaches(loop, systole, "lv_cavity", "aorta", "aortic_valve")
    assert not blood_reaches(loop, loop.ed_frame, "lv_cavity", "aorta", "aortic_valve")


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_a_fan_on_black(view):
    loop = loop_of(view, 6, LEAKING)
    inside = fan(112).inside
    assert loop.frames.shape == (32, 112, 112, 3)
    assert loop.frames.dtype == np.uint8
    assert not loop.frames[:, ~inside].any()
    assert 0.45 < inside.mean() < 0.75
    assert not inside[0, :40].any()
    assert not inside[40, :5].any()
    for name, mask in loop.masks.items():
        assert mask.shape == (32, 112, 112), name
        assert mask.dtype == bool
        assert not (mask & ~inside).any(), name
        if name != "regurgitant_jet":
            assert mask.any(axis=(1, 2)).all(), f"{name} is lost in some frame"
    assert loop.frame_time_ms == pytest.approx(1000.0 / 30.0)
    assert loop.mm_per_pixel * 112 == pytest.approx(160.0, rel=0.06)


@pytest.mark.parametrize("view", GREY)
def test_grey_views_are_exactly_grey_and_show_no_jet(view):
    loop = loop_of(view, 1, LEAKING)
    assert (loop.frames == loop.frames[..., :1]).all()
    assert "regurgitant_jet" not in loop.masks


@pytest.mark.parametrize("view", DOPPLER)
def test_jet_only_with_a_leak_in_systole_and_in_proportion(view):
    assert "regurgitant_jet" not in loop_of(view, 1).masks
    areas = []
    for leak in (0.2, 0.5, 0.9):
        loop = loop_of(view, 1, LEAKING, regurgitation=leak)
        jet = loop.masks["regurgitant_jet"]
        areas.append(jet.sum(axis=(1, 2)).max())
        assert not (jet & ~loop.masks["la"]).any()
        assert not jet[loop.es_frame + 4].any(), "the valve is open in early filling"
        middle_of_systole = (loop.ed_frame + loop.es_frame) // 2
        coloured = loop.frames[middle_of_systole][jet[middle_of_systole]].astype(int)
        assert np.ptp(coloured, axis=1).mean() > 100, "the jet is drawn in colour"
        assert coloured.std(axis=0).min() > 40, "as a mosaic of several"
    assert areas[0] > 0
    assert areas[0] * 1.5 < areas[1] < areas[2]


def test_blood_to_the_transducer_is_red_and_from_it_blue():
    loop = loop_of("Apical_Doppler", 2)
    systole, filling = (loop.ed_frame + loop.es_frame) // 2, loop.es_frame + 4
    cavity = loop.masks["lv_cavity"]
    red_less_blue = loop.frames[..., 0].astype(int) - loop.frames[..., 2]
    assert (red_less_blue[filling][cavity[filling]] > 80).sum() > 100
    assert (red_less_blue[filling][cavity[filling]] < -80).sum() < 20
    assert (red_less_blue[systole][cavity[systole]] < -80).sum() > 60


def test_tissue_levels_and_gain():
    loop = loop_of("Parasternal_Short", 3)
    grey = loop.frames[loop.ed_frame, ..., 0]
    level = {n: grey[loop.masks[n][loop.ed_frame]] for n in ("lv_cavity", "lv_wall", "pericardium")}
    assert level["lv_cavity"].mean() < 30
    assert level["lv_wall"].mean() > 70
    assert level["pericardium"].mean() > level["lv_wall"].mean() + 20
    assert 12 < level["lv_wall"].std() < 45, "speckle"
    bright, dim = (loop_of("Parasternal_Short", 3, gain=g).frames.mean() for g in (1.5, 0.6))
    assert bright > 1.25 * dim


def test_speckle_stays_with_resting_tissue_and_moves_with_the_beating_wall():
    loop = loop_of("Parasternal_Short", 3)
    grey = loop.frames[..., 0].astype(float)
    ed, es = loop.ed_frame, loop.es_frame
    # Deep to the heart nothing moves; within the wall the pattern is carried inwards.
    rest = fan(112).inside.copy()
    rest[:92] = False
    beating = loop.masks["lv_wall"][ed] & loop.masks["lv_wall"][es]
    still = np.corrcoef(grey[ed][rest], grey[es][rest])[0, 1]
    moved = np.corrcoef(grey[ed][beating], grey[es][beating])[0, 1]
    assert still > 0.6
    assert moved < still - 0.2


def r_to_r(loop):
    return np.diff(np.flatnonzero(np.diff(loop.phase) < 0.0)) * loop.frame_time_ms


def test_rate_is_kept_and_fibrillation_is_irregular():
    sinus = [r_to_r(loop_of("A4C", s, frames=60, size=32, rate_bpm=150.0)) for s in range(4)]
    assert np.concatenate(sinus) == pytest.approx(400.0, abs=45.0)
    fibrillating = np.concatenate(
        [
            r_to_r(loop_of("A4C", s, frames=60, size=32, rate_bpm=150.0, rhythm="af"))
            for s in range(8)
        ]
    )
    assert fibrillating.mean() == pytest.approx(400.0, rel=0.15)
    assert fibrillating.std() > 50.0 > 2.0 * np.concatenate(sinus).std()


def test_only_fibrillating_atria_do_not_contract():
    late = {}
    for rhythm in ("sinus", "af"):
        loop = loop_of("A4C", 1, rhythm=rhythm, rate_bpm=60.0, frames=36)
        area = loop.masks["la"].sum(axis=(1, 2)).astype(float)
        within = (loop.phase > 0.7) & (np.arange(36) > loop.es_frame)
        late[rhythm] = np.ptp(area[within]) / area.max()
    assert late["sinus"] > 0.1
    assert late["af"] < 0.04


@pytest.mark.parametrize("view", ["A4C", "Doppler_Parasternal_Short"])
def test_same_seed_same_loop(view):
    first, again, other = (loop_of(view, seed, LEAKING) for seed in (8, 8, 9))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert all((first.masks[name] == again.masks[name]).all() for name in first.masks)
    assert (first.frames != other.frames).mean() > 0.2


@pytest.mark.parametrize("size", [64, 224])
def test_another_size_shows_the_same_heart(size):
    loop = loop_of("Parasternal_Long", 3, size=size, lv_diameter_mm=52.0)
    assert loop.frames.shape == (32, size, size, 3)
    measured = extent_mm(loop, loop.masks["lv_cavity"][loop.ed_frame], 1)
    assert measured == pytest.approx(52.0, abs=4.0)


def test_a_single_frame_can_be_drawn():
    loop = loop_of("A4C", frames=1)
    assert (loop.ed_frame, loop.es_frame) == (0, 0)
    assert loop.masks["lv_cavity"].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"view": "A6C"}, "no echo view 'A6C'; choose one of A2C, A3C"),
        ({"size": 8}, "8 pixels cannot be drawn; choose 32 to 512"),
        ({"frames": 0}, "0 frames cannot be drawn"),
        ({"fps": 0.0}, "frame rate is 0.0"),
        ({"heart": Heart(ejection_fraction=62.0)}, "ejection_fraction of the heart is 62;"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(settings, message):
    call = {"heart": Heart(), "view": "A4C", "rng": np.random.default_rng(0)} | settings
    with pytest.raises(ValueError, match=message):
        render_loop(**call)
