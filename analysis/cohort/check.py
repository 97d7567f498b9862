"""Is a cohort folder sound? Lists every problem it has, and never raises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from analysis.cohort.check_modalities import check_modality
from analysis.cohort.guards import run_guards
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.report import Problem, Report, some
from analysis.cohort.schema import (
    COHORT_FILE,
    OUTCOMES_FILE,
    SUBJECTS_FILE,
    CohortError,
    CohortSpec,
    Split,
    TaskSpec,
    read_spec,
)

__all__ = ["Problem", "check_cohort"]

_NO_IDS: frozenset[int] = frozenset()


def check_cohort(
    folder: Path | str, deep: bool = False, spec: CohortSpec | None = None
) -> list[Problem]:
    """Every problem of a cohort folder, errors first; empty when it is sound.

    deep: read the voxels of every volume, not only its header. spec: what cohort.yaml is about to
    say, instead of what it says. Never raises: a file that cannot be read is itself a problem,
    and checking goes on with the rest.
    """
    report = Report(Path(folder))
    spec = spec or _spec(report)
    if spec is not None:
        report.follows = bool(spec.follows)
        subjects = pd.DataFrame()
        with report.guard(SUBJECTS_FILE):
            subjects = _subjects(report)
        ids = frozenset(subjects["subject_id"].tolist()) if len(subjects) else _NO_IDS
        with report.guard(OUTCOMES_FILE):
            _outcomes(report, spec, subjects, ids)
        if spec.folds is not None:
            with report.guard(spec.folds):
                _folds(report, spec.folds, ids)
        if spec.truth is not None and not (report.folder / spec.truth).is_dir():
            report.warn(
                COHORT_FILE, "truth", f"there is no folder '{spec.truth}'", "add or drop it"
            )
        _modalities(report, spec, subjects, ids, deep)
        run_guards(report, spec, subjects, deep)
    return sorted(report.problems, key=lambda problem: problem.severity)


def _spec(report: Report) -> CohortSpec | None:
    try:
        return read_spec(report.folder)
    except CohortError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            for item in cause.errors():
                where = ".".join(str(part) for part in item["loc"])
                report.error(COHORT_FILE, where, item["msg"], "mend this field")
            return None
        what, _, remedy = str(error).rstrip(".").rpartition("; ")
        report.error(COHORT_FILE, "", what or remedy, remedy if what else "rewrite the file")
    except Exception as error:  # YAML can be arbitrarily odd
        report.error(COHORT_FILE, "", f"cannot be read ({error})", "rewrite the file")
    return None


def _subjects(report: Report) -> pd.DataFrame:
    frame = read_frame(report.folder / SUBJECTS_FILE, ("subject_id", "split"))
    file = SUBJECTS_FILE
    if not len(frame):
        report.error(file, "", "lists no subjects", "add one row a subject")
        return frame
    ids, split = frame["subject_id"], frame["split"]
    twice = ids[ids.duplicated()].unique()
    if len(twice):
        report.error(file, "subject_id", f"{some(twice)} listed twice", "keep one row a subject")
    spread = split.groupby(ids).nunique()
    spread = spread[spread > 1]
    if len(spread):
        report.error(file, "split", f"{some(spread.index)} in two splits", "keep each in one split")
    unknown = sorted(set(split.map(str)) - set(Split))
    if unknown:
        known = ", ".join(Split)
        report.error(file, "split", f"unknown split {', '.join(unknown)}", f"use one of {known}")
    if not (split == Split.TRAIN).any():
        report.lack(file, "split", "no subject is in split train", "put some there")
    if "source_id" in frame:
        known_source = frame[frame["source_id"].notna()]
        per_person = known_source.groupby("source_id")
        leaking = per_person["split"].nunique()
        leaking = leaking[leaking > 1]
        if len(leaking):
            what = f"the same person ({some(leaking.index)}) is in two splits"
            report.error(file, "source_id", what, "keep all rows of a person in one split")
        again = per_person["subject_id"].nunique()
        twofold = again[again > 1].index.difference(leaking.index)
        if len(twofold):
            what = f"the same person has two subject_ids ({some(twofold)})"
            report.warn(file, "source_id", what, "merge them, or count them once")
    if "age_years" in frame:
        age = pd.to_numeric(frame["age_years"], errors="coerce")
        odd = frame["age_years"].notna() & ~age.between(0, 125)
        if odd.any():
            what = f"{some(ids[odd])} with an age outside 0 to 125"
            report.warn(file, "age_years", what, "correct it or leave it empty")
    times = frame.get("index_time", pd.Series(dtype="datetime64[us]"))
    if times.notna().any() and not pd.api.types.is_datetime64_any_dtype(times):
        report.error(file, "index_time", "does not hold times", "use timestamp[us]")
    return frame


def _outcomes(
    report: Report, spec: CohortSpec, subjects: pd.DataFrame, ids: frozenset[int]
) -> None:
    file = OUTCOMES_FILE
    frame = read_frame(report.folder / file, ("subject_id", "task"))
    unknown = sorted(set(frame["task"].map(str)) - set(spec.tasks))
    if unknown:
        what = f"unknown task {', '.join(unknown)}"
        report.error(file, "task", what, f"name it in {COHORT_FILE} or remove its rows")
    strangers = sorted(set(frame["subject_id"]) - ids)
    if strangers and ids:
        report.error(
            file, "subject_id", f"{some(strangers)} not in {SUBJECTS_FILE}", "add or remove them"
        )
    for name, task in spec.tasks.items():
        rows = frame[frame["task"] == name]
        where = f"task {name}"
        if not len(rows):
            report.lack(file, where, "has no outcomes", "add them or drop the task")
            continue
        twice = rows["subject_id"][rows["subject_id"].duplicated()].unique()
        if len(twice):
            report.error(file, where, f"{some(twice)} with two outcomes", "keep one each")
        needed = ("time_days", "event") if task.kind == "survival" else ("label",)
        absent = [column for column in needed if column not in rows]
        for column in absent:
            report.error(file, where, f"column '{column}' is missing", "add it")
        if absent:
            continue
        if task.kind == "survival":
            _survival(report, where, rows, subjects)
        else:
            _labels(report, where, rows, task)


def _survival(report: Report, where: str, rows: pd.DataFrame, subjects: pd.DataFrame) -> None:
    file = OUTCOMES_FILE
    ids = rows["subject_id"]
    time = pd.to_numeric(rows["time_days"], errors="coerce")
    event = pd.to_numeric(rows["event"], errors="coerce")
    bad = time.isna() | np.isinf(time)
    if bad.any():
        what = f"{some(ids[bad])} with a missing or infinite time_days"
        report.error(file, where, what, "fill it or remove the rows")
    if (time < 0).any():
        what = f"{some(ids[time < 0])} with a negative time_days"
        report.error(file, where, what, "correct the dates or remove the rows")
    odd = ~event.isin((0, 1))
    if odd.any():
        what = f"{some(ids[odd])} with an event that is not 0 or 1"
        report.error(file, where, what, "write 1 where it happened, 0 where censored")
    if not (event == 1).any():
        report.error(file, where, "no subject has the event", "add events or drop the task")
    elif len(subjects):
        train = subjects["subject_id"][subjects["split"] == Split.TRAIN]
        if not (event[ids.isin(train)] == 1).any():
            what = "no subject of split train has the event"
            report.error(file, where, what, "move some into train or drop the task")


def _labels(report: Report, where: str, rows: pd.DataFrame, task: TaskSpec) -> None:
    label = pd.to_numeric(rows["label"], errors="coerce")
    classes = len(task.classes)
    if not classes:
        report.error(COHORT_FILE, where, "names no classes", "list them under classes")
        return
    odd = ~label.isin(range(classes))
    if odd.any():
        what = f"{some(rows['subject_id'][odd])} with a label outside 0 to {classes - 1}"
        report.error(OUTCOMES_FILE, where, what, "use the number of the class")
    unused = [name for at, name in enumerate(task.classes) if not (label == at).any()]
    if unused:
        what = f"no subject has class {', '.join(unused)}"
        report.warn(OUTCOMES_FILE, where, what, "add cases or drop the class")


def _folds(report: Report, file: str, ids: frozenset[int]) -> None:
    frame = read_frame(report.folder / file, ("subject_id", "fold"))
    twice = frame["subject_id"][frame["subject_id"].duplicated()].unique()
    if len(twice):
        report.error(file, "subject_id", f"{some(twice)} in two folds", "keep one fold each")
    strangers = sorted(set(frame["subject_id"]) - ids)
    if strangers and ids:
        what = f"{some(strangers)} not in {SUBJECTS_FILE}"
        report.error(file, "subject_id", what, "add or remove them")
    fold = pd.to_numeric(frame["fold"], errors="coerce")
    if fold.isna().any() or (fold < 0).any() or (fold % 1 != 0).any():
        report.error(file, "fold", "holds something else than 0, 1, 2, …", "number the folds")
    left = sorted(ids - set(frame["subject_id"]))
    if left:
        report.warn(file, "subject_id", f"{some(left)} in no fold", "add them")


def _modalities(
    report: Report, spec: CohortSpec, subjects: pd.DataFrame, ids: frozenset[int], deep: bool
) -> None:
    covered: set[int] = set()
    complete = True
    for name in spec.modalities:
        with report.guard(spec.modalities[name].path):
            having = check_modality(report, spec, name, subjects, ids, deep)
            complete &= having is not None
            covered |= having or set()
    if not spec.modalities:
        what = "has no modality yet"
        report.lack(COHORT_FILE, "modalities", what, "add one with 'fusionlens import'")
    bare = sorted(ids - covered)
    if bare and complete and spec.modalities:
        what = f"{some(bare)} without any modality"
        report.error(SUBJECTS_FILE, "subject_id", what, "add their data or remove them")
