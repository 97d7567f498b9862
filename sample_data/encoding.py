"""The frozen CT encoder as a sink for simulated scans, so that no training scan needs a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from analysis.cohort.readers.volume import to_grid
from analysis.features import FeatureWriter, feature_path
from models.checkpoint import load_encoder
from models.contracts import Encoded, Kind, ModalityInput, VoxelGrid
from models.encoders.volume import CTResNet
from models.runtime import keep_large_blocks
from sample_data.cohorts import CT, Scan, SinkFactory, Written


def ct_encoder(encoder_hash: str, store: Path) -> CTResNet:
    """The frozen CT encoder of that hash."""
    encoder = load_encoder(encoder_hash, [store]).encoder
    if not isinstance(encoder, CTResNet):
        raise TypeError(f"encoder {encoder_hash} is a {type(encoder).__name__}, not a CTResNet")
    return encoder


def _start(encoder_hash: str, store: Path) -> Callable[[Sequence[Scan]], Mapping[str, np.ndarray]]:
    """Runs once in each worker: a sink that encodes scans with one thread."""
    keep_large_blocks()
    torch.set_num_threads(1)
    encoder = ct_encoder(encoder_hash, store)

    def encode(scans: Sequence[Scan]) -> Mapping[str, np.ndarray]:
        grids = [as_encoder_reads(scan, encoder) for scan in scans]
        parts = []
        # Small batches stay in the cache; more is slower on a CPU.
        for start in range(0, len(grids), 4):
            volume = torch.from_numpy(np.stack(grids[start : start + 4]))[:, None]
            present = torch.ones(len(volume), dtype=torch.bool)
            with torch.inference_mode():
                encoded = encoder(ModalityInput(Kind.VOLUME, {"volume": volume}, present))
            parts.append(encoded.at_stored_precision())
        return {
            "tokens": torch.cat([part.tokens for part in parts]).half().numpy(),
            "pooled": torch.cat([part.pooled for part in parts]).half().numpy(),
        }

    return encode


def as_encoder_reads(scan: Scan, encoder: CTResNet) -> np.ndarray:
    """(D, H, W) float32: the scan on the encoder's grid, as the volume reader gives it."""
    array = np.maximum(scan.volume.astype(np.float32), np.float32(-1024))
    spacing, shape = encoder.config.spacing_mm, encoder.config.shape
    own = spacing if np.allclose(scan.spacing_mm, spacing, rtol=1e-4) else scan.spacing_mm
    grid, _ = to_grid(array, own, spacing, shape)
    return np.ascontiguousarray(grid, np.float32)


def ct_sink(encoder_hash: str, store: Path) -> SinkFactory:
    """A picklable factory of CT-encoding sinks."""
    return partial(_start, encoder_hash, store)


def write_ct_features(folder: Path, written: Written, encoder_hash: str, layout: VoxelGrid) -> None:
    """Store what the sinks returned as the cohort's CT features."""
    tokens = torch.from_numpy(written.sink_arrays["tokens"]).float()
    n = len(tokens)
    writer = FeatureWriter(CT, encoder_hash)
    writer.add(
        written.sink_subjects.tolist(),
        Encoded(
            tokens=tokens,
            mask=torch.ones(tokens.shape[:2], dtype=torch.bool),
            pooled=torch.from_numpy(written.sink_arrays["pooled"]).float(),
            present=torch.ones(n, dtype=torch.bool),
            layout=layout,
        ),
    )
    writer.write(feature_path(folder, CT, encoder_hash))


def token_layout(encoder: CTResNet) -> VoxelGrid:
    """The encoder's token grid."""
    config = encoder.config
    empty = torch.zeros(1, 1, *config.shape)
    absent = torch.zeros(1, dtype=torch.bool)
    with torch.inference_mode():
        layout = encoder(ModalityInput(Kind.VOLUME, {"volume": empty}, absent)).layout
    assert isinstance(layout, VoxelGrid)
    return layout
