"""A run that ships, saved as others save theirs, comes back as the same model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.importing.checkpoint import examine_checkpoint, import_checkpoint
from analysis.predict import predict
from models.checkpoint import load_run
from models.importing.pickles import CheckpointError
from tests.models.importing.formats import FORMATS

RUN = "pe-late-onehot"
FORMS = (
    "zip",
    "legacy",
    "compiled in ddp",
    "fsdp",
    "cuda",
    "lightning, omegaconf",
    "lightning, namespace",
    "safetensors shards",
    "distributed, two ranks",
    "deepspeed",
)


@pytest.fixture(scope="module")
def original(tiny_workspace):
    return load_run(tiny_workspace / "runs" / RUN, [tiny_workspace / "encoders"])


@pytest.fixture(scope="module")
def cohort(tiny_workspace, tmp_path_factory):
    """Linked, so that features of imported encoders do not gather in the shared workspace."""
    folder = tmp_path_factory.mktemp("cohorts") / "pe"
    return Cohort.open(
        shutil.copytree(tiny_workspace / "cohorts" / "pe", folder, copy_function=os.link)
    )


@pytest.fixture(scope="module")
def expected(original, cohort):
    return predict(original, cohort, cohort.subject_ids("internal")).values


def state_of(run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def model_file(folder: Path, run, cohort, **changes) -> Path:
    """model.yaml beside the codes that the run was trained with."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.folder / "vocabulary.json", folder / "codes.json")
    content = {
        "title": "Late fusion of a friend",
        "task": "mortality",
        "cohort": str(cohort.folder),
        "strategy": "late",
        "modalities": {
            "ct": {"encoder": "ct_resnet"},
            "ehr": {"encoder": "onehot", "vocabulary": "codes.json"},
        },
        **changes,
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def taken(source: Path, config: Path, out: Path, **options):
    return import_checkpoint(examine_checkpoint(source, config), out, **options)


@pytest.mark.parametrize("form", FORMS)
def test_predictions_are_those_of_the_original(form, original, cohort, expected, tmp_path):
    source = FORMATS[form](state_of(original), tmp_path / "saved")
    run = taken(source, model_file(tmp_path, original, cohort), tmp_path / "runs" / "mine")
    again = predict(run, cohort, cohort.subject_ids("internal")).values
    assert np.array_equal(again, expected)
    assert run.config.imported.fresh == ()
    assert run.config.training.n_train is None
    assert run.vocabularies["ehr"] == original.vocabularies["ehr"]


def test_what_shapes_show_is_read_and_what_they_hide_is_told(original, cohort, tmp_path):
    """A narrower strategy without a linear path, on which model.yaml is silent."""
    from models.fusion.base import STRATEGIES
    from models.network import FusionModel, stream_widths

    torch.manual_seed(1)
    cls = STRATEGIES.get("co_attention")
    encoders = dict(original.model.encoders.items())
    config = cls.Config(width=24, heads=2, linear_path=False)
    model = FusionModel(encoders, cls(stream_widths(encoders), 1, config))
    source = FORMATS["zip"](dict(model.state_dict()), tmp_path / "saved")
    config = model_file(tmp_path, original, cohort, strategy="co_attention")
    examined = examine_checkpoint(source, config)
    assert examined.misfits() == []
    assert examined.inferred == {"strategy.width": 24, "strategy.linear_path": 0}
    assert examined.assumed["strategy.heads"] == 4
    assert "strategy.width" not in examined.assumed
    assert examined.assumed["ct.hu_window"] == [-1000.0, 400.0]
    run = import_checkpoint(examined, tmp_path / "mine")
    assert run.config.strategy.config["width"] == 24
    assert run.config.strategy.config["linear_path"] is False
    assert run.config.imported.assumed["strategy.heads"] == 4


def test_half_precision_comes_back_close(original, cohort, expected, tmp_path):
    state = {n: t.bfloat16() if t.is_floating_point() else t for n, t in state_of(original).items()}
    source = FORMATS["zip"](state, tmp_path / "saved")
    run = taken(source, model_file(tmp_path, original, cohort), tmp_path / "mine")
    again = predict(run, cohort, cohort.subject_ids("internal")).values
    assert np.abs(again - expected).max() < 0.15 * expected.std()
    assert np.corrcoef(again[:, 0], expected[:, 0])[0, 1] > 0.99


def test_rules_bring_other_names_in(original, cohort, expected, tmp_path):
    state = {
        n.replace("encoders.ct.", "ct_net.").replace("strategy.", "fusion.head."): t
        for n, t in state_of(original).items()
    }
    source = FORMATS["zip"](state, tmp_path / "saved")
    rules = [
        {"prefix": "ct_net.", "to": "encoders.ct."},
        {"regex": r"^fusion\.head\.", "to": "strategy."},
    ]
    config = model_file(tmp_path, original, cohort)
    with pytest.raises(CheckpointError, match=r"does not fit model\.yaml: \d+ tensors are missing"):
        taken(source, config, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    config = model_file(tmp_path, original, cohort, rename=rules)
    run = taken(source, config, tmp_path / "mine")
    again = predict(run, cohort, cohort.subject_ids("internal")).values
    assert np.array_equal(again, expected)


def test_what_is_missing_must_be_named(original, cohort, tmp_path):
    state = state_of(original)
    gone = [name for name in state if name.startswith("strategy.linear.")]
    for name in gone:
        del state[name]
    source = FORMATS["zip"](state, tmp_path / "saved")
    config = model_file(
        tmp_path, original, cohort, strategy={"name": "late", "config": {"linear_path": True}}
    )
    with pytest.raises(CheckpointError, match=r"2 tensors are missing \(strategy\.linear\.ct"):
        taken(source, config, tmp_path / "mine")
    assert not list(tmp_path.glob("*mine*"))
    run = taken(source, config, tmp_path / "mine", allow_missing=["strategy.linear.*"])
    assert set(run.config.imported.fresh) == set(gone)
    kept = run.model.state_dict()
    assert all(bool((kept[name] == 0).all()) for name in gone)


def test_codes_are_learnt_on_the_training_patients_and_that_is_said(original, cohort, tmp_path):
    """A checkpoint whose vocabulary is the cohort's own, of codes in at least 3 patients."""
    from analysis.importing.draft import learnt_vocabulary
    from models.encoders.counts import CodeCounts, CodeCountsConfig
    from models.fusion.base import STRATEGIES
    from models.network import FusionModel, stream_widths

    vocabulary = learnt_vocabulary(cohort, "ehr", 3)
    assert vocabulary.size not in (original.vocabularies["ehr"].size, 0)
    birth = vocabulary.index.get("MEDS_BIRTH")
    encoders = {
        "ct": original.model.encoder("ct"),
        "ehr": CodeCounts(CodeCountsConfig(vocabulary_size=vocabulary.size, birth_id=birth)),
    }
    cls = STRATEGIES.get("late")
    model = FusionModel(encoders, cls(stream_widths(encoders), 1, cls.Config()))
    source = FORMATS["zip"](dict(model.state_dict()), tmp_path / "saved")
    parts = {"ct": {"encoder": "ct_resnet"}, "ehr": {"encoder": "onehot"}}
    config = model_file(tmp_path, original, cohort, modalities=parts)
    run = taken(source, config, tmp_path / "mine")
    assert run.vocabularies["ehr"] == vocabulary
    said = " ".join(run.config.imported.fitted)
    assert "codes of at least 3 of 40 training patients" in said
    assert "the baseline hazard: 40 patients" in said
    assert read_baseline(run.folder).cumulative_hazard[-1] > 0
    wrong = FORMATS["zip"](state_of(original), tmp_path / "other")
    with pytest.raises(CheckpointError, match="give the codes it was trained with as 'vocabulary'"):
        examine_checkpoint(wrong, config)


def test_values_that_are_not_finite_are_refused(original, cohort, tmp_path):
    state = state_of(original)
    state["strategy.linear.ct.weight"][0, 0] = float("nan")
    source = FORMATS["safetensors"](state, tmp_path / "saved")
    with pytest.raises(CheckpointError, match=r"'strategy\.linear\.ct\.weight' holds values"):
        taken(source, model_file(tmp_path, original, cohort), tmp_path / "mine")
    assert not list(tmp_path.glob("*mine*"))


def test_a_stored_encoder_needs_no_weights_in_the_file(
    original, cohort, expected, tmp_path, tiny_workspace
):
    state = {n: t for n, t in state_of(original).items() if not n.startswith("encoders.ct.")}
    source = FORMATS["safetensors"](state, tmp_path / "saved")
    stored = original.config.modalities["ct"].encoder.weights
    parts = {
        "ct": {"encoder": {"stored": stored}},
        "ehr": {"encoder": "onehot", "vocabulary": "codes.json"},
    }
    config = model_file(tmp_path, original, cohort, modalities=parts)
    places = [tiny_workspace / "encoders"]
    examined = examine_checkpoint(source, config, places)
    run = import_checkpoint(examined, tmp_path / "mine", encoder_places=places)
    again = predict(run, cohort, cohort.subject_ids("internal")).values
    assert np.array_equal(again, expected)


FIELDS = {
    "unknown field": ({"titel": "x"}, "field 'titel'"),
    "setting": ({"strategy": {"name": "late", "config": {"widht": 3}}}, "strategy.config.widht"),
    "strategy": ({"strategy": "lat"}, "Did you mean 'late'"),
    "encoder": ({"modalities": {"ct": {"encoder": "resnet"}}}, "Unknown encoder 'resnet'"),
    "kind": ({"modalities": {"ct": {"encoder": "onehot"}}}, "ct"),
    "task": ({"task": "death"}, "there is no task 'death'"),
    "modality": ({"modalities": {"mri": {"encoder": "ct_resnet"}}}, "mri"),
    "both": ({"rename": [{"prefix": "a", "regex": "b"}]}, "field 'rename.0': a rule has either"),
    "regex": ({"rename": [{"regex": "("}]}, "is no regular expression"),
    "within": ({"within": "nowhere"}, "it has no 'nowhere'"),
    "none": ({"modalities": {}}, "field 'modalities'"),
    "size": ({"strategy": {"name": "late", "config": {"width": 90_000_000}}}, "mend its settings"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_model_file_names_its_field(case, original, cohort, tmp_path):
    changes, message = FIELDS[case]
    source = tmp_path / "a.pt"
    torch.save({"epoch": 1, "state_dict": {"w": torch.zeros(1)}}, source)
    config = model_file(tmp_path, original, cohort, **changes)
    with pytest.raises((ValueError, KeyError)) as caught:
        examine_checkpoint(source, config)
    said = str(caught.value.args[0])
    assert message in said
    assert "\n" not in said


def test_yaml_that_unfolds_without_end_is_refused(tmp_path):
    path = tmp_path / "model.yaml"
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]
    path.write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match="uses aliases"):
        examine_checkpoint(tmp_path / "a.pt", path)


def test_an_existing_folder_is_left_alone(original, cohort, tmp_path):
    source = FORMATS["zip"](state_of(original), tmp_path / "saved")
    examined = examine_checkpoint(source, model_file(tmp_path, original, cohort))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    with pytest.raises(CheckpointError, match="already exists"):
        import_checkpoint(examined, tmp_path / "mine")
    assert (tmp_path / "mine" / "precious").read_text() == "x"


def test_config_json_tells_where_the_weights_come_from(original, cohort, tmp_path):
    source = FORMATS["lightning"](state_of(original), tmp_path / "saved")
    run = taken(source, model_file(tmp_path, original, cohort), tmp_path / "mine")
    content = json.loads((run.folder / "config.json").read_text())
    assert content["title"] == "Late fusion of a friend"
    assert content["imported"]["source"] == "best.ckpt"
    assert len(content["imported"]["sha256"]) == 64
    assert "Lightning" in content["imported"]["form"]
    assert 0 <= content["training"]["tuning_score"] <= 1
