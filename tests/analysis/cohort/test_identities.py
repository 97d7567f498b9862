"""Ids and dates that are hidden: against Python's hmac, and searched for in every file."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, EventReading, TableReading, fit_vocabulary
from analysis.cohort.importers.identities import DAY_US, Identities, read_key, text_id
from analysis.cohort.importers.meds import import_meds
from analysis.cohort.importers.study import Study
from analysis.cohort.importers.table import import_table
from analysis.cohort.schema import CohortError
from analysis.cohort.write import write_meds

KEY = b"0123456789abcdef0123456789abcdef"
PEOPLE = 40
STUDY = Study.model_validate(
    {
        "name": "keyed",
        "title": "Keyed",
        "columns": {"id": "mrn", "sex": "sex"},
        "index": {"column": "scan"},
        "tasks": {
            "death": {"title": "Death", "event_date": "died", "last_date": "seen"},
        },
    }
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 people with unmistakable ids: a table of outcomes, a table of labs, a record."""
    home = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    ids = 88_000_017 + 1009 * np.arange(PEOPLE)
    scan = pd.Timestamp("2003-04-05 06:07:08.009") + pd.to_timedelta(
        rng.integers(0, 900, PEOPLE), "D"
    )
    after = scan + pd.to_timedelta(rng.uniform(1, 400, PEOPLE), "D").round("ms")
    died = np.arange(PEOPLE) % 2 == 0
    pd.DataFrame(
        {
            "mrn": ids,
            "scan": scan,
            "died": after.where(died),
            "seen": after.where(~died),
            "sex": np.where(died, "F", "M"),
        }
    ).to_csv(home / "people.csv", index=False)
    pd.DataFrame({"mrn": ids, "sodium": rng.normal(140, 4, PEOPLE).round(1)}).to_csv(
        home / "labs.csv", index=False
    )
    rows = [
        (int(i), zero - pd.Timedelta(days=int(d), hours=3), f"LAB//{d % 5}", float(d))
        for i, zero in zip(ids, scan, strict=True)
        for d in rng.integers(-30, 60, 12)
    ]
    rows += [(int(i), pd.NaT, "GENDER//F", np.nan) for i in ids]
    events = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
    write_meds(home / "record", events, pd.DataFrame({"code": []}))
    return home


def build(home: Path, sources: Path, key: bytes) -> Cohort:
    known = Identities(key)
    import_table(sources / "people.csv", home, STUDY, identities=known)
    import_meds(sources / "record", home, STUDY, identities=known)
    import_table(sources / "labs.csv", home, STUDY, name="labs", identities=known)
    return Cohort.open(home)


@pytest.fixture(scope="module")
def both(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Cohort]:
    home = tmp_path_factory.mktemp("cohorts")
    return build(home / "plain", sources, b""), build(home / "keyed", sources, KEY)


def test_an_id_as_text() -> None:
    assert text_id(7) == text_id(7.0) == text_id("7") == text_id(np.int64(7)) == "7"
    assert text_id("007 ") == "007"
    assert text_id(7.5) == "7.5"


def test_names_are_python_s_own_hmac() -> None:
    known = Identities(KEY)
    digest = hmac.new(KEY, b"id:88000017", hashlib.sha256).digest()
    assert known.name(88000017) == digest.hex()[:16]
    names = [digest.hex()[:16], known.name("x"), digest.hex()[:16]]
    assert known.names([88000017, "x", 88000017]) == names
    assert known.numbers([88000017]).tolist() == [int.from_bytes(digest[:8], "big") >> 12]
    moved = hmac.new(KEY, b"shift:88000017", hashlib.sha256).digest()
    days = 1 + int.from_bytes(moved[:8], "big") % 364
    assert known.shift_us(88000017) == -days * DAY_US
    check = hmac.new(KEY, b"check:FusionLens", hashlib.sha256).hexdigest()[:16]
    assert known.pseudonyms is not None
    assert known.pseudonyms.check == check


def test_without_a_key_ids_stay() -> None:
    plain = Identities()
    assert plain.name("007") == "007"
    assert plain.shift_us("007") == 0
    assert plain.pseudonyms is None
    assert plain.numbers(["12", "7"]).tolist() == [12, 7]
    assert plain.numbers(["b", "007", "7"]).tolist() == [3, 1, 2]
    with pytest.raises(CohortError, match="listed twice"):
        plain.numbers(["7", 7.0])


def test_shifts_spread_over_the_year() -> None:
    days = np.asarray([-Identities(KEY).shift_us(i) / DAY_US for i in range(3000)])
    assert days.min() == 1
    assert days.max() == 364
    # Uniform on 1 to 364: mean 182.5, standard error 364 / sqrt(12 * 3000) = 1.9.
    assert abs(days.mean() - 182.5) < 4 * 1.92


def test_keys_are_read_and_weak_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY + b"\n")
    assert read_key(file) == KEY
    assert read_key(None) == b""
    file.write_bytes(b"secret\n")
    with pytest.raises(CohortError, match="a key of 6 bytes can be guessed; make one with"):
        read_key(file)
    with pytest.raises(CohortError, match="the key cannot be read"):
        read_key(tmp_path / "none")


def test_the_same_patients_under_other_names(both: tuple[Cohort, Cohort]) -> None:
    plain, keyed = both
    known = Identities(KEY)
    names = {known.name(i): int(i) for i in plain.subjects.index}
    assert set(keyed.subjects["source_id"]) == set(names)
    of = {int(s): names[n] for s, n in keyed.subjects["source_id"].items()}
    ids = list(of)
    assert sorted(of.values()) == plain.subjects.index.tolist()
    found, told = keyed.outcomes("death", ids), plain.outcomes("death", [of[i] for i in ids])
    np.testing.assert_array_equal(found.time_days, told.time_days)
    np.testing.assert_array_equal(found.event, told.event)
    moved = keyed.subjects["index_time"] - plain.subjects["index_time"].reindex(
        of.values()
    ).set_axis(ids)
    for subject, shift in moved.items():
        assert shift == pd.Timedelta(known.shift_us(of[subject]), "us")
    codes = plain.events("ehr").codes
    readings = {
        "ehr": EventReading(fit_vocabulary(plain, "ehr", plain.subjects.index)),
        "labs": TableReading(),
    }
    assert len(codes) == 6
    ours = CohortDataset(keyed, ids, readings)
    theirs = CohortDataset(plain, [of[i] for i in ids], readings)
    for at in range(len(ids)):
        for name in readings:
            mine, other = ours[at].inputs[name].fields, theirs[at].inputs[name].fields
            for field in other:  # days_before, codes, values: to the bit
                np.testing.assert_array_equal(mine[field], other[field])


def test_no_original_id_or_date_is_in_any_file(both: tuple[Cohort, Cohort], sources: Path) -> None:
    plain, keyed = both
    ids = {str(i) for i in plain.subjects.index}
    times = {str(t)[:16] for t in pd.read_csv(sources / "people.csv")["scan"]}

    def leaks(cohort: Cohort) -> int:
        found = 0
        for file in cohort.folder.rglob("*"):
            if file.is_dir():
                continue
            text = file.read_bytes().decode("latin-1")
            if file.suffix == ".parquet":
                table = pq.read_table(file)
                cells = table.to_pandas().astype(str)
                text = f"{table.schema} {table.schema.metadata} {cells.to_csv()}"
                text += str(pq.ParquetFile(file).metadata.metadata)
            words = set(re.findall(r"\d{8}", text))
            found += len(words & ids) + sum(time in text for time in times)
        return found

    assert leaks(plain) > 3 * PEOPLE  # the search would find them
    assert leaks(keyed) == 0


def test_another_key_is_refused(both: tuple[Cohort, Cohort], sources: Path) -> None:
    plain, keyed = both
    add = {"src": sources / "labs.csv", "study": STUDY, "name": "again"}
    with pytest.raises(CohortError, match="hashed with another key; name that one"):
        import_table(out=keyed.folder, identities=Identities(KEY[::-1]), **add)
    with pytest.raises(CohortError, match="hashed with a key; name it with --key"):
        import_table(out=keyed.folder, **add)
    with pytest.raises(CohortError, match="keeps its ids as they are, so a key would find nobody"):
        import_table(out=plain.folder, identities=Identities(KEY), **add)
