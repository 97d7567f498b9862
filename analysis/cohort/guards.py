"""The guards of a cohort: faults that every file of it can have and still be read without error.

Each guard is a function of the gathered evidence, in a file of its own concept, whose docstring
states its rule and thresholds. What makes numbers wrong for sure is an error, what deserves a
look a warning; every problem carries the numbers that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.cohort.check_columns import check_disguised_columns
from analysis.cohort.check_duplicates import check_same_content, check_same_rows
from analysis.cohort.check_ecg import check_ecg_leads
from analysis.cohort.check_events import (
    check_code_spelling,
    check_events_after_index,
    check_repeated_events,
)
from analysis.cohort.check_hu import check_hu_range
from analysis.cohort.check_leakage import check_leaking_codes, check_leaking_columns
from analysis.cohort.check_orientation import check_orientation
from analysis.cohort.check_persons import check_persons
from analysis.cohort.check_polarity import check_polarity
from analysis.cohort.check_time_units import check_time_units
from analysis.cohort.evidence import Evidence, gather
from analysis.cohort.report import Report
from analysis.cohort.schema import COHORT_FILE, CohortSpec

GUARDS: tuple[Callable[[Evidence], None], ...] = (
    check_persons,
    check_polarity,
    check_time_units,
    check_events_after_index,
    check_repeated_events,
    check_code_spelling,
    check_leaking_codes,
    check_leaking_columns,
    check_disguised_columns,
    check_same_content,
    check_same_rows,
    check_ecg_leads,
    check_hu_range,
    check_orientation,
)


def run_guards(report: Report, spec: CohortSpec, subjects: pd.DataFrame, deep: bool) -> None:
    """Note what the guards find. Without readable subjects there is nothing to judge."""
    if not len(subjects):
        return
    with report.guard(COHORT_FILE):
        evidence = gather(report, spec, subjects, deep)
        for guard in GUARDS:
            with report.guard(COHORT_FILE):
                guard(evidence)
