"""The real MIMIC-IV demo (100 patients, 916,166 events), beside plain pandas on the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.events import STATIC
from tests.analysis.cohort.mimic_demo import EVENTS, write_mimic_demo

DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def events(real_data: Callable[[str], Path]) -> pd.DataFrame:
    frame = pd.read_parquet(real_data(EVENTS))
    return frame.assign(time=frame["time"].astype("datetime64[us]"))


@pytest.fixture(scope="module")
def cohort(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("mimic") / "mimic"
    return Cohort.open(write_mimic_demo(real_data(EVENTS), folder))


@pytest.fixture(scope="module")
def zero(events: pd.DataFrame) -> pd.Series:
    admitted = events[events["code"].str.startswith("HOSPITAL_ADMISSION")]
    return (admitted.groupby("subject_id")["time"].min() + DAY).astype("datetime64[us]")


def test_who_when_and_how_old(cohort: Cohort, events: pd.DataFrame, zero: pd.Series) -> None:
    subjects = cohort.subjects
    assert len(subjects) == 100
    pd.testing.assert_series_equal(
        subjects["index_time"], zero.sort_index(), check_names=False, check_dtype=False
    )
    born = events[events["code"] == "MEDS_BIRTH"].set_index("subject_id")["time"].sort_index()
    years = (zero - born) / (365.25 * DAY)
    np.testing.assert_allclose(subjects["age_years"], years.sort_index(), rtol=1e-9)
    women = set(events["subject_id"][events["code"] == "GENDER//F"])
    assert set(subjects.index[subjects["sex"] == "female"]) == women
    assert subjects["source_id"].tolist() == [str(i) for i in subjects.index]


def test_deaths_and_follow_up(cohort: Cohort, events: pd.DataFrame, zero: pd.Series) -> None:
    death = events[events["code"] == "MEDS_DEATH"].groupby("subject_id")["time"].min()
    last = events[events["code"] != "MEDS_BIRTH"].groupby("subject_id")["time"].max()
    end = death.reindex(zero.index).fillna(last)
    days = (end - zero) / DAY
    # Dates of death have no time of day: one on the day of time zero is half a day after.
    same_day = end.dt.normalize().eq(zero.dt.normalize()) & days.le(0)
    days = days.mask(same_day & death.reindex(zero.index).notna(), 0.5)
    expected = days[days > 0].sort_index()
    found = cohort.outcomes("death", cohort.subject_ids(task="death"))
    assert found.subject_ids.tolist() == expected.index.tolist()
    np.testing.assert_allclose(found.time_days, expected)
    assert set(found.subject_ids[found.event]) == set(death.index)
    assert int(found.event.sum()) == 31


def test_intensive_care_within_a_month(
    cohort: Cohort, events: pd.DataFrame, zero: pd.Series
) -> None:
    stays = events[events["code"].str.startswith("ICU_ADMISSION")]
    stays = stays.assign(days=(stays["time"] - stays["subject_id"].map(zero)) / DAY)
    first = stays[stays["days"] > 0].groupby("subject_id")["days"].min().reindex(zero.index)
    death = events[events["code"] == "MEDS_DEATH"].groupby("subject_id")["time"].min()
    last = events[events["code"] != "MEDS_BIRTH"].groupby("subject_id")["time"].max()
    end = (
        np.minimum(death.reindex(zero.index).fillna(pd.Timestamp.max.floor("us")), last) - zero
    ) / DAY
    label = (first <= 30).astype(int)
    # Seen within the month, or followed for all of it.
    known = label.eq(1) | first.notna() | end.ge(30)
    expected = label[known].sort_index()
    found = cohort.outcomes("icu_month", cohort.subject_ids(task="icu_month"))
    assert found.subject_ids.tolist() == expected.index.tolist()
    assert found.label is not None
    assert found.label.tolist() == expected.tolist()
    assert 0 < expected.sum() < len(expected)


def test_blood_tests_are_the_last_before_time_zero(
    cohort: Cohort, events: pd.DataFrame, zero: pd.Series
) -> None:
    table = cohort.table("labs")
    mine = pd.DataFrame(np.where(table.mask, table.values, np.nan), table.subject_ids, table.names)
    ask = zero.rename("zero").reset_index().sort_values("zero")
    for name, item, limit in (
        ("creatinine", "LAB//50912//", None),
        ("sodium", "LAB//50983//", None),
        ("lactate", "LAB//50813//", DAY),
    ):
        given = events[events["code"].str.startswith(item) & events["value"].notna()]
        theirs = pd.merge_asof(
            ask,
            given.sort_values("time", kind="stable"),
            left_on="zero",
            right_on="time",
            by="subject_id",
            tolerance=limit,
        ).set_index("subject_id")["value"]
        found = mine[name].reindex(theirs.index)
        np.testing.assert_allclose(found, theirs.astype("float32"))
        assert theirs.notna().sum() > 20


def test_no_event_after_time_zero_is_usable_and_no_death_at_all(cohort: Cohort) -> None:
    table = cohort.events("ehr")
    usable = cohort.usable_events("ehr")
    limit = cohort.index_time_us(table.row_subjects())
    timed = table.time_us != STATIC
    assert len(table) == 916_166
    assert (table.time_us[usable & timed] <= limit[usable & timed]).all()
    assert usable.sum() == (~timed | (table.time_us <= limit)).sum()
    death = table.codes.index("MEDS_DEATH")
    assert (table.code_index == death).sum() == 31
    assert not usable[table.code_index == death].any()


def test_it_is_sound_and_split_by_event(cohort: Cohort) -> None:
    assert [p for p in check_cohort(cohort.folder) if p.severity == "error"] == []
    assert cohort.subjects["split"].value_counts().to_dict() == {
        "train": 64, "internal": 20, "tuning": 16,
    }  # fmt: skip
    for split, events in (("train", 20), ("tuning", 5), ("internal", 6)):
        found = cohort.outcomes("death", cohort.subject_ids(split, "death"))
        assert found.event is not None
        assert found.event.sum() == events
