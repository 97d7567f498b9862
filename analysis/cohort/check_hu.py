"""Guard: the numbers of a CT must be Hounsfield units, where air is -1000 and water 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.cohort.evidence import Evidence
from analysis.cohort.readers.slices import sample_voxels
from analysis.cohort.report import some
from analysis.cohort.schema import CohortError
from models.contracts import Kind

_PADDING_HU = -1500
_LEAST_VOXELS, _LEAST_DISTINCT = 1000, 50


@dataclass(frozen=True)
class _Numbers:
    """What the voxels looked at run through, without padding."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, median {self.middle:g}"


def check_hu_range(evidence: Evidence) -> None:
    """Note CTs whose numbers are no Hounsfield units (an error); five slices of each are read.

    Eight volumes are looked at, all of them if `deep`. Numbers below -1500 are padding outside
    the field of view (-2000, -3024) and do not count; volumes of fewer than 1,000 voxels or 50
    distinct numbers (phantoms) are not judged. Then

    - all within -1 to 1: normalised (a CT is never that flat, noise alone spans 20 HU and more);
    - all within 0 to 255, and above 200 somewhere: a picture of 8 bits;
    - not below -20 (0.5 % quantile) and above 1000 somewhere: the stored numbers without the
      rescale intercept, usually -1024, so that air is near 0 and water near 1000. A CT that shows
      bone shows fat (-100) or air (-1000) as well.
    """
    for name, modality in evidence.spec.modalities.items():
        if modality.kind is not Kind.VOLUME or modality.unit.upper() not in ("", "HU"):
            continue
        found: dict[tuple[str, str], list[tuple[int, _Numbers]]] = {}
        looked = 0
        for subject, _, path, _ in evidence.looked_at(name):
            try:
                voxels = sample_voxels(path)
            except CohortError:  # damaged voxels are what `deep` notes
                continue
            looked += 1
            verdict = judge(voxels)
            if verdict is not None:
                found.setdefault(verdict[:2], []).append((subject, verdict[2]))
        for (what, remedy), hits in found.items():
            subjects = some(subject for subject, _ in hits)
            told = (
                f"{subjects} (of {looked} volumes looked at) {what}: {hits[0][1]} in slices of "
                f"subject {hits[0][0]}"
            )
            evidence.report.error(modality.path, f"numbers of {name}", told, remedy)


def judge(voxels: npt.NDArray[np.float32]) -> tuple[str, str, _Numbers] | None:
    """What is wrong with the numbers, its remedy and the evidence; None for Hounsfield units."""
    inside = voxels[np.isfinite(voxels) & (voxels > _PADDING_HU)]
    if len(inside) < _LEAST_VOXELS or len(np.unique(inside)) < _LEAST_DISTINCT:
        return None
    low, high = float(inside.min()), float(inside.max())
    numbers = _Numbers(low, float(np.median(inside)), high)
    if low >= -1 and high <= 1:
        return "hold normalised numbers, not HU", "give the CT before it was normalised", numbers
    if low >= 0 and high <= 255:
        if high > 200:
            remedy = "give the CT itself, not a windowed picture"
            return "hold pictures of 8 bits, not HU", remedy, numbers
        return None
    if float(np.quantile(inside, 0.005)) >= -20 and high > 1000:
        what = "have no air and no fat, as if the rescale intercept were forgotten"
        remedy = "apply slope and intercept (air is -1000 HU), usually subtract 1024"
        return what, remedy, numbers
    return None
