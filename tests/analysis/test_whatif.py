"""A changed record gives the very number that the model gives for a patient with that record."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from analysis.attribution.case import AttributionError, Case, open_case
from analysis.attribution.modalities import modality_ledger
from analysis.attribution.parts import part_table
from analysis.attribution.target import LogRisk, Survival
from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.write import write_meds, write_table
from analysis.whatif import Change, what_if
from models.checkpoint import Run, load_run
from tests.app.toy import IMAGING, train, write_cohort

BOTH, NO_CT, NO_EHR = 10001, 10043, 10087


@pytest.fixture(scope="module")
def pe(tiny_workspace: Path) -> Cohort:
    return Cohort.open(tiny_workspace / "cohorts" / "pe")


@pytest.fixture(scope="module")
def runs(tiny_workspace: Path) -> Callable[[str], Run]:
    loaded: dict[str, Run] = {}

    def get(name: str) -> Run:
        if name not in loaded:
            loaded[name] = load_run(tiny_workspace / "runs" / f"pe-{name}")
        return loaded[name]

    return get


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Cohort]:
    """A run that reads two tables and events."""
    home = tmp_path_factory.mktemp("whatif")
    folder = write_cohort(home / "cohorts" / "pe", "pe", seed=0)
    run = load_run(train(folder, home, "late", "late"))
    return run, Cohort.open(folder)


def complete(run: Run, cohort: Cohort) -> Case:
    """A patient who has everything."""
    there = cohort.availability()[list(run.config.modalities)]
    return open_case(run, cohort, int(there.index[there.all(axis=1)][0]))


def risk(case: Case) -> float:
    return float(case.prediction[0, 0])


# ---------------------------------------------------------------- leaving out


@pytest.mark.parametrize(
    "name", ["late-onehot", "cross-attention-onehot", "co-attention-image-onehot"]
)
@pytest.mark.parametrize("modality", ["ct", "ehr"])
def test_leaving_a_modality_out_is_the_ledgers_subset(pe, runs, name, modality):
    run = runs(name)
    case = open_case(run, pe, BOTH)
    for target in (LogRisk(), Survival(read_baseline(run.folder), (30.0, 200.0))):
        ledger = modality_ledger(case, target)
        after = what_if(case, without=[modality])
        assert after.present == tuple(n for n in case.present if n != modality)
        np.testing.assert_allclose(after.value(target), ledger.without(modality), atol=1e-6)
        assert not np.allclose(after.value(target), ledger.whole, atol=1e-4)


def test_leaving_out_equals_a_patient_who_never_had_it(pe, runs, tmp_path):
    """Absence on file and absence in a what-if are the same absence."""
    case = open_case(runs("late-onehot"), pe, BOTH)
    copy = copied(pe, tmp_path, lambda events: events[events["subject_id"] != BOTH])
    bare = open_case(runs("late-onehot"), copy, BOTH)
    assert bare.present == ("ct",)
    assert risk(what_if(case, without=["ehr"])) == pytest.approx(risk(bare), abs=1e-6)


# ---------------------------------------------------------------- events


def copied(cohort: Cohort, folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Cohort:
    """The cohort with other events; its scans only as features."""
    copy = folder / "copy"
    shutil.copytree(cohort.folder, copy, ignore=shutil.ignore_patterns("ct", "truth", "ehr"))
    shutil.copytree(cohort.folder / "features" / "ct", copy / "features" / "ct")
    imaging = pd.read_parquet(cohort.folder / "imaging.parquet")
    imaging.iloc[:0].to_parquet(copy / "imaging.parquet")
    (source,) = (cohort.folder / "ehr" / "data").glob("*.parquet")
    events = edit(pq.read_table(source).to_pandas())
    codes = pq.read_table(cohort.folder / "ehr" / "metadata" / "codes.parquet").to_pandas()
    write_meds(copy / "ehr", events, codes)
    return Cohort.open(copy)


def rows_of(events: pd.DataFrame, parts: pd.DataFrame, position: int) -> pd.Series:
    """Which rows of the file are the event at a position of the model's sequence."""
    part = parts.iloc[position]
    mine = (events["subject_id"] == BOTH) & (events["code"] == part["code"])
    mine &= events["time"] == part["time"]
    assert mine.sum() == 1
    return mine


def middle(parts: pd.DataFrame, *, measured: bool) -> list[int]:
    """Positions of dated events whose code and time are theirs alone, with or without a value."""
    alone = ~parts.duplicated(["code", "time"], keep=False) & (parts["code"] != "MEDS_BIRTH")
    alone &= parts["value"].notna() == measured
    return [int(i) for i in np.flatnonzero(alone & (parts["days_before"] < 1000))]


@pytest.mark.parametrize("name", ["late-onehot", "late-clmbr"])
def test_removing_events_is_the_record_without_them(pe, runs, name, tmp_path):
    run = runs(name)
    case = open_case(run, pe, BOTH)
    parts = part_table(case, "ehr")
    gone = [middle(parts, measured=True)[2], middle(parts, measured=False)[-1]]

    def without(events: pd.DataFrame) -> pd.DataFrame:
        return events[~np.any([rows_of(events, parts, i) for i in gone], axis=0)]

    copy = open_case(run, copied(pe, tmp_path, without), BOTH)
    assert len(part_table(copy, "ehr")) == len(parts) - 2
    after = what_if(case, changes=[Change("ehr", remove=tuple(gone))])
    assert risk(after) == pytest.approx(risk(copy), abs=2e-4)
    assert abs(risk(after) - risk(case)) > 1e-3


@pytest.mark.parametrize("name", ["late-onehot", "late-clmbr"])
def test_another_lab_value_is_the_record_with_it(pe, runs, name, tmp_path):
    run = runs(name)
    case = open_case(run, pe, BOTH)
    parts = part_table(case, "ehr")
    # The last measurement of its code: the one-hot encoder reads no other.
    at = [i for i in middle(parts, measured=True) if parts["code"].iloc[i] == "LOINC/8867-4"][-1]
    value = 2 * float(parts["value"].iloc[at])

    def other(events: pd.DataFrame) -> pd.DataFrame:
        events.loc[rows_of(events, parts, at), "numeric_value"] = value
        return events

    copy = open_case(run, copied(pe, tmp_path, other), BOTH)
    assert part_table(copy, "ehr")["value"].iloc[at] == value
    after = what_if(case, changes=[Change("ehr", values={at: value})])
    assert risk(after) == pytest.approx(risk(copy), abs=2e-4)
    assert abs(risk(after) - risk(case)) > 1e-3


def test_an_event_without_a_value_can_be_given_one(pe, runs):
    case = open_case(runs("late-clmbr"), pe, BOTH)
    at = middle(part_table(case, "ehr"), measured=False)[-1]
    after = what_if(case, changes=[Change("ehr", values={at: 3.0})])
    fields = after.raw("ehr").fields
    assert bool(fields["has_value"][0, at])
    assert float(fields["values"][0, at]) == 3.0
    assert not bool(case.raw("ehr").fields["has_value"][0, at])


@pytest.mark.parametrize("name", ["late-onehot", "cross-attention-onehot", "late-clmbr"])
def test_no_event_left_is_absent_not_empty(pe, runs, name):
    case = open_case(runs(name), pe, BOTH)
    n = len(part_table(case, "ehr"))
    after = what_if(case, changes=[Change("ehr", remove=tuple(range(n)))])
    assert after.present == ("ct",)
    ledger = modality_ledger(case, LogRisk())
    assert risk(after) == pytest.approx(float(ledger.value({"ct"})[0]), abs=1e-6)


# ---------------------------------------------------------------- tables


def table_cohort(cohort: Cohort, folder: Path, column: str, subject: int, value: float) -> Cohort:
    copy = folder / "copy"
    shutil.copytree(cohort.folder, copy)
    frame = pd.read_parquet(copy / "tables" / "imaging.parquet")
    frame.loc[frame["subject_id"] == subject, column] = value
    (copy / "tables" / "imaging.parquet").unlink()
    write_table(copy / "tables" / "imaging.parquet", frame, IMAGING)
    return Cohort.open(copy)


@pytest.mark.parametrize("value", [25.0, np.nan])
def test_a_changed_or_removed_column_is_the_table_with_it(toy, tmp_path, value):
    run, cohort = toy
    case = complete(run, cohort)
    at = list(IMAGING).index("clot_burden")
    copy = table_cohort(cohort, tmp_path, "clot_burden", case.subject_id, value)
    change = Change("imaging", (at,)) if np.isnan(value) else Change("imaging", values={at: value})
    after = what_if(case, changes=[change])
    assert risk(after) == pytest.approx(risk(open_case(run, copy, case.subject_id)), abs=1e-6)
    assert abs(risk(after) - risk(case)) > 1e-4


def test_all_columns_removed_is_absent(toy):
    run, cohort = toy
    case = complete(run, cohort)
    after = what_if(case, changes=[Change("imaging", remove=(0, 1))])
    assert after.present == ("ehr", "labs")
    ledger = modality_ledger(case, LogRisk())
    assert risk(after) == pytest.approx(float(ledger.without("imaging")[0]), abs=1e-6)


def test_edits_of_two_modalities_and_one_left_out_count_together(toy):
    run, cohort = toy
    case = complete(run, cohort)
    both = what_if(
        case,
        without=["labs"],
        changes=[Change("imaging", values={0: 1.6}), Change("ehr", remove=(0,))],
    )
    step = what_if(case, changes=[Change("imaging", values={0: 1.6})])
    step = what_if(what_if(step, changes=[Change("ehr", remove=(0,))]), without=["labs"])
    assert risk(both) == pytest.approx(risk(step), abs=1e-6)
    assert both.changed == {"imaging", "ehr"}
    # A change of what is left out anyway changes nothing.
    also = [Change("labs", values={0: 99.0}), Change("imaging", values={0: 1.6})]
    assert risk(what_if(case, without=["labs"], changes=also)) == pytest.approx(
        risk(what_if(case, without=["labs"], changes=also[1:])), abs=1e-7
    )


# ---------------------------------------------------------------- the patient on file


@pytest.mark.parametrize("name", ["late-onehot", "late-clmbr"])
def test_the_case_on_file_is_unchanged(pe, runs, name):
    run = runs(name)
    case = open_case(run, pe, BOTH)
    before = risk(case)
    fields = {n: t.clone() for n, t in case.raw("ehr").fields.items()}
    encoded = {n: (e.tokens.clone(), e.present.clone()) for n, e in case.encoded.items()}
    what_if(case, without=["ct"], changes=[Change("ehr", (1, 2), {3: 8.0, 40: 900.0})])
    assert all(torch.equal(case.raw("ehr").fields[n], t) for n, t in fields.items())
    for n, (tokens, present) in encoded.items():
        assert torch.equal(case.encoded[n].tokens, tokens)
        assert torch.equal(case.encoded[n].present, present)
    assert case.changed == frozenset()
    assert risk(open_case(run, pe, BOTH)) == risk(case) == before
    assert not any(m.training for m in run.model.modules())


def test_a_changed_case_can_be_explained_by_gradients(pe, runs):
    """Its tensors are out of inference mode."""
    case = what_if(
        open_case(runs("cross-attention-onehot"), pe, BOTH), changes=[Change("ehr", remove=(5,))]
    )
    tokens = case.encoded["ehr"].tokens.detach().clone().requires_grad_()
    from dataclasses import replace

    case.fuse(ehr=replace(case.encoded["ehr"], tokens=tokens)).prediction.sum().backward()
    assert float(tokens.grad.abs().sum()) > 0


# ---------------------------------------------------------------- sentences

WRONG = {
    "lacks it": (NO_CT, {"without": ["ct"]}, "patient 10043 .* has no 'ct'"),
    "lacks what is changed": (
        NO_EHR,
        {"changes": [Change("ehr", remove=(0,))]},
        "patient 10087 .* has no 'ehr'",
    ),
    "not read": (BOTH, {"without": ["ecg"]}, "does not read 'ecg'; it reads ct, ehr"),
    "a scan": (
        BOTH,
        {"changes": [Change("ct", remove=(0,))]},
        "'ct' is of kind 'volume': it can be left out as a whole",
    ),
    "no such position": (
        BOTH,
        {"changes": [Change("ehr", remove=(87,))]},
        "'ehr' has positions 0 to 86, not 87",
    ),
    "negative position": (
        BOTH,
        {"changes": [Change("ehr", values={-1: 2.0})]},
        "'ehr' has positions 0 to 86, not -1",
    ),
    "no number": (
        BOTH,
        {"changes": [Change("ehr", values={3: np.nan})]},
        "'ehr': nan is not a value; give a number",
    ),
    "infinite": (BOTH, {"changes": [Change("ehr", values={3: np.inf})]}, "inf is not a value"),
    "nothing left": (
        BOTH,
        {"without": ["ct", "ehr"]},
        "patient 10001: nothing would be left for the model to read; keep at least one",
    ),
    "no event left": (
        NO_CT,
        {"changes": [Change("ehr", remove=tuple(range(60)))]},
        "nothing would be left",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_one_sentence(pe, runs, wrong):
    subject, asked, message = WRONG[wrong]
    case = open_case(runs("late-onehot"), pe, subject)
    with pytest.raises(AttributionError, match=message) as error:
        what_if(case, **asked)
    assert "\n" not in str(error.value)


def test_an_edited_record_is_not_explained_by_the_names_on_file(pe, runs) -> None:
    case = open_case(runs("late-onehot"), pe, BOTH)
    edited = what_if(case, changes=[Change("ehr", remove=(0,))])
    with pytest.raises(AttributionError, match="'ehr' was edited"):
        part_table(edited, "ehr")
    again = what_if(edited, without=["ct"])
    assert again.changed == {"ehr"}
    assert case.changed == frozenset()
