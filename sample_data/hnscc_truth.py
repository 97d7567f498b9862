"""The truth folder of the simulated head and neck cancer cohort: rows of its tables.

What each file holds is said in `hnscc_cohort`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sample_data.hnscc_bags import TUMOUR, Instances
from sample_data.hnscc_outcomes import DEATH_5Y, OVERALL, TERMS, HnsccOutcome
from sample_data.hnscc_patients import MODALITIES, HnsccPatient, Modality


def truth_row(
    patient: HnsccPatient, outcome: HnsccOutcome, has: Mapping[Modality, bool]
) -> dict[str, Any]:
    """A row of truth/patients.parquet."""
    return {
        "subject_id": patient.subject_id,
        "true_log_hazard_overall_survival": outcome.log_hazard,
        "true_log_hazard_recurrence_free_survival": outcome.log_hazard_rfs,
        **{
            f"term_{task}_{name}": value
            for task in (OVERALL, DEATH_5Y)
            for name, value in outcome.terms.items()
        },
        **patient.latent,
        "p16_positive": patient.p16_positive,
        "metastasis": patient.metastasis,
        "margin": patient.margin,
        **{
            f"shown_{bag}_{name}": value
            for bag, shown in patient.shown.items()
            for name, value in shown.items()
        },
        **{f"has_{name}": has[name] for name in MODALITIES},
    }


def instance_rows(patient: HnsccPatient, bag: Modality, drawn: Instances) -> list[dict[str, Any]]:
    """Rows of truth/bag_instances.parquet."""
    told = zip(drawn.names, drawn.tissue, drawn.carries, drawn.x, drawn.y, strict=True)
    return [
        {
            "subject_id": patient.subject_id,
            "modality": bag,
            "instance": name,
            "tissue": tissue,
            "tumour": tissue == TUMOUR,
            "carries": carries,
            "x": x,
            "y": y,
        }
        for name, tissue, carries, x, y in told
    ]


def term_rows() -> list[dict[str, Any]]:
    """Rows of truth/hazard_terms.parquet: who shows each summand, best first from place 1."""
    return [
        {
            "term": term.name,
            "coefficient": term.coefficient,
            "meaning": term.title,
            "modality": modality,
            "place": place,
            "alone": len(term.shown_by) == 1,
        }
        for term in TERMS
        for place, modality in enumerate(term.shown_by, start=1)
    ]


def causal_columns() -> list[dict[str, Any]]:
    """Rows of truth/lab_columns.parquet: task, column, term, coefficient, meaning."""
    return [
        {
            "task": task,
            "column": column,
            "term": term.name,
            "coefficient": term.coefficient,
            "meaning": term.title,
        }
        for task in (OVERALL, DEATH_5Y)
        for term in TERMS
        for column in term.columns
    ]
