"""What an explanation returns. Scores never travel without what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from analysis.attribution.case import Subject
from analysis.cohort.readers.volume import Volume

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Shares of a prediction that the parts of one modality carry.

    parts: (P rows) what each part is: an event (code, description, group, value, unit, time,
    days_before), a column (name, title, value, unit), an instance (instance) or a region (name,
    x_mm, y_mm, z_mm: RAS centre). values: (P, T) share of part p in the explained number at
    output t (T = 1 for a scalar). whole, reference: (T,) the explained number, and the number
    when all parts are removed; the shares add up to whole - reference but for `gap`.
    agreement: rank correlation in [-1, 1] of two independent halves of the estimate, None where
    nothing was sampled. spread: (P,) absolute difference of the two halves, None likewise.
    evaluations: model evaluations used. target: title, unit, worse_is_higher and parameters.
    """

    subject: Subject
    modality: str
    kind: str
    method: str
    target: Mapping[str, Any]
    parts: pd.DataFrame
    values: Floats
    whole: Floats
    reference: Floats
    agreement: float | None = None
    spread: Floats | None = None
    evaluations: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, t = len(self.parts), len(self.whole)
        if self.values.shape != (n, t) or self.reference.shape != (t,):
            raise ValueError(
                f"{n} parts and {t} outputs need shares of shape {(n, t)}, got "
                f"{self.values.shape} and references {self.reference.shape}."
            )

    @property
    def gap(self) -> float:
        """Largest |sum of shares - (whole - reference)| over the outputs."""
        return float(np.abs(self.values.sum(axis=0) - (self.whole - self.reference)).max())

    def table(self) -> pd.DataFrame:
        """Parts with their share (and `spread`), largest absolute share first. Needs T = 1."""
        table = self.parts.assign(share=self.values[:, 0])
        if self.spread is not None:
            table["spread"] = self.spread
        order = np.argsort(-np.abs(self.values[:, 0]), kind="stable")
        return table.iloc[order].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class VolumeMap:
    """A map over a volume, on a grid of its own.

    values: (d, h, w) float32, axes towards superior, anterior and right; signed where the method
    is (positive raises the explained number), else >= 0. affine: (4, 4) maps (w, h, d, 1) to RAS
    mm, so the map lies in the patient wherever the encoder's grid was. layer: None for methods
    on the input. whole: the explained number. gap: the method's own completeness error where it
    has one (integrated gradients), else None.
    """

    subject: Subject
    modality: str
    method: str
    layer: str | None
    target: Mapping[str, Any]
    values: npt.NDArray[np.float32]
    affine: Floats
    signed: bool
    whole: float
    reference: float | None = None
    gap: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.affine.shape != (4, 4):
            raise ValueError(
                f"a map is three-dimensional with a 4 x 4 affine, got {self.values.shape} and "
                f"{self.affine.shape}."
            )

    @property
    def is_empty(self) -> bool:
        """Whether the map is 0 everywhere: nothing here raises (or moves) the explained number."""
        return not self.values.any()

    @property
    def peak_mm(self) -> tuple[float, float, float] | None:
        """RAS mm of the largest |value| (a cell's centre), None where the map is empty."""
        if self.is_empty:
            return None
        at = np.unravel_index(int(np.abs(self.values).argmax()), self.values.shape)
        x, y, z = (self.affine @ np.r_[np.asarray(at, float)[::-1], 1.0])[:3]
        return float(x), float(y), float(z)

    def on(self, volume: Volume, *, nearest: bool = False) -> npt.NDArray[np.float32]:
        """The map on a volume's own grid (D, H, W), by millimetres; 0 outside the map's cells.

        Linear between cell centres; within half a cell of the border the border's value holds.
        """
        back = np.linalg.inv(self.affine) @ volume.affine
        turned = np.asarray(self.values, np.float32).transpose(2, 1, 0)
        shape = volume.array.shape[::-1]
        # Beyond the outer half cell there is no map; within it the edge value is right.
        padded = np.pad(turned, 1, mode="edge")
        out = ndimage.affine_transform(
            padded,
            back[:3, :3],
            offset=back[:3, 3] + 1,
            output_shape=shape,
            order=0 if nearest else 1,
            mode="constant",
            cval=0.0,
        )
        # Half a cell outside the grid ends the map, axis by axis (both affines are diagonal up
        # to flips; a general one is handled by the index itself).
        axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij", sparse=True)
        for row in range(3):
            index = back[row, 3] + sum(back[row, c] * axes[c] for c in range(3))
            inside = (index >= -0.5 - 1e-6) & (index <= turned.shape[row] - 0.5 + 1e-6)
            out = out * inside
        return np.ascontiguousarray(out.transpose(2, 1, 0), np.float32)


def describe_target(target: Any) -> dict[str, Any]:
    """What a result says of the number it explains."""
    return {
        "title": target.title,
        "unit": target.unit,
        "worse_is_higher": target.worse_is_higher,
        **target.parameters,
    }


def subject_json(subject: Subject) -> dict[str, Any]:
    """A subject as plain JSON."""
    return asdict(subject)
