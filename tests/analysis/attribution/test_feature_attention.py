"""Mean attention between a strategy's features, against weights that a toy was told to give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis.attribution.case import open_case
from analysis.attribution.feature_attention import FeatureAttention, by_outcome, feature_attention
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import (
    CohortSpec,
    Column,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import write_outcomes, write_subjects, write_table
from analysis.store import ResultStore
from models.checkpoint import Run
from models.contracts import AttentionMap, Columns, Encoded, FusionOutput, Kind, ModalityInput
from models.encoders.base import EncoderConfig, ModalityEncoder
from models.network import FusionModel
from tests.analysis.classification.toys import train, write_cohort

CLASSES = ("healthy", "failing")
# How much a patient's feature keeps for itself in the first head; who has labs and ECG; outcome.
KEEPS = {1: 0.2, 2: 0.6, 3: 0.5, 4: 1.0, 5: 0.4, 6: 0.9}
NO_ECG, NO_LABS = (3,), (6,)
LABEL = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1}


class Value(ModalityEncoder):
    """A table's only value, as it is."""

    kind = Kind.TABLE

    def __init__(self) -> None:
        super().__init__(EncoderConfig())
        self.token_width = self.pooled_width = 1

    def forward(self, inputs: ModalityInput) -> Encoded:
        value = inputs.fields["values"]
        layout = Columns(("keep",))
        return Encoded(value[..., None], inputs.fields["mask"], value, inputs.present, layout)


class Looks(nn.Module):
    """Three features: labs, ECG, both. In head 0 a feature looks at itself with the patient's
    number and at the others that are there alike with the rest; in head 1 at itself only.
    """

    feature_names = ("labs", "ecg", "labs + ecg")
    modalities = ("labs", "ecg")

    def __init__(self, maps: bool = True) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, encoded: Mapping[str, Encoded]) -> FusionOutput:
        labs, ecg = encoded["labs"], encoded["ecg"]
        there = torch.stack([labs.present, ecg.present, labs.present & ecg.present], dim=1)
        keep = torch.where(labs.present, labs.pooled[:, 0], ecg.pooled[:, 0])
        own = torch.eye(3)[None] * there[:, :, None]
        others = (1 - torch.eye(3))[None] * (there[:, :, None] & there[:, None, :])
        spread = others / others.sum(dim=2, keepdim=True).clamp(min=1)
        alone = others.sum(dim=2, keepdim=True) == 0
        share = keep[:, None, None]
        first = torch.where(alone, own, share * own + (1 - share) * spread)
        weights = torch.stack([first, own], dim=1)
        maps = (
            AttentionMap("answer", "answer", "features", weights[:, :, :1], False),
            AttentionMap("guidance", "features", "features", weights, False),
        )
        return FusionOutput(keep[:, None], {}, {}, keep[:, None], maps if self.maps else ())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("looks")
    ids = list(KEEPS)
    zero = pd.Timestamp("2020-06-01 12:00:00")
    split = "internal"
    write_subjects(folder, pd.DataFrame({"subject_id": ids, "split": split, "index_time": zero}))
    rows = [{"subject_id": i, "task": "hf", "label": LABEL[i]} for i in ids]
    rows += [{"subject_id": i, "task": "death", "time_days": 9.0 + i, "event": 1} for i in ids]
    write_outcomes(folder, pd.DataFrame(rows))
    columns = {"keep": Column()}
    specs = {}
    for name, title, lacking in (("labs", "Labs", NO_LABS), ("ecg", "ECG", NO_ECG)):
        table = pd.DataFrame({"subject_id": ids, "keep": list(KEEPS.values())})
        path = f"tables/{name}.parquet"
        write_table(folder / path, table[~table["subject_id"].isin(lacking)], columns)
        specs[name] = ModalitySpec(kind=Kind.TABLE, title=title, path=path, columns=columns)
    write_spec(
        CohortSpec(
            name="looks",
            title="Looks",
            modalities=specs,
            tasks={
                "hf": TaskSpec(kind="classification", title="Heart failure", classes=CLASSES),
                "death": TaskSpec(kind="survival", title="Death"),
            },
            provenance=Provenance(source="made for tests"),
        ),
        folder,
    )
    return Cohort.open(folder)


def run_of(task: str = "hf", maps: bool = True) -> Run:
    model = FusionModel({n: Value() for n in Looks.modalities}, Looks(maps))  # type: ignore[arg-type]
    kind = "classification" if task == "hf" else "survival"
    titles = {"labs": "Labs", "ecg": "ECG"}
    modalities = {
        n: SimpleNamespace(kind=Kind.TABLE, title=t, encoder=SimpleNamespace(frozen=False))
        for n, t in titles.items()
    }
    told = SimpleNamespace(name=task, kind=kind, classes=CLASSES if task == "hf" else ())
    config: Any = SimpleNamespace(name="looks", modalities=modalities, task=told)
    return Run(Path(), config, model.eval(), {}, f"{task}-{maps}")


def test_the_patients_own_map_is_the_mean_of_the_heads(cohort: Cohort) -> None:
    found = feature_attention(open_case(run_of(), cohort, 2))
    assert found is not None
    assert found.names == ("Labs", "ECG", "Labs + ECG")
    assert found.n == 1
    # Head 0: 0.6 on itself, 0.2 on each other; head 1: itself.
    expected = np.full((3, 3), 0.1) + np.eye(3) * 0.7
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)


@pytest.mark.parametrize(("subject", "there"), [(3, 0), (6, 1)])
def test_features_of_a_missing_modality_are_not_there(
    cohort: Cohort, subject: int, there: int
) -> None:
    found = feature_attention(open_case(run_of(), cohort, subject))
    assert found is not None
    expected = np.full((3, 3), np.nan)
    expected[there, there] = 1.0
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)


def test_means_by_class_are_over_the_patients_who_have_both_features(
    cohort: Cohort, tmp_path: Path
) -> None:
    found = by_outcome(run_of(), cohort, "internal", ResultStore(tmp_path))
    assert list(found) == list(CLASSES)
    assert {name: one.n for name, one in found.items()} == {"healthy": 3, "failing": 3}
    # Own weight (1 + keep) / 2, each other one (1 - keep) / 4; alone, all of it on itself.
    # Healthy: patients 1 (0.2), 2 (0.6) and 3 with labs only. Failing: 4 (1.0), 5 (0.4), 6 no labs.
    healthy = [
        [(0.6 + 0.8 + 1.0) / 3, (0.2 + 0.1) / 2, (0.2 + 0.1) / 2],
        [(0.2 + 0.1) / 2, (0.6 + 0.8) / 2, (0.2 + 0.1) / 2],
        [(0.2 + 0.1) / 2, (0.2 + 0.1) / 2, (0.6 + 0.8) / 2],
    ]
    failing = [
        [(1.0 + 0.7) / 2, 0.15 / 2, 0.15 / 2],
        [0.15 / 2, (1.0 + 0.7 + 1.0) / 3, 0.15 / 2],
        [0.15 / 2, 0.15 / 2, (1.0 + 0.7) / 2],
    ]
    np.testing.assert_allclose(found["healthy"].weights, healthy, atol=1e-6)
    np.testing.assert_allclose(found["failing"].weights, failing, atol=1e-6)


def test_survival_is_split_at_the_median_risk(cohort: Cohort, tmp_path: Path) -> None:
    """Risks are the numbers kept: 0.2, 0.4, 0.5 below and 0.6, 0.9, 1.0 above 0.55."""
    found = by_outcome(run_of("death"), cohort, "internal", ResultStore(tmp_path))
    assert {name: one.n for name, one in found.items()} == {"lower risk": 3, "higher risk": 3}
    low, high = found["lower risk"].weights, found["higher risk"].weights
    # Labs on labs. Lower: patients 1, 5 and 3 (alone). Higher: 2 and 4; 6 has no labs.
    assert low[0, 0] == pytest.approx((0.6 + 0.7 + 1.0) / 3)
    assert high[0, 0] == pytest.approx((0.8 + 1.0) / 2)
    assert high[1, 1] == pytest.approx((0.8 + 1.0 + 1.0) / 3)


def test_a_group_in_which_nobody_has_a_feature_has_no_number_there(
    cohort: Cohort, tmp_path: Path
) -> None:
    only = _Some(cohort, [3, 4])
    found = by_outcome(run_of(), only, "internal", ResultStore(tmp_path))  # type: ignore[arg-type]
    assert {name: one.n for name, one in found.items()} == {"healthy": 1, "failing": 1}
    assert np.isnan(found["healthy"].weights).sum() == 8
    assert found["healthy"].weights[0, 0] == pytest.approx(1.0)
    assert np.isfinite(found["failing"].weights).all()


class _Some:
    """A cohort of which only some patients are in the split."""

    def __init__(self, cohort: Cohort, ids: list[int]) -> None:
        self._cohort, self._ids = cohort, np.asarray(ids)
        self.fingerprint = "some"

    def subject_ids(self, split: str, task: str) -> np.ndarray:
        return self._ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cohort, name)


def test_what_is_stored_is_what_was_made(cohort: Cohort, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    made = by_outcome(run_of(), cohort, "internal", store)
    silent = run_of()
    silent.model.strategy.maps = False  # a second computation would find no map
    found = by_outcome(silent, cohort, "internal", store)
    assert list(found) == list(made)
    for name, one in made.items():
        assert isinstance(found[name], FeatureAttention)
        np.testing.assert_array_equal(found[name].weights, one.weights)
        assert (found[name].names, found[name].n) == (one.names, one.n)


def test_a_strategy_without_such_a_map_has_none(cohort: Cohort, tmp_path: Path) -> None:
    run = run_of(maps=False)
    assert feature_attention(open_case(run, cohort, 1)) is None
    assert by_outcome(run, cohort, "internal", ResultStore(tmp_path)) == {}
    assert by_outcome(run_of(), cohort, "external", ResultStore(tmp_path)) == {}


def test_tgmms_rows_add_up_to_one_over_the_features_that_are_there(tmp_path: Path) -> None:
    """A trained TGMM of three tables, on patients who have all, two and one of them."""
    cohort = Cohort.open(write_cohort(tmp_path / "hf", lacking=0.4))
    run = train(cohort.folder, tmp_path / "tgmm", strategy="tgmm")
    there = cohort.availability()[list(run.config.modalities)]
    counted = set()
    for subject in there.index[there.any(axis=1)][:12]:
        found = feature_attention(open_case(run, cohort, int(subject)))
        assert found is not None
        has = [name for name in there if there.loc[subject, name]]
        titles = {name: run.config.modalities[name].title for name in there}
        absent = {titles[name] for name in there if name not in has}
        seen = np.array([not absent & set(name.split(" + ")) for name in found.names])
        assert seen.sum() == 2 ** len(has) - 1
        np.testing.assert_array_equal(np.isfinite(found.weights), np.outer(seen, seen))
        np.testing.assert_allclose(found.weights[np.ix_(seen, seen)].sum(axis=1), 1, atol=1e-5)
        counted.add(len(has))
    assert counted == {1, 2, 3}
