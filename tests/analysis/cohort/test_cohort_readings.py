"""Each encoder gets its modality read as its config says; a told table becomes a text input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import (
    CohortDataset,
    SignalReading,
    TextReading,
    VideoReading,
    all_inputs,
)
from analysis.cohort.readers.echo import VIEWS
from analysis.cohort.readers.signal import LEADS
from analysis.cohort.readings import reading_for
from analysis.cohort.schema import CohortError
from models.contracts import Kind
from models.encoders.base import build_encoder
from models.sentences import Sentences, TextColumn

# The columns of the toy cohort, told in another order than the table's.
TOLD = Sentences(
    columns=(
        TextColumn(name="site", kind="nominal", categories=("larynx", "tongue")),
        TextColumn(name="sodium", unit="mmol/L"),
        TextColumn(name="smoker", kind="binary"),
    )
)


def stand_in(kind: Kind, **config: Any) -> Any:
    return SimpleNamespace(kind=kind, config=SimpleNamespace(**config), sentences=TOLD)


def test_readings_follow_what_the_config_says() -> None:
    signal = stand_in(Kind.SIGNAL, leads=["V1", "I"], rate_hz=100.0, seconds=4.0, band_hz=[1, 30])
    assert reading_for(signal) == SignalReading(("V1", "I"), 100.0, 4.0, (1.0, 30.0))
    bare = stand_in(Kind.SIGNAL, leads=["I"], rate_hz=100.0, seconds=4.0, band_hz=None)
    assert reading_for(bare) == SignalReading(("I",), 100.0, 4.0, None)
    video = stand_in(Kind.VIDEO, views=["A4C"], frames=8, stride=3, size=64)
    assert reading_for(video) == VideoReading(("A4C",), 8, 3, 64)
    assert reading_for(stand_in(Kind.TEXT)) == TextReading(TOLD)
    with pytest.raises(CohortError, match="needs the vocabulary"):
        reading_for(stand_in(Kind.EVENTS))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ecg_cnn", SignalReading(LEADS, 250.0, 10.0, (0.67, 40.0))),
        ("echo_r2plus1d", VideoReading(VIEWS, 16, 2, 112)),
    ],
)
def test_cardiac_encoders_read_as_they_were_made(name: str, expected: Any) -> None:
    assert reading_for(build_encoder(name, {})) == expected


def test_a_table_is_told_in_sentences(cohort_folder: Path) -> None:
    cohort = Cohort.open(cohort_folder)
    dataset = CohortDataset(cohort, [1, 3, 5], {"labs": TextReading(TOLD)})
    batch = all_inputs(dataset)
    told = batch.inputs["labs"]
    assert told.kind is Kind.TEXT
    assert told.present.tolist() == [True, False, True]
    values = torch.tensor([[1.0, 140.0, 1.0], [0.0, 131.0, 0.0]])
    mask = torch.tensor([[True, True, True], [False, True, True]])
    for row, expected in ((0, (values[:1], mask[:1])), (2, (values[1:], mask[1:]))):
        alone = TOLD.encode(*expected)
        n = int(alone["mask"].sum())
        assert int(told.fields["mask"][row].sum()) == n
        for name, tensor in alone.items():
            assert torch.equal(told.fields[name][row, :n], tensor[0, :n]), name
    assert not told.fields["mask"][1].any()
    lengths = {tensor.shape for tensor in told.fields.values()}
    assert lengths == {(3, int(told.fields["mask"].sum(dim=1).max()))}


def test_sentences_that_do_not_fit_the_table_are_refused(cohort_folder: Path) -> None:
    cohort = Cohort.open(cohort_folder)
    strange = Sentences(columns=(TextColumn(name="potassium"),))
    with pytest.raises(CohortError, match="column 'potassium' is told in sentences but not there"):
        CohortDataset(cohort, [1], {"labs": TextReading(strange)})
    turned = TextColumn(name="site", kind="nominal", categories=("tongue", "larynx"))
    with pytest.raises(CohortError, match="has the categories larynx, tongue, its sentences"):
        CohortDataset(cohort, [1], {"labs": TextReading(Sentences(columns=(turned,)))})
    with pytest.raises(CohortError, match="is bag, not table"):
        CohortDataset(cohort, [1], {"tma": TextReading(TOLD)})


def test_a_row_without_values_is_no_text(cohort_folder: Path, edit: Any) -> None:
    def clear(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table["subject_id"] == 5, ["sodium", "smoker"]] = np.nan
        return table

    edit(cohort_folder / "tables" / "labs.parquet", clear)
    sample = CohortDataset(Cohort.open(cohort_folder), [5], {"labs": TextReading(TOLD)})[0]
    assert not sample.inputs["labs"].present.any()
