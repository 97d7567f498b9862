"""The stated truth: each patient's log-hazard, and survival times drawn from it.

Death after acute pulmonary embolism (`mortality`, follow-up 365 days):

    log h =  0.14 x (clot burden - 35) / 10          percent of pulmonary artery obstruction
           + 0.14 x (RV/LV - 1.1) / 0.1
           + 0.29 x (age - 62) / 10                  years
           + 0.90 x active cancer
           + 0.17 x (HR / SBP - 0.8) / 0.1           shock index of the index visit
           + 0.30 x ln(troponin I / 0.04 ng/mL)
           + 0.80 x (RV/LV - 1)+ / 0.3 x [troponin I > 0.04 ng/mL]

Major adverse cardiovascular event (`mace`, follow-up 1825 days):

    log h =  0.50 x (age - 60) / 10
           + 0.35 x male + 0.55 x diabetes + 0.45 x current smoking
           + 0.65 x prior myocardial infarction + 0.60 x heart failure
           + 0.16 x (SBP - 130) / 10 + 0.22 x (LDL - 115) / 30
           + 0.60 x ln(creatinine / 0.9 mg/dL)
           + 0.11 x (ln(1 + Agatston) - 3)

Survival is Weibull, H(t) = exp(log h) (t / scale)^shape. Loss to follow-up is exponential and
independent of everything; what is left is censored at the horizon. CT measures are those of the
rendered scan, not of the parameters it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log, log1p
from typing import Literal

import numpy as np

from sample_data.conditions import CANCERS, CONDITIONS
from sample_data.patients import CohortKind, Patient
from sample_data.vocabulary_codes import BIRTH, DESCRIPTIONS, LABS

Measures = Mapping[str, float]

ELEVATED_TROPONIN = 0.04  # ng/mL, the 99th percentile of a conventional assay


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand of a log-hazard.

    modality: which modality shows it ("ct", "ehr"), or "both" for the interaction. codes: the
    codes of the record that carry it, each with what its coefficient multiplies.
    """

    name: str
    title: str
    modality: Literal["ct", "ehr", "both"]
    coefficient: float
    value: Callable[[Patient, Measures], float]
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """A task's truth: its terms and the scale of time."""

    task: str
    terms: tuple[Term, ...]
    horizon_days: float
    shape: float
    scale_days: float
    mean_days_to_loss: float

    def contributions(self, patient: Patient, measures: Measures) -> dict[str, float]:
        """Each term's summand of the patient's log-hazard."""
        return {term.name: term.coefficient * term.value(patient, measures) for term in self.terms}

    def draw(self, log_hazard: float, rng: np.random.Generator) -> tuple[float, int]:
        """(time_days, event) under censoring."""
        until_event = self.scale_days * (rng.exponential() / np.exp(log_hazard)) ** (1 / self.shape)
        until_loss = min(self.horizon_days, rng.exponential(self.mean_days_to_loss))
        time = max(0.01, round(float(min(until_event, until_loss)), 2))
        return time, int(until_event <= until_loss)


def _index(name: str) -> Callable[[Patient], float]:
    return lambda patient: patient.index_values[name]


def _has(name: str) -> Callable[[Patient, Measures], float]:
    return lambda patient, measures: float(name in patient.conditions)


def _lab_codes(*names: str) -> tuple[str, ...]:
    labs = [LABS[name] for name in names]
    return tuple(code for lab in labs for code in (lab.code, lab.other_code) if code)


def _diagnoses(*names: str) -> tuple[str, ...]:
    return tuple(f"ICD10CM/{code}" for name in names for code in CONDITIONS[name].diagnoses)


CANCER_CODES = tuple(
    sorted({f"ICD10CM/{code}" for cancer in CANCERS.values() for code in cancer.diagnoses})
)


def _strain_with_injury(patient: Patient, measures: Measures) -> float:
    if patient.index_values["troponin"] <= ELEVATED_TROPONIN:
        return 0.0
    return max(0.0, measures["rv_lv_ratio"] - 1.0) / 0.3


PE_MORTALITY = Hazard(
    task="mortality",
    horizon_days=365.0,
    shape=0.75,
    scale_days=1800.0,
    mean_days_to_loss=2400.0,
    terms=(
        Term(
            name="clot_burden",
            title="clot burden, per 10 percent of obstruction",
            modality="ct",
            coefficient=0.14,
            value=lambda p, m: (m["clot_burden_percent"] - 35.0) / 10.0,
        ),
        Term(
            name="rv_lv_ratio",
            title="RV/LV ratio, per 0.1",
            modality="ct",
            coefficient=0.14,
            value=lambda p, m: (m["rv_lv_ratio"] - 1.1) / 0.1,
        ),
        Term(
            name="age",
            title="age, per 10 years",
            modality="ehr",
            coefficient=0.29,
            value=lambda p, m: (p.age_years - 62.0) / 10.0,
            codes=(BIRTH,),
        ),
        Term(
            name="cancer",
            title="active cancer, any code",
            modality="ehr",
            coefficient=0.90,
            value=lambda p, m: float(bool(p.cancer)),
            codes=CANCER_CODES,
        ),
        Term(
            name="shock_index",
            title="shock index (heart rate / systolic pressure) of the index visit, per 0.1",
            modality="ehr",
            coefficient=0.17,
            value=lambda p, m: (p.index_values["heart_rate"] / p.index_values["sbp"] - 0.8) / 0.1,
            codes=_lab_codes("heart_rate", "sbp"),
        ),
        Term(
            name="troponin",
            title="troponin of the index visit, per natural logarithm",
            modality="ehr",
            coefficient=0.30,
            value=lambda p, m: log(p.index_values["troponin"] / ELEVATED_TROPONIN),
            codes=_lab_codes("troponin"),
        ),
        Term(
            name="strain_with_injury",
            title="RV/LV ratio above 1, per 0.3, where troponin is elevated",
            modality="both",
            coefficient=0.80,
            value=_strain_with_injury,
            codes=_lab_codes("troponin"),
        ),
    ),
)

CVD_MACE = Hazard(
    task="mace",
    horizon_days=1825.0,
    shape=1.0,
    scale_days=13000.0,
    mean_days_to_loss=9000.0,
    terms=(
        Term(
            name="age",
            title="age, per 10 years",
            modality="ehr",
            coefficient=0.50,
            value=lambda p, m: (p.age_years - 60.0) / 10.0,
            codes=(BIRTH,),
        ),
        Term(
            name="male",
            title="male sex",
            modality="ehr",
            coefficient=0.35,
            value=lambda p, m: float(p.sex == "M"),
            codes=("Gender/M",),
        ),
        Term(
            name="diabetes",
            title="type 2 diabetes, any code",
            modality="ehr",
            coefficient=0.55,
            value=_has("diabetes"),
            codes=_diagnoses("diabetes"),
        ),
        Term(
            name="smoking",
            title="current smoking, any code",
            modality="ehr",
            coefficient=0.45,
            value=_has("smoking"),
            codes=_diagnoses("smoking"),
        ),
        Term(
            name="myocardial_infarction",
            title="prior myocardial infarction, any code",
            modality="ehr",
            coefficient=0.65,
            value=_has("myocardial_infarction"),
            codes=_diagnoses("myocardial_infarction"),
        ),
        Term(
            name="heart_failure",
            title="heart failure, any code",
            modality="ehr",
            coefficient=0.60,
            value=_has("heart_failure"),
            codes=_diagnoses("heart_failure"),
        ),
        Term(
            name="systolic_pressure",
            title="systolic pressure of the index visit, per 10 mmHg",
            modality="ehr",
            coefficient=0.16,
            value=lambda p, m: (p.index_values["sbp"] - 130.0) / 10.0,
            codes=_lab_codes("sbp"),
        ),
        Term(
            name="ldl",
            title="LDL cholesterol of the index visit, per 30 mg/dL",
            modality="ehr",
            coefficient=0.22,
            value=lambda p, m: (p.index_values["ldl"] - 115.0) / 30.0,
            codes=_lab_codes("ldl"),
        ),
        Term(
            name="creatinine",
            title="creatinine of the index visit, per natural logarithm",
            modality="ehr",
            coefficient=0.60,
            value=lambda p, m: log(p.index_values["creatinine"] / 0.9),
            codes=_lab_codes("creatinine"),
        ),
        Term(
            name="coronary_calcium",
            title="coronary calcium, per natural logarithm of 1 + Agatston",
            modality="ct",
            coefficient=0.11,
            value=lambda p, m: log1p(m["calcium_agatston"]) - 3.0,
        ),
    ),
)

HAZARDS: Mapping[CohortKind, Hazard] = {CohortKind.PE: PE_MORTALITY, CohortKind.CVD: CVD_MACE}

CAUSAL_CONDITIONS: Mapping[CohortKind, tuple[str, ...]] = {
    CohortKind.PE: (),
    CohortKind.CVD: ("diabetes", "smoking", "myocardial_infarction", "heart_failure"),
}


def causal_codes(kind: CohortKind) -> list[dict[str, object]]:
    """Rows of truth/causal_codes.parquet: code, description, term, coefficient, meaning.

    Where several codes stand for one term the coefficient is the term's, given once however
    many of its codes a patient has.
    """
    return [
        {
            "code": code,
            "description": DESCRIPTIONS[code],
            "term": term.name,
            "coefficient": term.coefficient,
            "meaning": term.title,
        }
        for term in HAZARDS[kind].terms
        for code in term.codes
    ]


def surrogate_measures(patient: Patient, rng: np.random.Generator) -> dict[str, float]:
    """Measures close to those of the rendered scan, without rendering it.

    For studies of the hazard on thousands of patients; fitted to rendered phantoms.
    """
    chest = patient.chest
    clot = 78.0 * chest.clot_burden * (1.0 + 0.04 * rng.normal())
    agatston = 3000.0 * chest.calcium**1.75 * np.exp(0.4 * rng.normal())
    return {
        "clot_burden_percent": float(np.clip(clot, 0.0, 100.0)),
        "rv_lv_ratio": chest.rv_lv_ratio,
        "calcium_agatston": float(24.0 * np.round(agatston / 24.0)),
    }
