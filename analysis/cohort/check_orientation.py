"""Guard: a volume must say where right and left are, and how far apart its voxels lie."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from analysis.cohort.evidence import Evidence
from analysis.cohort.readers.volume import probe_volume
from analysis.cohort.report import some
from analysis.cohort.schema import CohortError
from models.contracts import Kind

_LEAST_MM, _MOST_MM = 0.05, 20.0
_SKEW_DEGREES = 1.0


def check_orientation(evidence: Evidence) -> None:
    """Note volumes whose place in the patient is unknown, contradictory or implausible (warnings).

    Headers only, of every volume. NIfTI: qform_code and sform_code are both 0, so no axis is known
    to be right or left (nibabel then takes the first axis to run to the left); both are set
    and place a corner of the volume more than one voxel (and 1 mm) apart, readers take the sform;
    the header says metres or micrometres, though the affine is read as mm. Any volume: axes that
    are more than 1 degree off a right angle (gantry tilt; it is resampled straight); spacing
    below 0.05 or above 20 mm.
    """
    for name, modality in evidence.spec.modalities.items():
        if modality.kind is not Kind.VOLUME:
            continue
        found: dict[tuple[str, str], list[tuple[int, str]]] = {}
        files = evidence.report.files.get(name, [])
        for subject, _, path, _ in files:
            try:
                told = list(_faults(path))
            except (
                CohortError,
                OSError,
                EOFError,
                ValueError,
                zlib.error,
                HeaderDataError,
            ):  # noted by the check itself
                continue
            for what, numbers, remedy in told:
                found.setdefault((what, remedy), []).append((subject, numbers))
        for (what, remedy), hits in found.items():
            subjects = some(subject for subject, _ in hits)
            text = f"{subjects} (of {len(files)} volumes): {what} ({hits[0][1]})"
            evidence.report.warn(modality.path, f"orientation of {name}", text, remedy)


def orientation_faults(path: Path) -> list[str]:
    """What `check_orientation` would note of one volume, in words, each with its remedy.

    Raises CohortError or OSError where the header cannot be read.
    """
    return [f"{what} ({numbers}); {remedy}" for what, numbers, remedy in _faults(path)]


def _faults(path: Path) -> Iterator[tuple[str, str, str]]:
    """What is wrong, its numbers, and the remedy."""
    if path.is_dir():
        steps = np.asarray(probe_volume(path).spacing_mm)
    else:
        header = _header(path)
        affine = np.asarray(header.get_best_affine(), np.float64)
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        yield from _header_faults(header)
        skew = _skew_degrees(affine)
        if skew > _SKEW_DEGREES:
            what = "its axes are not at right angles"
            yield what, f"{skew:.1f} degrees off", "check the affine; it is resampled straight"
    if steps.min() < _LEAST_MM or steps.max() > _MOST_MM:
        numbers = " x ".join(f"{step:.4g}" for step in steps) + " mm"
        remedy = "write the true spacing in mm, and leave localizers out"
        yield f"its spacing is outside {_LEAST_MM:g} to {_MOST_MM:g} mm", numbers, remedy


def _header(path: Path) -> Any:
    """The NIfTI header; only its bytes are read, which is five times faster than nibabel.load."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        raw = stream.read(540)
    second = 540 in (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big"))
    kind, size = (nib.Nifti2Header, 540) if second else (nib.Nifti1Header, 348)
    if len(raw) < size:
        raise EOFError(f"{path}: the file ends within its header")
    return kind(raw[:size], check=False)


def _header_faults(header: Any) -> Iterator[tuple[str, str, str]]:
    q, s = int(header["qform_code"]), int(header["sform_code"])
    if q == 0 and s == 0:
        what = "nothing says how it lies in the patient, left and right may be swapped"
        yield what, "qform_code and sform_code are 0", "write the affine of the scanner"
    if q > 0 and s > 0:
        apart = _apart_mm(header.get_qform(), header.get_sform(), header.get_data_shape()[:3])
        step = float(np.linalg.norm(header.get_sform()[:3, :3], axis=0).min())
        if apart > max(1.0, step):
            numbers = f"a corner {apart:.1f} mm apart, qform_code {q}, sform_code {s}"
            what = "its qform and its sform disagree"
            yield what, numbers, "keep the true one of the two; the sform is used"
    unit = header.get_xyzt_units()[0]
    if unit in ("meter", "micron"):
        steps = " x ".join(f"{z:.4g}" for z in header.get_zooms()[:3])
        what = f"its spacing is stated in {unit}s and read as mm"
        yield what, steps, "write the spacing in mm"


def _apart_mm(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> float:
    """The largest distance between the places that two affines give a corner, in mm."""
    ends = np.asarray(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())


def _skew_degrees(affine: npt.NDArray[np.float64]) -> float:
    """How far the axes are off a right angle at most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))).max())
