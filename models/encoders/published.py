"""Weights that others have published, read without running anything that came with them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a `.pt`, `.pth` or `.bin` file by name.

    A training checkpoint is searched for its `model` or `state_dict`. Only tensors and plain values
    are read (`weights_only`). Raises ValueError when the file is missing, needs more than that, or
    holds no weights.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give the path of the published weights.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path, device="cpu"))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: not readable as weights ({reason}); download it again, or save its state "
            "dict alone."
        ) from error
    for name in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds no weights by name; save the model's state dict.")
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise ValueError(f"{path}: holds no weights by name; save the model's state dict.")
    return {name.removeprefix("module."): value for name, value in found.items()}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load all of `state` into all of `module`.

    Raises ValueError that names the first tensor which is missing, left over, of another shape or
    not finite.
    """
    own = module.state_dict()
    wrong = ""
    for name in sorted(set(own) | set(state)):
        if name not in state:
            wrong = f"lacks '{name}'"
        elif name not in own:
            wrong = f"holds an unexpected '{name}'"
        elif own[name].shape != state[name].shape:
            wrong = f"'{name}' is {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        elif state[name].is_floating_point() and not bool(state[name].isfinite().all()):
            wrong = f"'{name}' holds values that are not finite"
        if wrong:
            raise ValueError(f"{path}: {wrong}; these are not the weights of {what}.")
    module.load_state_dict(dict(state))
