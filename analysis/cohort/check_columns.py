"""Guard: columns that are a number of the patient or a date, not a measurement."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis.cohort.evidence import Evidence, Floats, Ints

_ENOUGH = 20


def check_disguised_columns(evidence: Evidence) -> None:
    """Note numeric table columns that look like an ID or a date (a warning).

    Of 20 values or more:
    - different for everybody and in the order of subject_id (Spearman's rank correlation 0.95 or
      more in size): a running number, or the day of enrolment;
    - different for everybody, whole numbers of six digits or more, not all multiples of 10: an ID
      or a time stamp. Counts of cells that large are rounded;
    - whole numbers that are all a date when read as year, month, day (20210228).
    """
    for modality, frame in evidence.tables():
        for name, column in modality.columns.items():
            if name not in frame or column.kind not in ("continuous", "ordinal"):
                continue
            values: Floats = np.asarray(pd.to_numeric(frame[name], errors="coerce"), np.float64)
            there = np.isfinite(values)
            if there.sum() < _ENOUGH:
                continue
            told = _disguise(values[there], frame.index.to_numpy(np.int64)[there])
            if told:
                remedy = "drop the column, or turn a date into a duration"
                evidence.report.warn(modality.path, f"column {name}", told, remedy)


def _disguise(values: Floats, ids: Ints) -> str:
    whole = bool((values % 1 == 0).all())
    span = f"{values.min():.10g} to {values.max():.10g}"
    if whole and len(np.unique(values)) > 1 and _are_dates(values):
        return f"all {len(values)} values are dates written as numbers ({span})"
    if len(np.unique(values)) < len(values):
        return ""
    rank = float(spearmanr(values, ids).statistic)
    if abs(rank) >= 0.95:
        return (
            f"differs for all {len(values)} patients and follows subject_id (rank correlation "
            f"{rank:.2f}, {span})"
        )
    if whole and values.min() >= 100_000 and (values % 10 != 0).any():
        return f"holds {len(values)} different whole numbers of six digits or more ({span})"
    return ""


def _are_dates(values: Floats) -> bool:
    if values.min() < 19_000_101 or values.max() > 22_001_231:
        return False
    text = pd.Series(values.astype(np.int64)).astype(str)
    return bool(pd.to_datetime(text, format="%Y%m%d", errors="coerce").notna().all())
