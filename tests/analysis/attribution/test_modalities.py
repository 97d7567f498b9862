from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from analysis.attribution.case import AttributionError, open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.target import LogRisk, Survival
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import load_run
from tests.analysis.attribution.toys_fusion import bag, case_of, game, strategy_for


def test_a_sum_gives_each_its_own_term():
    ledger = modality_ledger(game(lambda a, b, c: 1 + 2 * a - 3 * b + 0.5 * c, "abc"), LogRisk())
    assert ledger.modalities == ("a", "b", "c")
    np.testing.assert_allclose(ledger.shares[:, 0], [2, -3, 0.5], atol=1e-6)
    np.testing.assert_allclose(ledger.base, [1])
    assert all(abs(i[0]) < 1e-6 for i in ledger.interactions.values())
    assert ledger.gap < 1e-6


def test_a_product_is_shared_and_its_interaction_is_exact():
    """v = a + 2 b + 3 a b + 5 a b c: a product is split evenly among its factors; its pairs get
    1 / (size - 1) of it (Grabisch & Roubens)."""
    case = game(lambda a, b, c: a + 2 * b + 3 * a * b + 5 * a * b * c, "abc")
    ledger = modality_ledger(case, LogRisk())
    third = 5 / 3
    np.testing.assert_allclose(ledger.shares[:, 0], [2.5 + third, 3.5 + third, third], rtol=1e-6)
    got = {k: float(v[0]) for k, v in ledger.interactions.items()}
    assert got == pytest.approx({("a", "b"): 5.5, ("a", "c"): 2.5, ("b", "c"): 2.5})
    assert ledger.without("c")[0] == 6
    assert ledger.value({"b"})[0] == 2
    assert len(ledger.subsets) == 8


def test_two_modalities_interact_by_the_square_of_differences():
    ledger = modality_ledger(game(lambda a, b: torch.exp(a + 2 * b), "ab"), LogRisk())
    v = {s: float(x[0]) for s, x in ledger.subsets.items()}
    expected = v[frozenset("ab")] - v[frozenset("a")] - v[frozenset("b")] + v[frozenset()]
    assert ledger.interactions["a", "b"][0] == pytest.approx(expected)


def test_against_all_orders_of_joining():
    """Slow twin: mean marginal contribution over the orders of five modalities, T = 3."""
    table = torch.randn(32, 3, generator=torch.Generator().manual_seed(5))

    def value(**there):
        index = sum((x.long() << i) for i, x in enumerate(there.values()))
        return table[index]

    case = game(value, "abcde")
    days = BaselineHazard(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.4]))

    class All(Survival):
        def __call__(self, prediction):
            return prediction

    ledger = modality_ledger(case, All(days, (1.0, 2.0, 3.0)))
    shares = np.zeros((5, 3))
    pairs = {pair: np.zeros(3) for pair in combinations("abcde", 2)}
    v = {s: table[sum(1 << "abcde".index(n) for n in s)].numpy() for s in ledger.subsets}
    for order in permutations("abcde"):
        for at, name in enumerate(order):
            before = frozenset(order[:at])
            shares["abcde".index(name)] += (v[before | {name}] - v[before]) / 120
        for at in range(4):  # the pair that joins as one, in 4 * 3! * 2 of the orders
            pair = tuple(sorted(order[at : at + 2]))
            s, (i, j) = frozenset(order[:at]), pair
            pairs[pair] += (v[s | {i, j}] - v[s | {i}] - v[s | {j}] + v[s]) / 48
    np.testing.assert_allclose(ledger.shares, shares, atol=1e-6)
    for pair, expected in pairs.items():
        np.testing.assert_allclose(ledger.interactions[pair], expected, atol=1e-6)
    assert ledger.gap < 1e-6


def test_an_ignored_modality_has_a_share_of_exactly_zero():
    ledger = modality_ledger(game(lambda a, b, c: torch.exp(a * 0.7) * b, "abc"), LogRisk())
    assert ledger.share("c")[0] == 0.0
    assert ledger.interactions["a", "c"][0] == 0.0


def test_an_absent_modality_has_no_share_and_is_never_put_back():
    case = game(lambda a, b, c: a + 2 * b + 40 * c, "abc", absent="c")
    ledger = modality_ledger(case, LogRisk())
    assert ledger.absent == ("c",)
    assert ledger.share("c") is None
    np.testing.assert_allclose(ledger.shares[:, 0], [1, 2])
    table = ledger.table().set_index("modality")
    assert np.isnan(table.loc["c", "share"])
    assert table.loc["b", "share"] == 2
    assert table.loc["b", "without"] == 1
    assert list(table["title"]) == ["A", "B", "C"]
    assert ledger.gap < 1e-6


def test_one_call_of_the_fusion_for_few_modalities():
    case = game(lambda a, b, c: a + b + c, "abc")
    case.value(LogRisk())
    case.model.calls = 0
    modality_ledger(case, LogRisk())
    assert case.model.calls == 1


def test_seven_modalities():
    names = "abcdefg"
    case = game(lambda **there: sum((i + 1) * x for i, x in enumerate(there.values())), names)
    ledger = modality_ledger(case, LogRisk())
    np.testing.assert_allclose(ledger.shares[:, 0], np.arange(1, 8), atol=1e-5)
    assert len(ledger.subsets) == 128
    with pytest.raises(AttributionError, match="8192 subsets"):
        modality_ledger(game(lambda **there: there["a"], "abcdefghijklm"), LogRisk())


def test_late_fusion_shares_are_its_branches():
    tokens = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    parts = {"a": bag(tokens), "b": bag(tokens[:2] * 2)}
    case = case_of(strategy_for("late", parts), parts)
    ledger = modality_ledger(case, LogRisk())
    with torch.no_grad():
        gone = case.fuse(**{n: e.without(torch.tensor([True])) for n, e in case.encoded.items()})
    for i, name in enumerate("ab"):
        weight = F.softplus(case.model.strategy.raw_weight[name])
        term = weight * (case.output.unimodal[name] - gone.unimodal[name])
        assert ledger.shares[i, 0] == pytest.approx(float(term), abs=1e-6)
    assert abs(ledger.interactions["a", "b"][0]) < 1e-6


def test_the_model_is_left_as_it_was():
    parts = {"a": bag(torch.eye(4)), "b": bag(torch.eye(4)[:2])}
    case = case_of(strategy_for("cross_attention", parts), parts)
    before = case.value(LogRisk())
    modality_ledger(case, LogRisk())
    assert case.present == ("a", "b")
    assert float(case.fuse().prediction) == before[0]
    assert not any(m.training for m in case.model.modules())


@pytest.mark.parametrize(
    "name",
    ["pe-cross-attention-clmbr", "pe-co-attention-image-onehot", "pe-contrastive-onehot", "pe-ct"],
)
def test_shares_of_shipped_runs_add_up(name, tiny_workspace):
    run = load_run(tiny_workspace / "runs" / name)
    cohort = Cohort.open(tiny_workspace / "cohorts" / "pe")
    curve = Survival(read_baseline(run.folder), (30.0, 180.0, 360.0))
    there = cohort.availability()["ct"]
    for subject in there[there].index[:4]:
        case = open_case(run, cohort, int(subject))
        for target in (LogRisk(), curve):
            ledger = modality_ledger(case, target)
            assert ledger.gap <= 1e-6
            np.testing.assert_allclose(ledger.whole, case.value(target))
            assert set(ledger.modalities) | set(ledger.absent) == set(run.config.modalities)
