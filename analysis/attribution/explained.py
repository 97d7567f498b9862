"""The explained number as a function of one modality's raw input, and maps at an encoder's layers.

The encoder of the modality and the fusion are run again, the patient's other modalities are not;
the number explained is the one that the app shows, and a result is refused when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.attribution.cam import CAMS, zeros_like_map
from analysis.attribution.capture import capture, evaluating
from analysis.attribution.case import AttributionError, Case
from analysis.attribution.target import Target
from models.contracts import Encoded, Kind, ModalityInput

# Features are stored in half precision, 11 bits: where the last bits of a fresh encoding round the
# other way, a number of the summary differs by 5e-4 of itself; the prediction was seen to move by
# 2e-4. Another scan moves it by hundredths.
SAME_NUMBER = 1e-3
# What the encoder reads, by kind: the field that a map explains.
FIELD = {Kind.VOLUME: "volume", Kind.SIGNAL: "signal", Kind.VIDEO: "video"}


def layers_of(case: Case, modality: str, kind: Kind) -> dict[str, str]:
    """{module path: title} of the layers a map can be taken at, shallow to deep.

    Raises AttributionError when the run reads the modality as another kind.
    """
    if case.kind(modality) is not kind:
        raise AttributionError(
            f"'{modality}' is of kind '{case.kind(modality)}'; {kind} maps explain {kind}s."
        )
    return dict(case.model.encoder(modality).map_layers)


class ExplainedInput:
    """The explained number of a patient as a function of inputs (B, ...) -> (B,)."""

    def __init__(self, case: Case, modality: str, target: Target, kind: Kind) -> None:
        layers_of(case, modality, kind)  # refuses what is of another kind
        self.case, self.modality, self.target, self.kind = case, modality, target, kind
        shown = case.value(target)
        if len(shown) != 1:
            raise AttributionError(
                f"a {kind} map explains one number, but '{target.title}' is {len(shown)}; choose "
                "one horizon."
            )
        self.shown = shown[0]
        self.field = FIELD[kind]
        fields = case.raw(modality).fields
        self._beside = {name: x for name, x in fields.items() if name != self.field}

    def input(self) -> Tensor:
        """The patient's own input (1, ...). A copy, since it may have been read in inference
        mode.
        """
        return self.case.raw(self.modality).fields[self.field].clone()

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (B, ...) in place of the patient's own -> the explained number (B,)."""
        rows = len(x)
        fields = {name: v.clone().expand(rows, *v.shape[1:]) for name, v in self._beside.items()}
        item = ModalityInput(
            self.kind, {**fields, self.field: x}, torch.ones(rows, dtype=torch.bool)
        )
        encoded = self.case.model.encoder(self.modality)(item)
        if self.modality in self.case.model.frozen:
            encoded = _at_stored_precision(encoded)
        prediction = self.case.fuse(**{self.modality: encoded}).prediction
        return self.target(prediction)[:, 0]

    def check(self, value: Tensor) -> None:
        """Raises AttributionError when the number of the input is not the one that is shown."""
        found = float(value.detach()[0])
        if not abs(found - self.shown) <= SAME_NUMBER * max(1.0, abs(self.shown)):
            raise AttributionError(
                f"patient {self.case.subject_id}: the {_WORD[self.kind]} gives {found:.6g} where "
                f"{self.shown:.6g} is shown, so the stored features of '{self.modality}' are not "
                f"of this {_WORD[self.kind]}; compute them again."
            )


_WORD = {Kind.VOLUME: "scan", Kind.SIGNAL: "signal", Kind.VIDEO: "video"}


@dataclass(frozen=True)
class LayerMaps:
    """grids: {(method, layer): float32 array, one row of the layer's activation after the other}.

    value: the number of the fresh encoding.
    """

    grids: Mapping[tuple[str, str], npt.NDArray[np.float32]]
    value: float


def layer_cams(
    explained: ExplainedInput, methods: Sequence[str], layers: Sequence[str]
) -> LayerMaps:
    """Class activation maps at several layers, all from one forward and one backward pass.

    Raises AttributionError for a layer that the encoder does not have or does not run.
    """
    case, modality = explained.case, explained.modality
    known = case.model.encoder(modality).map_layers
    for layer in layers:
        if layer not in known:
            raise AttributionError(
                f"the encoder of '{modality}' has no layer '{layer}' for maps; choose one of "
                f"{', '.join(known)}."
            )
    with evaluating(case.model), capture(case.model.encoder(modality), layers) as seen:
        value = explained(explained.input())
        lacking = [layer for layer in layers if layer not in seen]
        if lacking:
            raise AttributionError(
                f"layer '{lacking[0]}' does not run when a {_WORD[explained.kind]} is encoded."
            )
        explained.check(value)
        gradients = _gradients(value, [seen[layer] for layer in layers])
        grids = {
            (method, layer): _cam(method, seen[layer].detach(), gradient)
            for layer, gradient in zip(layers, gradients, strict=True)
            for method in methods
        }
    return LayerMaps(grids, float(value.detach()[0]))


def _gradients(value: Tensor, activations: list[Tensor]) -> Sequence[Tensor | None]:
    # A strategy may not read the modality at all: then there is no graph, and no gradient.
    if not value.requires_grad or not activations:
        return [None] * len(activations)
    return torch.autograd.grad(value.sum(), activations, allow_unused=True)


def _cam(method: str, A: Tensor, G: Tensor | None) -> npt.NDArray[np.float32]:
    cam = zeros_like_map(A) if G is None else CAMS[method](A, G)
    return np.ascontiguousarray(cam.float().cpu().numpy())


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
