"""Where in a patient's videos a prediction comes from: maps over view, time and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from analysis.attribution.cam import CAMS
from analysis.attribution.case import AttributionError, Case, Subject
from analysis.attribution.explained import ExplainedInput, layer_cams, layers_of
from analysis.attribution.result import describe_target
from analysis.attribution.target import Target
from analysis.cohort.dataset import VideoReading
from models.contracts import Kind

METHODS: Mapping[str, str] = {
    "gradcam": "Grad-CAM",
    "gradcam_plus_plus": "Grad-CAM++",
    "hirescam": "HiResCAM",
}


@dataclass(frozen=True, eq=False)
class VideoMap:
    """A map over the views that the patient has.

    views: names of the V views that were recorded. values: (V, t, h, w) float32 >= 0, on one
    scale for all views. frames: frames of the video as read that one t covers; stride: frames of
    the file that one frame as read stands for. The picture is the centred square of the file's.
    """

    subject: Subject
    modality: str
    method: str
    layer: str
    target: Mapping[str, Any]
    views: tuple[str, ...]
    values: npt.NDArray[np.float32]
    frames: int
    stride: int
    whole: float
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or len(self.values) != len(self.views):
            raise ValueError(
                f"a map of {len(self.views)} views has as many blocks, got {self.values.shape}."
            )

    @property
    def is_empty(self) -> bool:
        """Whether the map is 0 everywhere."""
        return not self.values.any()

    @property
    def peak_view(self) -> str | None:
        """The view with the largest value; None where the map is empty."""
        if self.is_empty:
            return None
        return self.views[int(self.values.reshape(len(self.views), -1).max(axis=1).argmax())]

    def by_view(self) -> pd.DataFrame:
        """view, share: each view's part of the sum (0 to 1), largest first."""
        total = self.values.reshape(len(self.views), -1).sum(axis=1)
        share = total / total.sum() if total.sum() else total
        frame = pd.DataFrame({"view": list(self.views), "share": share.astype(np.float64)})
        return frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)

    def on(self, view: str, frames: int, size: int) -> npt.NDArray[np.float32]:
        """(F, size, size): a view's map on the first `frames` frames of its file, 0 after the
        last that the model saw; linear between the middles of cells.
        """
        cells = self.values[self.views.index(view)]
        t, h, w = cells.shape
        each = self.frames * self.stride
        time = (np.arange(frames) + 0.5) / each - 0.5
        rows = (np.arange(size) + 0.5) * h / size - 0.5
        columns = (np.arange(size) + 0.5) * w / size - 0.5
        grid = np.meshgrid(
            time.clip(0, t - 1), rows.clip(0, h - 1), columns.clip(0, w - 1), indexing="ij"
        )
        out = ndimage.map_coordinates(cells, grid, order=1, mode="nearest")
        out[np.arange(frames) >= t * each] = 0
        return np.asarray(out, np.float32)


def video_map(
    case: Case, modality: str, target: Target, method: str, layer: str | None = None
) -> VideoMap:
    """The map of one method at a layer (None: the last one).

    Raises AttributionError in one sentence on an unknown method or layer, a target of several
    numbers, or a patient without the videos.
    """
    known = list(layers_of(case, modality, Kind.VIDEO))
    chosen = [layer] if layer is not None else known[-1:]
    return next(iter(video_layer_maps(case, modality, target, (method,), chosen).values()))


def video_layer_maps(
    case: Case,
    modality: str,
    target: Target,
    methods: Sequence[str] = tuple(CAMS),
    layers: Sequence[str] | None = None,
) -> dict[tuple[str, str], VideoMap]:
    """{(method, layer): map}, all from one forward and one backward pass.

    A layer's activations are (views of the patient, C, t, h, w): views that are missing are not
    encoded, and channels are weighted view by view.
    """
    for method in methods:
        if method not in METHODS:
            raise AttributionError(
                f"there is no video method '{method}'; choose one of {', '.join(METHODS)}."
            )
    known = layers_of(case, modality, Kind.VIDEO)
    chosen = list(known) if layers is None else list(dict.fromkeys(layers))
    explained = ExplainedInput(case, modality, target, Kind.VIDEO)
    reading = case.reading(modality)
    assert isinstance(reading, VideoReading)
    there = case.raw(modality).fields["mask"][0].numpy()
    views = tuple(v for v, seen in zip(reading.views, there, strict=True) if seen)
    made = layer_cams(explained, methods, chosen)
    found = {}
    for (method, layer), grid in made.grids.items():
        if grid.ndim != 4 or len(grid) != len(views):
            raise AttributionError(
                f"a map over views needs activations ({len(views)}, C, t, h, w); those of "
                f"'{layer}' give {grid.shape}; choose another layer."
            )
        found[method, layer] = VideoMap(
            subject=case.subject,
            modality=modality,
            method=method,
            layer=layer,
            target=describe_target(target),
            views=views,
            values=grid,
            frames=-(-reading.frames // grid.shape[1]),
            stride=reading.stride,
            whole=explained.shown,
            parameters={"recomputed": made.value},
        )
    return found
