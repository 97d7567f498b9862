"""A simulated chest CT with a known truth: emboli, right heart strain, coronary calcium.

The anatomy is drawn in millimetres, so any grid shows the same chest; a smaller field of view
crops it. Only gross anatomy is meant to be right: lungs, heart, vessels, airways, skeleton and
upper abdomen lie and look as on a real scan at thick slices, without their fine structure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from scipy import ndimage

from sample_data import phantom_raster as raster
from sample_data.phantom_anatomy import (
    Ellipsoids,
    Heart,
    Trunk,
    build_heart,
    build_trunk,
    great_vessels,
    heart_ellipsoids,
    skeleton,
)
from sample_data.phantom_vessels import (
    capsules_of,
    grow_airways,
    grow_arteries,
    grow_veins,
    lodge_emboli,
)

# Agatston et al., J Am Coll Cardiol 1990;15:827: slices of 3 mm, 130 HU, at least 1 mm2.
_PADDING_HU = -1024
_AGATSTON_HU = 130.0
_AGATSTON_SLICE_MM = 3.0


@dataclass(frozen=True, kw_only=True)
class ChestParameters:
    """What the scan shows.

    contrast: True is a CT pulmonary angiogram (pulmonary arteries about 320 HU), False an
    unenhanced scan for coronary calcium. clot_burden: 0..1, 0 is no embolus. rv_lv_ratio: axial
    diameters, 0.6..2.2. calcium: coronary calcification 0..1, 0 is none. noise_hu: standard
    deviation in tissue. effusion: pleural fluid 0..1.
    """

    contrast: bool
    clot_burden: float
    rv_lv_ratio: float
    calcium: float
    age_years: float = 60.0
    female: bool = False
    noise_hu: float = 14.0
    effusion: float = 0.0

    def __post_init__(self) -> None:
        for name in ("clot_burden", "calcium", "effusion"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if not 0.6 <= self.rv_lv_ratio <= 2.2:
            raise ValueError(f"rv_lv_ratio is {self.rv_lv_ratio}; it must lie in 0.6..2.2")
        if self.noise_hu < 0.0:
            raise ValueError(f"noise_hu is {self.noise_hu}; it must not be negative")


@dataclass(frozen=True, kw_only=True)
class ChestPhantom:
    """A scan and the truth about it.

    volume: int16 HU (D, H, W); d grows to superior, h to anterior, w to the patient's right
    (RAS+ transposed), so the apex of the heart is at low w and the spine at low h. embolus and
    calcium: bool masks on the same grid. measures: clot_burden_percent (mean share of the
    cross-section lost over the 20 segmental flow paths, 0..100; a central clot counts for all
    paths behind it), embolus_volume_ml, rv_lv_ratio, calcium_agatston, heart_volume_ml.
    """

    volume: np.ndarray
    spacing_mm: tuple[float, float, float]
    embolus: np.ndarray
    calcium: np.ndarray
    measures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The voxel grid in anatomical millimetres, and the patient's pose on it.

    A small patient is a coarse grid: spacing is divided by stature, so that all anatomy is
    written for one stature.
    """

    shape: tuple[int, int, int]
    spacing: np.ndarray
    edge: float
    pose: np.ndarray
    voxel_ml: float

    def heights(self) -> np.ndarray:
        """Anatomical z of every slice."""
        steps = np.arange(self.shape[0]) - 0.5 * (self.shape[0] - 1)
        return steps * self.spacing[0] - self.pose[2]

    def turn(self) -> np.ndarray:
        """Rotation by the roll about z: anatomical to grid axes."""
        cos, sin = self.pose[3:]
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    def place(self, capsules: np.ndarray) -> np.ndarray:
        """Capsules (n, 9) from anatomical to grid coordinates."""
        out = capsules.copy()
        out[:, 0:3] = capsules[:, 0:3] @ self.turn().T + self.pose[:3]
        out[:, 3:6] = capsules[:, 3:6] @ self.turn().T + self.pose[:3]
        return out

    def paint(self, volume: np.ndarray, capsules: np.ndarray) -> None:
        """Paint capsules in order."""
        raster.draw_capsules(volume, self.spacing, self.edge, self.place(capsules), False)

    def cover(self, capsules: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Coverage (D, H, W) of the union of capsules, written to `out`."""
        out.fill(0.0)
        raster.draw_capsules(out, self.spacing, self.edge, self.place(capsules), True)
        return out

    def paint_ellipsoids(self, volume: np.ndarray, bodies: Ellipsoids) -> None:
        """Paint ellipsoids in order."""
        turn = self.turn()
        centres = bodies.centres @ turn.T + self.pose[:3]
        axes = bodies.axes @ turn.T
        raster.paint_ellipsoids(
            volume, self.spacing, self.edge, centres, axes, bodies.radii, bodies.hus
        )


def render_chest(
    parameters: ChestParameters,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int] = (48, 96, 96),
    spacing_mm: tuple[float, float, float] = (5.5, 3.6, 3.6),
) -> ChestPhantom:
    """A chest CT of a random patient; the same parameters and generator state give it again.

    shape: voxels (D, H, W). spacing_mm: (d, h, w); the default covers 264 x 346 x 346 mm.
    """
    grid = _random_grid(parameters, rng, shape, spacing_mm)
    hu = _densities(parameters, rng)
    heart = build_heart(parameters.rv_lv_ratio, parameters.female, rng)
    volume, inside = _trunk_volume(parameters, grid, hu, rng)

    bodies = heart_ellipsoids(heart, hu)
    ventricles = bodies.last(4)
    grid.paint_ellipsoids(volume, bodies)
    grid.paint(volume, grow_veins(rng, hu["pulmonary_vein"]))
    # A large heart pushes lung vessels aside: none may open a ventricle's wall.
    grid.paint_ellipsoids(volume, ventricles)
    grid.paint_ellipsoids(inside, replace(ventricles, hus=np.zeros(4)))
    grid.paint(volume, great_vessels(heart, hu, parameters.age_years, rng))
    grid.paint(volume, _coronary_lumina(heart, hu))
    grid.paint(volume, grow_airways(rng, 20.0))

    tree = grow_arteries(rng, calibre=1.0 + 0.16 * max(0.0, parameters.rv_lv_ratio - 0.9))
    emboli = lodge_emboli(tree, parameters.clot_burden, rng)
    # In unenhanced blood an acute clot is left isodense: it shows as a filling defect or not.
    clot_hu = hu["clot"] if parameters.contrast else hu["pulmonary_artery"]
    lumen = grid.cover(tree.capsules, np.empty(grid.shape, np.float32))
    clot = grid.cover(emboli.capsules, np.empty(grid.shape, np.float32))
    raster.blend_arteries(volume, lumen, clot, inside, hu["pulmonary_artery"], clot_hu)
    # A clot in the finest artery may nowhere fill half a voxel; its own peak counts then.
    half = min(0.5, 0.7 * float(clot.max())) if parameters.clot_burden > 0.0 else 0.5
    embolus = (clot >= max(half, 1e-3)) & (lumen > 0.0)

    # Fresh pages cost more than the drawing itself: from here on the buffers are reused.
    calcium, agatston = _calcify(parameters.calcium, heart, volume, grid, spacing_mm, clot, rng)
    heart_ml = _heart_volume_ml(bodies, grid, lumen)
    noise = _noise(inside, lumen, rng)
    scan = raster.add_noise(volume, noise, parameters.noise_hu)
    scan[:, _outside_view(*shape[1:])] = _PADDING_HU
    return ChestPhantom(
        volume=scan,
        spacing_mm=spacing_mm,
        embolus=embolus,
        calcium=calcium,
        measures={
            "clot_burden_percent": 100.0 * float(emboli.obstruction.mean()),
            "embolus_volume_ml": float(embolus.sum()) * grid.voxel_ml,
            "rv_lv_ratio": heart.rv_lv_ratio,
            "calcium_agatston": agatston,
            "heart_volume_ml": heart_ml,
        },
    )


@lru_cache(maxsize=8)
def _outside_view(rows: int, columns: int) -> np.ndarray:
    """(H, W) bool: corners outside the circle that a scanner reconstructs."""
    y = (np.arange(rows) - 0.5 * (rows - 1)) / (0.5 * rows)
    x = (np.arange(columns) - 0.5 * (columns - 1)) / (0.5 * columns)
    return y[:, None] ** 2 + x[None, :] ** 2 > 1.0


def _random_grid(
    parameters: ChestParameters,
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> _Grid:
    stature = float(np.clip(rng.normal(0.965 if parameters.female else 1.0, 0.022), 0.91, 1.04))
    roll = np.radians(np.clip(rng.normal(0.0, 2.2), -6.0, 6.0))
    offset = rng.normal(0.0, (3.0, 3.0, 4.0))
    spacing = np.asarray(spacing_mm, np.float64) / stature
    return _Grid(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        spacing=spacing,
        edge=raster.edge_width(spacing),
        pose=np.array([*offset, np.cos(roll), np.sin(roll)]),
        voxel_ml=float(np.prod(spacing_mm)) / 1000.0,
    )


def _densities(parameters: ChestParameters, rng: np.random.Generator) -> dict[str, float]:
    """HU of every tissue; the phase of the contrast bolus differs between patients."""
    spread = rng.normal(0.0, 1.0, 6)
    age = float(np.clip(parameters.age_years, 20.0, 95.0))
    hu = {
        "fat": -98.0 + 4.0 * spread[0],
        "muscle": 52.0 + 4.0 * spread[1],
        "lung": float(np.clip(-825.0 + 18.0 * spread[2] - 0.4 * (age - 60.0), -880.0, -770.0)),
        "cancellous": float(np.clip(215.0 - 1.9 * (age - 45.0) + 15.0 * spread[3], 90.0, 260.0)),
        "cortex": 460.0,
        "clot": float(rng.uniform(42.0, 66.0)),
    }
    if parameters.contrast:
        artery = float(np.clip(322.0 + 22.0 * spread[4], 270.0, 380.0))
        left = float(np.clip(222.0 + 15.0 * spread[5], 180.0, 255.0))
        enhanced = {
            "pulmonary_artery": artery,
            "right_ventricle": artery - 6.0,
            "right_atrium": artery - 12.0,
            "superior_cava": artery + 90.0,
            "inferior_cava": 150.0,
            "pulmonary_vein": left + 25.0,
            "left_atrium": left + 12.0,
            "left_ventricle": left,
            "aorta": left - 6.0,
            "myocardium": 98.0,
            "liver": 82.0,
            "spleen": 108.0,
        }
    else:
        blood = 41.0 + 2.0 * spread[4]
        enhanced = dict.fromkeys(
            (
                *("pulmonary_artery", "right_ventricle", "right_atrium", "superior_cava"),
                *("inferior_cava", "pulmonary_vein", "left_atrium", "left_ventricle", "aorta"),
            ),
            blood,
        ) | {"myocardium": 50.0, "liver": 61.0, "spleen": 50.0}
    return hu | enhanced


def _trunk_volume(
    parameters: ChestParameters, grid: _Grid, hu: dict[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Everything but heart and vessels, and the coverage of the space where vessels may run."""
    trunk = build_trunk(parameters.female, rng)
    slices = trunk.slices(grid.heights())
    volume = np.empty(grid.shape, np.float32)
    inside = np.zeros(grid.shape, np.float32)
    tissue = np.array(
        [hu["fat"], hu["muscle"], hu["lung"], rng.uniform(0.4, 0.9), hu["fat"], hu["liver"]]
    )
    fluid = 95.0 * parameters.effusion * rng.uniform((0.75, 0.4), (1.0, 1.0))
    pitch = rng.normal(22.5, 0.6)
    raster.paint_trunk(
        *(volume, inside, grid.spacing, grid.edge, slices, grid.pose, tissue),
        *(trunk.domes, trunk.apex, fluid),
    )
    grid.paint_ellipsoids(volume, _soft_organs(trunk, parameters.female, hu, rng))
    bone = np.array([hu["cancellous"], hu["cortex"], 85.0, 25.0])
    grid.paint(volume, skeleton(trunk, hu["cortex"] - 10.0, pitch, rng))
    raster.paint_spine(
        *(volume, grid.spacing, grid.edge, slices, grid.pose, bone, 92.0 + rng.normal(0, 3), pitch)
    )
    return volume, inside


def _soft_organs(
    trunk: Trunk, female: bool, hu: dict[str, float], rng: np.random.Generator
) -> Ellipsoids:
    """Mediastinal fat, oesophagus, spleen, stomach, sternum, axillary fat and breasts."""
    _, depth, y = trunk.cage(np.array([75.0, 15.0, -30.0, 60.0]))
    front = y + depth + 6.5
    fat = hu["fat"] + 14.0
    breast = rng.uniform(34.0, 46.0)
    rows = [
        ((0, 0, 52), (37, 50, 62), fat),
        ((0, 8, 105), (30, 36, 40), fat + 60.0),
        ((-3, front[2] - 24, -10), (13, 32, 62), fat),
        ((2, -24, 0), (44, 22, 46), fat),
        ((-2, -34, -20), (7, 5.5, 130), 38.0),
        ((-84, -32, -126), (30, 40, 28), hu["spleen"]),
        ((-62, 30, -132), (38, 34, 30), 25.0),
        ((-62, 46, -128), (26, 12, 16), -900.0),
        ((118, 4, 84), (15, 30, 34), hu["fat"]),
        ((-118, 4, 84), (15, 30, 34), hu["fat"]),
        ((0, front[0], 72), (27, 6.5, 22), 330.0),
        ((0, front[1], 14), (16, 6.0, 48), 330.0),
        ((0, front[2], -44), (10, 4.5, 20), 280.0),
    ]
    if female:
        for side in (1.0, -1.0):
            at = (side * 72.0, front[2] + 8.0, -30.0)
            rows.insert(0, (at, (0.45 * breast, 0.35 * breast, 0.5 * breast), 15.0))
            rows.insert(0, (at, (1.3 * breast, 0.8 * breast, 1.4 * breast), hu["fat"]))
    centres = np.array([r[0] for r in rows], np.float64)
    centres += rng.normal(0.0, 1.0, centres.shape)
    return Ellipsoids(
        centres=centres,
        axes=np.repeat(np.eye(3)[None], len(rows), axis=0),
        radii=np.array([r[1] for r in rows], np.float64),
        hus=np.array([r[2] for r in rows], np.float64),
    )


def _coronary_lumina(heart: Heart, hu: dict[str, float]) -> np.ndarray:
    parts = []
    for course in heart.coronaries():
        radii = np.linspace(2.0, 1.2, len(course))
        parts.append(capsules_of(course, radii, hu["left_ventricle"]))
    return np.concatenate(parts)


def _calcify(
    amount: float,
    heart: Heart,
    volume: np.ndarray,
    grid: _Grid,
    spacing_mm: tuple[float, float, float],
    buffer: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Paint calcified plaques on the coronary arteries; their mask and Agatston-like score."""
    if amount <= 0.0:
        return np.zeros(grid.shape, bool), 0.0
    courses = heart.coronaries()
    parts = []
    for _ in range(max(1, round(amount * rng.uniform(12.0, 18.0)))):
        # Plaque favours the proximal left anterior descending artery.
        course = courses[rng.choice(3, p=(0.5, 0.2, 0.3))]
        at = rng.beta(1.2, 2.2) * (len(course) - 1)
        stretch = rng.uniform(0.1, 0.3 + 1.4 * amount)
        where = np.linspace(at, min(at + stretch, len(course) - 1.0), 3)
        grid_points = np.arange(len(course))
        points = np.stack([np.interp(where, grid_points, course[:, k]) for k in range(3)], axis=1)
        radius = rng.uniform(1.2, 1.6 + 1.2 * amount)
        density = rng.uniform(380.0, 520.0 + 380.0 * amount)
        parts.append(capsules_of(points, np.full(3, radius), density))
    plaques = np.concatenate(parts)
    mask = np.zeros(grid.shape, bool)
    for _ in range(5):
        cover = grid.cover(plaques, buffer)
        grid.paint(volume, plaques)
        mask = (cover >= 0.25) & (volume >= _AGATSTON_HU)
        if mask.any():
            break
        # Fallen between the voxels of a coarse grid: a plaque must show to count.
        plaques[:, 6:8] *= 1.4
    return mask, _agatston(volume, mask, spacing_mm)


def _agatston(
    volume: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]
) -> float:
    """Area (mm2) times density factor (1..4 by peak HU) of each lesion in each slice, summed."""
    if not mask.any():
        return 0.0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    in_slice = np.zeros((3, 3, 3), bool)
    in_slice[1] = True
    lesions, n = ndimage.label(mask[box], in_slice)
    index = np.arange(1, n + 1)
    peak = ndimage.maximum(volume[box], lesions, index)
    factor = np.clip(np.floor(np.asarray(peak) / 100.0), 1.0, 4.0)
    area = np.bincount(lesions.ravel())[1:] * spacing_mm[1] * spacing_mm[2]
    return float((area * factor).sum() * spacing_mm[0] / _AGATSTON_SLICE_MM)


def _heart_volume_ml(bodies: Ellipsoids, grid: _Grid, buffer: np.ndarray) -> float:
    """Volume of chambers and walls without the epicardial fat."""
    walls = bodies.hus > 0.0
    solid = Ellipsoids(
        centres=bodies.centres[walls],
        axes=bodies.axes[walls],
        radii=bodies.radii[walls],
        hus=np.ones_like(bodies.hus[walls]),
    )
    buffer.fill(0.0)
    grid.paint_ellipsoids(buffer, solid)
    return float(buffer.sum()) * grid.voxel_ml


def _noise(white: np.ndarray, grain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit standard deviation with the in-plane grain of a soft kernel.

    white and grain are (D, H, W) buffers that are overwritten; the noise is in grain.
    """
    rng.standard_normal(dtype=np.float32, out=white)
    # Squares sum to 1, so the blur keeps the standard deviation.
    kernel = np.array([0.22, 0.56, 0.22], np.float32)
    kernel /= np.sqrt((kernel**2).sum())
    # Blurring the stack as one tall picture mixes single rows of neighbouring slices: harmless.
    tall = (-1, white.shape[2])
    cv2.sepFilter2D(white.reshape(tall), -1, kernel, kernel, dst=grain.reshape(tall))
    return grain
