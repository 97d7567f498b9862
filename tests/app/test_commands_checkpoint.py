"""`fusionlens import checkpoint`, with a network of one's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from analysis.cohort.cohort import Cohort
from analysis.predict import predict, run_inputs
from app.adapters import VARIABLE
from app.cli import cli
from models.checkpoint import RunError, load_run
from models.importing.adapter import load_adapter
from models.importing.pickles import CheckpointError
from tests.app.own_network import TheirNet
from tests.app.toy import write_cohort

ADAPTER = "tests.app.own_network:TheirFusion"
WIDTH = 12


@pytest.fixture(scope="module")
def network() -> TheirNet:
    torch.manual_seed(0)
    return TheirNet(WIDTH).eval()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("own") / "pe", "pe", seed=0)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture
def home(tmp_path: Path, network: TheirNet, cohort: Path) -> Path:
    torch.save({"epoch": 7, "state_dict": network.state_dict()}, tmp_path / "best.ckpt")
    describe(tmp_path, cohort)
    return tmp_path


def describe(home: Path, cohort: Path, **changes: object) -> None:
    content = {
        "title": "A friend's network",
        "task": "mortality",
        "cohort": str(cohort),
        "strategy": ADAPTER,
        "modalities": {"imaging": {"encoder": "friends_row"}, "labs": {"encoder": "friends_row"}},
        "rename": [
            {"prefix": "image_net.", "to": "encoders.imaging.layer."},
            {"prefix": "labs_net.", "to": "encoders.labs.layer."},
            {"prefix": "head.", "to": "strategy.head."},
        ],
        **changes,
    }
    (home / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def command(home: Path, *more: str, before: tuple[str, ...] = ()):
    given = [str(home / "best.ckpt"), "--config", str(home / "model.yaml")]
    out = ["--out", str(home / "runs" / "friend")]
    return CliRunner().invoke(cli, [*before, "import", "checkpoint", *given, *out, *more])


def test_a_network_of_ones_own_predicts_as_it_did(home, network, cohort):
    answer = command(home, "--adapter", ADAPTER, "--json")
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    assert report["counts"] == {"renamed": 8}
    assert report["inferred"] == {"imaging.token_width": WIDTH, "labs.token_width": WIDTH}
    assert report["assumed"] == {}
    run = load_run(home / "runs" / "friend")
    people = Cohort.open(cohort)
    ids = people.subject_ids("internal")
    made = predict(run, people, ids)
    inputs = run_inputs(run, people, ids)
    rows = {n: i.fields["values"] * i.fields["mask"] for n, i in inputs.items()}
    with torch.no_grad():
        by_owner = network(
            rows["imaging"], rows["labs"], inputs["imaging"].present, inputs["labs"].present
        )
    assert not inputs["labs"].present.all()
    assert torch.allclose(torch.as_tensor(made.values).float(), by_owner, atol=1e-6)


def test_the_class_may_be_named_before_any_command(home):
    assert command(home, before=("--adapter", ADAPTER)).exit_code == 0
    assert ADAPTER in os.environ[VARIABLE]


def test_a_dry_run_reports_and_writes_nothing(home):
    answer = command(home, "--adapter", ADAPTER, "--dry-run", "--every")
    assert answer.exit_code == 0
    assert "8 renamed." in answer.stdout
    assert f"Read off the shapes: imaging.token_width = {WIDTH}" in answer.stdout
    assert sorted(p.name for p in home.iterdir()) == ["best.ckpt", "model.yaml"]


def test_no_file_can_name_a_class(home, cohort, monkeypatch):
    """Neither model.yaml nor a run's config.json makes Python import anything."""
    (home / "evil_adapter.py").write_text(f"open({str(home / 'canary')!r}, 'w')\n")
    monkeypatch.syspath_prepend(home)
    describe(home, cohort, strategy="evil_adapter:Thing")
    answer = command(home)
    assert answer.exit_code == 2
    assert "name it with --adapter evil_adapter:Thing" in answer.output
    assert not (home / "canary").exists()
    describe(home, cohort)
    assert command(home, "--adapter", ADAPTER).exit_code == 0
    path = home / "runs" / "friend" / "config.json"
    content = json.loads(path.read_text())
    content["strategy"]["name"] = "evil_adapter:Thing"
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match="--adapter evil_adapter:Thing"):
        load_run(path.parent)
    assert not (home / "canary").exists()


def test_what_does_not_fit_ends_with_a_sentence_and_code_2(home, cohort):
    describe(home, cohort, rename=[])
    answer = command(home, "--adapter", ADAPTER)
    assert answer.exit_code == 2
    assert "8 tensors are missing (encoders.imaging.layer.weight" in answer.output
    assert not (home / "runs").exists()
    torch.save({"x": 1}, home / "best.ckpt")
    answer = command(home, "--adapter", ADAPTER)
    assert answer.exit_code == 2
    assert "holds no weights by name" in answer.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", "write it as package.module:Class"),
        ("no_such_module_x:Thing", "cannot be imported"),
        ("tests.app.own_network:Nothing", "cannot be imported"),
        ("tests.app.own_network:TheirNet", "is not a FusionStrategy"),
    ],
)
def test_a_wrong_adapter_is_refused_in_words(name, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load_adapter(name)
    assert "\n" not in str(caught.value)
