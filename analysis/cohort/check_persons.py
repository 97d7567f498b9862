"""Guard: one person must not be on both sides of a split or a fold."""

from __future__ import annotations

import pandas as pd

from analysis.cohort.evidence import Evidence
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.report import some
from analysis.cohort.schema import SUBJECTS_FILE


def check_persons(evidence: Evidence) -> None:
    """Note persons who are in two folds, or in two splits under two spellings of their id.

    The check itself compares ids letter by letter. Here source_id is compared without case,
    blanks and leading zeros ('0012' and '12 ' are one person): a warning, because two hospitals
    may well use both. A person in two folds is an error: cross-validation then tests on those it
    trained on.
    """
    subjects = evidence.subjects
    if "source_id" not in subjects:
        return
    source = subjects["source_id"].dropna().map(str)
    plain = source.str.strip().str.casefold().str.lstrip("0")
    plain = plain[plain != ""]
    pairs = pd.DataFrame({"person": plain, "source": source, "split": evidence.split}).dropna()
    grouped = pairs.groupby("person")
    spellings, splits = grouped["source"].nunique(), grouped["split"].nunique()
    found = sorted(spellings.index[(spellings > 1) & (splits > 1)])
    if found:
        rows = pairs[pairs["person"] == found[0]]
        told = ", ".join(
            f"'{s}' in {p}" for s, p in zip(rows["source"], rows["split"], strict=True)
        )
        what = (
            f"{len(found)} of {grouped.ngroups} persons are in two splits if case, blanks and "
            f"leading zeros of the id do not count ({told})"
        )
        remedy = "write one id a person and keep a person in one split"
        evidence.report.warn(SUBJECTS_FILE, "source_id", what, remedy)
    _folds(evidence, source)


def _folds(evidence: Evidence, source: pd.Series[str]) -> None:
    name = evidence.spec.folds
    if name is None or not (evidence.report.folder / name).is_file():
        return
    folds = evidence.report.attempt(
        name, lambda: read_frame(evidence.report.folder / name, ("subject_id", "fold"))
    )
    if folds is None:
        return
    once = folds.drop_duplicates("subject_id").set_index("subject_id")["fold"]
    number = source.index.to_series().map(once).groupby(source).nunique()
    torn = sorted(number[number > 1].index)
    if torn:
        what = f"the same person ({some(torn)}) is in two folds"
        remedy = "keep all rows of a person in one fold"
        evidence.report.error(name, "fold", what, remedy)
