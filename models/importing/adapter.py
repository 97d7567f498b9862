"""A network of one's own behind the contract of the fusion model.

The class is named by whoever starts the program (`--adapter package.module:Class`), never by a
file: a run folder or model.yaml that names a class which nobody named on the command line is
refused.
"""

from __future__ import annotations

import importlib
import re
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from models.contracts import Encoded, FusionOutput
from models.encoders.base import ENCODERS, ModalityEncoder
from models.fusion.base import (
    STRATEGIES,
    Combined,
    FusionConfig,
    FusionStrategy,
    Stream,
    StreamWidths,
)
from models.importing.pickles import CheckpointError

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class OwnNetwork(FusionStrategy):
    """A fusion that is one network, without the projections and the linear path of ours.

    A subclass makes its layers in `build` and says in `fuse` what they make of the encoded
    modalities. encoders: {name: class} of the encoders it comes with, for model.yaml. An absent
    modality has `present` false and its numbers are padding: `fuse` must not read them.
    """

    encoders: ClassVar[Mapping[str, type[ModalityEncoder]]] = {}
    min_modalities = 1
    takes_intercept = False

    def __init__(
        self, streams: Mapping[str, StreamWidths], outputs: int, config: FusionConfig
    ) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.modalities = tuple(streams)
        self.outputs = outputs
        self.project = nn.ModuleDict()
        self.linear = nn.ModuleDict()
        self.intercept = None
        self.build(streams)

    @abstractmethod
    def build(self, streams: Mapping[str, StreamWidths]) -> None:
        """Make the layers. streams: {modality: widths of its tokens and its summary}."""

    @abstractmethod
    def fuse(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        """What the network says of a batch; a survival prediction is a log-risk, higher worse."""

    def fit(self, encoded: Mapping[str, Encoded]) -> None:
        """Its scales came with its weights."""

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """It has no streams to combine. Raises TypeError."""
        raise TypeError("a network of one's own fuses as a whole")

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        """Fuse a batch of encoded modalities."""
        return self.fuse(encoded)


def load_adapter(name: str) -> type[FusionStrategy]:
    """Import `package.module:Class` and register it and its encoders under their names.

    The current folder is searched last. Raises CheckpointError in one sentence.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"--adapter '{name}': write it as package.module:Class.")
    if name in STRATEGIES:
        return STRATEGIES.get(name)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"--adapter '{name}': cannot be imported ({reason}).") from error
    if not (isinstance(found, type) and issubclass(found, FusionStrategy)):
        raise CheckpointError(
            f"--adapter '{name}': is not a FusionStrategy; derive it from OwnNetwork."
        )
    brought: Mapping[str, type[ModalityEncoder]] = getattr(found, "encoders", {})
    for encoder in brought:
        if encoder in ENCODERS and ENCODERS.get(encoder) is not brought[encoder]:
            raise CheckpointError(
                f"--adapter '{name}': there is an encoder '{encoder}' already; rename it."
            )
    for encoder, cls in brought.items():
        if encoder not in ENCODERS:
            ENCODERS.register(encoder)(cls)
    STRATEGIES.register(name)(found)
    return found
