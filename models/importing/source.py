"""A checkpoint, whatever it came as: its tensors by name, none of them read yet."""

from __future__ import annotations

import json
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.importing.archive import Entry, read_saved
from models.importing.distributed import METADATA, plain_name, read_distributed
from models.importing.nesting import settings_in, tensors_in
from models.importing.pickles import Buffer, CheckpointError

MOST_HEADER = 16 << 20
WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# What a damaged or hostile file can make a reader say.
_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    RuntimeError,
    EOFError,
    OSError,
    AssertionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    SafetensorError,
)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, as the file names them, and what else is known of it.

    form: what kind of file it is, in words. within: where in the file the weights lay. settings:
    the hyperparameters it notes. read: a tensor by name; raises CheckpointError where its numbers
    are damaged.
    """

    path: Path
    form: str
    entries: Mapping[str, Entry]
    within: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def read(self, name: str) -> Tensor:
        """The tensor of that name, whole, on the CPU."""
        with _in_words(self.path):
            return self.entries[name].read()


def open_checkpoint(path: Path | str, within: str = "") -> Checkpoint:
    """What a file or folder of weights holds; numbers are read when they are asked for.

    Reads files of torch.save of either form (bare, nested, Lightning's, whole modules),
    safetensors, shards with an index, and folders of torch.distributed.checkpoint, DeepSpeed or
    Lightning as far as they hold whole weights. within: where in the file the weights lie, dotted,
    if it has several. Never runs anything that came with it. Raises CheckpointError.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file; name the checkpoint.")
    with _in_words(path):
        return _open_folder(path, within) if path.is_dir() else _open_file(path, within)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Any failure of reading as one sentence that names the file."""
    try:
        yield
    except CheckpointError as error:
        text = " ".join(str(error).split())
        whole = text.startswith(str(path))
        raise CheckpointError(text if whole else f"{path}: not read: {text}.") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: not read: it does not fit in the memory.") from error
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path}: not read: it is damaged or cut off ({type(error).__name__}); copy it again."
        ) from error


def map_file(path: Path) -> Buffer:
    """The bytes of a file, mapped and not read."""
    if not path.is_file():
        raise CheckpointError(f"'{path.name}' is missing beside it")
    with path.open("rb") as stream:
        if not path.stat().st_size:
            raise CheckpointError(f"'{path.name}' is empty")
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _open_file(path: Path, within: str) -> Checkpoint:
    if path.name.endswith(".index.json"):
        return _open_shards(path, within)
    buffer = map_file(path)
    if bytes(buffer[8:9]) == b"{" or path.suffix == ".safetensors":
        return Checkpoint(path, "safetensors", _read_safetensors(path, buffer))
    saved = read_saved(buffer)
    entries, where = tensors_in(saved, within)
    form = {"zip": "torch.save", "plain": "torch.save, old form"}[saved.form]
    content = saved.content
    named = content.named() if hasattr(content, "named") else {}
    if "pytorch-lightning_version" in named:
        form = f"Lightning checkpoint ({form})"
    return Checkpoint(path, form, entries, where, settings_in(content))


def _read_safetensors(path: Path, buffer: Buffer) -> dict[str, Entry]:
    if len(buffer) < 8:
        raise CheckpointError("it is cut off")
    (length,) = struct.unpack("<Q", bytes(buffer[:8]))
    if length > MOST_HEADER:
        raise CheckpointError(f"its header claims {length:,} bytes, too many for weights")
    if 8 + length > len(buffer):
        raise CheckpointError("its header is cut off")
    found = {}
    # Kept open for all tensors: opening it reads the whole header again.
    stream: Any = safe_open(path, framework="pt", device="cpu")
    for name in stream.keys():  # noqa: SIM118
        part = stream.get_slice(name)
        dtype = _DTYPES.get(part.get_dtype())
        if dtype is None:
            raise CheckpointError(f"it holds numbers of the type {part.get_dtype()}")
        found[name] = Entry(dtype, tuple(part.get_shape()), partial(stream.get_tensor, name))
    if not found:
        raise CheckpointError("it holds no tensors")
    return found


def _open_shards(path: Path, within: str) -> Checkpoint:
    if path.stat().st_size > MOST_HEADER:
        raise CheckpointError("it is longer than an index of weights can be")
    content = json.loads(path.read_text(encoding="utf-8"))
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError("it has no weight_map")
    files = {plain_name(file) for file in places.values()}
    parts = {file: _open_shard(path.parent / file, within) for file in sorted(files)}
    entries = {}
    for name, file in places.items():
        if name not in parts[file].entries:
            raise CheckpointError(f"'{file}' lacks a tensor that the index places there")
        entries[name] = parts[file].entries[name]
    kinds = sorted({part.form for part in parts.values()})
    return Checkpoint(path, f"{len(files)} shards of {' and '.join(kinds)}", entries, within)


def _open_shard(path: Path, within: str) -> Checkpoint:
    if path.name.endswith(".index.json"):
        raise CheckpointError("an index names another index")
    return _open_file(path, within)


# ---------------------------------------------------------------- folders


def _open_folder(folder: Path, within: str) -> Checkpoint:
    if (folder / METADATA).is_file():
        return Checkpoint(
            folder, "torch.distributed.checkpoint", read_distributed(folder, map_file)
        )
    deepspeed = _deepspeed(folder)
    if deepspeed is not None:
        return _open_deepspeed(folder, deepspeed, within)
    indices = sorted(folder.glob("*.index.json"))
    # Of both forms of one model the one that cannot hold code.
    chosen = [p for p in indices if ".safetensors" in p.name] or indices
    if not chosen:
        chosen = sorted(p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES and p.is_file())
    if len(chosen) == 1:
        return _open_file(chosen[0], within)
    if not chosen:
        ends = ", ".join(WEIGHT_SUFFIXES)
        raise CheckpointError(f"{folder}: holds no weights ({ends}); name the checkpoint.")
    names = ", ".join(p.name for p in chosen[:6]) + (", …" if len(chosen) > 6 else "")
    raise CheckpointError(f"{folder}: holds {len(chosen)} checkpoints ({names}); name one of them.")


def _deepspeed(folder: Path) -> Path | None:
    """The folder with a DeepSpeed model's states, or None."""
    places = [folder, folder / "checkpoint"]
    latest = folder / "latest"
    if latest.is_file() and latest.stat().st_size < 256:
        places.insert(0, folder / plain_name(latest.read_text(encoding="utf-8").strip()))
    for place in places:
        if place.is_dir() and any(place.glob("*mp_rank_*_model_states.pt")):
            return place
    return None


def _open_deepspeed(folder: Path, place: Path, within: str) -> Checkpoint:
    files = sorted(place.glob("mp_rank_*_model_states.pt"))
    if len(files) == 1:
        found = _open_file(files[0], within or "module")
        if not any(0 in entry.shape for entry in found.entries.values()):
            return Checkpoint(folder, "DeepSpeed", found.entries, found.within, found.settings)
    why = f"over {len(files)} ranks" if len(files) > 1 else "by ZeRO stage 3"
    raise CheckpointError(
        f"{folder}: its weights are split {why}; run DeepSpeed's zero_to_fp32.py on it and import "
        "the file that it writes."
    )
