"""Networks of the operator's own, named when the program is started and by nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "FUSIONLENS_ADAPTERS"


def use_adapters(names: Sequence[str]) -> None:
    """Import the named classes, here and in processes that this one starts."""
    if not names:
        return
    from models.importing.adapter import load_adapter

    for name in names:
        load_adapter(name)
    known = os.environ.get(VARIABLE, "").split()
    os.environ[VARIABLE] = " ".join(dict.fromkeys([*known, *names]))
    # The server changes its folder before it imports anything.
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, str(Path.cwd())]))


def use_given_adapters() -> None:
    """Import what the command that started this process was given."""
    use_adapters(os.environ.get(VARIABLE, "").split())
