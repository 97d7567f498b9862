"""Folders of torch.distributed.checkpoint: `.metadata` and what every rank wrote.

`.metadata` says for each tensor its size, its chunks and in which file and where each chunk lies;
a chunk is a tensor saved with `torch.save`. torch itself opens `.metadata` with plain pickle; here
it is only described.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.importing.archive import Entry, read_saved
from models.importing.pickles import (
    Buffer,
    CheckpointError,
    Made,
    Record,
    TensorRef,
    Window,
    describe,
    dtype_named,
    short,
)

METADATA = ".metadata"
_MODULE = "torch.distributed.checkpoint."
Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Chunk:
    """A box of a tensor, and the bytes it is stored in."""

    offset: Shape
    size: Shape
    file: str
    start: int
    length: int


def read_distributed(folder: Path, open_file: Callable[[Path], Buffer]) -> dict[str, Entry]:
    """{name: tensor} of a folder; what is no tensor in it is left alone.

    Raises CheckpointError, or ValueError and the like when it is damaged.
    """
    content = describe(Window(open_file(folder / METADATA), 0))
    fields = _fields(content, "Metadata")
    storage = {}
    for index, info in _pairs(fields.get("storage_data")):
        at = _fields(index, "MetadataIndex")
        storage[_key(at.get("fqn"), at.get("offset"))] = _fields(info, "_StorageInfo")
    found = {}
    for name, described in _pairs(fields.get("state_dict_metadata")):
        if _is(described, "TensorStorageMetadata"):
            if type(name) is not str:
                raise ValueError("a tensor without a name")
            found[name] = _entry(folder, name, described.attributes(), storage, open_file)
    if not found:
        raise CheckpointError("it holds no tensors")
    return found


def _entry(
    folder: Path,
    name: str,
    fields: dict[str, Any],
    storage: dict[tuple[str, Shape], dict[str, Any]],
    open_file: Callable[[Path], Buffer],
) -> Entry:
    shape, dtype = _shape(fields.get("size")), _dtype(fields.get("properties"))
    chunks = []
    for described in fields.get("chunks") or ():
        box = _fields(described, "ChunkStorageMetadata")
        offset, size = _shape(box.get("offsets")), _shape(box.get("sizes"))
        info = storage.get((name, offset))
        if info is None:
            raise CheckpointError(f"the part at {offset} of {short(name)} is in none of its files")
        chunks.append(_chunk(folder, offset, size, info))
    width = torch.empty(0, dtype=dtype).element_size()
    inside = all(
        len(c.offset) == len(c.size) == len(shape)
        and all(o + s <= n for o, s, n in zip(c.offset, c.size, shape, strict=True))
        and _numel(c.size) * width <= c.length
        for c in chunks
    )
    apart = len({(c.file, c.start) for c in chunks}) == len(chunks)
    if not inside or not apart or sum(_numel(c.size) for c in chunks) != _numel(shape):
        raise CheckpointError(f"the parts of {short(name)} do not make up its shape {shape}")
    return Entry(dtype, shape, lambda: _assemble(folder, name, shape, dtype, chunks, open_file))


def _chunk(folder: Path, offset: Shape, size: Shape, info: dict[str, Any]) -> _Chunk:
    file, start, length = (info.get(k) for k in ("relative_path", "offset", "length"))
    if info.get("transform_descriptors"):
        raise CheckpointError("its numbers are compressed; write it without transforms")
    if type(start) is not int or type(length) is not int or start < 0 or length < 0:
        raise ValueError("a part without a place")
    return _Chunk(offset, size, plain_name(file), start, length)


def _assemble(
    folder: Path,
    name: str,
    shape: Shape,
    dtype: torch.dtype,
    chunks: list[_Chunk],
    open_file: Callable[[Path], Buffer],
) -> Tensor:
    for chunk in chunks:
        if chunk.start + chunk.length > len(open_file(folder / chunk.file)):
            raise CheckpointError(f"'{chunk.file}' ends too early, so it was cut off")
    whole = torch.zeros(shape, dtype=dtype)
    filled = torch.zeros(shape, dtype=torch.bool)
    for chunk in chunks:
        buffer = open_file(folder / chunk.file)
        saved = read_saved(bytes(buffer[chunk.start : chunk.start + chunk.length]))
        part = saved.content
        if not isinstance(part, TensorRef) or part.size != chunk.size or part.dtype != dtype:
            raise CheckpointError(f"a part of {short(name)} is not what .metadata says")
        box = tuple(slice(o, o + s) for o, s in zip(chunk.offset, chunk.size, strict=True))
        if bool(filled[box].any()):
            raise CheckpointError(f"two parts of {short(name)} lie on each other")
        whole[box] = saved.entry(part).read()
        filled[box] = True
    return whole


def plain_name(name: Any) -> str:
    """The name of a file in the same folder. Raises CheckpointError for a path out of it."""
    text = name if isinstance(name, str) else ""
    if not text or text in (".", "..") or any(c in text for c in "/\\\0:") or len(text) > 255:
        raise CheckpointError(
            f"it names the file {short(str(name))}, which is not a file of its folder"
        )
    return text


def _is(value: Any, kind: str) -> bool:
    by = value.by if isinstance(value, Made) else None
    return by is not None and by.name == kind and by.module.startswith(_MODULE)


def _fields(value: Any, kind: str) -> dict[str, Any]:
    if not _is(value, kind):
        raise CheckpointError("its .metadata is not that of torch.distributed.checkpoint")
    fields: dict[str, Any] = value.attributes()
    return fields


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return value.pairs if isinstance(value, Record) else []


def _key(name: Any, offset: Any) -> tuple[str, Shape]:
    return (name if isinstance(name, str) else "", _shape(offset if offset is not None else ()))


def _shape(value: Any) -> Shape:
    # torch.Size is described as a tuple of whole numbers.
    if not isinstance(value, tuple) or any(type(n) is not int or n < 0 for n in value):
        raise ValueError("an impossible shape")
    return value


def _dtype(properties: Any) -> torch.dtype:
    state = properties.state if isinstance(properties, Made) else None
    found = dtype_named(state[0]) if isinstance(state, tuple) and state else None
    if found is None:
        raise CheckpointError("its .metadata does not say the type of its numbers")
    return found


def _numel(shape: Shape) -> int:
    n = 1
    for side in shape:
        n *= side
    return n
