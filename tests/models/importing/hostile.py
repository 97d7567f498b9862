"""Files that nobody honest writes; CANARY is what they would leave behind if they were believed."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.models.importing.formats import FORMATS, lightning, write_chunks

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)}


class Command:
    """Runs a command as soon as it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


class Evaluated(Command):
    def __reduce__(self):
        return eval, (f"open({str(self.canary)!r}, 'w')",)


class Opened(Command):
    def __reduce__(self):
        return open, (str(self.canary), "w")


class Popen(Command):
    def __reduce__(self):
        import subprocess

        return subprocess.Popen, (["touch", str(self.canary)],)


def saved(content: object, folder: Path, name: str = "a.pt", **options) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def _old(content: object, folder: Path) -> Path:
    return saved(content, folder, _use_new_zipfile_serialization=False)


def _header(folder: Path, bomb: Command, place: int) -> Path:
    """The old form with a command in one of its five pickles."""
    parts: list[object] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    parts[place] = bomb
    path = folder / "a.pt"
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    return path


def _text_pickle(folder: Path, bomb: Command) -> Path:
    """INST, the way of the oldest pickles, behind a proper magic number."""
    del bomb
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    path = folder / "a.pt"
    path.write_bytes(magic + b"(S'true'\nios\nsystem\n.")
    return path


def _metadata(folder: Path, bomb: Command) -> Path:
    place = write_chunks(STATE, folder / "dcp")
    (place / ".metadata").write_bytes(pickle.dumps(bomb))
    return place


def _metadata_inside(folder: Path, bomb: Command) -> Path:
    place = write_chunks(STATE, folder / "dcp")
    metadata = pickle.loads((place / ".metadata").read_bytes())
    metadata.planner_data = {"x": bomb}
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    return place


def _chunk(folder: Path, bomb: Command) -> Path:
    place = write_chunks(STATE, folder / "dcp")
    size = (place / "__0_0.distcp").stat().st_size
    torch.save(bomb, place / "__0_0.distcp")
    with (place / "__0_0.distcp").open("ab") as stream:
        stream.write(b"\0" * size)
    return place


def _shard(folder: Path, bomb: Command) -> Path:
    place = FORMATS["bin shards"](STATE, folder / "s")
    torch.save(bomb, place / "pytorch_model-00002-of-00002.bin")
    return place


COMMANDS: dict[str, Callable[[Path, Command], Path]] = {
    "zip": lambda f, b: saved(b, f),
    "zip, beside weights": lambda f, b: saved({**STATE, "x": b}, f),
    "zip, as a key": lambda f, b: saved({**STATE, (1, b): 2}, f),
    "zip, protocol 4": lambda f, b: saved({**STATE, "x": b}, f, pickle_protocol=4),
    "nested": lambda f, b: saved({"model": {"state_dict": {**STATE, "x": [[b]]}}}, f),
    "legacy": lambda f, b: _old({**STATE, "x": b}, f),
    **{f"legacy, pickle {i}": lambda f, b, i=i: _header(f, b, i) for i in range(5)},
    "oldest pickle": _text_pickle,
    "hyperparameters": lambda f, b: saved(lightning(STATE, {"lr": b}), f, "a.ckpt"),
    "namespace": lambda f, b: saved(lightning(STATE, argparse.Namespace(a=b)), f, "a.ckpt"),
    "optimiser": lambda f, b: saved({"model": STATE, "optimizer": {"state": [b]}}, f),
    "metadata": _metadata,
    "metadata, inside": _metadata_inside,
    "chunk": _chunk,
    "shard": _shard,
    "plain pickle": lambda f, b: _write(f / "a.pt", pickle.dumps({**STATE, "x": b})),
    "named safetensors": lambda f, b: _write(f / "a.safetensors", pickle.dumps(b)),
}


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- bombs and lies


def zip_of(folder: Path, parts: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "a.pt", "w", how) as archive:
        for name, content in parts.items():
            archive.writestr(f"a/{name}", content)
    return folder / "a.pt"


def _pickled(numel: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """data.pkl of one tensor with any shape over a storage of any length, written by hand."""
    numbers = lambda n: b"\x8a" + bytes([9]) + n.to_bytes(9, "little", signed=True)  # noqa: E731
    text = lambda t: b"X" + struct.pack("<I", len(t)) + t  # noqa: E731
    group = lambda ns: b"(" + b"".join(numbers(n) for n in ns) + b"t"  # noqa: E731
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu")
    storage += numbers(numel) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers(0) + group(size)
    tensor += group(stride) + b"\x89}tR"
    return b"\x80\x02}" + text(b"weight") + tensor + b"s."


def _header_only(folder: Path, length: int, header: bytes) -> Path:
    return _write(folder / "a.safetensors", struct.pack("<Q", length) + header)


def _claims(folder: Path, entry: object) -> Path:
    header = json.dumps({"weight": entry}).encode()
    return _header_only(folder, len(header), header + b"\0" * 24)


def _index(folder: Path, name: object) -> Path:
    save_file(STATE, folder.parent / "outside.safetensors")
    place = folder / "s"
    place.mkdir()
    index = {"weight_map": {"weight": name, "bias": name}}
    return _write(place / "model.safetensors.index.json", json.dumps(index).encode())


def _many_parts(folder: Path) -> Path:
    """A list of 400,000 parts that are all the same empty one."""
    one = io.BytesIO()
    with zipfile.ZipFile(one, "w") as archive:
        archive.writestr("a/data.pkl", b"")
    raw = one.getvalue()
    at = raw.index(b"PK\x01\x02")
    end = raw.index(b"PK\x05\x06")
    entry = raw[at:end]
    return _write(
        folder / "a.pt",
        raw[:at]
        + entry * 400_000
        + b"PK\x05\x06"
        + struct.pack("<HHHHLLH", 0, 0, 0xFFFF, 0xFFFF, len(entry) * 400_000, at, 0),
    )


def unfolding(folder: Path) -> Path:
    """Honest weights beside hyperparameters that unfold into 2 to the power of 60 lists."""
    inner: object = 1
    for _ in range(60):
        inner = [inner, inner]
    return saved(lightning(STATE, {"x": inner, "lr": 0.1}), folder, "a.ckpt")


def _chunks_lie(folder: Path) -> Path:
    place = write_chunks(STATE, folder / "dcp")
    metadata = pickle.loads((place / ".metadata").read_bytes())
    metadata.state_dict_metadata["weight"].size = torch.Size([1 << 40, 3])
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    return place


def _chunk_outside(folder: Path) -> Path:
    place = write_chunks(STATE, folder / "dcp")
    metadata = pickle.loads((place / ".metadata").read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = "../../../etc/passwd"
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    return place


_BIG = 1 << 40
LIES: dict[str, Callable[[Path], Path]] = {
    "compressed zeros": lambda f: zip_of(
        f, {"data.pkl": pickle.dumps({}, 2), "data/0": b"\0" * (64 << 20)}, zipfile.ZIP_DEFLATED
    ),
    "compressed pickle": lambda f: zip_of(
        f, {"data.pkl": b"\x80\x02" + b"]" * (32 << 20) + b"."}, zipfile.ZIP_DEFLATED
    ),
    "a pickle of lists": lambda f: zip_of(f, {"data.pkl": b"\x80\x02" + b"]" * (16 << 20) + b"."}),
    "many parts": _many_parts,
    "a storage that is not there": lambda f: zip_of(
        f, {"data.pkl": _pickled(_BIG, (_BIG,), (1,)), "data/0": b"\0" * 24}
    ),
    "a shape beyond its storage": lambda f: zip_of(
        f, {"data.pkl": _pickled(6, (_BIG,), (1,)), "data/0": b"\0" * 24}
    ),
    "one number a trillion times": lambda f: zip_of(
        f, {"data.pkl": _pickled(6, (_BIG, 2), (0, 0)), "data/0": b"\0" * 24}
    ),
    "a negative stride": lambda f: zip_of(
        f, {"data.pkl": _pickled(6, (2, 3), (-3, 1)), "data/0": b"\0" * 24}
    ),
    "a memo without end": lambda f: zip_of(f, {"data.pkl": b"\x80\x02}r\xff\xff\xff\xff."}),
    "a text without end": lambda f: zip_of(f, {"data.pkl": b"\x80\x02X\xff\xff\xff\xffab."}),
    "header of a trillion": lambda f: _header_only(f, _BIG, b"{}"),
    "header of 100 MB": lambda f: _header_only(f, 100_000_000, b"{" + b" " * 100_000_000),
    "header in brackets": lambda f: _header_only(f, 1 << 20, b"{" + b"[" * (1 << 20)),
    "header not JSON": lambda f: _header_only(f, 10, b"{not json}"),
    "offsets outside": lambda f: _claims(
        f, {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 1 << 30]}
    ),
    "shape and offsets differ": lambda f: _claims(
        f, {"dtype": "F32", "shape": [_BIG, 3], "data_offsets": [0, 24]}
    ),
    "unknown type": lambda f: _claims(
        f, {"dtype": "F8_E4M3", "shape": [24], "data_offsets": [0, 24]}
    ),
    "index to a path": lambda f: _index(f, "../outside.safetensors"),
    "index to the root": lambda f: _index(f, "/etc/passwd"),
    "index to another system": lambda f: _index(f, "..\\outside.safetensors"),
    "index to itself": lambda f: _index(f, "model.safetensors.index.json"),
    "index to nothing": lambda f: _index(f, None),
    "index to a zero": lambda f: _index(f, "a\0.safetensors"),
    "metadata of a trillion": _chunks_lie,
    "metadata to a path": _chunk_outside,
    "nothing": lambda f: _write(f / "a.pt", b""),
    "noise": lambda f: _write(f / "a.pt", bytes(range(256)) * 40),
    "text": lambda f: _write(f / "a.pt", b"hello"),
    "not weights": lambda f: saved({"a": 1, "b": "text"}, f),
    "tar": lambda f: _write(f / "a.pt", b"\0" * 257 + b"ustar" + b"\0" * 600),
}
