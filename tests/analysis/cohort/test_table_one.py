"""Table 1, flow and standardised differences, by hand, by pandas and on WHAS500."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from sksurv.datasets import load_whas500
from typer.testing import CliRunner

from analysis.cohort.balance import smd_numbers, smd_shares
from analysis.cohort.cohort import Cohort
from analysis.cohort.flow import cohort_flow
from analysis.cohort.importers.whas500 import import_whas500
from analysis.cohort.schema import CohortError
from analysis.cohort.table_one import table_one, table_rows
from app.cli import cli
from tests.analysis.cohort.conftest import make_cohort


@pytest.fixture(scope="module")
def whas(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return import_whas500(tmp_path_factory.mktemp("table one") / "whas500")


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Six patients: two in training, others one a split; see `make_cohort`."""
    return Cohort.open(make_cohort(tmp_path_factory.mktemp("six") / "cohort"))


def variable(content: dict, name: str, section: str | None = None) -> dict:
    (found,) = [
        v for v in content["variables"] if v["name"] == name and section in (None, v["section"])
    ]
    return found


# ---------------------------------------------------------------- standardised differences


def test_smd_of_numbers_by_hand() -> None:
    # means 2 and 4, variances 1 and 4: 2 / sqrt(2.5)
    assert smd_numbers([1, 2, 3, np.nan], [2, 4, 6]) == pytest.approx(2 / math.sqrt(2.5))
    assert smd_numbers([2, 4, 6], [1, 2, 3]) == pytest.approx(2 / math.sqrt(2.5))
    assert smd_numbers([5, 5], [5, 5]) == 0
    assert smd_numbers([5, 5], [6, 6]) is None, "other means, no spread to measure them by"
    assert smd_numbers([5], [1, 2]) is None


def test_smd_of_two_categories_by_hand() -> None:
    # 20 % and 50 %: 0.3 / sqrt((0.16 + 0.25) / 2)
    expected = 0.3 / math.sqrt(0.205)
    assert smd_shares([80, 20], [5, 5]) == pytest.approx(expected)
    assert smd_shares([80, 20, 0], [5, 5, 0]) == pytest.approx(expected), "nobody's category"
    assert smd_shares([10, 0], [3, 0]) == 0
    assert smd_shares([10, 0], [0, 3]) is None
    assert smd_shares([0, 0], [1, 1]) is None


def test_smd_of_three_categories_by_hand() -> None:
    """Shares 1/2, 1/4, 1/4 against 1/4, 1/4, 1/2.

    Of the last two: gap (0, 1/4); covariances ((3/16, -1/16), (-1/16, 3/16)) and ((3/16, -1/8),
    (-1/8, 1/4)), mean S = ((6, -3), (-3, 7)) / 32. The inverse's last entry is 32 x 6 / 33, so
    the square is 6 x 32 / 33 / 16 = 4 / 11.
    """
    found = smd_shares([2, 1, 1], [1, 1, 2])
    assert found == pytest.approx(math.sqrt(4 / 11))
    assert smd_shares([1, 2, 1], [1, 1, 2]) == pytest.approx(
        smd_shares([1, 1, 2], [2, 1, 1]) or 0, abs=0.2
    )
    assert smd_shares([3, 3, 3], [1, 1, 1]) == 0
    assert smd_shares([3, 3, 0], [0, 0, 4]) is None, "told apart without error"


# ---------------------------------------------------------------- table 1


def test_numbers_are_those_of_pandas(whas: Cohort) -> None:
    content = table_one(whas, "death")
    table, outcome = load_whas500()
    split = whas.subjects["split"].to_numpy()
    bmi = table["bmi"].to_numpy()
    said = variable(content, "bmi")["by_split"]
    for name in ("all", "train", "tuning", "internal"):
        mine = pd.Series(bmi if name == "all" else bmi[split == name])
        q1, median, q3 = mine.quantile([0.25, 0.5, 0.75])
        shown = said[name]
        assert (shown["q1"], shown["median"], shown["q3"]) == pytest.approx(
            (q1, median, q3), rel=1e-6
        )
        assert (shown["mean"], shown["sd"]) == pytest.approx((mine.mean(), mine.std()), rel=1e-6)
        assert (shown["n"], shown["missing"]) == (len(mine), 0)
    shock = variable(content, "sho")
    assert shock["by_split"]["all"]["counts"] == [478, 22]
    development, internal = bmi[split != "internal"], bmi[split == "internal"]
    pooled = math.sqrt((development.var(ddof=1) + internal.var(ddof=1)) / 2)
    assert variable(content, "bmi")["smd"] == {
        "development vs internal": pytest.approx(
            abs(development.mean() - internal.mean()) / pooled, rel=1e-5
        )
    }
    (everyone,) = [o for o in content["outcomes"] if o["split"] == "all"]
    followed = KaplanMeierFitter().fit(outcome["lenfol"], ~outcome["fstat"])
    assert everyone["median_follow_up_days"] == followed.median_survival_time_
    assert (everyone["n"], everyone["events"]) == (500, 215)
    assert everyone["longest_follow_up_days"] == outcome["lenfol"].max()


def test_missing_values_are_counted_apart(six: Cohort) -> None:
    content = table_one(six)
    frame = pd.read_parquet(six.path("labs")).set_index("subject_id")
    known = frame["sodium"].reindex(six.subjects.index).dropna()
    sodium = variable(content, "sodium", "labs")["by_split"]["all"]
    assert (sodium["n"], sodium["missing"]) == (len(known), 6 - len(known))
    assert sodium["median"] == pytest.approx(known.median())
    sex = variable(content, "sex")
    assert sex["levels"] == []
    assert sex["by_split"]["all"] == {"n": 0, "missing": 6, "counts": []}
    assert content["groups"] == {
        "development": ["train", "tuning"], "internal": ["internal"], "external": ["external"]
    }  # fmt: skip
    assert len(content["compared"]) == 3
    age = variable(content, "age")
    assert age["smd"]["development vs internal"] is None, "one patient has no spread"


def test_only_those_with_an_outcome_for_a_task(six: Cohort) -> None:
    assert table_one(six)["n"] == 6
    content = table_one(six, "death")
    assert content["n"] == 5
    assert "external" not in content["splits"], "its only patient has no outcome"
    with pytest.raises(CohortError, match="there is no task 'nothing'"):
        table_one(six, "nothing")


def test_rows_for_a_table(whas: Cohort, six: Cohort) -> None:
    rows = {(r["section"], r["label"]): r for r in table_rows(table_one(whas, "death"))}
    first = rows[("patient", "Patients")]
    assert (first["all"], first["train"], first["internal"]) == ("500", "320", "100")
    deaths = rows[("outcomes", "Death after myocardial infarction: Death from any cause, n (%)")]
    assert deaths["all"] == "215 (43%)"
    age = rows[("history", "Age, years, median (IQR)")]
    assert age["all"] == "72 (59 to 82)"
    assert isinstance(age["smd development vs internal"], float)
    assert rows[("course", "Cardiogenic shock, n (%)")]["all"] == "22 (4%)"
    assert rows[("patient", "female")]["all"] == "200 (40%)"
    assert not [label for _, label in rows if label == "Missing"]
    missing = [r for r in table_rows(table_one(six)) if r["kind"] == "missing"]
    assert "6 (100%)" in {r["all"] for r in missing}


# ---------------------------------------------------------------- flow


def test_flow_of_six_patients_by_hand(six: Cohort) -> None:
    flow = cohort_flow(six, "death")
    there = six.availability()
    everyone = flow["all"]
    assert (everyone["subjects"], everyone["with_outcome"], everyone["without_outcome"]) == (
        6,
        5,
        1,
    )
    assert everyone["events"] == 3
    assert everyone["lacking"] == {m: int((~there.loc[1:5, m]).sum()) for m in there}
    assert sum(c["n"] for c in everyone["combinations"]) == 5
    assert flow["splits"]["external"] == {
        "subjects": 1,
        "without_outcome": 1,
        "with_outcome": 0,
        "events": 0,
        "without_any_modality": 0,
        "with_all_modalities": 0,
        "lacking": dict.fromkeys(there, 0),
        "combinations": [],
    }
    for part in ("subjects", "with_outcome", "without_any_modality", "with_all_modalities"):
        assert sum(s[part] for s in flow["splits"].values()) == everyone[part]


def test_command_prints_the_same(whas: Cohort) -> None:
    asked = ["describe", str(whas.folder), "--task", "death"]
    result = CliRunner().invoke(cli, [*asked, "--json"])
    assert result.exit_code == 0, result.output
    content = table_one(whas, "death")
    expected = {**content, "rows": table_rows(content)}
    assert json.loads(result.stdout) == json.loads(json.dumps(expected))
    shown = CliRunner().invoke(cli, asked, env={"COLUMNS": "160"})
    assert "0 lack every modality and 500 have all" in shown.output
    wrong = CliRunner().invoke(cli, ["describe", str(Path(whas.folder) / "nowhere")])
    assert wrong.exit_code == 2
