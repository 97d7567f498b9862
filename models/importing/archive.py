"""Files of `torch.save`: the zip archive of today and the plain file of old, tensor by tensor.

Zip: ROOT/data.pkl beside ROOT/data/KEY, one raw block of numbers a storage, none of it compressed.
Plain: five pickles (a magic number, the version, facts of the machine, the object, the storages'
keys), then for each key its length and its numbers.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.importing.pickles import (
    Buffer,
    CheckpointError,
    Record,
    Storage,
    TensorRef,
    Window,
    describe,
    short,
)

ZIP_START = b"PK\x03\x04"
PICKLE_START = b"\x80"
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MOST_DIRECTORY = 16 << 20
_TAR_MARK = slice(257, 262)


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint, not yet read. read: gives it whole, contiguous, on the CPU."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def numel(self) -> int:
        """Numbers in it."""
        n = 1
        for side in self.shape:
            n *= side
        return n


@dataclass(frozen=True)
class Block:
    """Where a storage's bytes lie in the file, and their checksum where the file has one."""

    start: int
    length: int
    crc: int | None = None


@dataclass(frozen=True)
class Saved:
    """What one file of `torch.save` holds: the object as described, and its numbers."""

    content: Any
    buffer: Buffer
    blocks: Mapping[str, Block]
    form: str

    def entry(self, tensor: TensorRef) -> Entry:
        """The tensor behind a description. Raises CheckpointError when it reaches outside."""
        block = self.blocks.get(tensor.storage.key)
        if block is None:
            raise CheckpointError(f"the numbers {short(tensor.storage.key)} are not in it")
        width = _width(tensor.dtype)
        pairs = list(zip(tensor.size, tensor.stride, strict=True))
        empty = any(size == 0 for size in tensor.size)
        last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
        end = 0 if empty else (last + 1) * width
        numel = 1
        for size in tensor.size:
            numel *= size
        stored = tensor.storage.numel * _width(tensor.storage.dtype)
        if end > stored or stored > block.length or numel * width > stored:
            raise CheckpointError("a tensor reaches beyond its numbers")
        return Entry(tensor.dtype, tensor.size, lambda: self._read(tensor, block, end))

    def _read(self, tensor: TensorRef, block: Block, end: int) -> Tensor:
        if block.crc is not None:
            _check_sum(self.buffer, block)
        if end == 0:
            return torch.empty(tensor.size, dtype=tensor.dtype)
        start = tensor.offset * _width(tensor.dtype)
        raw = bytearray(self.buffer[block.start + start : block.start + end])
        flat = torch.frombuffer(raw, dtype=tensor.dtype)
        return flat.as_strided(tensor.size, tensor.stride).contiguous()


def _width(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


def _check_sum(buffer: Buffer, block: Block) -> None:
    found = 0
    for start in range(block.start, block.start + block.length, 1 << 20):
        stop = min(start + (1 << 20), block.start + block.length)
        found = zlib.crc32(buffer[start:stop], found)
    if found != block.crc:
        raise CheckpointError("its numbers do not have the checksum in it, so it is damaged")


def read_saved(buffer: Buffer) -> Saved:
    """What a file of `torch.save` holds, of either form.

    Raises CheckpointError, or ValueError and the like when it is damaged.
    """
    start = bytes(buffer[:4])
    if start == ZIP_START:
        return _read_zip(buffer)
    if start[:1] == PICKLE_START:
        return _read_plain(buffer)
    if bytes(buffer[_TAR_MARK]) == b"ustar":
        raise CheckpointError(
            "it is a tar archive, which torch wrote before 2018; load and save it with torch 1"
        )
    raise CheckpointError("it is neither a file of torch.save nor a safetensors file")


# ---------------------------------------------------------------- zip


def _read_zip(buffer: Buffer) -> Saved:
    _check_directory(buffer)
    # zipfile wants a file; a map of a file is one already.
    stream: Any = buffer if isinstance(buffer, mmap.mmap) else io.BytesIO(buffer)
    with zipfile.ZipFile(stream) as archive:
        listed = archive.infolist()
    heads = [info for info in listed if info.filename.split("/")[1:] == ["data.pkl"]]
    if len(heads) != 1:
        raise CheckpointError("it is a zip archive without the weights that torch.save puts there")
    root = heads[0].filename.partition("/")[0]
    names = {info.filename for info in listed}
    if f"{root}/constants.pkl" in names or any(n.startswith(f"{root}/code/") for n in names):
        raise CheckpointError("it is a TorchScript archive, which is code; save the state dict")
    if len(names) != len(listed):
        raise CheckpointError("two parts of its archive have one name")
    if sum(info.file_size for info in listed) > len(buffer):
        raise CheckpointError("its parts are larger than the archive")
    blocks = {}
    for info in listed:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise CheckpointError("a part of its archive is compressed, as weights never are")
        blocks[info.filename] = _block(buffer, info)
    order = blocks.get(f"{root}/byteorder")
    if order is not None and bytes(buffer[order.start : order.start + order.length]) != b"little":
        raise CheckpointError("it was saved on a big-endian machine; save it again on another")
    head = blocks[heads[0].filename]
    _check_sum(buffer, head)
    content = describe(Window(buffer, head.start, head.start + head.length))
    inside = f"{root}/data/"
    numbers = {n.removeprefix(inside): b for n, b in blocks.items() if n.startswith(inside)}
    return Saved(content, buffer, numbers, "zip")


def _check_directory(buffer: Buffer) -> None:
    """Refuse a list of parts so long that reading it would fill the memory."""
    at = buffer.rfind(b"PK\x05\x06", max(0, len(buffer) - 65_557))
    if at < 0 or at + 22 > len(buffer):
        raise CheckpointError("its end is missing, so it was cut off")
    (size,) = struct.unpack("<L", bytes(buffer[at + 12 : at + 16]))
    wide = at - 20 - 56
    if wide >= 0 and bytes(buffer[wide : wide + 4]) == b"PK\x06\x06":
        (size,) = struct.unpack("<Q", bytes(buffer[wide + 40 : wide + 48]))
    if size > _MOST_DIRECTORY:
        raise CheckpointError("its archive lists too many parts")


def _block(buffer: Buffer, info: zipfile.ZipInfo) -> Block:
    head = bytes(buffer[info.header_offset : info.header_offset + 30])
    if head[:4] != ZIP_START:
        raise CheckpointError("a part of its archive is not where the archive says")
    name, extra = struct.unpack("<HH", head[26:30])
    start = info.header_offset + 30 + name + extra
    if start + info.file_size > len(buffer):
        raise CheckpointError("a part of its archive reaches beyond its end")
    return Block(start, info.file_size, info.CRC)


# ---------------------------------------------------------------- plain


def _read_plain(buffer: Buffer) -> Saved:
    stream = Window(buffer, 0)
    if describe(stream) != _MAGIC:
        raise CheckpointError("it is a pickle, but none of torch.save")
    stream = Window(buffer, stream.at)
    if describe(stream) != _VERSION:
        raise CheckpointError("it is of a version of torch.save that is not known")
    stream = Window(buffer, stream.at)
    facts = describe(stream)
    if isinstance(facts, Record) and facts.named().get("little_endian") is False:
        raise CheckpointError("it was saved on a big-endian machine; save it again on another")
    stream = Window(buffer, stream.at)
    seen: dict[str, Storage] = {}
    content = describe(stream, seen)
    stream = Window(buffer, stream.at)
    keys = describe(stream)
    if not isinstance(keys, list):
        raise CheckpointError("its list of storages is missing")
    blocks: dict[str, Block] = {}
    at = stream.at
    for key in keys:
        storage = seen.get(str(key)) if type(key) in (str, int) else None
        if storage is None or storage.key in blocks:
            raise CheckpointError("its list of storages does not belong to its tensors")
        (numel,) = struct.unpack("<q", bytes(buffer[at : at + 8]))
        length = storage.numel * _width(storage.dtype)
        if numel != storage.numel or at + 8 + length > len(buffer):
            raise CheckpointError("its numbers are not all there, so it was cut off")
        blocks[storage.key] = Block(at + 8, length)
        at += 8 + length
    return Saved(content, buffer, blocks, "plain")
