"""How an encoder wants its modality read."""

from __future__ import annotations

from typing import Any

from analysis.cohort.dataset import (
    BagReading,
    EventReading,
    Reading,
    SignalReading,
    TableReading,
    TextReading,
    VideoReading,
    VolumeReading,
)
from analysis.cohort.schema import CohortError
from models.contracts import Kind
from models.encoders.base import ModalityEncoder
from models.encoders.clmbr import CLMBR
from models.encoders.volume import CTResNet
from models.vocabulary import Vocabulary


def reading_for(encoder: ModalityEncoder, vocabulary: Vocabulary | None = None) -> Reading:
    """The reading that gives `encoder` what it was trained on.

    Raises CohortError for an events encoder without a vocabulary.
    """
    if isinstance(encoder, CTResNet):
        return VolumeReading(encoder.config.spacing_mm, encoder.config.shape)
    if encoder.kind is Kind.EVENTS:
        if vocabulary is None:
            raise CohortError("an events encoder needs the vocabulary it was trained with.")
        if isinstance(encoder, CLMBR):
            return EventReading(vocabulary, encoder.config.max_events)
        return EventReading(vocabulary)
    if encoder.kind is Kind.TABLE:
        return TableReading()
    # By what their configs say, not by class: every encoder of these kinds states how it reads.
    config: Any = encoder.config
    if encoder.kind is Kind.SIGNAL:
        return SignalReading(
            tuple(config.leads), config.rate_hz, config.seconds, _band(config.band_hz)
        )
    if encoder.kind is Kind.VIDEO:
        return VideoReading(tuple(config.views), config.frames, config.stride, config.size)
    if encoder.kind is Kind.TEXT:
        told: Any = encoder
        return TextReading(told.sentences)
    if encoder.kind is Kind.BAG:
        return BagReading()
    raise CohortError(f"{type(encoder).__name__}: no reading for the kind '{encoder.kind}'.")


def _band(band_hz: Any) -> tuple[float, float] | None:
    return None if band_hz is None else (float(band_hz[0]), float(band_hz[1]))
