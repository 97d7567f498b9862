"""Weights that others have published, read without running anything that came with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from models.importing.source import open_checkpoint


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights by name, whatever form it has (see `open_checkpoint`).

    Raises ValueError when the file is missing, damaged, or holds no weights.
    """
    checkpoint = open_checkpoint(path)
    return {name.removeprefix("module."): checkpoint.read(name) for name in checkpoint.entries}


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
