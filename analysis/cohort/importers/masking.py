"""Blackens what is painted into ultrasound pictures: names, dates, the machine's own text.

Boxes are stated by hand. Around the sector nothing but text, scales and a painted ECG is found,
so all of it can go: what lies outside the regions that the header calls a picture, and what does
not move together with the heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from analysis.cohort.schema import CohortError

Frames = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

# Gray levels that tissue changes by from frame to frame and compression noise around text does not.
_MOVES = 6
# Lines and letters are thinner than this part of the picture's width, the sector is not.
_THIN = 1 / 60
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Masks:
    """What to blacken. boxes: left, top, right, bottom, as fractions where none exceeds 1, else
    pixels. outside_sector: all but the sector.
    """

    boxes: tuple[Box, ...] = ()
    outside_sector: bool = False

    def __bool__(self) -> bool:
        return bool(self.boxes) or self.outside_sector


NO_MASKS = Masks()


def read_masks(boxes: Sequence[str], outside_sector: bool = False) -> Masks:
    """Masks of texts 'X0,Y0,X1,Y1'. Raises CohortError on anything else."""
    return Masks(tuple(map(_box, boxes)), outside_sector)


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError as error:
        raise CohortError(
            f"--mask '{text}': write it as X0,Y0,X1,Y1, in pixels or as fractions of the picture."
        ) from error
    sound = np.isfinite([left, top, right, bottom]).all() and 0 <= left < right and top >= 0
    if not sound or top >= bottom:
        raise CohortError(f"--mask '{text}': X0 must lie left of X1 and Y0 above Y1, none below 0.")
    return left, top, right, bottom


def masked(frames: Frames, masks: Masks, pictures: Sequence[tuple[int, int, int, int]]) -> Frames:
    """(F, H, W, 3) with what is masked black; the frames themselves where nothing is.

    pictures: left, top, right, bottom in pixels of the regions that show a picture, where the
    file states them. Raises CohortError when the sector is asked for and cannot be told.
    """
    if not masks:
        return frames
    height, width = frames.shape[1:3]
    keep = np.ones((height, width), bool)
    for left, top, right, bottom in masks.boxes:
        across, down = (width, height) if max(right, bottom) <= 1 else (1, 1)
        rows = slice(int(np.floor(top * down)), int(np.ceil(bottom * down)))
        keep[rows, int(np.floor(left * across)) : int(np.ceil(right * across))] = False
    if masks.outside_sector:
        keep &= sector(frames, pictures)
    return np.where(keep[None, :, :, None], frames, np.uint8(0))


def sector(
    frames: Frames, pictures: Sequence[tuple[int, int, int, int]] = ()
) -> npt.NDArray[np.bool_]:
    """(H, W): where the moving picture is, convex and without thin moving lines such as an ECG.

    Raises CohortError when no part of the picture moves that is large enough for a sector.
    """
    height, width = frames.shape[1:3]
    # Regions that reach beyond the picture were stated before it was resized.
    fit = pictures and all(right <= width and bottom <= height for _, _, right, bottom in pictures)
    stated = np.full((height, width), not fit)
    for left, top, right, bottom in pictures if fit else ():
        stated[max(top, 0) : bottom, max(left, 0) : right] = True
    brightest = frames.max(axis=3)
    change = brightest.max(axis=0).astype(np.int16) - brightest.min(axis=0)
    moving = ((change > _MOVES) & stated).astype(np.uint8)
    size = max(3, round(width * _THIN)) | 1
    # Speckle first grows together, then what is still thin goes.
    moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((size, size), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moving)
    areas = stats[1:, cv2.CC_STAT_AREA] if count > 1 else np.zeros(0)
    if not len(areas) or areas.max() < _LEAST_SHARE * height * width:
        raise CohortError(
            "the sector cannot be told from what moves; blacken the text with --mask X0,Y0,X1,Y1."
        )
    # Valves and vessels part the tissue: every piece of some size belongs to the sector.
    pieces = np.isin(labels, 1 + np.flatnonzero(areas >= 0.1 * areas.max()))
    outline = cv2.convexHull(np.argwhere(pieces)[:, ::-1].astype(np.int32))
    inside = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(inside, outline, 1)
    return np.asarray(inside.astype(bool) & stated)
