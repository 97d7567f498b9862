"""Inverted events and times in another unit are told with their numbers; sound data are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import lifelines.datasets as public
import numpy as np
import pandas as pd
import pytest
from sksurv.datasets import load_whas500

OUT = "outcomes.parquet"
MONTH = 365.25 / 12


def _public(load: Callable[[], pd.DataFrame], time: str, event: str) -> pd.DataFrame:
    frame = load()
    return pd.DataFrame({"time": frame[time].astype(float), "event": frame[event].astype(int)})


def _whas500() -> pd.DataFrame:
    _, y = load_whas500()
    return pd.DataFrame({"time": y["lenfol"].astype(float), "event": y["fstat"].astype(int)})


def _closed_at_a_year(seed: int = 0, n: int = 400) -> pd.DataFrame:
    death = np.random.default_rng(seed).exponential(500, n)
    return pd.DataFrame({"time": np.minimum(death, 365).round(1), "event": (death <= 365) * 1})


SOUND = {
    "whas500": _whas500,
    "gbsg2": lambda: _public(public.load_gbsg2, "time", "cens"),
    "rossi": lambda: _public(public.load_rossi, "week", "arrest").assign(
        time=lambda f: f["time"] * 7
    ),
    "larynx": lambda: _public(public.load_larynx, "time", "death").assign(
        time=lambda f: f["time"] * 365
    ),
    "kidney": lambda: _public(public.load_kidney_transplant, "time", "death"),
    "closed": _closed_at_a_year,
}


def test_the_toy_is_sound(toy) -> None:
    assert toy.problems() == []
    assert toy.problems(deep=True) == []


@pytest.mark.parametrize("name", SOUND)
def test_ordinary_data_are_sound_and_inverted_ones_are_not(fresh, name: str) -> None:
    data = SOUND[name]()
    assert fresh().outcome(data["time"], data["event"]).problems() == []
    (problem,) = fresh().outcome(data["time"], 1 - data["event"]).problems()
    assert (problem.file, problem.where, problem.severity) == (OUT, "task death", "warning")
    assert "swap them" in problem.remedy


def test_public_data_of_other_shapes_are_not_called_inverted(fresh) -> None:
    for load, time, event in (
        (public.load_canadian_senators, "diff_days", "observed"),
        (public.load_dd, "duration", "observed"),
        (public.load_waltons, "T", "E"),
    ):
        data = _public(load, time, event)
        problems = fresh().outcome(data["time"] + 30, data["event"]).problems()
        assert not [p for p in problems if "swap" in p.remedy], load


def test_hancock_is_sound_and_inverted_is_not(fresh, real_data: Callable[[str], Path]) -> None:
    data = pd.read_csv(real_data("hancock/targets.csv"))
    died = (data["survival_status"] == "deceased").astype(int)
    days = data["days_to_last_information"]
    assert fresh().outcome(days, died).problems() == []
    (problem,) = fresh().outcome(days, 1 - died).problems()
    assert re.search(r"event 1 in 8\d% of the quarter followed longest and 6\d%", problem.what)


def test_the_pile_at_the_end_is_evidence(fresh) -> None:
    data = _closed_at_a_year()
    piled = int((data["time"] == 365).sum())
    (problem,) = fresh().outcome(data["time"], 1 - data["event"]).problems()
    assert f"{piled} of the {piled} patients with the longest time (365)" in problem.what


def test_the_record_and_columns_prove_an_inversion(fresh) -> None:
    for change in ("record", "subjects", "outcomes", "words"):
        toy = fresh()
        died = toy.outcomes["event"].to_numpy()
        toy.outcomes["event"] = 1 - died
        if change != "record":
            toy.events = toy.events[toy.events["code"] != "MEDS_DEATH"]
        if change == "subjects":
            toy.subjects["deceased"] = died
        if change == "words":
            toy.subjects["survival_status"] = np.where(died == 1, "deceased", "living")
        if change == "outcomes":
            toy.outcomes["is_censored"] = 1 - died
        (problem,) = [p for p in toy.problems() if "swap" in p.remedy]
        assert problem.severity == "error", change
        yes = int(died.sum())
        assert f"{yes} of {yes} patients with" in problem.what
        assert f"{80 - yes} of the {80 - yes} others event 1" in problem.what
        sound = fresh()
        sound.subjects["deceased"] = died
        sound.outcomes["is_censored"] = 1 - died
        assert sound.problems() == []


def test_some_deaths_that_count_as_censored(toy) -> None:
    toy.outcomes.loc[toy.outcomes[toy.outcomes["event"] == 1].index[:12], "event"] = 0
    died = int((toy.events["code"] == "MEDS_DEATH").sum())
    (problem,) = toy.problems()
    assert problem.severity == "warning"
    assert f"12 of {died} patients with MEDS_DEATH within their follow-up" in problem.what


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("hours", 1 / 24),
        ("minutes", 1 / 1440),
        ("seconds", 1 / 86400),
        ("weeks", 7),
        ("months", MONTH),
        ("years", 365.25),
    ],
)
def test_the_record_tells_the_unit(toy, unit: str, size: float) -> None:
    toy.outcomes["time_days"] /= size
    errors = [p for p in toy.problems() if p.severity == "error"]
    assert [p.where for p in errors] == ["task death"]
    assert f"the times are in {unit}" in errors[0].what
    assert f"lies {size:.4g} days" in errors[0].what
    assert unit in errors[0].remedy


@pytest.mark.parametrize(("unit", "size"), [("minutes", 1440), ("seconds", 86400)])
def test_no_life_is_that_long(fresh, unit: str, size: float) -> None:
    data = _whas500()
    (problem,) = fresh().outcome(data["time"] * size, data["event"]).problems()
    assert problem.severity == "error"
    assert f"in days {data['time'].max() * size / 365.25:,.0f} years" in problem.what
    assert f"in {unit}" in problem.what
    assert f"divide the times by {size}" in problem.remedy


def test_hours_are_told_by_age(fresh) -> None:
    toy = fresh()
    data = _whas500().iloc[:80]
    toy.outcome(data["time"].clip(upper=1500) * 24, data["event"])
    toy.subjects["age_years"] = np.linspace(50, 90, 80)
    (problem,) = [p for p in toy.problems() if p.severity == "error"]
    assert re.search(r"\d+ of 80 patients would be older than 115 years", problem.what)
    assert "if they are in hours" in problem.remedy


@pytest.mark.parametrize(("unit", "size"), [("months", MONTH), ("years", 365.25)])
def test_nobody_near_the_horizon(fresh, unit: str, size: float) -> None:
    data = _whas500()
    sound = fresh().outcome(data["time"], data["event"], horizon_days=1826)
    assert sound.problems() == []
    (problem,) = fresh().outcome(data["time"] / size, data["event"], horizon_days=1826).problems()
    assert problem.severity == "warning"
    assert f"the longest of 500 times is {2358 / size:.4g}" in problem.what
    assert f"in {unit} it would be 2,358 days" in problem.what
    assert f"multiply the times by {size:.6g}" in problem.remedy


def test_small_fractions_without_a_horizon(fresh) -> None:
    data = _whas500()
    (problem,) = fresh().outcome(data["time"] / 365.25, data["event"]).problems()
    assert "look like years or months" in problem.what
    days = fresh().outcome(np.arange(500) % 15 + 1, data["event"]).problems()
    assert not [p for p in days if "look like" in p.what]
