from __future__ import annotations

import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from analysis.attribution.attention import LabelledAttention, LabelledPool
from analysis.attribution.case import AttributionError, Subject
from analysis.attribution.export import (
    attention_csv,
    attribution_csv,
    map_nifti,
    provenance,
    write_map_nifti,
)
from analysis.attribution.result import Attribution, VolumeMap
from analysis.cohort.readers.volume import Volume, read_volume

SUBJECT = Subject("co_attention", "0123456789abcdef" * 4, "cohort-1", 17)
TARGET = {"title": "log-risk", "unit": "log hazard ratio", "worse_is_higher": True}
# Axis codes of the scan file; the last has anterior fastest and is not even in axis order.
ORIENTATIONS = ("RAS", "LPS", "PIR")


def write_scan(path: Path, codes: str) -> Volume:
    """A scan of known mm in a file of some orientation, as the app reads it."""
    rng = np.random.default_rng(3)
    hu = rng.integers(-1000, 400, (20, 16, 12)).astype(np.int16)
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-14.0, 6.0, 100.0)
    image = nib.Nifti1Image(hu, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(image.as_reoriented(turn), path)
    return read_volume(path)


def volume_map(signed: bool = True, layer: str | None = "layer3") -> VolumeMap:
    """A map of 4 x 3 x 5 cells, elsewhere and coarser than the scan."""
    rng = np.random.default_rng(5)
    affine = np.diag([5.0, 7.0, 6.0, 1.0])
    affine[:3, 3] = (-11.0, 9.0, 104.0)
    values = rng.normal(size=(4, 3, 5)).astype(np.float32)
    return VolumeMap(
        subject=SUBJECT,
        modality="ct",
        method="gradcam",
        layer=layer,
        target=TARGET,
        values=values if signed else np.abs(values),
        affine=affine,
        signed=signed,
        whole=0.7,
        parameters={"seed": 4},
    )


def at_mm(image: nib.Nifti1Image, point: np.ndarray) -> float:
    """The file's value at a point: linear between voxel centres, the border value beyond them."""
    index = (np.linalg.inv(image.affine) @ np.r_[point, 1.0])[:3]
    data = np.asarray(image.dataobj)
    index = np.clip(index, 0, np.asarray(data.shape) - 1)
    low = np.minimum(np.floor(index).astype(int), np.asarray(data.shape) - 2)
    share = index - low
    value = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, share, 1 - share))
        value += weight * data[tuple(low + corner)]
    return float(value)


# ---------------------------------------------------------------- NIfTI


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_nifti_reads_back_in_millimetres_as_the_map_on_the_scan(tmp_path: Path, codes: str) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz", codes)
    found = volume_map()
    own = nib.load(write_map_nifti(found, tmp_path / "own.nii.gz"))
    like = nib.load(write_map_nifti(found, tmp_path / "like.nii", like=scan))

    expected = found.on(scan)
    assert like.shape == scan.array.shape[::-1]
    np.testing.assert_array_equal(np.asarray(like.dataobj), expected.transpose(2, 1, 0))
    inside = np.argwhere(expected != 0)
    assert len(inside) > 200
    for voxel in inside[:: len(inside) // 60]:
        point = scan.to_mm([voxel])[0]
        assert at_mm(own, point) == pytest.approx(expected[tuple(voxel)], abs=1e-5)


def test_nifti_lies_the_same_in_every_orientation_of_the_scan(tmp_path: Path) -> None:
    images = [
        nib.load(
            write_map_nifti(
                volume_map(), tmp_path / f"{codes}.nii", like=write_scan(tmp_path / "s.nii", codes)
            )
        )
        for codes in ORIENTATIONS
    ]
    for image in images[1:]:
        np.testing.assert_allclose(image.affine, images[0].affine, atol=1e-5)
        np.testing.assert_allclose(image.dataobj, images[0].dataobj, atol=1e-5)


def test_nifti_header_says_what_it_is(tmp_path: Path) -> None:
    image = nib.load(write_map_nifti(volume_map(), tmp_path / "map.nii.gz"))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.get_sform(), volume_map().affine)
    np.testing.assert_allclose(image.get_qform(), volume_map().affine, atol=1e-5)
    assert image.header["descrip"].item().decode() == "gradcam layer3 run 0123456789ab"
    largest = np.abs(volume_map().values).max()
    assert image.header["cal_max"] == pytest.approx(largest)
    assert image.header["cal_min"] == pytest.approx(-largest)
    about = json.loads(image.header.extensions[0].get_content())
    assert about == json.loads(json.dumps(provenance(volume_map())))


def test_a_long_layer_is_cut_and_the_run_is_not() -> None:
    image = nib.Nifti1Image.from_bytes(map_nifti(volume_map(layer="block." * 40)))
    description = image.header["descrip"].item().decode()
    assert len(description) <= 79
    assert description.endswith(" run 0123456789ab")


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError("disk full")

    (tmp_path / "map.nii").write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="disk full"):
            write_map_nifti(volume_map(), tmp_path / "map.nii")
    assert [path.name for path in tmp_path.iterdir()] == ["map.nii"]
    assert (tmp_path / "map.nii").read_bytes() == b"old"


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AttributionError, match=r"\.nii\.gz"):
        write_map_nifti(volume_map(), tmp_path / "map.png")


# ---------------------------------------------------------------- CSV


def attribution(days: tuple[float, ...] = ()) -> Attribution:
    outputs = max(len(days), 1)
    values = np.array([[0.1 + 0.2, -1 / 3][:outputs]]).repeat(3, 0) * [[1.0], [-2.0], [0.5]]
    return Attribution(
        subject=SUBJECT,
        modality="ehr",
        kind="events",
        method="permutation",
        target={**TARGET, **({"days": list(days)} if days else {})},
        parts=pd.DataFrame(
            {
                "code": ["LOINC/1", "ICD/2", "LOINC/3"],
                "description": ['Troponin, "high"', "Embolism\nacute", "=SUM(A1)"],
                "value": [0.1, np.nan, 7.0],
                "time": pd.to_datetime(["2020-01-02 03:04", None, "2020-02-01"], format="mixed"),
            }
        ),
        values=values,
        whole=values.sum(0) + 1,
        reference=np.ones(outputs),
        agreement=0.93,
        spread=np.array([0.01, 0.02, 0.03]),
        evaluations=513,
        parameters={"seed": 4, "budget": np.int64(513)},
    )


def test_attribution_csv_holds_parts_shares_and_provenance_in_full_precision() -> None:
    found = attribution()
    table = pd.read_csv(io.StringIO(attribution_csv(found)), float_precision="round_trip")
    assert table["share"].tolist() == found.values[:, 0].tolist()
    assert table["spread"].tolist() == [0.01, 0.02, 0.03]
    told = found.parts["description"]
    assert table["description"].tolist() == [f"'{t}" if t[0] == "=" else t for t in told]
    assert table["value"].isna().tolist() == [False, True, False]
    assert table["time"].isna().tolist() == [False, True, False]
    only = {name: table[name].unique().tolist() for name in table.columns[-11:]}
    assert only == {
        "run": ["co_attention"],
        "run_hash": [SUBJECT.run_hash],
        "cohort": ["cohort-1"],
        "patient": [17],
        "modality": ["ehr"],
        "target": ["log-risk"],
        "target_unit": ["log hazard ratio"],
        "method": ["permutation"],
        "seed": [4],
        "agreement": [0.93],
        "gap": [found.gap],
    }


def test_attribution_csv_of_a_curve_names_the_day_of_each_share() -> None:
    found = attribution((30.0, 365.0))
    table = pd.read_csv(io.StringIO(attribution_csv(found)), float_precision="round_trip")
    assert table["share_day_30"].tolist() == found.values[:, 0].tolist()
    assert table["share_day_365"].tolist() == found.values[:, 1].tolist()
    assert "share" not in table


def labelled(null: bool) -> LabelledAttention:
    weights = np.array([[0.5, 0.2, 0.1], [0.0, 0.25, 0.75]])
    return LabelledAttention(
        subject=SUBJECT,
        name="ehr to ct",
        query="ehr",
        key="ct",
        method="mean",
        weights=weights,
        null=1 - weights.sum(1) if null else None,
        rows=pd.DataFrame(
            {"title": ["Troponin", "Troponin"], "date": pd.to_datetime(["2020-01-02", None])}
        ),
        columns=pd.DataFrame({"title": ["left, upper", "left, upper", "right"]}),
        heads=2,
    )


def test_attention_csv_has_every_cell_once_and_what_went_nowhere() -> None:
    found = labelled(null=True)
    table = pd.read_csv(io.StringIO(attention_csv(found)), float_precision="round_trip")
    assert len(table) == 2 * 4
    assert table["row_label"].tolist() == ["Troponin (2020-01-02)"] * 4 + ["Troponin"] * 4
    to_tokens = table[table["column"].notna()]
    matrix = to_tokens.pivot_table(index="row", columns="column", values="weight")
    np.testing.assert_array_equal(matrix.to_numpy(), found.weights)
    nowhere = table[table["column"].isna()]
    assert nowhere["column_label"].unique().tolist() == ["no token"]
    assert nowhere["weight"].tolist() == found.null.tolist()
    assert table["query"].unique().tolist() == ["ehr"]
    assert table["run_hash"].unique().tolist() == [SUBJECT.run_hash]


def test_attention_csv_as_a_matrix_keeps_labels_that_repeat_apart() -> None:
    text = attention_csv(labelled(null=False), "matrix")
    table = pd.read_csv(io.StringIO(text), float_precision="round_trip")
    assert list(table.columns) == [
        "row", "row_label", "0: left, upper", "1: left, upper", "2: right",
    ]  # fmt: skip
    np.testing.assert_array_equal(table.iloc[:, 2:].to_numpy(), labelled(null=False).weights)
    with_null = pd.read_csv(io.StringIO(attention_csv(labelled(null=True), "matrix")))
    assert with_null.columns[-1] == "no token"


def test_attention_csv_of_a_pool() -> None:
    rows = pd.DataFrame({"title": ["a.png", "b.png"]})
    found = LabelledPool(SUBJECT, "slides", np.array([0.25, 0.75]), rows)
    table = pd.read_csv(io.StringIO(attention_csv(found)))
    assert table["row_label"].tolist() == ["a.png", "b.png"]
    assert table["weight"].tolist() == [0.25, 0.75]


# ---------------------------------------------------------------- provenance


def test_provenance_is_plain_json_with_all_that_repeats_a_result() -> None:
    about = json.loads(json.dumps(provenance(attribution()), allow_nan=False))
    assert about["run_hash"] == SUBJECT.run_hash
    assert about["patient"] == 17
    assert about["seed"] == 4
    assert about["parameters"] == {"seed": 4, "budget": 513}
    assert about["agreement"] == 0.93
    assert about["gap"] == attribution().gap
    assert about["target"]["title"] == "log-risk"
    assert about["fusionlens"]


def test_provenance_leaves_out_what_a_result_does_not_know() -> None:
    about = provenance(volume_map(layer=None))
    assert not {"layer", "gap", "agreement", "evaluations"} & set(about)
    assert about["whole"] == 0.7
