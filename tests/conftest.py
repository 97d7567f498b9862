from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sample_data.workspace import write_workspace

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Path of a real file or folder by its name under shared/real; skips where it is absent."""

    def find(name: str) -> Path:
        path = REAL / name
        if not path.exists():
            pytest.skip(f"real data not present: {path}")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated cohorts in their smallest size, with all runs that ship."""
    return write_workspace(tmp_path_factory.mktemp("sample") / "workspace", "tiny")
