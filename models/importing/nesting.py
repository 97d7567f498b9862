"""Where in a checkpoint its weights lie, and its hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.importing.archive import Entry, Saved
from models.importing.pickles import CheckpointError, Made, Name, Record, TensorRef

# In the order in which they are looked for; the weights of an averaged model come last.
PLACES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "network",
    "net",
    "encoder",
    "weights",
    "params",
    "ema_state_dict",
    "ema",
)
_SETTINGS = ("hyper_parameters", "hparams", "config", "args", "cfg")
_DEEPEST = 4
_MOST_ENTRIES = 200_000
_MOST_SETTINGS = 2_000


def tensors_in(saved: Saved, within: str = "") -> tuple[dict[str, Entry], str]:
    """{name: tensor} of the state dict in a file, and the path in the file where it lay.

    within: that path, where the file has several. A whole module that was pickled is read like its
    state dict. Raises CheckpointError when there is none.
    """
    content: Any = saved.content
    where = ""
    if within:
        for part in within.split("."):
            inner = _named(content).get(part)
            if inner is None:
                known = ", ".join(list(_named(content))[:8]) or "nothing by name"
                raise CheckpointError(f"it has no '{within}'; at that level it has {known}")
            content = inner
        where = within
    found = _described(content)
    for _ in range(_DEEPEST):
        if found:
            break
        inner = _named(content)
        place = next((p for p in PLACES if _holds_tensors(inner.get(p))), None)
        if place is None:
            break
        content = inner[place]
        where = f"{where}.{place}" if where else place
        found = _described(content)
    if not found:
        if any(_is_part(value) for value in _named(content).values()):
            raise CheckpointError(
                "it holds one rank's part of tensors that are split over ranks; save them with "
                "torch.distributed.checkpoint, or gather the full state dict first"
            )
        known = ", ".join(list(_named(content))[:8])
        raise CheckpointError(
            "it holds no weights by name"
            + (f" (it has {known}; say which with 'within')" if known else "")
        )
    return {name: saved.entry(tensor) for name, tensor in found.items()}, where


def _is_part(value: Any) -> bool:
    """Whether it describes a tensor of which other ranks hold the rest."""
    names = (value.by, *value.arguments[:1]) if isinstance(value, Made) else ()
    return any(isinstance(n, Name) and n.name in ("DTensor", "ShardedTensor") for n in names)


def _named(content: Any) -> Mapping[str, Any]:
    return content.named() if isinstance(content, Record) else {}


def _described(content: Any) -> dict[str, TensorRef]:
    """The tensors directly in a dictionary or module, by name."""
    if isinstance(content, Made) and "_parameters" in content.attributes():
        found: dict[str, TensorRef] = {}
        _of_module(content, "", found, 0)
        return found
    return {n: t for n, t in _named(content).items() if isinstance(t, TensorRef)}


def _of_module(module: Made, prefix: str, found: dict[str, TensorRef], depth: int) -> None:
    parts = module.attributes()
    transient = parts.get("_non_persistent_buffers_set")
    skipped = [n for n in transient if isinstance(n, str)] if isinstance(transient, list) else []
    for kind in ("_parameters", "_buffers"):
        for name, value in _named(parts.get(kind)).items():
            if isinstance(value, TensorRef) and name not in skipped:
                found[prefix + name] = value
    if len(found) > _MOST_ENTRIES or depth > 60:
        raise CheckpointError("its module has too many parts")
    for name, inner in _named(parts.get("_modules")).items():
        if isinstance(inner, Made):
            _of_module(inner, f"{prefix}{name}.", found, depth + 1)


def _holds_tensors(content: Any, depth: int = 0) -> bool:
    if _described(content):
        return True
    inner = _named(content)
    return depth < _DEEPEST and any(_holds_tensors(inner.get(p), depth + 1) for p in PLACES)


# ---------------------------------------------------------------- hyperparameters


def settings_in(content: Any) -> dict[str, Any]:
    """The training settings a checkpoint notes, as plain values; unknown objects are left out.

    Dictionaries, argparse's Namespace and OmegaConf's containers are understood.
    """
    found = _named(content)
    for name in _SETTINGS:
        if name in found:
            plain = _Plain().of(found[name], 0)
            if isinstance(plain, dict) and plain:
                return plain
    return {}


class _Plain:
    """Plain values of described ones; stops after so many, whatever the file repeats."""

    def __init__(self) -> None:
        self.left = _MOST_SETTINGS

    def of(self, value: Any, depth: int) -> Any:
        """str, number, bool, list or dict; None for everything else."""
        self.left -= 1
        if self.left < 0 or depth > 12:
            return None
        if isinstance(value, str):
            return value[:500]
        if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
            return value
        if isinstance(value, Made):
            return self._object(value, depth)
        if isinstance(value, Record):
            return {k: self.of(v, depth + 1) for k, v in value.named().items() if self.left > 0}
        if isinstance(value, list | tuple):
            return [self.of(v, depth + 1) for v in value[: max(self.left, 0)]]
        return str(value) if isinstance(value, Name) else None

    def _object(self, value: Made, depth: int) -> Any:
        parts = value.attributes()
        for inner in ("_content", "_val"):
            if inner in parts:
                return self.of(parts[inner], depth + 1)
        kind = value.by.name if value.by else ""
        if value.pairs:
            return self.of(Record(value.pairs), depth)
        if kind in ("Namespace", "AttributeDict", "SimpleNamespace"):
            return {k: self.of(v, depth + 1) for k, v in parts.items()}
        if kind in ("PosixPath", "PurePosixPath", "WindowsPath"):
            return "/".join(str(a) for a in value.arguments if isinstance(a, str))
        return None
