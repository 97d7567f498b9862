"""Pretraining of the ECG and echo encoders on what is measured in them, never on an outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.contracts import ModalityInput
from models.encoders.base import ModalityEncoder
from models.pretraining import Report


@dataclass(frozen=True)
class Target:
    """One measurement. kind: a value in its own unit, a finding (0 or 1), or an angle in degrees.

    centre, spread: usual mean and sd of a value, which is learnt as (value - centre) / spread
    unless `Readings.fit` has taken them from the records at hand.
    """

    name: str
    kind: Literal["value", "finding", "angle"] = "value"
    centre: float = 0.0
    spread: float = 1.0


# What a cardiologist or a cart measures. Centres and spreads are those of patients under suspicion
# of heart failure; they only bring the targets to one scale.
ECG_TARGETS = (
    Target("rate_bpm", "value", 78.0, 18.0),
    Target("pr_ms", "value", 165.0, 28.0),
    Target("qrs_ms", "value", 102.0, 22.0),
    Target("qtc_ms", "value", 435.0, 30.0),
    Target("axis_deg", "angle"),
    Target("af", "finding"),
    Target("lbbb", "finding"),
    Target("rbbb", "finding"),
    Target("voltage", "value", 1.1, 0.35),
    Target("t_inversion", "value", 0.2, 0.35),
    Target("st_mv", "value", 0.0, 0.08),
)
ECHO_TARGETS = (
    Target("ejection_fraction", "value", 0.52, 0.13),
    Target("lv_diameter_mm", "value", 51.0, 7.0),
    Target("wall_mm", "value", 10.5, 2.0),
    Target("la_diameter_mm", "value", 40.0, 7.0),
    Target("rv_diameter_mm", "value", 34.0, 5.0),
    Target("regurgitation", "value", 0.25, 0.3),
)


@dataclass(frozen=True)
class ReadingBatch:
    """Records and what was measured in them.

    targets: {name: (B,) float} in the target's own unit; NaN where it cannot be measured (no PR
    interval in atrial fibrillation) or was not.
    """

    inputs: ModalityInput
    targets: Mapping[str, Tensor]


class Readings(nn.Module):
    """Linear readings of a summary, used in pretraining and to inspect what an encoder knows.

    The summary is standardised first (batch statistics while training), so that features of
    different scales are read alike.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, pooled_width: int, targets: Sequence[Target]) -> None:
        super().__init__()
        self.targets = tuple(targets)
        widths = [2 if target.kind == "angle" else 1 for target in self.targets]
        self.norm = nn.BatchNorm1d(pooled_width, affine=False)
        self.register_buffer("centre", torch.tensor([t.centre for t in self.targets]))
        self.register_buffer("spread", torch.tensor([t.spread for t in self.targets]))
        self.heads = nn.ModuleDict(
            {t.name: nn.Linear(pooled_width, w) for t, w in zip(self.targets, widths, strict=True)}
        )

    def fit(self, truth: Mapping[str, Tensor]) -> None:
        """Take each value's mean and sd, and how common a finding is, from measured records.

        truth: as in `ReadingBatch.targets`. A target known in fewer than two records keeps its
        usual scale.
        """
        for i, target in enumerate(self.targets):
            seen = truth[target.name][~truth[target.name].isnan()].float()
            if len(seen) < 2:
                continue
            if target.kind == "finding":
                bias = torch.logit(seen.mean().clamp(0.01, 0.99))
                nn.init.constant_(self._head(target.name).bias, float(bias))
            elif target.kind == "value":
                self.centre[i] = seen.mean()
                self.spread[i] = seen.std().clamp_min(1e-3 * target.spread)

    def _head(self, name: str) -> nn.Linear:
        head = self.heads[name]
        assert isinstance(head, nn.Linear)
        return head

    def raw(self, pooled: Tensor) -> dict[str, Tensor]:
        """{target: (B, 1 or 2)} on the training scale: standard scores, logits, (sin, cos)."""
        z = self.norm(pooled)
        return {name: head(z) for name, head in self.heads.items()}

    def forward(self, pooled: Tensor) -> dict[str, Tensor]:
        """{target: (B,)} in the target's own unit: values, probabilities, degrees -180 to 180."""
        raw = self.raw(pooled)
        read = {}
        for i, target in enumerate(self.targets):
            y = raw[target.name]
            if target.kind == "angle":
                read[target.name] = torch.rad2deg(torch.atan2(y[:, 0], y[:, 1]))
            elif target.kind == "finding":
                read[target.name] = torch.sigmoid(y[:, 0])
            else:
                read[target.name] = y[:, 0] * self.spread[i] + self.centre[i]
        return read

    def losses(self, pooled: Tensor, truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{target: mean loss over the rows where it is known}; a target known nowhere is left out.

        Squared error of the standardised value, cross-entropy of a finding, squared error of an
        angle's sine and cosine.
        """
        losses = {}
        raw = self.raw(pooled)
        for i, target in enumerate(self.targets):
            name, y = target.name, raw[target.name]
            if name not in truth:
                raise ValueError(
                    f"the batch has no target '{name}'; give it, NaN where it is not known."
                )
            known = ~truth[name].isnan()
            if not bool(known.any()):
                continue
            guess, wanted = y[known], truth[name][known].to(y.dtype)
            if target.kind == "angle":
                radians = torch.deg2rad(wanted)
                wanted = torch.stack([radians.sin(), radians.cos()], dim=1)
                losses[name] = 2.0 * F.mse_loss(guess, wanted)
            elif target.kind == "finding":
                losses[name] = F.binary_cross_entropy_with_logits(guess[:, 0], wanted)
            else:
                wanted = (wanted - self.centre[i]) / self.spread[i]
                losses[name] = F.mse_loss(guess[:, 0], wanted)
        return losses


class ECGReadings(Readings):
    """Rate, intervals, axis, rhythm, blocks, voltage and repolarisation (`ECG_TARGETS`)."""

    def __init__(self, pooled_width: int) -> None:
        super().__init__(pooled_width, ECG_TARGETS)


class EchoReadings(Readings):
    """Ejection fraction, diameters, wall and regurgitation (`ECHO_TARGETS`)."""

    def __init__(self, pooled_width: int) -> None:
        super().__init__(pooled_width, ECHO_TARGETS)


def pretrain_readings(
    encoder: ModalityEncoder,
    readings: Readings,
    batches: Iterator[ReadingBatch],
    steps: int,
    *,
    learning_rate: float = 3e-3,
    report: Report | None = None,
) -> None:
    """Train `encoder` and `readings` in place for `steps` batches.

    The learning rate falls linearly. Rows whose patient lacks the modality are left out. Both are
    in eval mode afterwards. To make an encoder robust to missing leads or views, hide some in the
    batches.
    """
    parameters = [*encoder.parameters(), *readings.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-3)
    encoder.train()
    readings.train()
    running: dict[str, float] = {}
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * max(0.02, 1 - step / steps)
        batch = next(batches)
        encoded = encoder(batch.inputs)
        there = encoded.present
        truth = {name: value[there] for name, value in batch.targets.items()}
        losses = readings.losses(encoded.pooled[there], truth)
        if not losses:
            raise ValueError(
                f"batch {step + 1} has no known target; leave it out or measure some of them."
            )
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        for name, value in losses.items():
            now = float(value.detach())
            running[name] = 0.97 * running.get(name, now) + 0.03 * now
        if report is not None:
            report(step + 1, steps, running)
    encoder.eval()
    readings.eval()
