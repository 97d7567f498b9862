"""Where in a volume a prediction comes from: the public entry to all volume methods.

The encoder of the volume and the fusion are run again, the patient's other modalities are not;
the number explained is the one that the app shows, and a result is refused when it is not.

Cell i of a map of stride s (voxels of the encoder's grid a cell, by axis) covers the voxels
[s i, s (i + 1)) of that grid; its centre is voxel s i + (s - 1) / 2. The scan's affine takes it
from there to RAS mm, so a map lies in the patient whatever crop, spacing or orientation was read.
What a cell looks at need not be centred on it: strided convolutions of kernel 3 and padding 1
look about voxel s i, up to (s - 1) / 2 voxels towards the feet, back and left. In CTResNet that
is felt from stage 2 to 4 and not in the fine features, which are trained against cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analysis.attribution.cam import CAMS
from analysis.attribution.capture import evaluating
from analysis.attribution.case import AttributionError, Case
from analysis.attribution.explained import ExplainedInput, layer_cams
from analysis.attribution.explained import layers_of as explained_layers
from analysis.attribution.input_maps import (
    InputMap,
    baseline_volume,
    integrated_gradients,
    occlusion,
)
from analysis.attribution.result import VolumeMap, describe_target
from analysis.attribution.target import Target
from models.contracts import Kind


@dataclass(frozen=True)
class VolumeMethod:
    """A volume method: what it is, where it is from, and its parameters with their defaults.

    signed: positive raises and negative lowers the explained number; else maps are >= 0 and show
    what raises it. needs_layer: it is taken at one of the encoder's layers.
    """

    name: str
    title: str
    citation: str
    signed: bool
    needs_layer: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)


METHODS: Mapping[str, VolumeMethod] = {
    method.name: method
    for method in (
        VolumeMethod("gradcam", "Grad-CAM", "Selvaraju et al., ICCV 2017", False, True),
        VolumeMethod(
            "gradcam_plus_plus", "Grad-CAM++", "Chattopadhay et al., WACV 2018", False, True
        ),
        VolumeMethod("hirescam", "HiResCAM", "Draelos & Carin, arXiv:2011.08891", False, True),
        VolumeMethod(
            "integrated_gradients",
            "Integrated gradients",
            "Sundararajan et al., ICML 2017",
            True,
            False,
            {"baseline": "blurred", "blur_mm": 15.0, "steps": 32, "batch": 4},
        ),
        VolumeMethod(
            "occlusion",
            "Occlusion",
            "Zeiler & Fergus, ECCV 2014",
            True,
            False,
            {"baseline": "blurred", "blur_mm": 15.0, "block_mm": 40.0, "batch": 8},
        ),
    )
}


def layers_of(case: Case, modality: str) -> dict[str, str]:
    """{module path: title} of the layers a map can be taken at, shallow to deep.

    Raises AttributionError when the modality is not a volume of this run.
    """
    return explained_layers(case, modality, Kind.VOLUME)


def volume_map(
    case: Case,
    modality: str,
    target: Target,
    method: str,
    layer: str | None = None,
    *,
    seed: int = 0,
    **parameters: Any,
) -> VolumeMap:
    """The map of one method; `layer` is for layer methods only, None is the last one.

    parameters: those of `METHODS[method].defaults`, lengths in mm. seed is kept with the result;
    no method here draws at random. Raises AttributionError in one sentence on an unknown method,
    layer or parameter, a target of several numbers, or a patient without the scan.
    """
    spec = _method(method)
    settings = _settings(spec, parameters)
    if spec.needs_layer:
        chosen = [layer] if layer is not None else list(layers_of(case, modality))[-1:]
        made = next(iter(layer_maps(case, modality, target, (method,), chosen).values()))
    elif layer is not None:
        raise AttributionError(
            f"{spec.title} explains the volume itself; leave the layer '{layer}' out."
        )
    else:
        made = _input_map(case, modality, target, spec, settings)
    return replace(made, parameters={"seed": seed, **made.parameters})


def layer_maps(
    case: Case,
    modality: str,
    target: Target,
    methods: Sequence[str] = tuple(CAMS),
    layers: Sequence[str] | None = None,
) -> dict[tuple[str, str], VolumeMap]:
    """{(method, layer): map} of layer methods, all from one forward and one backward pass.

    layers: None is all of `layers_of`. Raises AttributionError as `volume_map` does.
    """
    known = layers_of(case, modality)
    chosen = list(known) if layers is None else list(dict.fromkeys(layers))
    for method in methods:
        if not _method(method).needs_layer:
            raise AttributionError(f"{METHODS[method].title} has no layers; use volume_map.")
    explained = _ExplainedScan(case, modality, target)
    made = layer_cams(explained, methods, chosen)
    for grid in made.grids.values():
        if grid.ndim != 4:
            raise AttributionError(
                f"a map needs activations (1, C, d, h, w), this layer's maps are {grid.shape}; "
                "choose another layer."
            )
    return {
        (method, layer): explained.result(METHODS[method], layer, grid[0], made.value)
        for (method, layer), grid in made.grids.items()
    }


def _input_map(
    case: Case, modality: str, target: Target, spec: VolumeMethod, settings: Mapping[str, Any]
) -> VolumeMap:
    explained = _ExplainedScan(case, modality, target)
    with evaluating(case.model), torch.inference_mode(False), torch.enable_grad():
        volume = explained.input()
        with torch.no_grad():
            value = explained(volume)
        explained.check(value)
        spacing = explained.scan.spacing_mm
        baseline = baseline_volume(volume, spacing, settings["baseline"], settings["blur_mm"])
        if spec.name == "occlusion":
            size = [max(1, round(settings["block_mm"] / step)) for step in spacing]
            block = (size[0], size[1], size[2])
            made = occlusion(explained, volume, baseline, block=block, batch=settings["batch"])
            stride = np.asarray(block, float)
        else:
            steps, batch = settings["steps"], settings["batch"]
            made = integrated_gradients(explained, volume, baseline, steps=steps, batch=batch)
            stride = np.ones(3)
    return explained.result(spec, None, made, float(value[0]), stride, settings)


class _ExplainedScan(ExplainedInput):
    """The explained number of a patient as a function of volumes (B, 1, D, H, W) in HU -> (B,)."""

    def __init__(self, case: Case, modality: str, target: Target) -> None:
        super().__init__(case, modality, target, Kind.VOLUME)
        self.scan = case.scan(modality)

    def result(
        self,
        method: VolumeMethod,
        layer: str | None,
        made: InputMap | npt.NDArray[np.float32],
        value: float,
        stride: npt.NDArray[np.float64] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> VolumeMap:
        """A map on cells of `stride` voxels by axis; None: the cells fill the volume."""
        whole = made if isinstance(made, InputMap) else None
        grid = made.values if isinstance(made, InputMap) else made
        if stride is None:
            stride = np.asarray(self.scan.array.shape) / np.asarray(grid.shape)
        more = {} if whole is None else {"evaluations": whole.evaluations}
        return VolumeMap(
            subject=self.case.subject,
            modality=self.modality,
            method=method.name,
            layer=layer,
            target=describe_target(self.target),
            values=np.ascontiguousarray(grid, np.float32),
            affine=cell_affine(self.scan.affine, stride),
            signed=method.signed,
            whole=self.shown,
            reference=None if whole is None else whole.reference,
            gap=None if whole is None else whole.gap,
            parameters={**(settings or {}), **more, "recomputed": value},
        )


def cell_affine(affine: npt.NDArray[np.float64], stride: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(4, 4) from cells (w, h, d, 1) to RAS mm.

    affine: of the volume that is cut into cells of `stride` (D, H, W) voxels.
    """
    steps = np.asarray(stride, np.float64)[::-1]
    cells = np.diag([*steps, 1.0])
    cells[:3, 3] = (steps - 1) / 2
    return np.asarray(affine @ cells)


def _method(name: str) -> VolumeMethod:
    if name not in METHODS:
        raise AttributionError(
            f"there is no volume method '{name}'; choose one of {', '.join(METHODS)}."
        )
    return METHODS[name]


def _settings(spec: VolumeMethod, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The method's parameters with what is asked for in place of the defaults."""
    for name, value in parameters.items():
        if name not in spec.defaults:
            known = ", ".join(spec.defaults) or "none"
            raise AttributionError(f"{spec.title} has no parameter '{name}'; it takes {known}.")
        wanted = type(spec.defaults[name])
        if wanted is not str and not (np.isreal(value) and value > 0 and wanted(value) == value):
            kind = "whole number above 0" if wanted is int else "number above 0"
            raise AttributionError(f"{spec.title}: {name} is {value!r}; give a {kind}.")
    return {**spec.defaults, **parameters}
