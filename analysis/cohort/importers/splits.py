"""Draws splits and folds by chance, stratified by event, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

from analysis.cohort.importers.study import as_text
from analysis.cohort.schema import CohortError, Split


def draw_splits(event: pd.Series[bool], seed: int) -> pd.Series[str]:
    """Train 64 %, tuning 16 %, internal 20 %, by subject (the index of `event`).

    Raises CohortError when there are too few subjects with and without the event.
    """
    ids = event.index.to_numpy(np.int64)
    split = pd.Series(Split.TRAIN.value, index=event.index)
    try:
        rest, internal = train_test_split(ids, test_size=0.2, stratify=event, random_state=seed)
        left = event.loc[rest]
        _, tuning = train_test_split(rest, test_size=0.2, stratify=left, random_state=seed)
    except ValueError as error:
        raise CohortError(
            f"too few patients, or too few with the event, to split ({error}); take more patients, "
            "or say who is in which split."
        ) from error
    split.loc[internal] = Split.INTERNAL.value
    split.loc[tuning] = Split.TUNING.value
    return split


def draw_folds(
    event: pd.Series[bool], folds: int, seed: int, groups: pd.Series[int] | None = None
) -> pd.Series[int]:
    """Fold number from 0 by subject (the index of `event`).

    groups: a finer division of the subjects to stratify by, where every fold can have some of
    each group; by `event` otherwise. Raises CohortError when a fold could not hold both kinds of
    subjects.
    """
    happened = event.to_numpy(bool)
    fewest = min(int(happened.sum()), int((~happened).sum()))
    if not 2 <= folds <= fewest:
        raise CohortError(
            f"folds: {folds} folds cannot be drawn from {int(happened.sum())} events among "
            f"{len(happened)} patients; choose 2 to {fewest}."
        )
    strata = np.asarray(happened, np.int64)
    if groups is not None and groups.value_counts().min() >= folds:
        strata = np.asarray(groups.loc[event.index], np.int64)
    fold = np.empty(len(happened), np.int64)
    drawn = StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata)
    for number, (_, held_out) in enumerate(drawn):
        fold[held_out] = number
    return pd.Series(fold, index=event.index)


KNOWN_SPLITS = {
    **{split.value: split for split in Split},
    "training": Split.TRAIN,
    "valid": Split.TUNING,
    "val": Split.TUNING,
    "validation": Split.TUNING,
    "tune": Split.TUNING,
    "test": Split.INTERNAL,
    "testing": Split.INTERNAL,
    "held_out": Split.INTERNAL,
}


def read_splits(given: pd.Series[str], values: Mapping[str, Split], where: str) -> pd.Series[str]:
    """A data set's own names of splits as those of a cohort. where: named in errors.

    values: what names mean that are not known, in small letters.

    Raises CohortError on a name that is neither in `values` nor known, or on an empty cell.
    """
    if given.isna().any():
        raise CohortError(
            f"{where}: is empty in {int(given.isna().sum())} rows; fill it or leave the rows out."
        )
    known = {**KNOWN_SPLITS, **values}
    names = given.map(as_text)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise CohortError(
            f"{where}: '{unknown[0]}' is no known split; say what it means under "
            "split.values in study.yaml."
        )
    return names.map({name: split.value for name, split in known.items()})


def draw_splits_by_person(
    event: pd.Series[bool], person: pd.Series[str], seed: int
) -> pd.Series[str]:
    """`draw_splits` of persons, each with all its subjects. event, person: by subject."""
    ever = event.groupby(person).any()
    numbered = ever.set_axis(pd.RangeIndex(len(ever), name="subject_id"))
    drawn = draw_splits(numbered, seed).set_axis(ever.index)
    return person.map(drawn)


def told_splits(split: pd.Series[str]) -> str:
    """'64 train, 16 tuning, 20 internal': how many subjects are in which split, for a note."""
    counts = split.value_counts()
    return ", ".join(f"{counts[name]:,} {name}" for name in Split if name in counts)
