"""Names for places in a scan, in a reader's words.

Upper, middle and lower are thirds of the body that was scanned, as are front, middle and back:
positions, not lobes or organs. Left and right are the patient's, from the body's midline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.readers.volume import Volume
from models.contracts import VoxelGrid

# Skin and what lies under it, but not lung or the air around the patient.
BODY_HU = -300.0
# A blanket or a cable is not a body: so much of a row of voxels must be.
FILLED = 0.02
MIDLINE_MM = 10.0

COLUMNS = ["name", "x_mm", "y_mm", "z_mm", "size_x_mm", "size_y_mm", "size_z_mm"]


@dataclass(frozen=True)
class _Frame:
    """The body in RAS mm: its box (low, high) and where the midline is."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    midline_mm: float

    def words(self, center_mm: npt.ArrayLike) -> str:
        x, y, z = np.asarray(center_mm, np.float64)
        if abs(x - self.midline_mm) <= MIDLINE_MM:
            side = "midline"
        else:
            side = "right" if x > self.midline_mm else "left"
        height = self._third(z, 2, ("lower", "middle", "upper"))
        depth = self._third(y, 1, ("back", "centre", "front"))
        return f"{side} {height}, {depth}"

    def _third(self, mm: float, axis: int, names: tuple[str, str, str]) -> str:
        share = (mm - self.low[axis]) / (self.high[axis] - self.low[axis])
        return names[int(np.clip(share * 3, 0, 2))]


def region_name(center_mm: npt.ArrayLike, scan: Volume) -> str:
    """'left upper, front (x -87, y 29, z 110 mm, slice 30 of 48)' of a point in RAS mm.

    x grows to the patient's right, y to the front, z to the head. Slices count from 1 at the head
    in `scan`; a point outside it is 'outside the scan (x ...)'. Within 10 mm of the body's midline
    the side is 'midline'.
    """
    return _name(center_mm, _body(scan), scan)


def token_regions(layout: VoxelGrid, scan: Volume | None) -> pd.DataFrame:
    """Name, centre and size of every token of a grid, in token order (last axis fastest).

    Columns name, x_mm, y_mm, z_mm (RAS) and size_x_mm, size_y_mm, size_z_mm. Without a scan (only
    features were kept) mm count from the centre of the volume that the encoder saw, and thirds
    are those of that volume.
    """
    size = np.asarray(layout.spacing_mm, np.float64)[::-1]
    counts = np.asarray(layout.shape)[::-1]
    if scan is None:
        middle = np.zeros(3)
        half = counts * size / 2
        frame = _Frame(-half, half, 0.0)
    else:
        middle = scan.to_mm([(np.asarray(scan.array.shape) - 1) / 2])[0]
        frame = _body(scan)
    dhw = np.stack(np.meshgrid(*map(np.arange, layout.shape), indexing="ij"), -1).reshape(-1, 3)
    centers = middle + (dhw[:, ::-1] - (counts - 1) / 2) * size
    names = [_name(center, frame, scan) for center in centers]
    numbers = np.hstack([centers, np.broadcast_to(size, centers.shape)])
    table = pd.DataFrame(numbers, columns=COLUMNS[1:])
    table.insert(0, "name", names)
    return table


def _name(center_mm: npt.ArrayLike, frame: _Frame, scan: Volume | None) -> str:
    x, y, z = (round(float(v)) for v in np.asarray(center_mm, np.float64))
    place = f"x {x}, y {y}, z {z} mm"
    if scan is not None:
        # A point between two voxels belongs to the upper one, as in the viewer.
        at = np.floor(scan.to_voxels(center_mm)[0] + 0.5).astype(int)
        if not all(0 <= i < n for i, n in zip(at, scan.array.shape, strict=True)):
            return f"outside the scan ({place})"
        slices = scan.array.shape[0]
        # Slices count from the head, as in the viewer.
        place += f", slice {slices - at[0]} of {slices}"
    else:
        place += " from the centre"
    return f"{frame.words(center_mm)} ({place})"


def _body(scan: Volume) -> _Frame:
    """The body's box and midline; the whole scan where nothing in it is a body.

    The midline is the median over slices of the middle of the body's outline, so that arms, a
    table or one large organ do not move it.
    """
    body = scan.array > BODY_HU
    first, last = np.zeros(3), np.asarray(scan.array.shape) - 1.0
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(body.mean(axis=others) > FILLED)
        if len(filled):
            first[axis], last[axis] = filled[0], filled[-1]
    # The box ends at the voxels' outer faces.
    low, high = scan.to_mm([first - 0.5, last + 0.5])
    outline = body.mean(axis=1) > FILLED
    rows = outline.any(axis=1)
    if not rows.any():
        return _Frame(low, high, float(low[0] + high[0]) / 2)
    ends = outline[rows].argmax(axis=1), outline.shape[1] - 1 - outline[rows, ::-1].argmax(axis=1)
    middle = float(np.median((ends[0] + ends[1]) / 2))
    return _Frame(low, high, float(scan.to_mm([(0.0, 0.0, middle)])[0][0]))
