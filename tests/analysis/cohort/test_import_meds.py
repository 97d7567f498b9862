"""A record as a cohort: time zero, outcomes and last values, solved by hand and by pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, EventReading, fit_vocabulary
from analysis.cohort.importers.codes import CodeSet
from analysis.cohort.importers.meds import import_meds
from analysis.cohort.importers.study import Study
from analysis.cohort.importers.table import import_table
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_meds

DAY = pd.Timedelta(days=1)
Row = tuple[int, str | None, str, float | None]
# Forty more people, so that every split has both kinds; ids from 100.
CROWD: list[Row] = [
    row
    for i in range(100, 140)
    for row in (
        (i, "1950-01-01", "MEDS_BIRTH", None),
        (i, None, "GENDER//F" if i % 2 else "GENDER//M", None),
        (i, "2010-01-01 08:00", "ADMISSION//ER", None),
        (i, "2010-01-01 09:00", "LAB//K", 4.0),
        (i, "2010-03-01 08:00", "VISIT" if i % 4 < 2 else "MEDS_DEATH", None),
        (i, "2010-02-01 08:00", "STROKE" if i % 4 in (1, 2) else "VISIT", None),
        (i, "2012-03-01 08:00", "VISIT" if i % 4 < 2 else "LATE BILL", None),
    )
]
DEATH = {"title": "Death", "codes": ["MEDS_DEATH"]}


def study(tasks: dict[str, Any] | None = None, **more: Any) -> Study:
    given = {"index": {"codes": ["ADMISSION*"]}, "tasks": tasks or {"death": DEATH}, **more}
    return Study.model_validate({"name": "mine", "title": "Mine", **given})


def frame_of(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
    frame["time"] = pd.to_datetime(frame["time"], format="ISO8601").astype("datetime64[us]")
    frame["numeric_value"] = frame["numeric_value"].astype("float64")
    return frame


def record(home: Path, rows: list[Row]) -> Path:
    folder = home / "record"
    codes = pd.DataFrame({"code": ["LAB//K"], "description": ["Potassium"]})
    return write_meds(folder, frame_of([*rows, *CROWD]), codes)


def build(home: Path, rows: list[Row], known: Study, **how: Any) -> Cohort:
    import_meds(record(home, rows), home / "out", known, **how)
    return Cohort.open(home / "out")


def told(cohort: Cohort, task: str = "death") -> dict[int, tuple[float, ...]]:
    """What is known of the people in question, (days, event) or (label,)."""
    found = cohort.outcomes(task, cohort.subject_ids(task=task))
    if found.label is not None:
        pairs = zip(found.subject_ids, found.label, strict=True)
        return {int(i): (int(label),) for i, label in pairs if i < 100}
    rows = zip(found.subject_ids, found.time_days, found.event, strict=True)
    return {int(i): (float(t), int(e)) for i, t, e in rows if i < 100}


def rows_of(cohort: Cohort, subject: int) -> list[tuple[str, str]]:
    """The events of a subject in an order that does not depend on the file's."""
    events = cohort.events("ehr").subject(subject)
    return sorted(zip(events.time.astype(str), events.code, strict=True))


ADMITTED = "2020-05-01 10:00"


def test_time_zero_is_the_first_event_of_a_code_or_the_last(tmp_path: Path) -> None:
    rows: list[Row] = [
        (1, "1960-05-01 10:00", "MEDS_BIRTH", None),
        (1, ADMITTED, "ADMISSION//ER", None),
        (1, "2021-05-01 10:00", "ADMISSION//WARD", None),
        (1, "2021-06-01", "VISIT", None),
        (2, "2020-06-01", "VISIT", None),  # never admitted
        (3, None, "ADMISSION//ER", None),  # without a date
    ]
    notes: list[str] = []
    first = build(tmp_path, rows, study(), note=notes.append)
    assert first.subjects.index[:2].tolist() == [1, 100]
    assert first.subjects.loc[1, "index_time"] == pd.Timestamp(ADMITTED)
    assert first.subjects.loc[1, "age_years"] == pytest.approx(60, abs=0.01)
    assert first.subjects.loc[100, "sex"] == "male"
    assert "2 persons have no time zero and are not in the cohort." in notes
    last = study(index={"codes": ["ADMISSION*"], "which": "last", "plus_hours": 24})
    import_meds(tmp_path / "record", tmp_path / "last", last)
    zero = Cohort.open(tmp_path / "last").subjects["index_time"]
    assert zero[1] == pd.Timestamp("2021-05-02 10:00")
    assert zero[100] == pd.Timestamp("2010-01-02 08:00")


def test_death_and_the_end_of_the_record(tmp_path: Path) -> None:
    rows: list[Row] = [(i, ADMITTED, "ADMISSION//ER", None) for i in range(1, 8)]
    rows += [
        (1, "2020-05-04 10:00", "MEDS_DEATH", None),
        (1, "2020-07-01", "BILL", None),  # entered after death
        (2, "2020-05-11 10:00", "VISIT", None),
        (3, "2020-05-01", "MEDS_DEATH", None),  # a bare date: some moment of the day of time zero
        (4, "2020-05-03", "MEDS_DEATH", None),
        (5, "2020-04-30 23:00", "MEDS_DEATH", None),
        (7, "2020-04-30", "MEDS_DEATH", None),  # the day before
        # 6: nothing after time zero
    ]
    notes: list[str] = []
    cohort = build(tmp_path, rows, study(), note=notes.append)
    assert told(cohort) == {
        1: (3, 1),
        2: (10, 0),
        3: (0.5, 1),
        4: (pytest.approx(38 / 24), 1),
    }
    assert "2 persons died before time zero and are not in the cohort." in notes
    assert "death: 1 were not followed after time zero and are left out." in notes
    assert 6 in cohort.subjects.index
    assert not {5, 7} & set(cohort.subjects.index)


def test_events_that_came_before_and_after(tmp_path: Path) -> None:
    stroke = {"title": "Stroke", "codes": ["STROKE*"]}
    tasks = {
        "first": stroke,
        "any": {**stroke, "again": True},
        "clinic": {**stroke, "until": ["SEEN"]},
    }
    rows: list[Row] = [(i, ADMITTED, "ADMISSION//ER", None) for i in range(1, 6)]
    rows += [
        (1, "2020-05-03 10:00", "STROKE//I63", None),
        (1, "2020-05-09 10:00", "STROKE//I63", None),
        (2, "2019-01-01", "STROKE//I61", None),  # before
        (2, "2020-05-06 10:00", "STROKE//I63", None),
        (3, "2020-05-02 10:00", "SEEN", None),
        (3, "2020-05-05 10:00", "SEEN", None),
        (3, "2020-06-20 10:00", "VISIT", None),
        (4, "2020-05-03 10:00", "MEDS_DEATH", None),
        (4, "2020-05-08 10:00", "STROKE//I63", None),  # a bill, five days after death
        (5, None, "STROKE//history", None),  # static: a fact without a date is no event
        (5, "2020-05-02 10:00", "SEEN", None),
    ]
    crowd: list[Row] = [(i, "2011-01-01", "SEEN", None) for i in range(100, 140)]
    notes: list[str] = []
    cohort = build(tmp_path, [*rows, *crowd], study(tasks), note=notes.append)
    fifty = (pytest.approx(50), 0)
    assert told(cohort, "first") == {1: (2, 1), 3: fifty, 4: (2, 0), 5: (1, 0)}
    assert told(cohort, "any") == {1: (2, 1), 2: (5, 1), 3: fifty, 4: (2, 0), 5: (1, 0)}
    # 4 was never seen in the clinic.
    assert told(cohort, "clinic") == {1: (2, 1), 3: (4, 0), 5: (1, 0)}
    assert "first: 1 had the event before time zero and are left out." in notes


def test_a_class_is_whether_it_happened_by_then(tmp_path: Path) -> None:
    tasks = {
        "early": {
            "title": "Early stroke",
            "kind": "classification",
            "codes": ["STROKE"],
            "within_days": 60,
        }
    }
    rows: list[Row] = [(i, ADMITTED, "ADMISSION//ER", None) for i in range(1, 5)]
    rows += [
        (1, "2020-06-30 10:00", "STROKE", None),  # day 60
        (2, "2020-06-30 10:01", "STROKE", None),
        (3, "2020-06-29 10:00", "VISIT", None),  # followed for 59 days
        (4, "2020-06-30 10:00", "VISIT", None),
    ]
    cohort = build(tmp_path, rows, study(tasks))
    assert told(cohort, "early") == {1: (1,), 2: (0,), 4: (0,)}
    spec = cohort.spec.tasks["early"]
    assert spec.classes == ("no", "yes")
    assert spec.horizon_days == 60


@pytest.mark.parametrize("dialect", ["0.4", "old", "one file", "shards"])
def test_every_layout_gives_the_same_cohort(tmp_path: Path, dialect: str) -> None:
    rows: list[Row] = [
        (7, ADMITTED, "ADMISSION//ER", None),
        (7, "2020-05-02 10:00", "LAB//K", 3.5),
        (7, "2020-05-21 10:00", "MEDS_DEATH", None),
    ]
    expected = build(tmp_path, rows, study())
    frame = frame_of([*rows, *CROWD]).sort_values(["subject_id", "time"], na_position="first")
    other = tmp_path / "other"
    (other / "data" / "train").mkdir(parents=True)
    src = other
    if dialect == "old":
        old = frame.rename(columns={"numeric_value": "value"}).assign(table="x")
        old["time"] = old["time"].astype("datetime64[ns]")
        old.to_parquet(other / "data" / "train" / "0.parquet")
    elif dialect == "one file":
        src = other / "events.parquet"
        frame.to_parquet(src)
    else:  # the record of a person spread over three files, the last events in the first
        for at, part in enumerate(
            [frame[2::3], frame[1::3], frame[::3]] if dialect == "shards" else [frame]
        ):
            part[::-1].to_parquet(other / "data" / "train" / f"{at}.parquet")
    import_meds(src, tmp_path / "again", study())
    found = Cohort.open(tmp_path / "again")
    pd.testing.assert_frame_equal(found.subjects, expected.subjects)
    assert told(found) == told(expected) == {7: (20, 1)}
    for subject in expected.subjects.index:
        assert rows_of(found, subject) == rows_of(expected, subject)
    assert not [p for p in check_cohort(found.folder) if p.severity == "error"]


def test_nothing_after_time_zero_reaches_a_model(tmp_path: Path) -> None:
    rows: list[Row] = []
    for i in range(1, 5):
        rows += [
            (i, None, "STATIC", None),
            (i, "2020-04-01", "BEFORE", 1.0),
            (i, ADMITTED, "ADMISSION//ER", None),
            (i, "2020-05-01 10:00:00.000001", "AFTER", 2.0),
            (i, "2020-06-01", "AFTER", 2.0),
        ]
    # Died later on the day of time zero, written as the bare date, which sorts before it.
    rows += [(1, "2020-05-01", "MEDS_DEATH", None), (2, "2020-05-01", "MEDS_DEATH", None)]
    cohort = build(tmp_path, rows, study())
    vocabulary = fit_vocabulary(cohort, "ehr", cohort.subjects.index)
    assert {"STATIC", "BEFORE", "ADMISSION//ER"} <= set(vocabulary.codes)
    assert not {"AFTER", "MEDS_DEATH", "STROKE", "LATE BILL", "VISIT"} & set(vocabulary.codes)
    every = vocabulary.fit(dict.fromkeys(cohort.events("ehr").codes, 5), {}, min_patients=1)
    data = CohortDataset(cohort, cohort.subjects.index, {"ehr": EventReading(every)})
    for at in range(len(data)):
        fields = data[at].inputs["ehr"].fields
        seen = {every.code(int(i)) for i in fields["codes"][0]}
        assert seen <= {
            "STATIC",
            "BEFORE",
            "ADMISSION//ER",
            "LAB//K",
            "MEDS_BIRTH",
            "GENDER//F",
            "GENDER//M",
        }
        assert "LAB//K" not in seen
        assert float(fields["days_before"].min()) >= 0
    assert told(cohort)[1] == (0.5, 1)


def test_splits_of_the_data_set(tmp_path: Path) -> None:
    src = record(tmp_path, [])
    (src / "metadata").mkdir(exist_ok=True)
    names = ["train", "tuning", "held_out"]
    given = pd.DataFrame(
        {"subject_id": range(100, 140), "split": [names[i // 4 % 3] for i in range(40)]}
    )
    given.to_parquet(src / "metadata" / "subject_splits.parquet")
    import_meds(src, tmp_path / "out", study())
    found = Cohort.open(tmp_path / "out").subjects["split"]
    assert found.tolist() == given["split"].replace("held_out", "internal").tolist()
    given.replace("tuning", "dev").to_parquet(src / "metadata" / "subject_splits.parquet")
    with pytest.raises(CohortError, match="'dev' is no known split; say what it means under split"):
        import_meds(src, tmp_path / "b", study())
    import_meds(src, tmp_path / "b", study(split={"values": {"dev": "tuning"}}))
    assert Cohort.open(tmp_path / "b").subjects["split"].tolist() == found.tolist()
    given[:-1].to_parquet(src / "metadata" / "subject_splits.parquet")
    with pytest.raises(CohortError, match="is empty in 1 rows"):
        import_meds(src, tmp_path / "c", study())
    pd.concat([given, given[:1]]).to_parquet(src / "metadata" / "subject_splits.parquet")
    with pytest.raises(CohortError, match="subject 100 has two splits"):
        import_meds(src, tmp_path / "c", study())
    with pytest.raises(CohortError, match=r"split\.column names a column of a table"):
        import_meds(src, tmp_path / "c", study(split={"column": "x"}))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (study(index={"codes": ["NOWHERE*"]}), "nobody has an event NOWHERE*; correct index.codes"),
        (study(index={"column": "scan"}), "needs time zero as index.codes in study.yaml"),
        (study({"d": {"title": "D", "codes": ["X"]}}), "task 'd': no event X after time zero"),
        (
            study({"d": {"title": "D", "time": "t", "event": "e", "happened": [1]}}),
            "lies in columns of a table; import that first",
        ),
        (
            study({"a": DEATH, "d": {"title": "D", "time": "t", "event": "e", "happened": [1]}}),
            "one source makes a cohort; keep the tasks of one of them",
        ),
        (study(split={"external": ["x"]}), "split.external names sites, which a record does not"),
    ],
)
def test_a_study_that_does_not_fit_leaves_nothing(tmp_path: Path, known: Study, said: str) -> None:
    with pytest.raises(CohortError) as error:
        build(tmp_path, [], known)
    assert said in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["record"]


def test_codes_by_pattern() -> None:
    codes = ["LAB//1//mg", "LAB//1", "LABS//1//mg", "lab//1//mg", "a.c", "abc"]
    assert CodeSet(["LAB//*"]).of(codes).tolist() == [True, True, False, False, False, False]
    assert CodeSet(["a.c"]).of(codes).tolist() == [False] * 4 + [True, False]
    assert CodeSet(["*//mg", "abc"]).of(codes).tolist() == [True, False, True, True, False, True]


# ---------------------------------------------------------------- last values


def measured(**values: Any) -> Study:
    return study(modalities={"labs": {"title": "Blood", "values": values}})


def random_labs(seed: int = 1) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [
        (
            int(i),
            str(pd.Timestamp("2009-12-01") + pd.Timedelta(hours=int(h))),
            f"LAB//{c}",
            float(v),
        )
        for i in range(100, 140)
        for h, c, v in zip(
            rng.choice(24 * 60, 20, replace=False),
            rng.choice(["Na", "Cl", "pH"], 20),
            rng.normal(size=20),
            strict=True,
        )
    ]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("within", [None, 7.0])
def test_the_last_value_by_time_zero_is_that_of_pandas(
    tmp_path: Path, shards: int, within: float | None
) -> None:
    labs = random_labs()
    src = record(tmp_path, [*labs, (100, "2009-12-20", "LAB//Na", np.nan)])
    if shards > 1:  # the latest rows first: files are no order in time
        frame = pd.read_parquet(src / "data" / "0.parquet").sort_values("time", ascending=False)
        for at in range(shards):
            frame[at::shards].to_parquet(src / "data" / f"{at}.parquet")
    wanted = {name: {"codes": [f"LAB//{name}"], "within_days": within} for name in ("Na", "Cl")}
    known = measured(**{name.lower(): value for name, value in wanted.items()})
    import_meds(src, tmp_path / "out", known)
    import_meds(src, tmp_path / "out", known, name="labs")
    cohort = Cohort.open(tmp_path / "out")
    table = cohort.table("labs")
    mine = pd.DataFrame(np.where(table.mask, table.values, np.nan), table.subject_ids, ["na", "cl"])
    events = frame_of(labs).sort_values("time")
    zero = cohort.subjects["index_time"].reset_index().sort_values("index_time")
    for name in ("Na", "Cl"):
        theirs = pd.merge_asof(
            zero,
            events[events["code"] == f"LAB//{name}"],
            left_on="index_time",
            right_on="time",
            by="subject_id",
            tolerance=None if within is None else within * DAY,
        ).set_index("subject_id")["numeric_value"]
        found = mine[name.lower()].reindex(theirs.index)
        np.testing.assert_array_equal(found, theirs.astype("float32"))
        assert theirs.notna().any()
        assert within is None or theirs.isna().any()


def test_several_codes_and_patterns_are_one_measurement(tmp_path: Path) -> None:
    rows: list[Row] = [
        (100, "2009-12-01", "LAB//Na//mmol", 141.0),
        (100, "2009-12-02", "LAB//Na//serum", 142.0),
        (101, "2009-12-01", "POC//Na", 130.0),
        (102, "2010-02-01", "POC//Na", 99.0),  # after time zero
    ]
    known = measured(na={"codes": ["LAB//Na//*", "POC//Na"], "unit": "mmol/L", "title": "Sodium"})
    cohort = build(tmp_path, rows, known)
    import_meds(tmp_path / "record", cohort.folder, known, name="labs")
    cohort = Cohort.open(cohort.folder)
    assert cohort.table("labs").subject_ids.tolist() == [100, 101]
    assert cohort.table("labs").values[:, 0].tolist() == [142, 130]
    assert cohort.spec.modalities["labs"].columns["na"].unit == "mmol/L"
    for values, said in (
        (
            {"na": {"codes": ["LAB//Natrium*"]}},
            r"code 'LAB//Natrium\*' of modalities.labs.values.na",
        ),
        ({"na": {"codes": ["VISIT"]}}, "nobody in the cohort has a value of 'labs' by time zero"),
    ):
        with pytest.raises(CohortError, match=said):
            import_meds(
                tmp_path / "record", cohort.folder, measured(**values), name="labs", replace=True
            )
    assert Cohort.open(cohort.folder).spec == cohort.spec


def test_a_record_joins_a_cohort_made_of_a_table(tmp_path: Path) -> None:
    src = record(tmp_path, random_labs())
    people = pd.DataFrame({"mrn": range(105, 150), "scan": "2010-01-20", "t": 9.0})
    people["e"] = people["mrn"] % 2
    people.to_csv(tmp_path / "people.csv", index=False)
    known = study(
        {"death": {"title": "Death", "time": "t", "event": "e", "happened": [1]}},
        columns={"id": "mrn"},
        index={"column": "scan"},
    )
    import_table(tmp_path / "people.csv", tmp_path / "out", known)
    notes: list[str] = []
    import_meds(src, tmp_path / "out", known, note=notes.append)
    cohort = Cohort.open(tmp_path / "out")
    assert cohort.having("ehr").tolist() == list(range(105, 140))
    assert set(cohort.events("ehr").subject_ids) == set(range(105, 140))
    assert (
        "ehr: 35 of 45 patients of the cohort, 10 without; 5 of the source are not in the cohort "
        "and were left out." in notes
    )
    codes = pq.read_table(cohort.path("ehr") / "metadata" / "codes.parquet").to_pandas()
    assert codes.set_index("code")["description"].dropna().to_dict() == {"LAB//K": "Potassium"}
    assert codes["code"].tolist() == sorted(set(cohort.events("ehr").codes))


def test_a_record_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="there are no event files"):
        import_meds(tmp_path, tmp_path / "out", study())
    pq.write_table(pa.table({"subject_id": [1], "code": ["x"]}), tmp_path / "e.parquet")
    with pytest.raises(CohortError, match="column 'time' is missing"):
        import_meds(tmp_path / "e.parquet", tmp_path / "out", study())
    assert not (tmp_path / "out").exists()
