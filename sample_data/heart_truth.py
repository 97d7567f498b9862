"""The truth folder of the simulated heart-failure cohort: rows of its tables.

What each file holds is said in `heart_cohort`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sample_data.ecg_signal import Tracing
from sample_data.heart import Heart
from sample_data.heart_outcomes import HF, INCIDENT_HF, TERMS, HeartOutcome, t_inversion_shown
from sample_data.heart_patients import HeartPatient


def truth_row(patient: HeartPatient, outcome: HeartOutcome) -> dict[str, Any]:
    """A row of truth/patients.parquet."""
    state = asdict(patient.heart) | {"views": " ".join(patient.heart.views)}
    return {
        "subject_id": patient.subject_id,
        "true_logit_hf": outcome.logit,
        "true_log_hazard_incident_hf": outcome.log_hazard,
        **{
            f"term_{task}_{n}": v for task, terms in outcome.terms.items() for n, v in terms.items()
        },
        **state,
        "has_labs": patient.has_labs,
        "has_ecg": patient.has_ecg,
        "has_echo": patient.has_echo,
    }


def findings(heart: Heart) -> dict[str, tuple[str, str]]:
    """{segment: (task, findings)} of the waves that move a task's outcome in this heart."""
    qrs = []
    if heart.block != "none":
        qrs.append(f"{heart.block} bundle branch block")
    elif heart.qrs_ms >= 110.0:
        qrs.append("wide QRS")
    if heart.voltage >= 1.35:
        qrs.append("high QRS voltage")
    found = {"QRS": (HF, "; ".join(qrs))} if qrs else {}
    if heart.rhythm == "af":
        found["TQ"] = (HF, "atrial fibrillation")
    if t_inversion_shown(heart) >= 0.5:
        found["T"] = (INCIDENT_HF, "inverted lateral T waves")
    return found


def segment_rows(patient: HeartPatient, tracing: Tracing) -> list[dict[str, Any]]:
    """Rows of truth/ecg_segments.parquet."""
    carried = findings(patient.heart)
    rows = []
    for segment in tracing.segments:
        task, finding = carried.get(segment.wave, ("", ""))
        rows.append(
            {
                "subject_id": patient.subject_id,
                "beat": segment.beat,
                "segment": segment.wave,
                "start_s": segment.start_s,
                "end_s": segment.end_s,
                "carries": finding,
                "task": task,
            }
        )
    return rows


def causal_columns() -> list[dict[str, object]]:
    """Rows of truth/lab_columns.parquet: task, column, term, coefficient, meaning."""
    return [
        {
            "task": task,
            "column": column,
            "term": term.name,
            "coefficient": term.coefficient,
            "meaning": term.title,
        }
        for task, terms in TERMS.items()
        for term in terms
        for column in term.columns
    ]
