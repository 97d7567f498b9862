"""Codes and columns that tell the outcome, an ID or a date."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from analysis.cohort.check_leakage import _holm_fisher
from analysis.cohort.schema import Column

DAY = pd.Timedelta(days=1)


def _coded(toy, subjects: np.ndarray, code: str, days: float = -2.0) -> None:
    index = toy.subjects.set_index("subject_id")["index_time"]
    rows = pd.DataFrame(
        {
            "subject_id": subjects,
            "time": index.loc[subjects].to_numpy() + np.timedelta64(int(days * 86400), "s"),
            "code": code,
        }
    )
    toy.events = pd.concat([toy.events, rows]).sort_values(["subject_id", "time"])


def _sides(toy) -> tuple[np.ndarray, np.ndarray]:
    event = toy.outcomes["event"] == 1
    ids = toy.outcomes["subject_id"]
    return ids[event].to_numpy(), ids[~event].to_numpy()


@pytest.mark.parametrize("side", [0, 1])
def test_a_code_of_one_side_alone(toy, side: int) -> None:
    sides = _sides(toy)
    _coded(toy, sides[side][:18], "HOSPICE")
    (problem,) = toy.problems()
    words = ("with the event", "without") if side == 0 else ("without the event", "with")
    assert problem.severity == "warning"
    one, other = len(sides[side]), len(sides[1 - side])
    told = f"code HOSPICE: in 18 of {one} {words[0]}, in 0 of {other} {words[1]} (p "
    assert problem.what.startswith("1 code no later than time zero on one side only: ")
    assert told in problem.what


def test_a_code_after_time_zero_or_of_both_sides_tells_nothing(toy) -> None:
    died, alive = _sides(toy)
    _coded(toy, died[:18], "AUTOPSY", days=0.5)
    _coded(toy, np.r_[died[:18], alive[:3]], "ICU")
    _coded(toy, died[:4], "RARE")
    assert toy.problems() == []


def test_chance_is_ruled_out_as_by_fisher_and_holm() -> None:
    one, other = np.array([12, 6, 5, 1, 40]), np.array([0, 1, 0, 0, 60])
    p = _holm_fisher(one, other, 60, 90)
    raw = [
        fisher_exact([[a, 60 - a], [b, 90 - b]], alternative="greater").pvalue
        for a, b in zip(one[[0, 1, 2, 4]], other[[0, 1, 2, 4]], strict=True)
    ]
    assert p[3] == 1
    assert p[0] == pytest.approx(min(raw) * 4)
    assert (p[[0, 1, 2, 4]] >= np.array(raw) - 1e-12).all()


def test_deaths_that_a_model_sees(toy) -> None:
    died, _ = _sides(toy)
    rows = (toy.events["code"] == "MEDS_DEATH") & toy.events["subject_id"].isin(died[:6])
    toy.events.loc[rows, "time"] = pd.NaT
    rows = (toy.events["code"] == "MEDS_DEATH") & toy.events["subject_id"].isin(died[6:8])
    index = toy.subjects.set_index("subject_id")["index_time"]
    toy.events.loc[rows, "time"] = index.loc[died[6:8]].to_numpy()
    errors = [p for p in toy.problems() if p.severity == "error"]
    assert [p.where for p in errors] == ["code MEDS_DEATH"]
    assert "MEDS_DEATH of 8 patients is no later than time zero (6 of them without" in (
        errors[0].what
    )


def test_a_code_of_the_day_of_the_event(toy) -> None:
    died, _ = _sides(toy)
    toy.outcomes.loc[toy.outcomes["subject_id"].isin(died[:15]), "time_days"] = 0.05
    _coded(toy, died[:15], "DX/ARREST", days=0)
    errors = [p for p in toy.problems() if p.severity == "error"]
    assert len(errors) == 1
    assert f"DX/ARREST: in 15 of {len(died)} with the event" in errors[0].what
    assert "on its very day in 15" in errors[0].what


def test_columns_that_tell_the_outcome(fresh) -> None:
    toy = fresh()
    event = toy.outcomes["event"].to_numpy()
    noise = np.random.default_rng(0).normal(0, 0.1, len(event))
    leaks = {
        "event_again": (event + noise * 0.5, Column(), "its value alone separates"),
        "time_again": (-2 * toy.outcomes["time_days"] + 3 * noise, Column(), "in order"),
        "autopsy": (np.where(event == 1, 5 + noise, np.nan), Column(), "whether it is missing"),
        "status": (
            np.where(event == 1, "dead", "alive"),
            Column(kind="nominal", categories=("alive", "dead")),
            "category alive alone separates",
        ),
    }
    for name, (values, column, _) in leaks.items():
        toy.labs[name] = values
        toy.columns[name] = column
    found = {p.where: p for p in toy.problems()}
    assert set(found) == {f"column {name}, task death" for name in leaks}
    for name, (_, _, words) in leaks.items():
        problem = found[f"column {name}, task death"]
        assert words in problem.what
        assert problem.severity == "warning"
    assert f"the {event.sum()} patients with the event from the {(1 - event).sum()}" in (
        found["column event_again, task death"].what
    )


def test_a_strong_but_honest_column_is_not_told(toy) -> None:
    event = toy.outcomes["event"].to_numpy()
    toy.labs["troponin"] = event + np.random.default_rng(1).normal(0, 0.6, len(event))
    toy.columns["troponin"] = Column()
    assert toy.problems() == []


def test_ids_and_dates_in_disguise(toy) -> None:
    rng = np.random.default_rng(2)
    n = len(toy.labs)
    day = pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), "D")
    odd = {
        "row": (np.arange(n) + 0.5, "follows subject_id (rank correlation 1.00"),
        "mrn": (rng.permutation(np.arange(n)) * 7919 + 1_000_003, "six digits or more"),
        "visit": (day.strftime("%Y%m%d").astype(int), "dates written as numbers"),
    }
    sound = {
        "platelets": rng.permutation(np.arange(n)) * 1000 + 100_000,
        "year": 1990 + np.arange(n) // 4,
        "leukocytes": rng.permutation(np.arange(n)) + 4000,
    }
    for name, values in {**{k: v for k, (v, _) in odd.items()}, **sound}.items():
        toy.labs[name] = np.asarray(values, float)
        toy.columns[name] = Column()
    found = {p.where: p for p in toy.problems()}
    assert set(found) == {f"column {name}" for name in odd}
    for name, (_, words) in odd.items():
        assert words in found[f"column {name}"].what
        assert found[f"column {name}"].severity == "warning"
