"""The imaging planes of a simulated echo: which structures they cut, and where these lie.

Apical and subcostal four-chamber views share one plane, and so do the parasternal long axis and
the apical three-chamber view; they differ in where the transducer stands. The orientation is that
of adult laboratories: in the four-chamber view the left ventricle is on the right of the picture,
in the parasternal long axis the aorta is on the right.
"""

from __future__ import annotations

import numpy as np

from sample_data.echo_anatomy import (
    ATRIUM_SHAPE,
    JET_SHAPE,
    LV_SHAPE,
    RV_SHAPE,
    Flow,
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
from sample_data.echo_cycle import Cycle
from sample_data.heart import Heart

_ATRIAL_WALL_MM = 2.8
_RV_WALL_MM = 4.5
_AORTIC_TILT_DEG = 20.0
# Distance from the aortic annulus, and half-width there: annulus, sinuses, junction, ascending.
_ROOT_ALONG = np.array([-2.0, 3.0, 9.0, 14.0, 20.0, 26.0, 40.0, 58.0])
_ROOT_HALF = np.array([10.5, 11.5, 15.5, 16.0, 13.5, 14.0, 15.0, 15.0])


def plane_of(view: str, heart: Heart, sizes: Sizes, cycle: Cycle) -> Plane:
    """The plane that a view of `heart.VIEWS` shows."""
    if view in ("A4C", "A5C", "Apical_Doppler"):
        plane = _four_chamber(sizes, cycle, root=view == "A5C")
        plane.rotation_deg, plane.anchor, plane.at = -9.0, (0.0, 0.0), (5.0, 14.0)
        if view == "Apical_Doppler":
            _mitral_flows(plane, heart, sizes, cycle, valve_x=np.zeros_like(sizes.base))
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
        plane.anchor, plane.at = (float(front) + _RV_WALL_MM, float(sizes.base[ed])), (11.0, 23.0)
        plane.near_field = "chest"
        if view == "Doppler_Parasternal_Long":
            x = _mitral_centre(sizes)
            _mitral_flows(plane, heart, sizes, cycle, valve_x=x)
            plane.box = ((float(x[ed]) - 4.0, float(sizes.base[ed]) + 4.0), 19.0, 34.0)
    elif view == "Parasternal_Short":
        plane = _papillary_short_axis(sizes)
    elif view == "Doppler_Parasternal_Short":
        plane = _aortic_short_axis(heart, sizes, cycle)
    elif view == "SSN":
        plane = _aortic_arch(sizes)
    else:
        plane = _four_chamber(sizes, cycle, root=False)
        ed = cycle.ed_frame
        front = 0.5 * sizes.lv_width[ed] + sizes.wall[ed] + sizes.rv_width[ed] + _RV_WALL_MM
        plane.rotation_deg = 68.0
        plane.anchor, plane.at = (-float(front), 0.68 * float(sizes.base[ed])), (-4.0, 34.0)
        plane.near_field = "liver"
    return plane


def _left_ventricle(
    plane: Plane, sizes: Sizes, *, over: tuple[tuple[str, str, np.ndarray], ...] = ()
) -> None:
    """Pericardium, then what lies `over` it (name, tissue, contour), then wall and cavity."""
    cavity = bullet(
        xy(0.0, sizes.base), sizes.lv_width, sizes.lv_length, LV_SHAPE, axis=(0.0, -1.0)
    )
    wall = offset(cavity, sizes.wall, tip=0.8)
    plane.area("pericardium", "pericardium", offset(wall, 2.6, tip=0.2))
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
    wall = offset(cavity, _ATRIAL_WALL_MM)
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
    wall = offset(np.concatenate([free, inner[:, :1]], axis=1), _RV_WALL_MM)[:, :-1]
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
        nodule = tip + xy(0.0, 0.0)
        plane.line("aortic_valve", "valve", bend(tip, nodule, tip + 3.0 * direction), 1.8)


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
    left_atrium = _atrium("la", xy(aside, base), 1.08 * sizes.la_width, 1.25 * sizes.la_width)
    right_atrium = _atrium(
        "ra", tricuspid - np.array([0.6 * aside, 0.0]), sizes.ra_width, 1.2 * sizes.ra_width
    )
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


def _mitral_centre(sizes: Sizes) -> np.ndarray:
    """Local x of the mitral orifice in the long-axis plane; the aorta takes the other 21 mm."""
    centre: np.ndarray = 0.5 * (-sizes.base_half + sizes.base_half - 21.0) + 0.0 * sizes.base
    return centre


def _long_axis(sizes: Sizes, cycle: Cycle) -> Plane:
    base, half = sizes.base, sizes.base_half
    plane = Plane(rotation_deg=0.0, anchor=(0.0, 0.0), at=(0.0, 0.0), core=(0.0, 0.6 * base[0]))
    root = xy(half - 10.5, base)
    tan = np.tan(np.radians(_AORTIC_TILT_DEG))
    behind_root = root[:, 0] + 22.0 * tan - 17.5
    mitral = xy(_mitral_centre(sizes), base)
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
    _mitral_leaflets(plane, cycle, xy(half - 21.0, base), xy(-half, base), 0.9)
    return plane


def _mitral_flows(
    plane: Plane, heart: Heart, sizes: Sizes, cycle: Cycle, *, valve_x: np.ndarray
) -> None:
    """Filling, ejection and, with a leaking valve, the jet into the left atrium."""
    base = sizes.base
    bed = bullet(
        xy(valve_x, base + 20.0), 0.68 * sizes.lv_width, 78.0, (0.62, 0.75), axis=(0.0, -1.0)
    )
    plane.flows.append(Flow(contour=bed, direction=(0.15, -0.99), speed=1.1 * cycle.mitral))
    lane = np.sign(valve_x.mean()) * -1.0 if valve_x.any() else -1.0
    outflow = bullet(
        xy(lane * 0.45 * sizes.base_half, base + 2.0),
        0.52 * sizes.lv_width,
        55.0,
        (0.5, 0.8),
        axis=(0.0, -1.0),
    )
    plane.flows.append(Flow(contour=outflow, direction=(0.0, 1.0), speed=1.1 * cycle.aortic))
    if heart.regurgitation > 0.0:
        plane.flows.append(_jet(heart, cycle, xy(valve_x, base - 3.0), sizes.la_width, (0.12, 1.0)))


def _jet(
    heart: Heart, cycle: Cycle, orifice: np.ndarray, atrium: np.ndarray, axis: tuple[float, float]
) -> Flow:
    """Mosaic plume of mitral regurgitation; its length and width grow with the severity."""
    leak = heart.regurgitation
    contour = bullet(
        orifice,
        (0.14 + 0.50 * leak) * atrium,
        (0.28 + 0.85 * leak) * atrium,
        JET_SHAPE,
        axis=axis,
    )
    direction = np.asarray(axis) / np.linalg.norm(axis)
    return Flow(
        contour=contour,
        direction=(float(direction[0]), float(direction[1])),
        speed=1.6 * cycle.systole,
        turbulent=True,
    )


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
    return centre[:, None] + np.concatenate([outer, inner], axis=1)


def _papillary_short_axis(sizes: Sizes) -> Plane:
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
    wall = _around(centre, outer, 152.0, 292.0, crescent + _RV_WALL_MM)
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


def _aortic_short_axis(heart: Heart, sizes: Sizes, cycle: Cycle) -> Plane:
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
    around = 2.0 * _ATRIAL_WALL_MM
    plane.area("la_wall", "atrial_wall", disc(la, la_width + around, la_height + around))
    plane.area(
        "ra_wall", "atrial_wall", disc(ra, 1.05 * sizes.ra_width + around, sizes.ra_width + around)
    )
    plane.area(
        "rv_wall", "myocardium", _around(centre, radius + 3.0, 168.0, 332.0, depth + _RV_WALL_MM)
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
    inflow = disc(xy(-radius - 0.5 * sizes.ra_width - 2.0, -4.0), 0.5 * sizes.ra_width, 26.0 + still)
    plane.flows.append(Flow(contour=inflow, direction=(0.3, -0.95), speed=0.6 * cycle.mitral))
    if heart.regurgitation > 0.0:
        orifice = la - xy(0.30 * la_width, 0.36 * la_height)
        plane.flows.append(_jet(heart, cycle, orifice, 0.85 * sizes.la_width, (0.55, 0.84)))
    return plane


def _aortic_arch(sizes: Sizes) -> Plane:
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
    vein = xy(np.array([-34.0, -12.0, 14.0, 34.0])[None] + still[:, None], np.array([2, -9, -13, -12]))
    artery = xy(-2.0 + still, 45.0 - 1.5 * sizes.pulse)
    la = xy(0.0 + still, 62.0 + 0.4 * sizes.la_width)
    plane.area("la_wall", "atrial_wall", disc(la, 1.1 * sizes.la_width + 5, 0.75 * sizes.la_width + 5))
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
