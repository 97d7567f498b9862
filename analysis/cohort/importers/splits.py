"""Draws splits and folds by chance, stratified by event, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

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
        raise CohortError(f"too few patients to split ({error}); use the whole table.") from error
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
