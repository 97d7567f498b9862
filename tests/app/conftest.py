from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.toy import make_workspace


@pytest.fixture(scope="session")
def workspace_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy workspace, or a copy of the one named by FUSIONLENS_TEST_WORKSPACE."""
    return make_workspace(tmp_path_factory.mktemp("app") / "workspace")
