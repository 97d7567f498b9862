"""What one visitor uploaded: a private folder, files under names of ours, gone when they leave."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.figures.text import listed
from app.workspace import WorkspaceError
from models.checkpoint import BASELINE_FILE
from models.importing.source import MOST_HEADER, WEIGHT_SUFFIXES

INDEX = ".index.json"
ACCEPTED = (*WEIGHT_SUFFIXES, ".json", ".parquet")
_BLOCK = 1 << 20
_SPARE = 1 << 30
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Brought:
    """An uploaded file. name: the visitor's, for people only; path: ours."""

    name: str
    path: Path
    size: int


class Belongings:
    """Uploaded files by the name the visitor knows them under.

    A name from the browser is a label and never a path: files are numbered. Whoever still reads
    them says so by `borrow` and `give_back`; after `close` the folder goes with the last of those.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fusionlens-import-"))
        self._files: dict[str, Brought] = {}
        self._made = 0
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self._end = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def files(self) -> Mapping[str, Brought]:
        """{label: file}, in the order in which they came."""
        return dict(self._files)

    def take(self, name: str, stream: IO[bytes], size: int) -> None:
        """Keep an uploaded file. Raises WorkspaceError when it is of no use or there is no room."""
        label = "".join(c if c.isprintable() else "?" for c in name.strip())[-_LONGEST_NAME:]
        suffix = next((s for s in (INDEX, *ACCEPTED) if label.endswith(s)), None)
        if suffix is None:
            raise WorkspaceError(f"{label}: is none of {listed(list(ACCEPTED))}; upload weights.")
        if shutil.disk_usage(self.folder).free < size + _SPARE:
            raise WorkspaceError(f"{label}: there is no room for it on this machine; ask for some.")
        path = self.new(suffix)
        with path.open("xb") as out:
            while block := stream.read(_BLOCK):
                out.write(block)
        self.drop(label)
        self._files[label] = Brought(label, path, path.stat().st_size)

    def new(self, suffix: str) -> Path:
        """A path in the folder that nothing has yet."""
        self._made += 1
        place = self.folder / f"{self._made:04d}"
        if suffix == ".parquet":
            # The only one that is told by its name.
            place.mkdir()
            return place / BASELINE_FILE
        return place.with_name(place.name + suffix)

    def drop(self, label: str) -> None:
        """Delete a file."""
        gone = self._files.pop(label, None)
        if gone is not None:
            gone.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all files."""
        for label in list(self._files):
            self.drop(label)

    def checkpoints(self) -> list[str]:
        """Labels of what may be a checkpoint: indices, and weights that no index names."""
        indices = [label for label in self._files if label.endswith(INDEX)]
        shards = {shard for label in indices for shard in self._shards(label).values()}
        weights = [n for n in self._files if n.endswith(WEIGHT_SUFFIXES) and n not in shards]
        return [*indices, *weights]

    def companions(self) -> list[str]:
        """Labels of vocabularies and baseline hazards."""
        ends = (".json", ".parquet")
        return [n for n in self._files if n.endswith(ends) and not n.endswith(INDEX)]

    def source(self, label: str) -> Path:
        """Where the checkpoint of that label lies, with its shards beside it.

        An index is written anew with our names of the shards. Raises WorkspaceError when a shard
        was not uploaded.
        """
        if not label.endswith(INDEX):
            return self._files[label].path
        places = self._shards(label)
        lacking = sorted(set(places.values()) - set(self._files))
        if not places or lacking:
            what = f"the shards {listed(lacking[:4])} are not there" if places else "names none"
            raise WorkspaceError(f"{label}: {what}; upload all shards that the index names.")
        ours = {name: self._files[shard].path.name for name, shard in places.items()}
        kept = self._files[label].path
        path = kept.with_name(f"ours-{kept.name}")
        path.write_text(json.dumps({"weight_map": ours}), encoding="utf-8")
        return path

    def _shards(self, label: str) -> dict[str, str]:
        """{tensor: label of its shard} of an index; empty where it is none."""
        file = self._files[label]
        if file.size > MOST_HEADER:
            return {}
        try:
            content = json.loads(file.path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return {}
        places = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(places, dict):
            return {}
        return {str(name): str(shard) for name, shard in places.items()}

    # ------------------------------------------------------------ how it ends

    def borrow(self) -> None:
        """Somebody reads the files; they stay until `give_back`."""
        with self._lock:
            self._readers += 1

    def give_back(self) -> None:
        """That reader is done."""
        with self._lock:
            self._readers -= 1
            if self._closed and not self._readers:
                self._end()

    def close(self) -> None:
        """The visitor has left: remove everything, or have the last reader do it."""
        with self._lock:
            self._closed = True
            if not self._readers:
                self._end()
