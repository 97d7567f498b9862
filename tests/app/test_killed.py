"""kill -9 in the middle of precompute, import and train: the workspace is always valid after."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from analysis.cohort.check import check_cohort
from analysis.partial import InUseError, clear_stale, held, owned_folder
from analysis.store import ResultStore
from app.workspace import Workspace
from tests.app.toy import train, write_cohort

ROOT = Path(__file__).resolve().parents[2]
# What differs between two undisturbed runs: the clock.
CLOCK = ("created", "seconds")


@dataclass
class Killer:
    """The program that forks children; asks it one thing at a time."""

    process: subprocess.Popen[str]
    log: Path

    def run(
        self, args: list[str], home: Path, after: float | None = None, at: int | None = None
    ) -> dict[str, Any]:
        request = {"args": args, "home": str(home), "log": str(self.log), "after": after, "at": at}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.app.killed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    yield Killer(process, tmp_path_factory.mktemp("killed") / "log.txt")
    process.kill()  # between two requests it has nothing to put away
    process.wait()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cohort with one run, scans to import, and a cohort of scans to import them like."""
    home = tmp_path_factory.mktemp("killed-workspace") / "workspace"
    cohort = write_cohort(home / "cohorts" / "pe", "pe", seed=0)
    train(cohort, home, "late", "pe-late")
    scans = home.parent / "scans"
    scans.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        image = nib.Nifti1Image(rng.normal(size=(12, 12, 12)).astype(np.int16), np.eye(4))
        nib.save(image, scans / f"scan{number}.nii.gz")
    like = home.parent / "like"
    like.mkdir()
    spec = (cohort / "cohort.yaml").read_text()
    head, tail = spec.split("modalities:", 1)
    ct = "modalities:\n  ct:\n    kind: volume\n    title: CT\n    path: imaging.parquet\n"
    (like / "cohort.yaml").write_text(head + ct + tail[tail.index("tasks:") :], encoding="utf-8")
    return home


def commands(home: Path, root: Path) -> dict[str, list[str]]:
    pe = str(home / "cohorts" / "pe")
    trained = ["--strategy", "co_attention", "--option", "guide=imaging", "--setting"]
    return {
        "precompute": [
            "precompute", str(home / "runs" / "pe-late"), "--cohort", pe, "--split", "internal",
            "--patients", "4", "--what", "predictions,parts",
        ],
        "import": ["import", "scans", str(root / "scans"), str(home / "cohorts" / "mine"),
                   "--like", str(root / "like")],
        "train": [
            "train", "--cohort", pe, "--task", "mortality", *trained, "max_epochs=2",
            "--modality", "imaging", "--modality", "ehr", "--out", str(home / "runs" / "new"),
        ],
    }  # fmt: skip


def content(home: Path) -> dict[str, Any]:
    """Every visible file of a workspace, without what the clock puts there."""
    found: dict[str, Any] = {}
    for path in sorted(home.rglob("*")):
        relative = path.relative_to(home)
        if not path.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        found[str(relative)] = path.read_bytes()
        if path.name == "config.json":
            told = json.loads(path.read_text())
            for field in (*CLOCK, "command"):
                told["training"].pop(field, None)
            found[str(relative)] = told
    return found


def must_be_valid(home: Path) -> None:
    """All that is visible is whole."""
    workspace = Workspace(home)
    entries = workspace.cohorts()
    assert {e.name for e in entries} <= {"pe", "mine"}
    for entry in entries:
        assert entry.error is None
        problems = check_cohort(entry.folder)
        assert [p for p in problems if p.severity == "error"] == []
    runs = workspace.runs()
    assert {e.name for e in runs} <= {"pe-late", "new"}
    for entry in runs:
        assert entry.error is None
        workspace.run(entry.name)
    store = workspace.store
    for key in store.keys():  # noqa: SIM118
        parameters = json.loads((store.folder / key / "result.json").read_text())["parameters"]
        assert store.get(parameters) is not None, key
    # Opening the workspace has removed what nobody holds; only a training is gone on from.
    hidden = [p.name for p in home.rglob(".*")]
    assert set(hidden) <= {".new.partial", ".listed"}


def attack(killer: Killer, workspace: Path, tmp_path: Path, name: str, n: int, seed: int) -> int:
    """Kill a command `n` times, half at moments and half at file operations; see what is left.

    Returns how many kills struck before the command was done.
    """
    root = workspace.parent
    given = commands(tmp_path / "ws", root)[name]

    def fresh() -> Path:
        home = tmp_path / "ws"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(workspace, home)
        return home

    home = fresh()
    usual = killer.run(given, home)
    assert usual["code"] == 0, killer.log.read_text()
    whole = content(home)
    assert not [p for p in home.rglob(".*") if p.name != ".listed"]
    rng = np.random.default_rng(seed)
    struck = 0
    for number in range(n):
        home = fresh()
        share = (number // 2 + rng.random()) / max(n / 2, 1)
        if number % 2:
            # Counted from the end, so that the last operations, the renames, are always hit.
            at = usual["operations"] - int(share * usual["operations"])
            killed = killer.run(given, home, at=max(at, 1))
        else:
            killed = killer.run(given, home, after=share * usual["seconds"])
        struck += killed["code"] == -9
        must_be_valid(home)
        done = (home / {"import": "cohorts/mine", "train": "runs/new"}.get(name, "no")).exists()
        again = killer.run(given, home)
        # What is finished is not made again: the command says that it is there.
        assert again["code"] == (2 if done else 0), killer.log.read_text()
        must_be_valid(home)
        assert content(home) == whole
        assert not [p.name for p in home.rglob(".*") if p.name != ".listed"]
    return struck


@pytest.mark.parametrize("name", ["precompute", "import", "train"])
def test_a_killed_command_leaves_a_valid_workspace_and_goes_on(
    killer: Killer, workspace: Path, tmp_path: Path, name: str
) -> None:
    assert attack(killer, workspace, tmp_path, name, n=2, seed=1) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("precompute", 20), ("import", 10), ("train", 20)])
def test_fifty_kills(killer: Killer, workspace: Path, tmp_path: Path, name: str, n: int) -> None:
    assert attack(killer, workspace, tmp_path, name, n, seed=7) >= n * 0.7


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(workspace: Path, tmp_path: Path) -> None:
    """Also where that one alone is killed, and not its group."""
    home = tmp_path / "ws"
    shutil.copytree(workspace, home)
    given = commands(home, workspace.parent)["precompute"]
    given[given.index("--patients") + 1] = "400"
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *given, "--split", "all", "--jobs", "2"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    store = ResultStore(home / "results")
    wait_until(lambda: len(store.keys()) > 8)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    must_be_valid(home)


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


def wait_until(true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_left_over_is_removed_and_a_living_ones_folder_is_not(tmp_path: Path) -> None:
    with owned_folder(tmp_path, ".out.partial-") as mine:
        (mine / "half").write_text("x")
        (tmp_path / ".out.partial-left").mkdir()
        (tmp_path / ".out.partial-left" / "half").write_text("x")
        (tmp_path / ".other.partial").mkdir()
        # A descriptor of its own: as another process would see it.
        assert clear_stale(tmp_path, ".out.partial-*") == 1
        assert (mine / "half").exists()
        with pytest.raises(InUseError, match="another process"), held(mine):
            raise AssertionError("held twice")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.partial"]


def test_half_written_results_are_removed_by_the_next_run(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    (tmp_path / ".partial-abc").mkdir()
    (tmp_path / ".partial-abc" / "result.json").write_text("{")
    store.put({"n": 1}, {"n": 1})
    assert len(store.keys()) == 1
    assert store.clear_stale() == 1
    assert store.get({"n": 1}) is not None
