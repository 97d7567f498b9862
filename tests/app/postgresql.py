"""A PostgreSQL server of its own, as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PLACES = Path("/usr/lib/postgresql")
PORT = 5432  # of the socket's name only: nothing listens on the network


def binaries() -> Path:
    """The folder of initdb; skips with the reason where there is none."""
    found = sorted(_PLACES.glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        pytest.skip(f"no PostgreSQL in {_PLACES} (Debian: apt-get install postgresql)")
    return found[-1].parent


@contextmanager
def server(folder: Path) -> Iterator[Path]:
    """Start one on a Unix socket in `folder`, which is given back, and stop it in the end.

    It refuses to run as root, who therefore becomes the user postgres for it.
    """
    programs = binaries()
    become: list[str] = []
    if os.geteuid() == 0:
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [*become, str(programs / program), *arguments],
            check=True,
            capture_output=True,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
        )

    call("initdb", "-D", str(data), "-A", "trust", "-U", "owner", "-E", "UTF8", "--no-sync")
    options = f"-k {folder} -p {PORT} -c listen_addresses= -c fsync=off"
    log = str(folder / "log")
    call("pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", log, "-o", options, "start")
    try:
        yield folder
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
