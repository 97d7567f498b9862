"""Cohorts put together from several sources: whole before, whole after, never half."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers import compose
from analysis.cohort.importers.compose import Persons, adding
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.meds import import_meds
from analysis.cohort.importers.study import Study
from analysis.cohort.importers.table import import_table
from analysis.cohort.schema import COHORT_FILE, CohortError, Column, ModalitySpec
from analysis.cohort.write import write_meds
from models.contracts import Kind

STUDY = Study.model_validate(
    {
        "name": "mine",
        "title": "Mine",
        "columns": {"id": "study", "person": "person"},
        "index": {"column": "scan"},
        "tasks": {"death": {"title": "Death", "time": "t", "event": "e", "happened": [1]}},
    }
)
PERSONS, EACH = 20, 3


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Sixty studies of twenty persons; study ids look like other persons' ids on purpose."""
    at = np.arange(PERSONS * EACH)
    person = 1 + at // EACH
    frame = pd.DataFrame({"study": 1 + at, "person": person, "t": 1.0 + at, "e": person % 2})
    frame["scan"] = [str(pd.Timestamp("2020-01-01") + pd.Timedelta(days=int(i))) for i in at]
    frame.to_csv(tmp_path / "people.csv", index=False)
    import_table(tmp_path / "people.csv", tmp_path / "out", STUDY)
    labs(tmp_path, 1.0)
    return tmp_path / "out"


def labs(home: Path, value: float) -> Path:
    at = 1 + np.arange(PERSONS * EACH)
    frame = pd.DataFrame({"study": at, "person": 1 + (at - 1) // EACH, "x": value * at})
    frame.to_csv(home / "labs.csv", index=False)
    return home / "labs.csv"


def add(cohort: Path, **how: Any) -> None:
    import_table(cohort.parent / "labs.csv", cohort, STUDY, name="labs", **how)


def state(cohort: Path) -> dict[str, bytes]:
    """Every file of a cohort."""
    files = sorted(p for p in cohort.rglob("*") if p.is_file())
    return {str(p.relative_to(cohort)): p.read_bytes() for p in files}


def test_a_study_s_id_is_not_mistaken_for_a_person_s(cohort: Path) -> None:
    add(cohort)
    made = Cohort.open(cohort)
    table = made.table("labs")
    assert table.values[:, 0].tolist() == made.subjects["study_id"].astype(float).tolist()


def test_a_person_s_record_goes_to_all_studies_of_the_person(cohort: Path) -> None:
    rows = [
        (p, pd.Timestamp("2019-01-01") + pd.Timedelta(days=p), f"CODE//{p}", None)
        for p in (2, 5, 77)
    ]
    events = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
    write_meds(cohort.parent / "record", events, pd.DataFrame({"code": []}))
    notes: list[str] = []
    import_meds(cohort.parent / "record", cohort, STUDY, note=notes.append)
    made = Cohort.open(cohort)
    table = made.events("ehr")
    codes = {int(s): table.subject(int(s)).code for s in table.subject_ids}
    assert codes == {s: (f"CODE//{p}",) for p in (2, 5) for s in range(3 * p - 2, 3 * p + 1)}
    assert made.subjects.groupby("source_id")["split"].nunique().max() == 1
    assert (
        "ehr: 6 of 60 studies of the cohort, 54 without; 1 of the source are not in the cohort and "
        "were left out." in notes
    )


def test_nobody_matches(cohort: Path) -> None:
    frame = pd.DataFrame({"study": ["A1", "A2"], "person": ["B", "B"], "x": [1.0, 2]})
    frame.to_csv(cohort.parent / "labs.csv", index=False)
    before = state(cohort)
    with pytest.raises(CohortError) as error:
        add(cohort)
    assert (
        "none of its 2 persons ('A1', 'A2') is in the cohort, whose ids are '1', '10', '11', …"
        in (str(error.value))
    )
    assert state(cohort) == before


@pytest.mark.parametrize("name", ["Labs", "../x", "", "a b", "x" * 41])
def test_names_that_are_none(cohort: Path, name: str) -> None:
    before = state(cohort)
    with (
        pytest.raises(CohortError, match="the name of a modality starts with a small letter"),
        adding(cohort, name, Identities(), print),
    ):
        raise AssertionError
    assert state(cohort) == before


def test_a_modality_is_replaced_only_when_asked(cohort: Path) -> None:
    add(cohort)
    first = state(cohort)
    with pytest.raises(CohortError, match="has a modality 'labs' already; give another name"):
        add(cohort)
    assert state(cohort) == first
    labs(cohort.parent, 10.0)
    old = Cohort.open(cohort).fingerprint
    add(cohort, replace=True)
    new = Cohort.open(cohort)
    assert new.table("labs").values[4, 0] == 50
    assert new.fingerprint != old
    assert [p.name for p in (cohort / "imported").iterdir()] == [
        Path(new.spec.modalities["labs"].path).parts[1]
    ]


def failing(what: str) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt(what)

    return fail


@pytest.mark.parametrize("stage", ["importer", "check", "spec", "replace"])
@pytest.mark.parametrize("replace", [False, True])
def test_an_interruption_leaves_the_cohort_as_it_was(
    cohort: Path, monkeypatch: pytest.MonkeyPatch, stage: str, replace: bool
) -> None:
    if replace:
        add(cohort)
    before = state(cohort)
    names = {"check": "check_cohort", "spec": "write_spec"}
    with monkeypatch.context() as patch:
        if stage == "importer":
            patch.setattr("analysis.cohort.importers.table.write_table", failing(stage))
        elif stage == "replace":
            patch.setattr(compose.os, "replace", failing(stage))
        else:
            patch.setattr(compose, names[stage], failing(stage))
        with pytest.raises(KeyboardInterrupt, match=stage):
            add(cohort, replace=replace)
    assert state(cohort) == before
    assert not [p for p in cohort.iterdir() if ".partial" in p.name]
    add(cohort, replace=replace)
    assert Cohort.open(cohort).table("labs").values[4, 0] == 5


def test_a_kill_before_the_last_step_is_swept_up_by_the_next_import(cohort: Path) -> None:
    before = state(cohort)
    child = os.fork()
    if child == 0:
        os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
        try:
            add(cohort)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = state(cohort)
    assert left[COHORT_FILE] == before[COHORT_FILE]
    assert len(left) > len(before)  # it really died half way
    assert Cohort.open(cohort).spec.modalities == {}
    add(cohort)
    made = Cohort.open(cohort)
    assert made.table("labs").values[4, 0] == 5
    assert set(state(cohort)) == {*before, made.spec.modalities["labs"].path}
    assert [p.name for p in cohort.iterdir() if p.name.startswith(".")] == []


def test_imports_wait_for_each_other(cohort: Path) -> None:
    with adding(cohort, "labs", Identities(), print) as addition:
        home = os.open(cohort, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(home, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(home)
        target = addition.file("table.parquet")
        pd.DataFrame({"subject_id": [1], "x": [1.0]}).to_parquet(target)
        addition.modalities["labs"] = ModalitySpec(
            kind=Kind.TABLE,
            title="x",
            columns={"x": Column()},
            path=addition.place("table.parquet"),
        )
    home = os.open(cohort, os.O_RDONLY)
    fcntl.flock(home, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(home)


def test_an_importer_that_finds_nothing(cohort: Path) -> None:
    before = state(cohort)
    with (
        pytest.raises(CohortError, match="nothing was found for 'labs'; nothing was written"),
        adding(cohort, "labs", Identities(), print),
    ):
        pass
    assert state(cohort) == before


def test_who_a_source_s_people_are(cohort: Path) -> None:
    persons = Persons(Cohort.open(cohort), Identities())
    table = persons.table([20, "21", 20.0, "nobody", 60])
    # 20 is a person (three studies), 21 and 60 only studies.
    assert table.groupby("source_id", sort=False)["subject_id"].apply(list).to_dict() == {
        20: [58, 59, 60], "21": [21], 60: [60],
    }  # fmt: skip
    assert set(table["shift_us"]) == {0}
