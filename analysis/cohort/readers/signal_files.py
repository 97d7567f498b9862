"""ECG files and what they hold, channel by channel: WFDB records and DICOM waveforms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from analysis.cohort.readers.bounds import read_dicom
from analysis.cohort.readers.leads import lead_name, lead_of_code
from analysis.cohort.readers.wfdb_header import check_record
from analysis.cohort.schema import CohortError

_IN_MV = {"nv": 1e-6, "uv": 1e-3, "mv": 1.0, "v": 1e3}
_UNIT_WORDS = {"nanovolt": "nv", "microvolt": "uv", "millivolt": "mv", "volt": "v"}


@dataclass(frozen=True)
class Recording:
    """The channels of one file. leads: which of the twelve each one is, or None.

    array: (C, N) float64, mV for leads and whatever the file has for other channels, NaN where
    nothing was recorded; None where only the header was read. samples: N.
    """

    leads: tuple[str | None, ...]
    names: tuple[str, ...]
    rate_hz: float
    samples: int
    start: datetime | None
    array: npt.NDArray[np.float64] | None


def read_recording(path: Path, samples: bool = True) -> Recording:
    """Read a WFDB record by its header (.hea), or a DICOM waveform; its header alone if asked.

    Raises CohortError when the file is missing, damaged, or states no sampling rate or a unit
    that is no voltage.
    """
    if not path.is_file():
        raise CohortError(f"{path}: there is no such file; put it there or correct the index.")
    return _wfdb(path, samples) if path.suffix.lower() == ".hea" else _dicom(path, samples)


def _wfdb(path: Path, samples: bool) -> Recording:
    import wfdb  # slow to import, and a cohort without signals needs none of it

    check_record(path)
    try:
        name = str(path.with_suffix(""))
        record: Any = wfdb.rdrecord(name) if samples else wfdb.rdheader(name, rd_segments=True)
    except FileNotFoundError as error:
        missing = Path(str(error.filename or error)).name
        raise CohortError(
            f"{path}: its signal file '{missing}' is missing; copy it beside the header."
        ) from error
    except Exception as error:  # a damaged header or file makes wfdb raise anything
        raise CohortError(
            f"{path}: not readable as a WFDB record, perhaps truncated ({_short(error)}); "
            "copy its files again."
        ) from error
    names = tuple(str(name) for name in record.sig_name or ())
    leads = tuple(lead_name(name) for name in names)
    rate = _rate(path, record.fs)
    start = record.base_datetime if isinstance(record.base_datetime, datetime) else None
    if not samples:
        return Recording(leads, names, rate, int(record.sig_len or 0), start, None)
    array = np.asarray(record.p_signal, np.float64).T
    units = _wfdb_units(path, [str(unit) for unit in record.units])
    for row, lead in enumerate(leads):
        if lead is not None:
            array[row] *= _millivolts(path, units[row], names[row])
    return Recording(leads, names, rate, array.shape[1], start, array)


def _wfdb_units(path: Path, units: list[str]) -> list[str]:
    """The units as they stand in the header: wfdb drops what is not ASCII, so that µV reads V."""
    raw = path.read_bytes()
    if raw.isascii():
        return units
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stated = [re.match(r"\S+\s+\S+\s+[^\s/]+/(\S+)", line) for line in lines[1:]]
    if len(stated) != len(units):  # several segments: their units stand in headers of their own
        return units
    return [found[1] if found else unit for unit, found in zip(units, stated, strict=True)]


def _dicom(path: Path, samples: bool) -> Recording:
    try:
        # Waveforms are small and, unlike pixels, not set aside by the reader.
        header = read_dicom(path)
    except Exception as error:  # whatever pydicom says of a damaged file
        raise CohortError(
            f"{path}: neither a WFDB header (.hea) nor readable as DICOM ({_short(error)}); give "
            "one of these."
        ) from error
    try:
        return _waveform(path, header, samples)
    except CohortError:
        raise
    except Exception as error:  # pydicom converts values when they are first looked at
        raise CohortError(
            f"{path}: its DICOM header is damaged ({_short(error)}); export it again."
        ) from error


def _waveform(path: Path, header: pydicom.Dataset, samples: bool) -> Recording:
    groups = list(header.get("WaveformSequence") or ())
    if not groups:
        raise CohortError(f"{path}: the DICOM file holds no waveform; give an ECG.")
    worth = [
        (len({lead for lead, _ in _channels(g) if lead}), int(g.get("NumberOfWaveformSamples", 0)))
        for g in groups
    ]
    at = worth.index(max(worth))
    group = groups[at]
    channels = _channels(group)
    leads, names = tuple(lead for lead, _ in channels), tuple(name for _, name in channels)
    rate, start = _rate(path, group.get("SamplingFrequency")), _acquired(header)
    if not samples:
        return Recording(leads, names, rate, worth[at][1], start, None)
    array = _dicom_samples(path, header, at, channels)
    return Recording(leads, names, rate, array.shape[1], start, array)


def _channels(group: pydicom.Dataset) -> list[tuple[str | None, str]]:
    """Lead (None: none of the twelve) and own name of each channel."""
    found = []
    for at, channel in enumerate(group.get("ChannelDefinitionSequence") or ()):
        codes = channel.get("ChannelSourceSequence") or ()
        meaning = str(codes[0].get("CodeMeaning", "")) if codes else ""
        label = str(channel.get("ChannelLabel", ""))
        lead = lead_name(meaning) or lead_name(label)
        if lead is None and codes:
            scheme = str(codes[0].get("CodingSchemeDesignator", ""))
            lead = lead_of_code(scheme, str(codes[0].get("CodeValue", "")))
        found.append((lead, meaning or label or f"channel {at + 1}"))
    return found


def _dicom_samples(
    path: Path, header: pydicom.Dataset, at: int, channels: list[tuple[str | None, str]]
) -> npt.NDArray[np.float64]:
    from pydicom.waveforms import multiplex_array

    group = header.WaveformSequence[at]
    try:
        raw = multiplex_array(header, at, as_raw=True)
    except Exception as error:  # a truncated or odd waveform makes pydicom raise anything
        raise CohortError(
            f"{path}: the waveform cannot be decoded, perhaps truncated ({_short(error)}); copy "
            "the file again."
        ) from error
    array = np.asarray(raw, np.float64).T.copy()
    padding = group.get("WaveformPaddingValue")
    if padding is not None:
        is_bytes = isinstance(padding, bytes)
        filler = np.frombuffer(padding, raw.dtype, 1)[0] if is_bytes else padding
        array[array == float(filler)] = np.nan
    for row, (lead, name) in enumerate(channels):
        if lead is None:
            continue
        channel = group.ChannelDefinitionSequence[row]
        units = channel.get("ChannelSensitivityUnitsSequence") or ()
        if "ChannelSensitivity" not in channel or not units:
            raise CohortError(
                f"{path}: channel '{name}' states no sensitivity, so its voltage is not known; "
                "export it again."
            )
        factor = float(channel.ChannelSensitivity)
        factor *= float(channel.get("ChannelSensitivityCorrectionFactor", 1) or 1)
        baseline = float(channel.get("ChannelBaseline", 0) or 0)
        array[row] = (array[row] * factor + baseline) * _millivolts(
            path, str(units[0].CodeValue), name
        )
    return array


def _rate(path: Path, value: Any) -> float:
    rate = float(value or 0)
    if not (np.isfinite(rate) and rate > 0):
        raise CohortError(f"{path}: states no sampling rate; write the true one in Hz.")
    return rate


def _millivolts(path: Path, unit: str, name: str) -> float:
    """Factor from `unit` to mV."""
    key = unit.strip().lower().replace("\u00b5", "u").replace("\u03bc", "u")
    key = _UNIT_WORDS.get(key.removesuffix("s"), key)
    if key not in _IN_MV:
        raise CohortError(
            f"{path}: channel '{name}' is in '{unit}', no voltage; export it in mV, uV or V."
        )
    return _IN_MV[key]


def _acquired(header: pydicom.Dataset) -> datetime | None:
    day = str(header.get("AcquisitionDate") or header.get("ContentDate") or "")
    clock = str(header.get("AcquisitionTime") or header.get("ContentTime") or "")
    text = str(header.get("AcquisitionDateTime") or day + clock)
    try:
        return datetime.strptime(text[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
