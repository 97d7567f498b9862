"""Starts Streamlit on a free port with settings that keep data on this machine."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from rich.console import Console

from app.workspace import Workspace

MAIN = Path(__file__).parent / "main.py"


def free_port(address: str, first: int) -> int:
    """The first port from `first` on that nobody listens on. Raises ValueError after 50."""
    for port in range(first, min(first + 50, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise ValueError(f"no free port from {first} on at {address}; name another with --port.")


def streamlit_flags(address: str, port: int) -> list[str]:
    """Options that `streamlit run` gets."""
    return [
        f"--server.address={address}",
        f"--server.port={port}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none",
        "--client.toolbarMode=minimal",
        "--client.showErrorDetails=none",
    ]


def serve_workspace(workspace: Path, address: str, port: int) -> None:
    """Replace this process by the server of a workspace, and say where it is."""
    Workspace(workspace)
    port = free_port(address, port)
    Console().print(
        f"FusionLens shows {workspace} at http://{address}:{port} (stop with Ctrl+C)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    sys.stdout.flush()
    environment = {
        **os.environ,
        "FUSIONLENS_WORKSPACE": str(workspace.absolute()),
        # Keeps large activations of 3-D networks instead of giving them back after every layer.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        # Threads that wait do not burn the core that another session computes on.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    os.chdir(MAIN.parent)
    arguments = [sys.executable, "-m", "streamlit", "run", str(MAIN)]
    os.execve(sys.executable, [*arguments, *streamlit_flags(address, port)], environment)
