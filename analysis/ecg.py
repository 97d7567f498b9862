"""What a reader measures on an ECG: beats, segments, intervals and axis.

Waves are found by neurokit2 (discrete wavelet delineation, Martinez et al., IEEE TBME 2004) on
the leads where they are largest; nothing here is a diagnosis.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.floating]
SEGMENTS = ("P", "QRS", "ST", "T")
# Tried in this order: where beats are tall and waves are clear in most people.
REFERENCE_LEADS = ("II", "V5", "I", "V4", "V6", "V3", "V2", "aVF", "III", "V1", "aVL", "aVR")
_FEWEST_BEATS = 3
_SHORTEST_S = 2.5


@dataclass(frozen=True)
class ECGMeasures:
    """Medians over beats; None where a wave was not found.

    rate_bpm: from the median R-R interval. pr_ms: P onset to QRS onset. qrs_ms: QRS onset to
    offset. qt_ms: QRS onset to T end. qtc_ms: QT / sqrt(RR in s), Bazett 1920. axis_deg: frontal
    QRS axis from the net areas of QRS in I and aVF, -180 to 180. rr_cv: standard deviation of
    R-R over its mean. beats: how many. lead: the one that waves were found on.
    """

    rate_bpm: float | None
    pr_ms: float | None
    qrs_ms: float | None
    qt_ms: float | None
    qtc_ms: float | None
    axis_deg: float | None
    rr_cv: float | None
    beats: int
    lead: str | None

    @property
    def words(self) -> Mapping[str, str]:
        """{'Rate': '72/min', 'PR': '160 ms', ...}; '–' where nothing was found."""

        def told(value: float | None, unit: str) -> str:
            return "–" if value is None else f"{value:.0f}{unit}"

        return {
            "Rate": told(self.rate_bpm, "/min"),
            "PR": told(self.pr_ms, " ms"),
            "QRS": told(self.qrs_ms, " ms"),
            "QT": told(self.qt_ms, " ms"),
            "QTc (Bazett)": told(self.qtc_ms, " ms"),
            "Axis": told(self.axis_deg, "°"),
        }


@dataclass(frozen=True)
class Delineation:
    """segments: beat, segment ('P', 'QRS', 'ST', 'T'), start_s, end_s; a row each that was found.

    beats: beat, start_s, end_s, r_s: from half way after the beat before to half way to the next.
    """

    segments: pd.DataFrame
    beats: pd.DataFrame
    measures: ECGMeasures


NOTHING = Delineation(
    pd.DataFrame(
        {"beat": [], "segment": [], "start_s": [], "end_s": []},
    ),
    pd.DataFrame({"beat": [], "start_s": [], "end_s": [], "r_s": []}),
    ECGMeasures(None, None, None, None, None, None, None, 0, None),
)


def delineate(signal: Floats, leads: Sequence[str], rate_hz: float) -> Delineation:
    """Beats, segments and measures of an ECG.

    signal: (L, N) mV at rate_hz, NaN where nothing was recorded. An ECG that is too short, flat
    or too noisy gives `NOTHING`: no beats, no measures, never an error.
    """
    if signal.shape[1] < _SHORTEST_S * rate_hz:
        return NOTHING
    for lead in REFERENCE_LEADS:
        if lead not in leads:
            continue
        row = _filled(np.asarray(signal[leads.index(lead)], np.float64))
        if row is None:
            continue
        found = _waves(row, rate_hz)
        if found is not None:
            axis = _axis(signal, leads, found, rate_hz)
            return _described(found, rate_hz, signal.shape[1], lead, axis)
    return NOTHING


def _filled(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Gaps bridged by a straight line; None where little was recorded or the line is flat."""
    known = np.isfinite(row)
    if known.mean() < 0.8 or row[known].std() < 1e-3:
        return None
    return np.interp(np.arange(len(row)), np.flatnonzero(known), row[known])


def _waves(
    row: npt.NDArray[np.float64], rate_hz: float
) -> dict[str, npt.NDArray[np.float64]] | None:
    """Samples of R peaks and of wave borders, NaN where not found; None where no beats are."""
    import neurokit2 as nk

    rate = round(rate_hz)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clean = nk.ecg_clean(row, sampling_rate=rate)
            peaks = np.asarray(nk.ecg_peaks(clean, sampling_rate=rate)[1]["ECG_R_Peaks"], int)
            if len(peaks) < _FEWEST_BEATS:
                return None
            _, waves = nk.ecg_delineate(clean, peaks, sampling_rate=rate, method="dwt")
        # The library meets odd signals with errors of its own arithmetic.
        except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):
            return None
    found = {"R": peaks.astype(np.float64)}
    for ours, theirs in _BORDERS.items():
        border = np.asarray(waves.get(theirs, []), np.float64)
        found[ours] = border if len(border) == len(peaks) else np.full(len(peaks), np.nan)
    return found


_BORDERS = {
    "P on": "ECG_P_Onsets",
    "P off": "ECG_P_Offsets",
    "QRS on": "ECG_R_Onsets",
    "QRS off": "ECG_R_Offsets",
    "T on": "ECG_T_Onsets",
    "T off": "ECG_T_Offsets",
}
_SPANS = {
    "P": ("P on", "P off"),
    "QRS": ("QRS on", "QRS off"),
    "ST": ("QRS off", "T on"),
    "T": ("T on", "T off"),
}


def _axis(
    signal: Floats,
    leads: Sequence[str],
    found: Mapping[str, npt.NDArray[np.float64]],
    rate_hz: float,
) -> float | None:
    """Angle of the net QRS areas in I (0 degrees) and aVF (90 degrees)."""
    if "I" not in leads or "aVF" not in leads:
        return None
    areas = []
    for name in ("I", "aVF"):
        row = _filled(np.asarray(signal[leads.index(name)], np.float64))
        if row is None:
            return None
        beats = []
        for on, off in zip(found["QRS on"], found["QRS off"], strict=True):
            if np.isfinite(on) and np.isfinite(off) and off > on:
                part = row[int(on) : int(off) + 1]
                # The level just before the complex is the isoelectric one.
                before = row[max(0, int(on) - round(0.02 * rate_hz)) : int(on) + 1]
                beats.append(float((part - before.mean()).sum()))
        if not beats:
            return None
        areas.append(float(np.median(beats)))
    across, down = areas
    if across == 0 and down == 0:
        return None
    return float(np.degrees(np.arctan2(down, across)))


def _described(
    found: Mapping[str, npt.NDArray[np.float64]],
    rate_hz: float,
    length: int,
    lead: str,
    axis: float | None,
) -> Delineation:
    r = found["R"]
    rows = [
        {"beat": beat, "segment": name, "start_s": start / rate_hz, "end_s": end / rate_hz}
        for beat in range(len(r))
        for name, (first, last) in _SPANS.items()
        for start, end in [(found[first][beat], found[last][beat])]
        if np.isfinite(start) and np.isfinite(end) and end > start
    ]
    middles = (r[:-1] + r[1:]) / 2
    half = float(np.median(np.diff(r))) / 2
    starts = np.r_[max(0.0, r[0] - half), middles]
    ends = np.r_[middles, min(float(length), r[-1] + half)]
    beats = pd.DataFrame(
        {
            "beat": np.arange(len(r)),
            "start_s": starts / rate_hz,
            "end_s": ends / rate_hz,
            "r_s": r / rate_hz,
        }
    )
    rr = np.diff(r) / rate_hz
    qt = _median_ms(found["T off"] - found["QRS on"], rate_hz)
    return Delineation(
        pd.DataFrame(rows) if rows else NOTHING.segments,
        beats,
        ECGMeasures(
            rate_bpm=60.0 / float(np.median(rr)),
            pr_ms=_median_ms(found["QRS on"] - found["P on"], rate_hz),
            qrs_ms=_median_ms(found["QRS off"] - found["QRS on"], rate_hz),
            qt_ms=qt,
            qtc_ms=None if qt is None else qt / float(np.sqrt(np.median(rr))),
            axis_deg=axis,
            rr_cv=float(rr.std() / rr.mean()),
            beats=len(r),
            lead=lead,
        ),
    )


def _median_ms(samples: npt.NDArray[np.float64], rate_hz: float) -> float | None:
    known = samples[np.isfinite(samples) & (samples > 0)]
    return float(np.median(known) / rate_hz * 1000) if len(known) >= _FEWEST_BEATS else None
