"""The imaging planes of a simulated echo: which structures they cut, and where these lie.

Apical and subcostal four-chamber views share one plane, and so do the parasternal long axis and
the apical three-chamber view; they differ in where the transducer stands. The orientation is that
of adult laboratories: in the four-chamber view the left ventricle is on the right of the picture,
in the parasternal long axis the aorta is on the right.
"""

from __future__ import annotations

import numpy as np

from sample_data.echo_anatomy import (
    ATRIAL_WALL_MM,
    ATRIUM_SHAPE,
    LV_SHAPE,
    RV_SHAPE,
    RV_WALL_MM,
    Plane,
    Sizes,
    bend,
    bullet,
    disc,
    mix,
    offset,
    profile,
    rotate,
    tube,
    xy,
)
from sample_data.echo_cross_sections import aortic_arch, aortic_short_axis, papillary_short_axis
from sample_data.echo_cycle import Cycle
from sample_data.echo_streams import add_mitral_streams
from sample_data.heart import Heart

_ATRIAL_SEPTUM_MM = 4.0
_AORTIC_TILT_DEG = 20.0
# In the long-axis plane the aortic annulus takes 21 mm of the base, the mitral orifice the rest.
_AORTIC_ANNULUS_MM = 21.0
_MITRAL_X = -0.5 * _AORTIC_ANNULUS_MM
# Distance from the aortic annulus, and half-width there: annulus, sinuses, junction, ascending.
_ROOT_ALONG = np.array([-2.0, 3.0, 9.0, 14.0, 20.0, 26.0, 40.0, 58.0])
_ROOT_HALF = np.array([10.5, 11.5, 15.5, 16.0, 13.5, 14.0, 15.0, 15.0])


def plane_of(view: str, heart: Heart, sizes: Sizes, cycle: Cycle) -> Plane:
    """The plane that a view of `heart.VIEWS` shows."""
    if view in ("A4C", "A5C", "Apical_Doppler"):
        plane = _four_chamber(sizes, cycle, root=view == "A5C")
        plane.rotation_deg, plane.anchor, plane.at = -9.0, (0.0, 0.0), (5.0, 14.0)
        if view == "Apical_Doppler":
            add_mitral_streams(plane, heart, sizes, cycle, valve_x=0.0, septum=-1.0, lean=0.1)
            plane.box = ((0.0, float(sizes.base[cycle.ed_frame]) + 2.0), 15.0, 44.0)
    elif view == "A2C":
        plane = _two_chamber(sizes, cycle)
        plane.rotation_deg, plane.anchor, plane.at = 3.0, (0.0, 0.0), (1.0, 13.0)
    elif view == "A3C":
        plane = _long_axis(sizes, cycle)
        plane.rotation_deg, plane.anchor, plane.at = 6.0, (0.0, 0.0), (0.0, 13.0)
    elif view in ("Parasternal_Long", "Doppler_Parasternal_Long"):
        plane = _long_axis(sizes, cycle)
        ed = cycle.ed_frame
        front = 0.5 * sizes.lv_width[ed] + sizes.wall[ed] + 0.72 * sizes.rv_width[ed]
        plane.rotation_deg = -94.0
        plane.anchor, plane.at = (float(front) + RV_WALL_MM, float(sizes.base[ed])), (11.0, 23.0)
        plane.near_field = "chest"
        if view == "Doppler_Parasternal_Long":
            add_mitral_streams(plane, heart, sizes, cycle, valve_x=_MITRAL_X, septum=1.0, lean=0.5)
            plane.box = ((_MITRAL_X - 4.0, float(sizes.base[ed]) + 4.0), 19.0, 34.0)
    elif view == "Parasternal_Short":
        plane = papillary_short_axis(sizes)
    elif view == "Doppler_Parasternal_Short":
        plane = aortic_short_axis(heart, sizes, cycle)
    elif view == "SSN":
        plane = aortic_arch(sizes)
    else:
        plane = _four_chamber(sizes, cycle, root=False)
        ed = cycle.ed_frame
        front = 0.5 * sizes.lv_width[ed] + sizes.wall[ed] + sizes.rv_width[ed] + RV_WALL_MM
        plane.rotation_deg = 78.0
        plane.anchor, plane.at = (-float(front), 0.68 * float(sizes.base[ed])), (-6.0, 36.0)
        plane.near_field = "liver"
    return plane


def _left_ventricle(
    plane: Plane, sizes: Sizes, *, over: tuple[tuple[str, str, np.ndarray], ...] = ()
) -> None:
    """Pericardium, then what lies `over` it (name, tissue, contour), then wall and cavity."""
    cavity = bullet(
        xy(0.0, sizes.base), sizes.lv_width, sizes.lv_length, LV_SHAPE, axis=(0.0, -1.0)
    )
    wall = offset(cavity, sizes.wall, tip=0.8, ends=0.55)
    # The mitral plane is open: neither wall nor pericardium reaches across it.
    pericardium = offset(wall, 2.6, tip=0.2, ends=0.3)
    for outline in (wall, pericardium):
        outline[..., 1] = np.minimum(outline[..., 1], sizes.base[:, None])
    plane.area("pericardium", "pericardium", pericardium)
    for name, tissue, contour in over:
        plane.area(name, tissue, contour)
    plane.area("lv_wall", "myocardium", wall)
    plane.area("lv_cavity", "blood", cavity)


def _atrium(
    name: str,
    annulus: np.ndarray,
    width: np.ndarray,
    length: np.ndarray,
    axis: np.ndarray | tuple[float, float] = (0.0, 1.0),
) -> tuple[tuple[str, str, np.ndarray], ...]:
    # It begins a little above the annulus, where the ventricle covers it: no seam between them.
    cavity = bullet(annulus - np.array([0.0, 2.5]), width, length + 2.5, ATRIUM_SHAPE, axis=axis)
    wall = offset(cavity, ATRIAL_WALL_MM)
    return ((f"{name}_wall", "atrial_wall", wall), (name, "blood", cavity))


def _half_width_at(sizes: Sizes, y: np.ndarray) -> np.ndarray:
    """(F, N) half-width of the left ventricular cavity at local y (F, N)."""
    along, half = profile(LV_SHAPE)
    share = (sizes.base[:, None] - y) / sizes.lv_length[:, None]
    inside = np.interp(np.clip(share, 0.0, 1.0), along, half)
    width: np.ndarray = 0.5 * sizes.lv_width[:, None] * inside
    return width


def _right_ventricle(
    sizes: Sizes, *, side: float, top: float, bottom: np.ndarray, width: np.ndarray
) -> tuple[tuple[str, str, np.ndarray], ...]:
    """Right ventricle along the septum on the left (side -1) or on the right (side 1).

    It reaches from the share `top` of the long axis to y = bottom; its inner border lies within
    the septum, which is drawn on top.
    """
    along, half = profile(RV_SHAPE)
    share = 1.0 - along
    start = top * sizes.base
    y = start[:, None] + share * (bottom - start)[:, None]
    septum = _half_width_at(sizes, y) + sizes.wall[:, None]
    free = xy(side * (septum + half * width[:, None]), y)
    inner = xy(side * (septum - 0.5 * sizes.wall[:, None]), y)[:, ::-1]
    wall = offset(np.concatenate([free, inner[:, :1]], axis=1), RV_WALL_MM)[:, :-1]
    return (
        ("rv_wall", "myocardium", np.concatenate([wall, inner], axis=1)),
        ("rv", "blood", np.concatenate([free, inner], axis=1)),
    )


def _mitral_leaflets(
    plane: Plane, cycle: Cycle, anterior: np.ndarray, posterior: np.ndarray, scale: float
) -> None:
    """Two leaflets from their hinges (F, 2); `anterior` may lie left or right of `posterior`."""
    gap = posterior - anterior
    span = gap[:, :1]
    meet = anterior + 0.62 * gap - np.array([0.0, 5.0 * scale])
    reach = np.array([0.0, 1.0])
    for hinge, opened in (
        (anterior, anterior + 0.16 * span * (1.0, 0.0) - 22.0 * scale * reach),
        (posterior, posterior - 0.10 * span * (1.0, 0.0) - 14.0 * scale * reach),
    ):
        tip = mix(meet, opened, cycle.mitral)
        sag = 0.5 * (hinge + tip) - (1.0 - cycle.mitral)[:, None] * 2.5 * reach
        plane.line("mitral_valve", "valve", bend(hinge, sag, tip))


def _aortic_root(plane: Plane, cycle: Cycle, annulus: np.ndarray, tilt_deg: float) -> None:
    """Root and ascending aorta from the annulus (F, 2), and the two cusps that a plane cuts."""
    direction = rotate(np.array([0.0, 1.0]), -tilt_deg)
    across = rotate(np.array([1.0, 0.0]), -tilt_deg)
    path = annulus[:, None] + _ROOT_ALONG[:, None] * direction
    plane.area("aortic_wall", "vessel_wall", tube(path, _ROOT_HALF + 2.6))
    plane.area("aorta", "blood", tube(path, _ROOT_HALF))
    for side in (-1.0, 1.0):
        hinge = annulus + 2.0 * direction + side * 11.0 * across
        closed = annulus + 7.0 * direction
        opened = annulus + 15.0 * direction + side * 10.0 * across
        tip = mix(closed, opened, cycle.aortic)
        belly = 0.5 * (hinge + tip) + 1.5 * direction
        plane.line("aortic_valve", "valve", bend(hinge, belly, tip), 1.8)


def _four_chamber(sizes: Sizes, cycle: Cycle, *, root: bool) -> Plane:
    base, half = sizes.base, sizes.base_half
    tricuspid_y = base - 6.0 - 7.0 * sizes.squeeze
    septal = half + sizes.wall
    tricuspid = xy(-septal - 0.44 * sizes.rv_width, tricuspid_y)
    # In the five-chamber plane the root stands where the septum of the atria was.
    aside = 9.0 if root else 0.0
    plane = Plane(rotation_deg=0.0, anchor=(0.0, 0.0), at=(0.0, 0.0), core=(0.0, 0.6 * base[0]))
    right_heart = _right_ventricle(
        sizes, side=-1.0, top=0.2, bottom=tricuspid_y, width=sizes.rv_width
    )
    la_width = 1.08 * sizes.la_width
    septum = aside - 0.5 * la_width - _ATRIAL_SEPTUM_MM
    ra_x = np.minimum(tricuspid[:, 0] - 0.6 * aside, septum - 0.5 * sizes.ra_width)
    left_atrium = _atrium("la", xy(aside, base), la_width, 1.25 * sizes.la_width)
    right_atrium = _atrium("ra", xy(ra_x, tricuspid_y), sizes.ra_width, 1.2 * sizes.ra_width)
    crux = disc(xy(-half - 6.0, base + 1.0), 20.0 + 0 * base, 26.0 + 0 * base)
    _left_ventricle(
        plane,
        sizes,
        over=(
            right_heart[0],
            right_atrium[0],
            left_atrium[0],
            ("crux", "myocardium", crux),
            right_heart[1],
            right_atrium[1],
            left_atrium[1],
        ),
    )
    if root:
        _aortic_root(plane, cycle, xy(-half + 8.0, base), -12.0)
    hinge = -half + 19.0 if root else -half
    _mitral_leaflets(plane, cycle, xy(hinge, base), xy(half, base), 0.8 if root else 1.0)
    outer = tricuspid - xy(0.40 * sizes.rv_width, 0.0)
    inner = tricuspid + xy(0.42 * sizes.rv_width, 0.0)
    for start, share in ((outer, 0.0), (inner, 0.15)):
        meet = tricuspid + np.array([0.0, -4.0])
        opened = start + (share - 0.1) * (outer - inner) - np.array([0.0, 17.0])
        tip = mix(meet, opened, cycle.mitral)
        plane.line("tricuspid_valve", "valve", bend(start, 0.5 * (start + tip), tip), 1.8)
    return plane


def _two_chamber(sizes: Sizes, cycle: Cycle) -> Plane:
    base, half = sizes.base, sizes.base_half
    plane = Plane(rotation_deg=0.0, anchor=(0.0, 0.0), at=(0.0, 0.0), core=(0.0, 0.6 * base[0]))
    atrium = _atrium("la", xy(0.0, base), 1.12 * sizes.la_width, 1.2 * sizes.la_width)
    appendage = disc(xy(0.55 * sizes.la_width, base + 10.0), 17.0 + 0 * base, 9.0 + 0 * base)
    sinus = xy(-half - 6.0, base + 5.0)
    _left_ventricle(
        plane,
        sizes,
        over=(
            atrium[0],
            ("la", "blood", appendage),
            ("crux", "myocardium", disc(sinus, 15.0 + 0 * base, 14.0 + 0 * base)),
            ("coronary_sinus", "blood", disc(sinus, 7.0 + 0 * base, 7.0 + 0 * base)),
            atrium[1],
        ),
    )
    _mitral_leaflets(plane, cycle, xy(half, base), xy(-half, base), 0.95)
    return plane


def _long_axis(sizes: Sizes, cycle: Cycle) -> Plane:
    base, half = sizes.base, sizes.base_half
    plane = Plane(rotation_deg=0.0, anchor=(0.0, 0.0), at=(0.0, 0.0), core=(0.0, 0.6 * base[0]))
    root = xy(half + _MITRAL_X, base)
    tan = np.tan(np.radians(_AORTIC_TILT_DEG))
    behind_root = root[:, 0] + 22.0 * tan - 17.5
    mitral = xy(_MITRAL_X, base)
    lean = (behind_root - 0.5 * sizes.la_width - mitral[:, 0]) / (0.62 * sizes.la_width)
    atrium = _atrium("la", mitral, sizes.la_width, 1.25 * sizes.la_width, xy(lean, 1.0))
    right = _right_ventricle(
        sizes, side=1.0, top=0.25, bottom=base + 26.0, width=0.72 * sizes.rv_width
    )
    far = xy(behind_root - sizes.la_width - 17.0, base + 12.0)
    descending = disc(far, 21.0 + sizes.pulse, 21.0 + sizes.pulse)
    _left_ventricle(
        plane,
        sizes,
        over=(
            ("descending_wall", "vessel_wall", disc(far, 25.0 + 0 * base, 25.0 + 0 * base)),
            ("descending_aorta", "blood", descending),
            atrium[0],
            right[0],
            right[1],
            atrium[1],
        ),
    )
    _aortic_root(plane, cycle, root, _AORTIC_TILT_DEG)
    _mitral_leaflets(plane, cycle, xy(half - _AORTIC_ANNULUS_MM, base), xy(-half, base), 0.9)
    return plane
