"""The CT viewer: a volume with maps, regions and outlines, read in the browser as at a PACS.

The browser gets the voxels once and reslices them itself, so scrolling, windowing and every other
control costs the server nothing. Only a click comes back, as the point it names. The volume
travels in a message of its own, apart from the overlays: a rerun sends the overlays again and the
volume not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import struct
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import streamlit as st

from analysis.cohort.readers.volume import Affine, Floats, Triple, Volume
from app import theme
from app.panels import static

MAX_VOXELS = 24_000_000
_SCRIPT = static.text("ct_viewer.js")
_STYLE = static.text("ct_viewer.css")
_HELD = "_ct_viewer_held"
_ALIGN = 8
_AXES = ("superior-inferior", "anterior-posterior", "right-left")
_Built = TypeVar("_Built")


@dataclass(frozen=True)
class Preset:
    """A CT window by name; level and width in HU."""

    name: str
    level: float
    width: float
    note: str = ""


# In this order they answer to the keys 1, 2, 3 ...
PRESETS = (
    Preset("Lung", -600, 1500),
    Preset("Mediastinum", 40, 400),
    Preset("CTPA", 100, 700),
    Preset("Bone", 400, 1800),
    Preset("Liver", 90, 150),
    Preset("PE (model's view)", 400, 1000, "the window that the INSPECT image network is given"),
)
CTPA = PRESETS[2]


@dataclass(frozen=True)
class Overlay:
    """A map on its own grid, drawn over the CT through its affine.

    values: (d, h, w), finite. affine: (4, 4), maps (w, h, d, 1) to RAS mm. signed: zero is the
    middle of the colours. note: how it was made, with its grid. limit: the |value| at the end of
    the colours; None takes the largest, so give one to compare maps. ends: what the low and the
    high end of the colours mean. Raises ValueError when shape, affine, limit or a value is unfit.
    """

    values: Floats
    affine: Affine
    signed: bool
    title: str
    note: str = ""
    limit: float | None = None
    ends: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or not self.values.size:
            raise ValueError(f"overlay {self.title!r} has shape {self.values.shape}, not (d, h, w)")
        if not np.isfinite(self.values).all():
            raise ValueError(f"overlay {self.title!r} holds NaN or infinite values")
        if not self.signed and self.values.min() < 0:
            raise ValueError(f"overlay {self.title!r} holds negative values; say signed=True")
        affine = np.asarray(self.affine)
        if affine.shape != (4, 4) or not abs(np.linalg.det(affine[:3, :3])) > 0:
            raise ValueError(f"overlay {self.title!r} needs an invertible (4, 4) affine")
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"overlay {self.title!r} has limit {self.limit}; it must be positive")

    @property
    def peak_mm(self) -> Triple:
        """Centre of the cell with the largest |value|, RAS mm; the first of several."""
        dhw = np.unravel_index(np.abs(self.values).argmax(), self.values.shape)
        x, y, z = (self.affine @ [*dhw[::-1], 1.0])[:3]
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Region:
    """A box in the patient with a weight, as a cell lit by an attention row.

    center_mm, size_mm: (3,) along right, anterior, superior, in RAS mm.
    """

    name: str
    center_mm: Triple
    size_mm: Triple
    weight: float


@dataclass(frozen=True)
class Mask:
    """Voxels drawn as an outline. inside: (D, H, W) bool on the volume's grid.

    colour: #RRGGBB. shown: drawn from the start; otherwise only when asked for.
    """

    name: str
    inside: npt.NDArray[np.bool_]
    colour: str = "#4CD964"
    shown: bool = False


@dataclass(frozen=True)
class ViewerState:
    """What the reader last chose. picked_mm: the clicked point in RAS mm, of this volume only."""

    picked_mm: Triple | None


def show(
    volume: Volume,
    overlays: Sequence[Overlay] = (),
    *,
    key: str,
    alt: str,
    title: str = "",
    start_mm: Sequence[float] | None = None,
    regions: Sequence[Region] = (),
    masks: Sequence[Mask] = (),
    window: Preset = CTPA,
) -> ViewerState:
    """Draw the viewer and give back what was picked in it.

    key: unique on the page; what the reader set stays with it over reruns and page changes. alt:
    what is shown, for those who cannot see it. title: burned into the image and its export.
    start_mm: where to look first, RAS mm; a rerun that gives another point goes there. window:
    at the start. Raises ValueError when the volume is not on canonical axes or a mask not on its
    grid. Pass the same Volume object again, from st.cache_resource: its bytes are then packed
    only once.
    """
    packed = pack(volume)
    content = view_message(
        packed,
        overlays,
        key=key,
        alt=alt,
        title=title,
        start_mm=start_mm,
        regions=regions,
        outlines=[_outline(mask, volume, packed.steps) for mask in masks],
        window=window,
    )
    held: list[str] = st.session_state.setdefault(_HELD, [])
    component = _component()
    with st.container(key=f"{key}-frame", gap=None):
        state = component(key=key, data=content, on_picked_change=_nothing)
        # The browser keeps what it was given. It says so if it lost it: then it is sent again.
        lost = functools.partial(held.clear)
        sent = packed.digest in held
        component(
            key=f"{key}-volume",
            data=packed.receipt if sent else packed.message,
            on_lost_change=lost,
        )
        if not sent:
            held.append(packed.digest)
    return ViewerState(_picked(state.get("picked"), packed.digest))


# ---------------------------------------------------------------- the volume


@dataclass(frozen=True)
class Packed:
    """A volume as the browser gets it.

    steps: every nth voxel is kept along (D, H, W). origin_mm, spacing_mm: of the kept voxels,
    along (D, H, W). message holds the int16 voxels; receipt only names them.
    """

    shape: tuple[int, int, int]
    steps: tuple[int, int, int]
    origin_mm: Triple
    spacing_mm: Triple
    range_hu: tuple[int, int]
    digest: str
    message: bytes
    receipt: bytes


def pack(volume: Volume, max_voxels: int = MAX_VOXELS) -> Packed:
    """The volume rounded to whole HU, every nth voxel where it has too many.

    Packed once for each Volume object. Raises ValueError when its affine is not canonical.
    """
    matrix = np.asarray(volume.affine)[:3, :3]
    if not np.allclose(matrix, np.diag(np.diag(matrix))) or not (np.diag(matrix) > 0).all():
        raise ValueError("the volume must have axes to superior, anterior and right; read_volume")
    build = functools.partial(_pack, volume, max_voxels)
    return _remembered(volume.array, ("volume", max_voxels, volume.affine.tobytes()), build)


def _pack(volume: Volume, max_voxels: int) -> Packed:
    own = np.diag(volume.affine)[2::-1]
    steps = thinning(volume.array.shape, own.tolist(), max_voxels)
    first = [_first(n, step) for n, step in zip(volume.array.shape, steps, strict=True)]
    kept = volume.array[tuple(slice(a, None, s) for a, s in zip(first, steps, strict=True))]
    voxels = np.rint(np.clip(kept, -32768, 32767)).astype("<i2")
    origin = np.asarray(volume.affine)[2::-1, 3] + own * first
    payload = voxels.tobytes()
    digest = hashlib.sha256(payload)
    digest.update(json.dumps([voxels.shape, origin.tolist(), (own * steps).tolist()]).encode())
    name = digest.hexdigest()[:32]
    return Packed(
        shape=voxels.shape,
        steps=steps,
        origin_mm=tuple(origin.tolist()),
        spacing_mm=tuple((own * steps).tolist()),
        range_hu=(int(voxels.min()), int(voxels.max())),
        digest=name,
        message=frame({"kind": "volume", "digest": name, "shape": voxels.shape}, [payload]),
        receipt=frame({"kind": "held", "digest": name}, []),
    )


def thinning(
    shape: Sequence[int], spacing_mm: Sequence[float], max_voxels: int = MAX_VOXELS
) -> tuple[int, int, int]:
    """Whole steps along (D, H, W) that leave at most max_voxels; the finest axis goes first."""
    steps = [1, 1, 1]
    while math.prod(-(-n // step) for n, step in zip(shape, steps, strict=True)) > max_voxels:
        kept = [mm * step for mm, step in zip(spacing_mm, steps, strict=True)]
        # Equal but for rounding: in-plane pixels stay square for as long as they can.
        finest = min(range(3), key=lambda axis: (round(kept[axis], 3), axis))
        steps[finest] += 1
    return steps[0], steps[1], steps[2]


def _first(n: int, step: int) -> int:
    """The first voxel kept, so that as much is left out before as after."""
    return ((n - 1) % step) // 2


def thinning_text(steps: Sequence[int]) -> str:
    """What the thinning left out, in words; empty when nothing."""
    parts = [
        f"every {_ordinal(step)} voxel {axis}"
        for step, axis in zip(steps, _AXES, strict=True)
        if step > 1
    ]
    if len(parts) == 3 and len(set(steps)) == 1:
        return f"Shown at every {_ordinal(steps[0])} voxel"
    return f"Shown at {', '.join(parts)}" if parts else ""


def _ordinal(n: int) -> str:
    return f"{n}{({2: 'nd', 3: 'rd'}).get(n, 'th')}"


# ---------------------------------------------------------------- the view


def view_message(
    packed: Packed,
    overlays: Sequence[Overlay],
    *,
    key: str,
    alt: str,
    title: str,
    start_mm: Sequence[float] | None,
    regions: Sequence[Region],
    outlines: Sequence[tuple[Mapping[str, Any], bytes]],
    window: Preset,
) -> bytes:
    """Everything but the voxels. Raises ValueError when two overlays or masks share a name."""
    _distinct("overlays", [overlay.title for overlay in overlays])
    _distinct("masks", [described["name"] for described, _ in outlines])
    header = {
        "kind": "view",
        "key": key,
        "digest": packed.digest,
        "shape": packed.shape,
        "origin": packed.origin_mm,
        "spacing": packed.spacing_mm,
        "range": packed.range_hu,
        "thinning": thinning_text(packed.steps),
        "title": title,
        "alt": alt,
        "notice": theme.NOTICE,
        "start": None if start_mm is None else [float(x) for x in start_mm],
        "window": [window.level, window.width],
        "presets": [[p.name, p.level, p.width, p.note] for p in PRESETS],
        "overlays": [_described(overlay) for overlay in overlays],
        "regions": [
            {
                "name": region.name,
                "center": [float(x) for x in region.center_mm],
                "size": [float(x) for x in region.size_mm],
                "weight": float(region.weight),
            }
            for region in regions
        ],
        "masks": [described for described, _ in outlines],
    }
    blobs = [np.ascontiguousarray(overlay.values, "<f4").tobytes() for overlay in overlays]
    return frame(header, [*blobs, *(bits for _, bits in outlines)])


def _distinct(what: str, names: Sequence[str]) -> None:
    """The viewer finds them again by name after a rerun."""
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two {what} are called {min(twice)!r}; give each a name of its own")


def _described(overlay: Overlay) -> dict[str, Any]:
    back = np.linalg.inv(np.asarray(overlay.affine, np.float64))
    largest = float(np.abs(overlay.values).max())
    return {
        "title": overlay.title,
        "note": overlay.note,
        "signed": bool(overlay.signed),
        "shape": overlay.values.shape,
        "back": back[:3].ravel().tolist(),
        "limit": float(overlay.limit or largest),
        "largest": largest,
        "peak": overlay.peak_mm,
        "ends": overlay.ends,
    }


def _outline(
    mask: Mask, volume: Volume, steps: tuple[int, int, int]
) -> tuple[dict[str, Any], bytes]:
    """A mask's description and its bits inside its bounding box."""
    if mask.inside.shape != volume.array.shape:
        raise ValueError(
            f"mask {mask.name!r} is {mask.inside.shape}, the volume {volume.array.shape}"
        )
    build = functools.partial(_bits, mask.inside, steps)
    low, shape, bits = _remembered(mask.inside, ("mask", steps), build)
    described = {
        "name": mask.name,
        "colour": mask.colour,
        "shown": mask.shown,
        "low": low,
        "shape": shape,
    }
    return described, bits


def _bits(
    inside: npt.NDArray[np.bool_], steps: tuple[int, int, int]
) -> tuple[list[int], list[int], bytes]:
    """First voxel and shape of the bounding box, and its voxels as bits, first bit lowest."""
    for axis, step in enumerate(steps):
        inside = _any_near(inside, axis, step)
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not all(len(span) for span in spans):
        return [0, 0, 0], [0, 0, 0], b""
    low = [int(span[0]) for span in spans]
    high = [int(span[-1]) + 1 for span in spans]
    box = inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return low, list(box.shape), np.packbits(box.ravel(), bitorder="little").tobytes()


def _any_near(inside: npt.NDArray[np.bool_], axis: int, step: int) -> npt.NDArray[np.bool_]:
    """Kept voxels, true where any voxel nearest to them was: a small embolus must not vanish."""
    if step == 1:
        return inside
    n = inside.shape[axis]
    kept = -(-n // step)
    before = step // 2 - _first(n, step)
    front = np.moveaxis(inside, axis, 0)
    gathered = np.zeros((kept, *front.shape[1:]), bool)
    for index in range(n):
        gathered[min(max((index + before) // step, 0), kept - 1)] |= front[index]
    return np.moveaxis(gathered, 0, axis)


def frame(header: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    """One message: length of the header (4 bytes, little endian), the header as JSON, the blobs.

    Streamlit passes bytes to a component only as the whole of its data; in a dict they would
    arrive as text. The header's "blobs" lists where each lies, [start, bytes], from the first
    blob; each starts at a multiple of 8.
    """
    places, at = [], 0
    for blob in blobs:
        places.append([at, len(blob)])
        at += -(-len(blob) // _ALIGN) * _ALIGN
    text = json.dumps({**header, "blobs": places}, allow_nan=False).encode()
    parts = [struct.pack("<I", len(text)), text]
    for blob in blobs:
        parts += [blob, bytes(-len(blob) % _ALIGN)]
    return b"".join(parts)


def _picked(value: Any, digest: str) -> Triple | None:
    if not value or value.get("digest") != digest:
        return None
    x, y, z = value["mm"]
    return float(x), float(y), float(z)


def _nothing() -> None:
    """Streamlit tells a component's state only to those who give a callback."""


def _component() -> Any:
    return st.components.v2.component(
        "fusionlens_ct_viewer", html='<div class="ct"></div>', css=_STYLE, js=_SCRIPT
    )


# ---------------------------------------------------------------- memory

_memory: dict[tuple[int, Any], tuple[weakref.ref[Any], Any]] = {}


def _remembered(array: npt.NDArray[Any], what: Any, build: Callable[[], _Built]) -> _Built:
    """What was built from this array object, kept for as long as the array lives."""
    place = (id(array), what)
    found = _memory.get(place)
    if found is not None and found[0]() is array:
        return found[1]  # type: ignore[no-any-return]
    built = build()
    _memory[place] = (weakref.ref(array, lambda _: _memory.pop(place, None)), built)
    return built
