from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from analysis.cohort.readers.volume import probe_volume, read_mask, read_volume
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_volume

SHAPE = (9, 8, 7)
STEPS = np.array([2.0, 1.5, 3.0])
BRIGHT = (6, 2, 4)


def orientation(axes: tuple[int, int, int], signs: tuple[int, int, int]) -> np.ndarray:
    """File axis i runs along world axis axes[i], in direction signs[i]."""
    affine = np.zeros((4, 4))
    for i in range(3):
        affine[axes[i], i] = signs[i] * STEPS[i]
    affine[:, 3] = [11.0, -7.0, 100.0, 1.0]
    return affine


def save(path: Path, affine: np.ndarray, dtype: type = np.int16) -> np.ndarray:
    data = np.full(SHAPE, -1000, dtype)
    data[BRIGHT] = 900
    nib.save(nib.Nifti1Image(data, affine), path)
    return affine @ [*BRIGHT, 1]


@pytest.mark.parametrize(
    ("axes", "signs"),
    [
        ((0, 1, 2), (1, 1, 1)),  # RAS
        ((0, 1, 2), (-1, -1, 1)),  # LPS
        ((2, 0, 1), (-1, 1, -1)),  # permuted: axes run inferior, right, posterior
        ((1, 2, 0), (1, -1, 1)),  # permuted
    ],
)
def test_planted_voxel_keeps_its_place(
    tmp_path: Path, axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    path = tmp_path / "ct.nii.gz"
    where = save(path, orientation(axes, signs))[:3]
    volume = read_volume(path)
    expected_shape = tuple(SHAPE[axes.index(world)] for world in (2, 1, 0))
    assert volume.array.shape == expected_shape
    assert volume.array.dtype == np.float32
    assert np.sum(volume.array == 900) == 1
    hit = np.argwhere(volume.array == 900)
    np.testing.assert_allclose(volume.to_mm(hit)[0], where, atol=1e-4)
    np.testing.assert_allclose(volume.to_voxels([where]), hit, atol=1e-4)
    assert (np.diag(volume.affine)[:3] > 0).all()
    np.testing.assert_allclose(volume.spacing_mm, [STEPS[axes.index(w)] for w in (2, 1, 0)])


def test_crop_and_pad_move_the_affine(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii"
    where = save(path, orientation((0, 1, 2), (-1, 1, 1)))[:3]
    volume = read_volume(path, shape=(4, 20, 5))  # cut, pad, cut
    assert volume.array.shape == (4, 20, 5)
    hit = np.argwhere(volume.array == 900)
    np.testing.assert_allclose(volume.to_mm(hit)[0], where, atol=1e-4)
    assert (volume.array[:, :6] == -1024).all()
    assert (volume.array[:, 6:14] >= -1000).all()


def test_resampling_keeps_a_gradient_at_its_mm(tmp_path: Path) -> None:
    x = np.arange(40, dtype=np.float32)
    data = np.zeros((40, 30, 20), np.float32) + x[:, None, None] * 10
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "g.nii.gz")
    for spacing in ((2.0, 0.5, 0.7), (4.0, 3.0, 3.0)):
        volume = read_volume(tmp_path / "g.nii.gz", spacing_mm=spacing)
        assert volume.spacing_mm == spacing
        mm = volume.affine[0, 3] + spacing[2] * np.arange(volume.array.shape[2])
        inside = (mm > 4) & (mm < 35)
        row = volume.array[volume.array.shape[0] // 2, volume.array.shape[1] // 2]
        np.testing.assert_allclose(row[inside], mm[inside] * 10, atol=0.5)


def test_coarsening_averages_and_outside_is_air(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 100, (48, 48, 48)).astype(np.int16)
    path = write_volume(tmp_path / "n.nii.gz", noise, (1.0, 1.0, 1.0))
    coarse = read_volume(path, (4.0, 4.0, 4.0), (20, 20, 20))
    core = coarse.array[6:14, 6:14, 6:14]
    assert core.std() < 20  # point sampling would keep about 60
    assert (coarse.array[:3] == -1024).all()
    assert (coarse.array[4:16, 4:16, 4:16] > -200).all()


def test_same_spacing_returns_the_files_own_numbers(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(-1024, 2000, (5, 6, 7)).astype(np.int16)
    path = write_volume(tmp_path / "v.nii.gz", array, (3.0, 2.0, 1.0))
    volume = read_volume(path, (3.0, 2.0, 1.0), (5, 6, 7))
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.to_mm([(2, 2.5, 3)]), [[0, 0, 0]], atol=1e-5)
    assert probe_volume(path).shape == (7, 6, 5)


def test_oblique_volume_is_straightened(tmp_path: Path) -> None:
    turn = np.deg2rad(20)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-1.0, 1.0, 1.0])
    affine[:3, 3] = [5, 6, 7]
    data = np.full((40, 40, 20), -1000, np.int16)
    data[27:30, 9:12, 9:12] = 1000
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "o.nii.gz")
    volume = read_volume(tmp_path / "o.nii.gz")
    np.testing.assert_allclose(volume.affine[:3, :3], np.eye(3), atol=1e-6)
    bright = np.argwhere(volume.array > 0)
    middle = volume.to_mm([bright.mean(axis=0)])[0]
    np.testing.assert_allclose(middle, (affine @ [28, 10, 10, 1])[:3], atol=0.3)
    assert volume.array[0, 0, 0] == -1024


def test_slope_and_scanner_padding(tmp_path: Path) -> None:
    stored = np.full((3, 3, 3), -3952, np.int16)  # -3000 HU: outside the field of view
    stored[1, 1, 1] = 2549
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / "s.nii.gz")
    array = read_volume(tmp_path / "s.nii.gz").array
    assert array[1, 1, 1] == 250.5
    assert array.min() == -1024


def break_pixdim(path: Path, value: float) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:84] = np.float32(value).tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


def bad_volume(kind: str, path: Path) -> Path:
    save(path, np.eye(4))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "not gzip":
        path.write_bytes(b"hello there, this is no image" * 30)
    elif kind == "zero spacing":
        break_pixdim(path, 0.0)
    elif kind == "nan spacing":
        break_pixdim(path, float("nan"))
    elif kind == "4-D":
        nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.int16), np.eye(4)), path)
    elif kind == "nan voxel":
        nib.save(nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4)), path)
    elif kind == "complex":
        nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)), path)
    elif kind == "missing":
        path.unlink()
    elif kind == "other format":
        path = path.with_name("ct.pkl")
        path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    elif kind == "empty folder":
        path = path.with_name("series")
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "truncated"),
        ("empty", "header"),
        ("not gzip", "not readable"),
        ("zero spacing", "spacing"),
        ("nan spacing", "spacing"),
        ("4-D", "dimensions"),
        ("nan voxel", "NaN"),
        ("complex", "not a CT"),
        ("missing", "no such file"),
        ("other format", "not a volume format"),
        ("empty folder", "no DICOM"),
    ],
)
def test_bad_volumes_say_why_in_one_sentence(tmp_path: Path, kind: str, says: str) -> None:
    path = bad_volume(kind, tmp_path / "ct.nii.gz")
    with pytest.raises(CohortError, match=says) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
    assert "; " in str(caught.value)


# ---------------------------------------------------------------- DICOM


def write_slice(
    path: Path,
    pixels: np.ndarray,
    z: float,
    uid: str,
    *,
    modality: str = "CT",
    turn: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID = uid
    ds.Modality = modality
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [1.5, 0.5]  # between rows, between columns
    ds.ImageOrientationPatient = list(turn)
    ds.ImagePositionPatient = [-10.0, -20.0, z]
    ds.SliceThickness = 9.0
    ds.RescaleSlope, ds.RescaleIntercept = 2, -1000
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds.save_as(path, enforce_file_format=True)


def write_series(folder: Path, zs: list[float], **how: object) -> None:
    """Slice k of zs holds k + 1 at its (row 3, column 1); file names are in no order."""
    folder.mkdir(exist_ok=True)
    uid = generate_uid()
    names = np.random.default_rng(3).permutation(len(zs))
    for k, z in enumerate(zs):
        pixels = np.zeros((6, 4), np.uint16)
        pixels[3, 1] = k + 1
        suffix = "" if k % 2 else ".IMA"
        write_slice(folder / f"f{names[k]}{suffix}", pixels, z, uid, **how)  # type: ignore[arg-type]


def test_dicom_series_is_sorted_scaled_and_turned(tmp_path: Path) -> None:
    zs = [50.0, 40.0, 45.0, 60.0, 55.0]
    write_series(tmp_path / "s", zs)
    write_slice(tmp_path / "s" / "localizer", np.zeros((9, 9)), 0.0, generate_uid())
    (tmp_path / "s" / "README.txt").write_text("not DICOM")
    volume = read_volume(tmp_path / "s")
    assert volume.array.shape == (5, 6, 4)
    assert volume.spacing_mm == (5.0, 1.5, 0.5)
    for k, z in enumerate(zs):
        # DICOM's patient axes run left, posterior: right = -x, anterior = -y
        place = [-(-10.0 + 1 * 0.5), -(-20.0 + 3 * 1.5), z]
        d, h, w = volume.to_voxels([place])[0].round().astype(int)
        assert volume.array[d, h, w] == (k + 1) * 2 - 1000
    assert np.sum(volume.array != -1000) == 5


def test_sagittal_dicom_series(tmp_path: Path) -> None:
    # rows run down the patient, columns towards the back: slices advance along x
    write_series(tmp_path / "s", [0.0], turn=(0, 1, 0, 0, 0, -1))
    volume = read_volume(tmp_path / "s")
    assert volume.array.shape == (6, 4, 1)
    hit = np.argwhere(volume.array != -1000)
    np.testing.assert_allclose(volume.to_mm(hit)[0], [10.0, 19.5, -4.5], atol=1e-5)


@pytest.mark.parametrize(
    ("zs", "says"),
    [
        ([0.0, 2, 4, 8, 10], r"1 slice\(s\) missing between 4.0 and 8.0"),
        ([0.0, 2, 4, 6.6, 8.6], "unevenly"),
        ([0.0, 2, 4, 4, 6], "same position"),
    ],
)
def test_dicom_gaps(tmp_path: Path, zs: list[float], says: str) -> None:
    write_series(tmp_path / "s", zs)
    with pytest.raises(CohortError, match=says):
        read_volume(tmp_path / "s")
    with pytest.raises(CohortError, match=says):
        probe_volume(tmp_path / "s")


def test_dicom_of_another_kind_or_damaged(tmp_path: Path) -> None:
    write_series(tmp_path / "mr", [0.0, 1], modality="MR")
    with pytest.raises(CohortError, match="MR, not CT"):
        read_volume(tmp_path / "mr")
    write_series(tmp_path / "cut", [0.0, 1])
    first = sorted((tmp_path / "cut").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(CohortError, match="cannot be decoded") as caught:
        read_volume(tmp_path / "cut")
    assert first.name in str(caught.value)


# ---------------------------------------------------------------- real files


def test_real_ct_and_its_mask_on_another_grid(real_data) -> None:
    ct = read_volume(real_data("ct/pulmonary/ct_cropped.nii.gz"))
    heart = read_volume(real_data("ct/pulmonary/heart.nii.gz"))
    assert ct.array.shape == (112, 102, 122)
    inside = heart.to_mm(np.argwhere(heart.array == 1))
    at = ct.to_voxels(inside).round().astype(int)
    fits = ((at >= 0) & (at < ct.array.shape)).all(axis=1)
    values = ct.array[tuple(at[fits].T)]
    assert fits.sum() > 1000
    assert np.mean(values > 0) > 0.97  # muscle and contrast, hardly any lung or air
    mirrored = ct.array[:, :, ::-1][tuple(at[fits].T)]
    assert np.mean(mirrored > 0) < 0.9
    artery = read_volume(real_data("ct/pulmonary/pulmonary_artery.nii.gz"))
    assert np.median(ct.array[artery.array == 1]) > 150
    on_grid = read_mask(real_data("ct/pulmonary/heart.nii.gz"), ct)
    assert on_grid.shape == ct.array.shape
    assert on_grid.sum() == fits.sum()
    assert on_grid[tuple(at[fits].T)].all()
    part = read_volume(real_data("ct/pulmonary/ct_cropped.nii.gz"), (3.0, 3.0, 3.0), (40, 40, 40))
    heart_part = read_mask(real_data("ct/pulmonary/heart.nii.gz"), part)
    assert np.mean(part.array[heart_part] > 0) > 0.97


def test_real_dicom_series_and_flip(real_data) -> None:
    folder = real_data("ct/dicom_series")
    volume = read_volume(folder)
    assert volume.array.shape == (20, 512, 512)
    assert volume.spacing_mm == (2.0, 0.9765625, 0.9765625)
    some = sorted(folder.iterdir())[7]
    ds = pydicom.dcmread(some)
    expected = ds.pixel_array.astype(float) * ds.RescaleSlope + ds.RescaleIntercept
    x, y, z = ds.ImagePositionPatient
    d, h, w = volume.to_voxels([[-x, -y, z]])[0].round().astype(int)
    assert (h, w) == (511, 511)  # first DICOM pixel: right front; ours grow to right and front
    np.testing.assert_array_equal(volume.array[d, ::-1, ::-1], np.maximum(expected, -1024))


def test_real_ct_resampled_agrees_with_scipy(real_data) -> None:
    from scipy import ndimage

    path = real_data("ct/chest_abdomen_ct.nii.gz")
    whole = read_volume(path)
    small = read_volume(path, (6.0, 6.0, 6.0), (48, 48, 48))
    grid = np.stack(np.meshgrid(*[range(48)] * 3, indexing="ij"), -1).reshape(-1, 3)
    where = whole.to_voxels(small.to_mm(grid))
    smooth = ndimage.gaussian_filter(whole.array, 0.8)
    peer = ndimage.map_coordinates(smooth, where.T, order=1, cval=-1024).reshape(48, 48, 48)
    inner = (slice(6, -6),) * 3
    assert np.corrcoef(peer[inner].ravel(), small.array[inner].ravel())[0, 1] > 0.99
