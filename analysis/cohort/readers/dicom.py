"""A DICOM CT series in a folder, as one volume in HU.

Only the series with most slices is read. Files are told by their content, not their name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from analysis.cohort.readers.bounds import check_pixels, check_spacing, read_dicom
from analysis.cohort.schema import CohortError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_WANTED = (
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
)
Affine = npt.NDArray[np.float64]


def series_geometry(folder: Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape (columns, rows, slices) and RAS affine, from headers only."""
    headers, affine = _series(folder)
    first = headers[0][1]
    return (int(first.Columns), int(first.Rows), len(headers)), affine


def read_series(
    folder: Path, files: Sequence[Path] | None = None
) -> tuple[npt.NDArray[np.float32], Affine]:
    """HU (columns, rows, slices) float32 and the affine (4, 4) of those indices to RAS mm.

    files: of the folder only these. Raises CohortError when the folder holds no CT series, a
    slice is missing, spacing is uneven or undefined, or pixels cannot be decoded.
    """
    headers, affine = _series(folder, files)
    first = headers[0][1]
    volume = np.empty((len(headers), int(first.Rows), int(first.Columns)), np.float32)
    for at, (path, _) in enumerate(headers):
        volume[at] = _hounsfield(path)
    return volume.transpose(2, 1, 0), affine


def read_some_slices(folder: Path, count: int) -> npt.NDArray[np.float32]:
    """(V,) HU of up to `count` slices of the series. Raises CohortError as `read_series`."""
    headers, _ = _series(folder)
    chosen = np.unique(np.linspace(0, len(headers) - 1, count).round().astype(int))
    return np.concatenate([_hounsfield(headers[at][0]).ravel() for at in chosen])


def _hounsfield(path: Path) -> npt.NDArray[np.float32]:
    """(rows, columns) of one slice, slope and intercept applied."""
    try:
        full = read_dicom(path)
        slope = float(full.get("RescaleSlope", 1) or 1)
        intercept = float(full.get("RescaleIntercept", 0) or 0)
        return np.asarray(full.pixel_array.astype(np.float32) * slope + intercept, np.float32)
    except Exception as error:  # decoders raise whatever they like on a damaged file
        raise CohortError(
            f"{path}: the pixels cannot be decoded, perhaps truncated "
            f"({' '.join(str(error).split())[:120]}); copy the file again."
        ) from error


def _series(
    folder: Path, files: Sequence[Path] | None = None
) -> tuple[list[tuple[Path, pydicom.Dataset]], Affine]:
    """Headers of the largest series sorted along its normal, and the RAS affine."""
    series: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    there = (p for p in folder.rglob("*") if p.is_file()) if files is None else files
    for path in sorted(there):
        try:
            header = read_dicom(path, stop_before_pixels=True, specific_tags=list(_WANTED))
            if "SeriesInstanceUID" in header and "Rows" in header:
                series.setdefault(str(header.SeriesInstanceUID), []).append((path, header))
        except Exception:  # whatever pydicom says: what cannot be read is no slice
            continue
    if not series:
        raise CohortError(f"{folder}: the folder holds no DICOM slices; put a CT series there.")
    chosen = max(sorted(series), key=lambda uid: len(series[uid]))
    headers = series[chosen]
    try:
        return _placed(folder, headers)
    except CohortError:
        raise
    except Exception as error:  # whatever pydicom makes of a value
        raise CohortError(
            f"{folder}: a slice lacks position, orientation or spacing "
            f"({' '.join(str(error).split())[:120]}); export the series with full headers."
        ) from error


def _placed(
    folder: Path, headers: list[tuple[Path, pydicom.Dataset]]
) -> tuple[list[tuple[Path, pydicom.Dataset]], Affine]:
    first_path, first = headers[0]
    if first.get("Modality", "CT") != "CT":
        raise CohortError(f"{folder}: the series is {first.Modality}, not CT; give a CT series.")
    if int(first.get("NumberOfFrames", 1) or 1) > 1:
        raise CohortError(f"{first_path}: holds several frames in one file; export single slices.")
    spacing = np.asarray(first.PixelSpacing, np.float64)
    turn = np.asarray(first.ImageOrientationPatient, np.float64).reshape(2, 3)
    for path, header in headers:
        check_pixels(path, int(header.Rows) * int(header.Columns))
        same = (
            np.allclose(np.asarray(header.PixelSpacing, float), spacing, rtol=1e-3)
            and np.allclose(
                np.asarray(header.ImageOrientationPatient, float).reshape(2, 3), turn, atol=1e-3
            )
            and (header.Rows, header.Columns) == (first.Rows, first.Columns)
        )
        if not same:
            raise CohortError(
                f"{path}: differs from its series in size, spacing or orientation; remove it, "
                "it may be a localizer."
            )
    normal = np.cross(turn[0], turn[1])
    places = np.asarray([h.ImagePositionPatient for _, h in headers], np.float64)
    along = places @ normal
    order = np.argsort(along, kind="stable")
    headers = [headers[i] for i in order]
    step = _slice_step(folder, places[order], along[order], normal, headers[0][1])
    affine = np.eye(4)
    affine[:3, 0] = turn[0] * spacing[1]
    affine[:3, 1] = turn[1] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = places[order[0]]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise CohortError(f"{folder}: the voxel spacing is zero or undefined; export it again.")
    check_spacing(folder, np.linalg.norm(affine[:3, :3], axis=0))
    return headers, _LPS_TO_RAS @ affine


def _slice_step(
    folder: Path,
    places: Affine,
    along: Affine,
    normal: Affine,
    first: pydicom.Dataset,
) -> Affine:
    """The vector from one slice to the next (a tilted gantry shifts within the plane too)."""
    if len(along) == 1:
        return normal * float(first.SliceThickness)
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if (gaps < 1e-3).any():
        at = float(along[int(np.argmin(gaps))])
        raise CohortError(
            f"{folder}: two slices lie at the same position ({at:.1f} mm); keep one of them."
        )
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > max(0.05 * usual, 0.02):
        where = f"between {along[worst]:.1f} and {along[worst + 1]:.1f} mm along the scan"
        if gaps[worst] > 1.5 * usual:
            raise CohortError(
                f"{folder}: {max(1, round(gaps[worst] / usual) - 1)} slice(s) missing {where} "
                f"(usual distance {usual:.2f} mm); copy the whole series."
            )
        raise CohortError(
            f"{folder}: slices are unevenly spaced, {gaps[worst]:.2f} mm {where} but "
            f"{usual:.2f} mm elsewhere; give an evenly spaced series."
        )
    return np.asarray((places[-1] - places[0]) / (len(along) - 1))
