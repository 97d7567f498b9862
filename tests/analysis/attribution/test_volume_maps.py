from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom.uid import generate_uid
from torch import nn

from analysis.attribution.case import AttributionError, Case, Subject, open_case
from analysis.attribution.input_maps import integrated_gradients, occlusion
from analysis.attribution.result import VolumeMap
from analysis.attribution.target import LogRisk
from analysis.attribution.volume import METHODS, cell_affine, layer_maps, layers_of, volume_map
from analysis.cohort.readers.volume import Volume, read_volume
from models.checkpoint import Run
from tests.analysis.attribution.toys_ct import (
    Ignore,
    OneConv,
    Weigh,
    case_of,
    cohort_of,
    noise,
    resnet_run,
    run_of,
    solved,
    two_cells,
)
from tests.analysis.cohort.test_cohort_volume import write_slice

RISK = LogRisk()


def linear() -> Run:
    """Prediction = 3 times the mean HU of the scan: a voxel's weight is 3 / 64."""
    return run_of(OneConv((1.0,), relu=False), Weigh((3.0,)))


# ---------------------------------------------------------------- methods on the input


def test_integrated_gradients_of_a_linear_model_are_exact(tmp_path: Path) -> None:
    case = case_of(tmp_path, linear(), two_cells())
    made = volume_map(case, "ct", RISK, "integrated_gradients", baseline="air", steps=4)
    np.testing.assert_allclose(made.values, 3 / 64 * (two_cells() + 1024), rtol=1e-5)
    assert made.whole == pytest.approx(3 * 48 / 64)
    assert made.reference == pytest.approx(-3 * 1024)
    assert made.gap is not None
    assert made.gap < 0.01  # float32 of numbers around 3000
    assert made.signed
    assert made.layer is None


def test_integrated_gradients_report_how_complete_they_are(tmp_path: Path) -> None:
    case = case_of(tmp_path, resnet_run(1), noise(1))
    coarse, fine = (
        volume_map(case, "ct", RISK, "integrated_gradients", steps=n, batch=3) for n in (2, 64)
    )
    assert fine.reference is not None
    assert coarse.gap is not None
    change = fine.whole - fine.reference
    assert abs(fine.values.sum() - change) == pytest.approx(fine.gap, abs=1e-4)
    assert fine.gap < 0.05 * abs(change)
    assert fine.gap < coarse.gap


def test_batches_do_not_change_integrated_gradients(tmp_path: Path) -> None:
    case = case_of(tmp_path, resnet_run(2), noise(2))
    one, all_at_once = (
        volume_map(case, "ct", RISK, "integrated_gradients", steps=6, batch=n) for n in (1, 6)
    )
    np.testing.assert_allclose(one.values, all_at_once.values, atol=1e-5 * one.values.max())


def test_occlusion_of_an_additive_model_is_exact(tmp_path: Path) -> None:
    case = case_of(tmp_path, linear(), two_cells())
    made = volume_map(case, "ct", RISK, "occlusion", baseline="air", block_mm=4.0, batch=3)
    expected = np.full((2, 2, 2), 3 / 64 * 8 * 1024)
    expected[0, 0, 0] += 3 / 64 * 80
    expected[1, 1, 1] -= 3 / 64 * 32
    np.testing.assert_allclose(made.values, expected, rtol=1e-4)
    assert made.parameters["evaluations"] == 8 + 3


def test_occlusion_is_the_plain_loop_with_quiet_blocks_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 1, 5, 4, 6, generator=generator) * 100
    baseline = torch.zeros_like(volume)
    volume[..., :2, :2, :2] = 0.5  # hardly differs from what would replace it
    seen = []

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return (x[:, 0].relu().sum(dim=(1, 2)).square()).sum(dim=1) / 1e4

    made = occlusion(f, volume, baseline, block=(2, 2, 4), batch=4)
    assert made.values.shape == (3, 2, 2)  # the last blocks of two axes are cut by the border
    for d, h, w in np.ndindex(3, 2, 2):
        hidden = volume.clone()
        hidden[0, 0, 2 * d : 2 * d + 2, 2 * h : 2 * h + 2, 4 * w : 4 * w + 4] = 0
        expected = float(f(volume) - f(hidden))
        assert made.values[d, h, w] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    volume[0, 0, :2, :2, :4] = 0.5
    seen.clear()
    made = occlusion(f, volume, baseline, block=(2, 2, 4), batch=4)
    assert made.values[0, 0, 0] == 0
    assert sum(seen) == made.evaluations
    assert made.evaluations == 11 + 3
    nothing = occlusion(f, baseline, baseline, block=(2, 2, 4), batch=4)
    assert not nothing.values.any()


def test_integrated_gradients_leave_the_input_alone() -> None:
    volume = torch.ones(1, 1, 2, 2, 2)
    made = integrated_gradients(
        lambda x: x.sum(dim=(1, 2, 3, 4)), volume, torch.zeros_like(volume), steps=3, batch=2
    )
    np.testing.assert_allclose(made.values, 1)
    assert not volume.requires_grad


# ---------------------------------------------------------------- the number explained


@pytest.mark.parametrize("frozen", [True, False])
def test_the_number_is_the_one_shown(tmp_path: Path, frozen: bool) -> None:
    case = case_of(tmp_path, resnet_run(1, frozen=frozen), noise(1))
    for made in layer_maps(case, "ct", RISK).values():
        assert made.whole == case.value(RISK)[0]
        assert made.parameters["recomputed"] == pytest.approx(made.whole, abs=1e-5)


def test_rounding_of_frozen_features_does_not_round_gradients(tmp_path: Path) -> None:
    exact = layer_maps(case_of(tmp_path, resnet_run(1), noise(1)), "ct", RISK)
    small = resnet_run(1, frozen=True)
    with torch.no_grad():
        small.model.strategy.weights.mul_(1e-7)  # gradients that half precision cannot hold
    stored = layer_maps(case_of(tmp_path, small, noise(1)), "ct", RISK)
    for key, made in exact.items():
        if key[0] != "gradcam_plus_plus":  # not linear in the gradient
            ours = stored[key].values * 1e7
            np.testing.assert_allclose(ours, made.values, atol=1e-4 * made.values.max())


def test_a_rounding_of_stored_features_that_fell_the_other_way_is_no_other_scan(
    tmp_path: Path,
) -> None:
    case = case_of(tmp_path, resnet_run(1, frozen=True), noise(1))
    own = case.encoded["ct"]
    halves = own.pooled.half().numpy()
    stored = replace(own, pooled=torch.from_numpy(np.nextafter(halves, np.float16(np.inf))).float())
    assert 0 < (stored.pooled - own.pooled).abs().max() < 1e-3 * own.pooled.abs().max()
    assert layer_maps(Case(case.run, case.cohort, 1, {"ct": stored}), "ct", RISK)


def test_a_scan_that_is_not_the_one_predicted_from_is_refused(tmp_path: Path) -> None:
    case = case_of(tmp_path, solved(), two_cells())
    stale = replace(case.encoded["ct"], pooled=case.encoded["ct"].pooled + 1)
    wrong = Case(case.run, case.cohort, 1, {"ct": stale})
    for method in METHODS:
        with pytest.raises(AttributionError, match="not of this scan"):
            volume_map(wrong, "ct", RISK, method)


def test_an_empty_map_says_so(tmp_path: Path) -> None:
    low = case_of(tmp_path, run_of(OneConv((1.0,)), Weigh((-3.0,))), two_cells())
    deaf = case_of(tmp_path, run_of(OneConv((1.0,)), Ignore((1.0,))), two_cells())
    for case in (low, deaf):
        made = volume_map(case, "ct", RISK, "hirescam")
        assert made.is_empty
        assert made.peak_mm is None
        assert made.values.shape == (2, 2, 2)


@dataclass(frozen=True)
class Twice:
    title = "a curve"
    unit = ""
    worse_is_higher = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def __call__(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction.expand(-1, 2)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"method": "lime"}, "no volume method 'lime'; choose one of gradcam, gradcam_plus_plus"),
        ({"method": "gradcam", "layer": "act"}, "no layer 'act' for maps; choose one of conv"),
        ({"method": "occlusion", "layer": "conv"}, "leave the layer 'conv' out"),
        ({"method": "gradcam", "steps": 3}, "no parameter 'steps'; it takes none"),
        ({"method": "occlusion", "steps": 3}, "it takes baseline, blur_mm, block_mm, batch"),
        ({"method": "occlusion", "batch": 0}, "batch is 0; give a whole number"),
        ({"method": "occlusion", "block_mm": -1.0}, "block_mm is -1.0; give a number"),
        ({"method": "occlusion", "block_mm": "4"}, "block_mm is '4'; give a number"),
        ({"method": "integrated_gradients", "baseline": "x"}, "one of blurred, air"),
        ({"method": "gradcam", "target": Twice()}, "explains one number, but 'a curve' is 2"),
        ({"method": "gradcam", "modality": "mri"}, "does not read 'mri'; it reads ct"),
    ],
)
def test_what_cannot_be_given_is_refused_in_words(
    tmp_path: Path, asked: dict[str, Any], says: str
) -> None:
    case = case_of(tmp_path, solved(), two_cells())
    with pytest.raises(AttributionError, match=says):
        volume_map(case, **{"modality": "ct", "target": RISK, **asked})


def test_methods_are_described() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.title
        assert method.citation
        assert method.signed is not method.needs_layer


# ---------------------------------------------------------------- shared models


def state(run: Run) -> tuple[list[bool], list[bool], int, list[float]]:
    modules = list(run.model.modules())
    assert all(p.grad is None for p in run.model.parameters())
    return (
        [m.training for m in modules],
        [p.requires_grad for p in run.model.parameters()],
        sum(len(m._forward_hooks) + len(m._backward_hooks) for m in modules),
        [float(b.double().sum()) for b in run.model.buffers()],  # batch norm's running means
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_as_it_was(tmp_path: Path, training: bool) -> None:
    run = resnet_run(1)
    case = case_of(tmp_path, run, noise(1))
    assert case.value(RISK)
    run.model.train(training).requires_grad_(training)
    run.model.encoder("ct").backbone.layer2.eval()
    before = state(run)
    quick: dict[str, Any] = {"integrated_gradients": {"steps": 2}, "occlusion": {"block_mm": 90.0}}
    for method in METHODS:
        volume_map(case, "ct", RISK, method, **quick.get(method, {}))
    assert state(run) == before

    class Broken(LogRisk):
        def __call__(self, prediction: torch.Tensor) -> torch.Tensor:
            if prediction.is_inference():
                return super().__call__(prediction)
            raise RuntimeError("boom")

    for method in METHODS:
        with pytest.raises(RuntimeError, match="boom"):
            volume_map(case, "ct", Broken(), method)
    assert state(run) == before


def test_two_threads_explain_two_patients_on_one_model(tmp_path: Path) -> None:
    run = resnet_run(5)
    files = {}
    for i in (1, 2):
        files[i] = f"{i}.nii.gz"
        grid = np.diag([3.6, 3.6, 5.5, 1.0])
        nib.save(nib.Nifti1Image(noise(i).T.astype(np.float32), grid), tmp_path / files[i])
    cohort = cohort_of(tmp_path, files)
    alone = {i: layer_maps(open_case(run, cohort, i), "ct", RISK) for i in files}
    cases = {i: open_case(run, cohort, i) for i in files}
    assert all(case.output.prediction.isfinite().all() for case in cases.values())
    run.model.train()  # the flags of a shared model are borrowed by both threads
    ready, found, wrong = threading.Barrier(2), {1: 0, 2: 0}, []

    def explain(i: int) -> None:
        try:
            ready.wait()
            for _ in range(10):
                for key, made in layer_maps(cases[i], "ct", RISK).items():
                    np.testing.assert_allclose(
                        made.values, alone[i][key].values, atol=1e-5 * alone[i][key].values.max()
                    )
                    found[i] += 1
        except BaseException as error:
            wrong.append(error)
            ready.abort()

    threads = [threading.Thread(target=explain, args=(i,)) for i in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert found == {1: 10 * 21, 2: 10 * 21}
    assert run.model.training
    peak = {i: alone[i]["hirescam", "fine"].peak_mm for i in files}
    assert peak[1] != peak[2]


def test_the_same_from_inside_inference_mode_and_again(tmp_path: Path) -> None:
    quick: dict[str, Any] = {"integrated_gradients": {"steps": 2}, "occlusion": {"block_mm": 90.0}}
    for method in METHODS:
        case = case_of(tmp_path, resnet_run(1), noise(1))
        with torch.inference_mode():
            case.raw("ct")  # read here first: an inference tensor
            first = volume_map(case, "ct", RISK, method, **quick.get(method, {}))
        again = volume_map(case, "ct", RISK, method, seed=1, **quick.get(method, {}))
        np.testing.assert_array_equal(first.values, again.values)
        assert again.parameters["seed"] == 1


# ---------------------------------------------------------------- millimetres


def oriented(
    axes: tuple[int, int, int], signs: tuple[int, int, int], steps: tuple[float, float, float]
) -> np.ndarray:
    """File axis i runs along world axis axes[i] in direction signs[i]."""
    affine = np.zeros((4, 4))
    for i in range(3):
        affine[axes[i], i] = signs[i] * steps[i]
    affine[:, 3] = [31.0, -57.0, 110.0, 1.0]
    return affine


def bright_run() -> Run:
    """Explains brightness: cells of 6 x 7 x 8 mm on a grid of its own."""
    encoder = OneConv((1.0,), shape=(16, 16, 16), spacing_mm=(3.0, 3.5, 4.0))
    return run_of(encoder, Weigh((1.0,)))


def assert_found(case: Case, where: np.ndarray) -> None:
    cell = np.array([8.0, 7.0, 6.0])
    made = volume_map(case, "ct", RISK, "hirescam")
    assert made.peak_mm is not None
    assert (np.abs(np.asarray(made.peak_mm) - where) <= cell / 2 + 2).all()
    index = np.argwhere(made.values > 0)
    weights = made.values[tuple(index.T)]
    centre = (made.affine @ np.c_[index[:, ::-1], np.ones(len(index))].T)[:3] @ weights
    assert (np.abs(centre / weights.sum() - where) < 0.5 * cell).all()
    native = case.scan("ct", native=True)
    overlay = made.on(native)
    assert overlay.shape == native.array.shape
    assert overlay[native.array > 0].mean() > 10 * overlay.mean()
    hit = native.to_mm([np.unravel_index(overlay.argmax(), overlay.shape)])[0]
    assert (np.abs(hit - where) <= cell).all()
    for method, parameters in (("occlusion", {"block_mm": 7.0}), ("integrated_gradients", {})):
        other = volume_map(case, "ct", RISK, method, baseline="air", **parameters)
        assert other.peak_mm is not None
        assert (np.abs(np.asarray(other.peak_mm) - where) <= cell).all(), method


@pytest.mark.parametrize(
    ("axes", "signs", "steps"),
    [
        ((0, 1, 2), (1, 1, 1), (1.5, 2.0, 2.5)),  # RAS
        ((0, 1, 2), (-1, -1, 1), (2.0, 1.5, 3.0)),  # LPS
        ((1, 2, 0), (-1, -1, 1), (2.5, 2.0, 1.5)),  # PIR
    ],
)
def test_planted_lesions_come_back_at_their_millimetre(
    tmp_path: Path,
    axes: tuple[int, int, int],
    signs: tuple[int, int, int],
    steps: tuple[float, float, float],
) -> None:
    affine = oriented(axes, signs, steps)
    for voxel in ((8, 11, 20), (20, 7, 8)):
        data = np.full((28, 24, 30), -100, np.int16)
        data[tuple(slice(v - 1, v + 2) for v in voxel)] = 1500
        nib.save(nib.Nifti1Image(data, affine), tmp_path / "ct.nii.gz")
        case = open_case(bright_run(), cohort_of(tmp_path, {1: "ct.nii.gz"}), 1)
        assert_found(case, (affine @ [*voxel, 1])[:3])


def test_planted_lesion_in_a_dicom_series(tmp_path: Path) -> None:
    folder, uid = tmp_path / "series", generate_uid()
    folder.mkdir()
    for k in np.random.default_rng(0).permutation(20):
        pixels = np.full((24, 60), 450, np.uint16)  # slope 2, intercept -1000: -100 HU
        if k in (12, 13):
            pixels[6:10, 41:49] = 1250
        write_slice(folder / f"{k}.dcm", pixels, 40.0 + 2.5 * k, uid)
    case = open_case(bright_run(), cohort_of(tmp_path, {1: "series"}), 1)
    # Rows are 1.5 mm apart from y = -20 (posterior), columns 0.5 mm from x = -10 (left).
    where = [-(-10 + 44.5 * 0.5), -(-20 + 7.5 * 1.5), 40 + 12.5 * 2.5]
    assert_found(case, np.array(where))


def test_cell_centres() -> None:
    affine = np.diag([3.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = [10, 20, 30]
    cells = cell_affine(affine, (4, 2, 1))  # d, h, w
    np.testing.assert_allclose(cells @ [0, 0, 0, 1], [10, 21, 31.5, 1])
    np.testing.assert_allclose(cells @ [5, 1, 1, 1], [25, 25, 35.5, 1])


# ---------------------------------------------------------------- VolumeMap


def made_of(values: np.ndarray, affine: np.ndarray) -> VolumeMap:
    return VolumeMap(
        subject=Subject("r", "h", "c", 1),
        modality="ct",
        method="gradcam",
        layer="conv",
        target={},
        values=values.astype(np.float32),
        affine=affine,
        signed=True,
        whole=0.0,
    )


def test_on_its_own_grid_nothing_changes() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-7, 5, 100]
    volume = Volume(np.zeros((3, 4, 5), np.float32), affine, (4.0, 3.0, 2.0))
    made = made_of(values, affine)
    for nearest in (True, False):
        np.testing.assert_allclose(made.on(volume, nearest=nearest), values, atol=1e-5)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_on_another_grid_is_linear_in_millimetres_and_ends_half_a_cell_out(
    signs: tuple[int, int, int],
) -> None:
    shape, coarse = (4, 5, 6), oriented((0, 1, 2), signs, (8.0, 6.0, 10.0))
    dhw = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    world = dhw[..., ::-1] @ coarse[:3, :3].T + coarse[:3, 3]
    slope = np.array([0.3, -0.2, 0.1])
    made = made_of(world @ slope + 50, coarse)
    fine = np.diag([1.0, 1.5, 2.5, 1.0])
    low = (coarse @ [-0.5, -0.5, -0.5, 1])[:3]
    high = (coarse @ [5.5, 4.5, 3.5, 1])[:3]
    low, high = np.minimum(low, high), np.maximum(low, high)
    fine[:3, 3] = low - [3.0, 4.5, 5.0]
    volume = Volume(np.zeros((24, 30, 60), np.float32), fine, (2.5, 1.5, 1.0))
    out = made.on(volume)
    places = np.stack(np.meshgrid(*map(np.arange, (24, 30, 60)), indexing="ij"), -1)
    mm = volume.to_mm(places.reshape(-1, 3)).reshape(*places.shape)
    covered = ((mm >= low - 1e-6) & (mm <= high + 1e-6)).all(-1)
    half = np.abs(coarse[:3, :3]).sum(axis=1) / 2
    inner = ((mm >= low + half) & (mm <= high - half)).all(-1)
    assert inner.any()
    assert (~covered).any()
    np.testing.assert_allclose(out[inner], (mm @ slope + 50)[inner], atol=1e-3)
    assert (out[~covered] == 0).all()
    assert (out[covered] > 0).all()
    nearest = made.on(volume, nearest=True)
    assert set(np.unique(nearest[covered])) <= set(np.unique(made.values))


def test_layers_are_those_of_the_encoder(tmp_path: Path) -> None:
    case = case_of(tmp_path, solved(), two_cells())
    assert layers_of(case, "ct") == {"conv": "the convolution"}
    assert isinstance(case.model.encoder("ct").get_submodule("conv"), nn.Conv3d)


def test_the_real_scan_lands_on_itself(real_data: Any) -> None:
    """A map of brightness is brightest in the opacified pulmonary artery."""
    path = real_data("ct/pulmonary/ct_cropped.nii.gz")
    native = read_volume(path)
    artery = read_volume(real_data("ct/pulmonary/pulmonary_artery.nii.gz")).array > 0
    coarse = read_volume(path, (6.0, 6.0, 6.0), (32, 32, 32))
    made = made_of(np.maximum(coarse.array - 100, 0), coarse.affine)
    overlay = made.on(native)
    ours = overlay[artery].mean() / overlay.mean()
    mirrored = overlay[:, :, ::-1][artery].mean() / overlay.mean()
    assert ours > 2.5
    assert ours > 1.3 * mirrored
