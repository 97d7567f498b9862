"""Slices of a CT as still pictures (PNG), with a map over them: for exports and reports.

The conventions are those of the viewer in the browser (static/ct_viewer.js): in axial and coronal
slices the patient's right is on the left of the picture, a sagittal slice faces left, slices are
counted from the head, the front and the right, and weak values of a map fade. Pixels are square
in mm; nothing but the map covers the anatomy.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from analysis.attribution.result import VolumeMap
from analysis.cohort.readers.volume import AIR_HU, Affine, Floats, Volume
from app.theme import APP_NAME, NOTICE

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = get_args(Plane)
Pixels = npt.NDArray[np.uint8]

# As in the viewer; low to high.
INFERNO = (
    "#000004", "#210C4A", "#57106E", "#8A226A", "#BC3754",
    "#E45A31", "#F98E09", "#F9CB35", "#FCFFA4",
)  # fmt: skip
DIVERGING = ("#1D4ED8", "#4F86EE", "#A9C9FB", "#FFFFFF", "#FBB4A6", "#EE5C4A", "#C8102E")
FULL_ALPHA = 0.5  # of the limit; below it the colours fade, so that weak values hide no CT
_COLOURS = 1024
_UNDER_BAR = 90  # the grey that the colour bar lies on
_BAR_OFF = 29
_TEXT = (245, 242, 238)  # BGR
_LETTERS = (120, 217, 255)
_CROSS = (255, 211, 111)
_DENSITY = 2  # drawn for screens and paper with two pixels a CSS pixel
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class _View:
    """How a plane is looked at: the array axes (D, H, W) that run down, across and through the
    picture, all of them turned round; the letters left, right, above and below; and where the
    third axis grows to, and away.
    """

    down: int
    across: int
    through: int
    letters: tuple[str, str, str, str]
    sides: tuple[str, str]


_VIEWS: dict[Plane, _View] = {
    "axial": _View(1, 2, 0, ("R", "L", "A", "P"), ("S", "I")),
    "coronal": _View(0, 2, 1, ("R", "L", "S", "I"), ("A", "P")),
    "sagittal": _View(0, 1, 2, ("A", "P", "S", "I"), ("R", "L")),
}


@dataclass(frozen=True, eq=False)
class SlicePicture:
    """A drawn slice.

    image: (h, w, 3) uint8, BGR. left, top, width, height: where the anatomy lies in it, in
    pixels. index: the slice along its axis (0 is the most inferior, posterior or left one).
    """

    image: Pixels
    plane: Plane
    index: int
    left: int
    top: int
    width: int
    height: int
    volume: Volume

    @property
    def png(self) -> bytes:
        """The picture as a PNG file."""
        return _png(self.image)

    def pixel(self, at_mm: Sequence[float]) -> tuple[int, int]:
        """(column, row) of the pixel that shows a point, RAS mm."""
        view = _VIEWS[self.plane]
        voxel = self.volume.to_voxels([at_mm])[0]
        shape = self.volume.array.shape
        x = (shape[view.across] - 0.5 - voxel[view.across]) * self.width / shape[view.across]
        y = (shape[view.down] - 0.5 - voxel[view.down]) * self.height / shape[view.down]
        return self.left + math.floor(x), self.top + math.floor(y)


def grey(hu: npt.ArrayLike, level: float, width: float) -> Pixels:
    """Grey values 0 to 255 of HU by DICOM's linear VOI function (PS3.3 C.11.2.1.2).

    0 at level - 0.5 - (width - 1) / 2 and below, 255 above level - 0.5 + (width - 1) / 2. Raises
    ValueError for a width below 1.
    """
    if not width >= 1:
        raise ValueError(f"a window is at least 1 HU wide, not {width}")
    x = np.asarray(hu, np.float64)
    low, high = level - 0.5 - (width - 1) / 2, level - 0.5 + (width - 1) / 2
    ramp = ((x - (level - 0.5)) / max(width - 1, 1e-9) + 0.5) * 255
    return np.rint(np.where(x <= low, 0.0, np.where(x > high, 255.0, ramp))).astype(np.uint8)


def plane_png(
    volume: Volume,
    found: VolumeMap | None,
    plane: Plane,
    at_mm: Sequence[float],
    level: float,
    width: float,
    opacity: float = 0.5,
    threshold: float = 0.2,
    title: str = "",
) -> bytes:
    """One slice with its letters, position, window, scale and, with a map, its colours.

    See `slices_png`.
    """
    size = 520 * _DENSITY
    extents = [_extent(volume, axis) for axis in (_VIEWS[plane].across, _VIEWS[plane].down)]
    drawn = draw(
        volume, found, plane, at_mm, level, width, opacity, threshold,
        pixels_per_mm=size / max(extents),
    )  # fmt: skip
    return _png(_titled(_beside([drawn.image], found, opacity, threshold), title))


def slices_png(
    volume: Volume,
    found: VolumeMap | None,
    at_mm: Sequence[float],
    level: float,
    width: float,
    opacity: float = 0.5,
    threshold: float = 0.2,
    title: str = "",
) -> bytes:
    """The three slices through a point, side by side on one scale.

    at_mm: RAS mm; a point outside the volume is moved to its border. level, width: HU. opacity:
    of the map, 0 to 1. threshold: share of the map's largest |value| below which it is not
    drawn. title: whose map of what this is, written below with the notice that a picture which
    leaves the app needs; without it, none is written.
    """
    across = sum(_extent(volume, _VIEWS[plane].across) for plane in PLANES)
    down = max(_extent(volume, _VIEWS[plane].down) for plane in PLANES)
    scale = min(1180 / across, 900 / down)
    images = [
        draw(
            volume, found, plane, at_mm, level, width, opacity, threshold,
            pixels_per_mm=scale, room=round(down * scale),
        ).image
        for plane in PLANES
    ]  # fmt: skip
    return _png(_titled(_beside(images, found, opacity, threshold), title))


def draw(
    volume: Volume,
    found: VolumeMap | None,
    plane: Plane,
    at_mm: Sequence[float],
    level: float,
    width: float,
    opacity: float = 0.5,
    threshold: float = 0.2,
    *,
    pixels_per_mm: float = 2.0,
    room: int = 0,
) -> SlicePicture:
    """One slice through a point; see `slices_png`.

    room: the anatomy's place is at least so high, in pixels. Raises ValueError for an opacity,
    threshold or window that cannot be.
    """
    for name, value in (("opacity", opacity), ("threshold", threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, not {value}")
    view = _VIEWS[plane]
    at = _inside(volume, at_mm)
    index = round(at[view.through])
    section = _section(volume, view.through, index)
    steps = volume.spacing_mm
    size = (
        max(1, round(section.shape[1] * steps[view.across] * pixels_per_mm)),
        max(1, round(section.shape[0] * steps[view.down] * pixels_per_mm)),
    )
    picture = np.repeat(grey(_resized(_shown(section), size), level, width)[..., None], 3, 2)
    if found is not None:
        thin = _thin(volume, view.through, index)
        values = _resized(_shown(found.on(thin).squeeze(view.through)), size)
        picture = _blended(picture, values, found, opacity, threshold)
    where = volume.to_mm([at])[0][2 - view.through]
    n = volume.array.shape[view.through]
    side = view.sides[0] if where >= 0 else view.sides[1]
    title = f"{plane.capitalize()} {n - index}/{n}, {side} {abs(where):.1f} mm"
    window = f"W {width:g}  L {level:g}"
    return _framed(picture, volume, plane, index, at, title, window, pixels_per_mm, room)


# ---------------------------------------------------------------- what lies where


def _inside(volume: Volume, at_mm: Sequence[float]) -> Affine:
    """The voxel (d, h, w) of a point, moved into the volume."""
    at = np.rint(volume.to_voxels([at_mm])[0])
    return np.clip(at, 0, np.asarray(volume.array.shape) - 1)


def _extent(volume: Volume, axis: int) -> float:
    return volume.array.shape[axis] * volume.spacing_mm[axis]


def _section(volume: Volume, axis: int, index: int) -> Floats:
    return np.maximum(np.take(volume.array, index, axis), np.float32(AIR_HU))


def _thin(volume: Volume, axis: int, index: int) -> Volume:
    """The volume's one slice, where it lies; a map asked for it need not be resampled whole."""
    start = [0, 0, 0]
    start[axis] = index
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_mm([start])[0]
    return Volume(np.take(volume.array, [index], axis), affine, volume.spacing_mm)


def _shown(section: Floats) -> Floats:
    """As displayed: the array's axes point up and to the patient's right or front."""
    return np.ascontiguousarray(section[::-1, ::-1])


def _resized(image: Floats, size: tuple[int, int]) -> Floats:
    """To (width, height): linear where it grows, averaged where it shrinks, axis by axis."""
    for axis, wanted in ((1, size[0]), (0, size[1])):
        target = [image.shape[1], image.shape[0]]
        target[0 if axis else 1] = wanted
        method = cv2.INTER_AREA if wanted < image.shape[axis] else cv2.INTER_LINEAR
        image = cv2.resize(image, target, interpolation=method)
    return np.asarray(image, np.float32)


# ---------------------------------------------------------------- the map's colours


def limit_of(found: VolumeMap) -> float:
    """|value| at the end of the colours: the largest of the whole map, the same in each slice."""
    return float(np.abs(found.values).max(initial=0.0))


def ends_of(found: VolumeMap) -> tuple[str, str]:
    """What low and high of a signed map mean for the patient, in a word each."""
    worse = found.target.get("worse_is_higher")
    if worse is None:
        return "lowers", "raises"
    return ("better", "worse") if worse else ("worse", "better")


def _colours(found: VolumeMap, opacity: float, threshold: float) -> tuple[Floats, Floats]:
    """Colours times opacity (n, 3) BGR, and what is left of the CT (n,), from low to high.

    Of a signed map red is worse for the patient; where neither is, red is more.
    """
    stops = list(DIVERGING if found.signed else INFERNO)
    if found.signed and found.target.get("worse_is_higher") is False:
        stops = stops[::-1]
    share = np.linspace(0, 1, _COLOURS)
    strength = np.abs(2 * share - 1) if found.signed else share
    alpha = np.where(strength < threshold, 0, opacity * np.minimum(1, strength / FULL_ALPHA))
    channels = [[int(stop[i : i + 2], 16) for stop in stops] for i in (5, 3, 1)]
    places = np.linspace(0, 1, len(stops))
    mixed = np.stack([np.interp(share, places, channel) for channel in channels], 1)
    return np.asarray(mixed * alpha[:, None], np.float32), np.asarray(1 - alpha, np.float32)


def _blended(
    picture: Pixels, values: Floats, found: VolumeMap, opacity: float, threshold: float
) -> Pixels:
    limit = limit_of(found)
    if limit == 0:
        return picture
    share = values / limit / 2 + 0.5 if found.signed else values / limit
    index = np.clip(np.rint(share * (_COLOURS - 1)), 0, _COLOURS - 1).astype(int)
    colours, left = _colours(found, opacity, threshold)
    return np.rint(picture * left[index][..., None] + colours[index]).astype(np.uint8)


def _bar(found: VolumeMap, opacity: float, threshold: float, height: int) -> Pixels:
    """The colours as they look over grey, with their numbers; dark where nothing is drawn."""
    limit, d = limit_of(found), _DENSITY
    long, wide = max(min(height - 90 * d, 260 * d), 40 * d), 12 * d
    canvas = np.zeros((height, 84 * d, 3), np.uint8)
    colours, left_over = _colours(found, opacity, threshold)
    seen = np.where((left_over == 1)[:, None], _BAR_OFF, colours + _UNDER_BAR * left_over[:, None])
    rows = np.rint(np.linspace(_COLOURS - 1, 0, long)).astype(int)
    top, left = (height - long) // 2, 8 * d
    canvas[top : top + long, left : left + wide] = np.rint(seen[rows])[:, None]
    cv2.rectangle(canvas, (left - 1, top - 1), (left + wide, top + long), (160, 150, 139), 1)
    low = -limit if found.signed else 0.0
    for value in (limit, 0.0, low) if found.signed else (limit, 0.0):
        y = top + round((limit - value) / ((limit - low) or 1.0) * (long - 1))
        cv2.line(canvas, (left + wide, y), (left + wide + 4 * d, y), _TEXT, d)
        _write(canvas, _value(value, found.signed), left + wide + 7 * d, y + 4 * d)
    if found.signed:
        below, above = ends_of(found)
        _write(canvas, above, left, top - 10 * d)
        _write(canvas, below, left, top + long + 18 * d)
    return canvas


def _value(value: float, signed: bool) -> str:
    if value == 0:
        return "0"
    text = f"{value:+.2g}" if signed else f"{value:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e+")


# ---------------------------------------------------------------- around the anatomy


def _framed(
    picture: Pixels,
    volume: Volume,
    plane: Plane,
    index: int,
    at: Affine,
    title: str,
    window: str,
    pixels_per_mm: float,
    place: int,
) -> SlicePicture:
    d = _DENSITY
    high, wide = picture.shape[:2]
    side, above, below = 20 * d, 42 * d, 42 * d
    foot = max(wide, _width(window) + 90 * d)
    room = max(wide + 2 * side, foot + 8 * d, _width(title) + 8 * d)
    space = max(place - high, 0)
    canvas = np.zeros((high + space + above + below, room, 3), np.uint8)
    left, top = (room - wide) // 2, above + space // 2
    canvas[top : top + high, left : left + wide] = picture
    drawn = SlicePicture(canvas, plane, index, left, top, wide, high, volume)
    middle_x, middle_y = left + wide // 2, top + high // 2
    west, east, north, south = _VIEWS[plane].letters
    _write(canvas, title, (room - _width(title)) // 2, 15 * d)
    _write(canvas, west, left - 15 * d, middle_y + 5 * d, _LETTERS)
    _write(canvas, east, left + wide + 6 * d, middle_y + 5 * d, _LETTERS)
    _write(canvas, north, middle_x - 4 * d, top - 6 * d, _LETTERS)
    _write(canvas, south, middle_x - 4 * d, top + high + 15 * d, _LETTERS)
    x, y = drawn.pixel(volume.to_mm([at])[0])
    for start, end in (
        ((x, top - 5 * d), (x, top - 2)),
        ((x, top + high + 1), (x, top + high + 5 * d)),
        ((left - 5 * d, y), (left - 2, y)),
        ((left + wide + 1, y), (left + wide + 5 * d, y)),
    ):
        cv2.line(canvas, start, end, _CROSS, d)
    bottom = len(canvas) - 8 * d
    begin = (room - foot) // 2
    _scale_bar(canvas, begin, bottom, foot - _width(window) - 50 * d, pixels_per_mm)
    _write(canvas, window, begin + foot - _width(window), bottom + 2 * d)
    return drawn


def _scale_bar(canvas: Pixels, left: int, y: int, most: int, pixels_per_mm: float) -> None:
    d = _DENSITY
    fitting = [mm for mm in _LENGTHS_MM if mm * pixels_per_mm <= min(most, 110 * d)]
    if not fitting:
        return
    mm = fitting[-1]
    end = left + round(mm * pixels_per_mm)
    for a, b in (((left, y), (end, y)), ((left, y - 3 * d), (left, y + 3 * d))):
        cv2.line(canvas, a, b, _TEXT, d)
    cv2.line(canvas, (end, y - 3 * d), (end, y + 3 * d), _TEXT, d)
    _write(canvas, f"{mm // 10} cm" if mm >= 10 else f"{mm} mm", end + 6 * d, y + 2 * d)


def _beside(
    images: Sequence[Pixels], found: VolumeMap | None, opacity: float, threshold: float
) -> Pixels:
    """Pictures of one height in a row, with the colours of the map at the end."""
    high = images[0].shape[0]
    gap = np.zeros((high, 8 * _DENSITY, 3), np.uint8)
    parts = [part for image in images for part in (image, gap)]
    if found is not None:
        parts.append(_bar(found, opacity, threshold, high))
    return np.concatenate(parts, 1)


def _titled(image: Pixels, title: str) -> Pixels:
    """With a strip below that says what this is, in as many lines as it takes."""
    if not title:
        return image
    d, wide = _DENSITY, image.shape[1]
    letters = max(20, round(len(title) * (wide - 12 * d) / max(_width(title), 1)))
    lines = [*textwrap.wrap(title.replace("\u2212", "-"), letters), f"{APP_NAME}. {NOTICE}"]
    strip = np.zeros(((18 * len(lines) + 6) * d, wide, 3), np.uint8)
    for at, line in enumerate(lines):
        _write(strip, line, 6 * d, (14 + 18 * at) * d)
    return np.concatenate([image, strip])


def _write(canvas: Pixels, text: str, x: int, y: int, colour: tuple[int, int, int] = _TEXT) -> None:
    cv2.putText(canvas, text, (x, y), _FONT, 0.42 * _DENSITY, colour, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, 0.42 * _DENSITY, 1)[0][0])


def _png(image: Pixels) -> bytes:
    done, data = cv2.imencode(".png", image)
    if not done:
        raise RuntimeError("the picture could not be written as PNG")
    return bytes(data.tobytes())
