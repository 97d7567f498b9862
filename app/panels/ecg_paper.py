"""A 12-lead ECG on paper at its true scale, with what the model's prediction rests on.

The browser gets the samples once and draws them itself: layout, speed, gain, calipers and the
overlay's settings cost the server nothing. Only a click comes back, as the instant it names.
Time is in seconds from the record's first sample, voltage in mV.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import streamlit as st

from app import theme
from app.figures.text import MISSING, number
from app.panels import sending, static
from app.panels.ct_viewer import frame
from models.cardiac import LEADS

Layout = Literal["3x4+II", "3x4+V1,II,V5", "6x2", "12x1"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
# Waves and intervals that a segment may be called; each has a tint of its own.
SEGMENTS = ("P", "PR", "QRS", "ST", "T", "TP")
# Label and unit of a measurement, in the order of a printed header.
MEASUREMENTS = {
    "rate_bpm": ("Rate", "bpm"),
    "pr_ms": ("PR", "ms"),
    "qrs_ms": ("QRS", "ms"),
    "qt_ms": ("QT", "ms"),
    "qtc_ms": ("QTc", "ms"),
    "p_axis_deg": ("P axis", "°"),
    "axis_deg": ("QRS axis", "°"),
    "t_axis_deg": ("T axis", "°"),
}
_ALWAYS = ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtc_ms", "axis_deg")
_SCRIPT = static.text("viewer.js", "ecg_paper.js")
_STYLE = static.text("viewer.css", "ecg_paper.css")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PaperSignal:
    """A recorded ECG.

    array: (L, N) mV; NaN where nothing was recorded. leads: names of its rows; a lead of the
    twelve that is not among them, or is NaN throughout, is drawn as not recorded. rate_hz:
    samples a second; sample i is at i / rate_hz seconds. Raises ValueError when these disagree.
    """

    array: Floats
    leads: tuple[str, ...]
    rate_hz: float

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or not self.array.shape[1]:
            raise ValueError(f"the ECG has shape {self.array.shape}, not (leads, samples)")
        if len(self.leads) != len(self.array):
            raise ValueError(f"the ECG has {len(self.array)} rows, {len(self.leads)} leads named")
        if len(set(self.leads)) < len(self.leads):
            raise ValueError(f"a lead is named twice in {', '.join(self.leads)}")
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f"the ECG's rate is {self.rate_hz} Hz; it must be positive")
        if np.isinf(self.array).any():
            raise ValueError("the ECG holds infinite values; use NaN for gaps")

    @property
    def seconds(self) -> float:
        """Duration of the record."""
        return float(self.array.shape[1] / self.rate_hz)


@dataclass(frozen=True)
class Interval:
    """A beat, or a wave or segment in it, on every lead; seconds. label: 'beat 3', 'QRS'."""

    start_s: float
    end_s: float
    label: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and self.end_s > self.start_s):
            raise ValueError(f"{self.label!r} runs from {self.start_s} to {self.end_s} s")


@dataclass(frozen=True, eq=False)
class LeadMap:
    """What each lead and instant did to the prediction, on the model's own time grid.

    values: (L, S); NaN where there is none. leads: names of its rows. Cell k covers start_s +
    k step_s until start_s + (k + 1) step_s. signed: positive raises the explained number and is
    red, negative lowers it and is blue; otherwise values are at least 0. note: how it was made.
    limit: the |value| at the end of the colours; None takes the largest, so give one to compare
    maps. ends: what the low and the high end of the colours mean. Raises ValueError.
    """

    values: Floats
    leads: tuple[str, ...]
    start_s: float
    step_s: float
    signed: bool
    title: str
    note: str = ""
    limit: float | None = None
    ends: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 2 or shape[0] != len(self.leads) or not self.values.size:
            raise ValueError(
                f"overlay {self.title!r} has shape {shape}, not ({len(self.leads)} leads, cells)"
            )
        if np.isinf(self.values).any():
            raise ValueError(f"overlay {self.title!r} holds infinite values")
        if not self.signed and np.nanmin(self.values, initial=0.0) < 0:
            raise ValueError(f"overlay {self.title!r} holds negative values; say signed=True")
        if not self.step_s > 0:
            raise ValueError(f"overlay {self.title!r} has a time step of {self.step_s} s")
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"overlay {self.title!r} has limit {self.limit}; it must be positive")

    @property
    def largest(self) -> float:
        """The largest |value|; 0 where there is none."""
        return float(np.nanmax(np.abs(self.values), initial=0.0))


@dataclass(frozen=True)
class Pick:
    """A clicked instant. millivolt: of the lead there, None in a gap. beat, segment: if in one."""

    lead: str
    time_s: float
    millivolt: float | None
    beat: Interval | None
    segment: Interval | None


@dataclass(frozen=True)
class PaperState:
    """What the reader last clicked, in this record only."""

    picked: Pick | None


def show(
    signal: PaperSignal,
    *,
    key: str,
    alt: str,
    title: str = "",
    overlays: Sequence[LeadMap] = (),
    beats: Sequence[Interval] = (),
    segments: Sequence[Interval] = (),
    measurements: Mapping[str, float | None] | None = None,
    qtc_formula: str = "",
    filter_text: str = "unfiltered as recorded",
    layout: Layout = "3x4+II",
) -> PaperState:
    """Draw the paper and give back what was clicked on it.

    key: unique on the page; what the reader set stays with it over reruns. alt: what is shown,
    for those who cannot see it. title: above the paper and in its export. beats, segments: where
    values may be told by beat or by wave; segments' labels from SEGMENTS. measurements: by the
    names in MEASUREMENTS, None where not measured. qtc_formula: 'Bazett', needed with a qtc_ms.
    filter_text: printed on the paper, so that it is known what the trace went through. Raises
    ValueError for a name that is not known. Pass the same PaperSignal object again, from a
    cache: its bytes are then packed only once.
    """
    heavy = pack(signal)
    view = view_message(
        signal,
        heavy.digest,
        key=key,
        alt=alt,
        title=title,
        overlays=overlays,
        beats=beats,
        segments=segments,
        header=header_line(measurements or {}, qtc_formula),
        filter_text=filter_text,
        layout=layout,
    )
    component = st.components.v2.component(
        "fusionlens_ecg_paper", html='<div class="ecg"></div>', css=_STYLE, js=_SCRIPT
    )
    told = sending.show(component, key, view, heavy, ["picked"])
    return PaperState(_picked(told.get("picked"), heavy.digest, beats, segments))


_packed: weakref.WeakKeyDictionary[PaperSignal, sending.Content] = weakref.WeakKeyDictionary()


def pack(signal: PaperSignal) -> sending.Content:
    """The samples as float32 mV; packed once for each PaperSignal object."""
    if signal not in _packed:
        _packed[signal] = _pack(signal)
    return _packed[signal]


def _pack(signal: PaperSignal) -> sending.Content:
    shape = list(signal.array.shape)
    samples = np.ascontiguousarray(signal.array, "<f4").tobytes()
    header = {"shape": shape, "leads": list(signal.leads), "rate": float(signal.rate_hz)}
    return sending.content(header, [samples])


def header_line(
    measurements: Mapping[str, float | None], qtc_formula: str = ""
) -> list[tuple[str, str]]:
    """Label and text of each measurement, a dash where there is none.

    Rate, PR, QRS, QT, QTc and the QRS axis are always named, the other axes when given. Raises
    ValueError for an unknown name, and for a QTc whose formula is not named.
    """
    unknown = sorted(set(measurements) - set(MEASUREMENTS))
    if unknown:
        raise ValueError(
            f"the ECG header knows no {unknown[0]!r}; it knows {', '.join(MEASUREMENTS)}"
        )
    if _known(measurements.get("qtc_ms")) and not qtc_formula:
        raise ValueError("a QTc needs the name of its formula, such as qtc_formula='Bazett'")
    line = []
    for name, (label, unit) in MEASUREMENTS.items():
        value = measurements.get(name)
        if name not in measurements and name not in _ALWAYS:
            continue
        if name == "qtc_ms" and qtc_formula:
            label = f"{label} ({qtc_formula})"
        gap = "" if unit == "°" else " "
        text = f"{number(value, 0)}{gap}{unit}" if _known(value) else MISSING
        line.append((label, text))
    return line


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def view_message(
    signal: PaperSignal,
    digest: str,
    *,
    key: str,
    alt: str,
    title: str,
    overlays: Sequence[LeadMap],
    beats: Sequence[Interval],
    segments: Sequence[Interval],
    header: Sequence[tuple[str, str]],
    filter_text: str,
    layout: str,
) -> bytes:
    """Everything but the samples. Raises ValueError for an unknown layout, lead or segment."""
    if layout not in LAYOUTS:
        raise ValueError(f"no ECG layout is called {layout!r}; there are {', '.join(LAYOUTS)}")
    titles = [overlay.title for overlay in overlays]
    twice = {name for name in titles if titles.count(name) > 1}
    if twice:
        raise ValueError(f"two overlays are called {min(twice)!r}; give each a name of its own")
    for overlay in overlays:
        strange = sorted(set(overlay.leads) - {*LEADS, *signal.leads})
        if strange:
            raise ValueError(f"overlay {overlay.title!r} names lead {strange[0]!r}; the ECG has no")
    for segment in segments:
        if segment.label not in SEGMENTS:
            raise ValueError(
                f"no segment is called {segment.label!r}; there are {', '.join(SEGMENTS)}"
            )
    told = {
        "kind": "view",
        "key": key,
        "digest": digest,
        "alt": alt,
        "title": title,
        "notice": theme.NOTICE,
        "header": list(header),
        "filter": filter_text,
        "layout": layout,
        "layouts": LAYOUTS,
        "leads": LEADS,
        "beats": [_described(interval) for interval in beats],
        "segments": [_described(interval) for interval in segments],
        "overlays": [
            {
                "title": overlay.title,
                "note": overlay.note,
                "signed": bool(overlay.signed),
                "leads": overlay.leads,
                "cells": overlay.values.shape[1],
                "start": float(overlay.start_s),
                "step": float(overlay.step_s),
                "limit": float(overlay.limit or overlay.largest),
                "ends": overlay.ends,
            }
            for overlay in overlays
        ],
    }
    return frame(told, [np.ascontiguousarray(o.values, "<f4").tobytes() for o in overlays])


def _described(interval: Interval) -> list[Any]:
    return [float(interval.start_s), float(interval.end_s), interval.label]


def _picked(
    value: Any, digest: str, beats: Sequence[Interval], segments: Sequence[Interval]
) -> Pick | None:
    if not value or value.get("digest") != digest:
        return None
    time_s = float(value["time"])
    volt = value.get("mv")
    return Pick(
        lead=str(value["lead"]),
        time_s=time_s,
        millivolt=None if volt is None else float(volt),
        beat=_around(beats, time_s),
        segment=_around(segments, time_s),
    )


def _around(intervals: Sequence[Interval], time_s: float) -> Interval | None:
    """The interval that holds the instant; its end is no part of it."""
    return next((one for one in intervals if one.start_s <= time_s < one.end_s), None)
