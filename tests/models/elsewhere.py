"""A device for tests where there is no GPU: computes on the CPU, and is as strict as a GPU is.

An operation on one of its tensors and one of the CPU's is refused, but for 0-dimensional numbers
and for indices, as CUDA has it. Registering it cannot be undone and changes what torch says of the
machine, so it is for processes of their own: `sitecustomize` in a folder on PYTHONPATH that calls
`begin` gives it to a command and all its workers.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_CROSSING = ("_to_copy", "copy_", "index", "index_put", "index_put_")
_kept: list[object] = []


class ElsewhereTensor(Tensor):
    """Wraps `held`, a tensor of the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> ElsewhereTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"{NAME}({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        # In inference mode operations arrive whole, before they are taken apart.
        taken_apart = op.decompose(*args, **kwargs)
        if taken_apart is not NotImplemented:
            return taken_apart
        name, to = op.overloadpacket.__name__, kwargs.get("device")
        if name == "copy_" and not isinstance(args[0], ElsewhereTensor):
            return args[0].copy_(args[1].held)
        if to is not None:
            kwargs["device"] = torch.device("cpu")
        known: dict[int, ElsewhereTensor] = {}

        def inside(x: Any) -> Any:
            if isinstance(x, ElsewhereTensor):
                known[id(x.held)] = x
                return x.held
            if isinstance(x, Tensor) and x.dim() and name not in _CROSSING:
                raise RuntimeError(f"{op}: one tensor on {NAME}, one on {x.device}")
            return x

        found = op(*tree_map(inside, args), **tree_map(inside, kwargs))
        if to is not None and torch.device(to).type == "cpu":
            return found

        def outside(x: Any) -> Any:
            return known.get(id(x), ElsewhereTensor(x)) if isinstance(x, Tensor) else x

        # A view is an inference tensor where what it looks at is one, whatever mode this is.
        plain = op.is_view and not any(x.is_inference() for x in known.values())
        with torch.inference_mode(False) if plain else nullcontext():
            return tree_map(outside, found)


def begin() -> None:
    """Register the device type in this process, once."""
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")

    def empty(size: Any, *, dtype: Any = None, **_: Any) -> Tensor:
        return ElsewhereTensor(torch.empty(size, dtype=dtype))

    def strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
        return ElsewhereTensor(torch.empty_strided(size, stride, dtype=dtype))

    def copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
        """`torch.tensor` asks for it by itself."""
        held = (x.held if isinstance(x, ElsewhereTensor) else x for x in (target, source))
        next(held).copy_(next(held))
        return target

    library.impl("empty.memory_format", empty)
    library.impl("_copy_from", copy)
    library.impl("empty_strided", strided)
    _kept.append(library)


def on_path(folder: Path) -> dict[str, str]:
    """Environment in which every Python process begins with the device; writes into `folder`."""
    (folder / "sitecustomize.py").write_text(f"from {__name__} import begin\n\nbegin()\n")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).resolve().parents[2]}"}
