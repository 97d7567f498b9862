"""CT volumes on the canonical grid: axes towards superior, anterior and right (RAS+, transposed).

A stored volume may have any orientation, spacing and extent. It is turned to the canonical axes,
resampled to a stated spacing and cut or padded with air to a stated shape in one pass, and the
affine of the result says where in the patient every voxel lies. Numbers below -1024 HU (scanner
padding outside the field of view) become air.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from analysis.cohort.readers.bounds import check_grown, check_spacing, check_voxels
from analysis.cohort.readers.dicom import read_series, series_geometry
from analysis.cohort.schema import CohortError

AIR_HU = -1024.0
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
Floats = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """A CT on the canonical grid.

    array: (D, H, W) float32 HU. affine: (4, 4), maps voxel indices (w, h, d, 1) to RAS mm.
    spacing_mm: distance of voxel centres along (D, H, W).
    """

    array: Floats
    affine: Affine
    spacing_mm: Triple

    def to_mm(self, voxels: npt.ArrayLike) -> Affine:
        """RAS mm (N, 3) of voxel indices (N, 3) given as (d, h, w)."""
        dhw = np.atleast_2d(np.asarray(voxels, np.float64))
        return np.asarray(dhw[:, ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxels(self, points_mm: npt.ArrayLike) -> Affine:
        """Voxel indices (N, 3) as (d, h, w), not rounded, of points (N, 3) in RAS mm."""
        back = np.linalg.inv(self.affine)
        mm = np.atleast_2d(np.asarray(points_mm, np.float64))
        return np.asarray(mm @ back[:3, :3].T + back[:3, 3])[:, ::-1]


@dataclass(frozen=True)
class VolumeInfo:
    """What a header says. shape and spacing_mm in the file's own axis order."""

    shape: tuple[int, ...]
    spacing_mm: Triple


def probe_volume(path: Path) -> VolumeInfo:
    """Read headers only. Raises CohortError as `read_volume` does, save for damaged voxels."""
    if path.is_dir():
        shape, affine = series_geometry(path)
    else:
        image = _open_nifti(path)
        shape, affine = image.shape, np.asarray(image.affine, np.float64)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return VolumeInfo(tuple(shape), (float(steps[0]), float(steps[1]), float(steps[2])))


def read_volume(
    path: Path,
    spacing_mm: Triple | None = None,
    shape: Shape | None = None,
    slices: Sequence[Path] | None = None,
) -> Volume:
    """Read a NIfTI file (.nii, .nii.gz) or a folder holding a DICOM CT series.

    spacing_mm: resample to this spacing along (D, H, W), linearly, smoothing where it coarsens;
    None keeps the file's. shape: cut or pad with air about the centre to (D, H, W); None keeps
    the whole. Where neither changes anything the file's own numbers come back. slices: of a DICOM
    folder only these files.
    Raises CohortError, one sentence, when the file is missing, truncated, not 3-D, not a CT, or
    has a zero or undefined spacing.
    """
    for name, wanted in (("spacing", spacing_mm), ("shape", shape)):
        if wanted is not None and not (np.isfinite(wanted).all() and min(wanted) > 0):
            raise CohortError(f"{path}: cannot give {name} {wanted}; ask for positive numbers.")
    xyz, affine = read_series(path, slices) if path.is_dir() else _read_nifti(path)
    xyz, affine = _canonical(path, xyz, affine)
    array = np.maximum(xyz.transpose(2, 1, 0), np.float32(AIR_HU))
    own: Triple = (float(affine[2, 2]), float(affine[1, 1]), float(affine[0, 0]))
    target = own if spacing_mm is None else spacing_mm
    if np.allclose(own, target, rtol=1e-4):
        target = own
    if shape is None:
        sizes = [max(1, n * a / b) for n, a, b in zip(array.shape, own, target, strict=True)]
        check_grown(path, array.shape, [round(n) for n in sizes], f"a spacing of {target} mm")
    array, offset = to_grid(array, own, target, shape)
    affine[:3, 3] += (offset * np.asarray(own))[::-1]
    affine[[0, 1, 2], [0, 1, 2]] = target[::-1]
    return Volume(np.ascontiguousarray(array, np.float32), affine, target)


def read_mask(path: Path, like: Volume) -> npt.NDArray[np.bool_]:
    """A NIfTI mask (non-zero is inside) on the grid of `like`: (D, H, W) bool.

    Each voxel takes the mask's nearest one in mm; outside the mask's file it is false. Raises
    CohortError as `read_volume` does.
    """
    data, affine = _read_nifti(path, sparse=True)
    back = np.linalg.inv(affine) @ like.affine
    inside = ndimage.affine_transform(
        (data != 0).astype(np.uint8),
        back[:3, :3],
        offset=back[:3, 3],
        output_shape=like.array.shape[::-1],
        order=0,
        mode="constant",
        cval=0,
    )
    return np.ascontiguousarray(inside.transpose(2, 1, 0)).astype(bool)


# ---------------------------------------------------------------- NIfTI


def _open_nifti(path: Path) -> nib.Nifti1Image:
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise CohortError(
            f"{path}: not a volume format read here; give .nii, .nii.gz or a DICOM folder."
        )
    if not path.is_file():
        raise CohortError(f"{path}: there is no such file; put it there or correct the index.")
    try:
        _check_header(path)
        image = nib.load(path)
    except CohortError:
        raise
    except Exception as error:  # nibabel has errors of its own for every field of a header
        raise CohortError(
            f"{path}: not readable as NIfTI, perhaps truncated ({_short(error)}); copy it again."
        ) from error
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise CohortError(
            f"{path}: has {len(image.shape)} dimensions {image.shape}; give one 3-D volume."
        )
    if image.get_data_dtype().kind not in "iuf":
        raise CohortError(
            f"{path}: voxels are {image.get_data_dtype()}, not a CT; give numbers in HU."
        )
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise CohortError(
            f"{path}: the voxel spacing is zero or undefined; write a valid affine and pixdim."
        )
    check_spacing(path, np.linalg.norm(affine[:3, :3], axis=0))
    return image


def _check_header(path: Path) -> None:
    """Zero or NaN pixdim, which nibabel would quietly replace by 1."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        raw = stream.read(540)
    if len(raw) < 348:
        raise CohortError(f"{path}: the file ends within its header; copy it again.")
    for order in ("<", ">"):
        size = int(np.frombuffer(raw, f"{order}i4", 1)[0])
        if size == 348:
            steps = np.frombuffer(raw, f"{order}f4", 3, 80)
        elif size == 540 and len(raw) == 540:
            steps = np.frombuffer(raw, f"{order}f8", 3, 112)
        else:
            continue
        if not np.isfinite(steps).all() or (steps == 0).any():
            raise CohortError(
                f"{path}: pixdim says a voxel spacing of {steps.tolist()} mm; write the true one."
            )
        return


def _read_nifti(path: Path, sparse: bool = False) -> tuple[Floats, Affine]:
    """(i, j, k) float32 with slope and intercept applied, and its RAS affine.

    sparse: a mask, which may shrink more than a scan does.
    """
    image = _open_nifti(path)
    width, offset = image.get_data_dtype().itemsize, image.dataobj.offset
    packed = path.name.lower().endswith(".gz")
    check_voxels(path, image.shape, width, offset, packed, sparse)
    try:
        data = np.asarray(image.dataobj, np.float32).reshape(image.shape[:3])
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise CohortError(
            f"{path}: the voxels cannot be read, perhaps truncated ({_short(error)}); "
            "copy it again."
        ) from error
    if not np.isfinite(data).all():
        raise CohortError(f"{path}: holds NaN or infinite voxels; replace them, air is -1024 HU.")
    return data, np.asarray(image.affine, np.float64)


# ---------------------------------------------------------------- geometry


def _canonical(path: Path, xyz: Floats, affine: Affine) -> tuple[Floats, Affine]:
    """The volume with axes right, anterior, superior and a diagonal affine."""
    turn = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, xyz.shape)
    xyz = nib.orientations.apply_orientation(xyz, turn)
    matrix = affine[:3, :3]
    steps = np.linalg.norm(matrix, axis=0)
    off_axis = np.abs(matrix - np.diag(np.diag(matrix)))
    drift = (off_axis * (np.asarray(xyz.shape) - 1)).max()
    straight = np.eye(4)
    if drift < 0.1 * steps.min():
        centre = (np.asarray(xyz.shape) - 1) / 2
        straight[[0, 1, 2], [0, 1, 2]] = steps
        straight[:3, 3] = matrix @ centre + affine[:3, 3] - steps * centre
        return xyz, straight
    corners = np.asarray(np.meshgrid(*[(0, n - 1) for n in xyz.shape], indexing="ij"))
    world = matrix @ corners.reshape(3, -1) + affine[:3, 3:]
    low, high = world.min(axis=1), world.max(axis=1)
    size = np.ceil((high - low) / steps - 1e-6).astype(int) + 1
    check_grown(path, xyz.shape, size.tolist(), "straightening its axes")
    low = (low + high) / 2 - steps * (size - 1) / 2
    back = np.linalg.inv(matrix)
    turned = ndimage.affine_transform(
        xyz,
        back @ np.diag(steps),
        offset=back @ (low - affine[:3, 3]),
        output_shape=tuple(size),
        order=1,
        mode="constant",
        cval=AIR_HU,
    )
    straight[[0, 1, 2], [0, 1, 2]] = steps
    straight[:3, 3] = low
    return np.asarray(turned, np.float32), straight


def to_grid(
    array: Floats, own: Triple, target: Triple, shape: Shape | None
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Resample and cut or pad, axis by axis, with centres kept.

    Also gives the position (3,) of the new first voxel, in old voxels along (D, H, W).
    """
    offsets = np.zeros(3)
    plans = []
    for axis in range(3):
        old, step = array.shape[axis], target[axis] / own[axis]
        size = shape[axis] if shape is not None else max(1, round(old / step))
        if step == 1.0:
            offsets[axis] = (old - size) // 2
        else:
            offsets[axis] = (old - 1) / 2 - step * (size - 1) / 2
        if step != 1.0 or size != old:
            plans.append((size / old, axis, size, step))
    for _, axis, size, step in sorted(plans):
        if step == 1.0:
            array = _shift(array, axis, int(offsets[axis]), size)
        else:
            array = _resample(array, axis, offsets[axis] + step * np.arange(size), step)
    return array, offsets


def _shift(array: Floats, axis: int, first: int, size: int) -> Floats:
    """Voxels first .. first + size of one axis; air where the volume has none."""
    old = array.shape[axis]
    begin, end = max(first, 0), min(first + size, old)
    kept = np.take(array, range(begin, end), axis=axis)
    widths = [(0, 0)] * 3
    widths[axis] = (begin - first, first + size - end)
    return np.pad(kept, widths, constant_values=np.float32(AIR_HU))


def _resample(array: Floats, axis: int, where: npt.NDArray[np.float64], step: float) -> Floats:
    """Values at fractional positions of one axis: linear, the kernel widened when coarsening."""
    old = array.shape[axis]
    reach = max(1.0, step)
    span = min(int(np.ceil(reach)), old)
    columns = np.floor(where.clip(-1, old))[:, None].astype(int) + np.arange(-span, span + 2)[None]
    weights = np.clip(1 - np.abs(columns - where[:, None]) / reach, 0, None)
    weights[(columns < 0) | (columns >= old)] = 0
    weights[(where < -0.5) | (where > old - 0.5)] = 0  # wholly outside: air
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    rows = np.repeat(np.arange(len(where)), columns.shape[1])
    keep = weights.ravel() > 0
    picked = (rows[keep], columns.ravel()[keep])
    matrix = sparse.csr_array(
        (weights.ravel()[keep].astype(np.float32), picked), shape=(len(where), old)
    )
    front = np.moveaxis(array - np.float32(AIR_HU), axis, 0)
    mixed = matrix @ front.reshape(old, -1)
    moved = np.moveaxis(mixed.reshape(len(where), *front.shape[1:]), 0, axis)
    return np.asarray(moved + np.float32(AIR_HU), np.float32)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
