"""Planes across the heart and the great vessels: short axes and the aortic arch.

The origin of local coordinates is the centre of the ring, or of the arch; y points away from the
transducer and x to the right of the picture.
"""

from __future__ import annotations

import numpy as np

from sample_data.echo_anatomy import (
    ATRIAL_WALL_MM,
    RV_WALL_MM,
    Flow,
    Plane,
    Sizes,
    bend,
    disc,
    mix,
    rotate,
    tube,
    xy,
)
from sample_data.echo_cycle import Cycle
from sample_data.echo_streams import regurgitant_jet
from sample_data.heart import Heart


def _around(
    centre: np.ndarray, radius: np.ndarray, start_deg: float, end_deg: float, depth: np.ndarray
) -> np.ndarray:
    """Crescent (F, N, 2) on a circle, `depth` (F,) thick in its middle; angles are clockwise."""
    v = np.linspace(0.0, 1.0, 22)
    angle = np.radians(start_deg + v * (end_deg - start_deg))
    thick = np.sin(np.pi * np.clip(v, 0.02, 0.98)) ** 0.55
    unit = xy(np.cos(angle), np.sin(angle))
    outer = (radius[:, None] + thick * depth[:, None])[..., None] * unit
    inner = (radius[:, None] - 4.0 + 0.0 * thick)[..., None] * unit[::-1]
    outline: np.ndarray = centre[:, None] + np.concatenate([outer, inner], axis=1)
    return outline


def papillary_short_axis(sizes: Sizes) -> Plane:
    """Ring of the left ventricle with both papillary muscles, the right one a crescent on it."""
    still = np.zeros_like(sizes.base)
    centre = xy(still, 0.0)
    outer = 0.5 * sizes.lv_width + sizes.wall
    crescent = 0.66 * sizes.rv_width
    front = float(outer[0] + crescent[0] * 0.8)
    plane = Plane(
        rotation_deg=0.0,
        anchor=(0.0, -front),
        at=(9.0, 27.0),
        core=(0.0, 0.0),
        near_field="chest",
    )
    plane.area("pericardium", "pericardium", disc(centre, 2 * outer + 5.0, 2 * outer + 5.0))
    wall = _around(centre, outer, 152.0, 292.0, crescent + RV_WALL_MM)
    plane.area("rv_wall", "myocardium", wall)
    plane.area("rv", "blood", _around(centre, outer, 157.0, 287.0, crescent))
    plane.area("lv_wall", "myocardium", disc(centre, 2 * outer, 2 * outer))
    plane.area("lv_cavity", "blood", disc(centre, sizes.lv_width, sizes.lv_width))
    # Anterolateral muscle at four o'clock, posteromedial one at half past seven.
    for angle in (32.0, 138.0):
        unit = rotate(np.array([1.0, 0.0]), angle)
        root = 0.52 * sizes.lv_width[:, None] * unit
        head = (0.5 * sizes.lv_width - 8.5)[:, None] * unit
        plane.line("papillary_muscle", "myocardium", bend(root, 0.5 * (root + head), head, 3), 8.5)
    return plane


def aortic_short_axis(heart: Heart, sizes: Sizes, cycle: Cycle) -> Plane:
    """Short axis at the aortic valve: the right heart wraps around it from tricuspid to lung."""
    still = np.zeros_like(sizes.base)
    centre = xy(still, 0.0)
    radius = 15.0 + 0.6 * sizes.pulse
    plane = Plane(
        rotation_deg=0.0,
        anchor=(0.0, -46.0),
        at=(2.0, 27.0),
        core=(0.0, 0.0),
        near_field="chest",
        box=((8.0, 16.0), 24.0, 42.0),
    )
    depth = 0.78 * sizes.rv_width
    la_width, la_height = 1.15 * sizes.la_width, 0.95 * sizes.la_width
    la = xy(0.16 * sizes.la_width, radius + 4.0 + 0.5 * la_height)
    ra = xy(-radius - 0.52 * sizes.ra_width - 4.0, 14.0 + 0.35 * sizes.ra_width)
    trunk = xy(
        np.array([19.0, 27.0, 36.0, 42.0, 42.0, 34.0])[None] + still[:, None],
        np.array([-20.0, -14.0, -5.0, 8.0, 20.0, 30.0]),
    )
    calibre = np.array([11.0, 11.5, 11.5, 10.5, 9.0, 7.0])
    around = 2.0 * ATRIAL_WALL_MM
    plane.area("la_wall", "atrial_wall", disc(la, la_width + around, la_height + around))
    plane.area(
        "ra_wall", "atrial_wall", disc(ra, 1.05 * sizes.ra_width + around, sizes.ra_width + around)
    )
    plane.area(
        "rv_wall", "myocardium", _around(centre, radius + 3.0, 168.0, 332.0, depth + RV_WALL_MM)
    )
    plane.area("pulmonary_wall", "vessel_wall", tube(trunk, calibre + 2.4))
    plane.area("la", "blood", disc(la, la_width, la_height))
    plane.area("ra", "blood", disc(ra, 1.05 * sizes.ra_width, sizes.ra_width))
    plane.area("rv", "blood", _around(centre, radius + 3.0, 174.0, 328.0, depth))
    plane.area("pulmonary_artery", "blood", tube(trunk, calibre))
    plane.area("aortic_wall", "vessel_wall", disc(centre, 2 * radius + 5.5, 2 * radius + 5.5))
    plane.area("aorta", "blood", disc(centre, 2 * radius, 2 * radius))
    # Commissures at two, six and ten o'clock; each cusp edge bulges to the wall as it opens.
    commissures = [rotate(np.array([1.0, 0.0]), a) for a in (-30.0, 90.0, 210.0)]
    for one, two in zip(commissures, commissures[1:] + commissures[:1], strict=True):
        edge = (0.76 * cycle.aortic * radius)[:, None] * (one + two)
        path = np.stack([radius[:, None] * one, edge, radius[:, None] * two], axis=1)
        plane.line("aortic_valve", "valve", path, 1.6)
    left, right = xy(-radius - 5.0, 6.0), xy(-radius - 0.9 * sizes.ra_width, 4.0)
    tip = mix(0.5 * (left + right), right + np.array([3.0, -12.0]), cycle.mitral)
    plane.line("tricuspid_valve", "valve", bend(right, 0.5 * (right + tip), tip), 1.8)
    tip = mix(0.5 * (left + right), left + np.array([-3.0, -10.0]), cycle.mitral)
    plane.line("tricuspid_valve", "valve", bend(left, 0.5 * (left + tip), tip), 1.8)
    for side in (-8.0, 8.0):
        hinge = xy(24.0 + side * 0.9, -16.0 + side) + centre
        tip = mix(xy(25.0, -15.0) + centre, hinge + np.array([7.0, 6.0]), cycle.aortic)
        plane.line("pulmonary_valve", "valve", bend(hinge, 0.5 * (hinge + tip), tip), 1.6)
    plane.flows.append(
        Flow(
            contour=tube(trunk[:, :5], calibre[:5] * 0.85),
            direction=(0.55, 0.84),
            speed=0.9 * cycle.aortic,
        )
    )
    inflow = disc(
        xy(-radius - 0.5 * sizes.ra_width - 2.0, -4.0), 0.5 * sizes.ra_width, 26.0 + still
    )
    plane.flows.append(Flow(contour=inflow, direction=(0.3, -0.95), speed=0.6 * cycle.mitral))
    if heart.regurgitation > 0.0:
        orifice = la - xy(0.30 * la_width, 0.36 * la_height)
        plane.flows.append(
            regurgitant_jet(heart, cycle, orifice, 0.85 * sizes.la_width, (0.55, 0.84))
        )
    return plane


def aortic_arch(sizes: Sizes) -> Plane:
    """Arch with its three branches over the right pulmonary artery and the left atrium."""
    still = np.zeros_like(sizes.base)
    plane = Plane(
        rotation_deg=0.0, anchor=(0.0, 0.0), at=(1.0, 48.0), core=(0.0, 45.0), near_field="neck"
    )
    angle = np.radians(np.linspace(180.0, 360.0, 13))
    x = np.concatenate([[-38.0, -33.0, -29.0], 27.0 * np.cos(angle), [29.0, 32.0, 36.0]])
    y = np.concatenate([[78.0, 62.0, 45.0], 30.0 + 24.0 * np.sin(angle), [48.0, 72.0, 100.0]])
    path = xy(x[None] + still[:, None], y)
    half = np.concatenate([[14.5, 14.0, 13.5], np.linspace(13.0, 10.8, 13), [10.5, 10.0, 9.5]])
    half = half * (1.0 + 0.07 * sizes.pulse[:, None])
    branches = [
        (xy(np.array([a, a + lean])[None] + still[:, None], np.array([14.0, -26.0])), width)
        for a, lean, width in ((-13.0, -9.0, 5.5), (2.0, 1.0, 3.8), (15.0, 9.0, 4.4))
    ]
    vein = xy(
        np.array([-34.0, -12.0, 14.0, 34.0])[None] + still[:, None], np.array([2, -9, -13, -12])
    )
    artery = xy(-2.0 + still, 45.0 - 1.5 * sizes.pulse)
    la = xy(0.0 + still, 62.0 + 0.4 * sizes.la_width)
    plane.area(
        "la_wall", "atrial_wall", disc(la, 1.1 * sizes.la_width + 5, 0.75 * sizes.la_width + 5)
    )
    plane.area("la", "blood", disc(la, 1.1 * sizes.la_width, 0.75 * sizes.la_width))
    for branch, width in branches:
        wide = np.array([width, width])
        plane.area("aortic_wall", "vessel_wall", tube(branch, wide + 2.2))
    plane.area("innominate_vein", "vessel_wall", tube(vein, np.full(4, 5.6)))
    plane.area("innominate_vein", "blood", tube(vein, np.full(4, 3.8)))
    plane.area("aortic_wall", "vessel_wall", tube(path, half + 2.6))
    for branch, width in branches:
        plane.area("aorta", "blood", tube(branch, np.array([width, width])))
    plane.area("aorta", "blood", tube(path, half))
    plane.area("pulmonary_wall", "vessel_wall", disc(artery, 23.0 + still, 23.0 + still))
    plane.area("pulmonary_artery", "blood", disc(artery, 18.0 + still, 18.0 + sizes.pulse))
    return plane
