"""Strategies for missing modalities, and those HAF is compared with (HAF has its own file)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.contracts import Encoded, Kind
from models.fusion.base import FusionStrategy, StreamWidths
from models.fusion.drfuse import DrFuse
from models.fusion.feature_interaction import FeatureInteraction
from models.fusion.maria import MARIA
from models.fusion.mdlm import MDLM
from models.fusion.mfmf import MFMF, MFMFConfig
from models.fusion.missing_token import MissingToken
from models.fusion.modality_dropout import ModalityDropout
from models.fusion.ps3 import PS3
from tests.models.test_models_cardiac_baselines import COMBINATIONS, NAMES, build, everyone
from tests.models.toys import encoded

COMPARED = ("feature_interaction", "mdlm", "mfmf", "ps3")
MISSING = ("drfuse", "maria", "missing_token", "modality_dropout")
ALL = (*COMPARED, *MISSING)


def mixed_batch() -> dict[str, Encoded]:
    """Eight patients: each combination of three modalities, and one patient without any."""
    lacks = torch.cat([~torch.tensor(COMBINATIONS), torch.ones(1, 3, dtype=torch.bool)])
    return {n: e.without(lacks[:, i]) for i, (n, e) in enumerate(everyone(8).items())}


def streams_of(strategy: FusionStrategy, parts: dict[str, Encoded]):
    return {n: strategy._stream(n, parts[n]) for n in strategy.modalities}


@pytest.mark.parametrize("name", ALL)
def test_every_combination_in_one_batch_is_the_patient_alone(name):
    parts = mixed_batch()
    strategy = build(name, parts, outputs=3)
    with torch.no_grad():
        together = strategy(parts)
        for row in range(8):
            alone = strategy({n: e.take(torch.tensor([row])) for n, e in parts.items()})
            assert torch.allclose(alone.prediction[0], together.prediction[row], atol=1e-5)
    assert together.prediction.shape == (8, 3)
    assert torch.isfinite(together.prediction).all()
    assert (together.prediction.std(dim=0) > 1e-3).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_nothing_of_an_absent_modality_enters(name, training):
    parts = mixed_batch()
    strategy = build(name, parts, dropout=0.0, modality_dropout=0.0)
    strategy.train(training)
    changed = {
        n: replace(
            e,
            tokens=torch.where(e.mask[..., None], e.tokens, 1e4),
            pooled=torch.where(e.present[:, None], e.pooled, -1e4),
        )
        for n, e in parts.items()
    }
    a, b = strategy(parts), strategy(changed)
    assert torch.allclose(a.prediction, b.prediction, atol=1e-6)
    assert torch.allclose(a.fused, b.fused, atol=1e-6)
    for modality in a.after:
        assert torch.allclose(a.after[modality], b.after[modality], atol=1e-6)
    assert a.losses.keys() == b.losses.keys()
    assert all(torch.allclose(a.losses[k], b.losses[k]) for k in a.losses)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("m", [1, 4, 7])
@pytest.mark.parametrize("name", ALL)
def test_one_to_seven_modalities_in_any_subset(name, m, outputs):
    rng = np.random.default_rng(m)
    parts = {}
    for i in range(m):
        part = encoded(16, 2 + i, 5, 3 + i, seed=i)
        parts[f"m{i}"] = part.without(torch.tensor(rng.random(16) < 0.5))
    strategy = build(name, parts, outputs)
    output = strategy(parts)
    assert output.prediction.shape == (16, outputs)
    (output.prediction.square().sum() + sum(output.losses.values(), torch.zeros(()))).backward()
    gradients = [p.grad for p in strategy.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    with torch.no_grad():
        assert torch.equal(strategy(parts).prediction, strategy(parts).prediction)


@pytest.mark.parametrize(
    ("name", "idle"),
    [
        ("ps3", {"pool", "pooled", "norm"}),
        ("maria", {"pool", "pooled", "norm", "absent"}),
        ("mfmf", {"pool", "pooled", "norm", "absent"}),
        ("feature_interaction", set()),
        ("missing_token", {"pool", "pooled", "norm", "absent"}),
        ("modality_dropout", {"absent"}),
        ("drfuse", {"absent"}),
    ],
)
def test_gradients_reach_every_parameter_that_has_a_part(name, idle):
    parts = everyone(12)
    for i, modality in enumerate(NAMES):
        parts[modality] = parts[modality].without(torch.arange(12) % 5 == i)
    # Patient 4 has one modality alone; patient 9 has none.
    four, nine = torch.arange(12) == 4, torch.arange(12) == 9
    parts = {n: e.without(nine | (four & (n != "labs"))) for n, e in parts.items()}
    strategy = build(name, parts, modality_dropout=0.0).train()
    output = strategy(parts)
    (output.prediction.pow(2).sum() + sum(output.losses.values(), torch.zeros(()))).backward()
    untouched = {
        n for n, p in strategy.named_parameters() if p.grad is None or p.grad.abs().sum() == 0
    }
    # A bias that all scores of a softmax share cannot matter, and one output has no bias.
    untouched = {n for n in untouched if not n.endswith(("key.bias", "score.bias")) and n != "bias"}
    assert all(n.startswith("project.") for n in untouched)
    assert {n.split(".")[2] for n in untouched} == idle


# ---------------------------------------------------------------- each by itself


def test_ps3_reads_prototypes_or_the_learnt_absent_vector():
    parts = mixed_batch()
    strategy = build("ps3", parts, prototypes=3)
    assert isinstance(strategy, PS3)
    output = strategy(parts)
    for name, part in parts.items():
        absent = strategy.project[name].absent
        assert torch.equal(output.after[name][~part.present], absent.expand(4, -1))
    # Nobody looks at the prototypes of what is absent: the others are as without them.
    alone = strategy.layers[0]
    x = torch.randn(1, 5, 16)
    mask = torch.tensor([[True, True, False, False, True]])
    whole = alone(x, mask)[mask]
    short = alone(x[mask][None], torch.ones(1, 3, dtype=torch.bool))[0]
    assert torch.allclose(whole, short, atol=1e-6)


def test_maria_is_the_shorter_sequence_of_what_is_there():
    """Masking is leaving out: with the absent tokens cut away the answer is the same."""
    parts = mixed_batch()
    strategy = build("maria", parts)
    assert isinstance(strategy, MARIA)
    together = strategy.combine(streams_of(strategy, parts), {})
    for row in range(8):
        cut = {}
        for name, part in parts.items():
            one = part.take(torch.tensor([row]))
            keep = one.mask[0]
            cut[name] = replace(one, tokens=one.tokens[:, keep], mask=one.mask[:, keep])
        alone = strategy.combine(streams_of(strategy, cut), {})
        assert torch.allclose(alone.prediction[0], together.prediction[row], atol=1e-5)


def test_mdlm_weighs_the_scores_that_are_there_and_teaches_them_nothing():
    parts = mixed_batch()
    strategy = build("mdlm", parts)
    assert isinstance(strategy, MDLM)
    with torch.no_grad():
        strategy.weight.copy_(torch.tensor([0.3, -0.5, 1.0]))
        strategy.slope.copy_(torch.tensor(0.2))
        output = strategy(parts)
    raw, slope = np.exp([0.3, -0.5, 1.0]), np.log1p(np.exp(0.2))
    for row in range(8):
        there = np.array([bool(parts[n].present[row]) for n in NAMES])
        scores = np.array([float(output.unimodal[n][row]) for n in NAMES])
        weights = raw * there / max((raw * there).sum(), 1e-12)
        expected = slope * (weights * scores)[there].sum()
        assert float(output.prediction[row]) == pytest.approx(expected, abs=1e-6)
        gates = [float(output.gates[n][row]) for n in NAMES]
        assert gates == pytest.approx(weights, abs=1e-6)
    strategy.train()
    strategy(parts).prediction.sum().backward()
    touched = {n for n, p in strategy.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"weight", "slope"}


def test_a_score_of_mdlm_still_answers_to_its_input():
    """An explanation differentiates the shown number: in use, nothing is detached."""
    parts = everyone()
    leaves = {n: replace(e, tokens=e.tokens.clone().requires_grad_()) for n, e in parts.items()}
    build("mdlm", parts)(leaves).prediction.sum().backward()
    assert all(leaf.tokens.grad.abs().sum() > 0 for leaf in leaves.values())


def test_mfmf_takes_all_values_from_its_target():
    parts = everyone()
    strategy = build("mfmf", parts, target="echo")
    assert isinstance(strategy, MFMF)
    assert {a.query for a in strategy(parts).attention} == {"labs", "ecg"}
    assert {a.key for a in strategy(parts).attention} == {"echo"}
    before = strategy(parts).prediction
    other = {**parts, "labs": replace(parts["labs"], tokens=parts["labs"].tokens + 1)}
    assert not torch.allclose(strategy(other).prediction, before, atol=1e-4)
    # When all tokens of the target have one value, where one looks makes no difference.
    for attend in strategy.attend.values():
        nn.init.zeros_(attend.value.weight)
    assert torch.allclose(strategy(other).prediction, strategy(parts).prediction, atol=1e-6)


def test_mfmf_without_auxiliary_modalities_reads_the_target_itself():
    parts = mixed_batch()
    strategy = build("mfmf", parts, target="labs")
    alone = parts["labs"].present & ~parts["ecg"].present & ~parts["echo"].present
    assert int(alone.sum()) == 1
    summary = strategy.project["labs"](parts["labs"]).summary
    assert torch.equal(strategy(parts).fused[alone], summary[alone])


def test_the_target_of_mfmf_is_the_first_bag_or_as_named():
    widths = {"labs": StreamWidths(4, 4, Kind.TABLE), "tma": StreamWidths(4, 4, Kind.BAG)}
    assert MFMF(widths, 1, MFMFConfig()).target == "tma"
    assert MFMF(widths, 1, MFMFConfig(target="labs")).target == "labs"
    assert MFMF({"labs": widths["labs"]}, 1, MFMFConfig()).target == "labs"
    with pytest.raises(ValueError, match="target 'wsi' is not among labs, tma"):
        MFMF(widths, 1, MFMFConfig(target="wsi"))


def test_an_interaction_is_a_product_and_an_incomplete_pair_its_learnt_vector():
    parts = mixed_batch()
    strategy = build("feature_interaction", parts, rank=2)
    assert isinstance(strategy, FeatureInteraction)
    fused = strategy(parts).fused[:, 3 * 16 :].unflatten(1, (3, 2))
    summaries = {n: s.summary for n, s in streams_of(strategy, parts).items()}
    for i, (a, b) in enumerate(strategy.pairs):
        left, right = strategy.left[f"{a}|{b}"], strategy.right[f"{a}|{b}"]
        for row in range(8):
            if parts[a].present[row] and parts[b].present[row]:
                x = left.weight @ summaries[a][row] + left.bias
                y = right.weight @ summaries[b][row] + right.bias
                expected = torch.tanh(x) * torch.tanh(y)
            else:
                expected = strategy.alone[f"{a}|{b}"]
            assert torch.allclose(fused[row, i], expected, atol=1e-5)


def test_other_modalities_see_the_missing_tokens():
    """Unlike a mask: another missing token changes what is made of those who are there."""
    parts = mixed_batch()
    strategy = build("missing_token", parts)
    assert isinstance(strategy, MissingToken)
    before = strategy(parts).after["labs"]
    with torch.no_grad():
        strategy.missing["ecg"].mul_(-1.0)
    moved = (strategy(parts).after["labs"] - before).abs().amax(dim=1) > 1e-5
    assert moved.tolist() == (~parts["ecg"].present).tolist()


def test_modality_dropout_scales_what_is_left_and_puts_nothing_in_its_place():
    parts = mixed_batch()
    strategy = build("modality_dropout", parts)
    assert isinstance(strategy, ModalityDropout)
    assert strategy.Config().modality_dropout == 0.4
    output = strategy(parts)
    summaries = {n: s.summary for n, s in streams_of(strategy, parts).items()}
    for row in range(8):
        there = [n for n in NAMES if parts[n].present[row]]
        total = strategy.bias.clone()
        for name in there:
            total = total + 3 / len(there) * strategy.first[name].weight @ summaries[name][row]
        expected = nn.functional.gelu(total)
        assert torch.allclose(output.fused[row], expected, atol=1e-5)


def test_drfuse_disentangles_by_the_sum_of_its_losses():
    parts = mixed_batch()
    config = {"similarity_weight": 0.7, "orthogonality_weight": 0.3, "reconstruction_weight": 0.2}
    strategy = build("drfuse", parts, dropout=0.0, modality_dropout=0.0, **config)
    assert isinstance(strategy, DrFuse)
    assert not strategy(parts).losses
    streams = streams_of(strategy, parts)
    x = {n: s.summary.detach().double().numpy() for n, s in streams.items()}
    made = {
        kind: {n: m(streams[n].summary).detach().double().numpy() for n, m in modules.items()}
        for kind, modules in (("shared", strategy.shared), ("unique", strategy.unique))
    }
    present = {n: p.present.numpy() for n, p in parts.items()}
    near, apart, told = [], [], []
    for a in NAMES:
        s, u = made["shared"][a][present[a]], made["unique"][a][present[a]]
        lengths = np.linalg.norm(s, axis=1) * np.linalg.norm(u, axis=1)
        apart.append((((s * u).sum(axis=1) / lengths) ** 2).mean())
        for b in NAMES:
            if a == b:
                continue
            both = present[a] & present[b]
            near.append(((made["shared"][a][both] - made["shared"][b][both]) ** 2).mean())
            layer = strategy.tell[a]
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            guess = made["shared"][b][both] @ weight.T + bias
            told.append(((guess - x[a][both]) ** 2).mean())
    expected = 0.7 * np.mean(near) + 0.3 * np.mean(apart) + 0.2 * np.mean(told)
    found = strategy.train()(parts).losses["disentangling"]
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)


def test_drfuse_shares_what_is_there_and_each_output_attends_by_itself():
    parts = mixed_batch()
    strategy = build("drfuse", parts, outputs=3)
    output = strategy(parts)
    total = sum(output.gates.values())
    assert set(output.gates) == {"shared", *NAMES}
    assert torch.allclose(total, torch.ones(8), atol=1e-6)
    for name, part in parts.items():
        assert (output.gates[name][~part.present] == 0).all()
        assert (output.after[name][~part.present] == 0).all()
    # Another prototype of class 2 moves the logit of class 2 alone.
    with torch.no_grad():
        strategy.prototype[2] *= -1.0
    moved = (strategy(parts).prediction - output.prediction).abs().amax(dim=0) > 1e-6
    assert moved.tolist() == [False, False, True]
