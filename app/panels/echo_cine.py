"""Echo loops of one study, all views at once, at the speed at which the heart beat.

The browser gets the frames once, as JPEG, decodes them and plays them by the clock: frames are
left out rather than the loop slowed down. Overlays travel apart from the frames, at every rerun.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import streamlit as st

from analysis.cohort.readers.echo_ecg import CineECG
from app import theme
from app.panels import sending, static
from app.panels.ct_viewer import frame

# Decoded frames cost four bytes a pixel in the reader's browser: 240 MB.
MAX_PIXELS = 60_000_000
JPEG_QUALITY = 90
_SCRIPT = static.text("viewer.js", "echo_cine.js")
_STYLE = static.text("viewer.css", "echo_cine.css")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cine:
    """One view of an echo study.

    view: its name, which overlays and the state use. frames: (F, H, W, 3) RGB or (F, H, W) grey,
    uint8; one frame is a still; None where the view was not recorded. times_ms: (F,) when each
    frame was taken, growing. mm_per_pixel: of these frames, None where not known; depth_zero_px:
    row of the transducer's face, where the depth scale starts. ed_frames, es_frames: end-diastole
    and end-systole of each beat where known; ed_from, es_from: who says so. r_waves_ms: on the
    clock of times_ms. ecg: drawn below the loop, its start on the same clock. aside: 'still',
    'spectral Doppler', ... where the model does not read it; missing: in place of frames. note:
    said beside its title. Raises ValueError when these disagree.
    """

    view: str
    title: str
    frames: npt.NDArray[np.uint8] | None = None
    times_ms: Sequence[float] = ()
    mm_per_pixel: float | None = None
    depth_zero_px: float = 0.0
    ed_frames: Sequence[int] = ()
    es_frames: Sequence[int] = ()
    ed_from: str = ""
    es_from: str = ""
    r_waves_ms: Sequence[float] = ()
    ecg: CineECG | None = None
    heart_rate_bpm: float | None = None
    aside: str = ""
    missing: str = "not recorded"
    note: str = ""

    def __post_init__(self) -> None:
        if self.frames is None:
            return
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
            raise ValueError(
                f"view {self.view!r} has frames {self.frames.dtype} {shape}, not uint8 (F, H, W, 3)"
            )
        if len(shape) == 4 and shape[3] != 3:
            raise ValueError(f"view {self.view!r} has {shape[3]} colours a pixel, not 3")
        times = np.asarray(self.times_ms, np.float64)
        if times.shape != (shape[0],) and shape[0] > 1:
            raise ValueError(f"view {self.view!r} has {shape[0]} frames and {times.size} times")
        if not (np.diff(times) > 0).all() or not np.isfinite(times).all():
            raise ValueError(f"view {self.view!r} has frame times that do not grow")
        if self.mm_per_pixel is not None and not self.mm_per_pixel > 0:
            raise ValueError(f"view {self.view!r} has {self.mm_per_pixel} mm a pixel")
        for name, frames in (("end-diastole", self.ed_frames), ("end-systole", self.es_frames)):
            for at in frames:
                if not 0 <= at < shape[0]:
                    raise ValueError(f"view {self.view!r} has {name} at frame {at} of {shape[0]}")

    @property
    def duration_ms(self) -> float:
        """Until the loop starts again: the last frame stays as long as the one before it."""
        times = np.asarray(self.times_ms, np.float64)
        return float(2 * times[-1] - times[-2] - times[0]) if times.size > 1 else 0.0


@dataclass(frozen=True, eq=False)
class CineMap:
    """What each place and instant of the loops did to the prediction, on the model's own grid.

    values: by view, (T, h, w), finite. Cell k in time covers stride source frames from first + k
    stride on; frames past the last cell were not read by the model and get no colour. box: the
    part of the frame that the grid spans, (left, top, right, bottom) from 0 to 1. signed:
    positive raises the explained number (red), negative lowers it (blue). limit: the |value| at
    the end of the colours, one for all views; None takes the largest. ends: what the low and the
    high end mean. Raises ValueError.
    """

    values: Mapping[str, Floats]
    stride: float
    signed: bool
    title: str
    first: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    note: str = ""
    limit: float | None = None
    ends: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        for view, values in self.values.items():
            if values.ndim != 3 or not values.size:
                raise ValueError(
                    f"overlay {self.title!r} of {view} has shape {values.shape}, not (T, h, w)"
                )
            if not np.isfinite(values).all():
                raise ValueError(f"overlay {self.title!r} of {view} holds NaN or infinite values")
            if not self.signed and values.min() < 0:
                raise ValueError(f"overlay {self.title!r} holds negative values; say signed=True")
        if not self.stride > 0:
            raise ValueError(f"overlay {self.title!r} has {self.stride} frames a cell")
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"overlay {self.title!r} has box {self.box}; it must lie in 0 to 1")
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"overlay {self.title!r} has limit {self.limit}; it must be positive")

    @property
    def largest(self) -> float:
        """The largest |value| of all views; 0 where there is none."""
        return max((float(np.abs(values).max()) for values in self.values.values()), default=0.0)


@dataclass(frozen=True)
class CineState:
    """The view that the reader made big, by name; None while all are shown."""

    view: str | None


def show(
    cines: Sequence[Cine],
    *,
    key: str,
    alt: str,
    title: str = "",
    overlays: Sequence[CineMap] = (),
) -> CineState:
    """Draw the loops and give back which one was made big.

    key: unique on the page; what the reader set stays with it over reruns. alt: what is shown,
    for those who cannot see it. title: above the loops. Raises ValueError when there is no view,
    two have one name, or an overlay names a view that is not there. Pass the same Cine objects
    again, from a cache: their frames are then packed only once.
    """
    if not cines:
        raise ValueError("an echo study needs at least one view, recorded or not")
    heavy = pack(cines)
    view = view_message(cines, heavy.digest, key=key, alt=alt, title=title, overlays=overlays)
    component = st.components.v2.component(
        "fusionlens_echo_cine", html='<div class="echo"></div>', css=_STYLE, js=_SCRIPT
    )
    told = sending.show(component, key, view, heavy, ["enlarged"]).get("enlarged")
    if not told or told.get("digest") != heavy.digest:
        return CineState(None)
    return CineState(told["view"] or None)


_Kept = tuple[list[weakref.ref[Cine]], sending.Content]
_packed: weakref.WeakKeyDictionary[Cine, _Kept] = weakref.WeakKeyDictionary()


def pack(cines: Sequence[Cine]) -> sending.Content:
    """Every frame as a JPEG, smaller where all together have more than MAX_PIXELS.

    Packed once for the same Cine objects, and forgotten with the first of them.
    """
    kept = _packed.get(cines[0])
    if kept is not None and [ref() for ref in kept[0]] == list(cines):
        return kept[1]
    content = _pack(cines)
    _packed[cines[0]] = ([weakref.ref(cine) for cine in cines], content)
    return content


def _pack(cines: Sequence[Cine]) -> sending.Content:
    share = shrink(cines)
    header: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for cine in cines:
        if cine.frames is None:
            continue
        pictures = [_jpeg(picture, share) for picture in cine.frames]
        ends = np.cumsum([0, *map(len, pictures)]).tolist()
        header.append({"view": cine.view, "ends": ends})
        blobs.append(b"".join(pictures))
    return sending.content({"cines": header}, blobs)


def shrink(cines: Sequence[Cine]) -> float:
    """The factor on both sides of every frame; 1 where all together fit into MAX_PIXELS."""
    total = sum(math.prod(cine.frames.shape[:3]) for cine in cines if cine.frames is not None)
    return min(1.0, math.sqrt(MAX_PIXELS / total)) if total else 1.0


def _jpeg(picture: npt.NDArray[np.uint8], share: float) -> bytes:
    if share < 1:
        size = [max(1, round(n * share)) for n in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if picture.ndim == 3:
        red, green, blue = np.moveaxis(picture, -1, 0)
        # One channel: smaller, and grey stays exactly grey.
        grey = np.array_equal(red, green) and np.array_equal(red, blue)
        picture = red if grey else picture[..., ::-1]
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    if picture.ndim == 3:  # a thin Doppler jet must keep its colour at its edge
        full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    good, coded = cv2.imencode(".jpg", np.ascontiguousarray(picture), settings)
    if not good:
        raise ValueError(f"a frame of {picture.shape} cannot be coded as JPEG")
    return bytes(coded)


def view_message(
    cines: Sequence[Cine],
    digest: str,
    *,
    key: str,
    alt: str,
    title: str,
    overlays: Sequence[CineMap],
) -> bytes:
    """Everything but the frames. Raises ValueError for names that are missing or given twice."""
    views = [cine.view for cine in cines]
    _distinct("views", views)
    _distinct("overlays", [overlay.title for overlay in overlays])
    for overlay in overlays:
        strange = sorted(set(overlay.values) - set(views))
        if strange:
            raise ValueError(
                f"overlay {overlay.title!r} names view {strange[0]!r}; there are {', '.join(views)}"
            )
    blobs: list[bytes] = []
    maps = []
    for overlay in overlays:
        places = {}
        for view, values in overlay.values.items():
            places[view] = {"blob": len(blobs), "shape": values.shape}
            blobs.append(np.ascontiguousarray(values, "<f4").tobytes())
        maps.append(
            {
                "title": overlay.title,
                "note": overlay.note,
                "signed": bool(overlay.signed),
                "stride": float(overlay.stride),
                "first": float(overlay.first),
                "box": [float(edge) for edge in overlay.box],
                "limit": float(overlay.limit or overlay.largest),
                "ends": overlay.ends,
                "views": places,
            }
        )
    share = shrink(cines)
    header = {
        "kind": "view",
        "key": key,
        "digest": digest,
        "alt": alt,
        "title": title,
        "notice": theme.NOTICE,
        "shrunk": f"Shown at {share:.0%} of the recorded size" if share < 1 else "",
        "cines": [_described(cine) for cine in cines],
        "overlays": maps,
    }
    return frame(header, blobs)


def _described(cine: Cine) -> dict[str, Any]:
    told: dict[str, Any] = {"view": cine.view, "title": cine.title, "note": cine.note}
    if cine.frames is None:
        return {**told, "recorded": False, "missing": cine.missing}
    n, height, width = cine.frames.shape[:3]
    times = np.asarray(cine.times_ms, np.float64) if n > 1 else np.zeros(1)
    rate = cine.heart_rate_bpm
    return {
        **told,
        "recorded": True,
        "frames": n,
        "size": [width, height],
        "times": (times - times[0]).tolist(),
        "duration": cine.duration_ms,
        "mm": cine.mm_per_pixel,
        "zero": float(cine.depth_zero_px),
        "marks": [
            *({"name": "ED", "frame": int(at), "from": cine.ed_from} for at in cine.ed_frames),
            *({"name": "ES", "frame": int(at), "from": cine.es_from} for at in cine.es_frames),
        ],
        "rWaves": [float(at - times[0]) for at in cine.r_waves_ms],
        "ecg": None if cine.ecg is None else _strip(cine.ecg, float(times[0])),
        "rate": None if rate is None or math.isnan(rate) else float(rate),
        "aside": cine.aside,
    }


def _strip(ecg: CineECG, first_ms: float) -> dict[str, Any]:
    """Times on the clock of the frames; values without a unit, for a strip has no scale."""
    values = ecg.values - np.median(ecg.values)
    largest = float(np.abs(values).max()) or 1.0
    return {
        "start": ecg.start_ms - first_ms,
        "step": ecg.step_ms,
        "values": [round(float(v), 4) for v in values / largest],
    }


def _distinct(what: str, names: Sequence[str]) -> None:
    """The viewer finds them again by name after a rerun."""
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two {what} are called {min(twice)!r}; give each a name of its own")
