"""Trunk, skeleton, heart and great vessels of the CT phantom, as primitives to be painted.

Coordinates are anatomical millimetres, (x, y, z) = (patient's right, anterior, superior), with
the origin a little below the carina. Sizes are those of an adult of average stature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sample_data.phantom_vessels import capsules_of

_PROFILE_Z = (-150.0, -60.0, 0.0, 50.0, 90.0, 120.0, 150.0)
_CAVITY_HALF_WIDTH = (124.0, 127.0, 123.0, 112.0, 92.0, 68.0, 50.0)
_CAVITY_HALF_DEPTH = (86.0, 90.0, 87.0, 77.0, 63.0, 46.0, 38.0)
_CAVITY_Y = (1.0, 2.0, 0.0, -4.0, -10.0, -15.0, -18.0)
_BODY_HALF_WIDTH = (143.0, 146.0, 148.0, 152.0, 148.0, 128.0, 100.0)
_BODY_HALF_DEPTH = (101.0, 103.0, 102.0, 96.0, 84.0, 68.0, 60.0)

# A squircle of this quartic term bounds the rib cage; `paint_trunk` uses the same one.
_CAGE_SQUARENESS = 0.3


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """Shape of the chest: how wide, how deep, how fat, and where the diaphragm stands."""

    width: float
    depth: float
    fat_lateral_mm: float
    fat_sagittal_mm: float
    spine_shift_mm: float
    domes: np.ndarray
    apex: np.ndarray

    def spine_y(self, z: np.ndarray) -> np.ndarray:
        """Centre of the vertebral bodies; the thoracic kyphosis is deepest near z = 15."""
        return -57.0 + self.spine_shift_mm + 11.0 * ((np.asarray(z) - 15.0) / 110.0) ** 2

    def cage(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half-width, half-depth and centre y of the thoracic cavity at heights z."""
        return (
            np.interp(z, _PROFILE_Z, _CAVITY_HALF_WIDTH) * self.width,
            np.interp(z, _PROFILE_Z, _CAVITY_HALF_DEPTH) * self.depth,
            np.interp(z, _PROFILE_Z, _CAVITY_Y),
        )

    def slices(self, z: np.ndarray) -> np.ndarray:
        """The (D, 9) table that `paint_trunk` and `paint_spine` read."""
        a, b, y = self.cage(z)
        return np.stack(
            [
                np.interp(z, _PROFILE_Z, _BODY_HALF_WIDTH) * self.width + self.fat_lateral_mm,
                np.interp(z, _PROFILE_Z, _BODY_HALF_DEPTH) * self.depth + self.fat_sagittal_mm,
                y - 2.0,
                np.full_like(z, self.fat_lateral_mm),
                np.full_like(z, self.fat_sagittal_mm),
                a,
                b,
                y,
                self.spine_y(z),
            ],
            axis=1,
        )

    def on_cage(self, angle: np.ndarray, z: np.ndarray, beyond: float) -> np.ndarray:
        """Points (..., 3) `beyond` mm outside the cavity; angle 0 is the right, 90 deg front."""
        a, b, yc = self.cage(z)
        u, v = np.cos(angle), np.sin(angle)
        k = _CAGE_SQUARENESS * (u * v) ** 2 + 1e-9
        t = np.sqrt((1.0 - np.sqrt(1.0 - 4.0 * k)) / (2.0 * k))
        return np.stack([(a * t + beyond) * u, yc + (b * t + beyond) * v, z], axis=-1)


def build_trunk(female: bool, rng: np.random.Generator) -> Trunk:
    """A random trunk; women are a little narrower with more subcutaneous fat."""
    fat = float(np.clip(rng.gamma(6.0, 2.2) + (3.0 if female else 0.0), 8.0, 22.0))
    top = rng.normal(-76.0, 5.0)
    return Trunk(
        width=float(np.clip(rng.normal(0.96 if female else 1.0, 0.025), 0.91, 1.05)),
        depth=float(np.clip(rng.normal(0.96 if female else 1.0, 0.04), 0.88, 1.07)),
        fat_lateral_mm=min(fat, 15.0),
        fat_sagittal_mm=0.85 * fat,
        spine_shift_mm=float(rng.normal(0.0, 2.0)),
        domes=np.array(
            [
                [top, rng.normal(62, 4), rng.normal(44, 5), rng.normal(34, 5)],
                [top - rng.uniform(5, 13), rng.normal(62, 4), rng.normal(40, 5), rng.normal(34, 5)],
            ]
        ),
        apex=np.array([54.0, -10.0, 20.0, 77.0, 94.0, rng.normal(99.0, 4.0)]),
    )


def skeleton(trunk: Trunk, bone_hu: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Capsules (n, 9) of ribs, costal cartilage, clavicles, scapulae and vertebral processes."""
    parts = []
    first = 104.0 + rng.normal(0.0, 2.0)
    heads = first - pitch * np.arange(11)
    numbers = np.arange(1, 12)
    drop = np.interp(numbers, (1, 4, 7, 11), (26.0, 62.0, 84.0, 90.0))
    stop = np.radians(np.interp(numbers, (1, 5, 7, 10, 11), (66.0, 56.0, 48.0, 20.0, -5.0)))
    t = np.linspace(0.0, 1.0, 17)
    angle = np.radians(-77.0) + t * (stop[:, None] + np.radians(77.0))
    z = heads[:, None] - drop[:, None] * (0.25 * t + 0.75 * t**1.6)
    for side in (1.0, -1.0):
        ribs = trunk.on_cage(angle, z + rng.normal(0.0, 0.8), 5.5) * (side, 1.0, 1.0)
        # The head of the rib reaches back to its vertebra.
        joint = np.stack(
            [np.full(11, side * 20.0), trunk.spine_y(heads) - 13.0, heads + 3.0], axis=-1
        )
        ribs = np.concatenate([joint[:, None], ribs], axis=1)
        caliber = np.full(ribs.shape[:2], 4.1) * rng.normal(1.0, 0.04)
        parts.append(capsules_of(ribs, caliber, bone_hu))
        ends = ribs[1:7, -1]
        rise = np.array([2.0, 6.0, 12.0, 20.0, 30.0, 42.0])
        edge = np.stack([np.full(6, side * 16.0), ends[:, 1] + 6.0, ends[:, 2] + rise], axis=-1)
        _, b, yc = trunk.cage(edge[:, 2])
        edge[:, 1] = yc + b + 6.0
        parts.append(capsules_of(np.stack([ends, edge], axis=1), np.full((6, 2), 4.6), 95.0))
        parts.append(_shoulder(trunk, side, bone_hu, rng))
    return np.concatenate([*parts, _processes(trunk, first, pitch, bone_hu)])


def _shoulder(trunk: Trunk, side: float, bone_hu: float, rng: np.random.Generator) -> np.ndarray:
    """Scapula, turned outwards because the arms are raised, and clavicle of one side."""
    lift = rng.normal(0.0, 3.0)
    top = np.array([118.0 * trunk.width, -18.0, 112.0 + lift])
    blade = np.radians([-62.0, -52.0, -42.0, -33.0])
    border = trunk.on_cage(blade, np.array([96.0, 72.0, 46.0, 22.0]) + lift, 19.0)
    rays = np.stack([np.repeat(top[None], 4, 0), 0.5 * (top + border) + (6, -5, 0), border], axis=1)
    clavicle = np.array([[20.0, 42.0, 98.0], [60.0, 38.0, 108.0], [112.0, 8.0, 124.0]])
    mirror = np.array([side, 1.0, 1.0])
    return np.concatenate(
        [
            capsules_of(rays * mirror, np.tile([4.5, 2.6, 3.0], (4, 1)), bone_hu - 80.0),
            capsules_of(border[None] * mirror, np.full((1, 4), 3.0), bone_hu - 40.0),
            capsules_of(clavicle * mirror, np.array([5.5, 4.6, 5.0]), bone_hu),
        ]
    )


def _processes(trunk: Trunk, first: float, pitch: float, bone_hu: float) -> np.ndarray:
    """Spinous and transverse processes, one of each a vertebra."""
    z = first + pitch * np.arange(1, -12, -1.0)
    y = trunk.spine_y(z)
    zero = np.zeros_like(z)
    spinous = np.stack(
        [np.stack([zero, y - 37.0, z - 2.0], -1), np.stack([zero, y - 52.0, z - 16.0], -1)], axis=1
    )
    parts = [capsules_of(spinous, np.tile([3.4, 3.0], (len(z), 1)), bone_hu - 60.0)]
    for side in (1.0, -1.0):
        arm = np.stack(
            [
                np.stack([zero + side * 12.0, y - 29.0, z + 2.0], -1),
                np.stack([zero + side * 33.0, y - 37.0, z + 4.0], -1),
            ],
            axis=1,
        )
        parts.append(capsules_of(arm, np.tile([4.0, 3.4], (len(z), 1)), bone_hu - 80.0))
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class Ellipsoids:
    """Ellipsoids in painting order: centres (n, 3), axes (n, 3, 3), radii (n, 3), HU (n,)."""

    centres: np.ndarray
    axes: np.ndarray
    radii: np.ndarray
    hus: np.ndarray

    def last(self, n: int) -> Ellipsoids:
        """The n that are painted last."""
        return Ellipsoids(
            centres=self.centres[-n:],
            axes=self.axes[-n:],
            radii=self.radii[-n:],
            hus=self.hus[-n:],
        )


@dataclass(frozen=True, kw_only=True)
class Heart:
    """Where the heart lies and how large its chambers are.

    frame: rows are the long axis (base to apex), the normal of the septum (towards the right
    ventricle, always horizontal) and the upward axis. Radii are along those rows, mm.
    """

    frame: np.ndarray
    lv_centre: np.ndarray
    lv_radii: np.ndarray
    lv_wall: float
    rv_centre: np.ndarray
    rv_radii: np.ndarray
    la_centre: np.ndarray
    la_radii: np.ndarray
    ra_centre: np.ndarray
    ra_radii: np.ndarray
    rv_lv_ratio: float

    def coronaries(self) -> tuple[np.ndarray, ...]:
        """Courses (k, 3) of LAD, circumflex and right coronary artery, in the epicardial fat."""
        epi = self.lv_radii + self.lv_wall + 2.5
        rv = self.rv_radii + 6.5
        t = np.linspace(0.0, 1.0, 14)
        lad = self._on(self.lv_centre, epi, -0.7 + 1.55 * t, np.radians(72.0 - 18.0 * t))
        lcx = self._on(self.lv_centre, epi, -0.66 + 0.1 * t, np.radians(84.0 + 120.0 * t))
        rca = self._on(self.rv_centre, rv, -0.62 - 0.12 * t, np.radians(84.0 - 170.0 * t))
        return lad, lcx, rca

    def _on(
        self, centre: np.ndarray, radii: np.ndarray, along: np.ndarray, angle: np.ndarray
    ) -> np.ndarray:
        """Points on an ellipsoid: share of the long axis, angle from the septal normal."""
        ring = np.sqrt(np.maximum(0.0, 1.0 - along**2))
        local = np.stack([along, ring * np.cos(angle), ring * np.sin(angle)], axis=-1)
        return centre + (local * radii) @ self.frame


def visible_rv_width(rv_offset: np.ndarray, rv_radii: np.ndarray, epicardium: np.ndarray) -> float:
    """Widest right ventricular lumen (mm) along the septal normal, left of it the septum.

    rv_offset: centre of the right ventricle from that of the left, in the heart's frame.
    """
    a, b = np.meshgrid(np.linspace(-44.0, 44.0, 33), np.linspace(-36.0, 36.0, 25))
    chord = 1.0 - ((a - rv_offset[0]) / rv_radii[0]) ** 2 - ((b - rv_offset[2]) / rv_radii[2]) ** 2
    septum = 1.0 - (a / epicardium[0]) ** 2 - (b / epicardium[2]) ** 2
    reach = rv_radii[1] * np.sqrt(np.maximum(chord, 0.0))
    wall = np.where(septum > 0.0, epicardium[1] * np.sqrt(np.maximum(septum, 0.0)), -1e3)
    return float((rv_offset[1] + reach - np.maximum(wall, rv_offset[1] - reach)).max())


def build_heart(rv_lv_ratio: float, female: bool, rng: np.random.Generator) -> Heart:
    """A random heart whose axial RV/LV diameter ratio is the one asked for."""
    turn, tip = np.radians(rng.normal(143.0, 5.0)), np.radians(rng.normal(24.0, 4.0))
    long = np.array([np.cos(turn) * np.cos(tip), np.sin(turn) * np.cos(tip), -np.sin(tip)])
    normal = np.array([long[1], -long[0], 0.0]) / np.hypot(long[0], long[1])
    frame = np.stack([long, normal, np.cross(normal, long)])

    size = rng.normal(0.95 if female else 1.0, 0.035)
    lv = 46.0 * size * (rv_lv_ratio / 0.9) ** -0.42
    wall = rng.normal(9.2, 0.6)
    radii = np.array([41.0 * size, 0.5 * lv, (22.0 + 0.1 * lv * 0.5) * size])
    epicardium = radii + wall
    asked = rv_lv_ratio * lv
    low, high = 0.5 * asked, 1.1 * asked
    for _ in range(12):
        middle = 0.5 * (low + high)
        half = 0.5 * (middle + wall + 0.45 * lv)
        offset = np.array([-4.0, epicardium[1] + middle - half, -3.0])
        rv_radii = np.array([44.0 * size, half, 27.0 * size + 0.12 * asked])
        width = visible_rv_width(offset, rv_radii, epicardium)
        low, high = (middle, high) if width < asked else (low, middle)

    # Left and right border stay put: a larger right ventricle pushes the left one back.
    extent = epicardium[1] * 2.0 + asked + 4.0
    centre = np.array([-23.0, 32.0, -48.0]) + rng.normal(0.0, 2.5, 3)
    lv_centre = centre + normal * (epicardium[1] - 0.5 * extent)
    strain = max(0.0, rv_lv_ratio - 0.9)
    return Heart(
        frame=frame,
        lv_centre=lv_centre,
        lv_radii=radii,
        lv_wall=float(wall),
        rv_centre=lv_centre + offset @ frame,
        rv_radii=rv_radii,
        la_centre=np.array([3.0, -15.0, -25.0]) + rng.normal(0.0, 1.5, 3),
        la_radii=np.array([34.0, 18.0, 24.0]) * rng.normal(1.0, 0.05, 3),
        ra_centre=np.array([36.0 + 4.0 * strain, 18.0, -44.0]) + rng.normal(0.0, 2.0, 3),
        ra_radii=np.array([25.0, 29.0, 31.0]) * (1.0 + 0.12 * strain) * rng.normal(1, 0.04, 3),
        rv_lv_ratio=width / lv,
    )


def heart_ellipsoids(heart: Heart, hu: dict[str, float]) -> Ellipsoids:
    """Pericardial fat, walls and lumina of the four chambers in painting order."""
    upright = np.eye(3)
    chambers = (
        (heart.ra_centre, upright, heart.ra_radii, 2.0, hu["right_atrium"]),
        (heart.la_centre, upright, heart.la_radii, 2.0, hu["left_atrium"]),
        (heart.rv_centre, heart.frame, heart.rv_radii, 4.0, hu["right_ventricle"]),
        (heart.lv_centre, heart.frame, heart.lv_radii, heart.lv_wall, hu["left_ventricle"]),
    )
    # The pericardial sac spans both ventricles and fills the notch between them with fat.
    middle = 0.5 * (heart.lv_centre + heart.rv_centre)
    span = 0.5 * np.linalg.norm(heart.rv_centre - heart.lv_centre)
    sac = np.array([54.0, span + 0.72 * (heart.lv_radii[1] + heart.rv_radii[1]), 44.0])
    low = np.array([10.0, 22.0, -62.0])
    rows = [(middle, heart.frame, sac, hu["fat"]), (low, upright, (46.0, 38.0, 26.0), hu["fat"])]
    rows += [(c, f, r + wall + 5.0, hu["fat"]) for c, f, r, wall, _ in chambers]
    for c, f, r, wall, lumen in chambers:
        rows += [(c, f, r + wall, hu["myocardium"]), (c, f, r, lumen)]
    return Ellipsoids(
        centres=np.stack([r[0] for r in rows]),
        axes=np.stack([r[1] for r in rows]),
        radii=np.array([r[2] for r in rows], np.float64),
        hus=np.array([r[3] for r in rows]),
    )


def great_vessels(
    heart: Heart, hu: dict[str, float], age_years: float, rng: np.random.Generator
) -> np.ndarray:
    """Capsules (n, 9) of outflow tracts, aorta with its arch branches, and caval veins."""
    wide = 1.0 + 0.004 * (np.clip(age_years, 20.0, 95.0) - 60.0) + rng.normal(0.0, 0.03)
    s = rng.normal(0.0, 1.5, 3)
    root = heart.lv_centre - heart.frame[0] * 0.8 * heart.lv_radii[0]
    narrow = min(11.0, 0.55 * heart.lv_radii[1])
    outflow = np.stack([root, np.array([2.0, 14.0, -20.0]) + s])
    aorta = np.array(
        [
            *((2, 14, -20), (9, 22, -6), (17, 26, 12), (17, 20, 32), (10, 10, 47)),
            *((-4, -6, 53), (-18, -24, 50), (-27, -38, 38), (-28, -42, 15), (-26, -42, -25)),
            *((-20, -41, -70), (-12, -39, -110), (-8, -37, -150)),
        ],
        np.float64,
    )
    aorta[3:] += rng.normal(0.0, 1.2, aorta[3:].shape)
    radii = np.array([16, 16, 16, 15.5, 14.5, 13.5, 13, 12.5, 12, 12, 11.5, 11, 10.5]) * wide
    branches = (
        ([(9, 9, 50), (14, 2, 78), (22, -2, 130)], 6.5),
        ([(-4, -6, 56), (-8, -8, 80), (-14, -12, 130)], 4.0),
        ([(-16, -20, 53), (-20, -22, 80), (-30, -24, 130)], 4.8),
    )
    cava = [(36, 14, -22), (34, 14, 10), (32, 14, 40), (31, 13, 62)]
    veins = (
        (cava, 9.0),
        ([(31, 13, 62), (32, 12, 90), (38, 6, 130)], 7.0),
        ([(31, 14, 60), (8, 22, 68), (-16, 16, 84), (-32, 8, 130)], 6.5),
    )
    inferior = [(34, 8, -54), (28, -4, -90), (26, -12, -150)]
    # Kept off the septum, or the outflow tract would open it.
    rv_top = heart.rv_centre + np.array([0.1, 0.42, 0.45]) * heart.rv_radii @ heart.frame
    infundibulum = np.stack([rv_top, np.array([-22.0, 50.0, -14.0])])
    parts = [
        capsules_of(infundibulum, np.array([12.0, 13.5]), hu["right_ventricle"]),
        capsules_of(outflow, np.array([narrow, 13.0]), hu["left_ventricle"]),
        capsules_of(np.array(inferior) + s, np.full(3, 11.0), hu["inferior_cava"]),
    ]
    for way, r in veins:
        points = np.array(way, np.float64) + s
        parts.append(capsules_of(points, np.full(len(way), r), hu["superior_cava"]))
    parts.append(capsules_of(aorta + s, radii, hu["aorta"]))
    for way, r in branches:
        points = np.array(way, np.float64) + s
        parts.append(capsules_of(points, np.full(len(way), r), hu["aorta"]))
    return np.concatenate(parts)
