"""Curves, sizes and drawing lists from which the planes of a simulated echo are built.

Local coordinates are millimetres as an apical view shows them: the left ventricular apex is the
origin, y points along the long axis to the base, x to the right of the picture. A curve is an
array (F, N, 2), one for each of F frames.

The left ventricle is a truncated half-ellipsoid that shortens along its axis by a quarter of the
ejected fraction, and narrows so that the volume by the area-length method, 8 A^2 / (3 pi L)
(Lang et al., J Am Soc Echocardiogr 2015;28:1), falls by the ejection fraction. Its wall keeps its
cross-sectional area times length, so it thickens as a real, incompressible one does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sample_data.echo_cycle import Cycle
from sample_data.heart import Heart

_LENGTH_MM = 45.0
_LENGTH_PER_DIAMETER = 0.9
_LONG_AXIS_SHARE = 0.25
_USUAL_EJECTION = 0.62
_ARC = np.sin(np.linspace(0.0, 0.5 * np.pi, 13))
_FLANK = np.linspace(0.0, 1.0, 7)[:-1]

# Distance of the widest place from the base, and width of the base, as shares of length and width.
LV_SHAPE = (0.38, 0.78)
RV_SHAPE = (0.30, 0.88)
ATRIUM_SHAPE = (0.48, 0.72)
JET_SHAPE = (0.62, 0.22)
ATRIAL_WALL_MM = 2.8
RV_WALL_MM = 4.5
# Share of the Nyquist velocity below which a scanner shows no colour.
WALL_FILTER = 0.10


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Millimetres in each frame, arrays (F,).

    lv_width and lv_length are those of the cavity, wall the thickness of septum and free wall.
    rv_width is the basal diameter of the right ventricle,
    la_width the anteroposterior diameter of the left atrium. squeeze: contraction of the right
    heart. pulse: filling of the aorta, 1 at the end of an ordinary ejection.
    """

    lv_width: np.ndarray
    lv_length: np.ndarray
    wall: np.ndarray
    rv_width: np.ndarray
    la_width: np.ndarray
    ra_width: np.ndarray
    squeeze: np.ndarray
    pulse: np.ndarray

    @property
    def base(self) -> np.ndarray:
        """Local y of the mitral annulus; the outside of the apex stays at 0."""
        y: np.ndarray = 0.8 * self.wall + self.lv_length
        return y

    @property
    def base_half(self) -> np.ndarray:
        """Half the width of the left ventricle at its base."""
        half: np.ndarray = 0.5 * LV_SHAPE[1] * self.lv_width
        return half


def sizes_of(heart: Heart, cycle: Cycle) -> Sizes:
    """Sizes of the chambers through the cycle; see the module for the left ventricle."""
    ejected = heart.ejection_fraction * cycle.ejected
    shortening = 1.0 - _LONG_AXIS_SHARE * ejected
    width = heart.lv_diameter_mm * np.sqrt((1.0 - ejected) / shortening)
    ring = (0.5 * heart.lv_diameter_mm + heart.wall_mm) ** 2 - (0.5 * heart.lv_diameter_mm) ** 2
    vigour = min(1.2, 0.35 + 0.65 * heart.ejection_fraction / _USUAL_EJECTION)
    squeeze = cycle.ejected * vigour
    full = 1.0 - 0.18 * cycle.atrial_emptying
    return Sizes(
        lv_width=width,
        lv_length=(_LENGTH_MM + _LENGTH_PER_DIAMETER * heart.lv_diameter_mm) * shortening,
        wall=np.sqrt(0.25 * width**2 + ring / shortening) - 0.5 * width,
        rv_width=heart.rv_diameter_mm * (1.0 - 0.28 * squeeze),
        la_width=heart.la_diameter_mm * full,
        ra_width=(0.45 * heart.la_diameter_mm + 0.6 * heart.rv_diameter_mm) * full,
        squeeze=squeeze,
        pulse=cycle.ejected * heart.ejection_fraction / _USUAL_EJECTION,
    )


@dataclass(frozen=True, kw_only=True)
class Area:
    """A filled structure; what is drawn later covers what was drawn before."""

    name: str
    tissue: str
    contour: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Line:
    """A thin structure, such as a leaflet, drawn on top of the areas without taking from them."""

    name: str
    tissue: str
    path: np.ndarray
    width_mm: float


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Blood in motion. direction: local, of any length. speed: (F,) in Nyquist velocities."""

    contour: np.ndarray
    direction: tuple[float, float]
    speed: np.ndarray
    turbulent: bool = False

    @property
    def shown(self) -> np.ndarray:
        """(F,) bool, the frames in which the blood moves fast enough to be coloured."""
        fast: np.ndarray = self.speed > (2.0 * WALL_FILTER if self.turbulent else WALL_FILTER)
        return fast


@dataclass(kw_only=True)
class Plane:
    """What a view shows and how it lies in the picture.

    rotation_deg turns local coordinates clockwise on the screen; local point `anchor` then lies
    at `at`, (x, depth) in millimetres from the transducer. core: local centre of contraction.
    box: colour box as (local centre, half-angle in degrees, half-depth in millimetres).
    """

    rotation_deg: float
    anchor: tuple[float, float]
    at: tuple[float, float]
    core: tuple[float, float]
    areas: list[Area] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    box: tuple[tuple[float, float], float, float] | None = None
    near_field: str = "lung"

    def area(self, name: str, tissue: str, contour: np.ndarray) -> None:
        """Draw a filled structure on top of those before."""
        self.areas.append(Area(name=name, tissue=tissue, contour=contour))

    def line(self, name: str, tissue: str, path: np.ndarray, width_mm: float = 2.2) -> None:
        """Draw a thin structure."""
        self.lines.append(Line(name=name, tissue=tissue, path=path, width_mm=width_mm))

    def to_picture(self, local: np.ndarray) -> np.ndarray:
        """(..., 2) local points as (x, depth) millimetres from the transducer."""
        turned = rotate(local - np.asarray(self.anchor), self.rotation_deg)
        place: np.ndarray = turned + np.asarray(self.at)
        return place


def xy(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Points (F, 2), or (2,) when both are numbers."""
    return np.stack(np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float)), axis=-1)


def rotate(points: np.ndarray, degrees: float) -> np.ndarray:
    """Clockwise on a screen, where y points down."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned: np.ndarray = points @ np.array([[c, s], [-s, c]])
    return turned


def profile(shape: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(distance from the base, half-width), both 0..1, of a bullet of that shape."""
    peak, base = shape
    flank = 1.0 - (1.0 - base) * (1.0 - _FLANK) ** 2
    along = np.concatenate([peak * _FLANK, peak + (1.0 - peak) * _ARC])
    return along, np.concatenate([flank, np.sqrt(1.0 - _ARC**2)])


def bullet(
    base: np.ndarray,
    width: np.ndarray | float,
    length: np.ndarray | float,
    shape: tuple[float, float],
    *,
    axis: np.ndarray | tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Open curve (F, N, 2) from one side of the base around the tip to the other.

    base: (F, 2) its middle. axis: direction of the tip, (2,) or (F, 2), made of unit length.
    """
    along, half = profile(shape)
    u = np.concatenate([-half, half[-2::-1]]) * 0.5
    v = np.concatenate([along, along[-2::-1]])
    direction = np.asarray(axis, float)
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    across = np.stack([direction[..., 1], -direction[..., 0]], axis=-1)
    wide = (np.asarray(width)[..., None] * u)[..., None] * across[..., None, :]
    deep = (np.asarray(length)[..., None] * v)[..., None] * direction[..., None, :]
    curve: np.ndarray = base[..., None, :] + wide + deep
    return curve


def offset(
    curve: np.ndarray, distance: np.ndarray | float, *, tip: float = 1.0, ends: float = 1.0
) -> np.ndarray:
    """The open curve moved outwards by `distance` (F,); `tip` and `ends` are factors on it."""
    tangent = np.empty_like(curve)
    tangent[:, 1:-1] = curve[:, 2:] - curve[:, :-2]
    tangent[:, 0] = curve[:, 1] - curve[:, 0]
    tangent[:, -1] = curve[:, -1] - curve[:, -2]
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    n = curve.shape[1]
    place = np.abs(np.linspace(-1.0, 1.0, n))
    taper = 1.0 + (tip - 1.0) * np.clip(1.0 - 3.0 * place, 0.0, 1.0)
    taper += (ends - 1.0) * np.clip(6.0 * place - 5.0, 0.0, 1.0) ** 2
    side = np.sign(((curve - curve.mean(axis=1, keepdims=True)) * normal).sum())
    reach = np.broadcast_to(np.asarray(distance, float), curve.shape[:1])[:, None] * taper * side
    moved: np.ndarray = curve + reach[..., None] * normal
    return moved


def disc(centre: np.ndarray, width: np.ndarray | float, height: np.ndarray | float) -> np.ndarray:
    """Closed ellipse (F, 36, 2); centre is (F, 2)."""
    angle = np.linspace(0.0, 2.0 * np.pi, 36, endpoint=False)
    x = 0.5 * np.asarray(width)[..., None] * np.cos(angle)
    y = 0.5 * np.asarray(height)[..., None] * np.sin(angle)
    outline: np.ndarray = centre[..., None, :] + xy(x, y)
    return outline


def tube(path: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Closed outline of a vessel along path (F, M, 2), half its width given as (M,) or (F, M)."""
    tangent = np.gradient(path, axis=1)
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    reach = np.asarray(half)[..., None] * normal
    return np.concatenate([path + reach, (path - reach)[:, ::-1]], axis=1)


def bend(start: np.ndarray, control: np.ndarray, end: np.ndarray, points: int = 7) -> np.ndarray:
    """Quadratic Bezier curve (F, points, 2), as a leaflet bends."""
    t = np.linspace(0.0, 1.0, points)[:, None]
    s, c, e = (np.asarray(p)[..., None, :] for p in (start, control, end))
    curve: np.ndarray = (1 - t) ** 2 * s + 2 * t * (1 - t) * c + t**2 * e
    return curve


def mix(closed: np.ndarray, opened: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Points (F, 2) between two positions of a valve."""
    blended: np.ndarray = closed + opening[:, None] * (opened - closed)
    return blended
