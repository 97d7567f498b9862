"""The Modalities page without a browser: every section, and names from files as text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.panels import frame
from tests.app.test_pages import HOSTILE, opened, words
from tests.app.toy import BROKEN_RUN, rename_run

SECTIONS = ("fewer", "dropped", "more", "balance", "who", "patient")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(frame.VARIABLE, raising=False)
    frame._open.clear()


@pytest.fixture(scope="module")
def hostile(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy workspace with runs and modalities whose titles would be markup."""
    copy = tmp_path_factory.mktemp("hostile") / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    for run in (p for p in (copy / "runs").iterdir() if p.name != BROKEN_RUN):
        rename_run(run, title=f"{HOSTILE} {run.name}")
        config = run / "config.json"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace('"title": "Labs"', f'"title": "{HOSTILE}"'), "utf-8")
    return copy


def section(name: str) -> AppTest:
    test = opened("modalities")
    (control,) = [b for b in test.segmented_control if b.label == "Look at"]
    control.set_value(name).run()
    assert not test.exception
    return test


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_run_and_names_show_as_text(
    name: str, hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(hostile))
    test = section(name)
    assert not [e.value for e in test.error if "error in the program" in e.value]
    shown = words(test) + "\n".join(t.value.to_string() for t in test.table)
    for text in ("<script>", ":red[red]", " **bold**"):
        assert text not in shown
    expected = {
        "fewer": "All 7 combinations of 3 modalities",
        "dropped": "never the patient's last one",
        "more": "does adding a modality ever lower the score",
        "balance": "with at least two of the run",
        "who": "have everything that the run reads",
        "patient": "The dashed line is the prediction from all that is there",
    }
    assert expected[name] in shown.replace("\\", "")


def test_without_a_workspace_a_sentence() -> None:
    assert "fusionlens app" in opened("modalities").error[0].value


def test_a_task_of_single_modality_runs_says_so(
    workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    for run in (copy / "runs").iterdir():
        if run.name not in ("pe-ct", "pe-ehr"):
            shutil.rmtree(run)
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    (info,) = opened("modalities").info
    assert "No run of this task reads several modalities" in info.value
