"""The ECG that an ultrasound file may carry beside its frames.

Two ways are in use: a waveform (DICOM PS3.3 C.10.9), and the curve that it replaced in 2004
(groups 50xx of type ECG, PS3.3-2004 C.10.2), which older machines write. A trace that is only
painted into the picture is no signal and is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

_NAMES = ("ecg", "ekg", "electrocardiogra", "lead")
_MS = {"MSEC": 1.0, "MS": 1.0, "SEC": 1000.0, "S": 1000.0}
# Data Value Representation of a curve.
_TYPES = {0: "<u2", 1: "<i2", 2: "<f4", 3: "<f8", 4: "<i4"}
_MOST_AXES = 16
_INTERVAL = 0  # Curve Data Descriptor: the axis is told by start and step, not by values


@dataclass(frozen=True, eq=False)
class CineECG:
    """An ECG along a loop. values: (N,) float32. Sample k was taken start_ms + k step_ms after
    the first frame. unit: of the values, '' where the file does not say.
    """

    values: npt.NDArray[np.float32]
    start_ms: float
    step_ms: float
    unit: str = ""


def cine_ecg(header: pydicom.Dataset) -> CineECG | None:
    """The first ECG of an ultrasound file's header; None where it carries none, or no time axis."""
    for found in (*_waveforms(header), *_curves(header)):
        sound = len(found.values) > 1 and np.isfinite(found.values).all() and found.step_ms > 0
        if sound and np.isfinite(found.start_ms):
            return found
    return None


def _waveforms(header: pydicom.Dataset) -> Iterator[CineECG]:
    for at, group in enumerate(header.get("WaveformSequence") or ()):
        rate = float(group.get("SamplingFrequency") or 0)
        if not rate > 0:
            continue
        for channel, about in enumerate(group.get("ChannelDefinitionSequence") or ()):
            if not any(name in _named(about, "ChannelSourceSequence").lower() for name in _NAMES):
                continue
            try:
                values = header.waveform_array(at)[:, channel]
            except (ValueError, KeyError, AttributeError, NotImplementedError):
                continue  # damaged or coded in a way that is not read: the loop is still a loop
            start = float(group.get("MultiplexGroupTimeOffset") or 0)
            unit = _named(about, "ChannelSensitivityUnitsSequence", "CodeValue")
            yield CineECG(np.asarray(values, np.float32), start, 1000 / rate, unit)


def _named(about: pydicom.Dataset, sequence: str, name: str = "CodeMeaning") -> str:
    codes = about.get(sequence) or ()
    label = str(about.get("ChannelLabel") or "") if name == "CodeMeaning" else ""
    return " ".join(filter(None, [label, *(str(code.get(name) or "") for code in codes)]))


def _curves(header: pydicom.Dataset) -> Iterator[CineECG]:
    for group in range(0x5000, 0x5020, 2):
        if str(_told(header, group, 0x0020, "")).strip().upper() != "ECG":
            continue
        scale = _MS.get(str(_listed(_told(header, group, 0x0030, ""))[0]).strip().upper())
        data, kind = _told(header, group, 0x3000), _told(header, group, 0x0103)
        if scale is None or not isinstance(data, bytes) or kind not in _TYPES:
            continue
        given = _listed(
            _told(header, group, 0x0110, [1] * min(int(_told(header, group, 5, 1)), _MOST_AXES))
        )
        columns = max(1, len(given) - given.count(_INTERVAL))
        size = np.dtype(_TYPES[kind]).itemsize * columns
        rows = np.frombuffer(data[: len(data) // size * size], _TYPES[kind]).reshape(-1, columns)
        step = _listed(_told(header, group, 0x0114, 0))[0]
        if given[0] == _INTERVAL and step:
            start = float(_listed(_told(header, group, 0x0112, 0))[0])
            yield CineECG(rows[:, -1].astype(np.float32), start * scale, float(step) * scale)
        elif columns == 2 and len(rows) > 1 and (np.diff(rows[:, 0].astype(float)) > 0).all():
            times = rows[:, 0].astype(np.float64) * scale
            # A strip has one step; points at uneven times are drawn at even ones.
            even = np.linspace(times[0], times[-1], len(times))
            values = np.interp(even, times, rows[:, 1]).astype(np.float32)
            yield CineECG(values, float(times[0]), float(even[1] - even[0]))


def _told(header: pydicom.Dataset, group: int, element: int, without: Any = None) -> Any:
    entry = header.get((group, element))
    return without if entry is None or entry.value is None else entry.value


def _listed(value: Any) -> list[Any]:
    """The values of an element that may have one or several."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value) or [""]
