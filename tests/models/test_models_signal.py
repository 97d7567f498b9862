from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.contracts import Kind, LeadTimeGrid, ModalityInput
from models.encoders.base import build_encoder
from models.encoders.signal import ECGCNN, ECGCNNConfig
from models.pretraining_cardiac import (
    ECG_TARGETS,
    ECGReadings,
    ReadingBatch,
    Readings,
    Target,
    pretrain_readings,
)

RATE = 250
SMALL = ECGCNNConfig(leads=("I", "II", "V1"), seconds=4.0, steps=10, mix_width=16)


def signals(n: int, leads: int = 12, samples: int = 2500, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, leads, samples, generator=generator) * 0.3, torch.ones(
        n, leads, samples, dtype=torch.bool
    )


def ecg(signal: Tensor, mask: Tensor, present: Tensor | None = None) -> ModalityInput:
    if present is None:
        present = torch.ones(len(signal), dtype=torch.bool)
    return ModalityInput(Kind.SIGNAL, {"signal": signal, "mask": mask}, present)


def cnn(config: ECGCNNConfig = SMALL) -> ECGCNN:
    torch.manual_seed(0)
    encoder = ECGCNN(config)
    # Running statistics other than 0 and 1, as after training.
    with torch.no_grad():
        for _ in range(5):
            encoder(ecg(*signals(8, len(config.leads), config.samples)))
    return encoder.eval()


def activations(encoder: ECGCNN, inputs: ModalityInput) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    handles = [
        encoder.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out)
        )
        for name in encoder.map_layers
    ]
    encoder(inputs)
    for handle in handles:
        handle.remove()
    return seen


def test_the_default_network_is_light_and_lays_tokens_on_leads_and_time():
    encoder = ECGCNN(ECGCNNConfig()).eval()
    assert sum(p.numel() for p in encoder.parameters()) < 600_000
    with torch.no_grad():
        encoded = encoder(ecg(*signals(2)))
    layout = encoded.layout
    assert isinstance(layout, LeadTimeGrid)
    assert (len(layout.leads), layout.steps, layout.step_s) == (12, 25, 0.4)
    assert encoded.tokens.shape == (2, 300, encoder.token_width)
    assert encoded.pooled.shape == (2, encoder.pooled_width)


def test_a_spike_shows_at_its_lead_and_time_in_every_map_layer():
    encoder = cnn()
    calm, mask = torch.zeros(1, 3, 1000), torch.ones(1, 3, 1000, dtype=torch.bool)
    spike = calm.clone()
    spike[0, 2, 640:648] = 2.0  # lead V1, 2.56 s to 2.59 s of 4 s
    with torch.no_grad():
        before, after = (
            activations(encoder, ecg(calm, mask)),
            activations(encoder, ecg(spike, mask)),
        )
    steps = {"stem": 500, "stage1": 250, "stage2": 50, "merge": 50}
    for name, n in steps.items():
        assert after[name].shape[0] == 1
        assert after[name].shape[2:] == (3, n)
        change = (after[name] - before[name])[0].square().sum(dim=0)
        lead, step = divmod(int(change.argmax()), n)
        assert lead == 2, name
        assert abs((step + 0.5) / n - 644 / 1000) <= 2 / n, name
        if name != "merge":
            assert change[:2].abs().max() == 0, name


def test_maps_are_centred_on_the_signal():
    """Reflecting time reflects every map: no stage shifts by half a step."""
    encoder = cnn()
    for name, parameter in encoder.named_parameters():
        if name.endswith("weight") and parameter.ndim == 4 and parameter.shape[3] > 1:
            parameter.data = (parameter.data + parameter.data.flip(3)) / 2
    signal, mask = signals(1, 3, 1000)
    with torch.no_grad():
        forth = activations(encoder, ecg(signal, mask))
        back = activations(encoder, ecg(signal.flip(2), mask))
    for name, activation in forth.items():
        assert torch.allclose(activation, back[name].flip(3), atol=1e-4), name


def test_the_numbers_of_a_missing_lead_enter_nothing():
    encoder = cnn()
    signal, mask = signals(2, 3, 1000)
    mask[0, 1] = False
    other = signal.clone()
    other[0, 1] = math.nan
    with torch.no_grad():
        one, two = encoder(ecg(signal, mask)), encoder(ecg(other, mask))
        whole = activations(encoder, ecg(signal, torch.ones_like(mask)))
        part = activations(encoder, ecg(signal, mask))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.pooled, two.pooled)
    assert one.mask[0].tolist() == [True] * 10 + [False] * 10 + [True] * 10
    assert one.mask[1].all()
    # Before the leads meet, a missing one changes nothing but itself.
    for name in ("stem", "stage1", "stage2"):
        assert torch.equal(whole[name][0, :, [0, 2]], part[name][0, :, [0, 2]])
        assert not torch.equal(whole[name][0, :, 1], part[name][0, :, 1])


def test_a_missing_lead_is_not_a_flat_one():
    encoder = cnn()
    signal, mask = signals(1, 3, 1000)
    signal[0, 1] = 0.0
    gone = mask.clone()
    gone[0, 1] = False
    with torch.no_grad():
        flat, missing = encoder(ecg(signal, mask)), encoder(ecg(signal, gone))
    assert (flat.tokens[0, :10] - missing.tokens[0, :10]).abs().max() > 1e-3
    assert (flat.pooled - missing.pooled).abs().max() > 1e-3


def test_a_gap_has_no_tokens():
    encoder = cnn()
    signal, mask = signals(1, 3, 1000)
    mask[0, 0, 100:260] = False  # step 1 (100 to 199) whole, step 2 by 60 of 100 samples
    mask[0, 0, 300:340] = False  # step 3 by 40 of 100 samples
    with torch.no_grad():
        encoded = encoder(ecg(signal, mask))
    assert torch.nonzero(~encoded.mask)[:, 1].tolist() == [1, 2]
    assert encoded.tokens[0, 1:3].abs().max() == 0
    assert encoded.tokens[0, 3].abs().max() > 0


def test_absent_patients_and_batches_of_one():
    encoder = cnn()
    signal, mask = signals(3, 3, 1000)
    present = torch.tensor([True, False, True])
    with torch.no_grad():
        batch = encoder(ecg(signal, mask, present))
        alone = encoder(ecg(signal[2:], mask[2:]))
    assert batch.present.tolist() == present.tolist()
    assert not batch.mask[1].any()
    assert batch.tokens[1].abs().max() == 0
    assert batch.pooled[1].abs().max() == 0
    assert torch.allclose(batch.tokens[2], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled[2], alone.pooled[0], atol=1e-5)
    again = encoder.summarise(batch.tokens, batch.mask)
    assert torch.equal(again, batch.pooled)


def test_a_gradient_reaches_the_signal_in_eval_mode():
    encoder = cnn().requires_grad_(False)
    signal, mask = signals(1, 3, 1000)
    mask[0, 1, :500] = False
    signal.requires_grad_()
    encoder(ecg(signal, mask)).pooled.square().sum().backward()
    assert (signal.grad[0, 1, :500] == 0).all()
    assert (signal.grad[0, [0, 2]] != 0).float().mean() > 0.9


def test_another_length_is_refused_and_configs_must_be_whole():
    with pytest.raises(
        ValueError, match=r"reads 3 leads of 1000 samples at 250 Hz, got \(3, 900\)"
    ):
        cnn()(ecg(*signals(1, 3, 900)))
    with pytest.raises(ValueError, match="steps"):
        ECGCNNConfig(steps=30)
    with pytest.raises(ValueError, match="every lead once"):
        ECGCNNConfig(leads=("I", "I"))
    encoder = build_encoder("ecg_cnn", SMALL.model_dump(mode="json"))
    assert encoder.config == SMALL


# ---------------------------------------------------------------- pretraining


def test_losses_by_hand():
    readings = Readings(
        2, (Target("rate", "value", 70.0, 10.0), Target("af", "finding"), Target("axis", "angle"))
    ).eval()
    with torch.no_grad():
        for head in readings.heads.values():
            head.weight.zero_()
        readings.heads["rate"].bias.fill_(0.5)
        readings.heads["af"].bias.fill_(0.0)
        readings.heads["axis"].bias.copy_(torch.tensor([1.0, 0.0]))
    nan = math.nan
    truth = {
        "rate": torch.tensor([80.0, nan, 60.0]),
        "af": torch.tensor([1.0, 0.0, nan]),
        "axis": torch.tensor([90.0, 0.0, nan]),
    }
    losses = readings.losses(torch.zeros(3, 2), truth)
    assert losses["rate"].item() == pytest.approx((0.5**2 + 1.5**2) / 2)
    assert losses["af"].item() == pytest.approx(math.log(2))
    # sin, cos are right for 90 degrees, and both off by one for 0.
    assert losses["axis"].item() == pytest.approx(1.0)
    read = readings(torch.zeros(1, 2))
    assert read["rate"].item() == pytest.approx(75.0)
    assert read["af"].item() == pytest.approx(0.5)
    assert read["axis"].item() == pytest.approx(90.0)
    unknown = {name: torch.full((3,), nan) for name in truth}
    assert readings.losses(torch.zeros(3, 2), unknown) == {}
    with pytest.raises(ValueError, match="no target 'af'"):
        readings.losses(torch.zeros(3, 2), {"rate": truth["rate"]})


def test_scales_are_taken_from_the_records_at_hand():
    readings = Readings(2, (Target("rate", "value", 70.0, 10.0), Target("af", "finding"))).eval()
    truth = {
        "rate": torch.tensor([90.0, math.nan, 110.0]),
        "af": torch.tensor([1.0, 0.0, 0.0]),
    }
    readings.fit(truth)
    with torch.no_grad():
        for head in readings.heads.values():
            head.weight.zero_()
        readings.heads["rate"].bias.zero_()
        read = readings(torch.zeros(1, 2))
    assert read["rate"].item() == pytest.approx(100.0)
    assert read["af"].item() == pytest.approx(1 / 3)
    assert readings.spread[0].item() == pytest.approx(math.sqrt(200))
    once = Readings(2, (Target("rate", "value", 70.0, 10.0),))
    once.fit({"rate": torch.tensor([math.nan, 80.0])})
    assert (once.centre[0], once.spread[0]) == (70.0, 10.0)


def beats(rng: np.random.Generator, n: int) -> ReadingBatch:
    """Spikes at a steady rate; their height in leads I and II is a vector's projection."""
    rate = rng.uniform(50, 130, n)
    axis = rng.uniform(-60, 120, n)
    voltage = rng.uniform(0.5, 2.0, n)
    t = np.arange(1000) / RATE
    phase = (t * rate[:, None] / 60 + rng.random((n, 1))) % 1.0 - 0.5
    shape = np.exp(-0.5 * (phase / (rate[:, None] / 60) / 0.02) ** 2)
    angle = np.deg2rad(axis)
    heights = np.stack([np.cos(angle), np.cos(angle - np.pi / 3), np.full(n, 0.5)], axis=1)
    signal = heights[:, :, None] * voltage[:, None, None] * shape[:, None]
    signal = signal + rng.normal(0, 0.02, signal.shape)
    tensor = torch.from_numpy(signal.astype(np.float32))
    truth = {"rate_bpm": rate, "axis_deg": axis, "voltage": voltage}
    targets = {
        t.name: torch.from_numpy(truth.get(t.name, np.full(n, np.nan)).astype(np.float32))
        for t in ECG_TARGETS
    }
    inputs = ecg(tensor, torch.ones_like(tensor, dtype=torch.bool))
    absent = ModalityInput(inputs.kind, inputs.fields, torch.arange(n) > 0)
    return ReadingBatch(absent, targets)


def test_pretraining_learns_rate_axis_and_voltage():
    """No normalisation of the record, so its height is learnt; leads meet, so the axis is.

    A guess without looking errs by 20 bpm, 45 degrees and 0.38.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    encoder = ECGCNN(SMALL.model_copy(update={"widths": (8, 12, 16), "token_width": 32}))
    readings = ECGReadings(encoder.pooled_width)
    readings.fit(beats(rng, 200).targets)
    reports: list[int] = []
    pretrain_readings(
        encoder,
        readings,
        iter(lambda: beats(rng, 24), None),
        150,
        learning_rate=1e-2,
        report=lambda done, _all, _running: reports.append(done),
    )
    assert reports == list(range(1, 151))
    assert not encoder.training
    test = beats(np.random.default_rng(1), 128)
    with torch.no_grad():
        encoded = encoder(test.inputs)
        read = readings(encoded.pooled)
    there = encoded.present
    rate = (read["rate_bpm"] - test.targets["rate_bpm"])[there].abs().mean()
    turn = (read["axis_deg"] - test.targets["axis_deg"] + 180) % 360 - 180
    voltage = (read["voltage"] - test.targets["voltage"])[there].abs().mean()
    assert float(rate) < 12
    assert float(turn[there].abs().median()) < 12
    assert float(voltage) < 0.15


def test_pretraining_refuses_batches_without_any_target():
    batch = beats(np.random.default_rng(0), 4)
    nothing = replace(batch, targets={t.name: torch.full((4,), math.nan) for t in ECG_TARGETS})
    encoder = cnn()
    with pytest.raises(ValueError, match="batch 1 has no known target"):
        pretrain_readings(encoder, ECGReadings(encoder.pooled_width), iter([nothing]), 1)
