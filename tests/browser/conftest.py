from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis.cohort.importers.hancock import import_hancock
from analysis.experiment import Plan, train_run
from app.panels import frame
from models.training import TrainingSettings
from tests.app.toy import make_workspace
from tests.conftest import REAL

HANCOCK, HANCOCK_RUN = "hancock", "hancock-haf"
CHROMIUM = Path("/usr/bin/chromium")
MAIN = Path(frame.__file__).resolve().parents[1] / "main.py"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def workspace_folder(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny sample workspace, or of the one named by FUSIONLENS_TEST_WORKSPACE.

    With HANCOCK and a run of HAF on it, where the real data are present.
    """
    folder = make_workspace(tmp_path_factory.mktemp("browser") / "workspace", tiny_workspace)
    if (REAL / HANCOCK).is_dir():
        _add_hancock(folder)
    return folder


def _add_hancock(folder: Path) -> None:
    cohort = folder / "cohorts" / HANCOCK
    import_hancock(REAL / HANCOCK, cohort)
    train_run(
        Plan(
            cohort=cohort,
            task="overall_survival",
            strategy="haf",
            out=folder / "runs" / HANCOCK_RUN,
            encoder_store=folder / "encoders",
            settings=TrainingSettings(max_epochs=8),
            title="HAF",
        ),
        accelerator="cpu",
    )


def need(folder: Path, cohort: str) -> None:
    """Skip where the workspace lacks this cohort."""
    if not (folder / "cohorts" / cohort).is_dir():
        pytest.skip(f"real data not present: {cohort}")


@pytest.fixture(scope="session")
def browser():
    """Chromium; skips with the reason where it is not installed."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def address(workspace_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real app, served from this workspace until the session ends."""
    with serving(workspace_folder, tmp_path_factory.mktemp("server")) as found:
        yield found


@contextmanager
def serving(workspace: Path, home: Path) -> Iterator[str]:
    """The address of the real app on a workspace. home: where its log goes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(MAIN)]
    options = {
        "server.headless": "true",
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    for name, value in options.items():
        command += [f"--{name}", value]
    log = home / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=home,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, frame.VARIABLE: str(workspace)},
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"the app did not start:\n{log.read_text()}")
