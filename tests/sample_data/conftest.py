from __future__ import annotations

from pathlib import Path

import pytest

from sample_data.workspace import write_workspace


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory) -> Path:
    """Both simulated cohorts in their smallest size, with all runs that ship."""
    return write_workspace(tmp_path_factory.mktemp("sample") / "workspace", "tiny")
