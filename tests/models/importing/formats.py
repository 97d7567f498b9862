"""One state dict, written in every form that training runs leave behind."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

State = dict[str, Tensor]


def lightning(state: State, hyper_parameters: object, prefix: str = "model.") -> dict:
    """The content of a Lightning checkpoint with an optimiser's state."""
    weights = OrderedDict((prefix + name, tensor) for name, tensor in state.items())
    first = next(iter(state.values())).float()
    return {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": weights,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": first.clone()}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters,
    }


@contextmanager
def omegaconf() -> Iterator[type]:
    """Stand-ins for OmegaConf's containers, which exist only while the file is written."""
    module = types.ModuleType("omegaconf.dictconfig")

    class DictConfig:
        def __init__(self, content: dict) -> None:
            self._content = {k: AnyNode(v) for k, v in content.items()}

    class AnyNode:
        def __init__(self, value: object) -> None:
            self._val = value

    for cls in (DictConfig, AnyNode):
        cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
        setattr(module, cls.__name__, cls)
    names = {"omegaconf": types.ModuleType("omegaconf"), module.__name__: module}
    with mock.patch.dict(sys.modules, names):
        yield DictConfig


def _save(content: object, folder: Path, name: str = "weights.pt", **options: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / name, **options)
    return folder / name


def _lightning_omegaconf(state: State, folder: Path) -> Path:
    with omegaconf() as config:
        return _save(lightning(state, config({"width": 12, "lr": 0.1})), folder, "best.ckpt")


def _cuda(state: State, folder: Path) -> Path:
    with mock.patch("torch.serialization.location_tag", return_value="cuda:3"):
        return _save(state, folder)


def _safetensors(state: State, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


def _halves(state: State) -> list[State]:
    names = list(state)
    cut = len(names) // 2
    return [{n: state[n] for n in part} for part in (names[:cut], names[cut:])]


def _shards(state: State, folder: Path, stem: str, end: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    places = {}
    for i, part in enumerate(_halves(state), 1):
        name = f"{stem}-{i:05d}-of-00002.{end}"
        (save_file if end == "safetensors" else torch.save)(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index))
    return folder


def _distributed(state: State, folder: Path) -> Path:
    dcp.save({"model": state, "step": 5}, checkpoint_id=folder, no_dist=True)
    return folder


def write_chunks(state: State, folder: Path) -> Path:
    """A folder in which two ranks hold the halves of every tensor that can be halved."""
    folder.mkdir(parents=True)
    described, storage = {}, {}
    files = [(folder / f"__{rank}_0.distcp").open("wb") for rank in (0, 1)]
    for name, tensor in state.items():
        parts = torch.tensor_split(tensor, 2) if tensor.dim() and len(tensor) > 1 else (tensor,)
        chunks, at = [], 0
        for rank, part in enumerate(parts):
            offset = torch.Size([at, *[0] * (part.dim() - 1)] if part.dim() else [])
            start = files[rank].tell()
            torch.save(part.clone(), files[rank])
            length = files[rank].tell() - start
            storage[MetadataIndex(name, offset)] = _StorageInfo(f"__{rank}_0.distcp", start, length)
            chunks.append(ChunkStorageMetadata(offset, part.shape))
            at += len(part) if part.dim() else 0
        properties = TensorProperties(dtype=tensor.dtype)
        described[name] = TensorStorageMetadata(properties, tensor.shape, chunks)
    for file in files:
        file.close()
    metadata = Metadata(state_dict_metadata=described, storage_data=storage)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def _deepspeed(state: State, folder: Path) -> Path:
    inner = folder / "global_step40"
    _save({"module": state, "dp_world_size": 2}, inner, "mp_rank_00_model_states.pt")
    _save({"optimizer_state_dict": {}}, inner, "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (folder / "latest").write_text("global_step40")
    return folder


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def _fsdp(state: State) -> State:
    """Wrapped inside, too."""
    return {
        "_fsdp_wrapped_module." + name.replace(".", "._fsdp_wrapped_module.", 1): tensor
        for name, tensor in state.items()
    }


FORMATS: dict[str, Callable[[State, Path], Path]] = {
    "zip": lambda s, f: _save(s, f),
    "pth": lambda s, f: _save(OrderedDict(s), f, "weights.pth"),
    "legacy": lambda s, f: _save(s, f, _use_new_zipfile_serialization=False),
    "protocol 4": lambda s, f: _save(s, f, pickle_protocol=4),
    "parameters": lambda s, f: _save(
        {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in s.items()}, f
    ),
    "module": lambda s, f: _save(_prefixed(s, "module."), f),
    "compiled": lambda s, f: _save(_prefixed(s, "_orig_mod."), f),
    "compiled in ddp": lambda s, f: _save(_prefixed(s, "module._orig_mod."), f),
    "fsdp": lambda s, f: _save(_fsdp(s), f),
    "model": lambda s, f: _save({"epoch": 1, "model": s, "optimizer": {}}, f),
    "state_dict": lambda s, f: _save({"state_dict": s, "args": {"lr": 1.0}}, f),
    "model_state_dict": lambda s, f: _save({"model_state_dict": s}, f),
    "encoder": lambda s, f: _save({"encoder": s}, f),
    "nested": lambda s, f: _save({"model": {"state_dict": s}}, f),
    "cuda": _cuda,
    "lightning": lambda s, f: _save(lightning(s, {"width": 12, "lr": 0.1}), f, "best.ckpt"),
    "lightning, namespace": lambda s, f: _save(
        lightning(s, argparse.Namespace(width=12, lr=0.1), "net."), f, "best.ckpt"
    ),
    "lightning, omegaconf": _lightning_omegaconf,
    "lightning, function": lambda s, f: _save(
        lightning(s, {"width": 12, "act": torch.nn.functional.relu}), f, "best.ckpt"
    ),
    "lightning, legacy": lambda s, f: _save(
        lightning(s, argparse.Namespace(width=12)), f, _use_new_zipfile_serialization=False
    ),
    "safetensors": _safetensors,
    "safetensors shards": lambda s, f: _shards(s, f, "model", "safetensors"),
    "bin shards": lambda s, f: _shards(s, f, "pytorch_model", "bin"),
    "folder of one": lambda s, f: _save(s, f / "epoch=3-val", "m=0.8.ckpt").parent,
    "distributed": _distributed,
    "distributed, two ranks": write_chunks,
    "deepspeed": _deepspeed,
}
