"""Who of a cohort reaches the analysis of a task: the numbers of a flow diagram, as plain JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split


def cohort_flow(cohort: Cohort, task: str) -> dict[str, Any]:
    """How many subjects, with and without an outcome, with and without data, by split.

    {'task', 'title', 'all': counts, 'splits': {split: counts}}; counts hold subjects,
    without_outcome, with_outcome, events (survival, or the second of two classes; else None) and,
    of those with an outcome, without_any_modality, with_all_modalities, lacking {modality: n} and
    combinations [{'modalities': names, 'n': n}], the commonest first. A patient without any
    modality stays in evaluations; a run then says what it says when it knows nothing.
    """
    split = cohort.subjects["split"].to_numpy(str)
    there = cohort.availability()
    found = {
        str(name): _counts(cohort, task, there[split == str(name)])
        for name in Split
        if (split == str(name)).any()
    }
    return {
        "task": task,
        "title": cohort.spec.task(task).title,
        "all": _counts(cohort, task, there),
        "splits": found,
    }


def _counts(cohort: Cohort, task: str, chosen: pd.DataFrame) -> dict[str, Any]:
    """chosen: availability of the patients counted, subject x modality."""
    ids = chosen.index.to_numpy(np.int64)
    outcomes = cohort.outcomes(task, ids)
    there = chosen.loc[outcomes.subject_ids]
    columns = there.columns.to_numpy(str)
    had = Counter(tuple(columns[row].tolist()) for row in there.to_numpy(bool))
    # Equal counts in the order of the names, so that the same cohort gives the same list.
    rows = sorted((-n, names) for names, n in had.items())
    return {
        "subjects": len(ids),
        "without_outcome": len(outcomes.without),
        "with_outcome": len(outcomes),
        "events": events_of(cohort, task, ids),
        "without_any_modality": int((~there.any(axis=1)).sum()),
        "with_all_modalities": int(there.all(axis=1).sum()),
        "lacking": {str(name): int((~there[name]).sum()) for name in there},
        "combinations": [{"modalities": list(names), "n": -n} for n, names in rows],
    }


def events_of(cohort: Cohort, task: str, ids: npt.NDArray[np.int64]) -> int | None:
    """Patients with the event, or of the second of two classes; None for more classes."""
    outcomes = cohort.outcomes(task, ids)
    if outcomes.event is not None:
        return int(outcomes.event.sum())
    if outcomes.label is None or len(cohort.spec.task(task).classes) != 2:
        return None
    return int((outcomes.label == 1).sum())
