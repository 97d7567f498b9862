"""Single frames of an echo loop beside the same frames under a map: for reports and for print.

Colours and their fading are those of the loops in the browser (static/echo_cine.js).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from analysis.attribution.video import VideoMap
from analysis.cohort.readers.echo import Cine, centre_square
from analysis.echo import TRUTH, CycleMarks
from app.figures import map_bar

OPACITY, THRESHOLD, FULL = 0.55, 0.15, 0.5
_SIDE = 264  # pixels of the longer side: 36 mm of paper at 186 pixels an inch
_QUALITY = 85
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FramePair:
    """A frame and what the model made of it. jpeg, overlaid: JPEG files of one size; overlaid is
    None where the model did not read the frame or the map is 0 there. number: from 1. moment:
    'end-diastole', 'first frame'. read: whether the model read the frame.
    """

    jpeg: bytes
    overlaid: bytes | None
    number: int
    frames: int
    time_ms: float
    moment: str
    read: bool


def frames_of(cine: Cine, marks: CycleMarks) -> dict[int, str]:
    """{frame: moment}: end-diastole and end-systole where known, else the first and the middle."""
    moments: dict[int, str] = {}
    if marks.ed:
        said = " (simulation's truth)" if marks.ed_from == TRUTH else ""
        moments[marks.ed[0]] = f"end-diastole{said}"
    if marks.es:
        said = " (simulation's truth)" if marks.es_from == TRUTH else ""
        moments.setdefault(marks.es[0], f"end-systole{said}")
    if not moments:
        moments[0] = "first frame"
    if len(moments) < 2:
        moments.setdefault(len(cine.frames) // 2, "middle frame")
    return moments


def frame_pairs(
    view: str, cine: Cine, marks: CycleMarks, found: VideoMap | None
) -> list[FramePair]:
    """The frames of `frames_of`. found: None where there is no map of the view."""
    pairs = []
    for at, moment in frames_of(cine, marks).items():
        plain = _sized(cine.frames[at])
        over = None if found is None else _overlaid(cine.frames[at], view, at, found)
        pairs.append(
            FramePair(
                jpeg=_jpeg(plain),
                overlaid=None if over is None else _jpeg(over),
                number=at + 1,
                frames=len(cine.frames),
                time_ms=float(cine.frame_times_ms[at]),
                moment=moment,
                read=found is not None and at < _frames_read(found),
            )
        )
    return pairs


def legend(found: VideoMap, ends: tuple[str, str]) -> str:
    """The colours as SVG of true size, over the grey of muscle."""
    bar = map_bar.bar_svg(
        map_bar.ON_FRAMES,
        float(found.values.max()),
        ends,
        signed=False,
        opacity=OPACITY,
        threshold=THRESHOLD,
        full=FULL,
        ground=90,
    )
    return (
        '<svg class="bar" width="92mm" height="9mm" viewBox="-100 -50 9200 900" '
        f'font-family="Arial, Helvetica, sans-serif" font-size="300">{bar}</svg>'
    )


def _frames_read(found: VideoMap) -> int:
    """Frames of the file from the first one on that the map covers."""
    return found.values.shape[1] * found.frames * found.stride


def _sized(frame: Pixels) -> Pixels:
    high, wide = frame.shape[:2]
    scale = _SIDE / max(high, wide)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=how), np.uint8)


def _overlaid(frame: Pixels, view: str, at: int, found: VideoMap) -> Pixels | None:
    """The frame under the map's colours; None where there are none in it."""
    limit = float(found.values.max())
    if view not in found.views or at >= _frames_read(found) or not limit:
        return None
    picture = _sized(frame)
    scale = picture.shape[0] / frame.shape[0]
    top, left, side = (round(n * scale) for n in centre_square(*frame.shape[:2]))
    shares = found.on(view, at + 1, side)[at] / limit
    alpha = map_bar.opacities(shares, False, OPACITY, THRESHOLD, FULL)[..., None]
    if not alpha.any():
        return None
    square = picture[top : top + side, left : left + side]
    high, wide = square.shape[:2]  # rounding may leave a pixel at the border
    colour = map_bar.colours(map_bar.ON_FRAMES, shares)[:high, :wide]
    alpha = alpha[:high, :wide]
    out = picture.copy()
    out[top : top + side, left : left + side] = np.rint(square * (1 - alpha) + colour * alpha)
    return out


def _jpeg(picture: Pixels) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), settings)
    if not done:
        raise RuntimeError("the frame could not be written as JPEG")
    return bytes(data.tobytes())
