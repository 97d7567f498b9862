"""`fusionlens assess`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.reviewer.report import reviewer_statistics
from analysis.store import ResultStore
from app.cli import cli
from models.checkpoint import load_run
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("command-assess")
    cohort = write_cohort(home / "cohorts" / "hf", lacking=0.2)
    train(cohort, home / "runs" / "late", task="incident_hf")
    train(
        cohort,
        home / "runs" / "labs",
        task="incident_hf",
        strategy="unimodal",
        modalities=("labs",),
    )
    train(cohort, home / "runs" / "hf")
    return home


def command(home: Path, *runs: str, more: tuple[str, ...] = ()) -> Any:
    folders = [str(home / "runs" / run) for run in runs]
    given = ["--cohort", str(home / "cohorts" / "hf"), "--resamples", "30", *more]
    return CliRunner().invoke(cli, ["assess", *folders, *given])


def test_the_json_is_the_librarys(home: Path, tmp_path: Path) -> None:
    asked = ("--horizon", "400", "--threshold", "0.3", "--json")
    found = command(home, "late", "labs", more=asked)
    assert found.exit_code == 0, found.output
    expected = reviewer_statistics(
        [load_run(home / "runs" / name) for name in ("late", "labs")],
        Cohort.open(home / "cohorts" / "hf"), "internal", ResultStore(tmp_path), 400, 0.3, 30,
    )  # fmt: skip
    assert json.loads(found.stdout) == json.loads(json.dumps(expected))


@pytest.mark.parametrize(
    ("runs", "more", "expected"),
    [
        (
            ("late", "labs"),
            ("--horizon", "400"),
            ("Integrated Brier", "NRI events", "From internal to external", "without Labs"),
        ),
        (("hf",), (), ("AUC", "Slope", "Alerts a true one", "Acting on all", "Cochran's Q, Holm")),
    ],
)
def test_in_words(home: Path, runs: Any, more: Any, expected: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("app.commands.assess.out_console.width", 160, raising=False)
    found = command(home, *runs, more=more)
    assert found.exit_code == 0, found.output
    words = " ".join(found.output.split())
    for part in expected:
        assert part in words
    assert "30 resamples of patients" in words


def test_bad_input_ends_in_a_sentence(home: Path) -> None:
    found = command(home, "late", more=("--json",))
    assert found.exit_code == 2
    assert "states no horizon" in found.output
    mixed = command(home, "late", "hf", more=("--horizon", "400"))
    assert mixed.exit_code == 2
    assert "different tasks" in mixed.output
