"""MIMIC-IV-ECHO joins a cohort: cines of the last study before the index time, by named view."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.imaging_add import How
from analysis.cohort.importers.masking import read_masks
from analysis.cohort.importers.mimic_echo import import_mimic_echo, read_views
from analysis.cohort.readers.echo import read_cine
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_still
from app.cli import cli
from tests.analysis.cohort.imaging_sources import ZERO, cine, make_cohort

A, B = "10000032", "10000117"
DAY, MINUTE = pd.Timedelta(days=1), pd.Timedelta(minutes=1)


def place(subject: str, study: str, number: int) -> str:
    return f"files/p10/p{subject}/s{study}/{study}_{number:04d}.dcm"


@pytest.fixture(scope="module")
def mimic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A has an old study, one before and one after time zero; B one. No header names a view."""
    root = tmp_path_factory.mktemp("mimic-iv-echo")
    rows = []
    studies = [
        (A, "90000001", ZERO - 100 * DAY, 1), (A, "90000002", ZERO - DAY, 4),
        (A, "90000003", ZERO + DAY, 1), (B, "90000004", ZERO, 2),
    ]  # fmt: skip
    for subject, study, time, count in studies:
        for number in range(1, count + 1):
            file = place(subject, study, number)
            cine(root / file, seed=int(study[-1]) * 10 + number)
            rows.append((subject, study, f"{time + number * MINUTE:%Y-%m-%d %H:%M:%S}", file))
    strip = place(A, "90000002", 9)
    write_still(root / strip, np.full((40, 50, 3), 9, np.uint8), "spectral Doppler", None, ("s",))
    rows.append((A, "90000002", f"{ZERO - DAY:%Y-%m-%d %H:%M:%S}", strip))
    names = ["subject_id", "study_id", "acquisition_datetime", "dicom_filepath"]
    pd.DataFrame(rows, columns=names).to_csv(root / "echo-record-list.csv", index=False)
    views = [
        (place(A, "90000002", 1), "A4C", 0.9), (place(A, "90000002", 2), "a4c", 0.7),
        (place(A, "90000002", 3), "PLAX", 0.8), (place(A, "90000001", 1), "A2C", 0.9),
        (f"/data/{place(B, '90000004', 1)}", "Subcostal", 0.6), ("x/y.dcm", "unknown", 0.1),
    ]  # fmt: skip
    frame = pd.DataFrame(views, columns=["dicom_filepath", "view", "probability"])
    frame.to_csv(root / "views.csv", index=False)
    return root


def test_surest_cine_of_each_view_of_the_last_study(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, B])
    told: list[str] = []
    import_mimic_echo(mimic, out, views=mimic / "views.csv", how=How(note=told.append))
    cohort = Cohort.open(out)
    assert sorted(cohort.videos("echo")[int(A)]) == ["A4C", "Parasternal_Long"]
    assert sorted(cohort.videos("echo")[int(B)]) == ["Subcostal"]
    taken = read_cine(cohort.videos("echo")[int(A)]["A4C"])
    given = read_cine(mimic / place(A, "90000002", 1))
    np.testing.assert_array_equal(taken.frames, given.frames)
    np.testing.assert_allclose(taken.frame_times_ms, given.frame_times_ms)
    assert taken.view == "A4C"
    assert taken.mm_per_pixel == pytest.approx(0.5)
    rows = pd.read_parquet(out / "imported/echo/imaging.parquet").set_index("view")
    assert rows["acquired"]["A4C"] == ZERO - DAY + MINUTE
    assert any("spectral Doppler): 1 file" in text for text in told)
    assert any("view is not named: 2 cines" in text for text in told)
    assert any("BurnedInAnnotation" in text for text in told)
    found = [str(p) for p in check_cohort(out, deep=True) if p.severity == "error"]
    assert found == []


def test_every_cine_of_every_study_before(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, B])
    import_mimic_echo(mimic, out, views=mimic / "views.csv", every=True)
    rows = pd.read_parquet(out / "imported/echo/imaging.parquet")
    mine = rows[rows["subject_id"] == int(A)]
    assert sorted(mine["view"]) == ["A2C", "A4C", "A4C", "Parasternal_Long"]
    assert (mine["acquired"] <= ZERO).all()


def test_sector_alone_is_kept_on_request(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [B])
    how = How(read_masks([], True))
    import_mimic_echo(mimic, out, views=mimic / "views.csv", how=how)
    (file,) = Cohort.open(out).videos("echo")[int(B)].values()
    assert read_cine(file).frames[:, :6].max() == 0


def test_last_measurements_become_a_table(mimic: Path, tmp_path: Path) -> None:
    rows = [
        (A, "1", ZERO - 50 * DAY, "TTE", "lvef", "LV ejection fraction", "60", "%"),
        (A, "2", ZERO - DAY, "TTE", "lvef", "LV ejection fraction", "45", "%"),
        (A, "2", ZERO - DAY, "TTE", "comment", "Comment", "poor windows", ""),
        (A, "3", ZERO + DAY, "TTE", "lvef", "LV ejection fraction", "20", "%"),
        (B, "4", ZERO, "TTE", "lvef", "LV ejection fraction", "55", "%"),
        (B, "4", ZERO, "TTE", "e_a", "E/A ratio", "0.8", ""),
    ]
    names = ["subject_id", "measurement_id", "measurement_datetime", "test_type", "measurement",
             "measurement_description", "result", "unit"]  # fmt: skip
    text = pd.DataFrame(rows, columns=names).to_csv(index=False)
    own = tmp_path / "own"
    own.mkdir()
    for path in mimic.iterdir():
        (own / path.name).symlink_to(path)
    (own / "structured-measurement.csv.gz").write_bytes(gzip.compress(text.encode()))
    out = make_cohort(tmp_path / "co", [A, B])
    import_mimic_echo(own, out, views=mimic / "views.csv", measurements=True)
    table = Cohort.open(out).table("echo_measurements")
    assert table.names == ("e_a", "lvef")
    assert table.values.tolist() == [[0, 45], [pytest.approx(0.8), 55]]
    assert table.mask.tolist() == [[False, True], [True, True]]
    assert Cohort.open(out).spec.modalities["echo_measurements"].columns["lvef"].unit == "%"


def test_what_is_wrong_is_said(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, B])
    with pytest.raises(CohortError, match=r"6 cines without a view.*--views"):
        import_mimic_echo(mimic, out)
    odd = tmp_path / "views.csv"
    odd.write_text("dicom_filepath,view\na.dcm,kitchen\n")
    with pytest.raises(CohortError, match="kitchen"):
        read_views(odd)
    answer = CliRunner().invoke(
        cli, ["import", "mimic-echo", str(mimic), str(out), "--measurements"]
    )
    assert answer.exit_code == 2
    assert "structured-measurement.csv" in answer.output.replace("\n", "")
    assert Cohort.open(out).spec.modalities == {}
