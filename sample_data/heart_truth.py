"""The truth folder of the simulated heart-failure cohort: rows of its tables, and masks.

What each file holds is said in `heart_cohort`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sample_data.ecg_signal import Tracing
from sample_data.heart import Heart
from sample_data.heart_outcomes import HF, INCIDENT_HF, TERMS, HeartOutcome, t_inversion_shown
from sample_data.heart_patients import HeartPatient

if TYPE_CHECKING:
    from sample_data.echo_loop import Loop


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


def write_masks(path: Path, loops: Mapping[str, Loop]) -> None:
    """Write truth/echo/ID.npz; the loops are of one size."""
    masks = {
        f"{view}.{structure}": np.packbits(mask)
        for view, loop in loops.items()
        for structure, mask in loop.masks.items()
    }
    shape = np.asarray(next(iter(loops.values())).frames.shape[:3], np.int32)
    # numpy dates the members of an archive 1980, so equal masks are equal bytes
    np.savez_compressed(path, shape=shape, **masks)  # type: ignore[arg-type]


def read_echo_masks(folder: Path, subject_id: int) -> dict[str, dict[str, np.ndarray]]:
    """{view: {structure: (frames, height, width) bool}} of a patient whose echo was written.

    Raises FileNotFoundError where the patient has none.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(Path(folder) / "truth" / "echo" / f"{int(subject_id)}.npz") as stored:
        shape = tuple(stored["shape"].tolist())
        for name in stored.files:
            if name != "shape":
                view, structure = name.split(".")
                bits = np.unpackbits(stored[name], count=int(np.prod(shape)))
                found.setdefault(view, {})[structure] = bits.reshape(shape).astype(bool)
    return found
