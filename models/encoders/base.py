"""What every encoder shares: a pydantic config, a registry name, and a hash of its weights."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.contracts import Encoded, Kind, ModalityInput
from models.registry import Registry


class EncoderConfig(BaseModel):
    """Facts of an encoder that are needed to rebuild it before its weights are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalityEncoder(nn.Module, ABC):
    """Turns one modality's raw tensors into tokens, a summary and their layout.

    A subclass sets `kind` and `Config`, and in its constructor `token_width` and
    `pooled_width`. `fit` may take statistics (means, scales) from the training patients;
    `pooled_is_fixed` says that the summary depends on nothing else, however long one trains.
    `map_layers` names the layers of a volume encoder at which a class activation map makes sense,
    shallow to deep: {module path: title}. See also `SummaryOfTokens`.
    """

    kind: ClassVar[Kind]
    pooled_is_fixed: ClassVar[bool] = False
    map_layers: ClassVar[Mapping[str, str]] = {}
    Config: ClassVar[type[EncoderConfig]] = EncoderConfig
    token_width: int
    pooled_width: int

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, inputs: ModalityInput) -> Encoded:
        """Encode one modality of a batch of patients."""

    def fit(self, inputs: ModalityInput) -> None:
        """Take statistics from the training patients; nothing by default."""

    def __call__(self, inputs: ModalityInput) -> Encoded:
        """Encode one modality of a batch; refuses a modality of another kind."""
        if inputs.kind is not self.kind:
            raise ValueError(
                f"{type(self).__name__} reads a modality of kind '{self.kind}', "
                f"not '{inputs.kind}'."
            )
        return cast(Encoded, super().__call__(inputs))


class SummaryOfTokens(ABC):
    """Added to an encoder whose summary is made of its tokens alone.

    An explanation can then leave tokens out without encoding again.
    """

    @abstractmethod
    def summarise(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, P) summary of the tokens (B, N, T) where `mask` (B, N), as `forward` makes it."""


ENCODERS: Registry[ModalityEncoder] = Registry("encoder")


def build_encoder(name: str, config: dict[str, object]) -> ModalityEncoder:
    """An encoder with fresh weights from its registered name and config."""
    cls = ENCODERS.get(name)
    return cls(cls.Config.model_validate(config))


def weights_hash(state: dict[str, Tensor]) -> str:
    """16 hex digits over names, shapes, types and bytes of a state dict, order-free."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
