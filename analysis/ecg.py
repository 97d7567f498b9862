"""What a reader measures on an ECG: beats, segments, intervals and axis.

Beats and QRS borders are found over all leads together: where the heart's vector moves fast, its
spatial velocity, is QRS in every lead, wherever its axis points. P and T are found by neurokit2
(discrete wavelet delineation, Martinez et al., IEEE TBME 2004) on three leads, of which the
median counts. Nothing here is a diagnosis.
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
REFERENCE_LEADS = ("II", "V2", "V5", "I", "V4", "V3", "V6", "aVF", "V1", "III", "aVL", "aVR")
# P and T are flat or inverted in a lead of many people; the median of three leads is seldom wrong.
_LEADS_USED = 3
# P waves that come at no steady time before QRS are none: the atria fibrillate.
_STEADY_PR_MS = 25.0
_FEWEST_BEATS = 3
_SHORTEST_S = 2.5
# Slower than this all along there is no QRS complex, only drift and noise.
_SLOWEST_MV_S = 5.0


@dataclass(frozen=True)
class ECGMeasures:
    """Medians over beats; None where a wave was not found.

    rate_bpm: from the median R-R interval. pr_ms: P onset to QRS onset. qrs_ms: QRS onset to
    offset. qt_ms: QRS onset to T end. qtc_ms: QT / sqrt(RR in s), Bazett 1920. axis_deg: frontal
    QRS axis from the net areas of QRS in I and aVF, -180 to 180. rr_cv: standard deviation of
    R-R over its mean. beats: how many. leads: those that P and T were found on.
    """

    rate_bpm: float | None
    pr_ms: float | None
    qrs_ms: float | None
    qt_ms: float | None
    qtc_ms: float | None
    axis_deg: float | None
    rr_cv: float | None
    beats: int
    leads: tuple[str, ...]

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
    ECGMeasures(None, None, None, None, None, None, None, 0, ()),
)


def delineate(signal: Floats, leads: Sequence[str], rate_hz: float) -> Delineation:
    """Beats, segments and measures of an ECG.

    signal: (L, N) mV at rate_hz, NaN where nothing was recorded. An ECG that is too short, flat
    or too noisy gives `NOTHING`: no beats, no measures, never an error.
    """
    if signal.shape[1] < _SHORTEST_S * rate_hz:
        return NOTHING
    rows = {
        name: row
        for name, raw in zip(leads, signal, strict=True)
        if (row := _filled(np.asarray(raw, np.float64))) is not None
    }
    if not rows:
        return NOTHING
    speed = _spatial_velocity(np.stack(list(rows.values())), rate_hz)
    peaks = _beats(speed, rate_hz)
    if len(peaks) < _FEWEST_BEATS:
        return NOTHING
    used = [name for name in REFERENCE_LEADS if name in rows][:_LEADS_USED]
    found = _joined([_waves(rows[name], peaks, rate_hz) for name in used], peaks)
    found["QRS on"], found["QRS off"] = _qrs_borders(speed, peaks, rate_hz)
    # A P wave that reaches into the complex, or a T wave that begins in it, was found wrongly.
    found["P off"] = np.fmin(found["P off"], found["QRS on"])
    found["T on"] = np.fmax(found["T on"], found["QRS off"])
    axis = _axis(rows, found, rate_hz)
    return _described(found, rate_hz, signal.shape[1], used, axis)


def _spatial_velocity(rows: npt.NDArray[np.float64], rate_hz: float) -> npt.NDArray[np.float64]:
    """(N,) mV/s: root of the summed squares of all leads' slopes, over about 12 ms."""
    width = max(1, round(0.012 * rate_hz))
    window = np.ones(width) / width
    smooth = np.stack([np.convolve(row, window, mode="same") for row in rows])
    slopes = np.gradient(smooth, axis=1) * rate_hz
    return np.asarray(np.sqrt((slopes**2).sum(axis=0)))


def _beats(speed: npt.NDArray[np.float64], rate_hz: float) -> npt.NDArray[np.float64]:
    """Samples of the beats: where the vector moves fastest, at least 250 ms apart."""
    from scipy.signal import find_peaks

    # The usual complex, not the largest artefact, is the measure.
    usual = np.quantile(speed, 0.995)
    if usual < _SLOWEST_MV_S:
        return np.empty(0)
    at, _ = find_peaks(speed, height=0.45 * usual, distance=max(1, round(0.25 * rate_hz)))
    return np.asarray(at, np.float64)


def _qrs_borders(
    speed: npt.NDArray[np.float64], peaks: npt.NDArray[np.float64], rate_hz: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Samples where each complex begins and ends: the vector is slow for 20 ms beyond them."""
    quiet = round(0.02 * rate_hz)
    reach = round(0.22 * rate_hz)
    noise = float(np.median(speed))
    onsets, offsets = np.full(len(peaks), np.nan), np.full(len(peaks), np.nan)
    for beat, peak in enumerate(peaks.astype(int)):
        limit = noise + 0.09 * (speed[peak] - noise)
        for borders, step in ((onsets, -1), (offsets, 1)):
            still = 0
            for at in range(peak, peak + step * reach, step):
                if not 0 <= at < len(speed):
                    break
                still = still + 1 if speed[at] < limit else 0
                if still == quiet:
                    borders[beat] = at - step * (quiet - 1)
                    break
    return onsets, offsets


def _filled(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Gaps bridged by a straight line; None where little was recorded or the line is flat."""
    known = np.isfinite(row)
    if known.mean() < 0.8 or row[known].std() < 1e-3:
        return None
    return np.interp(np.arange(len(row)), np.flatnonzero(known), row[known])


def _waves(
    row: npt.NDArray[np.float64], peaks: npt.NDArray[np.float64], rate_hz: float
) -> dict[str, npt.NDArray[np.float64]]:
    """Samples of the beats and of the borders of P and T, NaN where not found."""
    import neurokit2 as nk

    rate = round(rate_hz)
    found = {"R": peaks}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clean = nk.ecg_clean(row, sampling_rate=rate)
            _, waves = nk.ecg_delineate(clean, peaks.astype(int), sampling_rate=rate, method="dwt")
        # The library meets odd signals with errors of its own arithmetic.
        except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):
            waves = {}
    for ours, theirs in _BORDERS.items():
        border = np.asarray(waves.get(theirs, []), np.float64)
        found[ours] = border if len(border) == len(peaks) else np.full(len(peaks), np.nan)
    return found


_BORDERS = {
    "P on": "ECG_P_Onsets",
    "P off": "ECG_P_Offsets",
    "T on": "ECG_T_Onsets",
    "T off": "ECG_T_Offsets",
}
_SPANS = {
    "P": ("P on", "P off"),
    "QRS": ("QRS on", "QRS off"),
    "ST": ("QRS off", "T on"),
    "T": ("T on", "T off"),
}


def _joined(
    parts: Sequence[Mapping[str, npt.NDArray[np.float64]]], peaks: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float64]]:
    """The median border of each beat over the leads that have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a beat without the wave in any lead
        return {
            name: np.asarray(np.nanmedian([part[name] for part in parts], axis=0))
            for name in _BORDERS
        } | {"R": peaks}


def _axis(
    rows: Mapping[str, npt.NDArray[np.float64]],
    found: Mapping[str, npt.NDArray[np.float64]],
    rate_hz: float,
) -> float | None:
    """Angle of the net QRS areas in I (0 degrees) and aVF (90 degrees).

    aVF is measured on a scale of sqrt(3) / 2 of I's (Goldberger), which is undone here.
    """
    if "I" not in rows or "aVF" not in rows:
        return None
    areas = []
    for row, scale in ((rows["I"], 1.0), (rows["aVF"], 2 / np.sqrt(3))):
        beats = []
        for on, off in zip(found["QRS on"], found["QRS off"], strict=True):
            if np.isfinite(on) and np.isfinite(off) and off > on:
                part = row[int(on) : int(off) + 1]
                # The level just before the complex is the isoelectric one.
                before = row[max(0, int(on) - round(0.02 * rate_hz)) : int(on) + 1]
                beats.append(float((part - before.mean()).sum()))
        if not beats:
            return None
        areas.append(scale * float(np.median(beats)))
    across, down = areas
    if across == 0 and down == 0:
        return None
    return float(np.degrees(np.arctan2(down, across)))


def _described(
    found: Mapping[str, npt.NDArray[np.float64]],
    rate_hz: float,
    length: int,
    leads: Sequence[str],
    axis: float | None,
) -> Delineation:
    r = found["R"]
    before = (found["QRS on"] - found["P on"]) / rate_hz * 1000
    known = before[np.isfinite(before)]
    steady = len(known) >= _FEWEST_BEATS and float(np.subtract(*np.percentile(known, (75, 25))))
    if steady is False or steady > _STEADY_PR_MS:
        found = {**found, "P on": np.full(len(r), np.nan), "P off": np.full(len(r), np.nan)}
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
            leads=tuple(leads),
        ),
    )


def _median_ms(samples: npt.NDArray[np.float64], rate_hz: float) -> float | None:
    known = samples[np.isfinite(samples) & (samples > 0)]
    return float(np.median(known) / rate_hz * 1000) if len(known) >= _FEWEST_BEATS else None
