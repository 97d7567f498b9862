"""Models of a diagnosis, and encoders that come with a file of their own."""

from __future__ import annotations

import pytest
import torch
import yaml

from analysis.cohort.cohort import Cohort
from analysis.importing.checkpoint import examine_checkpoint, import_checkpoint
from analysis.importing.draft import table_config
from analysis.predict import predict
from models.encoders.table import TableEncoder
from models.fusion.base import STRATEGIES
from models.importing.pickles import CheckpointError
from models.network import FusionModel, stream_widths
from tests.analysis.classification.toys import write_cohort

TABLES = ("labs", "ecg")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort.open(write_cohort(tmp_path_factory.mktemp("labels") / "hf"))


def network(cohort, outputs: int, **config) -> FusionModel:
    torch.manual_seed(0)
    encoders = {name: TableEncoder(table_config(cohort, name)) for name in TABLES}
    cls = STRATEGIES.get("late")
    model = FusionModel(encoders, cls(stream_widths(encoders), outputs, cls.Config(**config)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def described(folder, cohort, task: str, **encoders):
    parts = {name: {"encoder": encoders.get(name, "table_tokenizer")} for name in TABLES}
    content = {"task": task, "cohort": str(cohort.folder), "strategy": "late", "modalities": parts}
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "model.yaml"


@pytest.mark.parametrize(("task", "outputs"), [("hf", 1), ("grade", 3)])
def test_a_diagnosis_comes_back_with_its_intercept(task, outputs, cohort, tmp_path):
    model = network(cohort, outputs, intercept=outputs == 1)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    examined = examine_checkpoint(tmp_path / "a.pt", described(tmp_path, cohort, task))
    assert examined.inferred == ({"strategy.intercept": 1} if outputs == 1 else {})
    run = import_checkpoint(examined, tmp_path / "mine")
    assert run.config.imported.fitted == ()
    assert not (run.folder / "baseline_hazard.parquet").exists()
    ids = cohort.subject_ids("internal")
    again = predict(run, cohort, ids)
    assert again.values.shape == (len(ids), outputs)
    own, other = run.model.state_dict(), model.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in other)


def test_the_number_of_classes_must_be_the_tasks(cohort, tmp_path):
    torch.save(network(cohort, 3).state_dict(), tmp_path / "a.pt")
    examined = examine_checkpoint(tmp_path / "a.pt", described(tmp_path, cohort, "hf"))
    with pytest.raises(CheckpointError, match="tensors have another shape"):
        import_checkpoint(examined, tmp_path / "mine")


def test_an_encoder_may_come_from_its_own_file(cohort, tmp_path):
    model = network(cohort, 1, intercept=True)
    state = model.state_dict()
    inside = "encoders.labs."
    labs = {n.removeprefix(inside): t for n, t in state.items() if n.startswith(inside)}
    torch.save({n: t for n, t in state.items() if not n.startswith(inside)}, tmp_path / "a.pt")
    torch.save({"encoder": labs}, tmp_path / "labs.pth")
    part = {"name": "table_tokenizer", "weights": "labs.pth"}
    config = described(tmp_path, cohort, "hf", labs=part)
    run = import_checkpoint(examine_checkpoint(tmp_path / "a.pt", config), tmp_path / "mine")
    assert all(torch.equal(t, state[name]) for name, t in run.model.state_dict().items())
    labs[next(iter(labs))] = torch.zeros(1)
    torch.save({"encoder": labs}, tmp_path / "labs.pth")
    with pytest.raises(CheckpointError, match="does not fit the encoder of 'labs'"):
        import_checkpoint(examine_checkpoint(tmp_path / "a.pt", config), tmp_path / "other")
    assert not list(tmp_path.glob("*other*"))
