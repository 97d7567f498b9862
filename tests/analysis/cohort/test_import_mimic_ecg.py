"""MIMIC-IV-ECG joins a cohort: the last ECG by the end of the index day, leads by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_add import How
from analysis.cohort.importers.mimic_ecg import import_mimic_ecg, measurements_of
from analysis.cohort.readers.signal import read_signal
from analysis.cohort.schema import CohortError
from app.cli import cli
from tests.analysis.cohort.imaging_sources import ZERO, ecg, holding, make_cohort, subject_of

KEY = b"0123456789abcdef0123456789abcdef"
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
A, B, C = "10000032", "10000117", "10000980"
HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
# Subject, study, time: A two before and one after, B one on the day, C only later.
STUDIES = [
    (A, "40000001", ZERO - 9 * DAY),
    (A, "40000002", ZERO - 2 * DAY),
    (A, "40000003", ZERO + DAY),
    (B, "40000004", ZERO + HOUR),
    (C, "40000005", ZERO + 5 * DAY),
    ("19999999", "40000006", ZERO),
]


def source(root: Path) -> Path:
    """record_list.csv, files/ and machine_measurements.csv as PhysioNet has them."""
    rows = []
    for at, (subject, study, time) in enumerate(STUDIES):
        place = f"files/p{subject[:4]}/p{subject}/s{study}/{study}"
        ecg(root / f"{place}.hea", at, MIMIC_LEADS)
        rows.append((subject, study, study, f"{time:%Y-%m-%d %H:%M:%S}", place))
    names = ["subject_id", "study_id", "file_name", "ecg_time", "path"]
    pd.DataFrame(rows, columns=names).to_csv(root / "record_list.csv", index=False)
    measured = pd.DataFrame([(*row[:2], 7, row[3]) for row in rows])
    measured.columns = ["subject_id", "study_id", "cart_id", "ecg_time"]
    for at in range(18):
        measured[f"report_{at}"] = "Sinus rhythm" if at == 0 else None
    numbers = {
        "bandwidth": "0.005-150 Hz", "filtering": "60 Hz notch", "rr_interval": 800,
        "p_onset": 40, "p_end": 140, "qrs_onset": 200, "qrs_end": 290, "t_end": 600,
        "p_axis": 51, "qrs_axis": -30, "t_axis": 29999,
    }  # fmt: skip
    measured = measured.assign(**numbers)
    measured.loc[1, ["p_onset", "p_end"]] = 29999
    measured.loc[1, "rr_interval"] = 0
    measured.to_csv(root / "machine_measurements.csv", index=False)
    return root


@pytest.fixture(scope="module")
def mimic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("mimic-iv-ecg"))


def test_last_ecg_by_the_end_of_the_index_day(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, B, C])
    told: list[str] = []
    assert import_mimic_ecg(mimic, out, how=How(note=told.append)) == ["ecg"]
    cohort = Cohort.open(out)
    assert sorted(cohort.signals("ecg")) == [int(A), int(B)]
    taken = read_signal(cohort.signals("ecg")[int(A)])
    given = read_signal(mimic / f"files/p1000/p{A}/s40000002/40000002.hea")
    assert taken.leads == given.leads
    assert taken.array.shape == (12, 5000)
    np.testing.assert_allclose(taken.array, given.array, atol=1e-6)
    np.testing.assert_allclose(taken.lead("aVF"), given.lead("aVF"), atol=1e-6)
    assert not np.allclose(taken.lead("aVF"), taken.lead("aVL"))
    rows = pd.read_parquet(out / "imported/ecg/imaging.parquet")
    assert rows["acquired"].tolist() == [ZERO - 2 * DAY, ZERO + HOUR]
    assert any("1 patient with nothing but ECGs after the index day" in text for text in told)
    found = [str(p) for p in check_cohort(out, deep=True) if p.severity == "error"]
    assert [text for text in found if "without any modality" not in text] == []


def test_all_of_them_and_gaps_stay_gaps(mimic: Path, tmp_path: Path) -> None:
    root = source(tmp_path / "own")
    array = np.zeros((12, 5000))
    array[:, ::7] = 0.5
    array[3, 1000:1500] = np.nan
    from analysis.cohort.write import write_signal

    place = root / f"files/p1000/p{A}/s40000002/40000002.hea"
    write_signal(place, array, MIMIC_LEADS, 500.0)
    out = make_cohort(tmp_path / "co", [A, B, C])
    import_mimic_ecg(root, out, every=True)
    rows = pd.read_parquet(out / "imported/ecg/imaging.parquet")
    assert rows["subject_id"].value_counts().to_dict() == {int(A): 2, int(B): 1}
    taken = read_signal(Cohort.open(out).signals("ecg")[int(A)])
    assert np.isnan(taken.lead("aVR")).nonzero()[0].tolist() == list(range(1000, 1500))


def test_unreadable_or_absent_files_give_way_to_the_one_before(tmp_path: Path) -> None:
    root = source(tmp_path / "own")
    (root / f"files/p1000/p{A}/s40000002/40000002.dat").write_bytes(b"cut")
    (root / f"files/p1000/p{B}/s40000004/40000004.hea").unlink()
    out = make_cohort(tmp_path / "co", [A, B])
    told: list[str] = []
    import_mimic_ecg(root, out, how=How(note=told.append))
    rows = pd.read_parquet(out / "imported/ecg/imaging.parquet")
    assert rows["acquired"].tolist() == [ZERO - 9 * DAY]
    assert any("40000002.hea" in text for text in told)
    assert any("1 ECG listed without its file" in text for text in told)


def test_without_an_index_time_nobody_knows_what_came_before(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, B], zero=[ZERO, None])
    told: list[str] = []
    import_mimic_ecg(mimic, out, how=How(note=told.append))
    assert list(Cohort.open(out).signals("ecg")) == [int(A)]
    assert any("1 patient without an index time" in text for text in told)


def test_two_studies_of_a_person_get_the_ecg_before_each(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, A, B], zero=[ZERO, ZERO - 5 * DAY, ZERO])
    import_mimic_ecg(mimic, out)
    subjects = Cohort.open(out).subjects
    rows = pd.read_parquet(out / "imported/ecg/imaging.parquet")
    of = subjects[subjects["source_id"] == A]
    time = rows.set_index("subject_id")["acquired"]
    first, second = of.sort_values("index_time").index
    assert (time[first], time[second]) == (ZERO - 9 * DAY, ZERO - 2 * DAY)


def test_measurements_become_a_table(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", [A, B, C], KEY)
    who = Identities(KEY)
    assert import_mimic_ecg(mimic, out, measurements=True, identities=who) == [
        "ecg", "ecg_measurements",
    ]  # fmt: skip
    cohort = Cohort.open(out)
    table = cohort.table("ecg_measurements")
    a, b = (subject_of(out, s, KEY) for s in (A, B))
    for secret in (A, B, "40000002", f"{ZERO - 2 * DAY:%Y-%m-%d}", f"{ZERO - 2 * DAY:%d/%m/%Y}"):
        assert holding(out, secret) == [], secret
    by = dict(zip(table.subject_ids.tolist(), table.values.tolist(), strict=True))
    has = dict(zip(table.subject_ids.tolist(), table.mask.tolist(), strict=True))
    assert set(by) == {a, b}
    # rr, pr, p, qrs, qt, axes: T axis 29999 is missing; A's last ECG had no P wave and no rate.
    assert by[b] == [800, 160, 100, 90, 400, 51, -30, 0]
    assert has[b] == [True] * 7 + [False]
    assert has[a] == [False, False, False, True, True, True, True, False]
    assert cohort.spec.modalities["ecg_measurements"].columns["qt_interval"].unit == "ms"


def test_impossible_measurements_are_missing() -> None:
    row = {
        "rr_interval": 0, "p_onset": 0, "p_end": 120, "qrs_onset": 200, "qrs_end": 180,
        "t_end": 29999, "p_axis": 0, "qrs_axis": 361, "t_axis": -180,
    }  # fmt: skip
    made = measurements_of(pd.DataFrame([row])).iloc[0]
    assert made.dropna().to_dict() == {"p_axis": 0.0, "t_axis": -180.0}


def test_what_is_wrong_is_said(mimic: Path, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "co", ["5"])
    with pytest.raises(CohortError, match="none of its 4 persons"):
        import_mimic_ecg(mimic, out)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "record_list.csv").write_text("subject_id,study_id\n5,1\n")
    answer = CliRunner().invoke(cli, ["import", "mimic-ecg", str(bare), str(out)])
    assert answer.exit_code == 2
    assert "column 'ecg_time' is missing" in answer.output.replace("\n", "")
    with pytest.raises(CohortError, match="no ECG of the cohort's patients"):
        import_mimic_ecg(mimic, make_cohort(tmp_path / "late", [C]))
