from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.toy import make_workspace


@pytest.fixture(scope="session")
def workspace_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy workspace, or a copy of the one named by FUSIONLENS_TEST_WORKSPACE."""
    return make_workspace(tmp_path_factory.mktemp("app") / "workspace")


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Put `__main__` back: AppTest leaves its script there, and a process pool that is started
    later would run that instead of pytest."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
