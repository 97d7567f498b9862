from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import models.fusion.attention as attention_module
from analysis.attribution.attention import (
    METHODS,
    LabelledAttention,
    LabelledPool,
    attention_maps,
    mil_attention,
)
from analysis.attribution.case import AttributionError, open_case
from analysis.attribution.target import LogRisk, Survival
from analysis.cohort.cohort import Cohort
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import load_run
from tests.analysis.attribution.toys_fusion import (
    MeanPool,
    bag,
    case_of,
    identity_co_attention,
    strategy_for,
)

E2 = float(np.exp(2.0))


def random_parts(names: str = "ab", width: int = 4) -> dict:
    generator = torch.Generator().manual_seed(3)
    parts = {}
    for i, name in enumerate(names):
        n = 3 + i
        tokens = torch.randn(n + 2, width, generator=generator)
        parts[name] = bag(tokens, torch.arange(n + 2) < n)
    return parts


def weights_of(maps: list[LabelledAttention]) -> dict[str, np.ndarray]:
    return {m.name: m.weights for m in maps}


def test_identity_co_attention_is_the_softmax_of_the_dot_product():
    """Tokens 2 e_i: a twin scores 2 * 2 / sqrt(4) = 2, all others and the null key 0."""
    parts = {"a": bag(2 * torch.eye(4)[:3]), "b": bag(2 * torch.eye(4))}
    forth, back = attention_maps(case_of(identity_co_attention(parts), parts))
    twin = E2 / (E2 + 4)
    expected = np.full((3, 4), 1 / (E2 + 4))
    np.fill_diagonal(expected, twin)
    np.testing.assert_allclose(forth.weights, expected, rtol=1e-6)
    np.testing.assert_allclose(forth.null, 1 / (E2 + 4), rtol=1e-6)
    assert (forth.query, forth.key, back.query, back.key) == ("a", "b", "b", "a")
    # Backwards the fourth token of b has no twin in a.
    np.testing.assert_allclose(back.weights[3], 0.25, rtol=1e-6)
    np.testing.assert_allclose(np.diag(back.weights), E2 / (E2 + 3), rtol=1e-6)
    assert list(forth.columns["title"]) == ["b 0", "b 1", "b 2", "b 3"]
    assert list(back.rows["title"]) == list(forth.columns["title"])


def test_heads_are_shown_one_by_one_averaged_and_at_their_largest():
    """Two heads of width 2: tokens e_0, e_2 with themselves; head 0 sees only the first."""
    tokens = torch.eye(4)[[0, 2]] * 2.0
    parts = {"a": bag(tokens), "b": bag(tokens)}
    case = case_of(identity_co_attention(parts, heads=2, guide="a"), parts)
    e = float(np.exp(4 / np.sqrt(2)))
    third = 1 / 3
    first = np.array([[e / (e + 2), 1 / (e + 2)], [third, third]])
    second = np.array([[third, third], [1 / (e + 2), e / (e + 2)]])
    got = {m: attention_maps(case, method=m)[0].weights for m in ("mean", "max")}
    heads = [attention_maps(case, method="head", head=h)[0] for h in (0, 1)]
    np.testing.assert_allclose(heads[0].weights, first, rtol=1e-6)
    np.testing.assert_allclose(heads[1].weights, second, rtol=1e-6)
    np.testing.assert_allclose(got["mean"], (first + second) / 2, rtol=1e-6)
    np.testing.assert_allclose(got["max"], np.maximum(first, second), rtol=1e-6)
    assert (heads[1].head, heads[1].heads) == (1, 2)


def test_the_gradient_map_by_hand():
    """y = c . mean over 2 queries and the null query of sum_k A_qk v_k, so dy/dA_qk = c.v_k / 3."""
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -3.0]])
    parts = {"a": bag(torch.tensor([[1.0, 0.0], [0.0, 2.0]])), "b": bag(values)}
    strategy = identity_co_attention(parts, guide="a")
    strategy.gathered_feed["a>b"] = nn.Identity()
    strategy.gathered_pool["a>b"] = MeanPool()
    strategy.head = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        strategy.head.weight.copy_(torch.tensor([[2.0, 1.0, 0, 0, 0, 0]]))
    case = case_of(strategy, parts)
    (plain,) = attention_maps(case, method="mean")
    (amap,) = attention_maps(case, LogRisk(), method="gradient")
    # c.v = 2, 1, -1: the third token lowers the risk, and relu hides it.
    expected = plain.weights * np.array([2.0, 1.0, 0.0]) / 3
    np.testing.assert_allclose(amap.weights, expected, rtol=1e-6)
    np.testing.assert_allclose(amap.null, 0.0)
    assert amap.target["target"] == "log_risk"
    assert plain.target == {}


class Benefit(LogRisk):
    """The log-risk upside down."""

    def __call__(self, prediction):
        return -super().__call__(prediction)


@pytest.mark.parametrize("name", ["cross_attention", "co_attention"])
@pytest.mark.parametrize("heads", [1, 2])
def test_the_gradient_is_that_of_the_weights_in_use(name, heads, monkeypatch):
    """Slow twin: nudge one weight after the softmax and look at the prediction."""
    parts = {
        n: replace(e, tokens=e.tokens.double(), pooled=e.pooled.double())
        for n, e in random_parts().items()
    }
    case = case_of(strategy_for(name, parts, heads).double(), parts)
    risk = attention_maps(case, LogRisk(), "gradient")[0]
    benefit = attention_maps(case, Benefit(), "gradient")[0]
    softmax = attention_module.masked_softmax
    raw = case.output.attention[0].weights[0].numpy()
    step = 1e-4

    def nudged(head: int, row: int, column: int, by: float) -> float:
        calls = []

        def patched(scores, mask):
            weights = softmax(scores, mask).clone()
            if not calls:  # only the first map
                weights[0, head, row, column] += by
            calls.append(1)
            return weights

        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(attention_module, "masked_softmax", patched)
            return float(case.fuse().prediction)

    columns = [*risk.columns["token"], raw.shape[2] - 1]  # and the null key
    for row in risk.rows["token"]:
        for at, column in enumerate(columns):
            products = np.array(
                [
                    (nudged(h, row, column, step) - nudged(h, row, column, -step))
                    / (2 * step)
                    * raw[h, row, column]
                    for h in range(heads)
                ]
            )
            for amap, signed in ((risk, products), (benefit, -products)):
                got = amap.null[row] if at == len(columns) - 1 else amap.weights[row, at]
                assert got == pytest.approx(np.maximum(signed, 0).mean(), abs=1e-9)
    assert (risk.weights + benefit.weights).min() > 1e-6


@pytest.mark.parametrize("name", ["cross_attention", "co_attention"])
@pytest.mark.parametrize("method", ["head", "mean"])
def test_rows_add_up_to_one_with_the_null_key(name, method):
    parts = random_parts("abc")
    maps = attention_maps(
        case_of(strategy_for(name, parts, 2), parts),
        method=method,
        head=1 if method == "head" else None,
    )
    assert len(maps) == (2 if name == "cross_attention" else 6)
    for m in maps:
        np.testing.assert_allclose(m.weights.sum(axis=1) + m.null, 1, atol=1e-6)


def test_padding_is_not_shown_even_between_tokens():
    tokens = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    holes = torch.tensor([True, False, True, True, False])
    parts = {"a": bag(tokens, holes), "b": bag(tokens[:3])}
    for m in attention_maps(case_of(identity_co_attention(parts), parts)):
        side = m.rows if m.query == "a" else m.columns
        assert list(side["token"]) == [0, 2, 3]
        assert list(side["title"]) == ["a 0", "a 2", "a 3"]
        assert m.weights.shape == ((3, 3))
        np.testing.assert_allclose(m.weights.sum(axis=1) + m.null, 1, atol=1e-6)


def test_rollout_keeps_half_with_a_residual_and_nothing_without():
    parts = random_parts("abc")
    case = case_of(strategy_for("cross_attention", parts, 2, query="a"), parts)
    mean, rolled = attention_maps(case), attention_maps(case, method="rollout")
    for plain, m in zip(mean, rolled, strict=True):
        np.testing.assert_allclose(m.weights, 0.25 * plain.weights, rtol=1e-6)
        assert m.own == 0.5
    total = sum(m.weights.sum(axis=1) + m.null for m in rolled) + rolled[0].own
    np.testing.assert_allclose(total, 1, atol=1e-6)

    two = random_parts()
    case = case_of(strategy_for("co_attention", two), two)
    for plain, m in zip(attention_maps(case), attention_maps(case, method="rollout"), strict=True):
        np.testing.assert_allclose(m.weights, plain.weights)
        assert m.own == 0.0


@pytest.mark.parametrize("name", ["late", "contrastive"])
def test_a_strategy_without_attention_has_no_maps(name):
    parts = random_parts()
    case = case_of(strategy_for(name, parts), parts)
    for method in METHODS:
        assert attention_maps(case, LogRisk(), method, 0) == []


@pytest.mark.parametrize("gone", ["a", "b"])
def test_a_direction_of_an_absent_modality_is_left_out(gone):
    parts = random_parts("abc")
    parts[gone] = parts[gone].without(torch.tensor([True]))
    case = case_of(strategy_for("co_attention", parts), parts)
    for method in ("mean", "gradient"):
        maps = attention_maps(case, LogRisk(), method)
        assert {frozenset((m.query, m.key)) for m in maps} == {frozenset("abc") - {gone}}


def test_requests_that_cannot_be_met_say_so():
    parts = random_parts()
    case = case_of(strategy_for("co_attention", parts, 2), parts)
    curve = Survival(BaselineHazard(np.array([1.0, 2.0]), np.array([0.1, 0.2])), (1.0, 2.0))
    with pytest.raises(AttributionError, match="heads 0 to 1, not 2"):
        attention_maps(case, method="head", head=2)
    with pytest.raises(AttributionError, match="one horizon"):
        attention_maps(case, curve, method="gradient")
    with pytest.raises(AttributionError, match="needs a target"):
        attention_maps(case, method="gradient")
    with pytest.raises(AttributionError, match="no attention method 'raw'"):
        attention_maps(case, method="raw")


def test_mil_attention_needs_a_bag_encoder(monkeypatch):
    parts = random_parts()
    case = case_of(strategy_for("late", parts), parts)
    monkeypatch.setattr(case.model, "encoder", lambda name: nn.Identity())
    with pytest.raises(AttributionError, match="no attention over instances"):
        mil_attention(case, "a")


def test_a_map_that_is_no_part_of_the_prediction_is_refused():
    parts = random_parts()
    strategy = strategy_for("co_attention", parts)
    combine = strategy.combine

    def careless(streams, linear):
        done = combine(streams, linear)
        return replace(done, attention=tuple(replace(a, source=None) for a in done.attention))

    strategy.combine = careless
    case = case_of(strategy, parts)
    assert len(attention_maps(case)) == 2
    with pytest.raises(AttributionError, match="no part of the prediction"):
        attention_maps(case, LogRisk(), "gradient")


def test_weights_and_labels_of_different_length_are_refused():
    parts = random_parts()
    (m, _) = attention_maps(case_of(strategy_for("co_attention", parts), parts))
    with pytest.raises(ValueError, match=r"labels \(2, 4\)"):
        replace(m, rows=m.rows.iloc[:2])
    with pytest.raises(ValueError, match="null weights for 3 rows"):
        replace(m, null=m.null[:1])
    with pytest.raises(ValueError, match="labels 1"):
        LabelledPool(m.subject, "a", np.ones(2), m.rows.iloc[:1])


def test_strongest_and_received():
    parts = {"a": bag(2 * torch.eye(4)[:3]), "b": bag(2 * torch.eye(4))}
    forth, _ = attention_maps(case_of(identity_co_attention(parts), parts))
    top = forth.strongest(3)
    # Three equal cells: which comes first is a matter of the last bits.
    assert sorted(zip(top["row"], top["column"], strict=True)) == [(0, 0), (1, 1), (2, 2)]
    assert list(top["column_title"]) == [f"b {i}" for i in top["column"]]
    np.testing.assert_allclose(top["weight"], E2 / (E2 + 4), rtol=1e-6)
    np.testing.assert_allclose(
        forth.received, [(E2 + 2) / 3 / (E2 + 4)] * 3 + [1 / (E2 + 4)], rtol=1e-6
    )


def test_mil_attention_by_hand():
    """Scores are w * tanh(2 x) / 2 when the gate is half open: softmax over two instances."""
    tokens = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [9.0, 0.0]])
    parts = {"a": bag(tokens, torch.tensor([True, True, False]))}
    case = case_of(strategy_for("unimodal", parts), parts)
    pool = case.model.encoders["a"].pool
    with torch.no_grad():
        for layer in (pool.tanh, pool.gate, pool.score):
            layer.weight.zero_()
            layer.bias.zero_()
        pool.tanh.weight[0, 0] = 2.0
        pool.score.weight[0, 0] = 3.0
    made = mil_attention(case, "a")
    score = 1.5 * np.tanh(1.0)
    expected = np.exp([score, -score])
    np.testing.assert_allclose(made.weights, expected / expected.sum(), rtol=1e-6)
    assert list(made.rows["name"]) == ["a 0", "a 1"]


def test_the_model_is_left_as_it_was():
    parts = random_parts()
    case = case_of(strategy_for("cross_attention", parts), parts)
    state = {n: p.clone() for n, p in case.model.state_dict().items()}
    with torch.inference_mode():  # a caller's mode must not matter
        attention_maps(case, LogRisk(), "gradient")
    assert all(p.grad is None and not p.requires_grad for p in case.model.parameters())
    assert not any(m.training for m in case.model.modules())
    assert not any(m._forward_hooks or m._backward_hooks for m in case.model.modules())
    assert all(torch.equal(state[n], p) for n, p in case.model.state_dict().items())
    for item in case.encoded.values():
        assert item.tokens.grad is None
        assert not item.tokens.requires_grad
    assert float(case.output.prediction) == float(case.fuse().prediction)


@pytest.mark.parametrize("name", ["pe-cross-attention-clmbr", "pe-co-attention-image-onehot"])
def test_maps_of_shipped_runs_name_events_and_regions(name, tiny_workspace):
    run = load_run(tiny_workspace / "runs" / name)
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    both = cohort.availability().all(axis=1)
    subject = int(both[both].index.intersection(cohort.subject_ids("internal"))[0])
    case = open_case(run, cohort, subject)
    for method in ("mean", "gradient", "rollout"):
        maps = attention_maps(case, LogRisk(), method)
        assert maps
        for m in maps:
            sides = {m.query: m.rows, m.key: m.columns}
            assert set(sides) == {"ct", "ehr"}
            assert {"x_mm", "y_mm", "z_mm", "name"} <= set(sides["ct"])
            assert {"code", "description", "date", "value", "days_before"} <= set(sides["ehr"])
            assert len(sides["ct"]) == 216
            assert (m.weights >= 0).all()
            if method != "gradient":
                total = m.weights.sum(axis=1) + m.null + m.own
                np.testing.assert_allclose(total, 1, atol=1e-5)
