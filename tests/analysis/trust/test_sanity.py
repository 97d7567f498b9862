from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import spearmanr

from analysis.attribution.target import LogRisk
from analysis.attribution.volume import layer_maps
from analysis.trust import sanity
from tests.analysis.attribution.toys_ct import case_of, resnet_run


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    array = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 3000, (16, 32, 32)), 1.5)
    return case_of(tmp_path_factory.mktemp("scan"), resnet_run(), array)


def explain(case):
    shown = layer_maps(case, "ct", LogRisk(), ("hirescam",), ("backbone.layer1",))
    volume = case.raw("ct").fields["volume"][0, 0].numpy()
    return {
        "gradient": shown["hirescam", "backbone.layer1"].values,
        "edges": ndimage.gaussian_gradient_magnitude(volume, 1.0),
        "constant": np.ones((4, 8, 8)),
    }


def weights(case):
    return {name: tensor.clone() for name, tensor in case.model.state_dict().items()}


def test_a_map_that_ignores_the_weights_survives_and_a_gradient_map_does_not(case) -> None:
    before = weights(case)
    measured = [sanity.randomisation(case, "ct", explain, seed=seed) for seed in (0, 1)]
    said = {n: sanity.summarise_randomisation([m[n] for m in measured]) for n in measured[0]}
    assert said["edges"]["verdict"] == "survives"
    assert said["edges"]["similarity"]["value"] == pytest.approx(1.0)
    assert said["edges"]["stages"][-1]["ssim"]["value"] == pytest.approx(1.0, abs=1e-4)
    assert said["gradient"]["verdict"] == "depends on the weights"
    assert said["gradient"]["similarity"]["value"] < sanity.PARTLY_AT
    # A constant map has no order at all: it cannot be said to depend on anything or to survive.
    assert said["constant"]["similarity"]["value"] == 0
    # The shared model was not touched.
    after = case.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_cascade_goes_from_the_head_to_the_first_layer_and_leaves_none_out(case) -> None:
    groups = sanity.cascade(case.model, "ct", 3)
    assert groups[0][0] == "fusion and head"
    assert all(name.startswith("strategy") for name in groups[0][1])
    inner = [name for _, names in groups[1:] for name in names]
    assert inner[-1] == "encoders.ct.backbone.conv1"
    assert inner.index("encoders.ct.lesions") < inner.index("encoders.ct.fine1")
    listed = {name for _, names in groups for name in names}
    owners = {n.rpartition(".")[0] for n, _ in case.model.named_parameters()}
    assert listed == owners


def test_randomising_is_cumulative_seeded_and_marks_the_twin(case) -> None:
    twins = [twin for _, twin in sanity.randomised(case, "ct", 2, seed=3)]
    again = [twin for _, twin in sanity.randomised(case, "ct", 2, seed=3)]
    state, same = twins[-1].model.state_dict(), again[-1].model.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)
    old = case.model.state_dict()
    drawn = [n for n, p in case.model.named_parameters() if p.numel() > 4 and n.endswith("weight")]
    changed = [name for name in drawn if not torch.equal(state[name], old[name])]
    # Normalisation restarts at ones, which the untrained toy has already.
    assert set(drawn) - set(changed) == {n for n in drawn if old[n].ndim == 1}
    assert twins[0].run.hash != case.run.hash
    assert twins[-1].value(LogRisk()) != case.value(LogRisk())


def test_a_model_s_own_parameter_is_drawn_anew_too() -> None:
    module = torch.nn.Module()
    module.vector = torch.nn.Parameter(torch.linspace(-2, 2, 500))
    module.single = torch.nn.Parameter(torch.tensor([5.0]))
    sanity.randomise(module, [""], seed=0)
    assert float(module.vector.detach().std()) == pytest.approx(1.16, abs=0.15)
    assert float(module.single.detach()) != 5.0


def test_randomising_leaves_the_global_stream_alone(case) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(sanity.randomised(case, "ct", 1))
    assert torch.equal(torch.rand(1), expected)


def test_stability_is_one_for_what_does_not_move_and_less_for_noise(case) -> None:
    def explain_still(case):
        rng = np.random.default_rng(int(abs(case.raw("ct").fields["volume"].sum()) * 1000) % 2**32)
        return {"still": np.arange(200.0), "noise": rng.normal(size=200)}

    found = sanity.stability(case, "ct", explain_still, repeats=3)
    assert found["still"].rank == pytest.approx(1.0)
    assert found["still"].top == 1.0
    assert abs(found["noise"].rank) < 0.3
    assert found["noise"].top < 0.5
    said = sanity.summarise_stability([found["still"], found["noise"]])
    assert said["n"] == 2
    assert 0.3 < said["rank"]["value"] < 0.7


def test_noise_is_of_the_stated_size_and_in_the_one_modality(case) -> None:
    before = case.raw("ct").fields["volume"].clone()
    twin = sanity.jittered(case, "ct", noise_hu=7.0, share=0.01, seed=0)
    noise = twin.raw("ct").fields["volume"] - before
    assert float(noise.std()) == pytest.approx(7.0, rel=0.03)
    assert abs(float(noise.mean())) < 0.2
    assert torch.equal(case.raw("ct").fields["volume"], before)
    assert twin.value(LogRisk()) != case.value(LogRisk())


def test_similarity_against_scipy_with_ties_and_zeros() -> None:
    rng = np.random.default_rng(0)
    a, b = np.maximum(rng.normal(size=300), 0), np.maximum(rng.normal(size=300), 0)
    assert sanity.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert sanity.spearman(a, a**3) == pytest.approx(1.0)
    signed = rng.normal(size=300)
    turned = sanity.compare(signed, -signed)
    assert turned.rank == pytest.approx(-1.0)
    assert turned.rank_abs == pytest.approx(1.0)
    assert turned.strongest == pytest.approx(1.0)


def test_top_overlap_counts_only_what_is_not_zero() -> None:
    a = np.zeros(1000)
    b = np.zeros(1000)
    a[:4], b[2:6] = [4, 3, 2, 1], [1, 2, 3, 4]
    # Top 10 of each would be 4 parts and 6 arbitrary zeros.
    assert sanity.top_overlap(a, b) == pytest.approx(2 / 4)
    assert sanity.top_overlap(a, np.zeros(1000)) == 0
    assert sanity.top_overlap(np.arange(10), np.arange(10)[::-1].copy(), k=4) == 0


def test_empty_maps_are_like_nothing() -> None:
    found = sanity.compare(np.zeros((8, 8, 8)), np.ones((8, 8, 8)))
    assert (found.rank, found.top, found.ssim) == (0, 0, 0)
    with pytest.raises(ValueError, match="cannot be compared"):
        sanity.compare(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.2, "depends on the weights"), (0.4, "partly"), (-0.7, "survives"), (0.9, "survives")],
)
def test_verdict_by_the_larger_of_the_two_correlations(value, verdict) -> None:
    stages = [("head", sanity.Similarity(0.9, 0.9, 1.0)), ("all", sanity.Similarity(0, value, 0.1))]
    assert sanity.summarise_randomisation([stages] * 3)["verdict"] == verdict
