"""CTs that are no Hounsfield units, or do not say how they lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from analysis.cohort.check_hu import judge
from analysis.cohort.importers.scans import import_scans
from analysis.cohort.readers.slices import sample_voxels
from models.contracts import Kind


def _body(seed: int = 0) -> np.ndarray:
    """A round body (fat, muscle, some bone) in air, with the noise of a scanner: HU."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in (24, 24, 12)], indexing="ij")
    radius = np.hypot(x, y)
    hu = np.full(radius.shape, -1000.0)
    hu[radius < 0.9], hu[radius < 0.7], hu[radius < 0.15] = -100, 40, 1200
    return hu + rng.normal(0, 12, radius.shape)


def _save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> nib.Nifti1Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([2.0, 2, 3, 1]) if affine is None else affine)
    image.set_qform(image.affine, 1)
    nib.save(image, path)
    return image


def _with_scans(toy, change: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> None:
    for subject in range(1, 13):
        array = _body(subject)
        if subject > 9:
            array = change(array)
        kind = np.float32 if array.dtype != np.uint8 and np.abs(array).max() < 2 else np.int16
        _save(toy.folder / f"ct/{subject}.nii.gz", array.astype(kind))
        toy.files.append(("ct", subject, f"ct/{subject}.nii.gz"))
    toy.kinds["ct"] = Kind.VOLUME


def test_sound_scans_with_any_padding(toy) -> None:
    def padded(array: np.ndarray) -> np.ndarray:
        array[:2], array[-2:] = -3024, -2000
        return array

    _with_scans(toy, padded)
    assert toy.problems() == []
    assert toy.problems(deep=True) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: np.clip((a + 160) / 400 * 255, 0, 255), "pictures of 8 bits"),
        (lambda a: np.clip(a + 1024, 0, 4095), "rescale intercept"),
        (
            lambda a: np.where(np.indices(a.shape)[0] < 2, -2000, np.clip(a + 1024, 0, 4095)),
            "rescale intercept",
        ),
        (lambda a: np.clip((a + 1000) / 2500, 0, 1), "normalised numbers"),
        (lambda a: np.clip((a + 1000) / 1250 - 1, -1, 1), "normalised numbers"),
    ],
)
def test_other_numbers_than_hu(toy, change, words: str) -> None:
    _with_scans(toy, change)
    (problem,) = toy.problems(deep=True)
    assert problem.severity == "error"
    assert problem.where == "numbers of ct"
    assert "3 subjects: 10, 11, 12 (of 12 volumes looked at)" in problem.what
    assert words in problem.what
    assert "in slices of subject 10" in problem.what
    shallow = toy.problems()
    assert "of 8 volumes looked at" in shallow[0].what


def test_real_scans_are_hounsfield_units(real_data: Callable[[str], Path]) -> None:
    for name in ("ct/chest_abdomen_ct.nii.gz", "ct/pulmonary/ct_cropped.nii.gz", "ct/dicom_series"):
        voxels = sample_voxels(real_data(name))
        assert judge(voxels) is None, name
        stored = np.clip(voxels + 1024, 0, None)
        verdict = judge(stored)
        assert verdict is not None, name
        assert "intercept" in verdict[0]


def test_slices_are_the_file_s_own_numbers(tmp_path: Path) -> None:
    array = np.arange(4 * 4 * 20, dtype=np.int16).reshape(4, 4, 20)
    _save(tmp_path / "a.nii.gz", array)
    assert set(sample_voxels(tmp_path / "a.nii.gz")) == set(array[:, :, 2::4].ravel())


def _unset(image: nib.Nifti1Image) -> None:
    image.set_qform(None, 0)
    image.set_sform(None, 0)


def _moved(image: nib.Nifti1Image) -> None:
    other = image.affine.copy()
    other[0, 0] *= -1
    image.set_qform(other, 1)


def _sheared(image: nib.Nifti1Image) -> None:
    affine = image.affine.copy()
    affine[1, 2] = 3 * np.tan(np.radians(12))
    image.set_sform(affine, 2)
    image.set_qform(None, 0)


def _coarse(image: nib.Nifti1Image) -> None:
    image.set_sform(np.diag([2.0, 2, 45, 1]), 2)
    image.set_qform(np.diag([2.0, 2, 45, 1]), 1)


def _metres(image: nib.Nifti1Image) -> None:
    image.header.set_xyzt_units("meter")


@pytest.mark.parametrize(
    ("spoil", "words", "numbers"),
    [
        (_unset, "left and right may be swapped", "qform_code and sform_code are 0"),
        (_moved, "its qform and its sform disagree", "a corner 92.0 mm apart"),
        (_sheared, "its axes are not at right angles", "12.0 degrees off"),
        (_coarse, "its spacing is outside 0.05 to 20 mm", "2 x 2 x 45 mm"),
        (_metres, "its spacing is stated in meters and read as mm", "2 x 2 x 3"),
    ],
)
def test_scans_that_do_not_say_how_they_lie(toy, spoil, words: str, numbers: str) -> None:
    _with_scans(toy)
    path = toy.folder / "ct/5.nii.gz"
    image = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), np.diag([2.0, 2, 3, 1]))
    image.set_qform(image.affine, 1)
    spoil(image)
    nib.save(image, path)
    (problem,) = toy.problems()
    assert problem.severity == "warning"
    assert problem.where == "orientation of ct"
    assert "1 subject: 5 (of 12 volumes)" in problem.what
    assert words in problem.what
    assert numbers in problem.what


def test_an_import_tells_it_of_the_file_that_was_given(toy, tmp_path: Path) -> None:
    _with_scans(toy)
    toy.problems()
    image = nib.Nifti1Image(_body().astype(np.int16), np.diag([2.0, 2, 3, 1]))
    _unset(image)
    nib.save(image, tmp_path / "scan.nii.gz")
    told: list[str] = []
    import_scans(tmp_path / "scan.nii.gz", tmp_path / "out", toy.folder, told.append)
    (warning,) = [line for line in told if line.startswith("warning: ")]
    assert "scan.nii.gz: nothing says how it lies in the patient" in warning
    _save(
        tmp_path / "picture.nii.gz", np.clip((_body() + 160) / 400 * 255, 0, 255).astype(np.int16)
    )
    told.clear()
    import_scans(tmp_path / "picture.nii.gz", tmp_path / "other", toy.folder, told.append)
    assert [line.split(":")[0] for line in told] == ["picture.nii.gz", "error"]
    assert "pictures of 8 bits" in told[1]
