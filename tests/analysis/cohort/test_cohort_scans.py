"""Scans become a cohort that follows another: same tasks, nobody has an outcome."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.scans import import_scans
from analysis.cohort.readers.volume import read_volume
from analysis.cohort.schema import CohortError, fingerprint, read_spec, write_spec


def nifti(path: Path, axes: str, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    data = rng.integers(-1000, 400, (9, 8, 7)).astype(np.int16)
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    affine[:3, 3] = (-10, 20, 30)
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("R", "A", "S")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(image.as_reoriented(turn), path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_scan_keeps_its_voxels_and_place(tmp_path: Path, tiny_workspace: Path, axes: str) -> None:
    source = nifti(tmp_path / "one.nii.gz", axes)
    import_scans(source, tmp_path / "out", tiny_workspace / "cohorts" / "pe")
    cohort = Cohort.open(tmp_path / "out")
    before, after = read_volume(source), read_volume(cohort.volumes("ct")[1])
    np.testing.assert_array_equal(before.array, after.array)
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-5)


def test_cohort_follows_and_has_nothing_but_scans(tmp_path: Path, tiny_workspace: Path) -> None:
    (tmp_path / "scans").mkdir()
    nifti(tmp_path / "scans" / "b.nii.gz", "RAS", 1)
    nifti(tmp_path / "scans" / "a.nii.gz", "LPS", 2)
    like = tiny_workspace / "cohorts" / "pe"
    import_scans(tmp_path / "scans", tmp_path / "out", like)
    cohort = Cohort.open(tmp_path / "out")
    assert cohort.spec.follows == read_spec(like).name
    assert cohort.spec.tasks == read_spec(like).tasks
    assert cohort.subjects["source_id"].tolist() == ["a", "b"]
    assert cohort.having("ct").tolist() == [1, 2]
    assert cohort.having("ehr").tolist() == []
    assert cohort.subject_ids(task="mortality").tolist() == []
    assert [p for p in check_cohort(tmp_path / "out") if p.severity == "error"] == []


def test_nothing_to_import_is_said_and_nothing_written(
    tmp_path: Path, tiny_workspace: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="neither NIfTI files nor DICOM series"):
        import_scans(tmp_path / "empty", tmp_path / "out", tiny_workspace / "cohorts" / "pe")
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    with pytest.raises(CohortError, match=r"broken\.nii\.gz"):
        import_scans(
            tmp_path / "broken.nii.gz", tmp_path / "out", tiny_workspace / "cohorts" / "pe"
        )
    assert not (tmp_path / "out").exists()


def test_field_follows_changes_no_other_cohort(tmp_path: Path, tiny_workspace: Path) -> None:
    like = tiny_workspace / "cohorts" / "pe"
    before = fingerprint(like)
    write_spec(read_spec(like), like)
    assert fingerprint(like) == before
