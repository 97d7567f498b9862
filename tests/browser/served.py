"""The app as the command serves it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser.conftest import _wait_for


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
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield
        finally:
            server.terminate()
            server.wait(10)
