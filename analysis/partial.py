"""Folders that are being written, and what becomes of them when their process is killed.

Work in progress lies in a hidden folder beside its final name and is renamed when it is whole, so
no reader ever sees half of it. The writer holds a lock on the folder (flock), which the system
gives up when the process ends, however it ends: a partial folder that nobody holds is left over
and may be removed, or gone on from. This holds for the death of a process at any moment. It is no
promise for a power failure, after which a file system may have a rename without the content.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_fcntl: Any = None
with suppress(ImportError):  # not on Windows, where left-over folders stay until removed by hand
    _fcntl = import_module("fcntl")


class InUseError(OSError):
    """Another living process is writing the folder."""


@contextmanager
def owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new hidden folder in `parent`, held until the end; removed unless it was renamed."""
    partial, handle = _made(parent, prefix)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _release(handle)


def _made(parent: Path, prefix: str) -> tuple[Path, int | None]:
    while True:
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            handle = _lock(partial)
            if handle is None or os.path.samestat(os.fstat(handle), partial.stat()):
                return partial, handle
        except (InUseError, FileNotFoundError):
            pass  # taken for a left-over in the moment before it was held: make another


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold an existing folder to go on from it. Raises InUseError where another process does."""
    handle = _lock(folder)
    try:
        yield
    finally:
        _release(handle)


def clear_stale(parent: Path, pattern: str) -> int:
    """Remove the partial folders in `parent` that no living process holds; returns how many."""
    removed = 0
    for folder in parent.glob(pattern) if parent.is_dir() else ():
        if folder.is_symlink() or not folder.is_dir():
            continue
        try:
            handle = _lock(folder)
        except OSError:
            continue
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            removed += not folder.exists()
            _release(handle)
    return removed


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder; None where the file system knows no locks.

    Raises InUseError where another process holds it.
    """
    if _fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise InUseError(
            f"{folder}: another process is writing it; wait for that one, or stop it."
        ) from error
    except OSError:
        os.close(handle)
        return None
    return handle


def _release(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)
