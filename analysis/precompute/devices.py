"""The devices that an operator asks for, checked before anything is begun."""

from __future__ import annotations

import torch

from analysis.precompute.plan import CPU


class DeviceError(ValueError):
    """A device cannot be used; the message says which, where and the remedy."""


def devices_of(asked: str) -> tuple[str, ...]:
    """'cpu', 'cuda' (every one of this machine) or 'cuda:0,cuda:1' -> a name for each device.

    Raises DeviceError where torch knows no such device or this machine has none.
    """
    found: list[str] = []
    for name in (part.strip() for part in asked.split(",")):
        try:
            device = torch.device(name)
        except RuntimeError:
            raise DeviceError(
                f"--devices '{name[:40]}': torch knows no such device; write cpu, cuda, or some of "
                "them as cuda:0,cuda:1."
            ) from None
        if device.type == CPU:
            found.append(CPU)
            continue
        n = _number(device.type)
        if (device.index or 0) >= n:
            there = f"{n} of them, from {device.type}:0 on" if n else "none"
            raise DeviceError(
                f"--devices {name}: of what this machine's torch can use there is {there}; choose "
                "one that is there, or cpu."
            )
        indices = range(n) if device.index is None else [device.index]
        found += [f"{device.type}:{at}" for at in indices]
    return tuple(dict.fromkeys(found))


def _number(kind: str) -> int:
    """How many devices of a type torch can use here."""
    try:
        module = torch.get_device_module(kind)
    except RuntimeError:
        return 0
    return int(module.device_count()) if module.is_available() else 0
