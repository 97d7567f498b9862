"""How an ultrasound scanner paints tissue: the fan, speckle, attenuation and display levels.

All levels are those of a log-compressed picture, where speckle, attenuation and gain add: 255 grey
levels span the dynamic range of 55 dB. Speckle is the log of the envelope of complex Gaussian
scatter (a Rayleigh variable; Wagner et al., IEEE Trans Sonics Ultrason 1983;30:156), smoothed along
the beam and across it, so that its grains widen with depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

FAN_HALF_ANGLE_DEG = 41.0
_DEPTH_SHARE = 0.955
_TOP_SHARE = 0.02
_LEVELS_PER_DB = 255.0 / 55.0
# Display level of each tissue in mid-field, before speckle.
LEVELS = {
    "lung": 44,
    "chest": 50,
    "liver": 84,
    "neck": 60,
    "blood": 6,
    "myocardium": 116,
    "atrial_wall": 128,
    "vessel_wall": 140,
    "pericardium": 208,
    "valve": 186,
}
_TEXTURE_ROWS, _TEXTURE_COLUMNS = 224, 170
_MARGIN = 200
_SPECKLE_LEVELS = 21.0
_NOISE_LEVELS = 7.0


@dataclass(frozen=True, kw_only=True)
class Fan:
    """The sector in a square picture; arrays are (size, size), float32.

    radius: distance from the transducer in pixels. angle: degrees from the middle beam, positive
    to the right. inside: bool, what the scanner shows. origin: pixel (x, y) of the transducer.
    """

    radius: np.ndarray
    angle: np.ndarray
    inside: np.ndarray
    origin: tuple[float, float]

    def mm_per_pixel(self, depth_mm: float) -> float:
        """Scale of a picture that shows `depth_mm`."""
        return float(depth_mm / (_DEPTH_SHARE * self.inside.shape[0]))


@lru_cache(maxsize=8)
def fan(size: int) -> Fan:
    """The sector of a picture of size x size pixels, its transducer at the top."""
    origin = (0.5 * (size - 1), _TOP_SHARE * size)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x, y = x - np.float32(origin[0]), y - np.float32(origin[1])
    radius = np.hypot(x, y)
    angle = np.degrees(np.arctan2(x, y)).astype(np.float32)
    inside = (np.abs(angle) <= FAN_HALF_ANGLE_DEG) & (radius <= _DEPTH_SHARE * size)
    inside &= radius >= 0.012 * size
    return Fan(radius=radius, angle=angle, inside=inside, origin=origin)


@lru_cache(maxsize=1)
def _speckle() -> np.ndarray:
    """Log-compressed speckle on (depth, beam), float32 of mean 0 and the display's spread."""
    rng = np.random.default_rng(1983)
    shape = (_TEXTURE_ROWS + _MARGIN, _TEXTURE_COLUMNS + _MARGIN, 2)
    scatter = cv2.GaussianBlur(
        rng.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=1.7, sigmaY=1.0
    )
    envelope = np.hypot(scatter[..., 0], scatter[..., 1])
    level = np.log(np.maximum(envelope, 0.08 * envelope.mean()))
    level = (level - level.mean()) / level.std()
    return np.asarray(_SPECKLE_LEVELS * level, np.float32)


@lru_cache(maxsize=1)
def _patches() -> np.ndarray:
    """Slow unevenness of echogenicity on (depth, beam), mean 0, standard deviation 1."""
    rng = np.random.default_rng(2015)
    shape = (_TEXTURE_ROWS + _MARGIN, _TEXTURE_COLUMNS + _MARGIN)
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 9.0)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    rng = np.random.default_rng(55)
    return np.asarray(np.round(_NOISE_LEVELS * rng.standard_normal((1024, 1024))), np.int16)


@lru_cache(maxsize=8)
def _texture_position(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the textures under each pixel, float32 (size, size)."""
    sector = fan(size)
    row = sector.radius * np.float32(_TEXTURE_ROWS / size)
    column = (sector.angle + 45.0) * np.float32(_TEXTURE_COLUMNS / 90.0)
    return np.clip(column, 0.0, _TEXTURE_COLUMNS - 1.0), np.clip(row, 0.0, _TEXTURE_ROWS - 1.0)


def moving_speckle(
    size: int,
    rng: np.random.Generator,
    core: tuple[float, float],
    reach: float,
    pull: np.ndarray,
) -> np.ndarray:
    """Speckle (F, size, size), int16 display levels, that follows a contracting heart.

    core: pixel (x, y) to which tissue moves. reach: pixels over which the motion fades. pull:
    (F,), the share of the distance to the core that nearby tissue has moved.
    """
    sector = fan(size)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dx, dy = x - np.float32(core[0]), y - np.float32(core[1])
    fade = np.exp(-(((dx**2 + dy**2) / np.float32(reach**2)) ** 2))
    dx, dy = dx * fade, dy * fade
    # First-order change of depth and angle; the fan's own point has no angle to speak of.
    radius = np.maximum(sector.radius, 4.0)
    sine, cosine = np.sin(np.radians(sector.angle)), np.cos(np.radians(sector.angle))
    d_row = (dx * sine + dy * cosine) * np.float32(_TEXTURE_ROWS / size)
    d_column = np.degrees((dx * cosine - dy * sine) / radius) * np.float32(_TEXTURE_COLUMNS / 90.0)
    column, row = _texture_position(size)
    left, top = rng.integers(0, _MARGIN, 2)
    window = _speckle()[top : top + _TEXTURE_ROWS, left : left + _TEXTURE_COLUMNS]
    share = pull.astype(np.float32)[:, None, None]
    moved = cv2.remap(
        window,
        (column + share * d_column).reshape(-1, size),
        (row + share * d_row).reshape(-1, size),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(moved.reshape(-1, size, size), np.int16)


def add_noise(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Electronic noise, fresh in each frame of (F, size, size) int16, in place."""
    size = picture.shape[1]
    for frame, (top, left) in zip(
        picture, rng.integers(0, 1024 - size, (len(picture), 2)), strict=True
    ):
        frame += _noise()[top : top + size, left : left + size]


def static_levels(
    size: int, rng: np.random.Generator, *, gain: float, depth_mm: float, near_field: str
) -> np.ndarray:
    """What the scan itself adds to every frame, (size, size) int16 display levels.

    Gain (a factor on amplitude), the attenuation that time-gain compensation leaves over, uneven
    contact along the beams, one or two shadows of ribs or lung near the edges, and the bright
    layers or haze just under the transducer.
    """
    sector = fan(size)
    column, row = _texture_position(size)
    depth = sector.radius * np.float32(sector.mm_per_pixel(depth_mm))
    level = 20.0 * np.log10(max(gain, 1e-3)) * _LEVELS_PER_DB - 30.0 * (depth / depth_mm) ** 1.6

    beams = np.linspace(-45.0, 45.0, 91)
    contact = rng.normal(0.0, 6.0, 9)
    profile = np.interp(beams, np.linspace(-45.0, 45.0, 9), contact)
    profile -= 22.0 * np.clip((np.abs(beams) - 26.0) / 18.0, 0.0, 1.0) ** 2
    for _ in range(int(rng.integers(0, 3))):
        place = rng.choice((-1.0, 1.0)) * rng.uniform(27.0, 41.0)
        width = rng.uniform(2.0, 4.5)
        profile -= rng.uniform(10.0, 34.0) * np.exp(-(((beams - place) / width) ** 2))
    level += np.interp(sector.angle, beams, profile)

    left, top = rng.integers(0, _MARGIN, 2)
    window = _patches()[top : top + _TEXTURE_ROWS, left : left + _TEXTURE_COLUMNS]
    level += 12.0 * cv2.remap(window, column, row, cv2.INTER_LINEAR)
    level += 70.0 * np.exp(-((depth / 9.0) ** 2))
    if near_field in ("chest", "neck"):
        # Skin, fat, muscle and fascia lie in layers across the beams.
        layers = np.cos(depth * rng.uniform(0.9, 1.15) + rng.uniform(0.0, 6.0))
        level += (34.0 + 26.0 * layers) * np.clip((20.0 - depth) / 6.0, 0.0, 1.0)
    return np.asarray(np.round(level), np.int16)
