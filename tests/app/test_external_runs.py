"""Predictions without a model in the workspace, on the pages and in the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from app.cli import cli
from app.panels import frame
from app.panels.verdict import verdict
from app.workspace import Workspace, WorkspaceError, gains

MAIN = Path(frame.__file__).resolve().parents[1] / "main.py"
TITLE = "Clinical score"


@pytest.fixture(scope="module")
def folder(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy workspace with a score of 15 fewer patients, imported by the command."""
    copy = tmp_path_factory.mktemp("external") / "workspace"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    cohort = copy / "cohorts" / "cvd"
    table = pd.read_parquet(cohort / "tables" / "imaging.parquet")
    score = table.rename(columns={"clot_burden": "risk"})[["subject_id", "risk"]]
    file = copy.parent / "score.csv"
    score.to_csv(file, index=False)
    asked = f"import predictions {file} --cohort {cohort} --task mace --name score --json"
    result = CliRunner().invoke(
        cli, [*asked.split(), "--title", TITLE, "--out", str(copy / "runs" / "score")]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["predictions"]["kind"] == "risk"
    return copy


@pytest.fixture(autouse=True)
def fresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(folder))
    frame._open.clear()


def opened(page: str) -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=120).run()
    if page != "overview":
        test.switch_page(f"views/{page}.py").run()
    assert not test.exception
    return test


def words(test: AppTest) -> str:
    kinds = ("markdown", "caption", "error", "warning", "info", "title", "header", "subheader")
    said = "\n".join(str(e.value) for kind in kinds for e in getattr(test, kind))
    return said.replace("\\", "")


def test_the_workspace_keeps_models_and_predictions_apart(folder: Path) -> None:
    workspace = Workspace(folder)
    task = next(t for t in workspace.tasks() if t.cohort == "cvd")
    models, broken = workspace.usable_runs(task)
    every, _ = workspace.predicting_runs(task)
    assert not broken
    assert [r.config.name for r in every] == [*(r.config.name for r in models), "score"]
    assert [e.name for e in workspace.external_runs(task)] == ["score"]
    with pytest.raises(WorkspaceError, match="came without a model"):
        workspace.run("score")
    assert workspace.run_hash("score") == workspace.any_run("score").hash


def test_page_and_command_compare_the_same_patients(folder: Path) -> None:
    workspace = Workspace(folder)
    task = next(t for t in workspace.tasks() if t.cohort == "cvd")
    page = workspace.evaluate(task, ["cvd-ct", "cvd-late", "score"], "internal")
    runs = [str(folder / "runs" / name) for name in ("cvd-ct", "cvd-late", "score")]
    asked = ["evaluate", *runs, "--cohort", str(folder / "cohorts" / "cvd"), "--json"]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(json.dumps(page))
    cohort = workspace.cohort("cvd")
    ids = cohort.subject_ids("internal", "mace")
    lacking = int((~np.isin(ids, cohort.table("imaging").subject_ids)).sum())
    assert lacking > 0
    assert page["left_out"] == {"n": lacking, "of": len(ids), "runs": {"score": lacking}}
    assert {row["n"] for row in page["runs"]} == {len(ids) - lacking}
    assert [g.run for g in gains(page)] == ["cvd-late"], "a score is no fusion strategy"


def test_compare_says_whom_it_leaves_out(folder: Path) -> None:
    test = opened("compare")
    assert f"{TITLE} is not chosen at first: it does not predict" in words(test)
    assert "are left out of the comparison" not in words(test)
    (runs,) = [b for b in test.button_group if b.label == "Runs"]
    runs.set_value(["cvd-ct", "cvd-late", "score"]).run()
    assert not test.exception
    assert "are left out of the comparison, because not every run predicts them" in words(test)
    assert any(TITLE in t.value.to_string() for t in test.table)


def test_survival_shows_its_risk_groups() -> None:
    test = opened("survival")
    (runs,) = [b for b in test.button_group if b.label == "Runs"]
    runs.set_value(["score"]).run()
    assert not test.exception
    assert "of predicted risk in" in words(test)
    assert any(TITLE in t.value.to_string() for t in test.table)


@pytest.mark.parametrize("page", ["patient", "modalities", "representation", "retrieval", "trust"])
def test_pages_that_need_a_model_say_why_it_is_not_there(page: str) -> None:
    assert f"{TITLE}: its predictions were made elsewhere" in words(opened(page))


def test_overview_lists_it() -> None:
    test = opened("overview")
    assert "Predictions made elsewhere, without a model" in words(test)
    (table,) = [t.value for t in test.table if "Without a prediction" in t.value]
    assert table.iloc[0]["Run"] == TITLE
    assert "score.csv, imported" in table.iloc[0]["From"].replace("\\", "")


@pytest.mark.parametrize("command", ["explain", "represent", "missing", "trust"])
def test_commands_that_need_a_model_refuse_in_a_sentence(command: str, folder: Path) -> None:
    asked = [command, str(folder / "runs" / "score"), "--cohort", str(folder / "cohorts" / "cvd")]
    result = CliRunner().invoke(
        cli, [*asked, *(["--patient", "1"] if command == "explain" else [])]
    )
    assert result.exit_code == 2
    assert "no model; evaluate and compare it" in result.output


def _evaluated(best: str) -> dict:
    names = {"ct": "unimodal", "late": "late", "score": "external_predictions"}
    c = {name: 0.8 if name == best else 0.7 for name in names}
    half = {"value": 0.1, "low": 0.02, "high": 0.18}
    return {
        "split": "internal",
        "undefined": None,
        "runs": [
            {"run": n, "title": n.title(), "strategy": s, "c_index": {"value": c[n], "low": 0.6,
             "high": 0.9}}
            for n, s in names.items()
        ],
        "differences": [
            {"first": best, "second": n, "difference": half, "p": 0.01, "p_holm": 0.03}
            for n in names
            if n != best
        ],
    }  # fmt: skip


def test_the_verdict_tells_a_score_from_a_strategy() -> None:
    said = verdict(_evaluated("score"))
    assert "Score has the highest internal C" in said
    assert "its predictions were made elsewhere" in said
    assert "The best run with a model is" in said
    assert "−10.0 points" in said
    assert "cannot be told apart" not in said
    assert "beats the best single modality" in verdict(_evaluated("late"))
