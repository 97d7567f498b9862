"""`fusionlens missing`, and the words of its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.missing.report import missing_report
from analysis.store import ResultStore
from app.cli import cli
from app.panels.missing_monotonicity import steps, verdict
from models.checkpoint import load_run
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("command-missing")
    cohort = write_cohort(home / "cohorts" / "hf", lacking=0.2)
    train(cohort, home / "runs" / "late", task="incident_hf")
    train(cohort, home / "runs" / "labs", strategy="unimodal", modalities=("labs",))
    return home


def command(home: Path, run: str, *more: str) -> Any:
    given = ["--cohort", str(home / "cohorts" / "hf"), "--resamples", "40", "--repeats", "20"]
    return CliRunner().invoke(cli, ["missing", str(home / "runs" / run), *given, *more])


def test_the_json_is_the_librarys_and_is_found_again(home: Path, tmp_path: Path) -> None:
    cohort = Cohort.open(home / "cohorts" / "hf")
    subject = int(cohort.subject_ids("internal", "incident_hf")[0])
    found = command(home, "late", "--patient", str(subject), "--json")
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    expected = missing_report(
        load_run(home / "runs" / "late"), cohort, "internal", ResultStore(tmp_path),
        patient=subject, n_resamples=40, repeats=20,
    )  # fmt: skip
    assert answer == json.loads(json.dumps(expected))
    stored = sorted((home / "results").iterdir())
    assert stored
    again = command(home, "late", "--patient", str(subject), "--json")
    assert json.loads(again.stdout) == answer
    assert sorted((home / "results").iterdir()) == stored


def test_in_words(home: Path) -> None:
    found = command(home, "late", "--patient", "221")
    assert found.exit_code == 0, found.output
    words = " ".join(found.output.split())
    for expected in ("All 7 combinations", "Dropped at random", "Mean change", "Patient 221"):
        assert expected in words


def test_bad_input_ends_in_a_sentence(home: Path) -> None:
    alone = command(home, "labs", "--json")
    assert alone.exit_code == 2
    assert "reads labs alone" in alone.output
    nobody = command(home, "late", "--patient", "9999", "--json")
    assert nobody.exit_code == 2
    assert "there is no patient 9999" in nobody.output


def test_the_verdict_follows_the_intervals() -> None:
    titles = {"ct": "CT", "ehr": "EHR", "labs": "Labs"}
    rows = [
        {"modality": "ct", "harm": "better"},
        {"modality": "ehr", "harm": "worse"},
        {"modality": "labs", "harm": None},
    ]
    words = verdict({"modalities": rows}, titles)
    assert "EHR made predictions worse" in words
    assert "CT made them better" in words
    assert "For Labs the mean change is within chance" in words
    assert "worse" not in verdict({"modalities": rows[2:]}, titles)


def test_steps_in_words() -> None:
    none = {"lower": 0, "beyond_chance": 0, "after_holm": 0}
    assert steps(none, 9).endswith("none lowers the score.")
    some = {"lower": 4, "beyond_chance": 0, "after_holm": 0}
    assert "4 lower the score; none of them by more than chance" in steps(some, 9)
    real = {"lower": 4, "beyond_chance": 2, "after_holm": 0}
    assert "in 2 of them the interval lies below zero, none also after Holm" in steps(real, 9)
