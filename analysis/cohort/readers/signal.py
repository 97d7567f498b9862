"""The 12-lead ECG in millivolts: as it was recorded, and as a model reads it.

Leads are addressed by name, because files differ in their order (MIMIC-IV-ECG has aVF before
aVL). A lead that was not recorded is absent or NaN, never zero. Einthoven's and Goldberger's
equations tie the six limb leads together, so those a file leaves out follow from I and II.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, resample_poly, sosfiltfilt

from analysis.cohort.readers.leads import LEADS, lead_name
from analysis.cohort.readers.signal_files import Recording, read_recording
from analysis.cohort.schema import CohortError

__all__ = [
    "LEADS",
    "Signal",
    "SignalInfo",
    "flat_leads",
    "for_model",
    "lead_name",
    "probe_signal",
    "read_signal",
    "with_derived",
]

FLAT_MV = 1e-4
"""A lead that moves less than this all along (0.1 uV, below any converter's step) is not on."""

# I = L - R and II = F - R give the rest: III = II - I, aVR = -(I + II) / 2, ...
_LIMB = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
_MARGIN_S = 5.0

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SignalInfo:
    """What the header of a recording says. leads: those of the twelve that the file holds."""

    leads: tuple[str, ...]
    rate_hz: float
    seconds: float
    start: datetime | None


@dataclass(frozen=True)
class Signal:
    """A recording as it was made: no filter, no resampling.

    leads: names out of LEADS, in that order. array: (L, N) float32 mV, NaN where nothing was
    recorded. start: local time of sample 0, None where the file does not say. source_names: what
    the file calls each lead, "" for a derived one. derived: limb leads that the file lacks and
    that were computed from I and II (exactly, the equations are identities of the electrodes).
    left_out: channels of the file that are none of the twelve leads (e.g. Frank's).
    """

    leads: tuple[str, ...]
    array: Floats
    rate_hz: float
    start: datetime | None
    source_names: tuple[str, ...]
    derived: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration of the recording."""
        return float(self.array.shape[1] / self.rate_hz)

    def lead(self, name: str) -> Floats:
        """(N,) mV of one lead, all NaN where the recording has no such lead."""
        if name in self.leads:
            return np.asarray(self.array[self.leads.index(name)])
        return np.full(self.array.shape[1], np.nan, np.float32)


def probe_signal(path: Path) -> SignalInfo:
    """Read the header only. Raises CohortError as `read_signal` does, save for damaged samples."""
    found = read_recording(path, samples=False)
    return SignalInfo(
        tuple(_rows(path, found)), found.rate_hz, found.samples / found.rate_hz, found.start
    )


def read_signal(path: Path) -> Signal:
    """Read a WFDB record, named by its header (.hea), or a DICOM waveform, in mV.

    Of a DICOM file with several waveform groups the one with most leads counts, then the longest
    (the rhythm, not the median beat). Raises CohortError, one sentence, when the file is missing
    or truncated, holds none of the twelve leads or one twice, or states a unit that is no voltage.
    """
    found = read_recording(path)
    rows = _rows(path, found)
    assert found.array is not None
    if found.array.shape[1] == 0:
        raise CohortError(f"{path}: holds no samples; copy the recording again.")
    array = found.array[list(rows.values())].astype(np.float32)
    array[~np.isfinite(array)] = np.nan
    pairs = zip(found.leads, found.names, strict=True)
    return _derived(
        Signal(
            leads=tuple(rows),
            array=array,
            rate_hz=found.rate_hz,
            start=found.start,
            source_names=tuple(found.names[row] for row in rows.values()),
            left_out=tuple(name for lead, name in pairs if lead is None),
        )
    )


def for_model(
    signal: Signal,
    leads: Sequence[str],
    rate_hz: float,
    seconds: float,
    band_hz: tuple[float, float] | None,
) -> tuple[Floats, Bools]:
    """The first `seconds` of a recording as a model reads it: (L, T) float32 mV, (L, T) bool.

    Resampled to `rate_hz` (polyphase) and band-passed to `band_hz` forwards and backwards with a
    Butterworth filter of order 5, so that no wave is shifted: the preprocessing of ST-MEM (Na et
    al., ICLR 2024). None filters nothing. Gaps are bridged linearly for the filter, then masked.
    The mask is false, and the number 0, in gaps, past the end of a short recording, and on leads
    that the recording lacks or that are flat (an electrode that was off).

    Raises ValueError on an unknown lead or a band that `rate_hz` cannot carry.
    """
    unknown = [name for name in leads if name not in LEADS]
    if unknown:
        raise ValueError(f"there is no lead '{unknown[0]}'; choose from {', '.join(LEADS)}.")
    if band_hz is not None and not 0 < band_hz[0] < band_hz[1] < rate_hz / 2:
        raise ValueError(
            f"the band {band_hz} Hz does not fit {rate_hz:g} Hz; keep it between 0 and half of it."
        )
    width = round(seconds * rate_hz)
    out = np.zeros((len(leads), width), np.float32)
    mask = np.zeros((len(leads), width), bool)
    enough = ceil((seconds + _MARGIN_S) * signal.rate_hz)
    source = np.stack([signal.lead(name)[:enough] for name in leads]).astype(np.float64)
    finite = np.isfinite(source)
    window = ceil(seconds * signal.rate_hz)
    on = _alive(source[:, :window], finite[:, :window])
    if not on.any():
        return out, mask
    clean = np.stack(
        [_bridged(row, there) for row, there in zip(source[on], finite[on], strict=True)]
    )
    ratio = Fraction(rate_hz / signal.rate_hz).limit_denominator(1000)
    if ratio != 1:
        clean = resample_poly(clean, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    # Shorter than the filter's own run-in there is nothing that it could give.
    if band_hz is not None:
        sections = butter(5, band_hz, "bandpass", fs=rate_hz, output="sos")
        run_in = 3 * (2 * len(sections) + 1)
        if clean.shape[1] <= run_in:
            return out, mask
        clean = sosfiltfilt(sections, clean, axis=1)
    length = min(width, clean.shape[1])
    mask[on, :length] = _recorded(finite[on], signal.rate_hz / rate_hz, length)
    out[on, :length] = clean[:, :length]
    out[~mask] = 0
    return out, mask


def with_derived(leads: Sequence[str]) -> tuple[str, ...]:
    """The leads, in order, and those that follow from them (see `Signal.derived`)."""
    follow = _LIMB if {"I", "II"} <= set(leads) else ()
    return tuple(lead for lead in LEADS if lead in leads or lead in follow)


def flat_leads(signal: Signal) -> tuple[str, ...]:
    """Leads that the recording has but that never move: the electrode was off."""
    finite = np.isfinite(signal.array)
    on = _alive(signal.array, finite)
    there = [bool(row.any()) for row in finite]
    return tuple(
        name for name, has, moves in zip(signal.leads, there, on, strict=True) if has and not moves
    )


def _rows(path: Path, found: Recording) -> dict[str, int]:
    """Row of each of the twelve leads that the file holds, in their order."""
    rows: dict[str, int] = {}
    for row, (lead, name) in enumerate(zip(found.leads, found.names, strict=True)):
        if lead in rows:
            raise CohortError(
                f"{path}: lead {lead} is there twice ('{found.names[rows[lead]]}' and '{name}'); "
                "keep one of them."
            )
        if lead is not None:
            rows[lead] = row
    if not rows:
        names = ", ".join(name[:40] for name in found.names[:6]) or "no channel"
        raise CohortError(
            f"{path}: holds none of the twelve leads (it has {names}); name its channels I to V6."
        )
    return {lead: rows[lead] for lead in LEADS if lead in rows}


def _derived(signal: Signal) -> Signal:
    recorded = [bool(np.isfinite(row).any()) for row in signal.array]
    have = {name for name, there in zip(signal.leads, recorded, strict=True) if there}
    missing = tuple(name for name in _LIMB if name not in have)
    if not missing or not {"I", "II"} <= have:
        return signal
    first, second = signal.lead("I"), signal.lead("II")
    names = dict(zip(signal.leads, signal.source_names, strict=True))
    rows = dict(zip(signal.leads, signal.array, strict=True))
    for name in missing:
        a, b = _LIMB[name]
        rows[name] = np.float32(a) * first + np.float32(b) * second
        names[name] = ""
    leads = tuple(lead for lead in LEADS if lead in rows)
    return Signal(
        leads,
        np.stack([rows[lead] for lead in leads]),
        signal.rate_hz,
        signal.start,
        tuple(names[lead] for lead in leads),
        missing,
        signal.left_out,
    )


def _alive(array: npt.NDArray[Any], finite: Bools) -> Bools:
    """(L,) whether a lead moves at all."""
    high = np.where(finite, array, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(finite, array, np.inf).min(axis=1, initial=np.inf)
    return np.asarray(high - low > FLAT_MV)


def _bridged(row: npt.NDArray[np.float64], there: Bools) -> npt.NDArray[np.float64]:
    if there.all():
        return row
    at = np.arange(len(row))
    return np.interp(at, at[there], row[there])


def _recorded(finite: Bools, step: float, length: int) -> Bools:
    """(L, length): whether every recorded sample that a resampled one rests on is there.

    step: old samples a new one.
    """
    at = np.arange(length) * step
    low = np.minimum(np.ceil(at - step / 2), np.floor(at)).astype(int)
    high = np.maximum(np.floor(at + step / 2), np.ceil(at)).astype(int)
    last = finite.shape[1] - 1
    missing = np.pad(np.cumsum(~finite, axis=1), ((0, 0), (1, 0)))
    inside = np.clip(high, 0, last) + 1
    return np.asarray(missing[:, inside] == missing[:, np.clip(low, 0, last)])
