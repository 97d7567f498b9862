"""One modality alone: the baseline that fusion has to beat."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.fusion.base import (
    STRATEGIES,
    Alignment,
    Combined,
    FusionConfig,
    FusionStrategy,
    Head,
    Stream,
)
from models.fusion.base import StreamWidths as Widths


@STRATEGIES.register("unimodal")
class Unimodal(FusionStrategy):
    """A head on one modality's summary (the unimodal baselines of Zhang et al. 2026).

    A patient without the modality gets the prediction of the learnt absent vector, the same
    for all such patients: an honest tie, not a guess.
    """

    title = "Single modality"
    min_modalities = 1

    def __init__(self, streams: Mapping[str, Widths], outputs: int, config: FusionConfig) -> None:
        super().__init__(streams, outputs, config)
        if len(streams) != 1:
            raise ValueError(f"strategy 'unimodal' reads one modality, got {', '.join(streams)}.")
        self.head = Head(config.width, config.width, outputs, config.dropout)

    def alignment(self) -> Alignment:
        """Nothing to align with."""
        return Alignment(
            "there is no embedding after alignment: one modality has nothing to be aligned with."
        )

    def combine(self, streams: Mapping[str, Stream], linear: Mapping[str, Tensor]) -> Combined:
        """The modality's own head."""
        (stream,) = streams.values()
        return Combined(prediction=self.head(stream.summary), after={}, fused=stream.summary)
