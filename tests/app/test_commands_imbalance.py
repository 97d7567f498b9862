"""`fusionlens imbalance`, its figures and its words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.imbalance.report import imbalance_report
from analysis.imbalance.shares import shares_of_run
from analysis.store import ResultStore
from app import theme
from app.cli import cli
from app.figures import imbalance as figures
from models.checkpoint import load_run
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("command-imbalance")
    cohort = write_cohort(home / "cohorts" / "hf", lacking=0.2)
    train(cohort, home / "runs" / "late", task="incident_hf")
    train(cohort, home / "runs" / "echo", "incident_hf", strategy="unimodal", modalities=("echo",))
    return home


def command(home: Path, run: str, *more: str) -> Any:
    given = ["--cohort", str(home / "cohorts" / "hf"), "--resamples", "40"]
    return CliRunner().invoke(cli, ["imbalance", str(home / "runs" / run), *given, *more])


@pytest.fixture(scope="module")
def answer(home: Path) -> dict[str, Any]:
    found = command(home, "late", "--unimodal", str(home / "runs" / "echo"), "--json")
    assert found.exit_code == 0, found.output
    return dict(json.loads(found.stdout))


def test_the_json_is_the_librarys(home: Path, answer: dict[str, Any], tmp_path: Path) -> None:
    expected = imbalance_report(
        load_run(home / "runs" / "late"), Cohort.open(home / "cohorts" / "hf"), "internal",
        ResultStore(tmp_path), [load_run(home / "runs" / "echo")], n_resamples=40,
    )  # fmt: skip
    assert answer == json.loads(json.dumps(expected))
    stored = sorted((home / "results").iterdir())
    words = command(home, "late", "--unimodal", str(home / "runs" / "echo"))
    assert words.exit_code == 0, words.output
    text = " ".join(words.output.split())
    for part in ("Best single modality", "Interaction of Labs x ECG", "Gate labs: mean"):
        assert part in text
    assert sorted((home / "results").iterdir()) == stored


def test_bad_input_ends_in_a_sentence(home: Path) -> None:
    alone = command(home, "echo", "--json")
    assert alone.exit_code == 2
    assert "reads echo alone" in alone.output
    other = command(home, "late", "--unimodal", str(home / "runs" / "late"))
    assert other.exit_code == 2
    assert "a unimodal run reads one modality alone" in " ".join(other.output.split())


def test_figures_show_the_numbers_of_the_answer(home: Path, answer: dict[str, Any]) -> None:
    titles = answer["modalities"]
    forest = {trace.meta: trace for trace in figures.forest(answer).data}
    values = [100 * row["value"]["value"] for row in answer["shapley"]["modalities"]]
    assert list(forest["shapley"].x) == pytest.approx(values)
    drops = [100 * row["drop"]["value"] for row in answer["shuffled"]["modalities"]]
    assert list(forest["drop"].x) == pytest.approx(drops)
    run, cohort = load_run(home / "runs" / "late"), Cohort.open(home / "cohorts" / "hf")
    found, _ = shares_of_run(run, cohort, "internal", ResultStore(home / "results"))
    violins = {trace.meta: trace for trace in figures.violins(found, titles).data}
    assert np.mean(violins["echo"].x) == pytest.approx(
        answer["shares"]["modalities"][2]["mean"]["value"]
    )
    (points,) = figures.ternary(found, titles).data
    assert len(points.a) == int(found.have.all(axis=1).sum())
    assert points.a + points.b + points.c == pytest.approx(np.ones(len(points.a)))
    course = {trace.meta: trace for trace in figures.training(answer).data}
    assert list(course["echo/gradient_share"].y) == answer["history"]["gradient_share"]["echo"]
    point = {**answer["point"], "best_title": "Echo"}
    style = {"late": theme.run_style(run.config)}
    across = {trace.meta: trace for trace in figures.across([point], style).data}
    assert across["late/internal"].x == (point["balance"]["value"],)
    assert across["late/internal"].y == pytest.approx((100 * point["gain"]["value"],))
    assert len(figures.frame(answer)) == 3
    assert list(figures.across_frame([point])["gain"]) == [point["gain"]["value"]]
    assert len(figures.training_frame(answer)) == 3 * len(answer["history"]["epochs"])
    assert len(figures.shares_frame(found)) == answer["n"]
