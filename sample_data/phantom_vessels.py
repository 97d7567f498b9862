"""Pulmonary arteries, veins and airways of the CT phantom, and the emboli inside the arteries.

Coordinates are anatomical millimetres, (x, y, z) = (patient's right, anterior, superior).
Ten segmental arteries a side, as in the obstruction index of Qanadli et al. (AJR 2001;176:1415).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CENTRAL, LOBAR, SEGMENTAL = 0, 1, 2

# Targets near the pleura of the segmental arteries; the artery that feeds them by name.
_SEGMENTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "right upper": ((55, -8, 92), (82, -48, 52), (76, 42, 42)),
    "right middle": ((102, 28, -30), (62, 66, -42)),
    "right interlobar": ((66, -66, 2),),
    "right basal": ((58, -18, -84), (98, 14, -78), (104, -32, -80), (68, -64, -92)),
    "left upper": ((-52, -8, 92), (-78, -46, 60), (-78, 44, 44), (-104, 34, 4), (-98, 50, -22)),
    "left interlobar": ((-66, -66, 4),),
    "left basal": ((-66, -14, -82), (-104, 6, -72), (-108, -32, -82), (-70, -64, -92)),
}

# Name: parent, way points (the first lies in the parent), radius at both ends, level.
_TRUNKS: dict[str, tuple[str | None, tuple[tuple[float, float, float], ...], float, float, int]] = {
    "main": (None, ((-22, 50, -14), (-22, 40, 2), (-15, 20, 13)), 13.5, 13.0, CENTRAL),
    "right": ("main", ((-15, 20, 13), (4, 0, 11), (24, -6, 8), (42, -7, 3)), 10.8, 9.6, CENTRAL),
    "left": ("main", ((-15, 20, 13), (-30, 3, 19), (-42, -13, 15)), 10.6, 9.4, CENTRAL),
    "right upper": ("right", ((30, -6, 7), (44, -5, 20), (54, -6, 34)), 6.6, 5.4, LOBAR),
    "right interlobar": ("right", ((42, -7, 3), (51, -15, -18)), 8.4, 7.4, LOBAR),
    "right middle": ("right interlobar", ((51, -14, -16), (60, 4, -24)), 5.2, 4.6, LOBAR),
    "right basal": ("right interlobar", ((51, -15, -18), (57, -24, -44)), 7.0, 5.6, LOBAR),
    "left upper": ("left", ((-41, -11, 15), (-52, 4, 24)), 7.0, 5.8, LOBAR),
    "left interlobar": ("left", ((-42, -13, 15), (-51, -24, -8)), 8.6, 7.4, LOBAR),
    "left basal": ("left interlobar", ((-51, -24, -8), (-58, -30, -44)), 7.0, 5.6, LOBAR),
}

_VEINS = (
    ((28, -16, -14), ((58, 6, 78), (90, -26, 40), (86, 30, 26), (84, 52, -20))),
    ((28, -18, -34), ((90, -52, -8), (86, -6, -70), (92, -46, -64), (60, -62, -60))),
    ((-28, -16, -14), ((-62, 10, 76), (-92, -24, 44), (-92, 26, 24), (-92, 48, 4))),
    ((-28, -18, -34), ((-90, -52, -4), (-92, -4, -64), (-94, -48, -62), (-58, -60, -62))),
)

_AIRWAYS = (
    (((2, -13, 130), (3, -17, 70), (4, -20, 30)), 9.0, 8.5),
    (((4, -20, 30), (22, -25, 14), (36, -26, 2)), 7.2, 6.2),
    (((4, -20, 30), (-16, -22, 13), (-38, -23, -4)), 6.4, 5.6),
    (((30, -26, 8), (44, -22, 18), (58, -18, 28)), 4.4, 3.2),
    (((36, -26, 2), (44, -26, -22), (50, -34, -48)), 5.0, 3.4),
    (((-38, -23, -4), (-50, -10, 4), (-62, 8, 10)), 4.2, 3.0),
    (((-38, -23, -4), (-46, -32, -24), (-52, -38, -48)), 4.8, 3.2),
)


@dataclass(frozen=True, kw_only=True)
class Vessel:
    """A named pulmonary artery: points (k, 3), radii (k,) and the segments that it feeds."""

    points: np.ndarray
    radii: np.ndarray
    level: int
    segments: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ArterialTree:
    """Named arteries down to the segments, and capsules (n, 9) of all branches."""

    vessels: tuple[Vessel, ...]
    capsules: np.ndarray
    n_segments: int


def capsules_of(points: np.ndarray, radii: np.ndarray, hu: float = 0.0) -> np.ndarray:
    """Capsules (m, 9) along polylines: points (..., k, 3), radii (..., k)."""
    points, radii = np.asarray(points, np.float64), np.asarray(radii, np.float64)
    out = np.empty((*points.shape[:-2], points.shape[-2] - 1, 9))
    out[..., 0:3] = points[..., :-1, :]
    out[..., 3:6] = points[..., 1:, :]
    out[..., 6] = radii[..., :-1]
    out[..., 7] = radii[..., 1:]
    out[..., 8] = hu
    return out.reshape(-1, 9)


def _bent(
    start: np.ndarray, end: np.ndarray, pieces: int, bend: float, rng: np.random.Generator
) -> np.ndarray:
    """Arcs (n, pieces + 1, 3) from start to end whose sagitta is about `bend` of the length."""
    t = np.linspace(0.0, 1.0, pieces + 1)[:, None]
    chord = end - start
    length = np.linalg.norm(chord, axis=-1, keepdims=True)
    sagitta = rng.standard_normal(start.shape) * bend * length
    wobble = rng.standard_normal((len(start), pieces + 1, 3)) * 0.025 * length[:, None, :]
    ends = np.sin(np.pi * t)
    return start[:, None] + t * chord[:, None] + ends * (sagitta[:, None] + wobble)


def _twigs(
    points: np.ndarray, radii: np.ndarray, rng: np.random.Generator, *, reach: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Side branches (n * count, 4, 3) of polylines, leaving where the parent goes on.

    The last branch of each parent carries on from its tip; calibre follows Murray's law loosely.
    """
    n, k, _ = points.shape
    where = np.linspace(0.45, 1.0, count)[None] + rng.uniform(-0.08, 0.0, (n, count))
    index = where * (k - 1)
    low = np.minimum(index.astype(int), k - 2)
    part = (index - low)[..., None]
    row = np.arange(n)[:, None]
    start = points[row, low] * (1 - part) + points[row, low + 1] * part
    forward = points[:, -1] - points[:, 0]
    length = np.linalg.norm(forward, axis=-1)[:, None, None]
    spread = rng.standard_normal((n, count, 3))
    spread /= np.linalg.norm(spread, axis=-1, keepdims=True)
    way = 0.55 * forward[:, None] / length + spread * 0.85
    end = start + way * length * reach * rng.uniform(0.7, 1.2, (n, count, 1))
    radius = (radii[row, low] * (1 - part[..., 0]) + radii[row, low + 1] * part[..., 0]) * 0.82
    radius = radius * rng.uniform(0.75, 1.0, (n, count))
    branches = _bent(start.reshape(-1, 3), end.reshape(-1, 3), 3, 0.06, rng)
    return branches, radius.reshape(-1, 1) * np.linspace(1.0, 0.62, 4)


def grow_arteries(rng: np.random.Generator, calibre: float) -> ArterialTree:
    """A random arterial tree; calibre scales the central arteries (1 is 27 mm main artery)."""
    ends: dict[str, np.ndarray] = {}
    named: list[tuple[str, np.ndarray, np.ndarray, int]] = []
    shift = rng.normal(0.0, 1.5, 3)
    for name, (parent, way, r0, r1, level) in _TRUNKS.items():
        points = np.array(way, np.float64) + shift
        points[1:] += rng.normal(0.0, 2.0 if level == LOBAR else 1.2, (len(way) - 1, 3))
        if parent is not None:
            # Follow the parent's jitter so that the branch still leaves from its lumen.
            nearest = np.argmin(np.linalg.norm(ends[parent] - points[0], axis=1))
            points[0] = ends[parent][nearest]
        fine = _smooth(points)
        ends[name] = fine
        widen = calibre if level == CENTRAL else 0.5 + 0.5 * calibre
        named.append((name, fine, np.linspace(r0, r1, len(fine)) * widen, level))

    feeders = [name for name, targets in _SEGMENTS.items() for _ in targets]
    targets = np.array([t for group in _SEGMENTS.values() for t in group], np.float64)
    targets = targets * rng.uniform(0.9, 1.03, (len(targets), 1))
    targets += rng.normal(0.0, 4.5, targets.shape)
    starts = np.stack([ends[name][-1] for name in feeders])
    segments = _bent(starts, targets, 5, 0.07, rng)
    radii = rng.uniform(3.2, 4.0, (len(targets), 1)) * np.linspace(1.0, 0.55, 6)

    fed: dict[str, list[int]] = {name: [] for name in _TRUNKS}
    for i, name in enumerate(feeders):
        up: str | None = name
        while up is not None:
            fed[up].append(i)
            up = _TRUNKS[up][0]
    vessels = [
        Vessel(points=p, radii=r, level=level, segments=tuple(fed[name]))
        for name, p, r, level in named
    ]
    vessels += [
        Vessel(points=segments[i], radii=radii[i], level=SEGMENTAL, segments=(i,))
        for i in range(len(targets))
    ]
    second, second_radii = _twigs(segments, radii, rng, reach=0.55, count=5)
    third, third_radii = _twigs(second, second_radii, rng, reach=0.7, count=3)
    capsules = np.concatenate(
        [capsules_of(v.points, v.radii) for v in vessels]
        + [capsules_of(second, second_radii), capsules_of(third, third_radii)]
    )
    return ArterialTree(vessels=tuple(vessels), capsules=capsules, n_segments=len(targets))


def _smooth(points: np.ndarray) -> np.ndarray:
    """Chaikin's corner cutting, once, with the ends kept."""
    if len(points) < 3:
        return points
    first, second = 0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]
    inner = np.stack([first, second], axis=1).reshape(-1, 3)[1:-1]
    return np.concatenate([points[:1], inner, points[-1:]])


def grow_veins(rng: np.random.Generator, hu: float) -> np.ndarray:
    """Capsules (n, 9) of the four pulmonary veins from the left atrium into the lungs."""
    parts = []
    for ostium, ends in _VEINS:
        start = np.array(ostium, np.float64)
        hub = start + np.array([np.sign(start[0]) * 16.0, 2.0, 4.0]) + rng.normal(0.0, 2.0, 3)
        inner = start * np.array([0.5, 1.0, 1.0])
        parts.append(capsules_of(np.stack([inner, start, hub]), np.array([7.5, 6.5, 5.2]), hu))
        targets = np.array(ends, np.float64) * rng.uniform(0.85, 1.0, (len(ends), 1))
        targets += rng.normal(0.0, 6.0, targets.shape)
        trunk = _bent(np.repeat(hub[None], len(ends), 0), targets, 5, 0.07, rng)
        radii = rng.uniform(2.9, 3.6, (len(ends), 1)) * np.linspace(1.0, 0.45, 6)
        twig, twig_radii = _twigs(trunk, radii, rng, reach=0.55, count=4)
        parts += [capsules_of(trunk, radii, hu), capsules_of(twig, twig_radii, hu)]
    return np.concatenate(parts)


def grow_airways(rng: np.random.Generator, wall_hu: float) -> np.ndarray:
    """Capsules (n, 9) of trachea, main and lobar bronchi: all walls first, then the air."""
    shift = rng.normal(0.0, 1.2, 3)
    walls, air = [], []
    for way, r0, r1 in _AIRWAYS:
        points = _smooth(np.array(way, np.float64) + shift)
        radii = np.linspace(r0, r1, len(points))
        walls.append(capsules_of(points, radii + 1.8, wall_hu))
        air.append(capsules_of(points, radii, -960.0))
    return np.concatenate(walls + air)


@dataclass(frozen=True, kw_only=True)
class Emboli:
    """Capsules (n, 9) of all clots and the share of cross-section lost per segment (0..1)."""

    capsules: np.ndarray
    obstruction: np.ndarray


def _clot(
    vessel: Vessel, share: float, first: float, last: float, rng: np.random.Generator
) -> np.ndarray:
    """A clot that takes `share` of the lumen from `first` to `last` (0..1) along a vessel."""
    steps = 7
    at = np.linspace(first, last, steps) * (len(vessel.points) - 1)
    grid = np.arange(len(vessel.points))
    points = np.stack([np.interp(at, grid, vessel.points[:, k]) for k in range(3)], axis=1)
    radii = np.interp(at, grid, vessel.radii)
    if share > 0.9:
        return capsules_of(points, radii * 1.05)
    inner = radii * np.sqrt(share)
    # Blunt ends; the body keeps its full share so that the stated obstruction is reached.
    inner[[0, -1]] *= 0.75
    aside = rng.standard_normal(3)
    aside /= np.linalg.norm(aside)
    offset = (radii - inner) * rng.uniform(0.0, 0.7) + rng.normal(0.0, 0.05, steps) * radii
    return capsules_of(points + offset[:, None] * aside, inner)


def lodge_emboli(tree: ArterialTree, burden: float, rng: np.random.Generator) -> Emboli:
    """Place clots until about 80 % x burden of the segmental flow paths are obstructed.

    An obstruction counts for every segment downstream, so central clots weigh most. Light
    burdens lodge in segmental arteries, heavy ones in lobar and central arteries.
    """
    obstruction = np.zeros(tree.n_segments)
    target = 0.8 * burden * rng.uniform(0.94, 1.06) * tree.n_segments
    if burden <= 0.0:
        return Emboli(capsules=np.empty((0, 9)), obstruction=obstruction)
    weight = np.array([7.0 * burden**2, 0.25 + burden, 1.15 - burden])
    weight = np.maximum(weight, [0.0, 0.0, 0.08])
    levels = np.array([v.level for v in tree.vessels])
    # Gumbel keys: a weighted order without replacement.
    order = np.argsort(-(np.log(weight[levels] + 1e-9) + rng.gumbel(size=len(levels))))
    parts: list[np.ndarray] = []
    for last_pass, i in [(False, j) for j in order] + [(True, j) for j in order[::-1]]:
        vessel = tree.vessels[i]
        room = target - obstruction.sum()
        if room < 0.12 and parts:
            break
        if i == 0:
            continue  # a saddle clot reaches from the right into the left artery
        fed = list(vessel.segments)
        lowest, highest = (0.4, 0.75) if vessel.level == CENTRAL else (0.4, 1.0)
        share = 1.0 if last_pass else rng.uniform(lowest, highest)
        if vessel.level != CENTRAL and share > 0.75:
            share = 1.0
        while share > 0.4 and np.maximum(share - obstruction[fed], 0.0).sum() > room:
            share = max(0.4, min(share - 0.05, 0.85))
        gain = np.maximum(share - obstruction[fed], 0.0).sum()
        if gain <= 0.1 or (gain > 1.15 * room and (parts or len(fed) > 1)):
            continue
        length = min(1.0, rng.uniform(0.35, 0.6) + 0.4 * burden)
        first = rng.uniform(0.0, 1.0 - length)
        if vessel.level == CENTRAL:
            first, length = rng.uniform(0.0, 0.15), 0.85
        parts.append(_clot(vessel, share, first, min(1.0, first + length), rng))
        obstruction[fed] = np.maximum(obstruction[fed], share)
    return Emboli(capsules=np.concatenate(parts), obstruction=obstruction)
