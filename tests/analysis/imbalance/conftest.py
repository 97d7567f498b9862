from __future__ import annotations

import pytest

from analysis.cohort.cohort import Cohort
from analysis.experiment import Plan, train_run
from analysis.store import ResultStore
from models.training import TrainingSettings, _Module
from tests.analysis.classification.toys import train, write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Three tables, two class tasks and a survival task; a fifth of the patients lack each."""
    return Cohort.open(write_cohort(tmp_path_factory.mktemp("imbalance") / "hf", lacking=0.2))


@pytest.fixture(scope="session")
def runs(cohort, tmp_path_factory):
    home = tmp_path_factory.mktemp("imbalance-runs")
    return {
        "hf": train(cohort.folder, home / "hf"),
        "grade": train(cohort.folder, home / "grade", task="grade"),
        "time": train(cohort.folder, home / "time", task="incident_hf"),
        "labs": train(
            cohort.folder, home / "labs", "incident_hf", strategy="unimodal", modalities=("labs",)
        ),
        "echo": train(
            cohort.folder, home / "echo", "incident_hf", strategy="unimodal", modalities=("echo",)
        ),
    }


@pytest.fixture(scope="session")
def collapsed(cohort, tmp_path_factory):
    """A late fusion of labs and echo to whose echo no gradient ever came."""

    def blocked(module, optimizer):
        for name, parameter in module.model.named_parameters():
            if "echo" in name.split(".") and parameter.grad is not None:
                parameter.grad = None
        before(module, optimizer)

    before = _Module.on_before_optimizer_step
    plan = Plan(
        cohort=cohort.folder,
        task="incident_hf",
        strategy="late",
        strategy_config={"linear_path": False},
        out=tmp_path_factory.mktemp("collapsed") / "late",
        encoder_store=tmp_path_factory.mktemp("collapsed-encoders"),
        modalities=("labs", "echo"),
        settings=TrainingSettings(max_epochs=30, learning_rate=0.01),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Module, "on_before_optimizer_step", blocked)
        return train_run(plan, accelerator="cpu")


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")
