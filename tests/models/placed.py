"""Every strategy on the CPU and elsewhere, in a process of its own: differences as JSON."""

from __future__ import annotations

import copy
import json
import sys

import torch
from torch import Tensor

import models.fusion  # noqa: F401
from models.contracts import FusionOutput, Kind, ModalityInput
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.fusion.base import STRATEGIES
from models.network import FusionModel, stream_widths
from models.placement import place
from tests.models.elsewhere import NAME, begin

PATIENTS, COLUMNS = 6, 3


def build(name: str) -> FusionModel:
    """Two tables fused, or one where a strategy fuses nothing."""
    torch.manual_seed(0)
    cls = STRATEGIES.get(name)
    names = ("ct",) if name == "unimodal" else ("ct", "ehr", "labs")[: max(cls.min_modalities, 2)]
    columns = tuple(TableColumn(name=f"c{i}") for i in range(COLUMNS))
    encoders = {n: TableEncoder(TableConfig(columns=columns)) for n in names}
    strategy = cls(stream_widths(encoders), 1, cls.Config(width=16, heads=2))
    for parameter in strategy.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            torch.nn.init.normal_(parameter, std=0.3)
    return FusionModel(encoders, strategy)


def inputs(model: FusionModel) -> tuple[dict[str, ModalityInput], list[Tensor]]:
    """Tables of which the first patient lacks one, and their values to differentiate by."""
    random = torch.Generator().manual_seed(1)
    given, values = {}, []
    for at, name in enumerate(model.modalities):
        x = torch.randn(PATIENTS, COLUMNS, generator=random).requires_grad_()
        present = torch.arange(PATIENTS) >= (at == 0 and len(model.modalities) > 1)
        fields = {"values": x, "mask": present[:, None].expand(-1, COLUMNS)}
        given[name] = ModalityInput(Kind.TABLE, fields, present)
        values.append(x)
    return given, values


def answers(model: FusionModel) -> dict[str, list[Tensor]]:
    """All that a strategy says, and gradients by inputs and by attention; all on the CPU."""
    given, values = inputs(model)
    output: FusionOutput = model(given)
    maps = [a.used for a in output.attention]
    gradients = torch.autograd.grad(output.prediction.sum(), [*values, *maps], allow_unused=True)
    said = [output.prediction, output.fused, *output.before.values(), *output.after.values()]
    said += [*output.gates.values(), *output.unimodal.values(), *output.answers.values()]
    assert all(x.device.type == "cpu" for x in said)
    return {
        "answers": said,
        "attention": [a.weights for a in output.attention],
        "by input": [g for g in gradients[: len(values)] if g is not None],
        "by attention": [g.cpu() for g in gradients[len(values) :] if g is not None],
    }


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest; not a number where there is nothing on one side only."""
    if len(one) != len(other):
        return float("nan")
    return max(
        (float((a - b).detach().abs().max()) for a, b in zip(one, other, strict=True)), default=0.0
    )


def main() -> None:
    begin()
    found = {}
    for name in STRATEGIES:
        here = build(name)
        there = place(copy.deepcopy(here), torch.device(NAME, 0))
        assert all(p.device == torch.device(NAME, 0) for p in there.parameters())
        one, other = answers(here), answers(there)
        found[name] = {
            "differences": {what: difference(one[what], other[what]) for what in one},
            "numbers": {what: sum(x.numel() for x in one[what]) for what in one},
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
