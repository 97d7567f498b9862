"""Colour Doppler: blood moving to the transducer in red, away from it in blue.

Velocities are in units of the Nyquist velocity; beyond 1 they alias, so that fast turbulent blood
shows as a mosaic of both colours with green for its variance.
"""

from __future__ import annotations

import cv2
import numpy as np

from sample_data.echo_anatomy import WALL_FILTER, Plane
from sample_data.echo_texture import Fan


def _colour_scale() -> np.ndarray:
    """(256, 3) RGB from full speed away (cyan) over black to full speed towards (yellow)."""
    knots = [-1.0, -0.55, -0.1, 0.0, 0.1, 0.55, 1.0]
    red = [60, 0, 0, 0, 110, 225, 255]
    green = [225, 70, 0, 0, 0, 40, 230]
    blue = [255, 230, 110, 0, 0, 0, 70]
    v = np.linspace(-1.0, 1.0, 256)
    return np.stack([np.interp(v, knots, c) for c in (red, green, blue)], axis=1).astype(np.uint8)


_COLOURS = _colour_scale()


def colour_box(
    box: tuple[tuple[float, float], float, float],
    centre: np.ndarray,
    mm_per_pixel: float,
    sector: Fan,
) -> np.ndarray:
    """(size, size) bool, the part of the sector where flow is measured.

    box: that of a `Plane`. centre: its middle in pixels (x, y).
    """
    _, half_angle, half_depth = box
    x, y = centre[0] - sector.origin[0], centre[1] - sector.origin[1]
    angle, radius = np.degrees(np.arctan2(x, y)), np.hypot(x, y)
    inside: np.ndarray = (
        (np.abs(sector.angle - angle) <= half_angle)
        & (np.abs(sector.radius - radius) <= half_depth / mm_per_pixel)
        & sector.inside
    )
    return inside


def paint_flow(
    frames: np.ndarray,
    flow_labels: np.ndarray,
    plane: Plane,
    directions: list[np.ndarray],
    visible: np.ndarray,
    box: np.ndarray,
    sector: Fan,
    rng: np.random.Generator,
) -> np.ndarray:
    """Colours frames (F, size, size, 3) in place; returns the mask of the turbulent jet.

    flow_labels: (F, size, size) uint8, 1 + index of the flow in `plane.flows`. directions: of the
    flows in the picture, unit vectors (x, y). visible: (F, size, size) bool, blood inside the box.
    """
    size = frames.shape[1]
    count = len(frames)
    sine, cosine = np.sin(np.radians(sector.angle)), np.cos(np.radians(sector.angle))
    velocity = np.zeros((count, size, size), np.float32)
    jet = np.zeros((count, size, size), bool)
    for code, (flow, direction) in enumerate(zip(plane.flows, directions, strict=True), start=1):
        towards = -(direction[0] * sine + direction[1] * cosine)
        moving = np.flatnonzero(flow.shown)
        here = (flow_labels[moving] == code) & visible[moving]
        if flow.turbulent:
            jet[moving] |= here
        velocity[moving] += here * (flow.speed[moving, None, None].astype(np.float32) * towards)

    # Laminar flow is fastest in the middle of its stream and slow at the wall.
    smooth = cv2.GaussianBlur(velocity.reshape(-1, size), (0, 0), 0.03 * size)
    smooth = smooth.reshape(velocity.shape)
    texture = rng.standard_normal((size + 64, size + 64)).astype(np.float32)
    texture = cv2.GaussianBlur(texture, (0, 0), 0.009 * size)
    texture /= texture.std()
    for i, (top, left) in enumerate(rng.integers(0, 64, (count, 2))):
        grain = texture[top : top + size, left : left + size]
        smooth[i] += np.where(jet[i], 0.75, 0.12 * np.minimum(np.abs(smooth[i]), 0.5)) * grain
    shown = visible & (np.abs(smooth) > WALL_FILTER)
    aliased = np.mod(smooth[shown] + 1.0, 2.0) - 1.0
    colours = _COLOURS[np.round(127.5 * (aliased + 1.0)).astype(np.intp)]
    turbulent = jet[shown] & (rng.random(len(aliased)) < 0.35)
    colours[turbulent] = (90, 215, 60)
    frames[shown] = colours

    inner = cv2.erode(box.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    frames[:, box & ~inner] = 170
    return jet
