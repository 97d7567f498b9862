"""The app as the command serves it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 180  # a machine that does much else takes its time


def free() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(workspace: Path, home: Path, port: int, *options: str) -> Iterator[None]:
    """`fusionlens app` of a workspace, stopped in the end. home: where its output goes."""
    command = [sys.executable, "-m", "app.cli", "app", "--workspace", str(workspace)]
    log = home / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [*command, "--port", str(port), *options], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield
        finally:
            server.terminate()
            server.wait(10)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"the app did not start:\n{log.read_text()}")
