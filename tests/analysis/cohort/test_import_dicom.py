"""CTs, ECGs and cines join a cohort by id; what they are is told from their content."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom import examples
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from analysis.attribution.case import open_case
from analysis.attribution.target import LogRisk
from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging import import_imaging
from analysis.cohort.importers.imaging_add import How
from analysis.cohort.importers.imaging_convert import Job, convert
from analysis.cohort.importers.imaging_files import classify, files_below
from analysis.cohort.importers.masking import read_masks, sector
from analysis.cohort.readers.echo import read_cine
from analysis.cohort.readers.signal import read_signal
from analysis.cohort.readers.volume import read_volume
from analysis.cohort.schema import CohortError
from app.cli import cli
from models.checkpoint import load_run
from sample_data.workspace import ENCODERS, RUNS
from tests.analysis.cohort.imaging_sources import (
    ZERO,
    cine,
    ct_series,
    ecg,
    make_cohort,
    nifti,
    subject_of,
    voxels,
)

KEY = b"0123456789abcdef0123456789abcdef"


def errors(out: Path) -> list[str]:
    """Errors of the check but that somebody has no modality yet."""
    found = [str(p) for p in check_cohort(out, deep=True) if p.severity == "error"]
    return [text for text in found if "without any modality" not in text]


def index(out: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(out / f"imported/{name}/imaging.parquet")


def test_nifti_by_name_keeps_voxels_and_grid(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1", "P2", "P3"])
    src = tmp_path / "scans"
    nifti(src / "P1.nii.gz", 1)
    nifti(src / "deep" / "P2.nii", 2)
    nifti(src / "stranger.nii.gz", 3)
    told: list[str] = []
    assert import_imaging(src, out, how=How(note=told.append)) == ["ct"]
    cohort = Cohort.open(out)
    assert set(cohort.volumes("ct")) == {subject_of(out, "P1"), subject_of(out, "P2")}
    for source, file in (("P1", "P1.nii.gz"), ("P2", "deep/P2.nii")):
        before, after = (
            read_volume(src / file),
            read_volume(cohort.volumes("ct")[subject_of(out, source)]),
        )
        np.testing.assert_array_equal(before.array, after.array)
        np.testing.assert_allclose(before.affine, after.affine, atol=1e-5)
    assert nib.load(cohort.volumes("ct")[1]).get_data_dtype() == np.int16
    assert any("ct: 2 of 3" in text and "were left out" in text for text in told)
    assert errors(out) == []


def test_dicom_series_of_any_nesting_by_patient_id(tmp_path: Path) -> None:
    """The largest series of a study counts; two studies of a person both come, by their time."""
    out = make_cohort(tmp_path / "co", ["7", "8"])
    src, study = tmp_path / "export", generate_uid()
    ct_series(src / "A" / "S1" / "thin", "7", 1, slices=6, study=study)
    ct_series(src / "A" / "S1" / "thick", "7", 2, slices=2, study=study)
    ct_series(src / "A" / "old", "7", 3, slices=5, StudyDate="20190101")
    ct_series(src / "B", "8", 4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    told: list[str] = []
    import_imaging(src, out, how=How(note=told.append))
    rows = index(out, "ct")
    assert rows["subject_id"].tolist() == [7, 7]
    assert sorted(rows["acquired"]) == [
        pd.Timestamp("2019-01-01 10:11:12"), pd.Timestamp("2021-03-04 10:11:12"),
    ]  # fmt: skip
    chosen = read_volume(Cohort.open(out).volumes("ct")[7])
    np.testing.assert_array_equal(chosen.array[:, ::-1, ::-1], voxels(1, (6, 7, 8)))
    assert any("smaller CT series" in text and "1 file" in text for text in told)
    assert any("localizers: 4 files" in text for text in told)
    assert errors(out) == []


def test_series_that_cannot_be_read_gives_way_to_one_like_it(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["7"])
    src, study = tmp_path / "export", generate_uid()
    ct_series(src / "a", "7", 1, slices=6, study=study)
    (src / "a" / "IM0003").unlink()  # a gap: five slices are left
    ct_series(src / "b", "7", 2, slices=4, study=study)
    told: list[str] = []
    import_imaging(src, out, how=How(note=told.append))
    chosen = read_volume(Cohort.open(out).volumes("ct")[7])
    np.testing.assert_array_equal(chosen.array[:, ::-1, ::-1], voxels(2, (4, 7, 8)))
    assert any("1 slice(s) missing" in text for text in told)


def test_every_kind_becomes_a_modality_of_its_own(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["a", "b"])
    src = tmp_path / "all"
    nifti(src / "a" / "scan.nii.gz", 1)
    shutil.copy(examples.get_path("waveform"), src / "a" / "rest")
    shutil.copy(examples.get_path("rgb_color"), src / "a" / "screenshot")
    ecg(src / "b" / "rest.hea", 2, start=ZERO.to_pydatetime())
    cine(src / "b" / "one.dcm", "A4C")
    cine(src / "b" / "two.dcm", "")
    told: list[str] = []
    assert import_imaging(src, out, id_from="folder", how=How(note=told.append)) == [
        "ct", "ecg", "echo",
    ]  # fmt: skip
    cohort = Cohort.open(out)
    a, b = subject_of(out, "a"), subject_of(out, "b")
    assert set(cohort.volumes("ct")) == {a}
    assert set(cohort.signals("ecg")) == {a, b}
    assert list(cohort.videos("echo")[b]) == ["A4C"]
    before, after = read_signal(src / "a" / "rest"), read_signal(cohort.signals("ecg")[a])
    assert after.leads == before.leads
    np.testing.assert_allclose(after.array, before.array, atol=0.0005 + 1e-6)
    assert index(out, "ecg").set_index("subject_id")["acquired"].to_dict() == {
        a: pd.Timestamp("2013-01-25 10:59:19"), b: ZERO,
    }  # fmt: skip
    assert any("view is not named: 1 cine" in text for text in told)
    assert any("BurnedInAnnotation" in text and "1 cine" in text for text in told)
    assert any("without motion" in text for text in told)
    assert errors(out) == []


def test_index_says_whose_when_and_which_view(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["a", "b", "b"])
    src = tmp_path / "files"
    cine(src / "x1.dcm")
    cine(src / "x2.dcm", seed=2)
    cine(src / "not-listed.dcm", "A2C")
    table = tmp_path / "index.csv"
    table.write_text(
        "id,path,acquired,view\nb,x1.dcm,2021-03-01 08:00,PLAX\na,x2.dcm,,a4c\na,gone.dcm,,A4C\n"
    )
    told: list[str] = []
    import_imaging(src, out, name="heart", index=table, how=How(note=told.append))
    rows = index(out, "heart")
    a, b = subject_of(out, "a"), subject_of(out, "b")
    # Both studies of person b share the file.
    assert rows["view"].value_counts().to_dict() == {"Parasternal_Long": 2, "A4C": 1}
    assert rows.loc[rows["view"] == "A4C", "subject_id"].tolist() == [a]
    assert len(set(rows.loc[rows["view"] != "A4C", "path"])) == 1
    assert set(rows.loc[rows["view"] != "A4C", "subject_id"]) >= {b}
    assert rows.loc[rows["subject_id"] == b, "acquired"].item() == pd.Timestamp("2021-03-01 08:00")
    assert any("row 4" in text and "gone.dcm" in text for text in told)


def test_bad_files_are_named_and_the_rest_comes(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1", "P2"])
    src = tmp_path / "scans"
    nifti(src / "P1.nii.gz", 1)
    whole = (src / "P1.nii.gz").read_bytes()
    (src / "P2.nii.gz").write_bytes(whole[: len(whole) // 2])
    (src / "P2.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    (src / "notes.docx").write_bytes(b"hello")
    with pytest.raises(CohortError, match=r"P2\.nii"):
        import_imaging(src, out, how=How(strict=True))
    assert Cohort.open(out).spec.modalities == {}
    told: list[str] = []
    import_imaging(src, out, how=How(note=told.append))
    assert list(Cohort.open(out).volumes("ct")) == [subject_of(out, "P1")]
    assert any("P2.nii.gz" in text and "truncated" in text for text in told)
    assert any("modality not stated: 1 file" in text for text in told)
    assert any("neither NIfTI, WFDB nor DICOM: 1 file" in text for text in told)


def test_nothing_usable_leaves_the_cohort_as_it_was(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1"])
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    src = tmp_path / "scans"
    src.mkdir()
    (src / "P1.nii.gz").write_bytes(b"none")
    with pytest.raises(CohortError, match=r"P1\.nii\.gz.*truncated"):
        import_imaging(src, out)
    (src / "P1.nii.gz").unlink()
    with pytest.raises(CohortError, match="holds no scan"):
        import_imaging(src, out)
    nifti(src / "P1" / "x.nii.gz")
    with pytest.raises(CohortError, match="--id-from folder would find 1"):
        import_imaging(src, out)
    with pytest.raises(CohortError, match="has no group"):
        import_imaging(src, out, id_from="P\\d")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []
    import_imaging(src, out, id_from=r"(P\d+)/")
    assert list(Cohort.open(out).volumes("ct")) == [subject_of(out, "P1")]


def test_replacing_asks_first_and_forgets_what_was_encoded(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1"])
    src = tmp_path / "scans"
    nifti(src / "P1.nii.gz", 1)
    import_imaging(src, out)
    (out / "features" / "ct").mkdir(parents=True)
    (out / "features" / "ct" / "x.note").write_text("of the first scan")
    with pytest.raises(CohortError, match="--replace"):
        import_imaging(src, out)
    prints = {Cohort.open(out).fingerprint}
    for seed in (2, 3):
        nifti(src / "P1.nii.gz", seed)
        import_imaging(src, out, replace_it=True)
        scan = Cohort.open(out).volumes("ct")[subject_of(out, "P1")]
        np.testing.assert_array_equal(read_volume(scan).array, read_volume(src / "P1.nii.gz").array)
        prints.add(Cohort.open(out).fingerprint)
    assert not (out / "features" / "ct").exists()
    assert len(prints) == 3, "results stored for one scan would be shown for another"
    assert len(list((out / "imported").iterdir())) == 1
    ecg(tmp_path / "e" / "P1.hea")
    with pytest.raises(CohortError, match="of kind 'volume'"):
        import_imaging(tmp_path / "e", out, name="ct", replace_it=True)


def test_times_move_with_the_key_and_ids_are_found_by_it(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1"], KEY)
    src = tmp_path / "src"
    ecg(src / "P1.hea", start=ZERO.to_pydatetime())
    with pytest.raises(CohortError, match="hashed with a key"):
        import_imaging(src, out)
    import_imaging(src, out, identities=Identities(KEY))
    rows = index(out, "ecg")
    shift = pd.Timedelta(microseconds=Identities(KEY).shift_us("P1"))
    assert rows["acquired"].tolist() == [ZERO + shift]
    assert read_signal(out / rows["path"][0]).start == ZERO + shift
    assert list(Cohort.open(out).signals("ecg")) == [subject_of(out, "P1", KEY)]


def test_masks_blacken_boxes_and_all_but_the_sector(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1"])
    cine(tmp_path / "src" / "P1" / "x.dcm", "A4C")
    given = read_cine(tmp_path / "src" / "P1" / "x.dcm").frames
    told: list[str] = []
    how = How(read_masks(["0,0,0.5,0.1"]), note=told.append)
    import_imaging(tmp_path / "src", out, id_from="folder", how=how)
    (file,) = Cohort.open(out).videos("echo")[subject_of(out, "P1")].values()
    boxed = read_cine(file).frames
    assert boxed[:, :7, :40].max() == 0
    np.testing.assert_array_equal(boxed[:, 7:], given[:, 7:])
    assert not any("BurnedIn" in text for text in told)
    import_imaging(
        tmp_path / "src", out, id_from="folder", replace_it=True, how=How(read_masks([], True))
    )
    (file,) = Cohort.open(out).videos("echo")[subject_of(out, "P1")].values()
    alone = read_cine(file).frames
    assert alone[:, :6].max() == 0, "the text is gone"
    lit = given[:, 12:57].max(axis=(0, 3)) > 0
    assert (alone[:, 12:57].max(axis=(0, 3)) > 0)[lit].mean() > 0.97, "the heart stays"
    for text in ("1,2,3", "5,5,1,9", "a,b,c,d", "-1,0,5,5"):
        with pytest.raises(CohortError, match="--mask"):
            read_masks([text])


def test_sector_of_a_real_cine_has_no_text_and_all_of_the_heart() -> None:
    """pydicom's own cardiac clip: texts at the left, the right and the foot of the picture."""
    frames = read_cine(Path(examples.get_path("ybr_color"))).frames
    inside = sector(frames)
    for texts in (inside[:, :40], inside[:, 290:], inside[220:]):
        assert not texts.any()
    assert inside[60:180, 130:200].all()
    still = np.repeat(frames[:1], 4, axis=0)
    with pytest.raises(CohortError, match="--mask"):
        sector(still)


def test_values_that_are_no_hounsfield_units_are_said(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1"])
    (tmp_path / "s").mkdir()
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((6, 6, 6)).astype("f4"), np.eye(4)),
        tmp_path / "s" / "P1.nii.gz",
    )
    told: list[str] = []
    import_imaging(tmp_path / "s", out, how=How(note=told.append))
    assert any("give Hounsfield units" in text for text in told)


@pytest.mark.slow
def test_many_files_in_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for at in range(3):
        nifti(src / f"P{at}.nii.gz", at)
    made = []
    for jobs in (1, 2):
        out = make_cohort(tmp_path / f"co{jobs}", ["P0", "P1", "P2"])
        import_imaging(src, out, how=How(jobs=jobs))
        made.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert made[0] == made[1]


def test_command_says_what_it_did_and_ends_with_2_on_bad_input(tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["P1"])
    nifti(tmp_path / "s" / "P1.nii.gz")
    answer = CliRunner().invoke(cli, ["import", "dicom", str(tmp_path / "s"), str(out)])
    assert answer.exit_code == 0, answer.output
    assert f"Added to {out}: ct." in answer.output.replace("\n", "")
    again = CliRunner().invoke(cli, ["import", "dicom", str(tmp_path / "s"), str(out)])
    assert again.exit_code == 2
    bad = CliRunner().invoke(
        cli, ["import", "dicom", str(tmp_path / "s"), str(out), "--as", "x", "--mask", "1"]
    )
    assert bad.exit_code == 2


def test_real_files_of_every_kind(tmp_path: Path, real_data) -> None:
    """A real CT series in JPEG 2000, a real NIfTI CT and a real WFDB record."""
    zero = [pd.Timestamp("2024-01-01")] * 2
    out = make_cohort(tmp_path / "co", ["one", "two"], zero=zero)
    src = tmp_path / "src"
    (src / "one" / "series").mkdir(parents=True)
    for path in sorted(real_data("ct/dicom_series").iterdir())[:4]:
        shutil.copy(path, src / "one" / "series")
    (src / "two").mkdir()
    shutil.copy(real_data("ct/pulmonary/ct_cropped.nii.gz"), src / "two")
    for end in ("hea", "dat", "xyz"):
        shutil.copy(real_data("ecg") / f"s0010_re.{end}", src / "two")
    assert import_imaging(src, out, id_from="folder") == ["ct", "ecg"]
    cohort = Cohort.open(out)
    one, two = subject_of(out, "one"), subject_of(out, "two")
    for subject, source in ((one, src / "one" / "series"), (two, src / "two/ct_cropped.nii.gz")):
        before, after = read_volume(source), read_volume(cohort.volumes("ct")[subject])
        np.testing.assert_allclose(after.array, before.array, atol=0.5)
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    before, after = read_signal(src / "two/s0010_re.hea"), read_signal(cohort.signals("ecg")[two])
    np.testing.assert_allclose(after.array, before.array, atol=0.0005 + 1e-6)
    header = pydicom.dcmread(next((src / "one" / "series").iterdir()), stop_before_pixels=True)
    acquired = index(out, "ecg")["acquired"].isna()
    assert len(acquired) == 1
    assert str(header.StudyDate) in f"{index(out, 'ct')['acquired'].min():%Y%m%d}"
    assert errors(out) == []


def test_a_shipped_run_predicts_from_an_imported_scan(tmp_path: Path) -> None:
    """The run sees of the imported file what it would see of the source."""
    out = make_cohort(tmp_path / "co", ["P1"])
    source = nifti(tmp_path / "s" / "P1.nii.gz", 1, (60, 50, 40))
    import_imaging(tmp_path / "s", out)
    run = load_run(RUNS / "pe-ct", [ENCODERS])
    case = open_case(run, Cohort.open(out), subject_of(out, "P1"))
    assert case.present == ("ct",)
    seen = case.raw("ct").fields["volume"][0].numpy()
    grid = case.reading("ct")
    expected = read_volume(source, grid.spacing_mm, grid.shape)
    np.testing.assert_allclose(seen.reshape(expected.array.shape), expected.array, atol=1e-3)
    assert np.isfinite(case.value(LogRisk())).all()


def test_damaged_headers_are_set_aside_whatever_they_hold(tmp_path: Path) -> None:
    """Bytes of the header changed at random: no error of a library comes through."""
    ct_series(tmp_path / "ct", "1", 1, slices=1)
    cine(tmp_path / "c", "A4C")
    rng = np.random.default_rng(0)
    for source in (tmp_path / "ct" / "IM0000", tmp_path / "c"):
        whole = np.frombuffer(source.read_bytes(), np.uint8)
        for at in range(60):
            raw = whole.copy()
            places = rng.integers(0, min(900, len(raw)), 1 + at % 8)
            raw[places] = rng.integers(0, 256, len(places))
            (tmp_path / "x").mkdir(exist_ok=True)
            (tmp_path / "x" / f"{source.name}{at}").write_bytes(raw)
    found = classify(files_below(tmp_path / "x"))
    told = sum(found.aside.values()) + len(found.unreadable)
    series = sum(len(item.files) or 1 for choices in found.items for item in choices)
    smaller = found.aside["smaller CT series of a study whose largest was taken"]
    assert found.unreadable
    assert told + series - smaller <= 120
    for at, choices in enumerate(found.items):
        named = tuple(replace(item, view="A4C") for item in choices)
        done = convert(Job(named, tmp_path / f"out-{at}", ("x", at), (None,) * len(named)))
        assert done.used is not None or done.problems


def test_a_full_disk_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make_cohort(tmp_path / "co", ["P1"])
    nifti(tmp_path / "s" / "P1.nii.gz")

    def full(path: Path, volume: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.cohort.importers.imaging_convert.write_nifti", full)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left"):
        import_imaging(tmp_path / "s", out)
    assert Cohort.open(out).spec.modalities == {}
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []
