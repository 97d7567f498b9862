"""How a modality is read for a model: one class a kind, with what the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.cohort.readers.echo_header import VIEWS
from analysis.cohort.readers.leads import LEADS
from models.contracts import Kind
from models.sentences import Sentences
from models.vocabulary import Vocabulary


@dataclass(frozen=True)
class VolumeReading:
    """Spacing in mm and shape in voxels along (D, H, W) that every volume is brought to."""

    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    kind: Kind = Kind.VOLUME


@dataclass(frozen=True)
class EventReading:
    """The latest `max_events` events at or before the index time, oldest first.

    Static events (no time) come first and stand as old as the oldest timed event kept (0 days
    where there is none); when room is short they get at most a quarter of it. Values are in the
    code's own unit; the encoder scales them by the vocabulary.
    """

    vocabulary: Vocabulary
    max_events: int = 512
    kind: Kind = Kind.EVENTS


@dataclass(frozen=True)
class TableReading:
    """All columns of the spec, in its order."""

    kind: Kind = Kind.TABLE


@dataclass(frozen=True)
class BagReading:
    """All instances of the bag."""

    kind: Kind = Kind.BAG


@dataclass(frozen=True)
class SignalReading:
    """The first `seconds` of an ECG: `leads` in this order, resampled to `rate_hz`.

    band_hz: band-pass in Hz, None for the signal as recorded (see `readers.signal.for_model`).
    """

    leads: tuple[str, ...] = LEADS
    rate_hz: float = 250.0
    seconds: float = 10.0
    band_hz: tuple[float, float] | None = (0.67, 40.0)
    kind: Kind = Kind.SIGNAL

    @property
    def samples(self) -> int:
        """Samples of a lead."""
        return round(self.rate_hz * self.seconds)


@dataclass(frozen=True)
class VideoReading:
    """Echo cines: `views` in this order, every `stride`-th frame from the first, `frames` in all.

    size: height and width in pixels that the centre square of the picture is brought to (see
    `readers.echo.for_model`).
    """

    views: tuple[str, ...] = VIEWS
    frames: int = 16
    stride: int = 2
    size: int = 112
    kind: Kind = Kind.VIDEO


@dataclass(frozen=True)
class TextReading:
    """A table told in sentences: the cohort holds a table, the model reads a text."""

    sentences: Sentences
    kind: Kind = Kind.TABLE


Reading = (
    VolumeReading
    | EventReading
    | TableReading
    | BagReading
    | SignalReading
    | VideoReading
    | TextReading
)
