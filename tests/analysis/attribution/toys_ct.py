"""CT models small enough to be solved by hand, and cohorts of given scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.attribution.case import Case, open_case
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortSpec, ModalitySpec, Provenance, TaskSpec, write_spec
from analysis.cohort.write import write_imaging, write_outcomes, write_subjects
from models.checkpoint import Run
from models.contracts import Encoded, FusionOutput, Kind, ModalityInput, VoxelGrid
from models.encoders.base import EncoderConfig, ModalityEncoder
from models.encoders.volume import CTResNet, CTResNetConfig
from models.network import FusionModel

ZERO = pd.Timestamp("2020-06-01 12:00:00")


class GridConfig(EncoderConfig):
    shape: tuple[int, int, int] = (4, 4, 4)
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0)


class OneConv(CTResNet):
    """Channel c of cell v is scales[c] times the mean HU of v's 2 x 2 x 2 voxels.

    The summary is each channel's mean over cells after an in-place ReLU (or none). A CTResNet by
    name only, so that cohorts are read for it.
    """

    map_layers: ClassVar[Mapping[str, str]] = {"conv": "the convolution"}

    def __init__(
        self, scales: Sequence[float] = (1.0,), relu: bool = True, **grid: tuple[Any, ...]
    ) -> None:
        ModalityEncoder.__init__(self, GridConfig(**grid))
        self.conv = nn.Conv3d(1, len(scales), 2, stride=2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(scales).view(-1, 1, 1, 1, 1) / 8)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.token_width = self.pooled_width = len(scales)

    def forward(self, inputs: ModalityInput) -> Encoded:
        cells = self.act(self.conv(inputs.fields["volume"]))
        tokens = cells.flatten(2).transpose(1, 2)
        keep = inputs.present[:, None]
        mm = tuple(2 * x for x in self.config.spacing_mm)
        layout = VoxelGrid(tuple(cells.shape[2:]), mm)
        mask = keep.expand(-1, tokens.shape[1])
        return Encoded(tokens, mask, tokens.mean(1) * keep, inputs.present, layout)


class Weigh(nn.Module):
    """Prediction = weights . summary of the CT, `+ 0` where there is no weight."""

    modalities = ("ct",)

    def __init__(self, weights: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        pooled = encoded["ct"].pooled
        return FusionOutput((pooled @ self.weights)[:, None], {}, {}, pooled)


class Ignore(Weigh):
    """Prediction = 7, whatever is given."""

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        pooled = encoded["ct"].pooled
        return FusionOutput(torch.full((len(pooled), 1), 7.0), {}, {}, pooled)


def run_of(encoder: ModalityEncoder, strategy: nn.Module, *, frozen: bool = False) -> Run:
    """A run as it is after loading, with just the part of its config that a case reads."""
    model = FusionModel({"ct": encoder}, strategy, ("ct",) if frozen else ())  # type: ignore[arg-type]
    model.requires_grad_(False).eval()
    entry = SimpleNamespace(frozen=frozen, weights=None)
    modality = SimpleNamespace(kind=encoder.kind, encoder=entry)
    config: Any = SimpleNamespace(name="toy", modalities={"ct": modality})
    return Run(Path(), config, model, {}, "0" * 16)


def cohort_of(folder: Path, files: Mapping[int, str]) -> Cohort:
    """A cohort of CTs: {subject_id: file or DICOM folder, relative to `folder`}."""
    ids = sorted(files)
    subjects = {"subject_id": ids, "split": "internal", "index_time": ZERO}
    write_subjects(folder, pd.DataFrame(subjects))
    outcome = {"subject_id": ids, "task": "death", "time_days": 10.0, "event": 1}
    write_outcomes(folder, pd.DataFrame(outcome))
    imaging = {"modality": "ct", "subject_id": ids, "path": [files[i] for i in ids]}
    write_imaging(folder, pd.DataFrame({**imaging, "acquired": ZERO}))
    ct = ModalitySpec(kind=Kind.VOLUME, title="CT", path="imaging.parquet")
    task = TaskSpec(kind="survival", title="Death")
    source = Provenance(source="test")
    write_spec(
        CohortSpec(
            name="toy", title="Toy", modalities={"ct": ct}, tasks={"death": task}, provenance=source
        ),
        folder,
    )
    return Cohort.open(folder)


def case_of(folder: Path, run: Run, array: np.ndarray) -> Case:
    """Patient 1 with one scan (D, H, W), on the run's own grid."""
    spacing = run.model.encoder("ct").config.spacing_mm  # type: ignore[attr-defined]
    affine = np.diag([*spacing[::-1], 1.0])
    nib.save(nib.Nifti1Image(array.T.astype(np.float32), affine), folder / "1.nii.gz")
    return open_case(run, cohort_of(folder, {1: "1.nii.gz"}), 1)


def two_cells() -> np.ndarray:
    """(4, 4, 4) HU: 0, but 10 in the first and -4 in the last 2 x 2 x 2 cell."""
    array = np.zeros((4, 4, 4))
    array[:2, :2, :2] = 10
    array[2:, 2:, 2:] = -4
    return array


def solved() -> Run:
    """With `two_cells`, cell by cell: activations 20 and -10 in the first, -8 and 4 in the last;
    gradients 3/8 and 0 in the first, 0 and 5/8 in the last. The prediction is 10."""
    return run_of(OneConv((2.0, -1.0)), Weigh((3.0, 5.0)))


def small_resnet(seed: int = 0) -> CTResNet:
    """The real encoder, narrow, with random weights, for (16, 32, 32) voxels."""
    config = CTResNetConfig(
        shape=(16, 32, 32), stage_widths=(4, 6, 8, 8), token_width=16, token_grid=(2, 2, 2)
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CTResNet(config)
    # Readings on both sides of 0, so that no layer's map is empty.
    nn.init.constant_(net.lesions.bias, 0.3)  # type: ignore[arg-type]
    return net


def resnet_run(seed: int = 0, *, frozen: bool = False) -> Run:
    encoder = small_resnet(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(encoder.pooled_width, generator=generator)
    return run_of(encoder, Weigh(weights), frozen=frozen)


def noise(seed: int, shape: tuple[int, int, int] = (16, 32, 32)) -> np.ndarray:
    return np.random.default_rng(seed).normal(-300, 400, shape).clip(-1000, 400)
