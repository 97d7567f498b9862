"""ECG and echo models small enough to be solved by hand, and a patient with one of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis.attribution.case import Case, open_case
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortSpec, ModalitySpec, Provenance, TaskSpec, write_spec
from analysis.cohort.write import (
    write_cine,
    write_imaging,
    write_outcomes,
    write_signal,
    write_subjects,
)
from models.checkpoint import Run
from models.contracts import Encoded, FusionOutput, Kind, LeadTimeGrid, ModalityInput, ViewGrid
from models.encoders.base import EncoderConfig, ModalityEncoder
from models.network import FusionModel

ZERO = pd.Timestamp("2020-06-01 12:00:00")
LEADS = ("I", "II", "V1")
VIEWS = ("A4C", "A2C")


class ECGConfig(EncoderConfig):
    leads: tuple[str, ...] = LEADS
    rate_hz: float = 10.0
    seconds: float = 4.0
    band_hz: tuple[float, float] | None = None


class OneConv(ModalityEncoder):
    """Channel 0 of lead l, step s is the lead's mean over half a second, after a ReLU; the summary
    is each lead's mean over its steps."""

    kind = Kind.SIGNAL
    Config = ECGConfig
    map_layers: ClassVar[Mapping[str, str]] = {"act": "the convolution"}

    def __init__(self) -> None:
        super().__init__(ECGConfig())
        self.conv = nn.Conv2d(1, 1, (1, 5), stride=(1, 5), bias=False)
        nn.init.constant_(self.conv.weight, 0.2)
        self.act = nn.ReLU()
        self.token_width, self.pooled_width = 1, len(LEADS)

    def forward(self, inputs: ModalityInput) -> Encoded:
        mask = inputs.fields["mask"]
        cells = self.act(self.conv((inputs.fields["signal"] * mask)[:, None]))
        tokens = cells.flatten(2).transpose(1, 2)
        there = mask.any(dim=2).repeat_interleave(cells.shape[3], dim=1)
        layout = LeadTimeGrid(LEADS, cells.shape[3], 0.5)
        return Encoded(tokens, there, cells.mean(3)[:, 0], inputs.present, layout)


class EchoConfig(EncoderConfig):
    views: tuple[str, ...] = VIEWS
    frames: int = 4
    stride: int = 2
    size: int = 8


class OneBlock(ModalityEncoder):
    """Per recorded view: red channel averaged over blocks of 2 frames x 4 x 4 pixels."""

    kind = Kind.VIDEO
    Config = EchoConfig
    map_layers: ClassVar[Mapping[str, str]] = {"act": "the blocks"}

    def __init__(self) -> None:
        super().__init__(EchoConfig())
        self.blocks = nn.AvgPool3d((2, 4, 4))
        self.act = nn.ReLU()
        self.token_width, self.pooled_width = 1, len(VIEWS)

    def forward(self, inputs: ModalityInput) -> Encoded:
        there = inputs.fields["mask"] & inputs.present[:, None]
        seen = inputs.fields["video"][there][:, :1]
        cells = self.act(self.blocks(seen))
        tokens = torch.zeros(*there.shape, 8)
        tokens[there] = cells.flatten(1)
        return Encoded(
            tokens.flatten(1)[..., None],
            there.repeat_interleave(8, dim=1),
            tokens.mean(2),
            inputs.present,
            ViewGrid(VIEWS, (2, 2, 2), 2),
        )


class Weigh(nn.Module):
    """Prediction = weights . summaries, absent modalities left out."""

    def __init__(self, **weights: Sequence[float]) -> None:
        super().__init__()
        self.modalities = tuple(weights)
        self.weights = {name: torch.tensor(w, dtype=torch.float32) for name, w in weights.items()}

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        terms = [
            (encoded[n].pooled * encoded[n].present[:, None]) @ w for n, w in self.weights.items()
        ]
        risk = torch.stack(terms).sum(0)[:, None]
        return FusionOutput(risk, {}, {}, risk)


def run_of(**weights: Sequence[float]) -> Run:
    """A run over ecg and/or echo: its prediction is the weighted sum of their summaries."""
    kinds: dict[str, ModalityEncoder] = {"ecg": OneConv(), "echo": OneBlock()}
    encoders = {name: kinds[name] for name in weights}
    model = FusionModel(encoders, Weigh(**weights))  # type: ignore[arg-type]
    model.requires_grad_(False).eval()
    modalities = {
        name: SimpleNamespace(
            kind=encoder.kind, title=name, encoder=SimpleNamespace(frozen=False, weights=None)
        )
        for name, encoder in encoders.items()
    }
    config: Any = SimpleNamespace(name="toy", modalities=modalities)
    return Run(Path(), config, model, {}, "0" * 16)


def ecg() -> np.ndarray:
    """(3, 40) mV at 10 Hz: lead I is 1 in its first second, II is 2 in its last half second."""
    signal = np.zeros((3, 40), np.float32)
    signal[0, :10] = 1.0
    signal[1, 35:] = 2.0
    signal[2, 20:25] = -1.0
    return signal


def loop(bright: tuple[int, int, int]) -> np.ndarray:
    """(8, 64, 64, 3): 200 in one block of 4 frames x 32 x 32 pixels, else 0."""
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    t, y, x = bright
    frames[4 * t : 4 * t + 4, 32 * y : 32 * y + 32, 32 * x : 32 * x + 32] = 200
    return frames


def cohort_of(folder: Path, signal: np.ndarray | None, loops: Mapping[str, np.ndarray]) -> Cohort:
    """One patient with these recordings, as files."""
    write_subjects(
        folder, pd.DataFrame({"subject_id": [1], "split": "internal", "index_time": ZERO})
    )
    write_outcomes(
        folder, pd.DataFrame({"subject_id": [1], "task": "death", "time_days": 10.0, "event": 1})
    )
    rows = []
    if signal is not None:
        write_signal(folder / "ecg" / "1.hea", signal, LEADS, 10.0)
        rows.append(("ecg", "ecg/1.hea", None))
    for view, frames in loops.items():
        path = f"echo/1_{view}.dcm"
        write_cine(folder / path, frames, 40.0, 1.0, view, ("1", "study"))
        rows.append(("echo", path, view))
    table = pd.DataFrame(rows, columns=["modality", "path", "view"])
    write_imaging(folder, table.assign(subject_id=1, acquired=ZERO))
    modality = {
        "ecg": ModalitySpec(kind=Kind.SIGNAL, title="ECG", path="imaging.parquet", unit="mV"),
        "echo": ModalitySpec(kind=Kind.VIDEO, title="Echo", path="imaging.parquet"),
    }
    write_spec(
        CohortSpec(
            name="toy",
            title="Toy",
            modalities=modality,
            tasks={"death": TaskSpec(kind="survival", title="Death")},
            provenance=Provenance(source="test"),
        ),
        folder,
    )
    return Cohort.open(folder)


def case_of(
    folder: Path,
    run: Run,
    signal: np.ndarray | None = None,
    loops: Mapping[str, np.ndarray] | None = None,
) -> Case:
    """Patient 1 as the run sees them."""
    return open_case(run, cohort_of(folder, signal, loops or {}), 1)
