"""Results that are computed once and found again after a restart.

A result is a folder RESULTS/KEY with `result.json` and, where there are arrays,
`arrays.safetensors`. KEY is a hash of everything the result depends on: run hash, cohort
fingerprint, method and parameters. A folder is written under a temporary name and renamed, so
whatever moment a process is killed at, a result is there whole or not at all. After a power
failure a result may be damaged; such a one is removed when it is read, and made again.

Results of some methods are also looked for by less than their key (the latest report of a run,
say). RESULTS/.listed/METHOD/KEY.json holds the parameters of each, so that finding one does not
take reading all results of a whole cohort.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from analysis.partial import clear_stale, owned_folder
from analysis.writable import writable

RESULT_FILE, ARRAYS_FILE = "result.json", "arrays.safetensors"
LISTED_FOLDER = ".listed"
LISTED_METHODS = frozenset({"trust"})
Files = Mapping[str, bytes]
"""{file name: its bytes} of one result."""
T = TypeVar("T")


class Turn(Protocol):
    """Held while a result is made; re-entrant, since a result may be made of others."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def pass_on(self, ready: Callable[[], bool]) -> None:
        """Let others go first, in the midst of a computation, at least until `ready`."""


class _Alone:
    """The turn of who shares the store with no other thread."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def pass_on(self, ready: Callable[[], bool]) -> None:
        while not ready():
            time.sleep(0.05)


@dataclass(frozen=True)
class Result:
    """content: plain JSON. arrays: by name. parameters: what the key was made of."""

    content: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]
    parameters: Mapping[str, Any]


def result_key(parameters: Mapping[str, Any]) -> str:
    """20 hex digits over the parameters, order-free."""
    text = json.dumps(parameters, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def result_files(
    parameters: Mapping[str, Any],
    content: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Files:
    """The very files of a result; the same result gives the same bytes."""
    text = json.dumps(
        {"parameters": parameters, "content": content, "has_arrays": bool(arrays)},
        default=str,
        ensure_ascii=False,
    )
    files = {RESULT_FILE: text.encode("utf-8")}
    if arrays:
        files[ARRAYS_FILE] = save({n: np.ascontiguousarray(a) for n, a in arrays.items()})
    return files


class ResultStore:
    """A folder of results. One that may only be read is added to in its stand-in.

    turn: held while a result is made, and not while one is read; for several threads that share
    the store.
    """

    def __init__(self, folder: Path, turn: Turn | None = None) -> None:
        self.folder = Path(folder)
        self._turn: Turn = _Alone() if turn is None else turn
        self._making: set[str] = set()

    @property
    def home(self) -> Path:
        """Where results are written."""
        return writable(self.folder)

    @property
    def _homes(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.home, self.folder)))

    def get(self, parameters: Mapping[str, Any]) -> Result | None:
        """The result of these parameters, or None. A damaged one is removed and made again."""
        key = result_key(parameters)
        found = (self._read(home / key) for home in self._homes)
        return next((result for result in found if result is not None), None)

    def _read(self, home: Path) -> Result | None:
        path = home / RESULT_FILE
        if not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            arrays = home / ARRAYS_FILE
            if not isinstance(stored["content"], dict):
                raise TypeError("a result has named content")
            return Result(
                stored["content"],
                load_file(arrays) if stored["has_arrays"] else {},
                stored["parameters"],
            )
        except (ValueError, LookupError, TypeError, OSError, RecursionError, SafetensorError):
            shutil.rmtree(home, ignore_errors=True)
            return None

    def has(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a result of these parameters is stored; it is not read."""
        key = result_key(parameters)
        return any((home / key / RESULT_FILE).is_file() for home in self._homes)

    def put(
        self,
        parameters: Mapping[str, Any],
        content: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Result:
        """Store a result; when another process was faster, its equal result stays."""
        if parameters.get("method") in LISTED_METHODS:
            self._list(str(parameters["method"]), parameters)
        self.put_files(result_key(parameters), result_files(parameters, content, arrays))
        return Result(content, arrays or {}, parameters)

    def put_files(self, key: str, files: Files) -> None:
        """Store what `result_files` made, here or on another machine."""
        folder = self.home
        folder.mkdir(parents=True, exist_ok=True)
        home = folder / key
        with owned_folder(folder, ".partial-") as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            partial.chmod(0o755)
            try:
                partial.rename(home)
            except OSError:
                if not (home / RESULT_FILE).is_file():
                    raise

    def compute(
        self,
        parameters: Mapping[str, Any],
        make: Callable[[], tuple[Mapping[str, Any], Mapping[str, npt.NDArray[Any]]]],
        fits: Callable[[Result], bool] | None = None,
    ) -> Result:
        """The stored result, or a new one from `make`, also in place of one that does not fit."""

        def stored() -> Result | None:
            found = self.get(parameters)
            return found if found is None or fits is None or fits(found) else None

        def made() -> Result:
            found = make()
            if fits is not None:
                shutil.rmtree(self.home / result_key(parameters), ignore_errors=True)
            return self.put(parameters, *found)

        return self.once(parameters, stored, made)

    def once(
        self, parameters: Mapping[str, Any], stored: Callable[[], T | None], make: Callable[[], T]
    ) -> T:
        """What is stored of these parameters, or what `make` makes and stores, in turn.

        Who asks for what another thread is making waits for that.
        """
        found = stored()
        if found is not None:
            return found
        key = result_key(parameters)
        with self._turn:
            # Whoever had the turn before may have made this very result, or be in the midst of it.
            while (found := stored()) is None and key in self._making:
                self._turn.pass_on(lambda: key not in self._making)
            if found is not None:
                return found
            self._making.add(key)
            try:
                return make()
            finally:
                self._making.discard(key)

    def keys(self) -> frozenset[str]:
        """The keys of all results."""
        found: set[str] = set()
        for home in self._homes:
            with suppress(FileNotFoundError), os.scandir(home) as entries:
                found.update(e.name for e in entries if not e.name.startswith("."))
        return frozenset(found)

    def clear_stale(self) -> int:
        """Remove what killed processes left half written; returns how many folders that were."""
        return clear_stale(self.home, ".partial-*")

    # ------------------------------------------------------------ results that are listed

    def parameters_of(self, method: str) -> dict[str, Mapping[str, Any]]:
        """{key: parameters} of the stored results of one of `LISTED_METHODS`.

        A key may be listed whose result is not there (yet): `get` gives None.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for home in self._homes:
            listed = _listed(home, method)
            if not listed.is_dir():
                found |= self._begin_list(home, method)
            for path in sorted(listed.glob("[!.]*.json")):
                with suppress(OSError, ValueError):
                    found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _list(self, method: str, parameters: Mapping[str, Any]) -> None:
        """Before the result itself, so that no kill leaves one that is not listed."""
        home = self.home
        if not _listed(home, method).is_dir():
            home.mkdir(parents=True, exist_ok=True)
            self._begin_list(home, method)
        _write_entry(_listed(home, method), parameters)

    def _begin_list(self, folder: Path, method: str) -> dict[str, Mapping[str, Any]]:
        """Read through a store that has no list yet; keep the list where it can be written."""
        found: dict[str, Mapping[str, Any]] = {}
        mark = f'"method": "{method}"'.encode()
        for path in folder.glob(f"[!.]*/{RESULT_FILE}"):
            with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as stream:
                if mark in stream.read(400):
                    stream.seek(0)
                    found[path.parent.name] = json.load(stream)["parameters"]
        home = _listed(folder, method)
        if folder.is_dir():
            with suppress(OSError):  # a store that may only be read
                home.parent.mkdir(parents=True, exist_ok=True)
                with owned_folder(home.parent, ".partial-") as partial:
                    for parameters in found.values():
                        _write_entry(partial, parameters)
                    partial.chmod(0o755)
                    partial.rename(home)
        return found


def _listed(folder: Path, method: str) -> Path:
    return folder / LISTED_FOLDER / method


def _write_entry(folder: Path, parameters: Mapping[str, Any]) -> None:
    path = folder / f"{result_key(parameters)}.json"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(parameters, default=str, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)
