"""A table as a cohort: every way to state an outcome, against rows solved by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.outcomes import outcomes_from_columns
from analysis.cohort.importers.study import Study
from analysis.cohort.importers.table import import_table, read_any_table
from analysis.cohort.schema import CohortError
from app.cli import cli

HERE = Path("people.csv")
ZERO = pd.Timestamp("2020-01-10 12:00")


def study(task: dict[str, Any] | None = None, **more: Any) -> Study:
    told = task or {"time": "time", "event": "event", "happened": [1]}
    tasks = {"death": {"title": "Death", **told}}
    return Study.model_validate({"name": "mine", "title": "Mine", "tasks": tasks, **more})


def solve(task: dict[str, Any], **columns: list[Any]) -> list[tuple[int, ...]]:
    """Outcome rows of a small table: (subject, time in days, event) or (subject, label)."""
    frame = pd.DataFrame(columns)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="subject_id")
    zero = pd.Series(ZERO, index=frame.index)
    rows = outcomes_from_columns(study(task), frame, zero, HERE, lambda _: None)
    found = [name for name in ("time_days", "event", "label") if name in rows]
    return [tuple(row) for row in rows[["subject_id", *found]].to_numpy().tolist()]


EVENTS = {"time": "t", "event": "e"}
CLASS = {"kind": "classification", "label": "l"}


@pytest.mark.parametrize(
    ("unit", "days"),
    [("days", 2.0), ("weeks", 14), ("hours", 1 / 12), ("minutes", 2 / 1440), ("seconds", 2 / 86400),
     ("months", 60.875), ("years", 730.5)],
)  # fmt: skip
def test_units(unit: str, days: float) -> None:
    rows = solve({**EVENTS, "unit": unit, "happened": [1]}, t=[2, 4], e=[1, 0])
    assert rows == [
        (1, pytest.approx(days), 1),
        (2, pytest.approx(2 * days), 0),
    ]


@pytest.mark.parametrize(
    ("said", "cells"),
    [
        ({"happened": [1]}, [1, 0]),
        ({"happened": [1]}, [1.0, 0.0]),
        ({"happened": ["1"]}, ["1", "0"]),
        ({"censored": [0]}, [1, 0]),
        ({"censored": [1]}, [0, 1]),  # the polarity of MCAT
        ({"happened": [True]}, [True, False]),
        ({"happened": ["TRUE"]}, ["TRUE", "FALSE"]),
        ({"happened": ["Dead"]}, ["dead ", "ALIVE"]),
        ({"happened": [True]}, np.array([True, False])),
        ({"happened": ["yes"], "censored": ["no"]}, ["Yes", "No"]),
    ],
)
def test_spellings_and_polarities(said: dict[str, Any], cells: list[Any]) -> None:
    assert solve({**EVENTS, **said}, t=[5, 9], e=list(cells)) == [(1, 5, 1), (2, 9, 0)]


def test_a_patient_whose_outcome_is_not_known_is_left_out() -> None:
    rows = solve({**EVENTS, "happened": [1]}, t=[5, None, 7, 8], e=[1, 1, None, 0])
    assert rows == [(1, 5, 1), (4, 8, 0)]
    said = {"happened": ["TRUE"], "censored": ["FALSE"], "unknown": ["Censored"]}
    rows = solve({**EVENTS, **said}, t=[5, 6, 7], e=["TRUE", "Censored", "FALSE"])
    assert rows == [(1, 5, 1), (3, 7, 0)]
    rows = solve(
        {**CLASS, "classes": [False, True], "unknown": ["Censored"]},
        l=["TRUE", "Censored", "FALSE", None, ""],
    )
    assert rows == [(1, 1), (3, 0)]


def test_labels_follow_the_order_of_the_classes() -> None:
    task = {**CLASS, "classes": ["low", "Intermediate", "high"]}
    assert solve(task, l=["HIGH", "low", "intermediate"]) == [(1, 2), (2, 0), (3, 1)]
    assert solve({**CLASS, "classes": [0, 1]}, l=[1.0, 0.0]) == [(1, 1), (2, 0)]


def test_dates_count_from_time_zero() -> None:
    task = {"event_date": "died", "last_date": "seen"}
    rows = solve(
        task,
        died=["2020-01-12 12:00", None, None, "2020-01-10", "2020-01-13"],
        seen=[None, "2020-01-11 00:00", None, None, "2020-01-20"],
    )
    # 4: a bare date on the day of time zero is some moment of it: half a day.
    assert rows == [(1, 2, 1), (2, 0.5, 0), (4, 0.5, 1), (5, 2.5, 1)]
    rows = solve(task, died=["2020-01-12T13:00:00+01:00"], seen=[None])
    assert rows == [(1, 2, 1)]


@pytest.mark.parametrize(
    ("task", "columns", "said"),
    [
        ({**EVENTS, "happened": ["died"]}, {"t": [1], "e": ["dead"]}, "never holds 'died' (it hol"),
        ({**EVENTS, "censored": ["o"]}, {"t": [1, 2], "e": ["0", "1"]}, "never holds 'o' (it hold"),
        (
            {**EVENTS, "happened": [1]},
            {"t": [1, 2, 3], "e": [0, 1, 2]},
            "holds '0', '1', '2'; say under 'happened', 'censored' and 'unknown'",
        ),
        (
            {**EVENTS, "happened": [1], "censored": [0]},
            {"t": [1, 2, 3], "e": [0, 1, 9]},
            "holds '9'; say what it means under happened or censored, or list it under 'unknown'",
        ),
        ({**EVENTS, "happened": [1]}, {"t": ["1,5"], "e": [1]}, "column 't' holds '1,5', which is"),
        ({**EVENTS, "happened": [1]}, {"t": [None], "e": [1]}, "no row has an outcome"),
        ({**EVENTS, "happened": [1]}, {"tt": [1], "e": [1]}, "no column 't' (found: tt, e)"),
        ({**CLASS, "classes": [0, 1]}, {"l": [0, 2]}, "column 'l' holds '2'; say what it means"),
        (
            {"event_date": "d", "last_date": "s"},
            {"d": ["2020-01-09"], "s": [None]},
            "ends before time zero for 1 rows (first: subject 1)",
        ),
        ({"event_date": "d", "last_date": "s"}, {"d": ["10.1.2020"], "s": [None]}, "is no time"),
        ({"event_date": "d", "last_date": "s"}, {"d": [20200111], "s": [None]}, "numbers, not tim"),
    ],
)
def test_what_is_not_explained_is_refused(
    task: dict[str, Any], columns: dict[str, list[Any]], said: str
) -> None:
    with pytest.raises(CohortError) as error:
        solve(task, **columns)
    assert said in str(error.value)
    assert str(error.value).startswith("people.csv: task 'death'")


def test_several_words_may_mean_that_it_happened() -> None:
    said = {"happened": ["dead", "died"]}
    rows = solve({**EVENTS, **said}, t=[1, 2, 3], e=["dead", "died", "alive"])
    assert [row[2] for row in rows] == [1, 1, 0]


# ---------------------------------------------------------------- files


def people(n: int = 30, **columns: Any) -> pd.DataFrame:
    at = np.arange(n)
    frame = pd.DataFrame({"pid": [f"{i:04d}" for i in at], "time": at + 1.0, "event": at % 2})
    return frame.assign(sodium=130.0 + at, **columns)


IDS = {"columns": {"id": "pid"}}


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolon", "bom", "parquet"])
def test_every_format_gives_the_same_cohort(tmp_path: Path, form: str) -> None:
    file = tmp_path / {"tsv": "a.tsv", "parquet": "a.parquet"}.get(form, "a.csv")
    frame = people(grade=["I", None, "II"] * 10)
    if form == "parquet":
        frame.to_parquet(file)
    else:
        sep = {"tsv": "\t", "semicolon": ";"}.get(form, ",")
        frame.to_csv(file, index=False, sep=sep, encoding="utf-8-sig" if form == "bom" else "utf-8")
    import_table(file, tmp_path / "out", study(**IDS), name="labs")
    cohort = Cohort.open(tmp_path / "out")
    assert cohort.subjects["source_id"].tolist() == frame["pid"].tolist()  # zeros in front stay
    assert cohort.subjects.index.tolist() == list(range(1, 31))
    table = cohort.table("labs")
    np.testing.assert_array_equal(table.values[:, 0], frame["sodium"])
    columns = cohort.spec.modalities["labs"].columns
    assert columns["grade"].categories == ("I", "II")
    np.testing.assert_array_equal(table.mask[:, 1], frame["grade"].notna())
    assert "time" not in columns
    assert not [p for p in check_cohort(cohort.folder) if p.severity == "error"]


def test_who_and_where(tmp_path: Path) -> None:
    frame = people(
        40,
        event=[1] * 20 + [0] * 20,
        age=np.arange(40) + 40,
        gender=["F", "m"] * 20,
        hospital=["01", "2"] * 20,
        scanned="2020-02-03 04:05",
        fold=[1, 2, 3, 3] * 10,
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    known = study(
        columns={"id": "pid", "age_years": "age", "sex": "gender", "site": "hospital"},
        index={"column": "scanned", "plus_hours": 12},
        split={
            "column": "fold",
            "values": {1: "train", 2: "tuning", 3: "internal"},
            "external": [2],
        },
    )
    import_table(tmp_path / "a.csv", tmp_path / "out", known)
    subjects = Cohort.open(tmp_path / "out").subjects
    assert subjects["age_years"].tolist() == frame["age"].tolist()
    assert subjects["sex"].tolist() == ["female", "male"] * 20
    assert set(subjects["index_time"]) == {pd.Timestamp("2020-02-03 16:05")}
    assert subjects["split"].tolist() == ["train", "external", "internal", "external"] * 10
    assert Cohort.open(tmp_path / "out").spec.modalities == {}


def test_studies_of_a_person_stay_together(tmp_path: Path) -> None:
    frame = people(60, person=[f"p{i // 3}" for i in range(60)])
    frame.to_csv(tmp_path / "a.csv", index=False)
    known = study(columns={"id": "pid", "person": "person"})
    import_table(tmp_path / "a.csv", tmp_path / "out", known)
    subjects = Cohort.open(tmp_path / "out").subjects
    assert subjects.groupby("source_id")["split"].nunique().max() == 1
    assert set(subjects["study_id"]) == set(frame["pid"])
    assert subjects["split"].value_counts()["internal"] == 12  # 20 % of 20 persons, 3 each


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pid": ["1"] * 30}, "'1' has more than one row (29 rows too many)"),
        ({"pid": [None] + ["a"] * 29}, "column 'pid' is empty in 1 rows"),
        ({"time": [-1.0] * 30}, "with a negative time_days"),
        ({"time": [math.inf] * 30}, "missing or infinite time_days"),
        ({"event": [0] * 30}, "never holds '1' (it holds '0')"),
        ({"grade": ["low"] * 30}, "column 'grade' holds 'low', which is no number"),
    ],
)
def test_a_bad_table_leaves_nothing_behind(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    people().assign(**{"grade": 1.0, **change}).to_csv(tmp_path / "a.csv", index=False)
    columns = {"sodium": {"unit": "mmol/L"}, "grade": {"kind": "continuous"}}
    known = study(**IDS, modalities={"labs": {"columns": columns}})
    with pytest.raises(CohortError) as error:
        import_table(tmp_path / "a.csv", tmp_path / "out", known, name="labs")
    assert said in str(error.value)
    assert ".partial" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv"]


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    for content, said in (
        (b"", "no such file, or it is empty"),
        (b"a,b\n1,2,3\n", "not readable as a table"),
        (b"a,a\n1,2\n", "two columns are called 'a'; rename one"),
        ("a,b\nM\xfcller,1\n".encode("latin-1"), "column 'a' is not in UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(CohortError, match=said):
            read_any_table(file)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(CohortError, match="is not a table format"):
        read_any_table(tmp_path / "a.xlsx")


def test_an_outcome_is_no_predictor(tmp_path: Path) -> None:
    people().to_csv(tmp_path / "a.csv", index=False)
    known = study(**IDS, modalities={"labs": {"columns": {"time": {"unit": "d"}}}})
    with pytest.raises(CohortError, match="column 'time' tells an outcome and cannot be read as a"):
        import_table(tmp_path / "a.csv", tmp_path / "out", known, name="labs")


def test_columns_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    notes: list[str] = []
    people(
        born=pd.Timestamp("1950-01-01"), remark=[f"text {i}" for i in range(30)], empty=None
    ).to_csv(tmp_path / "a.csv", index=False)
    import_table(tmp_path / "a.csv", tmp_path / "out", study(**IDS), name="labs", note=notes.append)
    said = "3 columns are neither numbers nor a few categories and were left out (born"
    assert any(said in note for note in notes)
    assert list(Cohort.open(tmp_path / "out").spec.modalities["labs"].columns) == ["sodium"]


def test_kinds_of_columns(tmp_path: Path) -> None:
    people(smoker=["Yes", "no", None] * 10, stage=[3, 1, 2] * 10, arm=[2, 1, 2] * 10).to_csv(
        tmp_path / "a.csv", index=False
    )
    told = {
        "smoker": {"kind": "binary"},
        "stage": {"kind": "ordinal"},
        "arm": {"kind": "nominal", "categories": ["1", "2", "3"]},
    }
    import_table(
        tmp_path / "a.csv",
        tmp_path / "out",
        study(**IDS, modalities={"labs": {"columns": told, "title": "Habits"}}),
        name="labs",
    )
    cohort = Cohort.open(tmp_path / "out")
    assert cohort.spec.modalities["labs"].title == "Habits"
    assert cohort.table("labs").values[:3].tolist() == [[1, 3, 1], [0, 1, 0], [0, 2, 1]]
    assert cohort.table("labs").mask[:3].tolist() == [[True] * 3, [True] * 3, [False, True, True]]


def test_the_command_tells_and_refuses(tmp_path: Path) -> None:
    people().rename(columns={"pid": "patient"}).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "study.yaml").write_text(
        "name: mine\ntitle: Mine\ncolumns: {id: pid}\n"
        "tasks: {death: {title: Death, time: time, event: event, happened: [1]}}\n"
    )
    order = ["import", "table", str(tmp_path / "a.csv"), str(tmp_path / "out")]
    order += ["--study", str(tmp_path / "study.yaml")]
    refused = CliRunner().invoke(cli, order)
    assert refused.exit_code == 2
    assert "say which one has the ids under columns.id" in " ".join(refused.output.split())
    done = CliRunner().invoke(cli, [*order, "--id", "patient", "--as", "labs"])
    assert done.exit_code == 0, done.output
    assert "30 patients: 19 train, 5 tuning, 6 internal." in done.output
    again = CliRunner().invoke(cli, [*order, "--id", "patient"])
    assert again.exit_code == 2
    assert "name the modality that the table becomes with --as" in " ".join(again.output.split())


CELLS = st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False, width=32))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(
            st.floats(0, 9999, width=32), st.booleans(), CELLS, st.sampled_from(["a", "b", None])
        ),
        min_size=24,
        max_size=40,
    ),
    shift=st.integers(0, 2**40),
)
def test_any_small_table_comes_back_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], shift: int
) -> None:
    home = tmp_path_factory.mktemp("any")
    frame = pd.DataFrame(rows, columns=["time", "event", "value", "kind"]).astype(
        {"value": "float64"}
    )
    frame["pid"] = np.arange(len(frame))[::-1] * 7 + shift
    # Enough of both for every split; whatever the rest may be.
    frame.loc[:11, "event"] = [True, False] * 6
    frame.loc[:1, "value"] = 1.0
    frame["split"] = (["train"] * 4 + ["valid"] * 4 + ["test"] * 4 + ["train"] * 99)[: len(frame)]
    frame.to_csv(home / "a.csv", index=False)
    told = {"value": {}, "kind": {"kind": "nominal", "categories": ["a", "b"]}}
    known = study(
        {"time": "time", "event": "event", "happened": [True]},
        **IDS,
        split={"column": "split"},
        modalities={"labs": {"columns": told}},
    )
    import_table(home / "a.csv", home / "out", known, name="labs")
    cohort = Cohort.open(home / "out")
    by_id = frame.set_index("pid").sort_index()
    found = cohort.outcomes("death", cohort.subject_ids())
    assert found.subject_ids.tolist() == by_id.index.tolist()
    np.testing.assert_allclose(found.time_days, by_id["time"], rtol=1e-12)
    np.testing.assert_array_equal(found.event, by_id["event"])
    table = cohort.table("labs")
    back = pd.DataFrame(table.values, index=table.subject_ids).where(table.mask)
    back = back.reindex(by_id.index)
    np.testing.assert_array_equal(back[0], by_id["value"].astype("float32"))
    np.testing.assert_array_equal(back[1], by_id["kind"].map({"a": 0.0, "b": 1.0}))
