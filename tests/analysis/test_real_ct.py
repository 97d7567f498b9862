"""A real scan goes the whole way, and what is drawn over it lies where it belongs.

The scan is a chest CT cut to the heart and lungs (183 x 153 x 168 mm), with masks of the heart and
of the pulmonary artery from the same source; it fills a sixth of the volume that the shipped CT
network reads, the rest is air. Nothing says where a model trained on simulated scans should look
in it, and indeed its maps do not prefer the artery. Measured with the run pe-late-onehot, log-risk
(energy: share of the map's positive sum within 20 mm of the artery, which is 11% of the scan; the
share of the energy that lies in the scan at all, which is 17% of the cells):

    HiResCAM, fine       11% of the energy near the artery, 85% of it in the scan
    Grad-CAM, lesions     9%                                91%
    Grad-CAM, stage 4    13%                                34%, its peak 11 mm behind the scan

So what is tested is the geometry, with readers of known answers, and that maps of the shipped
runs are of this scan: they turn, move and end with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from analysis.attribution.case import Case, open_case
from analysis.attribution.result import VolumeMap
from analysis.attribution.target import LogRisk
from analysis.attribution.volume import volume_map
from analysis.baseline_file import read_baseline
from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.scans import import_scans
from analysis.cohort.readers.volume import Volume, read_mask, read_volume
from analysis.explain import explain, explanation_json
from analysis.outlook import outlook
from analysis.store import ResultStore
from models.checkpoint import Run, load_run
from sample_data.workspace import ENCODERS, RUNS
from tests.analysis.attribution.toys_ct import OneConv, Weigh, run_of

NAMES = ("pe-late-onehot", "pe-cross-attention-onehot")
CHOICES = (("hirescam", "fine"), ("gradcam", "lesions"))
Real = Callable[[str], Path]


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory, tiny_workspace: Path) -> Path:
    return tiny_workspace / "cohorts" / "pe"


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {name: load_run(RUNS / name, [ENCODERS]) for name in NAMES}


@pytest.fixture(scope="module")
def home(real_data: Real) -> Path:
    return real_data("ct/pulmonary")


@pytest.fixture(scope="module")
def cohort(home: Path, like: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    out = tmp_path_factory.mktemp("real") / "scans"
    import_scans(home / "ct_cropped.nii.gz", out, like)
    return Cohort.open(out)


@pytest.fixture(scope="module")
def artery(home: Path, cohort: Cohort) -> npt.NDArray[np.bool_]:
    """The mask on the imported scan's own grid."""
    inside = read_mask(home / "pulmonary_artery.nii.gz", like=read_volume(cohort.volumes("ct")[1]))
    assert 0.005 < inside.mean() < 0.02
    return inside


def imported(
    array: npt.NDArray[np.generic], affine: npt.ArrayLike, folder: Path, like: Path
) -> Cohort:
    """A cohort of one scan, given in its file's own orientation."""
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.int16), affine), folder / "scan.nii.gz")
    import_scans(folder / "scan.nii.gz", folder / "cohort", like)
    return Cohort.open(folder / "cohort")


def energy(found: VolumeMap, scan: Volume, inside: npt.NDArray[np.bool_]) -> float:
    """Share of the positive map over the scan that lies inside."""
    on = np.maximum(found.on(scan), 0).astype(float)
    return float(on[inside].sum() / on.sum())


# ---------------------------------------------------------------- the whole path


def test_import_keeps_voxels_and_place(home: Path, cohort: Cohort) -> None:
    before = read_volume(home / "ct_cropped.nii.gz")
    after = read_volume(cohort.volumes("ct")[1])
    np.testing.assert_allclose(before.array, after.array, atol=0.5)
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-3)
    assert [p for p in check_cohort(cohort.folder, deep=True) if p.severity == "error"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_real_scan_is_predicted_and_explained(
    cohort: Cohort, runs: dict[str, Run], name: str, tmp_path: Path
) -> None:
    run = runs[name]
    case = open_case(run, cohort, 1)
    found = explain(case, LogRisk(), ResultStore(tmp_path))
    shown = outlook(case, read_baseline(run.folder), None)
    answer = explanation_json(case, LogRisk(), found, shown)
    assert (answer["present"], answer["absent"]) == (["ct"], ["ehr"])
    ledger = answer["ledger"]
    assert ledger["shares"]["ehr"] is None
    total = ledger["reference"] + ledger["shares"]["ct"]
    assert total == pytest.approx(answer["prediction"]["log_risk"], abs=1e-5)
    assert 0 < answer["prediction"]["survival_at_horizon"] < 1
    assert answer["prediction"]["percentile"] is None
    (made,) = answer["maps"]
    assert made["largest"] > 0
    assert "slice" in made["place"]
    # Opened again from the file and not from the stored features, it is the same number.
    assert abs(found.maps[0].parameters["recomputed"] - found.maps[0].whole) < 1e-4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("method", "layer"), CHOICES)
def test_the_map_covers_the_scan_and_its_peak_lies_in_it(
    cohort: Cohort, runs: dict[str, Run], name: str, method: str, layer: str
) -> None:
    case = open_case(runs[name], cohort, 1)
    scan = case.scan("ct", native=True)
    found = volume_map(case, "ct", LogRisk(), method, layer)
    corners = np.array([[d, h, w] for d in (0, 1) for h in (0, 1) for w in (0, 1)])
    mm = scan.to_mm(corners * (np.asarray(scan.array.shape) - 1))
    index = np.c_[mm, np.ones(8)] @ np.linalg.inv(found.affine).T
    assert (index[:, :3] > -0.5).all()
    assert (index[:, :3] < np.asarray(found.values.shape[::-1]) - 0.5).all()
    peak = scan.to_voxels(found.peak_mm)[0]
    assert (peak >= -0.5).all()
    assert (peak <= np.asarray(scan.array.shape) - 0.5).all()
    # The scan is a sixth of the cells and gets most of the map: air outside is no reason.
    on = np.maximum(found.on(scan), 0)
    cell = abs(np.linalg.det(found.affine[:3, :3])) / np.prod(scan.spacing_mm)
    inside = float(on.sum() / cell / np.maximum(found.values, 0).sum())
    assert inside > 0.7


# ---------------------------------------------------------------- it turns and moves with the scan


@pytest.mark.parametrize("axes", ["LPS", "PIR", "RAS"])
def test_however_the_file_is_stored_the_map_lies_the_same(
    cohort: Cohort, runs: dict[str, Run], home: Path, like: Path, tmp_path: Path, axes: str
) -> None:
    run = runs["pe-late-onehot"]
    image = nib.load(home / "ct_cropped.nii.gz")
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine),
        nib.orientations.axcodes2ornt(tuple(axes)),
    )
    turned = image.as_reoriented(turn)
    other = imported(turned.get_fdata(), turned.affine, tmp_path / axes, like)
    case, again = open_case(run, cohort, 1), open_case(run, other, 1)
    assert float(again.prediction[0, 0]) == pytest.approx(float(case.prediction[0, 0]), abs=2e-3)
    one, two = (volume_map(c, "ct", LogRisk(), "hirescam", "fine") for c in (case, again))
    scan = case.scan("ct", native=True)
    on = one.on(scan)
    np.testing.assert_allclose(on, two.on(scan), atol=0.02 * float(on.max()))
    np.testing.assert_allclose(one.peak_mm, two.peak_mm, atol=0.1)


def test_a_scan_that_lies_elsewhere_has_its_map_there(
    cohort: Cohort, runs: dict[str, Run], home: Path, like: Path, tmp_path: Path
) -> None:
    image = nib.load(home / "ct_cropped.nii.gz")
    affine = image.affine.copy()
    moved = np.array([37.0, -51.25, 400.5])
    affine[:3, 3] += moved
    run = runs["pe-late-onehot"]
    case = open_case(run, cohort, 1)
    other = open_case(run, imported(image.get_fdata(), affine, tmp_path / "moved", like), 1)
    one, two = (volume_map(c, "ct", LogRisk(), "hirescam", "fine") for c in (case, other))
    np.testing.assert_allclose(np.subtract(two.peak_mm, one.peak_mm), moved, atol=0.01)
    np.testing.assert_allclose(one.values, two.values, atol=1e-4 * float(one.values.max()))


# ---------------------------------------------------------------- readers of known answers


def bright() -> Run:
    """A network of one convolution: its log-risk is the mean over cells of their HU above 0.

    Its grid and spacing are those of the shipped CT network.
    """
    encoder = OneConv((1.0,), shape=(48, 96, 96), spacing_mm=(5.5, 3.6, 3.6))
    return run_of(encoder, Weigh((1.0,)))


def planted(
    home: Path, like: Path, folder: Path, inside: npt.NDArray[np.bool_]
) -> tuple[Case, Volume]:
    """The scan with everything at 0 HU but these voxels (of its canonical grid)."""
    scan = read_volume(home / "ct_cropped.nii.gz")
    array = np.where(inside, 1500.0, 0.0)
    cohort = imported(array.transpose(2, 1, 0), scan.affine, folder, like)
    case = open_case(bright(), cohort, 1)
    return case, scan


def test_a_bright_artery_is_found_in_the_artery(
    home: Path, like: Path, artery: npt.NDArray[np.bool_], tmp_path: Path
) -> None:
    """All of the artery's voxels made bright: the map over the scan is the mask, and no flip is."""
    case, scan = planted(home, like, tmp_path / "artery", artery)
    found = volume_map(case, "ct", LogRisk(), "hirescam", "conv")
    at = np.round(scan.to_voxels(found.peak_mm)[0]).astype(int)
    assert artery[tuple(at)]
    near = grown(artery, scan, 11.0)
    assert energy(found, scan, near) > 0.95
    here = energy(found, scan, artery)
    assert here > 20 * artery.mean()
    for axis in range(3):
        assert energy(found, scan, np.flip(artery, axis)) < 0.5 * here


def grown(inside: npt.NDArray[np.bool_], scan: Volume, mm: float) -> npt.NDArray[np.bool_]:
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(~inside, sampling=scan.spacing_mm) <= mm)


@pytest.mark.parametrize("method", ["occlusion", "hirescam"])
def test_one_bright_blob_in_the_artery_is_pointed_at(
    home: Path, like: Path, artery: npt.NDArray[np.bool_], tmp_path: Path, method: str
) -> None:
    scan = read_volume(home / "ct_cropped.nii.gz")
    voxels = np.argwhere(artery)
    for end in (voxels[voxels[:, 2].argmin()], voxels[voxels[:, 2].argmax()]):
        spot = np.zeros_like(artery)
        spot[tuple(end)] = True
        blob = grown(spot, scan, 6.0)
        name = f"{method}-{end[2]}"
        case, _ = planted(home, like, tmp_path / name, blob)
        if method == "occlusion":
            found = volume_map(case, "ct", LogRisk(), method, block_mm=40.0, baseline="air")
        else:
            found = volume_map(case, "ct", LogRisk(), method, "conv")
        away = np.abs(np.subtract(found.peak_mm, scan.to_mm([end])[0]))
        cell = np.abs(np.diag(found.affine)[:3])
        # The blob, 12 mm across, lies in the peak's cell or reaches into it.
        assert (away <= cell / 2 + 6).all(), (away, cell)


def test_the_overlay_of_brightness_is_the_scan(
    cohort: Cohort, home: Path, artery: npt.NDArray[np.bool_]
) -> None:
    """On the real voxels: a map of what is bright is the picture, right side up."""
    case = open_case(bright(), cohort, 1)
    scan = case.scan("ct", native=True)
    found = volume_map(case, "ct", LogRisk(), "hirescam", "conv")
    on = found.on(scan).astype(float)
    seen = np.maximum(scan.array, 0).astype(float)
    fits = float(np.corrcoef(on.ravel(), seen.ravel())[0, 1])
    assert fits > 0.6
    for axis in range(3):
        turned = float(np.corrcoef(np.flip(on, axis).ravel(), seen.ravel())[0, 1])
        assert turned < fits - 0.2
    # Contrast fills the artery: it is brighter than the scan, under the mask and not beside it.
    here = energy(found, scan, artery) / artery.mean()
    assert here > 1.5
    for axis in range(3):
        assert energy(found, scan, np.flip(artery, axis)) / artery.mean() < here


# ---------------------------------------------------------------- a DICOM series


def test_a_real_dicom_series_is_imported_and_opened(
    real_data: Real, like: Path, runs: dict[str, Run], tmp_path: Path
) -> None:
    series = real_data("ct/dicom_series")
    notes: list[str] = []
    import_scans(series, tmp_path / "cohort", like, note=notes.append)
    cohort = Cohort.open(tmp_path / "cohort")
    before, after = read_volume(series), read_volume(cohort.volumes("ct")[1])
    np.testing.assert_allclose(before.array, after.array, atol=0.5)
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-3)
    assert len(notes) == 1
    # No name, number or date of the header comes along.
    header = nib.load(cohort.volumes("ct")[1]).header
    assert bytes(header["descrip"]).strip(b"\0") == b""
    assert len(header.extensions) == 0
    case = open_case(runs["pe-late-onehot"], cohort, 1)
    found = volume_map(case, "ct", LogRisk(), "hirescam", "fine")
    assert found.on(after).shape == after.array.shape
    assert abs(found.parameters["recomputed"] - found.whole) < 1e-4
