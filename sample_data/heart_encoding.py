"""The frozen ECG and echo encoders as a sink for simulated records, so that training patients
need no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from analysis.cohort.dataset import SignalReading, VideoReading
from analysis.cohort.readers import echo as echo_reader
from analysis.cohort.readers import signal as signal_reader
from analysis.cohort.readings import reading_for
from analysis.features import FeatureWriter, feature_path
from models.checkpoint import load_encoder
from models.contracts import Encoded, Kind, Layout, ModalityInput
from models.encoders.base import ModalityEncoder
from models.runtime import keep_large_blocks
from sample_data.ecg_signal import Signal as Tracing
from sample_data.echo_loop import Loop
from sample_data.heart import ECG_RATE_HZ, LEADS
from sample_data.heart_cohort import HeartWritten, Recording, SinkFactory
from sample_data.heart_patients import ECG, ECHO

# Files keep 5 uV steps; a record that never becomes a file is rounded alike.
_STEPS_PER_MV = 200.0


def heart_sink(hashes: Mapping[str, str], store: Path) -> SinkFactory:
    """A picklable factory of sinks. hashes: {ECG: encoder hash, ECHO: encoder hash}."""
    return partial(_start, dict(hashes), store)


def _start(hashes: Mapping[str, str], store: Path) -> _Sink:
    # Each worker process encodes beside others.
    torch.set_num_threads(1)
    keep_large_blocks()
    return _Sink({name: load_encoder(key, [store]).encoder for name, key in hashes.items()})


class _Sink:
    def __init__(self, encoders: Mapping[str, ModalityEncoder]) -> None:
        self.encoders = encoders

    def __call__(self, recordings: Sequence[Recording]) -> Mapping[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        with torch.inference_mode():
            # One patient at a time: an echo is 26 MB as it is read.
            encoded = [
                {ECG: self._ecg(recording.ecg), ECHO: self._echo(recording.loops)}
                for recording in recordings
            ]
        for name in (ECG, ECHO):
            parts = [item[name].at_stored_precision() for item in encoded]
            for field in ("tokens", "mask", "pooled", "present"):
                rows = torch.cat([getattr(part, field) for part in parts]).numpy()
                found[f"{name}/{field}"] = (
                    rows.astype(np.float16) if rows.dtype.kind == "f" else rows
                )
        return found

    def _ecg(self, array: Tracing | None) -> Encoded:
        encoder = self.encoders[ECG]
        return encoder(ecg_input(encoder, array))

    def _echo(self, loops: Mapping[str, Loop]) -> Encoded:
        encoder = self.encoders[ECHO]
        return encoder(echo_input(encoder, {view: loop.frames for view, loop in loops.items()}))


def ecg_input(encoder: ModalityEncoder, array: np.ndarray | None) -> ModalityInput:
    """A rendered ECG (12, 5000) mV, or None, as the encoder reads it from a file."""
    reading = reading_for(encoder)
    assert isinstance(reading, SignalReading)
    shape = (1, len(reading.leads), round(reading.rate_hz * reading.seconds))
    if array is None:
        fields = {"signal": torch.zeros(shape), "mask": torch.zeros(shape, dtype=torch.bool)}
        return ModalityInput(Kind.SIGNAL, fields, torch.zeros(1, dtype=torch.bool))
    stored = (np.round(array * _STEPS_PER_MV) / _STEPS_PER_MV).astype(np.float32)
    signal = signal_reader.Signal(LEADS, stored, ECG_RATE_HZ, None, LEADS)
    read, mask = signal_reader.for_model(
        signal, reading.leads, reading.rate_hz, reading.seconds, reading.band_hz
    )
    fields = {"signal": torch.from_numpy(read)[None], "mask": torch.from_numpy(mask)[None]}
    return ModalityInput(Kind.SIGNAL, fields, torch.ones(1, dtype=torch.bool))


def echo_input(encoder: ModalityEncoder, loops: Mapping[str, np.ndarray]) -> ModalityInput:
    """Rendered loops (F, size, size, 3) by view as the encoder reads them from files."""
    reading = reading_for(encoder)
    assert isinstance(reading, VideoReading)
    video = torch.zeros(1, len(reading.views), 3, reading.frames, reading.size, reading.size)
    mask = torch.zeros(1, len(reading.views), dtype=torch.bool)
    for at, view in enumerate(reading.views):
        if view in loops:
            frames = loops[view]
            numbers = echo_reader.frame_numbers(len(frames), reading.frames, reading.stride)
            video[0, at] = torch.from_numpy(echo_reader.fitted(frames[numbers], reading.size))
            mask[0, at] = True
    return ModalityInput(Kind.VIDEO, {"video": video, "mask": mask}, mask.any(dim=1))


def write_heart_features(
    folder: Path, written: HeartWritten, hashes: Mapping[str, str], store: Path
) -> None:
    """Store what the sinks returned as the cohort's ECG and echo features."""
    for name, key in hashes.items():
        layout = _layout(load_encoder(key, [store]).encoder)
        part = {
            field: torch.from_numpy(written.sink_arrays[f"{name}/{field}"])
            for field in ("tokens", "mask", "pooled", "present")
        }
        writer = FeatureWriter(name, key)
        writer.add(
            written.sink_subjects.tolist(),
            Encoded(
                tokens=part["tokens"].float(),
                mask=part["mask"],
                pooled=part["pooled"].float(),
                present=part["present"],
                layout=layout,
            ),
        )
        writer.write(feature_path(folder, name, key))


def _layout(encoder: ModalityEncoder) -> Layout:
    empty = ecg_input(encoder, None) if encoder.kind is Kind.SIGNAL else echo_input(encoder, {})
    with torch.inference_mode():
        return encoder(empty).layout
