"""The table of a simulated heart patient: laboratory values of the admission, history and drugs.

Units are those of a United States hospital. Values are drawn complete; which of them the table
shows is drawn apart, by `measured_columns`, so that the truth counts what the patient has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

import numpy as np

from analysis.cohort.schema import Column

Cell = float | str

ETHNICITIES = ("White", "Black", "Hispanic", "Asian", "Other")
_ETHNICITY_SHARES = (0.66, 0.16, 0.08, 0.05, 0.05)


def _number(title: str, unit: str) -> Column:
    return Column(kind="continuous", title=title, unit=unit)


def _yes_no(title: str) -> Column:
    return Column(kind="binary", title=title)


LAB_COLUMNS: Mapping[str, Column] = {
    "age": _number("Age", "years"),
    "sex": Column(kind="nominal", title="Sex", categories=("F", "M")),
    "ethnicity": Column(kind="nominal", title="Ethnicity", categories=ETHNICITIES),
    "height": _number("Height", "cm"),
    "weight": _number("Weight", "kg"),
    "bmi": _number("Body mass index", "kg/m2"),
    "anion_gap": _number("Anion gap", "mmol/L"),
    "bicarbonate": _number("Bicarbonate", "mmol/L"),
    "creatinine": _number("Creatinine", "mg/dL"),
    "urea_nitrogen": _number("Urea nitrogen", "mg/dL"),
    "potassium": _number("Potassium", "mmol/L"),
    "sodium": _number("Sodium", "mmol/L"),
    "glucose": _number("Glucose", "mg/dL"),
    "haemoglobin": _number("Haemoglobin", "g/dL"),
    "nt_probnp": _number("NT-proBNP", "pg/mL"),
    "troponin_t": _number("Troponin T", "ng/mL"),
    "history_hypertension": _yes_no("History of hypertension"),
    "history_diabetes": _yes_no("History of diabetes mellitus"),
    "history_atrial_fibrillation": _yes_no("History of atrial fibrillation"),
    "history_myocardial_infarction": _yes_no("History of myocardial infarction"),
    "history_kidney_disease": _yes_no("History of chronic kidney disease"),
    "history_copd": _yes_no("History of chronic obstructive pulmonary disease"),
    "history_hyperlipidaemia": _yes_no("History of hyperlipidaemia"),
    "drug_diuretic": _yes_no("Loop diuretic"),
    "drug_beta_blocker": _yes_no("Beta blocker"),
    "drug_ace_inhibitor": _yes_no("ACE inhibitor or angiotensin receptor blocker"),
    "drug_antiplatelet": _yes_no("Antiplatelet"),
    "drug_antithrombotic": _yes_no("Anticoagulant"),
    "drug_statin": _yes_no("Statin"),
}

_HISTORY = tuple(name for name in LAB_COLUMNS if name.startswith("history_"))
_DRUGS = tuple(name for name in LAB_COLUMNS if name.startswith("drug_"))

# Lowest, highest, decimals reported.
_REPORTED: Mapping[str, tuple[float, float, int]] = {
    "height": (140.0, 203.0, 0),
    "weight": (36.0, 190.0, 1),
    "bmi": (11.0, 80.0, 1),
    "anion_gap": (4.0, 32.0, 0),
    "bicarbonate": (10.0, 42.0, 0),
    "creatinine": (0.3, 11.0, 1),
    "urea_nitrogen": (4.0, 140.0, 0),
    "potassium": (2.4, 6.9, 1),
    "sodium": (118.0, 152.0, 0),
    "glucose": (45.0, 600.0, 0),
    "haemoglobin": (5.5, 18.5, 1),
    "nt_probnp": (20.0, 70000.0, 0),
    "troponin_t": (0.01, 6.0, 2),
}

# Chance that a value is not in the table where nothing is lost beyond the usual. History and
# drugs come from one interview each and are missing together.
_UNMEASURED: Mapping[str, float] = {
    "ethnicity": 0.06,
    "height": 0.14,
    "weight": 0.07,
    "anion_gap": 0.06,
    "bicarbonate": 0.05,
    "creatinine": 0.05,
    "urea_nitrogen": 0.05,
    "potassium": 0.05,
    "sodium": 0.05,
    "glucose": 0.07,
    "haemoglobin": 0.08,
    "nt_probnp": 0.15,
    "troponin_t": 0.30,
}
_WITHOUT_HISTORY = 0.12
_WITHOUT_DRUGS = 0.08


@dataclass(frozen=True, kw_only=True)
class LabDrivers:
    """What moves the table. congestion: fluid and pressure, standard normal in the population.

    fibrillates: the ECG shows atrial fibrillation. damage: of the pump, standard normal; a scar
    has a history now and then.
    """

    age_years: float
    sex: str
    congestion: float
    damage: float
    fibrillates: bool
    hypertension_log_odds: float = 0.0


def draw_labs(drivers: LabDrivers, rng: np.random.Generator) -> dict[str, Cell]:
    """A value for every column of LAB_COLUMNS; binary ones are 0.0 or 1.0."""
    has = _draw_history(drivers, rng)
    values: dict[str, Cell] = {"age": round(drivers.age_years, 1), "sex": drivers.sex}
    values["ethnicity"] = ETHNICITIES[
        int(np.searchsorted(np.cumsum(_ETHNICITY_SHARES), rng.random() * sum(_ETHNICITY_SHARES)))
    ]
    values |= {name: _reported(name, value) for name, value in _draw_values(drivers, has, rng)}
    # as a ward would compute it from what it wrote down
    metres = float(values["height"]) / 100.0
    values["bmi"] = _reported("bmi", float(values["weight"]) / metres**2)
    values |= {name: float(flag) for name, flag in has.items()}
    values |= {name: float(flag) for name, flag in _draw_drugs(drivers, has, rng).items()}
    return {name: values[name] for name in LAB_COLUMNS}


def measured_columns(lost: float, rng: np.random.Generator) -> frozenset[str]:
    """Columns that the table shows. lost: factor on the usual chance of a missing value."""
    chance = dict(zip(_UNMEASURED, rng.random(len(_UNMEASURED)).tolist(), strict=True))
    kept = {
        name for name in LAB_COLUMNS if chance.get(name, 1.0) >= lost * _UNMEASURED.get(name, 0)
    }
    if rng.random() < lost * _WITHOUT_HISTORY:
        kept -= set(_HISTORY)
    if rng.random() < lost * _WITHOUT_DRUGS:
        kept -= set(_DRUGS)
    if not {"height", "weight"} <= kept:
        kept -= {"bmi"}
    return frozenset(kept)


def _reported(name: str, value: float) -> float:
    low, high, decimals = _REPORTED[name]
    return round(min(max(value, low), high), decimals)


def _chance(rng: np.random.Generator, log_odds: float) -> bool:
    return bool(rng.random() < 1.0 / (1.0 + exp(-log_odds)))


def _draw_history(drivers: LabDrivers, rng: np.random.Generator) -> dict[str, bool]:
    decades = (drivers.age_years - 65.0) / 10.0
    hypertension = _chance(rng, 0.3 + 0.35 * decades + drivers.hypertension_log_odds)
    diabetes = _chance(rng, -1.05 + 0.1 * decades + 0.5 * hypertension)
    return {
        "history_hypertension": hypertension,
        "history_diabetes": diabetes,
        # paroxysms come and go: neither does every history fibrillate now, nor the reverse
        "history_atrial_fibrillation": _chance(rng, 0.7 if drivers.fibrillates else -2.3),
        "history_myocardial_infarction": _chance(rng, -1.9 + 0.2 * decades + 0.3 * drivers.damage),
        "history_kidney_disease": _chance(
            rng, -2.2 + 0.3 * decades + 0.5 * diabetes + 0.35 * drivers.congestion
        ),
        "history_copd": _chance(rng, -1.8 + 0.1 * decades),
        "history_hyperlipidaemia": _chance(rng, -0.1 + 0.1 * decades + 0.5 * diabetes),
    }


def _draw_values(
    drivers: LabDrivers, has: Mapping[str, bool], rng: np.random.Generator
) -> list[tuple[str, float]]:
    z = rng.normal(size=13).tolist()
    wet, male = drivers.congestion, drivers.sex == "M"
    kidney, diabetes = has["history_kidney_disease"], has["history_diabetes"]
    decades = (drivers.age_years - 65.0) / 10.0
    height = (176.0 if male else 162.0) + 7.0 * z[0]
    bmi = 27.0 * exp(0.20 * z[1] + 0.06 * diabetes)
    creatinine = (1.02 if male else 0.82) * exp(0.19 * z[2] + 0.10 * wet + 0.62 * kidney)
    bicarbonate = 25.2 + 2.8 * z[4] - 1.3 * kidney
    return [
        ("height", height),
        ("weight", bmi * (height / 100.0) ** 2),
        ("anion_gap", 13.0 + 2.3 * z[5] - 0.35 * (bicarbonate - 25.0) + 1.2 * kidney),
        ("bicarbonate", bicarbonate),
        ("creatinine", creatinine),
        ("urea_nitrogen", 18.0 * creatinine**0.8 * exp(0.22 * z[3] + 0.10 * wet)),
        ("potassium", 4.15 + 0.42 * z[6] + 0.25 * kidney),
        ("sodium", 139.4 - 1.5 * wet + 2.3 * z[7]),
        ("glucose", 108.0 * exp(0.20 * z[8] + 0.35 * diabetes)),
        ("haemoglobin", (13.4 if male else 12.3) + 1.6 * z[9] - 0.8 * kidney - 0.2 * decades),
        ("nt_probnp", exp(log(620.0) + 1.20 * wet + 0.55 * z[10] + 0.18 * decades + 0.3 * kidney)),
        ("troponin_t", exp(log(0.02) + 0.85 * z[11] + 0.25 * wet + 0.4 * kidney)),
    ]


def _draw_drugs(
    drivers: LabDrivers, has: Mapping[str, bool], rng: np.random.Generator
) -> dict[str, bool]:
    infarction = has["history_myocardial_infarction"]
    fibrillation = has["history_atrial_fibrillation"]
    hypertension = has["history_hypertension"]
    return {
        "drug_diuretic": _chance(rng, -0.9 + 1.15 * drivers.congestion + 0.3 * hypertension),
        "drug_beta_blocker": _chance(
            rng, -1.0 + 1.2 * infarction + fibrillation + 0.5 * hypertension
        ),
        "drug_ace_inhibitor": _chance(rng, -1.3 + 1.5 * hypertension + 0.5 * infarction),
        "drug_antiplatelet": _chance(rng, -1.1 + 2.0 * infarction),
        "drug_antithrombotic": _chance(rng, -2.2 + 2.6 * fibrillation),
        "drug_statin": _chance(rng, -1.4 + 2.0 * has["history_hyperlipidaemia"] + infarction),
    }
