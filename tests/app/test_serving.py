from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from app.serving import free_port, streamlit_flags


def listening() -> tuple[socket.socket, int]:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken, taken.getsockname()[1]


def test_the_next_free_port_is_taken():
    taken, port = listening()
    with taken:
        assert port < free_port("127.0.0.1", port) < port + 50


def test_no_free_port_is_said():
    with pytest.raises(ValueError, match="no free port from 80"):
        free_port("203.0.113.1", 8000)


def test_only_this_machine_is_served_and_nothing_is_reported():
    flags = streamlit_flags("127.0.0.1", 8501)
    assert "--server.address=127.0.0.1" in flags
    assert "--browser.gatherUsageStats=false" in flags


def test_the_command_serves_a_workspace_beside_a_taken_port(tmp_path: Path):
    (tmp_path / "workspace").mkdir()
    taken, port = listening()
    command = [sys.executable, "-m", "app.cli", "app", "--workspace", str(tmp_path / "workspace")]
    with taken, (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            address = None
            for _ in range(600):
                found = re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())
                if found:
                    address = int(found.group(1))
                    break
                time.sleep(0.1)
            assert address is not None, (tmp_path / "log").read_text()
            assert address != port
            health = f"http://127.0.0.1:{address}/_stcore/health"
            for _ in range(300):
                try:
                    body = urllib.request.urlopen(health, timeout=2).read()
                    break
                except OSError:
                    time.sleep(0.1)
            assert body == b"ok"
        finally:
            server.terminate()
            server.wait(10)
