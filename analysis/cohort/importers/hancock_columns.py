"""What the columns of HANCOCK's published feature tables mean.

The tables hold integers where the source held words, numbered in the words' alphabetical order
(missing last). The words below follow from that order, from the record of patient 001 that the
authors show (pT4a is 7, pN2b is 6, G3 is 2, 'not tested' is 1), and from the counts: code 0 of
pN_stage is exactly the 152 patients without a node count (NX), code 3 of grading exactly the 141
p16-positive ones (not graded), codes 3 and 4 of pT_stage occur in the larynx only (T1a, T1b).
Levels that say "not assessed" are missing values of an ordinal column, not a rank. Categories
whose word is not certain keep their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.cohort.schema import Column


@dataclass(frozen=True)
class Source:
    """A column, and how its published integers turn into what the cohort stores.

    names: published integer to rank (ordinal) or category (nominal). not_assessed: published
    integers that mean missing. None of both: the number itself is stored.
    """

    column: Column
    names: Mapping[int, int | str] | None = None
    not_assessed: frozenset[int] = frozenset()


def _binary(title: str) -> Source:
    return Source(Column(kind="binary", title=title))


def _number(title: str, unit: str) -> Source:
    return Source(Column(title=title, unit=unit))


def _nominal(title: str, *categories: str, not_assessed: tuple[int, ...] = ()) -> Source:
    """Categories in the order of the published integers 0, 1, 2, …"""
    column = Column(kind="nominal", title=title, categories=categories)
    return Source(column, dict(enumerate(categories)), frozenset(not_assessed))


def _ordinal(title: str, levels: Mapping[int, str], not_assessed: int) -> Source:
    """Published integer to the level's name, lowest first; ranks count from 0."""
    column = Column(kind="ordinal", title=title, categories=tuple(levels.values()))
    ranks = {code: rank for rank, code in enumerate(levels)}
    return Source(column, ranks, frozenset((not_assessed,)))


CLINICAL: Mapping[str, Source] = {
    "sex": _nominal("Sex", "male", "female"),
    "primarily_metastasis": _binary("Metastasis at diagnosis"),
    "smoking_status": _nominal(
        "Smoking", "former smoker", "non-smoker", "smoker", not_assessed=(3,)
    ),
    "age_at_initial_diagnosis": _number("Age at diagnosis", "years"),
}

PATHOLOGICAL: Mapping[str, Source] = {
    "perinodal_invasion": _binary("Perinodal invasion"),
    "lymphovascular_invasion_L": _binary("Lymphovascular invasion (L)"),
    "vascular_invasion_V": _binary("Vascular invasion (V)"),
    "perineural_invasion_Pn": _binary("Perineural invasion (Pn)"),
    "carcinoma_in_situ": _binary("Carcinoma in situ"),
    "primary_tumor_site": _nominal(
        "Primary site", "unknown primary", "hypopharynx", "larynx", "oral cavity", "oropharynx"
    ),
    "grading": _ordinal("Grading", {0: "G1", 1: "G2", 2: "G3"}, 3),
    "hpv_association_p16": _nominal("p16 (HPV)", "negative", "not tested", "positive"),
    "resection_status": _ordinal("Resection status", {0: "R0", 1: "R1", 2: "R2"}, 3),
    "resection_status_carcinoma_in_situ": _nominal(
        "Resection status of carcinoma in situ", "no carcinoma in situ", "Ris0", "Ris1"
    ),
    "histologic_type": _nominal(
        "Histologic type",
        "type 0",
        "type 1",
        "type 2",
        "SCC basaloid",
        "SCC conventional, keratinizing",
        "SCC conventional, non-keratinizing",
        "type 6",
        "type 7",
        "type 8",
    ),
    "number_of_positive_lymph_nodes": _number("Positive lymph nodes", "count"),
    "infiltration_depth_in_mm": _number("Infiltration depth", "mm"),
    "pT_stage": _ordinal(
        "pT stage",
        {0: "Tis", 2: "T1", 3: "T1a", 4: "T1b", 5: "T2", 6: "T3", 7: "T4a", 8: "T4b"},
        1,
    ),
    "pN_stage": _ordinal(
        "pN stage",
        {
            1: "N0",
            2: "N1",
            3: "N1 (subgroup)",
            4: "N2",
            5: "N2a",
            6: "N2b",
            7: "N2c",
            8: "N3",
            9: "N3b",
        },
        0,
    ),
}

_CELLS = "10⁹/L"
BLOOD: Mapping[str, Source] = {
    "Leukocytes [#/volume] in Blood": _number("Leukocytes", _CELLS),
    "Hemoglobin [Mass/volume] in Blood": _number("Hemoglobin", "g/dL"),
    "Platelets [#/volume] in Blood": _number("Platelets", _CELLS),
    "Erythrocytes [#/volume] in Blood": _number("Erythrocytes", "10¹²/L"),
    "Hematocrit [Volume Fraction] of Blood": _number("Hematocrit", "%"),
    "Erythrocyte mean corpuscular hemoglobin [Entitic mass]": _number("MCH", "pg"),
    "Erythrocyte mean corpuscular volume [Entitic volume]": _number("MCV", "fL"),
    "Erythrocyte mean corpuscular hemoglobin concentration [Mass/volume]": _number("MCHC", "g/dL"),
    "Erythrocyte distribution width [Ratio]": _number("Red cell distribution width", "%"),
    "Platelet mean volume [Entitic volume] in Blood": _number("Mean platelet volume", "fL"),
    "Granulocytes [#/volume] in Blood": _number("Granulocytes", _CELLS),
    "Eosinophils [#/volume] in Blood": _number("Eosinophils", _CELLS),
    "Basophils [#/volume] in Blood": _number("Basophils", _CELLS),
    "Lymphocytes [#/volume] in Blood": _number("Lymphocytes", _CELLS),
    "Monocytes [#/volume] in Blood": _number("Monocytes", _CELLS),
    "Platelet distribution width [Entitic volume] in Blood by Automated count": _number(
        "Platelet distribution width", "fL"
    ),
}

TMA_CELL_DENSITY: Mapping[str, Source] = {
    "cd3_z": _number("CD3, tumour centre", "cells/mm²"),
    "cd3_inv": _number("CD3, invasion front", "cells/mm²"),
    "cd8_z": _number("CD8, tumour centre", "cells/mm²"),
    "cd8_inv": _number("CD8, invasion front", "cells/mm²"),
}


def icd_column(name: str) -> Source:
    """A column such as `c020`: how often ICD-10 code C02.0 was recorded."""
    code = name.upper()
    return _number(f"ICD-10 {code[:3]}.{code[3:]}" if len(code) > 3 else f"ICD-10 {code}", "count")
