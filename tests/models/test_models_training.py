from __future__ import annotations

import numpy as np
import pytest
import torch
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

import models.fusion  # noqa: F401
from models.contracts import Kind, ModalityInput
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.fusion.base import STRATEGIES
from models.losses import class_loss, cox_loss, info_nce
from models.network import FusionModel, stream_widths
from models.training import SplitData, TrainingSettings, train
from tests.models.toys import encoded, streams


def score(prediction: torch.Tensor, patients: SplitData) -> float:
    return concordance_index(
        patients.time_days.numpy(), -prediction[:, 0].numpy(), patients.event.numpy()
    )


def survival_split(n: int, seed: int) -> SplitData:
    """Two tables; the first column of each carries half of the hazard, the rest is noise."""
    rng = np.random.default_rng(seed)
    x = {name: rng.normal(size=(n, 3)) for name in ("labs", "history")}
    hazard = np.exp(1.2 * x["labs"][:, 0] + 1.2 * x["history"][:, 0])
    death, loss = rng.exponential(300 / hazard), rng.exponential(900, n)
    present = {name: rng.random(n) > 0.05 for name in x}
    present["labs"] |= ~present["history"]
    return SplitData(
        {
            name: ModalityInput(
                Kind.TABLE,
                {
                    "values": torch.tensor(values).float(),
                    "mask": torch.tensor(present[name])[:, None].expand(-1, 3),
                },
                torch.tensor(present[name]),
            )
            for name, values in x.items()
        },
        torch.tensor(np.minimum(death, loss)).float(),
        torch.tensor(death <= loss),
    )


def toy_model(strategy: str = "late", frozen=()) -> FusionModel:
    torch.manual_seed(0)
    columns = tuple(TableColumn(name=c) for c in "abc")
    encoders = {n: TableEncoder(TableConfig(columns=columns)) for n in ("labs", "history")}
    cls = STRATEGIES.get(strategy)
    return FusionModel(encoders, cls(stream_widths(encoders), 1, cls.Config()), frozen)


def fit(model, folder, epochs=6, **settings):
    return train(
        model,
        "survival",
        survival_split(300, 1),
        survival_split(120, 2),
        TrainingSettings(max_epochs=epochs, batch_size=64, **settings),
        score,
        checkpoint_folder=folder,
        accelerator="cpu",
    )


def test_cox_loss_equals_lifelines_with_ties():
    rng = np.random.default_rng(0)
    import pandas as pd

    frame = pd.DataFrame(
        {"t": np.ceil(rng.exponential(5, 80)), "e": rng.random(80) < 0.7, "x": rng.normal(size=80)}
    )
    fitter = CoxPHFitter().fit(frame, "t", "e")
    risk = torch.tensor(frame["x"].to_numpy() * float(fitter.params_["x"]))
    loss = cox_loss(risk, torch.tensor(frame["e"].to_numpy()), torch.tensor(frame["t"].to_numpy()))
    events = int(frame["e"].sum())
    assert float(loss) * events == pytest.approx(-fitter.log_likelihood_, rel=1e-6)


def test_cox_loss_without_events_is_zero_with_a_gradient():
    risk = torch.randn(5, requires_grad=True)
    loss = cox_loss(risk, torch.zeros(5, dtype=torch.bool), torch.rand(5))
    loss.backward()
    assert float(loss.detach()) == 0
    assert risk.grad is not None


def test_info_nce_by_hand():
    unit = torch.eye(3)
    expected = -torch.log(torch.exp(torch.tensor(2.0)) / (torch.exp(torch.tensor(2.0)) + 2))
    assert float(info_nce(unit, unit, 0.5)) == pytest.approx(float(expected), rel=1e-6)


def test_class_loss_of_one_logit_is_binary():
    logits = torch.tensor([[0.0], [2.0]])
    expected = (np.log(2) + np.log1p(np.exp(-2))) / 2
    assert float(class_loss(logits, torch.tensor([1, 1]))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "unimodal"])
def test_training_finds_the_hazard(strategy, tmp_path):
    model = toy_model(strategy)
    result = fit(model, tmp_path, epochs=25, learning_rate=5e-3)
    test = survival_split(400, 3)
    with torch.no_grad():
        prediction = model(test.inputs).prediction
    assert score(prediction, test) > 0.74
    assert result.device == "cpu"


def test_history_has_gradient_norms_and_unimodal_scores(tmp_path):
    result = fit(toy_model(), tmp_path)
    for name in ("gradient_norm", "unimodal_score"):
        rows = [r for r in result.history if r["name"] == name]
        assert {r["modality"] for r in rows} == {"labs", "history"}
        assert {r["epoch"] for r in rows} == set(range(6))
        assert all(np.isfinite(r["value"]) and r["value"] > 0 for r in rows)
    losses = [r["value"] for r in result.history if r["name"] == "tuning_loss"]
    assert result.best_epoch == int(np.argmin(losses))


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole = toy_model("contrastive")
    fit(whole, tmp_path / "whole", epochs=6)

    class KilledError(Exception):
        pass

    def stop(done: int, total: int, metrics: dict) -> None:
        if done == 3:
            raise KilledError

    broken = toy_model("contrastive")
    arguments = (
        "survival",
        survival_split(300, 1),
        survival_split(120, 2),
        TrainingSettings(max_epochs=6, batch_size=64),
        score,
    )
    with pytest.raises(KilledError):
        train(
            broken,
            *arguments,
            checkpoint_folder=tmp_path / "two",
            progress=stop,
            accelerator="cpu",
        )
    resumed = toy_model("contrastive")
    result = train(resumed, *arguments, checkpoint_folder=tmp_path / "two", accelerator="cpu")
    assert {r["epoch"] for r in result.history} == set(range(6))
    for (name, a), (_, b) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.allclose(a.float(), b.float(), atol=1e-6), name


def test_a_frozen_encoder_stays_as_it_is(tmp_path):
    model = toy_model("late", frozen=("labs",))
    before = {k: v.clone() for k, v in model.encoder("labs").state_dict().items()}
    moving = model.encoder("history").weight.detach().clone()
    fit(model, tmp_path, epochs=3)
    for name, value in model.encoder("labs").state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(model.encoder("history").weight, moving)


def test_training_really_trains_with_dropout(tmp_path):
    """The model is handed over in eval mode; training has to switch it."""
    model = toy_model()
    modes = []
    model.strategy.register_forward_hook(lambda m, *_: modes.append(m.training))
    fit(model, tmp_path, epochs=2)
    assert True in modes
    assert False in modes
    assert not model.training


def test_leaving_a_modality_out_of_the_inputs_is_an_error():
    model = toy_model()
    inputs = dict(survival_split(4, 0).inputs)
    del inputs["labs"]
    with pytest.raises(KeyError, match="modality 'labs' was not given"):
        model(inputs)


def test_encoded_inputs_pass_through():
    torch.manual_seed(0)
    model = toy_model()
    inputs = survival_split(5, 0).inputs
    with torch.no_grad():
        assert torch.equal(model(inputs).prediction, model(model.encode(inputs)).prediction)


def test_without_marks_absent_and_masks_tokens():
    part = encoded(3, 4, 2, 2, seed=0)
    hidden = part.without(torch.tensor([True, False, False]))
    assert hidden.present.tolist() == [False, True, True]
    assert not hidden.mask[0].any()
    assert torch.equal(hidden.mask[1:], part.mask[1:])
    assert streams()["ct"].present.tolist() == [False] + [True] * 11


@pytest.mark.parametrize("linear", [True, False])
def test_an_intercept_starts_at_the_share_of_class_1(linear, tmp_path):
    data = survival_split(300, 0)
    rare = data.time_days < data.time_days.quantile(0.1)
    labelled = SplitData(data.inputs, label=rare.long())
    torch.manual_seed(0)
    columns = tuple(TableColumn(name=c) for c in "abc")
    encoders = {n: TableEncoder(TableConfig(columns=columns)) for n in ("labs", "history")}
    late = STRATEGIES.get("late")
    strategy = late(stream_widths(encoders), 1, late.Config(intercept=True))
    model = FusionModel(encoders, strategy)
    train(
        model,
        "classification",
        labelled,
        labelled,
        TrainingSettings(max_epochs=1, learning_rate=1e-9, linear_start=linear),
        lambda prediction, patients: 0.5,
        checkpoint_folder=tmp_path,
        accelerator="cpu",
    )
    with torch.inference_mode():
        share = float(torch.sigmoid(model(labelled.inputs).prediction).mean())
    assert share == pytest.approx(0.1, abs=0.03)
