from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.hancock import import_hancock
from analysis.cohort.importers.hancock_columns import BLOOD, CLINICAL, PATHOLOGICAL
from analysis.cohort.schema import CohortError

N = 60


def make_source(folder: Path) -> Path:
    """Tables as HANCOCK publishes them, small and random."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    ids = [f"{i:03d}" for i in range(1, N + 1)]

    def save(name: str, columns: dict[str, object], keep: int = N) -> None:
        frame = pd.DataFrame({"patient_id": ids, **columns})
        frame.iloc[:keep].to_csv(folder / f"{name}.csv", index=False)

    save("clinical", {name: rng.integers(0, 2, N) for name in CLINICAL})
    patho = {name: rng.integers(0, 2, N).astype(float) for name in PATHOLOGICAL}
    patho["pN_stage"] = np.where(np.arange(N) % 2, 0, 6)
    patho["grading"] = np.resize([0, 1, 2, 3], N)
    patho["primary_tumor_site"] = np.resize([0, 1, 2, 3, 4], N)
    patho["perinodal_invasion"][5] = np.nan
    save("pathological", patho)
    save("blood", {name: rng.normal(10, 1, N) for name in BLOOD}, keep=50)
    save("icd_codes", {"c020": rng.integers(0, 3, N), "c770": 0})
    save("tma_cell_density", dict.fromkeys(("cd3_z", "cd3_inv", "cd8_z", "cd8_inv"), 5.5))
    days = np.arange(100, 100 + N)
    free = days - 10
    free[[3, 7]] = -4, -50
    save(
        "targets",
        {
            "recurrence": "no",
            "survival_status": np.where(np.arange(N) % 3 == 0, "deceased", "living"),
            "days_to_last_information": days,
            "rfs_event": (np.arange(N) % 2),
            "days_to_rfs_event": free,
        },
    )
    for stain, some in (("CD3", ids), ("HE", ids[:40])):
        vectors = {key: np.full(512, int(key), np.float32) for key in some}
        np.savez(folder / f"tma_tile_dtr_256_{stain}.npz", **vectors)
    return folder


def test_import_of_a_small_source(tmp_path: Path) -> None:
    said: list[str] = []
    source = make_source(tmp_path / "src")
    cohort = import_hancock(source, tmp_path / "out", folds=4, progress=said.append)
    assert any("004, 008" in line for line in said)
    assert "004, 008" in cohort.spec.description
    assert [p for p in check_cohort(tmp_path / "out") if p.severity == "error"] == []

    alive = cohort.outcomes("overall_survival", cohort.subject_ids())
    assert len(alive) == N
    assert alive.time_days is not None
    assert alive.event is not None
    assert alive.time_days[:2].tolist() == [100, 101]
    assert alive.event[:4].tolist() == [True, False, False, True]
    free = cohort.outcomes("recurrence_free_survival", cohort.subject_ids())
    assert free.without == (4, 8)
    assert free.time_days is not None
    assert free.time_days.min() > 0
    # Nobody is followed for three years: the dead have a label, the living are left out.
    within = cohort.outcomes("death_within_3_years", cohort.subject_ids())
    assert within.subject_ids.tolist() == alive.subject_ids[alive.event].tolist()
    assert within.label is not None
    assert (within.label == 1).all()

    table = cohort.table("pathological")
    stage = table.names.index("pN_stage")
    assert table.values[0, stage] == 5  # N2b
    assert not table.mask[1, stage]  # NX: not assessed
    categories = cohort.spec.modalities["pathological"].columns["pN_stage"].categories
    assert categories[5] == "N2b"
    grade = table.names.index("grading")
    assert table.mask[:4, grade].tolist() == [True, True, True, False]
    site = table.names.index("primary_tumor_site")
    assert table.values[4, site] == 4
    assert not table.mask[5, table.names.index("perinodal_invasion")]
    assert cohort.spec.modalities["blood"].columns["Hemoglobin [Mass/volume] in Blood"].unit
    assert cohort.spec.modalities["icd_codes"].columns["c020"].title == "ICD-10 C02.0"

    frame = cohort.availability()
    assert frame["blood"].sum() == 50
    assert frame["tma"].all()
    bag = cohort.bag("tma")
    assert bag.instances[bag.rows(7)] == ("CD3", "HE")
    assert bag.instances[bag.rows(50)] == ("CD3",)
    assert (bag.features[bag.rows(7)] == 7).all()
    assert cohort.subjects.loc[7, "source_id"] == "007"


def test_splits_and_folds_are_stratified_and_repeatable(tmp_path: Path) -> None:
    source = make_source(tmp_path / "src")
    a = import_hancock(source, tmp_path / "a", folds=5, seed=1)
    b = import_hancock(source, tmp_path / "b", folds=5, seed=1)
    c = import_hancock(source, tmp_path / "c", folds=5, seed=2)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    pd.testing.assert_frame_equal(a.subjects, b.subjects)
    assert a.folds is not None
    outcomes = a.outcomes("overall_survival", a.subject_ids())
    assert outcomes.event is not None
    dead = pd.Series(outcomes.event, index=outcomes.subject_ids)
    assert dead.groupby(a.folds).sum().tolist() == [4] * 5
    assert a.folds.value_counts().tolist() == [12] * 5
    sizes = a.subjects["split"].value_counts()
    assert (sizes["train"], sizes["tuning"], sizes["internal"]) == (38, 10, 12)
    assert dead.groupby(a.subjects["split"]).mean().between(0.28, 0.37).all()


def drop(name: str, column: str):
    def change(folder: Path) -> None:
        frame = pd.read_csv(folder / name, dtype={"patient_id": str})
        frame.drop(columns=column).to_csv(folder / name, index=False)

    return change


def put(name: str, column: str, value: object):
    def change(folder: Path) -> None:
        frame = pd.read_csv(folder / name, dtype={"patient_id": str}).astype({column: object})
        frame.loc[2, column] = value
        frame.to_csv(folder / name, index=False)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "blood.csv").unlink(), "blood.csv: there is no such file"),
        (drop("clinical.csv", "sex"), "clinical.csv: column 'sex' is missing"),
        (drop("targets.csv", "rfs_event"), "targets.csv: column 'rfs_event' is missing"),
        (put("targets.csv", "survival_status", "lost"), "'survival_status' holds 'lost'"),
        (put("targets.csv", "days_to_last_information", -1), "is negative for patient 3"),
        (put("targets.csv", "days_to_rfs_event", "soon"), "'days_to_rfs_event' is not a number"),
        (put("targets.csv", "rfs_event", 5), "'rfs_event' holds other values"),
        (put("clinical.csv", "patient_id", "004"), "patient_id 4 occurs twice"),
        (put("clinical.csv", "patient_id", "X"), "patient_id 'X' is not a number"),
        (put("pathological.csv", "grading", 9), "'grading' holds 9 for patient 3"),
        (put("clinical.csv", "primarily_metastasis", 4), "'primarily_metastasis' holds 4"),
        (put("blood.csv", next(iter(BLOOD)), "high"), "holds text"),
        (lambda f: (f / "tma_tile_dtr_256_HE.npz").write_bytes(b"cut"), "HE.npz: not readable"),
        (
            lambda f: np.savez(f / "tma_tile_dtr_256_HE.npz", **{"001": np.zeros(3)}),
            "HE.npz: entry '001' is not",
        ),
        (lambda f: [p.unlink() for p in f.glob("*.npz")], "there is no tma_tile"),
    ],
)
def test_bad_sources_leave_nothing_behind(tmp_path: Path, change, says: str) -> None:
    source = make_source(tmp_path / "src")
    change(source)
    with pytest.raises(CohortError, match=says):
        import_hancock(source, tmp_path / "out", folds=4)
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


def test_too_many_folds_and_a_used_folder(tmp_path: Path) -> None:
    source = make_source(tmp_path / "src")
    with pytest.raises(CohortError, match="choose 2 to 20"):
        import_hancock(source, tmp_path / "out", folds=21)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(CohortError, match="not empty"):
        import_hancock(source, tmp_path / "out", folds=4)
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_real_hancock(real_data, tmp_path: Path) -> None:
    source = real_data("hancock")
    cohort = import_hancock(source, tmp_path / "out")
    assert isinstance(cohort, Cohort)
    # Nine patients of the published table have one and the same blood count, to the last digit.
    (filled_in,) = check_cohort(tmp_path / "out")
    assert filled_in.severity == "warning"
    assert filled_in.file == "tables/blood.parquet"
    assert "9 of 692 rows agree" in filled_in.what
    assert cohort.availability().sum().to_dict() == {
        "clinical": 763,
        "pathological": 763,
        "blood": 692,
        "icd_codes": 712,
        "tma_cell_density": 736,
        "tma": 760,
    }
    alive = cohort.outcomes("overall_survival", cohort.subject_ids())
    assert alive.event is not None
    assert int(alive.event.sum()) == 213
    free = cohort.outcomes("recurrence_free_survival", cohort.subject_ids())
    assert len(free.without) == 10
    assert cohort.folds is not None
    assert sorted(cohort.folds.unique()) == list(range(10))
    within = cohort.outcomes("death_within_3_years", cohort.subject_ids())
    assert within.label is not None
    assert (len(within), int(within.label.sum()), len(within.without)) == (550, 139, 213)
    assert alive.time_days is not None
    days = dict(zip(alive.subject_ids.tolist(), alive.time_days, strict=True))
    dead = set(alive.subject_ids[alive.event].tolist())
    assert all(days[i] <= 1095 and i not in dead for i in within.without)
    chosen = pd.Series(within.label, index=within.subject_ids)
    assert set(chosen.groupby(cohort.folds).sum()) <= {13, 14}
    # the reading of the integer codes rests on these two coincidences
    raw = pd.read_csv(source / "pathological.csv")
    table = cohort.table("pathological")
    nodes = raw["number_of_positive_lymph_nodes"].notna().to_numpy()
    assert (table.mask[:, table.names.index("pN_stage")] == nodes).all()
    positive = (raw["hpv_association_p16"] == 2).to_numpy()
    assert (~table.mask[:, table.names.index("grading")] == positive).all()
