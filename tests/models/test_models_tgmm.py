from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored
from torch import nn

import models.losses as losses
from models.checkpoint import (
    CohortEntry,
    EncoderEntry,
    ModalityEntry,
    RunConfig,
    StrategyEntry,
    TaskEntry,
    TrainingEntry,
    load_run,
    write_model,
)
from models.contracts import Encoded, Kind, ModalityInput
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.fusion.base import StreamWidths
from models.fusion.guidance import GuidanceText, SlotPool, TextualGuidance, mix, stochastic_depth
from models.fusion.response import AnswerDecoder, checked_answers
from models.fusion.tgmm import TGMM, MedFlexFusion, SharedFeature, TGMMConfig, feature_subsets
from models.network import FusionModel, stream_widths
from models.training import SplitData, TrainingSettings, train
from tests.models.toys import encoded

NAMES = ("labs", "ecg", "echo")
COMBINATIONS = [c for c in product([False, True], repeat=3) if any(c)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def everyone(n: int = 7, seed: int = 0) -> dict[str, Encoded]:
    shapes = {"labs": (6, 5, 7), "ecg": (9, 4, 3), "echo": (4, 8, 8)}
    return {name: encoded(n, *shapes[name], seed=seed + i) for i, name in enumerate(NAMES)}


def mixed_batch(seed: int = 0) -> dict[str, Encoded]:
    """Seven patients, each with another combination of the three modalities."""
    lacks = ~torch.tensor(COMBINATIONS)
    return {n: e.without(lacks[:, i]) for i, (n, e) in enumerate(everyone(7, seed).items())}


def build(parts: dict[str, Encoded], outputs: int = 1, **config) -> TGMM:
    torch.manual_seed(0)
    widths = {n: StreamWidths(e.tokens.shape[2], e.pooled.shape[1]) for n, e in parts.items()}
    config = {"width": 16, "heads": 2, **config}
    strategy = TGMM(widths, outputs, TGMMConfig(**config))
    strategy.fit(parts)
    return strategy.eval()


def set_weight(layer: nn.Linear, weight: list[list[float]], bias: list[float] | None = None):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.tensor(bias or [0.0] * len(layer.bias)))


# ---------------------------------------------------------------- eqs 2 to 8


def test_features_stand_in_the_papers_order():
    assert feature_subsets(("Lb", "El", "Ec")) == (
        ("Lb",),
        ("Lb", "El"),
        ("El",),
        ("El", "Ec"),
        ("Ec",),
        ("Lb", "Ec"),
        ("Lb", "El", "Ec"),
    )
    assert feature_subsets("a") == (("a",),)
    four = feature_subsets("abcd")
    assert len(four) == len(set(four)) == 15
    assert four[-1] == tuple("abcd")


def test_keys_of_two_and_three_are_mixed_as_eqs_3_to_5_say():
    two = mix([torch.tensor(2.0), torch.tensor(-1.0)])
    weight = sigmoid(2.0 - 1.0)
    assert float(two) == pytest.approx(weight * 2.0 + (1 - weight) * -1.0)
    # lambda_1 = sigmoid(1 - 1 + 0.5) = 0.6224593, lambda_2 = sigmoid(1 - 1) = 0.5
    three = mix([torch.tensor(1.0), torch.tensor(-1.0), torch.tensor(0.5)])
    assert float(three) == pytest.approx(0.6224593 - 0.5 + (1 - 0.6224593 - 0.5) * 0.5)
    # Of four: sums of four, three and two.
    k = [0.3, -0.7, 1.1, 0.4]
    first, second, third = sigmoid(sum(k)), sigmoid(sum(k[:3])), sigmoid(sum(k[:2]))
    by_hand = first * k[0] + second * k[1] + third * k[2] + (1 - first - second - third) * k[3]
    assert float(mix([torch.tensor(x) for x in k])) == pytest.approx(by_hand)


def test_the_shared_feature_of_two_modalities_is_eqs_1_to_7_by_hand():
    """Width 1, two slots: every number by scalar arithmetic."""
    local = MedFlexFusion(("a", "b"), 1, 1)
    for layer, weight in ((local.query, 1.0), (local.key, 0.5), (local.value, 2.0)):
        set_weight(layer, [[weight]])
    shared = local.shared[0]
    assert isinstance(shared, SharedFeature)
    set_weight(shared.gate, [[0.3, -0.2, 0.1]], [0.05])
    z = {"a": [1.0, 2.0], "b": [0.0, -1.0]}
    present = {n: torch.tensor([True]) for n in z}
    features, mask, gates = local(
        {n: torch.tensor(x)[None, :, None] for n, x in z.items()}, present
    )
    keys, values = [], []
    for slot in (0, 1):
        for scale, made in ((0.5, keys), (2.0, values)):
            a, b = scale * z["a"][slot], scale * z["b"][slot]
            made.append(sigmoid(a + b) * a + (1 - sigmoid(a + b)) * b)
    expected = [0.0, 0.0]
    for name in ("a", "b"):
        mean_gate = 0.0
        for slot in (0, 1):
            up = [math.exp(z[name][slot] * key) for key in keys]
            answer = (up[0] * values[0] + up[1] * values[1]) / sum(up)
            gate = sigmoid(0.3 * z["a"][slot] - 0.2 * z["b"][slot] + 0.1 * answer + 0.05)
            expected[slot] += gate * answer
            mean_gate += gate / 2
        assert gates[("a", "b")][name].mean().item() == pytest.approx(mean_gate, rel=1e-5)
    assert local.subsets == (("a",), ("a", "b"), ("b",))
    assert mask.all()
    assert features[0, 1, :, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert features[0, 0, :, 0].tolist() == z["a"]
    assert features[0, 2, :, 0].tolist() == z["b"]


def test_z_all_is_rectified_with_one_slot_and_nothing_else():
    strategy = build(everyone(), slots=1)
    features = torch.randn(3, 7, 1, 16)
    assert torch.equal(strategy.features(features), features[:, :, 0].clamp(min=0))


def test_slots_attend_to_what_is_there_only():
    pool = SlotPool(2, 1)
    set_weight(pool.key, [[1.0, 0.0], [0.0, 1.0]])
    set_weight(pool.value, [[1.0, 0.0], [0.0, 1.0]])
    pool.norm = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        pool.query.copy_(torch.tensor([[1.0, 0.0]]))
    tokens = torch.tensor([[[1.0, 3.0], [-1.0, 5.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    share = sigmoid(2 / math.sqrt(2))
    pooled = pool(tokens, mask)[0, 0].tolist()
    assert pooled == pytest.approx([share - (1 - share), 3 * share + 5 * (1 - share)], rel=1e-5)
    assert pool(tokens, torch.zeros_like(mask)).abs().sum() == 0


# ---------------------------------------------------------------- eq. 9


class Given(nn.Module):
    """Stands in for P: the guidance's tokens, already in the shape of the features."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.value


def guided(p_drop: float = 0.0) -> TextualGuidance:
    text = GuidanceText("look at this", 2, 1, 2, 1, 0.0)
    guidance = TextualGuidance(text, 3, 2, 1, p_drop).eval()
    for layer in (guidance.query, guidance.key, guidance.value):
        set_weight(layer, [[1.0, 0.0], [0.0, 1.0]])
    # The gate of dimension 0 reads the feature's first number, that of dimension 1 the words'.
    set_weight(guidance.gate, [[1.0, 0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0, 0]], [0.0, 0.5])
    guidance.shape = Given(torch.tensor([[[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]]))  # type: ignore[assignment]
    return guidance


def test_guidance_is_eq_9_by_hand():
    guidance = guided()
    guidance.norm = nn.Identity()  # type: ignore[assignment]
    z = [[1.0, 0.0], [0.5, 2.0]]
    words = [[0.0, 0.0], [1.0, 1.0]]
    features = torch.tensor([[*z, [7.0, 7.0]]])
    refined, gate, maps = guidance(features, torch.tensor([[True, True, False]]))
    mixed = [
        [sigmoid(f + w) * f + (1 - sigmoid(f + w)) * w for f, w in zip(fs, ws, strict=True)]
        for fs, ws in zip(z, words, strict=True)
    ]
    for i in (0, 1):
        up = [math.exp((z[i][0] * k[0] + z[i][1] * k[1]) / math.sqrt(2)) for k in mixed]
        share = [u / sum(up) for u in up]
        assert maps[0].weights[0, 0, i].tolist() == pytest.approx([*share, 0.0], rel=1e-5)
        attended = [share[0] * mixed[0][d] + share[1] * mixed[1][d] for d in (0, 1)]
        gates = [sigmoid(z[i][0]), sigmoid(words[i][1] + 0.5)]
        assert gate[0, i].tolist() == pytest.approx(gates, rel=1e-5)
        expected = [gates[d] * attended[d] + z[i][d] for d in (0, 1)]
        assert refined[0, i].tolist() == pytest.approx(expected, rel=1e-5)
    # The missing feature is no key (above), no query, and has no output.
    assert maps[0].weights[0, 0, 2].tolist() == [0.0, 0.0, 0.0]
    assert refined[0, 2].abs().sum() == gate[0, 2].abs().sum() == 0
    guidance.norm = nn.LayerNorm(2)
    normed, _, _ = guidance(features, torch.tensor([[True, True, False]]))
    assert torch.allclose(normed[0, :2], nn.functional.layer_norm(refined[0, :2], (2,)))


def test_learnt_tokens_stand_around_the_words():
    for position in (0, 1, 2):
        text = GuidanceText("Look, look again", 2, position, 4, 1, 0.0)
        assert text.vocabulary == (",", "again", "look")
        text.encoder = nn.Identity()  # type: ignore[assignment]
        with torch.no_grad():
            text.place.zero_()
            text.learnt.copy_(torch.tensor([[10.0] * 4, [20.0] * 4]))
            told = text()
        words = text.words.weight[[2, 0, 2, 1]]
        expected = torch.cat([text.learnt[:position], words, text.learnt[position:]])
        assert torch.equal(told, expected)


def test_learnt_tokens_start_as_words():
    text = GuidanceText("one two", 3, 0, 4, 1, 0.0)
    assert torch.equal(text.learnt, text.words.weight[[0, 1, 0]])


def test_stochastic_depth_drops_whole_patients_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    dropped = stochastic_depth(x, 0.25, training=True)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (dropped.flatten(1).std(dim=1) == 0).all()
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(stochastic_depth(x, 0.25, training=False), x)


# ---------------------------------------------------------------- response


def test_likelihoods_of_all_two_word_answers_sum_to_one():
    torch.manual_seed(0)
    decoder = AnswerDecoder(["a a", "a b", "b a", "b b"], 8, 2, 0.0).eval()
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    likelihood, _ = decoder(torch.randn(3, 3, 8), mask)
    assert torch.allclose(likelihood.exp().sum(dim=1), torch.ones(3), atol=1e-5)
    assert likelihood.std(dim=1).min() > 0.01


def test_each_candidate_is_what_a_plain_transformer_decoder_says_of_it_alone():
    torch.manual_seed(1)
    answers = ["low risk now", "high risk", "no risk at all"]
    decoder = AnswerDecoder(answers, 8, 2, 0.0).eval()
    layer = nn.TransformerDecoderLayer(
        8, 2, 16, 0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    with torch.no_grad():
        layer.self_attn.load_state_dict(decoder.attend_self.state_dict())
        cross = decoder.attend_features
        parts = (cross.query, cross.key, cross.value)
        layer.multihead_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        layer.multihead_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        layer.multihead_attn.out_proj.load_state_dict(cross.out.state_dict())
        layer.linear1.load_state_dict(decoder.feed.net[0].state_dict())
        layer.linear2.load_state_dict(decoder.feed.net[3].state_dict())
    layer.norm1, layer.norm2, layer.norm3 = decoder.norm_self, decoder.norm_cross, decoder.feed.norm
    features = torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    likelihood, _ = decoder(features, mask)
    memory = torch.cat([features, decoder.null.expand(2, 1, -1)], dim=1)
    hidden = ~torch.cat([mask, torch.ones(2, 1, dtype=torch.bool)], dim=1)
    for number, answer in enumerate(answers):
        words = [decoder.vocabulary.index(word) for word in answer.split()]
        shifted = torch.tensor([len(decoder.vocabulary), *words[:-1]])
        x = decoder.embed(shifted) + decoder.place(torch.arange(len(words)))
        causal = nn.Transformer.generate_square_subsequent_mask(len(words))
        out = layer(
            x.expand(2, -1, -1),
            memory,
            tgt_mask=causal,
            memory_key_padding_mask=hidden.float() * -1e9,
        )
        said = decoder.say(decoder.norm(out)).log_softmax(dim=-1)
        alone = sum(said[:, i, word] for i, word in enumerate(words))
        assert torch.allclose(likelihood[:, number], alone, atol=1e-4)


def test_two_answers_make_one_number_and_more_make_one_each():
    parts = mixed_batch()
    for outputs in (1, 3):
        output = build(parts, outputs)(parts)
        told = output.answers["log_likelihood"]
        assert output.prediction.shape == (7, outputs)
        expected = told[:, 1:] - told[:, :1] if outputs == 1 else told
        assert torch.equal(output.prediction, expected)


def test_answers_are_checked():
    assert checked_answers(["Low risk", "high-risk"]) == (("low", "risk"), ("high-risk",))
    with pytest.raises(ValueError, match="begins with the whole of answer 'low'"):
        checked_answers(["low", "low risk"])
    with pytest.raises(ValueError, match="at least two"):
        checked_answers(["yes"])
    with pytest.raises(ValueError, match="3 answers for 2 classes"):
        build(everyone(), answers=("a", "b", "c"))


def test_the_answers_of_a_task_have_its_words():
    parts = everyone()
    assert build(parts).answers == ("no", "yes")
    assert build(parts, task="prognosis").answer_words == ("low", "risk", "high", "risk")
    assert build(parts, outputs=3).answers == ("class 0", "class 1", "class 2")


# ---------------------------------------------------------------- any combination of modalities


def test_every_combination_in_one_batch_is_the_patient_alone():
    parts = mixed_batch()
    for config in ({}, {"guidance": "none"}, {"response": "linear"}, {"retrieval_weight": 1.0}):
        strategy = build(parts, **config)
        with torch.no_grad():
            together = strategy(parts)
            for row, combination in enumerate(COMBINATIONS):
                alone = strategy({n: e.take(torch.tensor([row])) for n, e in parts.items()})
                assert torch.allclose(alone.prediction[0], together.prediction[row], atol=1e-5)
                assert torch.allclose(alone.fused[0], together.fused[row], atol=1e-5)
                there = together.fused[row].view(7, 16).abs().sum(dim=1) > 0
                have = {n for n, has in zip(NAMES, combination, strict=True) if has}
                assert there.tolist() == [set(s) <= have for s in strategy.subsets]
        assert together.prediction.std() > 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_nothing_of_an_absent_modality_enters(training):
    parts = mixed_batch()
    strategy = build(parts, dropout=0.0, modality_dropout=0.0, retrieval_weight=1.0)
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
    assert torch.equal(a.prediction, b.prediction)
    assert torch.equal(a.fused, b.fused)
    for name in NAMES:
        assert torch.equal(a.after[name], b.after[name])
    for name in a.gates:
        assert torch.equal(a.gates[name], b.gates[name])
    assert a.losses.keys() == b.losses.keys()
    assert all(torch.equal(a.losses[k], b.losses[k]) for k in a.losses)


def test_present_modalities_move_the_prediction_and_only_those():
    parts = mixed_batch()
    leaves = {n: replace(e, tokens=e.tokens.clone().requires_grad_()) for n, e in parts.items()}
    strategy = build(parts)
    strategy(leaves).prediction.sum().backward()
    for name, leaf in leaves.items():
        moved = leaf.tokens.grad.abs().flatten(1).sum(dim=1)
        assert (moved > 0).tolist() == parts[name].present.tolist()


def test_an_absent_modality_has_no_specific_feature():
    parts = mixed_batch()
    strategy = build(parts)
    streams = {n: strategy.project[n](part) for n, part in parts.items()}
    for name, slots in strategy.specific(streams).items():
        assert slots.shape == (7, 4, 16)
        assert (slots.abs().sum(dim=(1, 2)) > 0).equal(parts[name].present)


def test_the_summary_reaches_every_slot_however_many_tokens_there_are():
    parts = everyone()
    strategy = build(parts)
    streams = {n: strategy.project[n](part) for n, part in parts.items()}
    summary = torch.randn(7, 16)
    louder = {**streams, "ecg": replace(streams["ecg"], summary=summary)}
    before, after = strategy.specific(streams), strategy.specific(louder)
    assert bool(((before["ecg"] - after["ecg"]).abs().amax(dim=2) > 1e-2).all())
    assert torch.equal(before["echo"], after["echo"])
    slots = strategy.slots["ecg"](streams["ecg"].tokens, streams["ecg"].mask)
    expected = nn.functional.layer_norm(slots + summary[:, None], (16,))
    torch.testing.assert_close(after["ecg"], expected)


def test_padding_is_never_read():
    parts = everyone()
    strategy = build(parts)
    longer = {
        n: replace(
            e,
            tokens=torch.cat([e.tokens, torch.full_like(e.tokens, 50.0)], dim=1),
            mask=torch.cat([e.mask, torch.zeros_like(e.mask)], dim=1),
        )
        for n, e in parts.items()
    }
    assert torch.allclose(strategy(parts).prediction, strategy(longer).prediction, atol=1e-5)


def test_patients_without_anything_get_one_finite_prediction():
    parts = everyone()
    nobody = {n: e.without(torch.ones(7, dtype=torch.bool)) for n, e in parts.items()}
    for config in ({}, {"response": "linear"}, {"guidance": "none"}):
        output = build(parts, **config)(nobody)
        assert torch.isfinite(output.prediction).all()
        assert torch.equal(output.prediction, output.prediction[:1].expand(7, -1))


def test_training_and_showing_are_the_same_numbers():
    parts = mixed_batch()
    strategy = build(parts, dropout=0.0, modality_dropout=0.0)
    with torch.no_grad():
        shown = strategy(parts)
        strategy.train()
        trained = strategy(parts)
    assert torch.allclose(shown.prediction, trained.prediction, atol=1e-5)
    assert len(shown.attention) == 2
    assert not trained.attention


def test_maps_are_over_the_features_that_are_there():
    parts = mixed_batch()
    strategy = build(parts)
    strategy.requires_grad_(True)
    output = strategy(parts)
    guidance, response = output.attention
    assert strategy.feature_names == (
        "labs",
        "labs + ecg",
        "ecg",
        "ecg + echo",
        "echo",
        "labs + echo",
        "labs + ecg + echo",
    )
    there = output.fused.view(7, 7, 16).abs().sum(dim=2) > 0
    assert guidance.weights.shape == (7, 2, 7, 7)
    assert torch.allclose(guidance.weights.sum(-1), there[:, None].float().expand(-1, 2, -1))
    assert (guidance.weights.sum(dim=2) > 0).all(dim=1).equal(there)
    assert response.weights.shape == (7, 2, len(strategy.answer_words), 8)
    assert torch.allclose(response.weights.sum(-1), torch.ones(7, 2, 2))
    assert (response.weights[..., :-1].amax(dim=(1, 2)) > 0).equal(there)
    # Both are what the prediction was made of.
    grads = torch.autograd.grad(output.prediction.sum(), [m.used for m in output.attention])
    assert all(g.abs().sum() > 0 for g in grads)


def test_gates_are_zero_where_a_feature_is_missing():
    parts = mixed_batch()
    strategy = build(parts)
    gates = strategy(parts).gates
    assert tuple(gates)[:7] == strategy.feature_names
    assert "ecg in labs + ecg" in gates
    both = parts["labs"].present & parts["ecg"].present
    for name in ("labs + ecg", "ecg in labs + ecg"):
        assert ((gates[name] > 0) & (gates[name] < 1)).equal(both)
        assert (gates[name] == 0).equal(~both)


def test_one_and_four_modalities_work_and_five_are_too_many():
    part = everyone()["labs"]
    assert build({"labs": part})({"labs": part}).prediction.shape == (7, 1)
    four = dict.fromkeys("abcd", part)
    assert build(four)(four).fused.shape == (7, 15 * 16)
    with pytest.raises(ValueError, match="at most 4 modalities, got 5"):
        build(dict.fromkeys("abcde", part))


# ---------------------------------------------------------------- ablations and settings


def names_of(**config) -> set[str]:
    return {name for name, _ in build(everyone(), **config).named_parameters()}


def test_ablations_are_other_parameters():
    full = names_of()
    assert not any(n.startswith("guide.") for n in names_of(guidance="none"))
    human = names_of(guidance="human")
    assert full - human == {"guide.text.learnt"}
    assert human < full
    linear = names_of(response="linear")
    assert {n for n in linear if n.startswith("response.")} == {
        "response.read.weight",
        "response.read.bias",
    }
    retrieval = names_of(retrieval_weight=1.0)
    assert {n.split(".")[0] for n in retrieval - full} == {"embed"}
    assert not any(n.startswith("linear.") for n in full)


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="leave it off for tgmm"):
        TGMMConfig(linear_path=True)
    with pytest.raises(ValidationError, match="beyond the 4 learnt tokens"):
        TGMMConfig(learnt_tokens=4, guidance_position=5)
    with pytest.raises(ValueError, match="has no word"):
        GuidanceText(" ", 2, 0, 4, 1, 0.0)
    with pytest.raises(ValueError, match="multiple of heads 3"):
        build(everyone(), heads=3)


# ---------------------------------------------------------------- losses


def test_answer_losses_by_hand():
    told = torch.tensor([[0.7, 0.2], [0.1, 0.6]]).log()
    label, lengths = torch.tensor([0, 1]), torch.tensor([1, 2])
    lm = -(math.log(0.7) + math.log(0.6)) / 3
    mc = -(math.log(0.7 / 0.9) + math.log(0.6 / 0.7)) / 2
    unlikely = -(math.log(0.8) + math.log(0.9)) / 2
    assert float(losses.answer_language_loss(told, label, lengths)) == pytest.approx(lm)
    assert float(losses.answer_choice_loss(told, label)) == pytest.approx(mc)
    assert float(losses.unlikely_answer_loss(told, label)) == pytest.approx(unlikely, abs=1e-5)
    total = losses.answer_loss(told, label, lengths, lm=1.0, mc=2.0, unlikely=3.0)
    assert float(total) == pytest.approx(lm + 2 * mc + 3 * unlikely, abs=1e-4)


def test_unlikely_loss_of_three_is_the_mean_over_the_wrong_ones():
    told = torch.tensor([[0.5, 0.3, 0.1]]).log()
    value = losses.unlikely_answer_loss(told, torch.tensor([0]))
    assert float(value) == pytest.approx(-(math.log(0.7) + math.log(0.9)) / 2, abs=1e-5)
    certain = losses.unlikely_answer_loss(torch.tensor([[-9.0, 0.0]]), torch.tensor([0]))
    assert float(certain) == pytest.approx(-math.log(1e-6), rel=1e-3)


def test_margin_ranking_by_hand():
    risk = torch.tensor([1.0, 0.2, 0.9])
    event, days = torch.tensor([True, False, True]), torch.tensor([1.0, 2.0, 3.0])
    # Pairs (0, 1), gap 0.8, and (0, 2), gap 0.1, at margin 0.5.
    assert float(losses.margin_ranking_loss(risk, event, days, 0.5)) == pytest.approx(0.2)
    # The other way round both are violated: 0.5 + 0.8 and 0.5 + 0.1.
    assert float(losses.margin_ranking_loss(-risk, event, days, 0.5)) == pytest.approx(0.95)
    nobody = losses.margin_ranking_loss(risk.requires_grad_(), torch.zeros(3).bool(), days, 0.5)
    nobody.backward()
    assert nobody.item() == 0


def test_comparable_pairs_are_those_of_harrells_c():
    rng = np.random.default_rng(0)
    event, days = rng.random(60) < 0.5, np.ceil(rng.exponential(5, 60))
    counted = concordance_index_censored(event, days, rng.normal(size=60))
    pairs = losses.comparable_pairs(torch.tensor(event), torch.tensor(days))
    assert int(pairs.sum()) == sum(counted[1:4])


def test_own_loss_is_eq_10_for_classes_and_eq_13_for_survival():
    parts = mixed_batch()
    strategy = build(parts, lambda_lm=0.3, lambda_mc=0.5, lambda_unlikely=0.7, lambda_dig=0.2)
    output = strategy(parts)
    told = output.answers["log_likelihood"]
    label = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    dig = losses.answer_loss(told, label, torch.tensor([1, 1]), lm=0.3, mc=0.5, unlikely=0.7)
    assert float(strategy.own_loss(output, None, None, label)) == pytest.approx(float(dig))
    days = torch.arange(1.0, 8.0)
    found = strategy.own_loss(output, days, label.bool(), None)
    cox = losses.cox_loss(output.prediction, label.bool(), days)
    rank = losses.margin_ranking_loss(output.prediction, label.bool(), days, 0.5)
    assert float(found) == pytest.approx(float(0.2 * dig + cox + 0.2 * rank))
    probe = build(parts, response="linear", lambda_mc=2.0)
    output = probe(parts)
    expected = 2.0 * losses.class_loss(output.prediction, label)
    assert float(probe.own_loss(output, None, None, label)) == pytest.approx(float(expected))


def test_retrieval_is_eq_16_over_pairs_that_are_there():
    parts = mixed_batch()
    strategy = build(
        parts, retrieval_weight=0.5, temperature=0.2, dropout=0.0, modality_dropout=0.0
    )
    assert not strategy(parts).losses
    strategy.train()
    output = strategy(parts)
    total, pairs = 0.0, 0
    for a, b in (("labs", "ecg"), ("labs", "echo"), ("ecg", "echo")):
        both = parts[a].present & parts[b].present
        u, v = output.after[a][both], output.after[b][both]
        assert torch.allclose(u.norm(dim=1), torch.ones(len(u)))
        for x, y in ((u, v), (v, u)):
            n = len(x)
            for i in range(n):
                scores = [float(x[i] @ y[k]) / 0.2 for k in range(n)]
                total += -math.log(math.exp(scores[i]) / sum(map(math.exp, scores))) / n / 2
        pairs += 1
    assert float(output.losses["retrieval"]) == pytest.approx(0.5 * total / pairs, rel=1e-4)
    assert output.after["labs"][~parts["labs"].present].abs().sum() == 0


@pytest.mark.parametrize("survival", [False, True])
def test_gradients_reach_every_parameter_that_has_a_part(survival):
    parts = everyone(12)
    strategy = build(parts, task="prognosis", retrieval_weight=1.0, modality_dropout=0.0).train()
    output = strategy(parts)
    label = torch.arange(12) % 2
    days = torch.arange(1.0, 13.0)
    targets = (days, label.bool(), None) if survival else (None, None, label)
    loss = strategy.own_loss(output, *targets)
    (loss + sum(output.losses.values())).backward()
    untouched = {
        n for n, p in strategy.named_parameters() if p.grad is None or p.grad.abs().sum() == 0
    }
    # TGMM masks what is absent, so the base's stand-ins have no part in it.
    assert untouched == {f"project.{name}.absent" for name in NAMES}


# ---------------------------------------------------------------- training and storing


def tables(n: int, seed: int) -> tuple[dict[str, ModalityInput], np.ndarray]:
    """Three tables whose first columns add up to a logit; every combination occurs."""
    rng = np.random.default_rng(seed)
    x = {name: rng.normal(size=(n, 3)) for name in NAMES}
    present = {name: rng.random(n) > 0.15 for name in NAMES}
    present["labs"] |= ~present["ecg"] & ~present["echo"]
    logit = sum(2.0 * x[name][:, 0] * present[name] for name in NAMES)
    inputs = {
        name: ModalityInput(
            Kind.TABLE,
            {
                "values": torch.tensor(values).float(),
                "mask": torch.tensor(present[name])[:, None].expand(-1, 3),
            },
            torch.tensor(present[name]),
        )
        for name, values in x.items()
    }
    return inputs, logit


def class_split(n: int, seed: int) -> SplitData:
    inputs, logit = tables(n, seed)
    chance = 1 / (1 + np.exp(-logit))
    label = np.random.default_rng(seed + 100).random(n) < chance
    return SplitData(inputs, label=torch.tensor(label).long())


def survival_split(n: int, seed: int) -> SplitData:
    inputs, logit = tables(n, seed)
    rng = np.random.default_rng(seed + 100)
    death, lost = rng.exponential(300 * np.exp(-0.7 * logit)), rng.exponential(900, n)
    return SplitData(
        inputs, torch.tensor(np.minimum(death, lost)).float(), torch.tensor(death <= lost)
    )


def toy_model(**config) -> FusionModel:
    torch.manual_seed(0)
    columns = tuple(TableColumn(name=c) for c in "abc")
    encoders = {n: TableEncoder(TableConfig(columns=columns)) for n in NAMES}
    config = {"width": 32, "heads": 2, "slots": 2, "learnt_tokens": 4, **config}
    return FusionModel(encoders, TGMM(stream_widths(encoders), 1, TGMMConfig(**config)))


def auc(prediction: torch.Tensor, patients: SplitData) -> float:
    return float(roc_auc_score(patients.label.numpy(), prediction[:, 0].numpy()))


def harrell(prediction: torch.Tensor, patients: SplitData) -> float:
    return float(
        concordance_index_censored(
            patients.event.numpy(), patients.time_days.numpy(), prediction[:, 0].numpy()
        )[0]
    )


def test_it_learns_a_diagnosis(tmp_path):
    model = toy_model()
    train(
        model,
        "classification",
        class_split(400, 1),
        class_split(150, 2),
        TrainingSettings(max_epochs=8, batch_size=64, learning_rate=2e-3),
        auc,
        checkpoint_folder=tmp_path,
        accelerator="cpu",
    )
    held_out = class_split(300, 3)
    with torch.no_grad():
        assert auc(model(held_out.inputs).prediction, held_out) > 0.85


def test_it_learns_a_risk(tmp_path):
    model = toy_model(task="prognosis", retrieval_weight=0.1)
    result = train(
        model,
        "survival",
        survival_split(400, 1),
        survival_split(150, 2),
        TrainingSettings(max_epochs=8, batch_size=64, learning_rate=2e-3),
        harrell,
        checkpoint_folder=tmp_path,
        accelerator="cpu",
    )
    held_out = survival_split(300, 3)
    with torch.no_grad():
        assert harrell(model(held_out.inputs).prediction, held_out) > 0.75
    assert {"train_retrieval_loss", "train_outcome_loss"} <= {r["name"] for r in result.history}


def test_a_run_is_the_same_after_loading(tmp_path: Path):
    model = toy_model(guidance_text="Does the heart fail?", answers=("it does not", "yes it does"))
    strategy = model.strategy
    config = RunConfig(
        name="toy",
        title="Toy",
        strategy=StrategyEntry(name="tgmm", config=strategy.config.model_dump(mode="json")),
        modalities={
            name: ModalityEntry(
                kind=Kind.TABLE,
                title=name,
                encoder=EncoderEntry(
                    name="table_tokenizer",
                    config=model.encoder(name).config.model_dump(mode="json"),
                ),
            )
            for name in NAMES
        },
        task=TaskEntry(name="hf", kind="classification", title="HF", classes=("no", "yes")),
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
    folder = tmp_path / "toy"
    folder.mkdir()
    write_model(folder, config, model, {})
    loaded = load_run(folder).model
    assert loaded.strategy.answer_words == ("it", "does", "not", "yes", "it", "does")
    split = class_split(20, 5)
    with torch.no_grad():
        a, b = loaded(split.inputs), model(split.inputs)
    # torch takes another kernel for the words where their weights need no gradient.
    assert torch.allclose(a.prediction, b.prediction, atol=1e-6)
