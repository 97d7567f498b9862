from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import multivariate_logrank_test
from scipy.stats import chi2_contingency

from analysis.missing.patterns import RARE, availability, presence, rate
from tests.analysis.classification.toys import TABLES

ALL = list(TABLES)


@pytest.fixture(scope="module")
def split_store(tmp_path_factory):
    from analysis.store import ResultStore

    return ResultStore(tmp_path_factory.mktemp("patterns"))


def group(answer, split="all", site="all"):
    (found,) = [g for g in answer["groups"] if (g["split"], g["site"]) == (split, site)]
    return found


def test_counts_are_those_of_groupby(runs, cohort, split_store):
    answer = availability(runs["time"], cohort, split_store)
    there = cohort.availability()[ALL].join(cohort.subjects["split"].astype(str))
    assert answer["splits"] == ["all", "train", "tuning", "internal", "external"]
    assert answer["sites"] == ["all"]
    for split in answer["splits"]:
        rows = there if split == "all" else there[there["split"] == split]
        found = group(answer, split)
        expected = rows.groupby(ALL).size()
        counted = {tuple(n in p["modalities"] for n in ALL): p["n"] for p in found["patterns"]}
        assert counted == expected.to_dict()
        assert found["n"] == len(rows)
        assert found["marginals"] == rows[ALL].sum().to_dict()
        sizes = [p["n"] for p in found["patterns"]]
        assert sizes == sorted(sizes, reverse=True)
        truth = cohort.outcomes("incident_hf", rows.index)
        events = pd.Series(truth.event, rows.index)
        days = pd.Series(truth.time_days, rows.index)
        by = [rows[n] for n in ALL]
        for pattern in found["patterns"]:
            key = tuple(n in pattern["modalities"] for n in ALL)
            assert pattern["events"] == events.groupby(by).sum()[key]
            years = days.groupby(by).sum()[key] / 365.25
            assert pattern["rate"]["value"] == pytest.approx(100 * pattern["events"] / years)
    json.dumps(answer, allow_nan=False)


def test_the_log_rank_test_is_lifelines(runs, cohort, split_store):
    found = group(availability(runs["time"], cohort, split_store))
    there = cohort.availability()[ALL]
    code = there.to_numpy() @ [1, 2, 4]
    sizes = pd.Series(code).value_counts()
    rare = sizes.index[sizes < RARE]
    code = np.where(np.isin(code, rare), -1, code)
    kept = np.ones(len(code), bool)
    if sizes[rare].sum() < RARE:
        kept = code != -1
    truth = cohort.outcomes("incident_hf", there.index)
    expected = multivariate_logrank_test(truth.time_days[kept], code[kept], truth.event[kept])
    test = found["test"]
    assert (test["name"], test["undefined"]) == ("log-rank", None)
    assert test["statistic"] == pytest.approx(expected.test_statistic)
    assert test["p"] == pytest.approx(expected.p_value)
    assert test["df"] == len(set(code[kept])) - 1 == test["groups"] - 1
    assert test["left_out"] == (~kept).sum()


def test_a_class_task_has_shares_and_a_test_by_random_tables(runs, cohort, split_store):
    answer = availability(runs["three"], cohort, split_store)
    found = group(answer)
    label = pd.Series(cohort.outcomes("hf", cohort.subjects.index).label, cohort.subjects.index)
    there = cohort.availability()[ALL]
    for pattern in found["patterns"]:
        rows = (there == [n in pattern["modalities"] for n in ALL]).all(axis=1)
        assert pattern["events"] == label[rows].sum()
        assert pattern["rate"]["value"] == pytest.approx(label[rows].mean())
    common = [p for p in found["patterns"] if p["n"] >= RARE]
    table = np.array([[p["n"] - p["events"], p["events"]] for p in common])
    expected = chi2_contingency(table, correction=False)
    assert found["test"]["statistic"] == pytest.approx(expected.statistic)
    assert found["test"]["p"] == pytest.approx(expected.pvalue, abs=0.03)  # 9,999 random tables
    assert availability(runs["three"], cohort, split_store) == answer


def test_informative_missingness_is_found(runs, tmp_path):
    """Ecgs are taken away from the sick alone: the pattern tells the class."""
    from analysis.cohort.cohort import Cohort
    from analysis.store import ResultStore
    from tests.analysis.classification.toys import write_cohort

    folder = write_cohort(tmp_path / "hf", lacking=0.0)
    whole = Cohort.open(folder)
    ids = whole.subjects.index.to_numpy()
    sick = ids[whole.outcomes("hf", ids).label == 1]
    path = folder / "tables" / "ecg.parquet"
    table = pd.read_parquet(path)
    table[~table["subject_id"].isin(sick[::2])].to_parquet(path)
    subjects = pd.read_parquet(folder / "subjects.parquet")
    subjects["site"] = np.where(subjects["subject_id"] % 2, "A", "B")
    subjects.to_parquet(folder / "subjects.parquet")
    answer = availability(runs["three"], Cohort.open(folder), ResultStore(tmp_path / "r"))
    assert answer["sites"] == ["all", "A", "B"]
    test = group(answer)["test"]
    assert test["p"] == pytest.approx(1e-4)  # the least that 9,999 tables give
    by_site = [group(answer, site=site)["n"] for site in "AB"]
    assert sum(by_site) == group(answer)["n"] == len(ids)
    full, lacking = group(answer)["patterns"]
    assert lacking["modalities"] == ["labs", "echo"]
    assert lacking["rate"]["value"] == 1.0
    assert full["rate"]["value"] < 0.5


def test_garwoods_interval():
    """10 events in 100 patient-years: 4.795 to 18.390 per 100 (tables of the Poisson mean)."""
    found = rate(10, 100 * 365.25)
    assert (found.value, found.low, found.high) == pytest.approx((10, 4.7954, 18.3904), abs=1e-4)
    none = rate(0, 100 * 365.25)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 3.6889), abs=1e-4)
    assert np.isnan(rate(0, 0).value)


def test_presence_is_what_is_on_file(runs, cohort, split_store):
    table = presence(runs["three"], cohort, split_store)
    pd.testing.assert_frame_equal(
        table[ALL].sort_index(), cohort.availability()[ALL], check_names=False
    )
