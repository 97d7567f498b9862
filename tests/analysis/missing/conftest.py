from __future__ import annotations

import pytest

from analysis.cohort.cohort import Cohort
from analysis.store import ResultStore
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Three tables, two class tasks and a survival task; a fifth of the patients lack each."""
    return Cohort.open(write_cohort(tmp_path_factory.mktemp("missing") / "hf", lacking=0.2))


@pytest.fixture(scope="session")
def runs(cohort, tmp_path_factory):
    home = tmp_path_factory.mktemp("missing-runs")
    return {
        "hf": train(
            cohort.folder, home / "hf", strategy="cross_attention", modalities=("labs", "ecg")
        ),
        "three": train(cohort.folder, home / "three"),
        "time": train(cohort.folder, home / "time", task="incident_hf"),
        "one": train(cohort.folder, home / "one", strategy="unimodal", modalities=("labs",)),
    }


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")
