"""What layers inside a model return during one pass, with a graph from there on.

A loaded model is shared by every user of a process. So hooks act only in the thread that set
them and are always taken away again, parameters are never touched (neither `requires_grad` nor
`.grad`: take gradients with `torch.autograd.grad`), and training flags are put back once the last
thread that needed them changed is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from analysis.attribution.case import AttributionError

_LOCK = threading.Lock()
# Modules that were in training mode when they were borrowed, and by how many.
_BORROWED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode inside the block; every module's own flag is put back after it.

    With several threads inside at once the flags come back when the last one leaves. A model
    that is in eval mode already is not written to.
    """
    mine = []
    with _LOCK:
        for module in model.modules():
            if module.training or module in _BORROWED:
                _BORROWED[module] = _BORROWED.get(module, 0) + 1
                module.training = False
                mine.append(module)
    try:
        yield
    finally:
        with _LOCK:
            for module in mine:
                _BORROWED[module] -= 1
                if not _BORROWED[module]:
                    del _BORROWED[module]
                    module.training = True


@contextmanager
def capture(encoder: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Inside the block one pass through `encoder` fills {module path: its output}.

    Run the whole pass up to the explained number inside the block. Nothing is recorded before
    the first captured output, which becomes a leaf, so the gradient of the number at a late layer
    costs little more than a bare pass; the other outputs keep their place in the graph. What runs
    downstream gets a copy, so that an in-place operation there spoils nothing. The encoder is in
    eval mode; a caller's `torch.inference_mode` is left for the block.

    Raises AttributionError when the encoder has no such module, or when one runs more than once
    in a pass or returns something other than a tensor: it then has no single map.
    """
    modules = {name: _module(encoder, name) for name in layers}
    seen: dict[str, Tensor] = {}
    with ExitStack() as stack:
        stack.enter_context(evaluating(encoder))
        stack.enter_context(torch.inference_mode(False))
        # Off until the first captured layer runs; its hook turns the recording on.
        stack.enter_context(torch.no_grad())
        for name, module in modules.items():
            handle = module.register_forward_hook(_keep(name, seen, threading.get_ident()))
            stack.callback(handle.remove)
        yield seen


def _keep(
    name: str, seen: dict[str, Tensor], owner: int
) -> Callable[[nn.Module, object, object], Tensor | None]:
    def hook(module: nn.Module, inputs: object, output: object) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        if name in seen:
            raise AttributionError(
                f"layer '{name}' runs more than once in a pass, so it has no single map; choose "
                "another layer."
            )
        if not isinstance(output, Tensor):
            raise AttributionError(
                f"layer '{name}' returns a {type(output).__name__}, not a tensor; choose another "
                "layer."
            )
        torch.set_grad_enabled(True)
        seen[name] = output if output.requires_grad else output.detach().requires_grad_()
        return seen[name].clone()

    return hook


def _module(encoder: nn.Module, name: str) -> nn.Module:
    try:
        if name:
            return encoder.get_submodule(name)
    except AttributeError:
        pass
    raise AttributionError(
        f"{type(encoder).__name__} has no layer '{name}'; it has "
        f"{', '.join(n for n, _ in encoder.named_children())} and what lies inside them."
    )
