from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.cohort.readers.bag import read_bag
from analysis.cohort.readers.events import Code, read_codes, read_events
from analysis.cohort.readers.table import read_table
from analysis.cohort.schema import CohortError, Column
from analysis.cohort.write import write_bag, write_meds, write_table

NOON = pd.Timestamp("2021-03-04 12:00:00")


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": [2, 1, 2, 1, 1],
            "time": [NOON, pd.NaT, NOON - pd.Timedelta(days=1), NOON, NOON],
            "code": ["B", "SEX", "A", "second", "third"],
            "numeric_value": [1.5, None, 2.5, None, 4.0],
            "text_value": [None, None, "high", None, None],
        }
    )


def test_meds_shards_sorted_with_static_first_and_ties_in_file_order(tmp_path: Path) -> None:
    write_meds(tmp_path / "ehr", rows(), pd.DataFrame({"code": ["A"], "parent_codes": [["X/1"]]}))
    table = read_events(tmp_path / "ehr")
    assert table.subject_ids.tolist() == [1, 2]
    one = table.subject(1)
    assert one.code == ("SEX", "second", "third")
    assert np.isnat(one.time[0])
    assert one.time[1] == np.datetime64(NOON)
    assert np.isnan(one.value[1])
    assert one.value[2] == 4.0
    two = table.subject(2)
    assert two.code == ("A", "B")
    assert two.text == ("high", None)
    assert table.subject(99).code == ()
    codes = read_codes(tmp_path / "ehr")
    assert codes["A"] == Code("", ("X/1",))
    assert set(codes) == {"A", "B", "SEX", "second", "third"}  # MEDS 0.4: every code listed


def test_old_dialect_reads_the_same(tmp_path: Path) -> None:
    write_meds(tmp_path / "new", rows(), pd.DataFrame({"code": []}))
    old = rows().rename(columns={"numeric_value": "value"}).drop(columns="text_value")
    old["table"] = "lab"
    schema = pa.schema(
        [
            ("subject_id", pa.int32()),
            ("time", pa.timestamp("ns")),
            ("code", pa.dictionary(pa.int32(), pa.string())),
            ("value", pa.float64()),
            ("table", pa.string()),
        ]
    )
    pq.write_table(pa.Table.from_pandas(old, schema), tmp_path / "events.parquet")
    new, other = read_events(tmp_path / "new"), read_events(tmp_path / "events.parquet")
    assert not other.sorted_on_disk
    assert new.sorted_on_disk
    for subject in (1, 2):
        a, b = new.subject(subject), other.subject(subject)
        assert a.code == b.code
        np.testing.assert_array_equal(a.time, b.time)
        np.testing.assert_array_equal(a.value, b.value)


def test_times_with_a_zone_are_utc(tmp_path: Path) -> None:
    frame = rows()
    frame["time"] = pd.to_datetime(frame["time"]).dt.tz_localize("Europe/Berlin")
    frame.to_parquet(tmp_path / "events.parquet")
    time = read_events(tmp_path / "events.parquet").subject(1).time
    assert time[1] == np.datetime64("2021-03-04T11:00:00")


def test_a_subject_in_two_shards_is_joined(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    frame = rows()
    frame.iloc[:3].to_parquet(tmp_path / "data" / "1.parquet")
    frame.iloc[3:].to_parquet(tmp_path / "data" / "0.parquet")
    table = read_events(tmp_path)
    assert table.subject(1).code == ("SEX", "second", "third")
    assert table.subject(2).code == ("A", "B")


def test_real_meds_demo(real_data) -> None:
    path = real_data("mimic_iv_demo_meds/events.parquet")
    table = read_events(path)
    assert (len(table), len(table.subject_ids), len(table.codes)) == (916_166, 100, 7_035)
    raw = pq.read_table(path, filters=[("subject_id", "=", 10000032)]).to_pandas()
    assert raw["time"].isna().iloc[-1]  # static events come last in this file, first here
    raw = raw.sort_values("time", kind="stable", na_position="first")
    events = table.subject(10000032)
    assert list(events.code) == raw["code"].tolist()
    np.testing.assert_array_equal(events.value, raw["value"].to_numpy(np.float32))
    assert sum(table.codes[i] == "MEDS_DEATH" for i in table.code_index) == 31


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="code"), "'code' is missing"),
        (lambda f: f.assign(time="yesterday"), "'time' holds"),
        (lambda f: f.assign(subject_id="P1"), "'subject_id' holds"),
        (lambda f: f.assign(numeric_value="high"), "'numeric_value' holds"),
        (lambda f: f.assign(code=[None, "a", "b", "c", "d"]), "'code' is empty in 1 rows"),
    ],
)
def test_bad_event_columns_are_named(tmp_path: Path, change, says: str) -> None:
    change(rows()).to_parquet(tmp_path / "events.parquet")
    with pytest.raises(CohortError, match=says):
        read_events(tmp_path / "events.parquet")


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    rows().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CohortError, match="not readable"):
        read_events(path)
    path.write_bytes(b"")
    with pytest.raises(CohortError, match="empty"):
        read_events(path)
    with pytest.raises(CohortError, match="no event files"):
        read_events(tmp_path / "nowhere")


COLUMNS = {
    "site": Column(kind="nominal", categories=("tongue", "larynx")),
    "sodium": Column(unit="mmol/L"),
}


def test_table_by_spec_order_and_csv_alike(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"subject_id": [9, 3], "sodium": [None, 141.5], "site": ["larynx", None], "other": [1, 2]}
    )
    write_table(tmp_path / "t.parquet", frame, COLUMNS)
    frame.to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.parquet", "t.csv"):
        table = read_table(tmp_path / name, COLUMNS)
        assert table.names == ("site", "sodium")
        assert table.subject_ids.tolist() == [3, 9]
        assert table.values.tolist() == [[0, 141.5], [1, 0]]
        assert table.mask.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ({"subject_id": [1], "site": ["ear"], "sodium": [1.0]}, "'ear', which is not among"),
        ({"subject_id": [1], "site": ["tongue"], "sodium": ["low"]}, "'sodium' holds text"),
        ({"subject_id": [1], "site": ["tongue"], "sodium": [np.inf]}, "infinite"),
        ({"subject_id": [1, 1], "site": "tongue", "sodium": 1.0}, "more than one row"),
        ({"subject_id": [1.5], "site": "tongue", "sodium": 1.0}, "int64"),
        ({"subject_id": [1], "site": "tongue"}, "'sodium' is missing"),
    ],
)
def test_bad_tables(tmp_path: Path, frame: dict, says: str) -> None:
    pd.DataFrame(frame).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CohortError, match=says):
        read_table(tmp_path / "t.parquet", COLUMNS)


def test_bag_rows_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "bag.parquet"
    bag = pd.DataFrame({"subject_id": [5, 2, 5], "instance": ["b", "x", "a"]})
    bag["features"] = [[1.0, 2], [3, 4], [5, 6]]
    write_bag(path, bag)
    read = read_bag(path, 2)
    assert read.instances == ("x", "a", "b")
    assert read.features[read.rows(5)].tolist() == [[5, 6], [1, 2]]
    assert read.features[read.rows(3)].shape == (0, 2)
    with pytest.raises(CohortError, match="not 3 wide"):
        read_bag(path, 3)
    bag["features"] = [[1.0, np.nan], [3, 4], [5, 6]]
    bag.to_parquet(path)
    with pytest.raises(CohortError, match="NaN"):
        read_bag(path, 2)
    bag["features"] = [[1.0], [3, 4], None]
    bag.to_parquet(path)
    with pytest.raises(CohortError, match="2 instances are not 2 wide"):
        read_bag(path, 2)
