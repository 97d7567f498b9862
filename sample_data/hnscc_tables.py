"""The five tables of a simulated head and neck cancer patient, in HANCOCK's columns.

Columns, units and categories are those of `analysis.cohort.importers.hancock_columns`; frequencies
and medians are near those of HANCOCK's published tables. Of HANCOCK's forty ICD-10 codes
the commonest remain.

`cell_density` is the noise modality: it has HANCOCK's distribution and nothing of the patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.special import ndtr

from analysis.cohort.importers import hancock_columns as hancock
from analysis.cohort.schema import Column

Cell = float | str | None


@dataclass(frozen=True, kw_only=True)
class Drivers:
    """What moves the tables. margin: R0, R1 or R2. latent: of `hnscc_patients.LATENT`."""

    age_years: float
    sex: str
    primary_site: str
    smoking: str
    p16_positive: bool
    metastasis: bool
    margin: str
    latent: Mapping[str, float]


# How often HANCOCK gives each code by primary site, in the order hypopharynx, larynx, oral
# cavity, oropharynx; rare codes a little more often than there, so that a small cohort has them.
_CODE_SHARES: Mapping[str, tuple[float, float, float, float]] = {
    "c021": (0.00, 0.00, 0.59, 0.01),
    "c051": (0.01, 0.00, 0.03, 0.07),
    "c090": (0.00, 0.00, 0.01, 0.06),
    "c091": (0.00, 0.00, 0.01, 0.06),
    "c098": (0.00, 0.00, 0.02, 0.16),
    "c102": (0.03, 0.01, 0.01, 0.08),
    "c108": (0.08, 0.01, 0.06, 0.33),
    "c109": (0.03, 0.00, 0.00, 0.07),
    "c138": (0.62, 0.03, 0.01, 0.03),
    "c320": (0.02, 0.49, 0.00, 0.01),
    "c321": (0.01, 0.19, 0.01, 0.01),
    "c328": (0.07, 0.25, 0.00, 0.01),
    "d370": (0.05, 0.00, 0.10, 0.05),
}
_CODE_SITES = ("hypopharynx", "larynx", "oral cavity", "oropharynx")
NODES_CODE = "c770"  # secondary malignant neoplasm of lymph nodes of head, face and neck


def _columns(source: Mapping[str, hancock.Source]) -> Mapping[str, Column]:
    return {name: item.column for name, item in source.items()}


CLINICAL_COLUMNS = _columns(hancock.CLINICAL)
PATHOLOGICAL_COLUMNS = _columns(hancock.PATHOLOGICAL)
BLOOD_COLUMNS = _columns(hancock.BLOOD)
CELL_DENSITY_COLUMNS = _columns(hancock.TMA_CELL_DENSITY)
ICD_COLUMNS = _columns(
    {name: hancock.icd_column(name) for name in sorted([*_CODE_SHARES, NODES_CODE])}
)


def _chance(rng: np.random.Generator, log_odds: float) -> bool:
    return bool(rng.random() < 1.0 / (1.0 + exp(-log_odds)))


def mixed(own: float, latent: float, share: float) -> float:
    """Standard normal, correlated `share` with the latent quantity."""
    return share * latent + sqrt(1.0 - share**2) * own


def level_of(value: float, shares: Mapping[str, float]) -> str:
    """The level at a standard normal value, where the levels, lowest first, have these shares."""
    quantile = float(ndtr(value)) * sum(shares.values())
    at = int(np.searchsorted(np.cumsum(list(shares.values())), quantile))
    return list(shares)[min(at, len(shares) - 1)]


def _rank(columns: Mapping[str, Column], name: str, level: str) -> float:
    return float(columns[name].categories.index(level))


# ---------------------------------------------------------------- clinical


def draw_clinical(drivers: Drivers, rng: np.random.Generator) -> dict[str, Cell]:
    """Sex, metastasis at diagnosis, smoking and age."""
    unknown, unasked = rng.random(2)
    return {
        "sex": drivers.sex,
        "primarily_metastasis": None if unknown < 0.031 else float(drivers.metastasis),
        "smoking_status": None if unasked < 0.021 else drivers.smoking,
        "age_at_initial_diagnosis": drivers.age_years,
    }


# ---------------------------------------------------------------- pathology

_PT: Mapping[str, float] = {
    "T1": 0.357,
    "T2": 0.352,
    "T3": 0.171,
    "T4a": 0.113,
    "T4b": 0.007,
}
_PN: Mapping[str, float] = {
    "N0": 0.328,
    "N1": 0.184,
    "N2": 0.060,
    "N2a": 0.049,
    "N2b": 0.204,
    "N2c": 0.090,
    "N3": 0.032,
    "N3b": 0.053,
}
# How far tumour and nodes are ahead of the usual at each site.
_T_SHIFT: Mapping[str, float] = {"hypopharynx": 0.35, "larynx": 0.05, "oropharynx": -0.05}
_N_SHIFT: Mapping[str, float] = {
    "hypopharynx": 0.6,
    "larynx": -0.45,
    "oral cavity": -0.3,
    "oropharynx": 0.25,
    "unknown primary": 1.2,
}
_DEPTH_MM: Mapping[str, float] = {"T1": 3.6, "T2": 8.2, "T3": 11.0, "T4a": 15.5, "T4b": 16.5}
_PERINODAL_LOG_ODDS: Mapping[str, float] = {"N1": -1.5, "N3": 1.8, "N3b": 2.2}


def draw_pathological(drivers: Drivers, rng: np.random.Generator) -> dict[str, Cell]:
    """The pathologist's report of the resected tumour."""
    z = rng.normal(size=3).tolist()
    unassessed = rng.random(4).tolist()
    extent, aggression = drivers.latent["extent"], drivers.latent["aggression"]
    site = drivers.primary_site
    t_stage = level_of(mixed(z[0], extent, 0.78) + _T_SHIFT.get(site, 0.0), _PT)
    spread = mixed(z[1], extent, 0.70) + _N_SHIFT.get(site, 0.0)
    n_stage = level_of(spread, _PN)
    report: dict[str, Cell] = {
        "lymphovascular_invasion_L": float(_chance(rng, -1.75 + 0.7 * aggression + 0.3 * spread)),
        "vascular_invasion_V": float(_chance(rng, -3.1 + 0.8 * aggression)),
        "perineural_invasion_Pn": float(_chance(rng, -1.8 + 0.8 * aggression)),
        "primary_tumor_site": site,
        "hpv_association_p16": _p16(drivers),
        "histologic_type": _histology(drivers, rng),
    }
    # p16-positive tumours are not graded
    level = level_of(mixed(z[2], aggression, 0.65), {"G1": 0.026, "G2": 0.379, "G3": 0.595})
    report["grading"] = (
        None if drivers.p16_positive else _rank(PATHOLOGICAL_COLUMNS, "grading", level)
    )
    report["resection_status"] = (
        None
        if unassessed[0] < 0.033
        else _rank(PATHOLOGICAL_COLUMNS, "resection_status", drivers.margin)
    )
    report |= _in_situ(rng)
    depth = _DEPTH_MM[t_stage] * exp(0.48 * rng.normal())
    report["infiltration_depth_in_mm"] = (
        None if unassessed[1] < 0.18 else float(np.clip(round(2 * depth) / 2, 0.0, 53.0))
    )
    report |= _nodes(n_stage, unassessed[2] < (0.40 if site == "larynx" else 0.12), rng)
    if t_stage == "T1" and site == "larynx" and unassessed[3] < 0.5:
        t_stage = "T1b" if unassessed[3] < 0.06 else "T1a"
    report["pT_stage"] = (
        None if unassessed[3] > 0.995 else _rank(PATHOLOGICAL_COLUMNS, "pT_stage", t_stage)
    )
    return {name: report[name] for name in PATHOLOGICAL_COLUMNS}


def _p16(drivers: Drivers) -> str:
    if drivers.primary_site not in ("oropharynx", "unknown primary"):
        return "not tested"
    return "positive" if drivers.p16_positive else "negative"


def _histology(drivers: Drivers, rng: np.random.Generator) -> str:
    basaloid, keratinizing, other = (0.62, 0.72, 0.99) if drivers.p16_positive else (0.09, 0.83, 1)
    drawn, rare = rng.random(2)
    if drawn < basaloid:
        return "SCC basaloid"
    if drawn < keratinizing:
        return "SCC conventional, keratinizing"
    if rare < 0.25:
        return str(("type 2", "type 6", "type 7", "type 8")[int(4 * rare / 0.25)])
    return "SCC conventional, non-keratinizing" if drawn < other else "type 2"


def _in_situ(rng: np.random.Generator) -> dict[str, Cell]:
    found, margin = rng.random(2)
    in_situ = found < 0.332
    status = "no carcinoma in situ"
    if in_situ or margin < 0.08:
        status = "Ris1" if in_situ and margin > 0.95 else "Ris0"
    return {"carcinoma_in_situ": float(in_situ), "resection_status_carcinoma_in_situ": status}


def _nodes(stage: str, unassessed: bool, rng: np.random.Generator) -> dict[str, Cell]:
    """pN, positive nodes and growth beyond them; of NX nothing is known."""
    more, perinodal = rng.exponential(), rng.random()
    if unassessed:
        named = ("pN_stage", "number_of_positive_lymph_nodes", "perinodal_invasion")
        return dict.fromkeys(named)
    count = {"N0": 0.0, "N1": 1.0, "N2a": 1.0}.get(stage, float(2 + int(2.6 * more)))
    odds = _PERINODAL_LOG_ODDS.get(stage, 0.05)
    grown = perinodal < 1.0 / (1.0 + exp(-odds))
    return {
        "pN_stage": _rank(PATHOLOGICAL_COLUMNS, "pN_stage", stage),
        "number_of_positive_lymph_nodes": min(count, 52.0),
        "perinodal_invasion": None if stage == "N0" else float(grown),
    }


# ---------------------------------------------------------------- blood, codes, cell density


def draw_blood(drivers: Drivers, rng: np.random.Generator) -> dict[str, Cell]:
    """Blood count before treatment; red cells agree with each other, and so do white ones."""
    z = rng.normal(size=12).tolist()
    frail, inflamed = drivers.latent["frailty"], drivers.latent["inflammation"]
    haemoglobin = (14.45 if drivers.sex == "male" else 13.35) - 1.05 * frail + 1.0 * z[0]
    haemoglobin = float(np.clip(haemoglobin, 8.0, 18.5))
    mch, mchc = 31.1 + 1.9 * z[1], 34.3 + 1.0 * z[2]
    erythrocytes, haematocrit = 10.0 * haemoglobin / mch, 100.0 * haemoglobin / mchc
    width = 13.5 * exp(0.07 * mixed(z[3], frail, 0.6))
    granulocytes = 5.15 * exp(0.36 * mixed(z[4], inflamed, 0.75))
    lymphocytes = 1.70 * exp(0.36 * mixed(z[5], -inflamed, 0.55))
    monocytes = 0.65 * exp(0.35 * mixed(z[6], inflamed, 0.35))
    eosinophils, basophils = 0.12 * exp(0.75 * z[7]), 0.033 * exp(0.5 * z[8])
    platelets = 252.0 * exp(0.30 * mixed(z[9], inflamed, 0.40))
    volume = 10.45 + 0.9 * z[10] - 0.3 * (log(platelets / 252.0) / 0.3)
    values = (
        granulocytes + lymphocytes + monocytes + eosinophils + basophils,
        haemoglobin,
        round(platelets),
        erythrocytes,
        haematocrit,
        mch,
        1000.0 * mch / (10.0 * mchc),
        mchc,
        max(11.7, width),
        max(8.0, volume),
        granulocytes,
        eosinophils,
        basophils,
        lymphocytes,
        monocytes,
        max(7.6, 12.4 + 1.9 * mixed(z[11], (volume - 10.45) / 0.95, 0.9)),
    )
    return {name: round(float(value), 2) for name, value in zip(BLOOD_COLUMNS, values, strict=True)}


def draw_codes(drivers: Drivers, rng: np.random.Generator) -> dict[str, Cell]:
    """How often each ICD-10 code was recorded; codes name the site, seldom the lymph nodes."""
    drawn, twice = rng.random((2, len(ICD_COLUMNS)))
    extent = drivers.latent["extent"]
    counts: dict[str, Cell] = {}
    for at, name in enumerate(ICD_COLUMNS):
        if name == NODES_CODE:
            share = 1.0 / (1.0 + exp(2.6 - 1.1 * extent))
        elif drivers.primary_site in _CODE_SITES:
            share = _CODE_SHARES[name][_CODE_SITES.index(drivers.primary_site)]
        else:
            share = 0.5 if name in ("c102", "c109") else 0.0
        counts[name] = float(drawn[at] < share) * (2.0 if twice[at] < 0.05 else 1.0)
    return counts


# Median, sd of the logarithm, and chance that the core could not be counted; as in HANCOCK.
_DENSITY: Sequence[tuple[float, float, float]] = (
    (560.0, 1.05, 0.065),
    (480.0, 0.90, 0.060),
    (390.0, 1.15, 0.030),
    (340.0, 1.10, 0.022),
)


def draw_cell_density(rng: np.random.Generator) -> dict[str, Cell]:
    """T cells per mm2; the four counts go together, with nothing else of the patient."""
    together, own, lost = rng.normal(), rng.normal(size=4), rng.random(4)
    counts: dict[str, Cell] = {}
    for at, (name, told) in enumerate(zip(CELL_DENSITY_COLUMNS, _DENSITY, strict=True)):
        median, spread, unreadable = told
        count = median * exp(spread * mixed(float(own[at]), float(together), 0.8))
        counts[name] = None if lost[at] < unreadable else round(min(count, 6500.0), 2)
    if all(count is None for count in counts.values()):
        counts["cd8_inv"] = _DENSITY[3][0]
    return counts
