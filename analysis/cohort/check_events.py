"""Guards of event records: what lies after time zero, what is there twice, codes spelled twice."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.cohort.evidence import DEATH, Evidence
from analysis.cohort.readers.events import STATIC, EventTable

_MOSTLY, _FEW = 0.5, 20


def check_events_after_index(evidence: Evidence) -> None:
    """Note a record most of which lies after time zero, where no model sees it (a warning).

    Records that go on after time zero are the rule, outcomes come from there, so the guard is
    silent up to half of the dated events and below 20 of them. MEDS_DEATH does not count. What a
    patient has only after time zero is noted by the check itself, whatever its share.
    """
    for modality, table in evidence.events():
        index = np.repeat(evidence.index_of(table.subject_ids), np.diff(table.starts))
        dated = (table.time_us != STATIC) & (index != STATIC)
        if DEATH in table.codes:
            dated &= table.code_index != table.codes.index(DEATH)
        after = dated & (table.time_us > index)
        share = after.sum() / max(dated.sum(), 1)
        if after.sum() < _FEW or share <= _MOSTLY:
            continue
        owner = table.row_subjects()
        having, late = len(np.unique(owner[dated])), len(np.unique(owner[after]))
        what = (
            f"{after.sum():,} of {dated.sum():,} dated events ({share:.0%}) of {late:,} of "
            f"{having:,} patients lie after time zero and are hidden from every model"
        )
        remedy = "check that index_time is the moment of prediction"
        evidence.report.warn(modality.path, "time", what, remedy)


def check_repeated_events(evidence: Evidence) -> None:
    """Note events that are there twice: same subject, time, code, value and text.

    A warning from 1 % of all events and 10 of them on: a repeat here and there is what hospital
    systems send, a share of the record is a table that was joined or appended twice.
    """
    for modality, table in evidence.events():
        twice = _repeats(table)
        if twice.sum() < max(10, 0.01 * len(table)):
            continue
        subjects = len(np.unique(table.row_subjects()[twice]))
        most = np.bincount(table.code_index[twice]).argmax()
        what = (
            f"{twice.sum():,} of {len(table):,} events ({twice.mean():.1%}) of {subjects:,} "
            f"patients repeat an event in every field, most often {table.codes[most]}"
        )
        remedy = "keep each event once; a table may have been joined or appended twice"
        evidence.report.warn(modality.path, "code", what, remedy)


def _repeats(table: EventTable) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(E,) bool: rows that repeat an earlier one; NaN equals NaN."""
    rows = pd.DataFrame(
        {
            "subject": table.row_subjects(),
            "time": table.time_us,
            "code": table.code_index,
            "value": table.value,
            "text": table.text_index,
        }
    )
    return np.asarray(rows.duplicated().to_numpy(), bool)


def check_code_spelling(evidence: Evidence) -> None:
    """Note codes that differ by case or blanks alone (a warning): models take them for two."""
    for modality, table in evidence.events():
        counts = np.bincount(table.code_index, minlength=len(table.codes))
        spelled: dict[str, list[int]] = {}
        for at, code in enumerate(table.codes):
            spelled.setdefault("".join(code.split()).casefold(), []).append(at)
        double = [group for group in spelled.values() if len(group) > 1]
        if not double:
            continue
        first = max(double, key=lambda group: counts[group].sum())
        told = " and ".join(f"'{table.codes[at]}' ({counts[at]:,} events)" for at in first)
        what = (
            f"{len(double)} of {len(table.codes):,} codes are spelled in several ways that differ "
            f"by case or blanks, e.g. {told}"
        )
        evidence.report.warn(modality.path, "code", what, "write each code one way")
