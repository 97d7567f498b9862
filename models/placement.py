"""Where a model computes: its networks on a GPU, all that asks them on the CPU.

Explanations ask one network thousands of questions and do the rest in numpy. So a placed model
takes what it is given to its device and brings the answers back, gradients included; nobody else
has to know where it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from models.contracts import Encoded, FusionOutput, ModalityInput
from models.encoders.base import SummaryOfTokens
from models.network import FusionModel
from models.runtime import repeat_on_gpu

CPU = torch.device("cpu")


def place(model: FusionModel, device: torch.device) -> FusionModel:
    """The same model with its networks on `device`; on the CPU nothing changes.

    Inputs and outputs of the encoders, of their summaries and of the strategy stay on the CPU.
    Layers inside compute on the device: what is captured there is there. To be called once, before
    anybody uses the model.
    """
    if device.type == CPU.type:
        return model
    repeat_on_gpu()
    model.to(device)
    for network in (*model.encoders.values(), model.strategy):
        network.register_forward_pre_hook(_to(device))
        network.register_forward_hook(_back)
        if isinstance(network, SummaryOfTokens):
            network.summarise = _there_and_back(network.summarise, device)  # type: ignore[method-assign]
    return model


def _to(device: torch.device) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(moved(x, device) for x in given)

    return hook


def _back(_: nn.Module, given: object, answer: Any) -> Any:
    return moved(answer, CPU)


def _there_and_back(
    summarise: Callable[..., Tensor], device: torch.device
) -> Callable[..., Tensor]:
    """Asked from within the network, with tensors that are on the device, it stays there."""

    @wraps(summarise)
    def asked(tokens: Tensor, mask: Tensor) -> Tensor:
        return summarise(tokens.to(device), mask.to(device)).to(tokens.device)

    return asked


def moved(item: Any, device: torch.device) -> Any:
    """Tensors, and what is made of them, on a device."""
    if isinstance(item, Tensor | ModalityInput | Encoded | FusionOutput):
        return item.to(device)
    if isinstance(item, dict):
        return {name: moved(x, device) for name, x in item.items()}
    return item
