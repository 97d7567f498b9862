"""Results that are computed once and found again after a restart.

A result is a folder RESULTS/KEY with `result.json` and, where there are arrays,
`arrays.safetensors`. KEY is a hash of everything the result depends on: run hash, cohort
fingerprint, method and parameters. A folder is written under a temporary name and renamed, so
a result is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file


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


class ResultStore:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def get(self, parameters: Mapping[str, Any]) -> Result | None:
        """The result of these parameters, or None. A damaged one is removed and made again."""
        home = self.folder / result_key(parameters)
        path = home / "result.json"
        if not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            arrays = home / "arrays.safetensors"
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
        return (self.folder / result_key(parameters) / "result.json").is_file()

    def put(
        self,
        parameters: Mapping[str, Any],
        content: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Result:
        """Store a result; when another process was faster, its equal result stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        home = self.folder / result_key(parameters)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        try:
            if arrays:
                save_file(
                    {name: np.ascontiguousarray(array) for name, array in arrays.items()},
                    partial / "arrays.safetensors",
                )
            text = json.dumps(
                {"parameters": parameters, "content": content, "has_arrays": bool(arrays)},
                default=str,
                ensure_ascii=False,
            )
            (partial / "result.json").write_text(text, encoding="utf-8")
            partial.chmod(0o755)
            partial.rename(home)
        except OSError:
            if not (home / "result.json").is_file():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return Result(content, arrays or {}, parameters)

    def compute(
        self,
        parameters: Mapping[str, Any],
        make: Callable[[], tuple[Mapping[str, Any], Mapping[str, npt.NDArray[Any]]]],
    ) -> Result:
        """The stored result, or a new one from `make`."""
        found = self.get(parameters)
        return found if found is not None else self.put(parameters, *make())
