"""Simulated echocardiographic loops of the eleven standard views, with the structures they show.

Gross anatomy, motion and sizes are meant to be right, so that a loop can be measured; the texture
of a scanner is imitated, not simulated from scattering physics.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sample_data.echo_anatomy import Plane, rotate, sizes_of
from sample_data.echo_cycle import cycle_of
from sample_data.echo_flow import colour_box, paint_flow
from sample_data.echo_planes import plane_of
from sample_data.echo_texture import LEVELS, Fan, add_noise, fan, moving_speckle, static_levels
from sample_data.heart import VIEWS, Heart

_SUBPIXEL_BITS = 4
# Share of the way to the core that the middle of the wall goes, per unit of ejection fraction.
_PULL = 0.36
_MOTION_REACH_MM = 42.0


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One recorded loop of F frames and the truth about it.

    frames: (F, size, size, 3) uint8 RGB; the transducer is at the top, outside the fan is black,
    and R = G = B except where colour Doppler shows flow. frame_time_ms: from frame to frame.
    mm_per_pixel: the same across and down. masks: name -> (F, size, size) bool, what is visible of
    each structure inside the fan; papillary muscles and leaflets count as part of the cavity they
    lie in, as guidelines have it. `regurgitant_jet` is there only in Doppler views of a leaking
    valve. phase: (F,), 0 at an R wave and up to 1. ed_frame, es_frame: end-diastole and
    end-systole of one beat. r_waves_ms: the R waves within the loop, from its first frame on.

    The left ventricular area A and length L of the apical views obey the area-length method: with
    V = 8 A^2 / (3 pi L), ejection fraction is 1 - V(es) / V(ed).
    """

    frames: np.ndarray
    frame_time_ms: float
    mm_per_pixel: float
    masks: dict[str, np.ndarray]
    phase: np.ndarray
    ed_frame: int
    es_frame: int
    r_waves_ms: tuple[float, ...]


def render_loop(
    heart: Heart,
    view: str,
    rng: np.random.Generator,
    *,
    size: int = 112,
    frames: int = 32,
    fps: float = 30.0,
) -> Loop:
    """A loop of `heart` in `view` (one of `heart.VIEWS`), size x size pixels.

    It begins within 80 ms before an R wave. How the transducer is held, its contact and the
    speckle are drawn from rng.

    Raises:
        ValueError: an unknown view, or a size, length, rate or heart that cannot be drawn.
    """
    _check(heart, view, size, frames, fps)
    cycle = cycle_of(heart, rng, frames, fps)
    plane = plane_of(view, heart, sizes_of(heart, cycle), cycle)
    sector = fan(size)
    scale = sector.mm_per_pixel(heart.depth_mm)
    probe = _Probe(plane, sector, scale, rng)

    areas, lines, names = _draw(plane, probe, frames, size)
    area_level = _levels([plane.near_field] + [area.tissue for area in plane.areas])
    line_level = _levels(["blood"] + [line.tissue for line in plane.lines])
    echo = np.maximum(cv2.LUT(areas, area_level), cv2.LUT(lines, line_level))
    grey = _scan(echo, heart, plane, probe, cycle.ejected, rng)

    areas *= sector.inside
    lines *= sector.inside
    masks = {
        name: _mask(areas if of_areas else lines, codes)
        for (name, of_areas), codes in names.items()
    }
    grey *= sector.inside
    picture = cv2.cvtColor(grey.reshape(-1, size), cv2.COLOR_GRAY2RGB)
    picture = picture.reshape(frames, size, size, 3)
    jet = _colour(picture, areas, plane, probe, rng)
    if heart.regurgitation > 0.0 and plane.flows:
        # What shows between the leaflets is not part of the jet area that is measured.
        masks["regurgitant_jet"] = jet & masks["la"]
    return Loop(
        frames=picture,
        frame_time_ms=1000.0 / fps,
        mm_per_pixel=scale,
        masks=masks,
        phase=cycle.phase,
        ed_frame=cycle.ed_frame,
        es_frame=cycle.es_frame,
        r_waves_ms=cycle.r_waves_ms,
    )


class _Probe:
    """How the transducer was held in this loop: from local millimetres to pixels."""

    def __init__(self, plane: Plane, sector: Fan, scale: float, rng: np.random.Generator) -> None:
        self.plane, self.sector, self.scale = plane, sector, scale
        self.tilt = float(np.clip(rng.normal(0.0, 2.5), -5.0, 5.0))
        self.shift = np.clip(rng.normal(0.0, (2.0, 1.5)), -4.0, 4.0)

    def to_pixels(self, local: np.ndarray) -> np.ndarray:
        place = rotate(self.plane.to_picture(local) + self.shift, self.tilt)
        pixels: np.ndarray = place / self.scale + np.asarray(self.sector.origin)
        return pixels

    def turn(self, direction: np.ndarray) -> np.ndarray:
        """A local direction as a unit vector of the picture."""
        turned = rotate(direction, self.plane.rotation_deg + self.tilt)
        unit: np.ndarray = turned / np.linalg.norm(turned)
        return unit


def _draw(
    plane: Plane, probe: _Probe, frames: int, size: int
) -> tuple[np.ndarray, np.ndarray, dict[tuple[str, bool], list[int]]]:
    """Labels of the areas and of the thin structures, and the labels that bear each name."""
    areas = np.zeros((frames, size, size), np.uint8)
    lines = np.zeros((frames, size, size), np.uint8)
    names: dict[tuple[str, bool], list[int]] = {}
    for code, area in enumerate(plane.areas, start=1):
        _fill(areas, probe.to_pixels(area.contour), code)
        names.setdefault((area.name, True), []).append(code)
    for code, line in enumerate(plane.lines, start=1):
        path = probe.to_pixels(line.path)
        thick = max(1, round(line.width_mm / probe.scale))
        cv2.polylines(
            lines.reshape(-1, size),
            list(_fixed_point(path, size)),
            isClosed=False,
            color=code,
            thickness=thick,
            shift=_SUBPIXEL_BITS,
        )
        names.setdefault((line.name, False), []).append(code)
    return areas, lines, names


def _fill(
    labels: np.ndarray, contours: np.ndarray, code: int, where: np.ndarray | None = None
) -> None:
    """Fill polygon f of (F, N, 2) pixels in frame f of labels (F, size, size), if `where`[f]."""
    following = np.roll(contours, -1, axis=1)
    tangent = following - np.roll(contours, 1, axis=1)
    area = (contours[..., 0] * following[..., 1] - contours[..., 1] * following[..., 0]).sum()
    normal = np.stack([tangent[..., 1], -tangent[..., 0]], axis=-1) * np.sign(area)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    # fillPoly also paints the pixels that the border runs through: half a pixel too much.
    size = labels.shape[1]
    polygons = _fixed_point(contours - 0.5 * normal, size)
    if where is not None:
        polygons = polygons[where]
    cv2.fillPoly(labels.reshape(-1, size), list(polygons), code, shift=_SUBPIXEL_BITS)


def _fixed_point(points: np.ndarray, size: int) -> np.ndarray:
    """Points of all frames on one tall picture, none of them reaching into another frame."""
    tall = np.clip(points, 0.0, size - 1.0)
    tall[..., 1] += size * np.arange(len(points))[:, None]
    return np.asarray(np.round(tall * (1 << _SUBPIXEL_BITS)), np.int32)


def _colour(
    picture: np.ndarray, areas: np.ndarray, plane: Plane, probe: _Probe, rng: np.random.Generator
) -> np.ndarray:
    """Paints the flow of a Doppler view into picture (F, size, size, 3); returns the jet's mask."""
    if plane.box is None:
        return np.zeros(areas.shape, bool)
    blood = _levels(["lung"] + [area.tissue for area in plane.areas]) == LEVELS["blood"]
    middle = probe.to_pixels(np.asarray(plane.box[0]))
    box = colour_box(plane.box, middle, probe.scale, probe.sector)
    visible = cv2.LUT(areas, blood.astype(np.uint8)).astype(bool) & box
    labels = np.zeros(areas.shape, np.uint8)
    for code, flow in enumerate(plane.flows, start=1):
        _fill(labels, probe.to_pixels(flow.contour), code, where=flow.shown)
    directions = [probe.turn(np.asarray(flow.direction)) for flow in plane.flows]
    return paint_flow(picture, labels, plane, directions, visible, box, probe.sector, rng)


def _levels(tissues: list[str]) -> np.ndarray:
    table = np.zeros(256, np.uint8)
    table[: len(tissues)] = [LEVELS[tissue] for tissue in tissues]
    return table


def _scan(
    echo: np.ndarray,
    heart: Heart,
    plane: Plane,
    probe: _Probe,
    ejected: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Log-compressed picture (F, size, size) uint8 of the echogenicity `echo`."""
    size = echo.shape[1]
    blurred = cv2.GaussianBlur(echo.reshape(-1, size), (0, 0), 0.0062 * size)
    level = blurred.reshape(echo.shape).astype(np.int16)
    # A border that lies across the beam, dark above and bright below, reflects as a mirror does.
    mirror = np.maximum(level[:, 2:] - level[:, :-2], 0) >> 2
    level[:, 1:-1] += mirror
    core = probe.to_pixels(np.asarray(plane.core))
    pull = _PULL * heart.ejection_fraction * ejected
    level += moving_speckle(
        size, rng, (float(core[0]), float(core[1])), _MOTION_REACH_MM / probe.scale, pull
    )
    level += static_levels(
        size, rng, gain=heart.gain, depth_mm=heart.depth_mm, near_field=plane.near_field
    )
    add_noise(level, rng)
    return np.asarray(np.clip(level, 0, 255), np.uint8)


def _mask(labels: np.ndarray, codes: list[int]) -> np.ndarray:
    found: np.ndarray = labels == codes[0]
    for code in codes[1:]:
        found |= labels == code
    return found


def _check(heart: Heart, view: str, size: int, frames: int, fps: float) -> None:
    if view not in VIEWS:
        raise ValueError(f"There is no echo view {view!r}; choose one of {', '.join(VIEWS)}.")
    if not 32 <= size <= 512:
        raise ValueError(f"An echo loop of {size} pixels cannot be drawn; choose 32 to 512.")
    if not 1 <= frames <= 60:
        raise ValueError(f"An echo loop of {frames} frames cannot be drawn; choose 1 to 60.")
    if not fps > 0.0:
        raise ValueError(f"The frame rate is {fps}; it must be greater than 0 frames a second.")
    for name, low, high in (
        ("ejection_fraction", 0.05, 0.85),
        ("lv_diameter_mm", 20.0, 100.0),
        ("wall_mm", 3.0, 30.0),
        ("la_diameter_mm", 15.0, 90.0),
        ("rv_diameter_mm", 10.0, 80.0),
        ("regurgitation", 0.0, 1.0),
        ("rate_bpm", 20.0, 240.0),
        ("depth_mm", 80.0, 300.0),
    ):
        value = getattr(heart, name)
        if not low <= value <= high:
            raise ValueError(
                f"{name} of the heart is {value:g}; an echo can be drawn from {low:g} to {high:g}."
            )
