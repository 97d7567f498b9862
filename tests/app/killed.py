"""Runs real commands in forked children and kills them, at a moment or at a file operation.

A program of its own (`python -m tests.app.killed`): it imports everything once, so that a child
starts at once. It reads one JSON request a line and answers each with one line:

    {"args": [...], "home": FOLDER, "log": FILE, "after": SECONDS or null, "at": N or null}
    {"code": exit code, -9 if killed, "seconds": ..., "operations": file operations in `home`}

`at` kills the child right before its Nth change of the file system below `home` (opening a file to
write, mkdir, rename, rmdir, remove), which no timing hits as surely.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

CHANGES = {"os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.chmod", "shutil.rmtree", "open"}
NEEDED = (
    "app.cli",
    "analysis.precompute.run",
    "analysis.precompute.pool",
    "analysis.experiment",
    "analysis.cohort.importers.scans",
    "sample_data.workspace",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _preload() -> None:
    """What the commands import when they are called."""
    for name in NEEDED:
        importlib.import_module(name)


def _watch(home: str, at: int | None, counter: int) -> None:
    """Count changes below `home` into the pipe `counter`; end this process before number `at`."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in CHANGES or not str(args[0]).startswith(home):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITING):
            return
        seen += 1
        if at is not None and seen >= at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counter, b".")

    sys.addaudithook(hook)


def _child(request: dict[str, Any], counter: int) -> None:
    with suppress(OSError):  # the parent does the same: whoever comes first
        os.setpgid(0, 0)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 70
    try:
        from app.cli import cli

        _watch(request["home"], request["at"], counter)
        code = cli(request["args"], standalone_mode=False) or 0
    except SystemExit as error:
        code = int(error.code or 0)
    except Exception as error:  # typer.Exit and friends carry their code
        code = getattr(error, "exit_code", 1)
        print(repr(error), file=sys.stderr)  # noqa: T201
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    begun = time.perf_counter()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(request, writing)
    with suppress(OSError):
        os.setpgid(child, child)
    os.close(writing)
    os.set_blocking(reading, False)
    deadline = None if request["after"] is None else begun + request["after"]
    operations = 0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        operations += _drain(reading)
        if ended:
            break
        if deadline is not None and time.perf_counter() >= deadline:
            os.killpg(child, signal.SIGKILL)
            deadline = None
        time.sleep(0.002)
    operations += _drain(reading)
    os.close(reading)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": time.perf_counter() - begun, "operations": operations}


def _drain(pipe: int) -> int:
    total = 0
    while True:
        try:
            got = os.read(pipe, 65536)
        except BlockingIOError:
            return total
        if not got:
            return total
        total += len(got)


def main() -> None:
    """Answer requests until there are no more."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(Path.cwd()))
    _preload()
    for line in sys.stdin:
        answer = _serve(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
