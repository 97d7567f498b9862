"""Imports INSPECT: CT pulmonary angiographies with outcomes, one row a study.

The health record is added afterwards (`fusionlens import meds`): a study's person is kept as its
`source_id`, the id of the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.importers.compose import creating
from analysis.cohort.importers.identities import Identities
from analysis.cohort.importers.imaging_add import How, Wanted, add_files, below, counted
from analysis.cohort.importers.imaging_files import Item
from analysis.cohort.importers.inspect_labels import choose, outcomes
from analysis.cohort.importers.inspect_release import Release, read_release
from analysis.cohort.importers.study import Study, Unit
from analysis.cohort.schema import CohortError, CohortSpec, Provenance, TaskSpec
from models.contracts import Kind

CT = "ct"
_CITATION = (
    "Huang et al., INSPECT: A Multimodal Dataset for Pulmonary Embolism Diagnosis and Prognosis, "
    "NeurIPS 2023 Datasets and Benchmarks"
)
# Of a person in several splits the studies of the first of these are kept.
_RANK = {"internal": 0, "tuning": 1, "train": 2}


def import_inspect(
    src: Path,
    out: Path,
    *,
    tasks: Sequence[str] = (),
    study: Study | None = None,
    identities: Identities | None = None,
    unit: Unit | None = None,
    index_offset_days: int = 0,
    keep_test: bool = False,
    how: How | None = None,
) -> Cohort:
    """Make a cohort folder `out` of INSPECT's folder `full`, and open it.

    Splits train, valid and test become train, tuning and internal. Time zero is the scan, moved
    by `index_offset_days` (-1: the day before, as INSPECT's own scripts have it for the embolism
    itself), and times of outcomes with it. keep_test: a person in several splits keeps the test
    (else valid) studies; otherwise that is an error. A missing scan is counted.
    Raises CohortError naming what is wrong; nothing is then left behind.
    """
    how, identities = how or How(), identities or Identities()
    release = read_release(Path(src), how.note)
    studies = _one_split(release.studies, Path(src), keep_test, how)
    specs = choose(studies, tasks)
    rows = outcomes(studies, list(specs), unit, index_offset_days, how.note)
    if not tasks:
        specs = _with_events(specs, rows, studies, how)
        rows = rows[rows["task"].isin(specs)]
    numbers = pd.Series(identities.numbers(list(studies.index)), index=studies.index)
    subjects = _subjects(studies, numbers, identities, index_offset_days)
    _tell_index(studies, specs, index_offset_days, how)
    rows = rows.assign(subject_id=rows["study"].map(numbers)).drop(columns="study")
    wanted = _scans(release, studies, numbers, identities, index_offset_days >= 0, how)
    if how.link and identities.hidden:
        raise CohortError(
            "--link keeps the files as they are, headers and all, which --key is to hide; leave "
            "one of them out."
        )
    spec = _spec(specs, study, identities, index_offset_days)
    with creating(Path(out), spec, subjects, rows, how.note) as addition:
        if wanted:
            add_files(below(addition, CT), CT, Kind.VOLUME, wanted, how, study)
    return Cohort.open(Path(out))


def _one_split(studies: pd.DataFrame, src: Path, keep_test: bool, how: How) -> pd.DataFrame:
    """Studies of persons who are in one split only."""
    spread = studies.groupby("person")["split"].nunique()
    mixed = spread.index[spread > 1]
    if not len(mixed):
        return studies
    rows = studies[studies["person"] == mixed[0]]
    example = " and ".join(f"study {study} in {split}" for study, split in rows["split"].items())
    if not keep_test:
        raise CohortError(
            f"{src}: {counted(len(mixed), 'person')} in more than one split (person {mixed[0]}: "
            f"{example}), so that a test patient would have been trained on; give --keep-test to "
            "keep of such persons the test studies only (else the valid ones)."
        )
    rank = studies["split"].map(_RANK)
    kept = studies[rank == rank.groupby(studies["person"]).transform("min")]
    how.note(
        f"Left out: {counted(len(studies) - len(kept), 'study').replace('studys', 'studies')} of "
        f"{counted(len(mixed), 'person')} who are in more than one split."
    )
    return kept


def _with_events(
    specs: dict[str, TaskSpec], rows: pd.DataFrame, studies: pd.DataFrame, how: How
) -> dict[str, TaskSpec]:
    """The tasks whose event happened to somebody in train: a part of the data may lack some."""
    train = rows[rows["study"].map(studies["split"]) == "train"]
    happened = train[train["event"].eq(1) | train["label"].notna()]
    kept = {name: spec for name, spec in specs.items() if name in set(happened["task"])}
    without = [name for name in specs if name not in kept]
    if without:
        how.note(f"Left out, nobody in train has the event: {', '.join(without)}.")
    return kept


def _subjects(
    studies: pd.DataFrame, numbers: pd.Series[int], identities: Identities, offset: int
) -> pd.DataFrame:
    shift = pd.to_timedelta([identities.shift_us(p) for p in studies["person"]], unit="us")
    return pd.DataFrame(
        {
            "subject_id": numbers.to_numpy(),
            "split": studies["split"].to_numpy(),
            "index_time": (studies["time"] + shift + pd.Timedelta(days=offset)).to_numpy(),
            "source_id": identities.names(studies["person"]),
            "study_id": identities.names(studies.index),
        }
    )


def _tell_index(studies: pd.DataFrame, specs: dict[str, TaskSpec], offset: int, how: How) -> None:
    without = int(studies["time"].isna().sum())
    if without:
        how.note(
            f"{without:,} of {len(studies):,} studies have no time: they keep scan and outcome, "
            "but no record can be placed before them."
        )
    if offset == 0 and "pe" in specs:
        how.note(
            "warning: time zero is the scan, and the record of its day may already name the "
            "embolism; for task 'pe' import with --index-offset-days -1, as INSPECT's own scripts "
            "do."
        )


def _scans(
    release: Release,
    studies: pd.DataFrame,
    numbers: pd.Series[int],
    identities: Identities,
    dated: bool,
    how: How,
) -> list[Wanted]:
    """The files there are. dated: the scan is not after the index day, so its time is kept."""
    made, missing = [], 0
    for study, person, time in zip(studies.index, studies["person"], studies["time"], strict=True):
        there = [path for path in release.images.get(study, ()) if path.is_file()]
        missing += not there
        if not there:
            continue
        when = time.to_pydatetime() if dated and pd.notna(time) else None
        items = tuple(Item(Kind.VOLUME, path, acquired=when) for path in there)
        made.append(Wanted((int(numbers[study]),), items, identities.shift_us(person)))
    if missing:
        how.note(
            f"{missing:,} of {len(studies):,} studies have no scan in {release.folder.name}/; they "
            "are kept without."
        )
    return made


def _spec(
    specs: dict[str, TaskSpec], study: Study | None, identities: Identities, offset: int
) -> CohortSpec:
    event = "CT pulmonary angiography"
    if offset:
        days = counted(abs(offset), "day")
        event = f"{days} {'before' if offset < 0 else 'after'} {event}"
    if study is not None:
        specs = {name: _titled(spec, name, study) for name, spec in specs.items()}
    return CohortSpec(
        name=study.name if study else "inspect",
        title=study.title if study else "INSPECT",
        description=(study.description if study else "")
        or (
            "CT pulmonary angiographies of Stanford Medicine, one row a study; a person may have "
            "several, all in one split. Labels that INSPECT calls censored are missing."
        ),
        index_event=(study.index_event if study else "") or event,
        modalities={},
        tasks=specs,
        provenance=Provenance(
            source=(study.source if study else "") or "INSPECT, Stanford AIMI",
            licence=study.licence if study else "",
            citation=(study.citation if study else "") or _CITATION,
        ),
        pseudonyms=identities.pseudonyms,
    )


def _titled(spec: TaskSpec, name: str, study: Study) -> TaskSpec:
    """The task with what study.yaml says of one of that name."""
    given = study.tasks.get(name)
    if given is None:
        return spec
    return spec.model_copy(
        update={
            "title": given.title,
            "event_title": given.event_title or spec.event_title,
            "horizon_days": given.horizon_days or spec.horizon_days,
        }
    )
