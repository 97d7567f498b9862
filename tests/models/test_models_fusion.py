from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import models.fusion  # noqa: F401
from models.contracts import Encoded, FusionOutput
from models.fusion.base import STRATEGIES, FusionStrategy, StreamWidths
from models.fusion.co_attention import CoAttentionConfig, CoAttentionFusion
from models.fusion.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from models.fusion.late import LateFusion
from models.losses import cox_loss
from tests.models.toys import encoded, streams

# tgmm's maps are between features; it has tests of its own.
FUSING = [name for name in STRATEGIES if name not in ("unimodal", "tgmm")]
CASES = [(name, m) for name in FUSING for m in (2, 3)]
CASES += [(n, 1) for n in STRATEGIES if STRATEGIES.get(n).min_modalities == 1 and n != "tgmm"]


def build(name: str, parts: dict[str, Encoded], outputs: int = 1, **config) -> FusionStrategy:
    torch.manual_seed(0)
    cls = STRATEGIES.get(name)
    widths = {n: StreamWidths(e.tokens.shape[2], e.pooled.shape[1]) for n, e in parts.items()}
    strategy = cls(widths, outputs, cls.Config(width=16, heads=2, **config))
    strategy.fit(parts)
    # The last layers start near zero; larger weights make every dependence visible.
    for parameter in strategy.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            torch.nn.init.normal_(parameter, std=0.3)
    return strategy.eval()


def run(strategy: FusionStrategy, parts: dict[str, Encoded]) -> FusionOutput:
    with torch.no_grad():
        return strategy(parts)


def parts_for(modalities: int) -> dict[str, Encoded]:
    parts = streams(modalities=max(modalities, 2))
    return {"ehr": parts["ehr"]} if modalities == 1 else parts


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_attention_rows_sum_to_one_over_what_is_there(name, modalities):
    parts = parts_for(modalities)
    for amap in run(build(name, parts), parts).attention:
        assert torch.allclose(amap.weights.sum(-1), torch.ones(()), atol=1e-5)
        assert amap.weights.shape[2] == parts[amap.query].tokens.shape[1]
        assert amap.weights.shape[3] == parts[amap.key].tokens.shape[1] + amap.null_key
        padding = ~parts[amap.key].mask
        on_padding = amap.weights[..., :-1].permute(0, 3, 1, 2)[padding]
        assert on_padding.abs().max() == 0


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_padding_and_absent_numbers_are_never_read(name, modalities):
    parts = parts_for(modalities)
    strategy = build(name, parts)
    garbage = {
        n: replace(
            e,
            tokens=torch.where(e.mask[..., None], e.tokens, 77.0),
            pooled=torch.where(e.present[:, None], e.pooled, -55.0),
        )
        for n, e in parts.items()
    }
    assert torch.allclose(
        run(strategy, parts).prediction, run(strategy, garbage).prediction, atol=1e-5
    )


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_a_patient_is_predicted_the_same_alone(name, modalities):
    parts = parts_for(modalities)
    strategy = build(name, parts)
    together = run(strategy, parts).prediction
    for row in range(12):
        alone = {n: e.take(torch.tensor([row])) for n, e in parts.items()}
        short = {n: e.without_padding() for n, e in alone.items()}
        for name, part in short.items():
            assert part.tokens.shape[1] == max(int(alone[name].mask.sum()), 1)
        assert torch.allclose(run(strategy, short).prediction[0], together[row], atol=1e-5)


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_patients_without_anything_get_one_finite_prediction(name, modalities):
    parts = parts_for(modalities)
    nobody = {n: e.without(torch.ones(12, dtype=torch.bool)) for n, e in parts.items()}
    prediction = run(build(name, parts), nobody).prediction
    assert torch.isfinite(prediction).all()
    assert torch.allclose(prediction, prediction[:1].expand_as(prediction), atol=1e-6)


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_every_present_modality_moves_the_prediction(name, modalities):
    parts = parts_for(modalities)
    strategy = build(name, parts)
    before = run(strategy, parts).prediction
    for modality, part in parts.items():
        moved = {**parts, modality: replace(part, tokens=part.tokens + 1, pooled=part.pooled + 1)}
        change = (run(strategy, moved).prediction - before).abs()[:, 0]
        assert (change[part.present] > 1e-6).all()
        assert (change[~part.present] < 1e-6).all()


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_shapes_of_a_class_task(name, modalities):
    parts = parts_for(modalities)
    output = run(build(name, parts, outputs=3), parts)
    assert output.prediction.shape == (12, 3)
    assert set(output.before) == set(parts)
    assert set(output.after) <= set(parts)


@pytest.mark.parametrize("name", [*FUSING, "tgmm"])
def test_modality_dropout_hides_some_but_never_all(name):
    parts = streams()
    strategy = build(name, parts, modality_dropout=0.9)
    torch.manual_seed(1)
    hidden = strategy._hide_at_random(parts)
    present = torch.stack([e.present for e in hidden.values()], dim=1)
    assert present.any(dim=1).all()
    had = torch.stack([e.present for e in parts.values()], dim=1)
    assert not (present & ~had).any()
    assert present.sum() < had.sum()


@pytest.mark.parametrize(("name", "modalities"), CASES)
def test_the_fused_kernel_of_training_is_the_attention_that_is_shown(name, modalities):
    parts = parts_for(modalities)
    strategy = build(name, parts, dropout=0.0, modality_dropout=0.0)
    shown = run(strategy, parts).prediction
    strategy.train()
    assert torch.allclose(run(strategy, parts).prediction, shown, atol=1e-5)


@pytest.mark.parametrize("name", [*FUSING, "tgmm"])
def test_a_training_step_in_half_precision_is_nearly_the_full_one(name):
    """What a GPU does (bf16-mixed), with a modality absent: no type clashes, finite gradients."""
    parts = streams(modalities=3)
    time, event = torch.arange(12.0).roll(5), torch.arange(12) % 3 > 0
    losses = []
    for half in (False, True):
        strategy = build(name, parts, dropout=0.0, modality_dropout=0.0).train()
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            output = strategy(parts)
            loss = strategy.own_loss(output, time, event, None)
            loss = cox_loss(output.prediction, event, time) if loss is None else loss
            loss = loss + sum(output.losses.values(), torch.zeros(()))
        loss.backward()
        assert all(
            bool(torch.isfinite(p.grad).all()) for p in strategy.parameters() if p.grad is not None
        )
        losses.append(float(loss.detach()))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_late_fusion_is_the_weighted_sum_of_its_branches():
    parts = streams(modalities=3)
    strategy = build("late", parts)
    assert isinstance(strategy, LateFusion)
    output = run(strategy, parts)
    total = sum(output.gates[n][:, None] * output.unimodal[n] for n in parts)
    assert torch.allclose(output.prediction, total, atol=1e-6)


def test_contrastive_embeddings_lie_on_the_sphere():
    parts = streams()
    after = run(build("contrastive", parts), parts).after
    for embedding in after.values():
        assert torch.allclose(embedding.norm(dim=1), torch.ones(12), atol=1e-5)


def test_alignment_loss_needs_training_and_pairs():
    parts = streams()
    strategy = build("contrastive", parts)
    assert not run(strategy, parts).losses
    strategy.train()
    assert strategy(parts).losses["alignment"] > 0


@pytest.mark.parametrize("query", ["ct", "ehr"])
def test_cross_attention_asks_with_the_chosen_modality(query):
    parts = streams(modalities=3)
    strategy = build("cross_attention", parts, query=query)
    assert isinstance(strategy, CrossAttentionFusion)
    assert {a.query for a in run(strategy, parts).attention} == {query}


def test_an_absent_query_asks_once_with_its_stand_in():
    parts = streams()
    weights = run(build("cross_attention", parts, query="ct"), parts).attention[0].weights
    assert torch.allclose(weights[0].sum(-1), torch.ones(()), atol=1e-5)


def test_identity_co_attention_looks_at_its_own_copy():
    """Orthogonal tokens and identity projections: each token must find its twin."""
    width = 8
    tokens = torch.eye(width)[None].repeat(2, 1, 1)
    part = encoded(2, width, width, 3, seed=0)
    same = replace(part, tokens=tokens, mask=torch.ones(2, width, dtype=torch.bool))
    parts = {"ct": same, "ehr": same}
    widths = {n: StreamWidths(width, 3) for n in parts}
    strategy = CoAttentionFusion(
        widths, 1, CoAttentionConfig(width=width, heads=1, guide="ct", linear_path=False)
    ).eval()
    affinity = strategy.affinity["ct|ehr"]
    with torch.no_grad():
        for layer in (affinity.a, affinity.b):
            layer.weight.copy_(torch.eye(width) * 30)
            layer.bias.zero_()
        for name in parts:
            projection = strategy.project[name]
            projection.tokens = torch.nn.Identity()
            strategy.null[name].zero_()
        weights = strategy(parts).attention[0].weights[0, 0]
    assert torch.allclose(weights[:, :-1], torch.eye(width), atol=1e-3)


def test_guides_and_queries_are_checked():
    parts = streams()
    widths = {n: StreamWidths(e.tokens.shape[2], e.pooled.shape[1]) for n, e in parts.items()}
    with pytest.raises(ValueError, match="guide 'mri' is neither"):
        CoAttentionFusion(widths, 1, CoAttentionConfig(guide="mri"))
    with pytest.raises(ValueError, match="query modality 'mri'"):
        CrossAttentionFusion(widths, 1, CrossAttentionConfig(query="mri"))
    with pytest.raises(ValueError, match="at least 2 modalities"):
        LateFusion({"ct": widths["ct"]}, 1, LateFusion.Config())


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(KeyError, match="Did you mean 'co_attention'"):
        STRATEGIES.get("coattention")


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_cites_and_has_a_title(name):
    cls = STRATEGIES.get(name)
    assert cls.title
    assert cls.__doc__
    assert re.search(r"\w+ et al\.,? 20[12]\d", cls.__doc__)
