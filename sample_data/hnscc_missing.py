"""Which modalities a simulated head and neck cancer patient has, by a stated mechanism.

    clinical, pathological   complete, as in HANCOCK
    blood                    completely at random, 692 of 763
    icd                      completely at random, 712 of 763
    tma                      at random given the site: B and C embed few of their tumours
    cell_density             counted on the microarray: never without tma, else 736 of 760
    wsi                      at random given the pT stage: few small tumours were scanned

Stage and site also go with the outcome, so that patients without a slide do better than those
with one, although whether it was scanned does not depend on the outcome itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.cohort.importers.hancock_columns import PATHOLOGICAL as PATHOLOGICAL_SOURCES
from sample_data.hnscc_patients import (
    BLOOD,
    CELL_DENSITY,
    CLINICAL,
    ICD,
    MODALITIES,
    PATHOLOGICAL,
    TMA,
    WSI,
    HnsccPatient,
    Modality,
    Stream,
)

AT_RANDOM: Mapping[str, float] = {
    CLINICAL: 1.0,
    PATHOLOGICAL: 1.0,
    BLOOD: 692 / 763,
    ICD: 712 / 763,
}
TMA_BY_SITE: Mapping[str, float] = {"A": 0.99, "B": 0.55, "C": 0.75}
DENSITY_GIVEN_TMA = 736 / 760
WSI_BY_STAGE: Mapping[str, float] = {"T1": 0.82, "T2": 0.95, "T3": 0.99, "T4": 0.99, "": 0.90}
"""By the first two letters of the pT stage; '' where it was not assessed."""

_STAGES = PATHOLOGICAL_SOURCES["pT_stage"].column.categories


def stage_of(patient: HnsccPatient) -> str:
    """A key of WSI_BY_STAGE."""
    rank = patient.tables[PATHOLOGICAL]["pT_stage"]
    return "" if rank is None else _STAGES[int(rank)][:2]


def present(patient: HnsccPatient) -> dict[Modality, bool]:
    """Which modalities the patient has. Everyone has clinical and pathological data."""
    drawn = dict(
        zip(MODALITIES, patient.generator(Stream.PRESENCE).random(len(MODALITIES)), strict=True)
    )
    has = {name: bool(drawn[name] < share) for name, share in AT_RANDOM.items()}
    has[TMA] = bool(drawn[TMA] < TMA_BY_SITE[patient.site.name])
    has[CELL_DENSITY] = has[TMA] and bool(drawn[CELL_DENSITY] < DENSITY_GIVEN_TMA)
    has[WSI] = bool(drawn[WSI] < WSI_BY_STAGE[stage_of(patient)])
    return {name: has[name] for name in MODALITIES}


def mechanism_rows() -> list[dict[str, Any]]:
    """Rows of truth/missing.parquet: modality, mechanism, depends_on, level, chance_present."""
    rows = []
    for name, share in AT_RANDOM.items():
        how = "completely at random" if share < 1.0 else "complete"
        rows.append(_row(name, how, "", "", share))
    for site, share in TMA_BY_SITE.items():
        rows.append(_row(TMA, "at random given the site", "site", site, share))
    rows.append(_row(CELL_DENSITY, "never without tma", "tma", "absent", 0.0))
    rows.append(_row(CELL_DENSITY, "completely at random", "tma", "present", DENSITY_GIVEN_TMA))
    for stage, share in WSI_BY_STAGE.items():
        level = stage or "not assessed"
        rows.append(_row(WSI, "at random given the stage", "pT_stage", level, share))
    return rows


def _row(name: str, how: str, depends_on: str, level: str, share: float) -> dict[str, Any]:
    return {
        "modality": name,
        "mechanism": how,
        "depends_on": depends_on,
        "level": level,
        "chance_present": share,
    }


def pattern_rows(
    patients: Sequence[HnsccPatient], has: Sequence[Mapping[Modality, bool]]
) -> list[dict[str, Any]]:
    """Rows of truth/patterns.parquet: split, site, has_MODALITY, patients; commonest first."""
    counted: dict[tuple[Any, ...], int] = {}
    for patient, there in zip(patients, has, strict=True):
        key = (patient.split.value, patient.site.name, *(there[name] for name in MODALITIES))
        counted[key] = counted.get(key, 0) + 1
    names = ("split", "site", *(f"has_{name}" for name in MODALITIES))
    ordered = sorted(counted.items(), key=lambda item: (item[0][0], item[0][1], -item[1], item[0]))
    return [{**dict(zip(names, key, strict=True)), "patients": n} for key, n in ordered]


def chance_of(patient: HnsccPatient, modality: Modality) -> float:
    """The stated chance that the patient has the modality."""
    if modality in AT_RANDOM:
        return AT_RANDOM[modality]
    if modality == WSI:
        return WSI_BY_STAGE[stage_of(patient)]
    share = TMA_BY_SITE[patient.site.name]
    return share if modality == TMA else float(np.prod((share, DENSITY_GIVEN_TMA)))
