"""Every page runs without a browser; broken parts and hostile names show as text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import theme
from app.panels import frame
from tests.app.toy import BROKEN_COHORT, BROKEN_RUN, rename_run

MAIN = Path(frame.__file__).resolve().parents[1] / "main.py"
PAGES = ("overview", "compare", "survival")
HOSTILE = "<script>alert(1)</script> **bold** :red[red]"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(frame.VARIABLE, raising=False)
    frame._open.clear()


def opened(page: str) -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=120).run()
    if page != "overview":
        test.switch_page(f"views/{page}.py").run()
    assert not test.exception
    return test


def words(test: AppTest) -> str:
    kinds = ("markdown", "caption", "error", "warning", "info", "title", "header", "subheader")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(test, kind))


@pytest.mark.parametrize("page", PAGES)
def test_pages_run(page: str, workspace_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(workspace_folder))
    test = opened(page)
    assert theme.NOTICE in words(test)
    assert len(test.table) > 0


def test_broken_things_are_named_with_the_reason(
    workspace_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(workspace_folder))
    errors = " ".join(e.value for e in opened("overview").error).replace("\\", "")
    assert BROKEN_RUN in errors
    assert "not readable as JSON" in errors
    assert BROKEN_COHORT in errors


@pytest.mark.parametrize("page", PAGES)
def test_without_a_workspace_a_sentence(page: str) -> None:
    test = opened(page)
    assert "fusionlens app" in test.error[0].value


@pytest.mark.parametrize("page", PAGES)
def test_with_a_missing_workspace_a_sentence(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(tmp_path / "nowhere"))
    assert "there is no such folder" in opened(page).error[0].value.replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_workspace_says_so(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(frame.VARIABLE, str(tmp_path))
    assert "fusionlens" in words(opened(page))


@pytest.mark.parametrize("page", PAGES)
def test_names_from_files_show_as_text(
    page: str, workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    runs = [p for p in (copy / "runs").iterdir() if p.name != BROKEN_RUN]
    for run in runs:
        rename_run(run, title=f"{HOSTILE} {run.name}")
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    test = opened(page)
    tables = "\n".join(t.value.to_string() for t in test.table)
    for text in (words(test), tables):
        assert "<script>" not in text
        assert ":red[red]" not in text
        assert " **bold**" not in text
    assert "script" in tables


def test_weights_that_do_not_load_leave_the_others(
    workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    runs = sorted(p for p in (copy / "runs").iterdir() if p.name != BROKEN_RUN)
    for run in runs[:1]:
        (run / "model.safetensors").write_bytes(b"broken")
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    test = opened("compare")
    assert "not readable as safetensors" in words(test)
    assert len(test.table) > 0


def test_two_runs_of_one_name_are_told_apart(
    workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    run = sorted(p for p in (copy / "runs").iterdir() if p.name != BROKEN_RUN)[0]
    shutil.copytree(run, run.with_name("a_copy"))
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    test = opened("compare")
    assert "change the field 'name'" in words(test).replace("\\", "")
    assert len(test.table) > 0


def test_another_version_of_the_cohort_is_noted(
    workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace_folder, copy, ignore=shutil.ignore_patterns("results"))
    for path in (copy / "cohorts").glob("*/cohort.yaml"):
        path.write_text(path.read_text() + "\n# changed\n")
    monkeypatch.setenv(frame.VARIABLE, str(copy))
    assert "another version of this cohort" in words(opened("overview"))
