"""A workspace that may only be read: everything works, and nothing in it is touched."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis import writable
from analysis.predict import predict_stored
from analysis.store import ResultStore
from app.serving import Guard, prepare
from app.workspace import Workspace
from tests.app.toy import BROKEN_COHORT, BROKEN_RUN


@pytest.fixture
def locked(
    workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Callable[[], None]]:
    """A copy of the toy workspace and what locks it; root may write anywhere, so access is told."""
    folder = tmp_path / "workspace"
    broken = shutil.ignore_patterns("results", BROKEN_RUN, BROKEN_COHORT, "cvd*")
    shutil.copytree(workspace_folder, folder, ignore=broken)
    monkeypatch.setenv(writable.VARIABLE, str(tmp_path / "cache"))
    told = os.access

    def lock() -> None:
        def access(path: Path, mode: int, **more: bool) -> bool:
            inside = Path(path).is_relative_to(folder)
            return told(path, mode, **more) and not (inside and mode & os.W_OK)

        monkeypatch.setattr("analysis.writable.os.access", access)

    return folder, lock


def everything(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_results_of_a_locked_workspace_are_kept_beside_those_it_has(
    locked: tuple[Path, Callable[[], None]],
) -> None:
    folder, lock = locked
    own = ResultStore(folder / "results")
    own.put({"method": "trust", "n": 1}, {"n": 1})
    lock()
    before = everything(folder)
    workspace = Workspace(folder)
    store, run = workspace.store, workspace.run("pe-late")
    made = predict_stored(run, workspace.cohort("pe"), "internal", store)
    assert store.home != store.folder
    assert stat.S_IMODE(store.home.parent.stat().st_mode) == 0o700
    assert store.get({"method": "trust", "n": 1}) is not None
    store.put({"method": "trust", "n": 2}, {"n": 2})
    assert sorted(p["n"] for p in store.parameters_of("trust").values()) == [1, 2]
    assert len(store.keys()) == 3
    again = predict_stored(run, workspace.cohort("pe"), "internal", Workspace(folder).store)
    assert np.array_equal(again.values, made.values)
    assert everything(folder) == before
    said = prepare(Guard(), folder, "127.0.0.1").said
    assert f"{folder} may only be read" in said[-1]
    assert "No audit log is kept" in said[0] or (folder / "audit.sqlite").exists()


def test_a_workspace_that_may_be_written_keeps_its_own(
    locked: tuple[Path, Callable[[], None]],
) -> None:
    folder, _ = locked
    store = ResultStore(folder / "results")
    assert store.home == store.folder == folder / "results"
    store.put({"method": "m"}, {"n": 1})
    assert not (folder.parent / "cache").exists()
    assert not any("may only be read" in s for s in prepare(Guard(), folder, "127.0.0.1").said)
