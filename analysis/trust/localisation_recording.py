"""Does a map of an ECG or an echo show what really carries the outcome? Simulated cohorts only.

As for volumes (see `localisation`), two numbers beside chance, of the positive part of a map:

    energy     the share of the map's sum inside what carries the outcome. Chance is the share of
               it that an even map has: of the recorded time of all leads, or of the ultrasound
               sector over all views and frames.
    pointing   whether the strongest cell touches what carries the outcome. Chance is the share
               of all cells that do.

In an ECG the carriers are waves: spans of time, the same for every lead. In an echo they are
structures, whose masks are known in every frame. A told table has columns: its words are scored
like events, by `localisation.score_events`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import ndimage

from analysis.attribution.signal import SignalMap
from analysis.attribution.video import VideoMap
from analysis.cohort.dataset import VideoReading
from analysis.cohort.readers.echo import fitted, frame_numbers
from analysis.trust.localisation import EventScore, MapScore, score_events

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


# ---------------------------------------------------------------- signals


def covered(spans: npt.ArrayLike, steps: int, step_s: float) -> Floats:
    """(S,) share of each step, 0 to 1, that lies in spans (n, 2) of seconds; spans may overlap."""
    edges = np.arange(steps + 1) * step_s
    joined: list[list[float]] = []
    for start, end in sorted(np.asarray(spans, np.float64).reshape(-1, 2).tolist()):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    total = np.zeros(steps)
    for start, end in joined:
        total += np.clip(np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1]), 0, None)
    shares: Floats = np.clip(total / step_s, 0.0, 1.0)
    return shares


def recorded_share(mask: npt.ArrayLike, steps: int) -> Floats:
    """(L, S) share of each step that was recorded, of a mask (L, T) of samples."""
    there = np.asarray(mask, np.float64)
    until = np.concatenate([np.zeros((len(there), 1)), there.cumsum(axis=1)], axis=1)
    edges = np.linspace(0, there.shape[1], steps + 1)
    at = np.stack([np.interp(edges, np.arange(until.shape[1]), row) for row in until])
    shares: Floats = np.diff(at, axis=1) / (there.shape[1] / steps)
    return shares


def score_signal(found: SignalMap, spans: npt.ArrayLike, mask: npt.ArrayLike) -> MapScore:
    """Score a map against the waves that carry the outcome, spans (n, 2) in seconds.

    mask: (L, T) bool, the samples that were recorded. Raises ValueError where no recorded sample
    lies in a span.
    """
    heat = np.maximum(np.asarray(found.values, np.float64), 0.0)
    inside = covered(spans, heat.shape[1], found.step_s)
    recorded = recorded_share(mask, heat.shape[1])
    share = float((recorded * inside).sum() / recorded.sum()) if recorded.any() else 0.0
    if share <= 0:
        raise ValueError("no recorded sample lies in a wave that carries; leave the patient out.")
    touched = np.broadcast_to(inside > 0, heat.shape)
    chance = float(touched[recorded > 0].mean())
    total, top = float(heat.sum()), float(heat.max())
    if top <= 0:
        return MapScore(0.0, 0.0, share, chance, True)
    energy = float((heat * inside).sum()) / total
    return MapScore(float(touched[heat == top].mean()), energy, share, chance, False)


# ---------------------------------------------------------------- videos


def masks_as_read(
    masks: Mapping[str, Mapping[str, Mask]],
    structures: Collection[str],
    views: Sequence[str],
    reading: VideoReading,
) -> Mask:
    """(V, F, size, size) the union of some structures' masks, as the model reads the frames.

    Same frames, same centred square, same shrinking as the pictures; a pixel counts from half.
    A view without masks is all false.
    """
    size = reading.size
    out = np.zeros((len(views), reading.frames, size, size), bool)
    for at, view in enumerate(views):
        named = [mask for name, mask in masks.get(view, {}).items() if name in structures]
        if not named:
            continue
        union = np.logical_or.reduce(named)
        picked = union[frame_numbers(len(union), reading.frames, reading.stride)]
        shown = np.repeat(picked[..., None].astype(np.uint8) * 255, 3, axis=3)
        out[at] = fitted(shown, size)[0] >= 127.5
    return out


def sector_of(video: npt.ArrayLike) -> Mask:
    """(V, size, size) where a picture (V, 3, F, size, size) is ever brighter than black."""
    sector: Mask = np.asarray(video).max(axis=(1, 2)) > 0
    return sector


def on_frames(found: VideoMap, frames: int, size: int) -> npt.NDArray[np.float32]:
    """(V, frames, size, size) a map on the frames as read: `VideoMap.on` of every view at once."""
    steps = found.values.shape[1] * found.frames
    cells = torch.from_numpy(found.values)[None]
    dense = F.interpolate(cells, (steps, size, size), mode="trilinear", align_corners=False)
    values: npt.NDArray[np.float32] = dense[0, :, :frames].numpy()
    return values


def score_video(
    found: VideoMap, masks: Mask, sector: Mask, dense: npt.ArrayLike | None = None
) -> MapScore:
    """Score a map against masks (V, F, size, size) of the structures that carry the outcome.

    sector: (V, size, size). dense: the map by `on_frames`, if it was made already. The strongest
    cell is right when a mask lies within one cell of its middle during its frames. Raises
    ValueError where no mask lies in the sector.
    """
    visible = masks & sector[:, None]
    if not visible.any():
        raise ValueError("no structure that carries lies in the sector; leave the patient out.")
    frames, size = masks.shape[1], masks.shape[2]
    share = float(visible.sum() / (sector.sum() * frames))
    near, seen = _near(found, visible), _in_sector(found, sector)
    chance = float(near[seen].mean())
    heat = np.maximum(np.asarray(found.values, np.float64), 0.0)
    if heat.max() <= 0:
        return MapScore(0.0, 0.0, share, chance, True)
    spread = np.maximum(on_frames(found, frames, size) if dense is None else np.asarray(dense), 0)
    energy = float(spread[visible].sum(dtype=np.float64) / spread.sum(dtype=np.float64))
    return MapScore(float(near[heat == heat.max()].mean()), energy, share, chance, False)


def _near(found: VideoMap, masks: Mask) -> Mask:
    """(V, t, h, w) whether a mask lies within one cell of a cell's middle, during its frames."""
    _, t, h, w = found.values.shape
    size = masks.shape[2]
    reach = (1, 1, 2 * round(size / h) + 1, 2 * round(size / w) + 1)
    out = np.zeros(found.values.shape, bool)
    for step in range(t):
        during = masks[:, step * found.frames : (step + 1) * found.frames]
        ever = during.any(axis=1, keepdims=True)
        grown = ndimage.maximum_filter(ever, size=reach, mode="constant")
        out[:, step] = _at_middles(grown[:, 0], h, w)
    return out


def _in_sector(found: VideoMap, sector: Mask) -> Mask:
    _, t, h, w = found.values.shape
    return np.repeat(_at_middles(sector, h, w)[:, None], t, axis=1)


def _at_middles(pictures: Mask, h: int, w: int) -> Mask:
    """(V, h, w) what pictures (V, size, size) show at the middles of h x w cells."""
    size = pictures.shape[1]
    rows = ((np.arange(h) + 0.5) * size / h).astype(int)
    columns = ((np.arange(w) + 0.5) * size / w).astype(int)
    shown: Mask = pictures[:, rows][:, :, columns]
    return shown


# ---------------------------------------------------------------- told tables


def score_columns(
    parts: pd.DataFrame, shares: Floats, causes: Mapping[str, Collection[str]]
) -> EventScore:
    """Score shares (P,) of a table's words or columns, `parts` with `name` (of the column).

    As `score_events`, a column for a code: |sum of the shares| of its words ranks the columns.
    causes: {column: terms of the formula that read it}.
    """
    return score_events(pd.DataFrame({"code": parts["name"].astype(str)}), shares, causes)
