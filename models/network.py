"""The fusion model: encoders, one fusion strategy, and the line between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import Self

import torch
from torch import nn

from models.contracts import Encoded, FusionOutput, Inputs, ModalityInput
from models.encoders.base import ModalityEncoder
from models.fusion.base import FusionStrategy, StreamWidths


class FusionModel(nn.Module):
    """`forward(x) = fuse(encode(x))`.

    The two halves are separate so that explaining one modality re-runs its encoder and the
    fusion only. A frozen encoder takes no gradient from the parameters and stays in eval mode,
    whatever mode the model is in; a gradient to its input passes in eval mode.
    """

    def __init__(
        self,
        encoders: Mapping[str, ModalityEncoder],
        strategy: FusionStrategy,
        frozen: Collection[str] = (),
    ) -> None:
        super().__init__()
        if tuple(encoders) != strategy.modalities:
            raise ValueError(
                f"encoders are for {', '.join(encoders)}, the strategy fuses "
                f"{', '.join(strategy.modalities)}; give both the same modalities in one order."
            )
        self.encoders = nn.ModuleDict(dict(encoders))
        self.strategy = strategy
        self.frozen = frozenset(frozen)
        for name in self.frozen:
            self.encoders[name].requires_grad_(False)
        self.train(False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, in the order of the strategy."""
        return self.strategy.modalities

    def encoder(self, name: str) -> ModalityEncoder:
        """The encoder of a modality."""
        encoder = self.encoders[name]
        assert isinstance(encoder, ModalityEncoder)
        return encoder

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the frozen encoders."""
        super().train(mode)
        for name in self.frozen:
            self.encoders[name].eval()
        return self

    def encode(self, inputs: Inputs) -> dict[str, Encoded]:
        """Encode every modality of the model; what is already encoded passes through.

        Raises KeyError when a modality is not given at all (an absent one is given, with
        present == False).
        """
        encoded = {}
        for name in self.modalities:
            if name not in inputs:
                raise KeyError(
                    f"modality '{name}' was not given; the model reads "
                    f"{', '.join(self.modalities)}. Mark it absent instead of leaving it out."
                )
            item = inputs[name]
            if isinstance(item, ModalityInput):
                item = self.encode_modality(name, item)
            encoded[name] = item
        return encoded

    def encode_modality(self, name: str, item: ModalityInput) -> Encoded:
        """Encode one modality, exactly as `encode` does."""
        quiet = name in self.frozen and self.training
        with torch.no_grad() if quiet else nullcontext():
            encoded = self.encoder(name)(item)
        return encoded.at_stored_precision() if name in self.frozen else encoded

    def fuse(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        """What the strategy says of encoded modalities."""
        output: FusionOutput = self.strategy(encoded)
        return output

    def forward(self, inputs: Inputs) -> FusionOutput:
        """Encode and fuse."""
        return self.fuse(self.encode(inputs))


def stream_widths(encoders: Mapping[str, ModalityEncoder]) -> dict[str, StreamWidths]:
    """The widths that a strategy has to be built for."""
    return {
        name: StreamWidths(encoder.token_width, encoder.pooled_width, encoder.kind)
        for name, encoder in encoders.items()
    }
