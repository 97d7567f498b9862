from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import models.fusion.haf as module
from models.contracts import Encoded, Kind, ModalityInput
from models.encoders.bag import GatedAttentionMIL, GatedAttentionMILConfig
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.fusion.alignment_losses import anchored_alignment_loss, global_alignment_loss
from models.fusion.base import StreamWidths
from models.fusion.haf import HAF, HAFConfig, early_event, fusion_loss, random_subset
from models.network import FusionModel, stream_widths
from models.training import SplitData, TrainingSettings, train
from tests.models.test_models_training import score
from tests.models.toys import encoded

SEVEN = ("wsi", "tma", "clin", "path", "blood", "icd", "cell")


def parts_of(names=SEVEN[:3], n: int = 12, missing: float = 0.3) -> dict[str, Encoded]:
    """Modalities at random; patient 0 has all, patient 1 the last alone, patient 2 none."""
    generator = torch.Generator().manual_seed(5)
    parts = {}
    for i, name in enumerate(names):
        part = encoded(n, 4 + i, 6, 3 + i, seed=i)
        lacks = torch.rand(n, generator=generator) < missing
        lacks[0], lacks[1], lacks[2] = False, i < len(names) - 1, True
        part = part.without(lacks)
        if i < 2:
            weights = torch.rand(part.mask.shape, generator=generator) * part.mask
            part = replace(part, attention=weights / weights.sum(1, keepdim=True).clamp(min=1e-9))
        parts[name] = part
    return parts


def build(parts: dict[str, Encoded], outputs: int = 1, bags: int = 2, **config) -> HAF:
    torch.manual_seed(0)
    widths = {
        n: StreamWidths(e.tokens.shape[2], e.pooled.shape[1], Kind.BAG if i < bags else Kind.TABLE)
        for i, (n, e) in enumerate(parts.items())
    }
    config = {"width": 16, "d_out": 12, **config}
    strategy = HAF(widths, outputs, HAFConfig(**config))
    strategy.fit(parts)
    for parameter in strategy.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            nn.init.normal_(parameter, std=0.3)
    return strategy.eval()


def outcomes(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.tensor(rng.exponential(500, n)).float(), torch.tensor(rng.random(n) < 0.7)


# ---------------------------------------------------------------- prediction


@pytest.mark.parametrize("m", [1, 2, 3, 7])
@pytest.mark.parametrize("outputs", [1, 3])
def test_any_subset_of_one_to_seven_modalities(m, outputs):
    parts = parts_of(SEVEN[:m])
    output = build(parts, outputs)(parts)
    assert output.prediction.shape == (12, outputs)
    assert torch.isfinite(output.prediction).all()
    for found in (output.before, output.after):
        assert {n: x.shape for n, x in found.items()} == dict.fromkeys(parts, (12, 12))
    for name, part in parts.items():
        lengths = output.after[name].norm(dim=1)
        assert torch.allclose(lengths, part.present.float(), atol=1e-6)
        assert (output.before[name][~part.present] == 0).all()
    assert set(output.unimodal) == set(parts)


def test_before_keeps_lengths_and_angles_where_it_fits():
    parts = parts_of()
    strategy = build(parts)
    for name, part in parts.items():
        z = strategy.linear_inputs(name, part)
        turned = strategy(parts).before[name] * z.shape[1] ** 0.5
        assert torch.allclose(turned @ turned.T, z @ z.T, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("alignment", ["none", "clip", "global"])
def test_an_absent_modalitys_content_changes_nothing(training, alignment):
    parts = parts_of()
    strategy = build(parts, dropout=0.0, alignment=alignment).train(training)
    garbage = {
        n: replace(
            e,
            tokens=torch.where(e.mask[..., None], e.tokens, 1e4),
            pooled=torch.where(e.present[:, None], e.pooled, -1e4),
        )
        for n, e in parts.items()
    }
    found = []
    for given in (parts, garbage):
        torch.manual_seed(3)
        output = strategy(given)
        time, event = outcomes()
        own = strategy.own_loss(output, time, event, None) if training else torch.zeros(())
        found.append((output.prediction, own, *output.losses.values(), *output.after.values()))
    assert len(found[0]) == len(found[1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_the_order_of_modalities_does_not_matter_to_the_alignment():
    parts = parts_of(SEVEN)
    strategy = build(parts).train()
    present = {n: e.present for n, e in parts.items()}
    u = strategy.eval()(parts).after
    turned = dict(reversed(u.items()))
    a, b = strategy.alignment_loss(u, present), strategy.alignment_loss(turned, present)
    assert float(a.detach()) == pytest.approx(float(b.detach()), rel=1e-5)


def test_an_absent_slot_holds_its_learnt_vector_and_no_zeros():
    parts = parts_of()
    strategy = build(parts)
    fused = strategy(parts).fused.unflatten(1, (3, 12))
    for i, (name, part) in enumerate(parts.items()):
        learnt = strategy.absent[name]
        assert learnt.abs().min() > 0
        assert torch.equal(fused[~part.present, i], learnt.expand(int((~part.present).sum()), -1))
        assert torch.allclose(fused[part.present, i].norm(dim=1), torch.tensor(12**0.5))


@pytest.mark.parametrize("outputs", [1, 3])
def test_randomness_is_in_training_only(outputs):
    parts = parts_of()
    strategy = build(parts, outputs)
    assert torch.equal(strategy(parts).prediction, strategy(parts).prediction)
    assert not strategy(parts).answers
    assert not strategy(parts).losses
    strategy.train()
    torch.manual_seed(0)
    a, b = strategy(parts), strategy(parts)
    assert not torch.equal(a.answers["reduced"], b.answers["reduced"])


def test_the_anchor_is_the_first_bag_or_the_first_or_as_named():
    parts = parts_of()
    assert build(parts).anchor == "wsi"
    assert build(dict(reversed(parts.items())), bags=0).anchor == "clin"
    assert build(parts, anchor="clin").anchor == "clin"
    with pytest.raises(ValueError, match="anchor 'mri' is none of the modalities wsi"):
        build(parts, anchor="mri")


# ---------------------------------------------------------------- stages


def reached(loss: torch.Tensor, strategy: HAF, parts: dict[str, Encoded]) -> set[str]:
    """Which of the stages (and the encoders) a loss sends a gradient to."""
    modules = {
        "branch": strategy.branch,
        "latent": strategy.latent,
        "absent": strategy.absent,
        "head": strategy.head,
        "linear": strategy.linear,
        "instances": strategy.instances,
    }
    owned = {k: list(m.parameters()) for k, m in modules.items()}
    owned["encoders"] = [e.pooled for e in parts.values()] + [e.tokens for e in parts.values()]
    found = set()
    for name, tensors in owned.items():
        if not tensors:
            continue
        gradients = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        if any(g is not None and bool(g.abs().sum() > 0) for g in gradients):
            found.add(name)
    return found


@pytest.mark.parametrize("alignment", ["none", "clip", "global"])
@pytest.mark.parametrize("detach", [True, False])
def test_no_stage_teaches_the_one_before_when_detached(alignment, detach):
    parts = {
        n: replace(e, pooled=e.pooled.clone().requires_grad_(), tokens=e.tokens.requires_grad_())
        for n, e in parts_of().items()
    }
    strategy = build(parts, alignment=alignment, detach=detach, instances=0).train()
    output = strategy(parts)
    time, event = outcomes()
    fusion = reached(strategy.own_loss(output, time, event, None), strategy, parts)
    branch = reached(sum(x.sum() for x in output.unimodal.values()), strategy, parts)
    assert branch == {"branch", "encoders"}
    through = set() if detach else {"encoders"}
    latent = {"latent"} if alignment == "none" or not detach else set()
    assert fusion == {"head", "absent", "linear"} | latent | through
    if alignment == "none":
        assert not output.losses
    else:
        assert reached(output.losses["alignment"], strategy, parts) == {"latent"} | through


def test_one_modality_has_nothing_to_align_and_is_taught_by_the_outcome():
    parts = parts_of(SEVEN[:1])
    strategy = build(parts, instances=0).train()
    output = strategy(parts)
    assert not output.losses
    assert "reduced" not in output.answers
    time, event = outcomes()
    taught = reached(strategy.own_loss(output, time, event, None), strategy, {})
    assert taught == {"head", "absent", "latent", "linear"}


def test_the_instance_loss_teaches_the_bags_tokens_alone():
    parts = {n: replace(e, tokens=e.tokens.requires_grad_()) for n, e in parts_of().items()}
    strategy = build(parts, linear_path=False, random_drop=False).train()
    output = strategy(parts)
    time, event = outcomes()
    strategy.own_loss(output, time, event, None).backward()
    moved = {n for n, e in parts.items() if e.tokens.grad is not None}
    assert moved == {"wsi", "tma"}
    without = build(parts, instances=0)
    assert not without.instances


def test_alignment_is_that_of_the_config():
    parts = parts_of()
    present = {n: e.present for n, e in parts.items()}
    for alignment in ("clip", "global"):
        strategy = build(parts, dropout=0.0, alignment=alignment, temperature=0.3, lambda_pd=0.2)
        u = strategy(parts).after
        found = strategy.train()(parts).losses["alignment"]
        if alignment == "clip":
            expected = anchored_alignment_loss(u, present, "wsi", 0.3)
        else:
            expected = global_alignment_loss(u, present, 0.3, 0.2)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


# ---------------------------------------------------------------- losses


def test_fusion_loss_by_hand():
    full, reduced = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.4, 3.0, 0.5])
    assert float(fusion_loss(full, None, 0.1)) == pytest.approx(3.5 / 3)
    assert float(fusion_loss(full, reduced, 0.0)) == pytest.approx((3.5 + 3.9) / 3)
    assert float(fusion_loss(full, reduced, 0.3)) == pytest.approx((3.5 + 3.9 + 0.3 * 0.6) / 3)
    assert float(fusion_loss(full[:0], reduced[:0], 0.3)) == 0.0


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("survival", [True, False])
@pytest.mark.parametrize("monotonic", [True, False])
def test_own_loss_is_eq_11_by_numpy(outputs, survival, monotonic):
    if survival and outputs > 1:
        pytest.skip("one risk")
    parts = parts_of()
    strategy = build(parts, outputs, monotonic=monotonic, lambda_m=0.7, instances=0).train()
    output = strategy(parts)
    time, event = outcomes()
    label = torch.arange(12) % max(outputs, 2)

    def terms(prediction):
        s = prediction.detach().double().numpy()
        if survival:
            risk, t = s[:, 0], time.numpy()
            return [
                np.log(np.exp(risk[t >= t[i]]).sum()) - risk[i]
                for i in np.flatnonzero(event.numpy())
            ]
        if outputs == 1:
            return [np.log1p(np.exp(x if y == 0 else -x)) for x, y in zip(s[:, 0], label)]  # noqa: B905
        return [np.log(np.exp(x).sum()) - x[y] for x, y in zip(s, label)]  # noqa: B905

    full, less = np.array(terms(output.prediction)), np.array(terms(output.answers["reduced"]))
    expected = full.mean() + less.mean()
    if monotonic:
        expected += 0.7 * np.maximum(full - less, 0).mean()
    found = strategy.own_loss(
        output, time if survival else None, event if survival else None, None if survival else label
    )
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_without_random_drop_the_loss_is_that_of_all_modalities():
    parts = parts_of()
    strategy = build(parts, random_drop=False, instances=0).train()
    output = strategy(parts)
    assert not output.answers
    label = torch.arange(12) % 2
    expected = nn.functional.binary_cross_entropy_with_logits(
        output.prediction[:, 0], label.float()
    )
    assert torch.allclose(strategy.own_loss(output, None, None, label), expected)


def test_a_batch_without_events_has_a_gradient_and_no_loss():
    parts = parts_of()
    strategy = build(parts, instances=2).train()
    output = strategy(parts)
    loss = strategy.own_loss(output, torch.rand(12), torch.zeros(12, dtype=torch.bool), None)
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_the_reduced_prediction_is_that_of_a_patient_who_lacks_them(monkeypatch):
    """The subset's prediction is the model's own for the same patient without the others."""
    parts = parts_of()
    strategy = build(parts, dropout=0.0)
    nn.init.normal_(next(iter(strategy.linear.values())).weight)
    kept = {
        n: e.present & (torch.arange(12) % (i + 2) > 0) for i, (n, e) in enumerate(parts.items())
    }
    monkeypatch.setattr(module, "random_subset", lambda *_: kept)
    reduced = strategy.train()(parts).answers["reduced"]
    fewer = {n: e.without(~kept[n]) for n, e in parts.items()}
    assert torch.allclose(strategy.eval()(fewer).prediction, reduced, atol=1e-5)


def test_a_random_subset_is_a_subset_and_never_empty():
    torch.manual_seed(0)
    combos = torch.tensor(list(product([False, True], repeat=3)))
    present = {n: combos[:, i].repeat(300) for i, n in enumerate("abc")}
    kept = torch.stack(list(random_subset(present, 0.5).values()), dim=1)
    there = torch.stack(list(present.values()), dim=1)
    assert not (kept & ~there).any()
    assert torch.equal(kept.any(dim=1), there.any(dim=1))
    # Of three, each of the seven subsets comes up.
    full = kept[there.all(dim=1)]
    assert len({tuple(row) for row in full.tolist()}) == 7
    assert 0.45 < float(full.float().mean()) < 0.65


def test_the_label_of_survival_is_an_early_event():
    time = torch.tensor([100.0, 200.0, 300.0, 150.0, 400.0])
    label, known = early_event(torch.tensor([True, True, True, False, False]), time)
    assert label.tolist() == [1, 1, 0, 0, 0]
    assert known.tolist() == [True, True, True, False, True]
    assert not early_event(torch.zeros(5, dtype=torch.bool), time)[1].any()


# ---------------------------------------------------------------- with encoders


def hancock_like(n: int, seed: int) -> SplitData:
    """A bag whose marked instances, and a table whose column, carry the hazard; both patchy."""
    rng = np.random.default_rng(seed)
    marked = rng.random(n) < 0.5
    features = rng.normal(size=(n, 6, 5))
    features[:, :2, 0] += 3.0 * marked[:, None]
    column = rng.normal(size=n)
    hazard = np.exp(1.5 * marked + 1.0 * column)
    death, loss = rng.exponential(300 / hazard), rng.exponential(900, n)
    present = {"tma": rng.random(n) > 0.2, "clinical": rng.random(n) > 0.2}
    there = torch.tensor(present["clinical"])
    values = torch.tensor(np.stack([column, rng.normal(size=n)], axis=1)).float()
    bag = torch.tensor(present["tma"])[:, None].expand(-1, 6)
    return SplitData(
        {
            "tma": ModalityInput(
                Kind.BAG,
                {"features": torch.tensor(features).float(), "mask": bag},
                bag[:, 0],
            ),
            "clinical": ModalityInput(
                Kind.TABLE, {"values": values, "mask": there[:, None].expand(-1, 2)}, there
            ),
        },
        torch.tensor(np.minimum(death, loss)).float(),
        torch.tensor(death <= loss),
    )


def toy_model(**config) -> FusionModel:
    torch.manual_seed(0)
    columns = tuple(TableColumn(name=c) for c in "ab")
    encoders = {
        "tma": GatedAttentionMIL(GatedAttentionMILConfig(feature_width=5, token_width=16)),
        "clinical": TableEncoder(TableConfig(columns=columns)),
    }
    settings = HAFConfig(width=32, d_out=32, **config)
    return FusionModel(encoders, HAF(stream_widths(encoders), 1, settings))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"alignment": "none", "random_drop": False},
        {"alignment": "clip", "linear_path": False},
        {"linear_path": False},
    ],
)
def test_it_learns_from_a_bag_and_a_table_and_the_losses_move(config, tmp_path):
    model = toy_model(**config)
    assert isinstance(model.strategy, HAF)
    assert list(model.strategy.instances) == ["tma"]
    result = train(
        model,
        "survival",
        hancock_like(400, 1),
        hancock_like(150, 2),
        TrainingSettings(max_epochs=20, batch_size=128, learning_rate=3e-3),
        score,
        checkpoint_folder=tmp_path,
        accelerator="cpu",
    )
    test = hancock_like(400, 3)
    with torch.no_grad():
        output = model(test.inputs)
    assert score(output.prediction, test) > 0.68
    losses = [r["value"] for r in result.history if r["name"] == "train_alignment_loss"]
    # These two share no signal but the outcome, so that CLIP has little to find.
    least = {"none": None, "clip": 1.0, "global": 0.8}[model.strategy.settings.alignment]
    assert not losses if least is None else losses[-1] < least * losses[0]
    # Stage 1 has learnt the bag by itself.
    rows = torch.nonzero(test.inputs["tma"].present)[:, 0].tolist()
    assert score(output.unimodal["tma"][rows], test[rows]) > 0.58
