from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import (
    CohortEntry,
    EncoderEntry,
    ModalityEntry,
    RunConfig,
    RunError,
    StrategyEntry,
    TaskEntry,
    TrainingEntry,
    load_encoder,
    load_run,
    run_hash,
    save_encoder,
    write_model,
)
from models.contracts import Kind, ModalityInput
from models.encoders.clmbr import CLMBR, CLMBRConfig
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.fusion.base import STRATEGIES
from models.network import FusionModel, stream_widths
from models.vocabulary import Vocabulary
from tests.models.toys import events

VOCABULARY = Vocabulary(("A", "B", "C"), (0.0, 1.0, 2.0), (1.0, 2.0, 3.0))


def write_run(folder: Path, strategy: str = "co_attention") -> FusionModel:
    """A run with a trainable table encoder and a frozen event encoder stored beside it."""
    torch.manual_seed(0)
    clmbr = CLMBR(CLMBRConfig(vocabulary_size=VOCABULARY.size, token_width=16))
    name = save_encoder(clmbr, folder.parent / "encoders", vocabulary=VOCABULARY)
    labs = TableEncoder(TableConfig(columns=(TableColumn(name="a"), TableColumn(name="b"))))
    encoders = {"labs": labs, "ehr": clmbr}
    cls = STRATEGIES.get(strategy)
    model = FusionModel(encoders, cls(stream_widths(encoders), 1, cls.Config()), ["ehr"])
    config = RunConfig(
        name="toy",
        title="Toy",
        strategy=StrategyEntry(name=strategy, config=cls.Config().model_dump(mode="json")),
        modalities={
            "labs": ModalityEntry(
                kind=Kind.TABLE,
                title="Labs",
                encoder=EncoderEntry(
                    name="table_tokenizer", config=labs.config.model_dump(mode="json")
                ),
            ),
            "ehr": ModalityEntry(
                kind=Kind.EVENTS,
                title="EHR",
                encoder=EncoderEntry(
                    name="clmbr",
                    config=clmbr.config.model_dump(mode="json"),
                    frozen=True,
                    weights=name,
                ),
            ),
        },
        task=TaskEntry(name="death", kind="survival", title="Death"),
        cohort=CohortEntry(name="toy", title="Toy", fingerprint="0" * 16),
        training=TrainingEntry(
            created="2026-01-01T00:00:00+00:00",
            device="cpu",
            precision="32-true",
            seconds=1.0,
            n_train=1,
            n_tuning=1,
            epochs=1,
            best_epoch=0,
            tuning_score=None,
            settings={},
            versions={},
        ),
    )
    folder.mkdir(parents=True)
    write_model(folder, config, model, {"ehr": VOCABULARY})
    return model


def inputs() -> dict[str, ModalityInput]:
    return {
        "labs": ModalityInput(
            Kind.TABLE,
            {"values": torch.randn(2, 2), "mask": torch.ones(2, 2, dtype=torch.bool)},
            torch.tensor([True, True]),
        ),
        "ehr": events([[2, 3], [4]], [[None, 1.0], [2.0]], [[2.0, 1.0], [3.0]]),
    }


def test_a_run_comes_back_as_it_was(tmp_path):
    model = write_run(tmp_path / "runs" / "toy")
    (tmp_path / "encoders").mkdir(exist_ok=True)
    run = load_run(tmp_path / "runs" / "toy", [tmp_path / "runs" / "encoders"])
    torch.manual_seed(5)
    x = inputs()
    with torch.no_grad():
        assert torch.equal(model(x).prediction, run.model(x).prediction)
    assert run.vocabularies["ehr"] == VOCABULARY
    assert not any(p.requires_grad for p in run.model.parameters())
    assert not run.model.training
    stored = load_file(tmp_path / "runs" / "toy" / "model.safetensors")
    assert not any(name.startswith("encoders.ehr") for name in stored)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "unimodal"])
def test_every_strategy_comes_back_with_all_it_has_learnt(tmp_path, strategy):
    """Prediction and embeddings, with each modality absent in turn."""
    model = write_run(tmp_path / "runs" / "toy", strategy)
    run = load_run(tmp_path / "runs" / "toy", [tmp_path / "runs" / "encoders"])
    encoded = model.encode(inputs())
    for gone in ((), ("labs",), ("ehr",), ("labs", "ehr")):
        given = {
            n: e.without(torch.ones(2, dtype=torch.bool)) if n in gone else e
            for n, e in encoded.items()
        }
        with torch.no_grad():
            a, b = model.fuse(given), run.model.fuse(given)
        assert torch.allclose(a.prediction, b.prediction, atol=1e-6)
        for part in ("before", "after"):
            for name, embedding in getattr(a, part).items():
                assert torch.allclose(embedding, getattr(b, part)[name], atol=1e-6)


def test_the_hash_follows_the_weights(tmp_path):
    folder = tmp_path / "runs" / "toy"
    write_run(folder)
    before = run_hash(folder)
    state = load_file(folder / "model.safetensors")
    state[next(iter(state))] += 1
    save_file(state, folder / "model.safetensors")
    assert run_hash(folder) != before


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch /tmp/fusionlens_bomb",))


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))


def _nan(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["strategy.head.0.weight"][0, 0] = float("nan")
    save_file(state, folder / "model.safetensors")


def _missing(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["strategy.head.0.weight"]
    save_file(state, folder / "model.safetensors")


def _shape(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["strategy.head.0.weight"] = torch.zeros(2, 2)
    save_file(state, folder / "model.safetensors")


def _config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


BREAKAGES = {
    "truncated": (_truncate, "not readable as safetensors"),
    "pickle": (_pickle, "not readable as safetensors"),
    "nan": (_nan, "not finite"),
    "missing": (_missing, "lacks 'strategy.head.0.weight'"),
    "shape": (_shape, r"has shape \(2, 2\)"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "there is no such file"),
    "no config": (lambda f: (f / "config.json").unlink(), "there is no such file"),
    "not json": (lambda f: (f / "config.json").write_text("{"), "not readable as JSON"),
    "list": (lambda f: (f / "config.json").write_text("[]"), "field"),
    "future": (lambda f: _config(f, schema_version=2), "schema_version"),
    "strategy": (
        lambda f: _config(f, strategy={"name": "coattention", "config": {}}),
        "Did you mean 'co_attention'",
    ),
    "setting": (
        lambda f: _config(f, strategy={"name": "co_attention", "config": {"widht": 3}}),
        "widht",
    ),
    "path": (lambda f: _config(f, name="../../etc/passwd"), "name"),
}


@pytest.mark.parametrize("case", BREAKAGES)
def test_a_broken_run_is_refused_in_one_sentence(case, tmp_path):
    breaking, message = BREAKAGES[case]
    folder = tmp_path / "runs" / "toy"
    write_run(folder)
    breaking(folder)
    with pytest.raises(RunError, match=message) as caught:
        load_run(folder, [tmp_path / "runs" / "encoders"])
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/fusionlens_bomb").exists()


def test_an_encoder_that_was_changed_is_refused(tmp_path):
    encoder = CLMBR(CLMBRConfig(vocabulary_size=VOCABULARY.size, token_width=16))
    name = save_encoder(encoder, tmp_path, vocabulary=VOCABULARY)
    assert load_encoder(name, [tmp_path]).vocabulary == VOCABULARY
    path = tmp_path / name / "encoder.safetensors"
    state = load_file(path)
    state["norm.bias"] += 1
    save_file(state, path)
    with pytest.raises(RunError, match="do not have the hash"):
        load_encoder(name, [tmp_path])
    with pytest.raises(RunError, match="is in none of"):
        load_encoder("0" * 16, [tmp_path])


def test_saving_an_encoder_twice_keeps_one(tmp_path):
    encoder = CLMBR(CLMBRConfig(vocabulary_size=VOCABULARY.size, token_width=16))
    assert save_encoder(encoder, tmp_path) == save_encoder(encoder, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_vocabulary_comes_back(tmp_path):
    VOCABULARY.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == VOCABULARY
    assert VOCABULARY.ids(["C", "A", "?"]) == [4, 2, 1]
    assert VOCABULARY.code(3) == "B"
    with pytest.raises(ValueError, match="lists a code twice"):
        Vocabulary(("A", "A"), (0.0, 0.0), (1.0, 1.0))


def test_a_vocabulary_is_fitted_by_hand():
    fitted = Vocabulary.fit({"B": 3, "A": 2, "C": 1}, {"A": [1.0, 3.0]}, min_patients=2)
    assert fitted.codes == ("A", "B")
    assert fitted.value_mean == (2.0, 0.0)
    assert fitted.value_sd == (1.0, 1.0)
