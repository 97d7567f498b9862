from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from analysis.attribution.capture import capture, evaluating
from analysis.attribution.case import AttributionError
from tests.analysis.attribution.toys_ct import small_resnet


class Chain(nn.Module):
    """y = sum of 5 relu(3 * 2 x), the relu in place; `twice` runs twice, `pair` gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1, 1, bias=False)
        self.second = nn.Linear(1, 1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.twice = nn.Identity()
        self.pair = Pair()
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            self.first.weight.fill_(2.0)
            self.second.weight.fill_(3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.first(x))
        x = self.act(self.second(x))
        x, _ = self.pair(self.twice(self.twice(x)))
        return 5 * x.sum()


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return x, None


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in model.modules())


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_outputs_and_gradients_of_one_pass(trainable: bool, inside: bool) -> None:
    chain = Chain().requires_grad_(trainable)
    x = torch.tensor([[1.0], [-1.0]])
    with torch.inference_mode(inside), capture(chain, ("first", "second")) as seen:
        y = chain(x)
        gradients = torch.autograd.grad(y, [seen["first"], seen["second"]])
    # The in-place ReLU after `second` must not show in what was captured.
    assert seen["first"].flatten().tolist() == [2, -2]
    assert seen["second"].flatten().tolist() == [6, -6]
    assert gradients[0].flatten().tolist() == [15, 0]
    assert gradients[1].flatten().tolist() == [5, 0]
    assert seen["first"].is_leaf
    assert not seen["second"].is_leaf
    assert all(p.grad is None and p.requires_grad is trainable for p in chain.parameters())
    assert hooks(chain) == 0


def test_nothing_is_recorded_before_the_first_layer() -> None:
    net = small_resnet()  # its parameters want gradients
    deep = []
    handle = net.backbone.layer2.register_forward_hook(lambda m, i, out: deep.append(out))
    with capture(net, ("backbone.layer4",)) as seen:
        maps = net.stages(torch.zeros(1, 1, 16, 32, 32))
    handle.remove()
    assert not deep[0].requires_grad
    assert seen["backbone.layer4"].is_leaf
    assert maps[3].requires_grad


def test_gradients_equal_those_of_the_whole_graph() -> None:
    net = small_resnet()
    volume = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(1)) * 300
    layers = tuple(net.map_layers)
    with capture(net, layers) as seen:
        ours = torch.autograd.grad(
            net.features(net.stages(volume))[0].square().sum(), seen.values()
        )
    net.eval()
    kept = {}
    for name in layers:
        module = net.get_submodule(name)
        module.register_forward_hook(lambda m, i, out, name=name: kept.setdefault(name, out))
    whole = net.features(net.stages(volume.requires_grad_()))[0].square().sum()
    peer = torch.autograd.grad(whole, [kept[name] for name in seen])
    for a, b in zip(ours, peer, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("nowhere", "no layer 'nowhere'; it has first, second"),
        ("", "no layer ''"),
        ("twice", "more than once"),
        ("pair", "returns a tuple"),
    ],
)
def test_layers_without_a_map_are_refused(layer: str, says: str) -> None:
    chain = Chain()
    with pytest.raises(AttributionError, match=says), capture(chain, (layer,)):
        chain(torch.ones(1, 1))
    assert hooks(chain) == 0
    assert chain.training
    assert torch.is_grad_enabled()


def test_everything_is_put_back_after_an_error() -> None:
    chain = Chain()
    chain.act.eval()
    before = [m.training for m in chain.modules()]

    def fail() -> None:
        with capture(chain, ("first",)):
            assert not any(m.training for m in chain.modules())
            chain(torch.ones(1, 1))
            raise RuntimeError("boom")

    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            with pytest.raises(RuntimeError, match="boom"):
                fail()
            assert torch.is_grad_enabled() is grad
    assert hooks(chain) == 0
    assert [m.training for m in chain.modules()] == before
    assert any(before)


def test_another_threads_pass_is_not_captured() -> None:
    chain = Chain()
    chain.eval()
    results = []

    def elsewhere() -> None:
        results.append(chain(torch.full((1, 1), 10.0)))

    with capture(chain, ("first", "twice")) as seen:
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        assert not seen
    assert results[0].item() == 300
    assert results[0].requires_grad  # its own graph, its own grad mode


def test_flags_come_back_when_the_last_thread_leaves() -> None:
    chain = Chain()
    with evaluating(chain):
        with evaluating(chain.drop):
            assert not chain.drop.training
        assert not chain.drop.training  # the outer block still needs it
    assert all(m.training for m in chain.modules())
    first, second = evaluating(chain), evaluating(chain)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not chain.drop.training
    second.__exit__(None, None, None)
    assert chain.drop.training
