"""A told table that is edited gives the number of the patient whose file says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.attribution.case import AttributionError, Case, open_case
from analysis.attribution.grouping import by_column
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.parts import column_table, part_table
from analysis.attribution.target import ClassLogit
from analysis.attribution.within import explain_modality
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import TextReading
from analysis.cohort.schema import Column, write_spec
from analysis.cohort.write import write_table
from analysis.experiment import Plan, train_run
from analysis.whatif import Change, what_if
from models.checkpoint import Run
from models.contracts import Kind
from models.training import TrainingSettings
from tests.analysis.classification.toys import HF, write_cohort

LABS = {
    "bnp": Column(unit="pg/mL", title="BNP"),
    "smoker": Column(kind="binary", title="Smoker"),
    "rhythm": Column(kind="nominal", categories=("sinus", "af", "paced"), title="Rhythm"),
    "nyha": Column(kind="ordinal", title="NYHA class"),
}
LABS_FILE = "tables/labs.parquet"
TARGET = ClassLogit(1, HF[1])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Cohort]:
    """A run that reads labs of every kind of column in sentences, and an echo table likewise."""
    home = tmp_path_factory.mktemp("told")
    folder = write_cohort(home / "hf")
    labs = pd.read_parquet(folder / LABS_FILE)
    rng = np.random.default_rng(0)
    bnp = labs["bnp"].to_numpy()
    labs["smoker"] = (bnp + rng.normal(size=len(bnp)) > 0).astype(float)
    labs["rhythm"] = [LABS["rhythm"].categories[int(i)] for i in rng.integers(0, 3, len(bnp))]
    labs["nyha"] = np.clip(np.round(2 + bnp), 1, 4)
    labs.loc[::5, "smoker"] = np.nan
    rewrite(folder, labs)
    spec = Cohort.open(folder).spec
    modality = spec.modalities["labs"].model_copy(update={"columns": LABS})
    modalities = {**spec.modalities, "labs": modality}
    write_spec(spec.model_copy(update={"modalities": modalities}), folder)
    plan = Plan(
        cohort=folder,
        task="hf",
        strategy="late",
        out=home / "late",
        encoder_store=home / "encoders",
        modalities=("labs", "echo"),
        tables="text",
        settings=TrainingSettings(max_epochs=2),
    )
    return train_run(plan, accelerator="cpu"), Cohort.open(folder)


def rewrite(folder: Path, labs: pd.DataFrame) -> None:
    (folder / LABS_FILE).unlink(missing_ok=True)
    columns = {name: column for name, column in LABS.items() if name in labs}
    write_table(folder / LABS_FILE, labs, columns)


@pytest.fixture(scope="module")
def case(toy: tuple[Run, Cohort]) -> Case:
    """A patient with both tables and every column."""
    run, cohort = toy
    labs = pd.read_parquet(cohort.folder / LABS_FILE).dropna().set_index("subject_id")
    there = cohort.availability().loc[labs.index, ["labs", "echo"]].all(axis=1)
    return open_case(run, cohort, int(there.index[there][0]))


def filed(case: Case, folder: Path, **cells: object) -> Case:
    """The same patient of a cohort whose file has these cells."""
    copy = folder / "copy"
    shutil.copytree(case.cohort.folder, copy)
    labs = pd.read_parquet(copy / LABS_FILE)
    for column, value in cells.items():
        labs.loc[labs["subject_id"] == case.subject_id, column] = value
    rewrite(copy, labs)
    return open_case(case.run, Cohort.open(copy), case.subject_id)


def logit(case: Case) -> float:
    return float(case.prediction[0, 0])


def at(column: str) -> int:
    return list(LABS).index(column)


@pytest.mark.parametrize(
    ("column", "edit", "cell"),
    [
        ("bnp", 1.75, 1.75),
        ("smoker", None, np.nan),
        ("rhythm", 2.0, "paced"),
        ("rhythm", 1.0, "af"),
        ("nyha", 4.0, 4.0),
        ("bnp", None, np.nan),
        ("rhythm", None, None),
    ],
)
def test_an_edit_is_the_row_with_it(
    case: Case, tmp_path: Path, column: str, edit: float | None, cell: object
) -> None:
    there = case.cohort.table("labs")
    row = int(np.searchsorted(there.subject_ids, case.subject_id))
    if edit == float(there.values[row, at(column)]):
        pytest.skip(f"the patient's {column} is {edit} already")
    change = (
        Change("labs", (at(column),)) if edit is None else Change("labs", values={at(column): edit})
    )
    after = what_if(case, changes=[change])
    other = filed(case, tmp_path, **{column: cell})
    fields, expected = after.raw("labs").fields, other.raw("labs").fields
    for name, tensor in expected.items():
        assert torch.equal(fields[name], tensor), name
    assert logit(after) == pytest.approx(logit(other), abs=1e-6)
    assert abs(logit(after) - logit(case)) > 1e-5
    # What the reader edits next is the edited row.
    told, filed_ = column_table(after, "labs"), column_table(other, "labs")
    assert told["value"].tolist() == filed_["value"].tolist()


def test_a_binary_cell_is_told_by_its_word(case: Case, tmp_path: Path) -> None:
    smoker = at("smoker")
    now = float(column_table(case, "labs")["value"].iloc[smoker])
    after = what_if(case, changes=[Change("labs", values={smoker: 1 - now})])
    other = filed(case, tmp_path, smoker=1 - now)
    reading = case.reading("labs")
    assert isinstance(reading, TextReading)

    def answer(which: Case) -> str:
        words = reading.sentences.text(which.raw("labs").fields)
        return next(w.word for w in words if w.sentence == smoker and w.is_value)

    assert {answer(case), answer(after)} == {"no", "yes"}
    assert answer(after) == answer(other)
    assert logit(after) == pytest.approx(logit(other), abs=1e-6)


def test_a_missing_column_can_be_given_a_value(toy: tuple[Run, Cohort], tmp_path: Path) -> None:
    run, cohort = toy
    labs = pd.read_parquet(cohort.folder / LABS_FILE)
    subject = int(labs.loc[labs["smoker"].isna(), "subject_id"].iloc[0])
    case = open_case(run, cohort, subject)
    assert "Smoker" not in part_table(case, "labs")["title"].tolist()
    assert column_table(case, "labs")["value"].iloc[at("smoker")] is None
    after = what_if(case, changes=[Change("labs", values={at("smoker"): 1.0})])
    assert logit(after) == pytest.approx(logit(filed(case, tmp_path, smoker=1.0)), abs=1e-6)


def test_several_edits_count_together(case: Case, tmp_path: Path) -> None:
    change = Change("labs", (at("nyha"),), {at("bnp"): -1.5})
    after = what_if(case, changes=[change])
    other = filed(case, tmp_path, nyha=np.nan, bnp=-1.5)
    assert logit(after) == pytest.approx(logit(other), abs=1e-6)


def test_no_sentence_left_is_absent_not_empty(case: Case) -> None:
    after = what_if(case, changes=[Change("labs", tuple(range(len(LABS))))])
    assert after.present == ("echo",)
    ledger = modality_ledger(case, TARGET)
    assert after.value(TARGET)[0] == pytest.approx(float(ledger.without("labs")[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change("labs", (len(LABS),)), "'labs' has positions 0 to 3, not 4"),
        (Change("labs", values={0: np.nan}), "is not a value; give a number"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(case: Case, change: Change, said: str) -> None:
    with pytest.raises(AttributionError, match=said):
        what_if(case, changes=[change])


def test_the_row_on_file_stays(case: Case) -> None:
    before = {name: tensor.clone() for name, tensor in case.raw("labs").fields.items()}
    what_if(case, changes=[Change("labs", (0,), {1: 1.0})])
    assert all(torch.equal(case.raw("labs").fields[n], t) for n, t in before.items())
    assert case.changed == frozenset()


def test_shares_of_columns_are_the_sums_of_their_words(case: Case) -> None:
    found = explain_modality(case, "labs", TARGET)
    assert found.kind == Kind.TEXT
    columns = by_column(found)
    assert columns.kind == Kind.TABLE
    assert columns.parts["name"].tolist() == list(LABS)
    words = found.parts.assign(share=found.values[:, 0]).groupby("name")["share"].sum()
    np.testing.assert_allclose(columns.values[:, 0], words[list(LABS)], atol=1e-12)
    total = float(columns.whole[0] - columns.reference[0])
    assert columns.values.sum() == pytest.approx(total, abs=1e-5)
    assert columns.gap == pytest.approx(found.gap, abs=1e-9)
    assert np.abs(columns.values).max() > 1e-3
    # The value stands once, in words where it has words.
    shown = column_table(case, "labs").set_index("name")["value"]
    told = columns.parts.set_index("name")["value"]
    assert told["rhythm"] == shown["rhythm"]
    assert told["smoker"] == ("no", "yes")[int(shown["smoker"])]
    assert float(told["bnp"]) == pytest.approx(float(shown["bnp"]), abs=1e-6)


def test_only_a_told_table_has_columns_to_add_up(case: Case) -> None:
    columns = by_column(explain_modality(case, "labs", TARGET))
    with pytest.raises(AttributionError, match="'labs' is table, not a told table"):
        by_column(columns)
