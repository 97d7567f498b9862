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
from torch import Tensor

from analysis.attribution.cam import CAMS, zeros_like_map
from analysis.attribution.capture import capture, evaluating
from analysis.attribution.case import AttributionError, Case
from analysis.attribution.input_maps import (
    InputMap,
    baseline_volume,
    integrated_gradients,
    occlusion,
)
from analysis.attribution.result import VolumeMap, describe_target
from analysis.attribution.target import Target
from models.contracts import Encoded, Kind, ModalityInput

# Stored features and a fresh encoding differ by float rounding only, far below this.
SAME_NUMBER = 1e-4


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
    if case.kind(modality) is not Kind.VOLUME:
        raise AttributionError(
            f"'{modality}' is of kind '{case.kind(modality)}'; volume maps explain volumes."
        )
    return dict(case.model.encoder(modality).map_layers)


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
    for layer in chosen:
        if layer not in known:
            raise AttributionError(
                f"the encoder of '{modality}' has no layer '{layer}' for maps; choose one of "
                f"{', '.join(known)}."
            )
    explained = _Explained(case, modality, target)
    with evaluating(case.model), capture(case.model.encoder(modality), chosen) as seen:
        value = explained(explained.volume())
        lacking = [layer for layer in chosen if layer not in seen]
        if lacking:
            raise AttributionError(f"layer '{lacking[0]}' does not run when a scan is encoded.")
        explained.check(value)
        gradients = _gradients(value, [seen[layer] for layer in chosen])
        grids = {
            (method, layer): _cam(method, seen[layer].detach(), gradient)
            for layer, gradient in zip(chosen, gradients, strict=True)
            for method in methods
        }
    return {
        (method, layer): explained.result(METHODS[method], layer, grid, value)
        for (method, layer), grid in grids.items()
    }


def _gradients(value: Tensor, activations: list[Tensor]) -> Sequence[Tensor | None]:
    # A strategy may not read the modality at all: then there is no graph, and no gradient.
    if not value.requires_grad or not activations:
        return [None] * len(activations)
    return torch.autograd.grad(value.sum(), activations, allow_unused=True)


def _cam(method: str, A: Tensor, G: Tensor | None) -> npt.NDArray[np.float32]:
    if A.ndim != 5:
        raise AttributionError(
            f"a map needs activations (1, C, d, h, w), this layer gives {tuple(A.shape)}; choose "
            "another layer."
        )
    cam = zeros_like_map(A) if G is None else CAMS[method](A, G)
    return np.asarray(cam[0].float().numpy())


def _input_map(
    case: Case, modality: str, target: Target, spec: VolumeMethod, settings: Mapping[str, Any]
) -> VolumeMap:
    explained = _Explained(case, modality, target)
    with evaluating(case.model), torch.inference_mode(False), torch.enable_grad():
        volume = explained.volume()
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
    return explained.result(spec, None, made, value, stride, settings)


class _Explained:
    """The explained number of a patient as a function of volumes (B, 1, D, H, W) in HU -> (B,)."""

    def __init__(self, case: Case, modality: str, target: Target) -> None:
        layers_of(case, modality)  # refuses what is not a volume
        self.case, self.modality, self.target = case, modality, target
        self.scan = case.scan(modality)
        shown = case.value(target)
        if len(shown) != 1:
            raise AttributionError(
                f"a volume map explains one number, but '{target.title}' is {len(shown)}; choose "
                "one horizon."
            )
        self.shown = shown[0]

    def volume(self) -> Tensor:
        """(1, 1, D, H, W) HU. A copy, since the case may have read it in inference mode."""
        return self.case.raw(self.modality).fields["volume"].clone()

    def __call__(self, volumes: Tensor) -> Tensor:
        rows = torch.ones(len(volumes), dtype=torch.bool)
        item = ModalityInput(Kind.VOLUME, {"volume": volumes}, rows)
        encoded = self.case.model.encoder(self.modality)(item)
        if self.modality in self.case.model.frozen:
            encoded = _at_stored_precision(encoded)
        prediction = self.case.fuse(**{self.modality: encoded}).prediction
        return self.target(prediction)[:, 0]

    def check(self, value: Tensor) -> None:
        """Raises AttributionError when the number of the scan is not the one that is shown."""
        found = float(value.detach()[0])
        if not abs(found - self.shown) <= SAME_NUMBER * max(1.0, abs(self.shown)):
            raise AttributionError(
                f"patient {self.case.subject_id}: the scan gives {found:.6g} where "
                f"{self.shown:.6g} is shown, so the stored features of '{self.modality}' are not "
                "of this scan; compute them again."
            )

    def result(
        self,
        method: VolumeMethod,
        layer: str | None,
        made: InputMap | npt.NDArray[np.float32],
        value: Tensor,
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
            parameters={**(settings or {}), **more, "recomputed": float(value.detach()[0])},
        )


def cell_affine(affine: npt.NDArray[np.float64], stride: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(4, 4) from cells (w, h, d, 1) to RAS mm.

    affine: of the volume that is cut into cells of `stride` (D, H, W) voxels.
    """
    steps = np.asarray(stride, np.float64)[::-1]
    cells = np.diag([*steps, 1.0])
    cells[:3, 3] = (steps - 1) / 2
    return np.asarray(affine @ cells)


def _at_stored_precision(encoded: Encoded) -> Encoded:
    """`Encoded.at_stored_precision`, number for number, with gradients passing unrounded.

    Through the cast itself a gradient would be rounded to half precision on its way back, and
    vanish below 6e-8.
    """
    stored = encoded.at_stored_precision()

    def through(exact: Tensor, rounded: Tensor) -> Tensor:
        return exact + (rounded - exact).detach()

    return replace(
        stored,
        tokens=through(encoded.tokens, stored.tokens),
        pooled=through(encoded.pooled, stored.pooled),
    )


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
