from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.cohort.schema import CohortError
from analysis.cohort.write import (
    atomic_folder,
    write_bag,
    write_outcomes,
    write_subjects,
    write_volume,
)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_same_data_same_bytes(tmp_path: Path, build) -> None:
    a, b = contents(build(tmp_path / "a")), contents(build(tmp_path / "b"))
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


def test_row_order_does_not_matter(tmp_path: Path) -> None:
    frame = pd.DataFrame({"subject_id": [3, 1, 2], "split": "train", "centre": ["x", "y", "z"]})
    first = write_subjects(tmp_path, frame).read_bytes()
    second = write_subjects(tmp_path, frame.iloc[::-1].set_index("subject_id")).read_bytes()
    assert first == second
    table = pq.read_table(tmp_path / "subjects.parquet")
    assert table["subject_id"].to_pylist() == [1, 2, 3]
    assert table.column_names == ["subject_id", "split", "centre"]


def test_types_and_nulls(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"subject_id": [1, 2], "task": "t", "time_days": [3, 4], "event": [True, None]}
    )
    table = pq.read_table(write_outcomes(tmp_path, frame))
    assert str(table.schema.field("event").type) == "int8"
    assert table["event"].to_pylist() == [1, None]
    with pytest.raises(CohortError, match="column 'time_days' does not fit double"):
        write_outcomes(tmp_path, frame.assign(time_days="soon"))
    with pytest.raises(CohortError, match="'split' is missing"):
        write_subjects(tmp_path, frame)
    uneven = pd.DataFrame({"subject_id": [1, 1], "instance": ["a", "b"], "features": [[1], [1, 2]]})
    with pytest.raises(CohortError, match="widths"):
        write_bag(tmp_path / "b.parquet", uneven)


def test_volume_is_ras_and_centred(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.load(write_volume(tmp_path / "v.nii.gz", array, (5.0, 2.0, 1.0)))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.shape == (4, 3, 2)
    np.testing.assert_allclose(image.affine @ [1.5, 1, 0.5, 1], [0, 0, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array.transpose(2, 1, 0))
    with pytest.raises(CohortError, match="int16"):
        write_volume(tmp_path / "v.nii.gz", array.astype(float), (1, 1, 1))
    with pytest.raises(CohortError, match="positive"):
        write_volume(tmp_path / "v.nii.gz", array, (0, 1, 1))


def test_atomic_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "cohort"

    def fail() -> None:
        with atomic_folder(out) as partial:
            (partial / "a").write_text("1")
            assert not out.exists()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(out) as partial:
        (partial / "a").write_text("1")
    assert [p.name for p in out.parent.iterdir()] == ["cohort"]
    assert (out / "a").read_text() == "1"
    with pytest.raises(CohortError, match="not empty"), atomic_folder(out):
        raise AssertionError("the body must not run")
    assert (out / "a").read_text() == "1"
    empty = tmp_path / "empty"
    empty.mkdir()
    with atomic_folder(empty) as partial:
        (partial / "b").write_text("2")
    assert (empty / "b").exists()
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(CohortError, match="cannot be written"), atomic_folder(file / "sub"):
        pass
