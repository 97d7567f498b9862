"""Where to write what belongs beside data that may only be read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

VARIABLE = "FUSIONLENS_CACHE"


def writable(folder: Path) -> Path:
    """`folder`, or the folder that stands in for it where it cannot be written.

    An archive or a colleague's workspace is often open to be read only. What is computed of it then
    lies in this user's cache, under a name made of the folder's own path, and is found again there.
    """
    there = Path(folder).absolute()
    existing = next(p for p in (there, *there.parents) if p.exists())
    return Path(folder) if os.access(existing, os.W_OK | os.X_OK) else stand_in(there)


def stand_in(folder: Path) -> Path:
    """CACHE/fusionlens/HASH/NAME for a folder; for its owner's eyes only."""
    given = os.environ.get(VARIABLE) or os.environ.get("XDG_CACHE_HOME")
    cache = Path(given) if given else Path.home() / ".cache"
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    home = cache / "fusionlens" / name
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home / folder.name
