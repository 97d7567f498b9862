"""The folder from which checkpoints may be brought: what the operator named, and nothing outside.

The browser chooses among the names that are listed here. A name that is not in the list is no path
and opens nothing; what a link leads out of the folder is not listed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from models.importing.distributed import METADATA
from models.importing.source import WEIGHT_SUFFIXES

VARIABLE = "FUSIONLENS_INBOX"
DESCRIPTIONS = (".yaml", ".yml")
COMPANIONS = (".json", ".parquet")
_DEEPEST = 5
_MOST_LOOKED_AT = 20_000
_MOST_LISTED = 500
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.\w+$")
_STATES = "_model_states.pt"


def inbox_of(workspace: Path) -> Inbox:
    """The inbox that was named when the app was started, else the workspace's own."""
    named = os.environ.get(VARIABLE, "").strip()
    return Inbox(Path(named) if named else workspace / "inbox")


def name_inbox(folder: Path | None) -> None:
    """Name the inbox for the app that this process starts. Raises ValueError in one sentence."""
    if folder is None:
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; name an existing one as --inbox.")
    os.environ[VARIABLE] = str(folder.resolve())


class Inbox:
    """Files below one folder. Names are relative to it, as they are shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_there(self) -> bool:
        """Whether the folder can be listed."""
        return self.folder.is_dir() and os.access(self.folder, os.R_OK | os.X_OK)

    def checkpoints(self) -> dict[str, Path]:
        """{name: path} of everything that may be a checkpoint: files, indices, folders of ranks."""
        found: dict[str, Path] = {}
        for folder, files in self._walk():
            if METADATA in files or any(name.endswith(_STATES) for name in files):
                self._take(found, folder)
                continue
            indexed = any(name.endswith(".index.json") for name in files)
            for name in files:
                shard = indexed and _SHARD.search(name)
                if name.endswith(".index.json") or (_weights(name) and not shard):
                    self._take(found, folder / name)
        return dict(sorted(found.items()))

    def descriptions(self) -> dict[str, Path]:
        """{name: path} of the files of models."""
        return self._ending(DESCRIPTIONS)

    def companions(self) -> dict[str, Path]:
        """{name: path} of vocabularies and baseline hazards."""
        return {n: p for n, p in self._ending(COMPANIONS).items() if not n.endswith(".index.json")}

    def inside(self, path: Path) -> bool:
        """Whether a path, and everything below it, lies in the inbox after all links."""
        try:
            root = self.folder.resolve()
            parts = [path, *path.rglob("*")] if path.is_dir() else [path]
            return all(part.resolve().is_relative_to(root) for part in parts)
        except (OSError, ValueError, RuntimeError):
            return False

    def _ending(self, ends: tuple[str, ...]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder, files in self._walk():
            for name in files:
                if name.endswith(ends):
                    self._take(found, folder / name)
        return dict(sorted(found.items()))

    def _take(self, found: dict[str, Path], path: Path) -> None:
        if len(found) < _MOST_LISTED and path != self.folder and self.inside(path):
            found[path.relative_to(self.folder).as_posix()] = path

    def _walk(self) -> Iterator[tuple[Path, list[str]]]:
        """Folders with their files, hidden ones left out but for the mark of a folder of ranks."""
        looked = 0
        for here, folders, files in os.walk(self.folder):
            folder = Path(here)
            deep = len(folder.relative_to(self.folder).parts)
            folders[:] = sorted(f for f in folders if not f.startswith("."))[
                : None if deep < _DEEPEST else 0
            ]
            looked += len(folders) + len(files)
            if looked > _MOST_LOOKED_AT:
                return
            yield folder, sorted(f for f in files if not f.startswith(".") or f == METADATA)


def _weights(name: str) -> bool:
    return name.endswith(WEIGHT_SUFFIXES)
