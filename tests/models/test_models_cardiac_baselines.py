from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

import models.fusion  # noqa: F401
from models.contracts import Encoded
from models.fusion.base import STRATEGIES, FusionStrategy, StreamWidths
from models.fusion.cmta import CMTA, ClassTokenLayer, CMTAConfig
from models.fusion.deepavfusion import DeepAVFusion, DenseLayer
from models.fusion.mean_concat import MeanConcat
from models.fusion.multisurv import MultiSurv
from models.fusion.text_if import TextIF, TextIFConfig
from tests.models.toys import encoded

NAMES = ("labs", "ecg", "echo")
COMBINATIONS = [c for c in product([False, True], repeat=3) if any(c)]
BASELINES = ("cmta", "deepavfusion", "mean_concat", "multisurv", "text_if")


def everyone(n: int = 7, names=NAMES) -> dict[str, Encoded]:
    shapes = {"labs": (6, 5, 7), "ecg": (9, 4, 3), "echo": (4, 8, 8)}
    return {name: encoded(n, *shapes[name], seed=i) for i, name in enumerate(names)}


def mixed_batch() -> dict[str, Encoded]:
    """Seven patients, each with another combination of the three modalities."""
    lacks = ~torch.tensor(COMBINATIONS)
    return {n: e.without(lacks[:, i]) for i, (n, e) in enumerate(everyone().items())}


def build(name: str, parts: dict[str, Encoded], outputs: int = 1, **config) -> FusionStrategy:
    torch.manual_seed(0)
    widths = {n: StreamWidths(e.tokens.shape[2], e.pooled.shape[1]) for n, e in parts.items()}
    cls = STRATEGIES.get(name)
    settings = cls.Config(**{"width": 16, "heads": 2, "linear_path": False, **config})
    strategy = cls(widths, outputs, settings)
    strategy.fit(parts)
    # Last layers start near zero; larger weights make every dependence visible.
    for parameter in strategy.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            nn.init.normal_(parameter, std=0.3)
    return strategy.eval()


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", BASELINES)
def test_every_combination_in_one_batch_is_the_patient_alone(name):
    parts = mixed_batch()
    strategy = build(name, parts, outputs=3)
    with torch.no_grad():
        together = strategy(parts)
        for row in range(7):
            alone = strategy({n: e.take(torch.tensor([row])) for n, e in parts.items()})
            assert torch.allclose(alone.prediction[0], together.prediction[row], atol=1e-5)
    assert together.prediction.shape == (7, 3)
    assert (together.prediction.std(dim=0) > 1e-3).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", BASELINES)
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
    for modality in NAMES:
        assert torch.allclose(a.after[modality], b.after[modality], atol=1e-6)
    assert a.losses.keys() == b.losses.keys()
    assert all(torch.allclose(a.losses[k], b.losses[k]) for k in a.losses)


@pytest.mark.parametrize("name", BASELINES)
def test_each_present_modality_moves_the_prediction_in_every_combination(name):
    parts = mixed_batch()
    leaves = {n: replace(e, tokens=e.tokens.clone().requires_grad_()) for n, e in parts.items()}
    build(name, parts)(leaves).prediction.sum().backward()
    for modality, leaf in leaves.items():
        moved = leaf.tokens.grad.abs().flatten(1).sum(dim=1)
        assert (moved > 0).tolist() == parts[modality].present.tolist()


@pytest.mark.parametrize(
    ("name", "idle"),
    [
        ("cmta", {"pool", "pooled", "norm"}),
        ("deepavfusion", {"pool", "pooled", "norm"}),
        ("mean_concat", {"pool", "pooled", "norm"}),
        ("multisurv", {"absent"}),
        ("text_if", {"absent"}),
    ],
)
def test_gradients_reach_every_parameter_that_has_a_part(name, idle):
    """What reads tokens alone leaves the base's summary idle; nothing else may be."""
    parts = everyone(12)
    for i, modality in enumerate(NAMES):
        parts[modality] = parts[modality].without(torch.arange(12) % 5 == i)
    strategy = build(name, parts, modality_dropout=0.0).train()
    output = strategy(parts)
    (output.prediction.pow(2).sum() + sum(output.losses.values(), torch.zeros(()))).backward()
    untouched = {
        n for n, p in strategy.named_parameters() if p.grad is None or p.grad.abs().sum() == 0
    }
    # A bias that all scores of a softmax share cannot matter.
    untouched = {n for n in untouched if not n.endswith(("key.bias", "score.bias"))}
    assert all(n.startswith("project.") for n in untouched)
    assert {n.split(".")[2] for n in untouched} == idle


@pytest.mark.parametrize("name", BASELINES)
def test_it_learns_what_two_modalities_say_together(name):
    parts = everyone(160, ("labs", "ecg"))
    signs = {n: parts[n].pooled[:, 0].sign() for n in ("labs", "ecg")}
    parts = {
        n: replace(e, tokens=e.tokens * 0.3 + signs[n][:, None, None] * e.mask[..., None])
        for n, e in parts.items()
    }
    y = (signs["labs"] + signs["ecg"] > 0).float()
    train = {n: e.take(torch.arange(120)) for n, e in parts.items()}
    held = {n: e.take(torch.arange(120, 160)) for n, e in parts.items()}
    strategy = build(name, parts, modality_dropout=0.0).train()
    optimizer = torch.optim.AdamW(strategy.parameters(), lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        output = strategy(train)
        loss = nn.functional.binary_cross_entropy_with_logits(output.prediction[:, 0], y[:120])
        (loss + sum(output.losses.values(), torch.zeros(()))).backward()
        optimizer.step()
    with torch.no_grad():
        right = (strategy.eval()(held).prediction[:, 0] > 0).float() == y[120:]
    assert right.float().mean() > 0.9


# ---------------------------------------------------------------- each by itself


def test_mean_concat_reads_means_and_stand_ins():
    parts = mixed_batch()
    strategy = build("mean_concat", parts)
    assert isinstance(strategy, MeanConcat)
    output = strategy(parts)
    for i, (name, part) in enumerate(parts.items()):
        tokens = strategy.project[name](part).tokens
        for row in range(7):
            if part.present[row]:
                expected = tokens[row][part.mask[row]].mean(dim=0)
            else:
                expected = strategy.project[name].absent
            assert torch.allclose(output.fused[row, 16 * i : 16 * (i + 1)], expected, atol=1e-6)
    assert torch.allclose(output.prediction, strategy.head(output.fused))


def test_multisurv_weighs_each_dimension_apart_by_hand():
    strategy = build("multisurv", everyone())
    assert isinstance(strategy, MultiSurv)
    strategy.score = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        strategy.score.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    vectors = torch.tensor([[[0.5, 1.0], [-0.5, 0.25], [9.0, 9.0]]])
    weights = strategy.weights(vectors, torch.tensor([[True, True, False]]))
    for d, factor in ((0, 1.0), (1, 2.0)):
        up = [math.exp(math.tanh(factor * float(vectors[0, m, d]))) for m in (0, 1)]
        expected = [up[0] / sum(up), up[1] / sum(up), 0.0]
        assert weights[0, :, d].tolist() == pytest.approx(expected, rel=1e-5)
    nobody = strategy.weights(vectors, torch.zeros(1, 3, dtype=torch.bool))
    assert nobody.abs().sum() == 0


def test_multisurv_gates_add_up_to_one_over_what_is_there():
    parts = mixed_batch()
    output = build("multisurv", parts)(parts)
    assert torch.allclose(sum(output.gates.values()), torch.ones(7), atol=1e-6)
    for name, part in parts.items():
        assert (output.gates[name] > 0).equal(part.present)


def test_cmta_goes_round_in_pairs():
    two = everyone(names=("labs", "ecg"))
    strategy = build("cmta", two)
    assert isinstance(strategy, CMTA)
    assert strategy.directions == (("labs", "ecg"), ("ecg", "labs"))
    three = build("cmta", everyone())
    assert isinstance(three, CMTA)
    assert set(three.directions) == {(a, b) for a in NAMES for b in NAMES if a != b}
    assert len(three.directions) == 6


def test_cmta_draws_translations_to_encodings_and_not_the_other_way():
    parts = mixed_batch()
    strategy = build("cmta", parts, dropout=0.0, modality_dropout=0.0)
    assert not strategy(parts).losses
    strategy.train()
    said: dict[str, torch.Tensor] = {}
    for kind in ("encoder", "decoder"):
        for key, layer in getattr(strategy, kind).items():
            layer.register_forward_hook(lambda _m, _i, out, key=key: said.update({key: out[0]}))
    loss = strategy(parts).losses["alignment"]
    means = []
    for name in NAMES:
        terms = []
        for source in NAMES:
            if source != name:
                both = parts[name].present & parts[source].present
                terms.append((said[f"{name}<{source}"][both] - said[name][both]).abs())
        means.append(torch.cat(terms).mean())
    assert loss.item() == pytest.approx(torch.stack(means).mean().item(), rel=1e-5)
    into = torch.autograd.grad(loss, list(said.values()), allow_unused=True)
    for key, gradient in zip(said, into, strict=True):
        assert (gradient is not None) == ("<" in key)
    widths = {n: StreamWidths(e.tokens.shape[2], e.pooled.shape[1]) for n, e in parts.items()}
    off = CMTA(widths, 1, CMTAConfig(alignment_weight=0.0)).train()
    assert not off(parts).losses


def test_a_class_token_that_asks_alone_says_the_same():
    part = everyone()["labs"]
    layer = ClassTokenLayer(5, 1, 0.0).eval()
    everything, tokens = layer(part.tokens, part.mask, summary_only=False)
    alone, none = layer(part.tokens, part.mask, summary_only=True)
    assert torch.allclose(everything, alone, atol=1e-6)
    assert tokens.shape == part.tokens.shape
    assert none.shape[1] == 0


def test_cmta_without_a_partner_reads_the_encoder_alone():
    parts = everyone(names=("labs", "ecg"))
    strategy = build("cmta", parts)
    lone = {**parts, "ecg": parts["ecg"].without(torch.ones(7, dtype=torch.bool))}
    output = strategy(lone)
    stream = strategy.project["labs"](parts["labs"])
    own, _ = strategy.encoder["labs"](stream.tokens, stream.mask, summary_only=False)
    assert torch.allclose(output.after["labs"], own, atol=1e-6)
    assert torch.allclose(output.after["ecg"], strategy.project["ecg"].absent.expand(7, -1))
    assert not torch.allclose(strategy(parts).after["labs"], own, atol=1e-3)


def test_fusion_tokens_meet_all_pairs_that_are_there():
    parts = everyone()
    strategy = build("deepavfusion", parts)
    assert isinstance(strategy, DeepAVFusion)
    layer = strategy.layers[0]
    assert isinstance(layer, DenseLayer)
    assert layer.pairs == (("labs", "ecg"), ("labs", "echo"), ("ecg", "echo"))
    seen = []
    inner = layer.attend_fusion.forward
    layer.attend_fusion.forward = lambda q, k, m: (seen.append((k, m)), inner(q, k, m))[1]
    strategy(mixed_batch())
    keys, mask = seen[0]
    # 4 fusion tokens, then 4 x 4 interactions of each of three pairs.
    assert keys.shape[1] == 4 + 3 * 16
    for row, (labs, ecg, echo) in enumerate(COMBINATIONS):
        there = [labs and ecg, labs and echo, ecg and echo]
        assert mask[row, :4].all()
        assert mask[row, 4:].view(3, 16).all(dim=1).tolist() == there
        assert mask[row, 4:].view(3, 16).any(dim=1).tolist() == there


def test_text_scales_and_shifts_by_hand():
    parts = everyone()
    strategy = build("text_if", parts, width=2, heads=1)
    assert isinstance(strategy, TextIF)
    assert strategy.text == "labs"
    layer = strategy.affine["ecg"]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0], [0, 1.0], [2.0, 0], [0, 0]]))
        layer.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 5.0]))
    stream = strategy.project["labs"](parts["labs"])
    text = replace(
        stream,
        summary=torch.tensor([[0.5, -1.0]]).expand(2, -1),
        present=torch.tensor([True, False]),
    )
    tokens = torch.tensor([[[4.0, 3.0]], [[4.0, 3.0]]])
    changed = strategy.modulate("ecg", tokens, text)
    # gamma = (0.5, -1), beta = (1, 5); without the text nothing changes.
    assert changed[0, 0].tolist() == pytest.approx([1.5 * 4 + 1.0, 0.0 * 3 + 5.0])
    assert changed[1, 0].tolist() == [4.0, 3.0]


def test_the_text_is_a_choice_that_is_checked():
    parts = everyone()
    chosen = build("text_if", parts, text="echo")
    assert isinstance(chosen, TextIF)
    assert chosen.others == ("labs", "ecg")
    widths = {n: StreamWidths(4, 4) for n in NAMES}
    with pytest.raises(ValueError, match="text modality 'mri' is not among"):
        TextIF(widths, 1, TextIFConfig(text="mri"))
