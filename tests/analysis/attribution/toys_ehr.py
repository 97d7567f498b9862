"""A patient with events, labs, tiles and a CT, and models small enough for brute force."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import factorial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.attribution.case import Case, open_case
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import fit_vocabulary
from analysis.cohort.schema import (
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import (
    write_bag,
    write_meds,
    write_outcomes,
    write_subjects,
    write_table,
)
from models.contracts import Encoded, FusionOutput, Kind, ModalityInput, VoxelGrid
from models.encoders.bag import GatedAttentionMIL, GatedAttentionMILConfig
from models.encoders.base import ModalityEncoder
from models.encoders.clmbr import CLMBR, CLMBRConfig
from models.encoders.counts import CodeCounts, CodeCountsConfig
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.encoders.volume import CTResNet, CTResNetConfig
from models.fusion.base import STRATEGIES
from models.network import FusionModel, stream_widths

ZERO = pd.Timestamp("2020-06-01 12:00:00")
LABS = {
    "troponin": Column(unit="ng/L", title="Troponin"),
    "age": Column(unit="years", title="Age"),
    "stage": Column(kind="nominal", categories=("I", "II", "III"), title="Stage"),
}
CODES = pd.DataFrame(
    {
        "code": ["ICD10CM/I50.9", "ICD10CM/I50", "LOINC/NA", "RxNorm/1", "Visit/IP"],
        "description": ["Heart failure", "Heart failure, any", "Sodium", "", "Inpatient"],
        "parent_codes": [["ICD10CM/I50"], [], [], [], []],
        "unit": ["", "", "mmol/L", "", ""],
    }
)
# Days before the index time, code, value. None: a static fact.
EVENTS: list[tuple[float | None, str, float | None]] = [
    (None, "RACE/X", None),
    (7300.0, "MEDS_BIRTH", None),
    (400.0, "ICD10CM/I50.9", None),
    (400.0, "LOINC/NA", 131.0),
    (399.9, "RxNorm/1", None),
    (30.0, "Visit/IP", None),
    (29.9, "LOINC/NA", 139.0),
    (29.5, "ICD10CM/I50.9", None),
    (0.5, "LOINC/NA", 128.0),
]


def write_cohort(folder: Path, events: Sequence[tuple] = EVENTS, patients: int = 12) -> Cohort:
    """Patient 1 has the given events; the others some of them. Patient 12 has none."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    ids = np.arange(1, patients + 1)
    write_subjects(
        folder,
        pd.DataFrame({"subject_id": ids, "split": "train", "site": "A", "index_time": ZERO}),
    )
    write_outcomes(
        folder,
        pd.DataFrame({"subject_id": ids, "task": "death", "time_days": ids * 30.0, "event": 1}),
    )
    rows = []
    for subject in ids[:-1]:
        for day, code, value in events:
            if subject == 1 or rng.random() < 0.6:
                time = pd.NaT if day is None else ZERO - pd.Timedelta(days=day)
                shifted = None if value is None else value + (subject != 1) * rng.normal()
                rows.append((subject, time, code, shifted))
    frame = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
    write_meds(folder / "ehr", frame, CODES)
    labs = pd.DataFrame(
        {
            "subject_id": ids,
            "troponin": 20 + 5 * rng.normal(size=patients),
            "age": 60 + 9 * rng.normal(size=patients),
            "stage": rng.choice(["I", "II", "III"], patients),
        }
    )
    write_table(folder / "labs.parquet", labs, LABS)
    tiles = [
        {"subject_id": s, "instance": f"t{i}", "features": rng.normal(size=3)}
        for s in ids
        for i in range(4)
    ]
    write_bag(folder / "tiles.parquet", pd.DataFrame(tiles))
    modalities = {
        "ehr": ModalitySpec(kind=Kind.EVENTS, title="EHR", path="ehr"),
        "labs": ModalitySpec(kind=Kind.TABLE, title="Labs", path="labs.parquet", columns=LABS),
        "tiles": ModalitySpec(kind=Kind.BAG, title="Tiles", path="tiles.parquet", feature_width=3),
    }
    write_spec(
        CohortSpec(
            name="toys",
            title="Toys",
            modalities=modalities,
            tasks={"death": TaskSpec(kind="survival", title="Death")},
            provenance=Provenance(source="made for tests", simulated=True),
        ),
        folder,
    )
    return Cohort.open(folder)


def encoder_for(name: str, cohort: Cohort, events: str = "onehot") -> ModalityEncoder:
    """A fitted encoder of one modality of the cohort, with random weights."""
    vocabulary = fit_vocabulary(cohort, "ehr", cohort.subjects.index)
    if name == "labs":
        columns = tuple(
            TableColumn(name=n, kind=c.kind, n_categories=len(c.categories))
            for n, c in LABS.items()
        )
        return TableEncoder(TableConfig(columns=columns, token_width=6))
    if name == "tiles":
        return GatedAttentionMIL(GatedAttentionMILConfig(feature_width=3, token_width=6))
    if events == "onehot":
        birth = vocabulary.index.get("MEDS_BIRTH")
        config = CodeCountsConfig(vocabulary_size=vocabulary.size, birth_id=birth, token_width=6)
        return CodeCounts(config)
    encoder = CLMBR(CLMBRConfig(vocabulary_size=vocabulary.size, token_width=8, n_heads=2))
    encoder.set_value_scale(
        torch.tensor([0.0, 0.0, *vocabulary.value_mean]),
        torch.tensor([1.0, 1.0, *vocabulary.value_sd]),
    )
    return encoder


def run_of(
    cohort: Cohort, encoders: Mapping[str, ModalityEncoder], strategy: nn.Module
) -> SimpleNamespace:
    """A run as cases read it."""
    model = FusionModel(encoders, strategy)
    model.requires_grad_(False)
    model.eval()
    entries = {
        n: SimpleNamespace(
            kind=e.kind, title=n, encoder=SimpleNamespace(frozen=False, weights=None)
        )
        for n, e in encoders.items()
    }
    vocabulary = fit_vocabulary(cohort, "ehr", cohort.subjects.index)
    return SimpleNamespace(
        model=model,
        config=SimpleNamespace(name="toy", modalities=entries, task=SimpleNamespace(name="death")),
        vocabularies={"ehr": vocabulary},
        hash="0" * 16,
    )


def fused_case(
    cohort: Cohort,
    strategy: str,
    modalities: Sequence[str] = ("ehr", "labs", "tiles"),
    events: str = "onehot",
    subject: int = 1,
) -> Case:
    """Patient 1 with a real strategy whose random weights make it anything but additive."""
    torch.manual_seed(3)
    encoders = {name: encoder_for(name, cohort, events) for name in modalities}
    cls = STRATEGIES.get(strategy)
    fusion = cls(stream_widths(encoders), 1, cls.Config(width=8, heads=2))
    for parameter in fusion.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            nn.init.normal_(parameter, std=0.4)
    run = run_of(cohort, encoders, fusion)
    with torch.no_grad():
        from analysis.cohort.dataset import CohortDataset, all_inputs
        from analysis.cohort.readings import reading_for

        readings = {n: reading_for(e, run.vocabularies.get(n)) for n, e in encoders.items()}
        batch = all_inputs(CohortDataset(cohort, cohort.subjects.index, readings)).inputs
        for name, encoder in encoders.items():
            encoder.fit(batch[name])
        fusion.fit(run.model.encode(batch))
    return open_case(run, cohort, subject)


class Linear(nn.Module):
    """Prediction = weights . summary of one modality; 0 where it is absent."""

    def __init__(self, modality: str, weights: Tensor) -> None:
        super().__init__()
        self.modalities = (modality,)
        self.weights = nn.Parameter(weights)

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        item = encoded[self.modalities[0]]
        pooled = item.pooled * item.present[:, None]
        return FusionOutput((pooled @ self.weights)[:, None], {}, {}, pooled)


def linear_case(cohort: Cohort, modality: str, weights: Callable[[ModalityEncoder], Tensor]):
    """Patient 1 with a model that is linear in one modality's summary."""
    torch.manual_seed(0)
    encoder = encoder_for(modality, cohort)
    if modality == "labs":
        from analysis.cohort.dataset import CohortDataset, TableReading, all_inputs

        everyone = CohortDataset(cohort, cohort.subjects.index, {"labs": TableReading()})
        encoder.fit(all_inputs(everyone).inputs["labs"])
    run = run_of(cohort, {modality: encoder}, Linear(modality, weights(encoder)))
    return open_case(run, cohort, 1)


def ct_case(strategy: str = "unimodal", kept: bool = True) -> Case:
    """A CT of 16 x 32 x 32 voxels on a 1 x 2 x 2 token grid, encoded by a frozen CTResNet."""
    torch.manual_seed(0)
    config = CTResNetConfig(
        shape=(32, 32, 32), token_grid=(4, 2, 2), stage_widths=(8, 8, 8, 8), token_width=16
    )
    encoders = {"ct": CTResNet(config)}
    cls = STRATEGIES.get(strategy)
    fusion = cls(stream_widths(encoders), 1, cls.Config(width=8, heads=2))
    for parameter in fusion.parameters():
        if parameter.ndim == 2 and parameter.abs().max() < 0.1:
            nn.init.normal_(parameter, std=0.4)
    model = FusionModel(encoders, fusion, frozen=["ct"] if kept else [])
    model.requires_grad_(False)
    volume = torch.randn(1, 1, 32, 32, 32) * 300
    here = torch.ones(1, dtype=torch.bool)
    with torch.no_grad():
        encoded = model.encode({"ct": ModalityInput(Kind.VOLUME, {"volume": volume}, here)})
    assert isinstance(encoded["ct"].layout, VoxelGrid)
    entry = SimpleNamespace(kind=Kind.VOLUME, title="CT", encoder=SimpleNamespace())
    run = SimpleNamespace(
        model=model,
        config=SimpleNamespace(name="toy", modalities={"ct": entry}),
        vocabularies={},
        hash="0" * 16,
    )
    cohort = SimpleNamespace(
        spec=SimpleNamespace(name="toys"), fingerprint="f" * 16, volumes=lambda name: {}
    )
    return Case(run, cohort, 1, encoded)


def brute_force(value: Callable[[frozenset], np.ndarray], players: Sequence) -> dict:
    """Shapley values of a set function by its definition: {player: (T,)}."""
    n = len(players)
    shares = {}
    for player in players:
        rest = [p for p in players if p != player]
        total = 0.0
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for chosen in combinations(rest, size):
                s = frozenset(chosen)
                total = total + weight * (value(s | {player}) - value(s))
        shares[player] = total
    return shares


class SetGame:
    """A value function given as f(mask (P,) bool) -> number(s)."""

    def __init__(self, p: int, f: Callable[[np.ndarray], float | np.ndarray]) -> None:
        self.n_parts, self.f, self.evaluations = p, f, 0

    def __call__(self, masks):
        masks = np.asarray(masks, bool)
        self.evaluations += len(masks)
        return np.array([np.atleast_1d(self.f(m)) for m in masks], float)
