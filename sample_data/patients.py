"""Draws simulated patients: who they are, what they have, how they present, what the CT will show.

Everything random about one patient comes from four generators seeded with (seed, cohort, patient,
stream), so a patient does not depend on who else is drawn, in which order, or in which process.

The clot burden and the RV/LV ratio are drawn first; how ill the patient is at presentation
follows them only loosely (correlation with troponin about 0.2). The CT therefore carries what the
record does not, which is the point of the PE cohort. In the CVD cohort coronary calcium follows
age, sex and risk factors, so the CT repeats what the record says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from math import exp, log

import numpy as np
from scipy.special import ndtr

from analysis.cohort.schema import Split
from sample_data.conditions import CANCERS, CONDITIONS
from sample_data.phantom import ChestParameters
from sample_data.vocabulary_codes import LABS

FIRST_SUBJECT_ID = 10001


class CohortKind(StrEnum):
    """The two simulated cohorts."""

    PE = "pe"
    CVD = "cvd"


class Stream(IntEnum):
    """The independent random streams of one patient."""

    COVARIATES = 0
    CHEST = 1
    RECORD = 2
    OUTCOME = 3


@dataclass(frozen=True, kw_only=True)
class Site:
    """How a hospital's patients and data differ.

    age_shift_years: added to the mean age. prevalence: log-odds added to a condition.
    other_codes: chance that a patient's record uses the second code for the same thing.
    lost_labs: chance that a laboratory value of the index visit was not measured.
    without_ct, without_record: chance that the modality is absent; never both.
    """

    name: str
    noise_hu: float
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    age_shift_years: float
    prevalence: Mapping[str, float]
    cancer: float
    other_codes: float
    lost_labs: float
    without_ct: float
    without_record: float


SITE_A = Site(
    name="A",
    noise_hu=14.0,
    shape=(48, 96, 96),
    spacing_mm=(5.5, 3.6, 3.6),
    age_shift_years=0.0,
    prevalence={},
    cancer=0.0,
    other_codes=0.05,
    lost_labs=0.04,
    without_ct=0.03,
    without_record=0.03,
)
SITE_B = Site(
    name="B",
    noise_hu=22.0,
    shape=(44, 96, 96),
    spacing_mm=(6.0, 3.6, 3.6),
    age_shift_years=6.0,
    prevalence={
        "hypertension": 0.4,
        "diabetes": 0.4,
        "obesity": 0.4,
        "copd": 0.5,
        "chronic_kidney_disease": 0.3,
        "depression": -0.5,
        "anxiety": -0.5,
        "wellness": -1.0,
        "asthma": -0.4,
        "chronic_pain": -0.4,
    },
    cancer=-0.3,
    other_codes=0.6,
    lost_labs=0.22,
    without_ct=0.10,
    without_record=0.10,
)

# Age at the index time: mean, sd, youngest, oldest.
_AGE = {CohortKind.PE: (61.0, 15.5, 18.0, 96.0), CohortKind.CVD: (60.0, 11.0, 38.0, 90.0)}
_CANCER_LOG_ODDS = {CohortKind.PE: -1.05, CohortKind.CVD: -3.2}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One simulated patient, complete but for the outcome.

    conditions: latent condition to years since its onset. cancer: primary site of an active
    cancer, or "". index_values: laboratory values and vital signs at the index visit, by name of
    the lab, in its unit, measured or not. chest: what the CT shows.
    """

    kind: CohortKind
    seed: int
    number: int
    split: Split
    site: Site
    age_years: float
    sex: str
    index_time: datetime
    conditions: Mapping[str, float]
    cancer: str
    cancer_years: float
    metastatic: bool
    cancer_history: bool
    index_values: Mapping[str, float]
    chest: ChestParameters
    has_ct: bool
    has_record: bool

    @property
    def subject_id(self) -> int:
        """The identifier in the cohort's files."""
        return FIRST_SUBJECT_ID + self.number

    def generator(self, stream: Stream) -> np.random.Generator:
        """A fresh generator of one of the patient's streams."""
        return generator(self.kind, self.seed, self.number, stream)


def generator(kind: CohortKind, seed: int, number: int, stream: Stream) -> np.random.Generator:
    """The generator of one stream of one patient."""
    return np.random.default_rng([seed, list(CohortKind).index(kind), number, int(stream)])


def draw_patient(kind: CohortKind, seed: int, number: int, split: Split) -> Patient:
    """The patient of that number; the site follows the split (external is site B)."""
    rng = generator(kind, seed, number, Stream.COVARIATES)
    site = SITE_B if split is Split.EXTERNAL else SITE_A
    mean, sd, youngest, oldest = _AGE[kind]
    age = float(np.clip(rng.normal(mean + site.age_shift_years, sd), youngest, oldest))
    age = round(age, 2)
    sex = "F" if rng.random() < 0.5 else "M"
    conditions = _draw_conditions(rng, age, sex, site)
    cancer, cancer_years, metastatic = _draw_cancer(rng, kind, age, sex, site)
    cancer_history = not cancer and rng.random() < 0.06
    if kind is CohortKind.PE:
        values, chest = _present_pe(rng, age, sex, conditions, bool(cancer), site)
    else:
        values, chest = _present_cvd(rng, age, sex, conditions, site)
    absent = rng.random()
    return Patient(
        kind=kind,
        seed=seed,
        number=number,
        split=split,
        site=site,
        age_years=age,
        sex=sex,
        index_time=_draw_index_time(rng, kind),
        conditions=conditions,
        cancer=cancer,
        cancer_years=cancer_years,
        metastatic=metastatic,
        cancer_history=cancer_history,
        index_values={name: _reported(name, value) for name, value in values.items()},
        chest=chest,
        has_ct=absent >= site.without_ct,
        has_record=not site.without_ct <= absent < site.without_ct + site.without_record,
    )


def _draw_index_time(rng: np.random.Generator, kind: CohortKind) -> datetime:
    # shifted into the future, as de-identified records are
    days = int(rng.integers(0, 80 * 365))
    first, last = (0, 24) if kind is CohortKind.PE else (11, 18)
    minutes = int(rng.integers(first * 60, last * 60))
    return datetime(2110, 1, 1) + timedelta(days=days, minutes=minutes)


def _reported(name: str, value: float) -> float:
    lab = LABS[name]
    return round(min(max(value, lab.low), lab.high), lab.decimals)


def _draw_conditions(
    rng: np.random.Generator, age: float, sex: str, site: Site
) -> dict[str, float]:
    chance = rng.random(len(CONDITIONS)).tolist()
    onset = rng.exponential(1.0, len(CONDITIONS)).tolist()
    decades = (age - 60.0) / 10.0
    has: dict[str, float] = {}
    for i, (name, condition) in enumerate(CONDITIONS.items()):
        if condition.sex and condition.sex != sex:
            continue
        prevalence = condition.prevalence
        odds = log(prevalence / (1.0 - prevalence)) + condition.age * decades
        odds += condition.female if sex == "F" else 0.0
        odds += site.prevalence.get(name, 0.0)
        odds += sum(weight for other, weight in condition.given.items() if other in has)
        if chance[i] < 1.0 / (1.0 + exp(-odds)):
            years = 0.02 + condition.years * onset[i]
            has[name] = min(years, age - 16.0 if condition.chronic else 3.0)
    return has


def _draw_cancer(
    rng: np.random.Generator, kind: CohortKind, age: float, sex: str, site: Site
) -> tuple[str, float, bool]:
    chance, years, spread = rng.random(), rng.exponential(0.8), rng.random()
    odds = _CANCER_LOG_ODDS[kind] + 0.12 * (age - 60.0) / 10.0 + site.cancer
    names = [name for name, cancer in CANCERS.items() if cancer.sex in ("", sex)]
    shares = np.cumsum([CANCERS[name].share for name in names])
    pick = names[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
    if chance >= 1.0 / (1.0 + exp(-odds)):
        return "", 0.0, False
    return pick, float(np.clip(years, 0.04, 2.5)), bool(spread < 0.4)


def _present_pe(
    rng: np.random.Generator,
    age: float,
    sex: str,
    conditions: Mapping[str, float],
    cancer: bool,
    site: Site,
) -> tuple[dict[str, float], ChestParameters]:
    z = rng.normal(size=16).tolist()
    clot = z[0]
    strain = 0.35 * clot + 0.937 * z[1]
    severity = 0.30 * clot + 0.22 * strain + 0.903 * z[2]
    failure = "heart_failure" in conditions
    kidney = "chronic_kidney_disease" in conditions
    no_clot = rng.random() < 0.08
    chest = ChestParameters(
        contrast=True,
        clot_burden=0.0 if no_clot else float(0.02 + 0.96 * ndtr(clot) ** 1.3),
        rv_lv_ratio=float(np.clip(1.08 * exp(0.26 * strain), 0.65, 2.15)),
        calcium=_arterial_calcium(age, sex, conditions, z[3]),
        age_years=age,
        female=sex == "F",
        noise_hu=site.noise_hu,
        effusion=float(np.clip(0.35 * z[4] + 0.2 * failure + 0.2 * cancer - 0.25, 0.0, 1.0)),
    )
    systolic = 123.0 - 18.0 * (0.45 * severity + 0.89 * z[6])
    values = {
        "heart_rate": 97.0 + 19.0 * (0.5 * severity + 0.87 * z[5]),
        "sbp": systolic,
        "dbp": 0.55 * systolic + 6.0 + 6.0 * z[7],
        "respiratory_rate": 20.0 + 4.0 * (0.5 * severity + 0.87 * z[8]),
        "spo2": 94.0 - 2.6 * (0.4 * severity + 0.9 * z[9]) - 1.2 * ("copd" in conditions),
        "temperature": 37.0 + 0.5 * z[10],
        "troponin": exp(-3.2 + 1.35 * (0.55 * severity + 0.84 * z[11])),
        "bnp": exp(6.2 + 1.1 * (0.5 * severity + 0.87 * z[12]) + 1.0 * failure),
        "lactate": exp(0.45 + 0.38 * (0.5 * severity + 0.87 * z[13])),
        "d_dimer": exp(1.3 + 0.8 * (0.3 * clot + 0.95 * z[14])),
        "creatinine": exp(-0.10 + 0.22 * z[15] + 0.65 * kidney),
    }
    return values, chest


def _present_cvd(
    rng: np.random.Generator, age: float, sex: str, conditions: Mapping[str, float], site: Site
) -> tuple[dict[str, float], ChestParameters]:
    z = rng.normal(size=12).tolist()
    diabetes = "diabetes" in conditions
    kidney = "chronic_kidney_disease" in conditions
    decades = (age - 60.0) / 10.0
    chest = ChestParameters(
        contrast=False,
        clot_burden=0.0,
        rv_lv_ratio=float(np.clip(0.92 * exp(0.07 * z[0]), 0.65, 1.3)),
        calcium=_arterial_calcium(age, sex, conditions, z[1]),
        age_years=age,
        female=sex == "F",
        noise_hu=site.noise_hu,
        effusion=0.0,
    )
    systolic = 128.0 + 9.0 * ("hypertension" in conditions) + 3.0 * decades + 14.0 * z[2]
    ldl = 112.0 + 14.0 * ("hyperlipidaemia" in conditions) + 32.0 * z[3]
    hdl = 50.0 + 6.0 * (sex == "F") + 12.0 * z[4]
    triglycerides = exp(4.8 + 0.2 * diabetes + 0.4 * z[5])
    values = {
        "heart_rate": 72.0 + 10.0 * z[6],
        "sbp": systolic,
        "dbp": 0.5 * systolic + 13.0 + 7.0 * z[7],
        "bmi": 26.5 + 6.5 * ("obesity" in conditions) + 3.2 * z[8],
        "ldl": ldl,
        "hdl": hdl,
        "triglycerides": triglycerides,
        "cholesterol": ldl + hdl + 0.2 * triglycerides,
        "hba1c": 5.5 + 1.8 * diabetes + (1.0 if diabetes else 0.3) * z[9],
        "creatinine": exp(-0.13 + 0.05 * decades + 0.2 * z[10] + 0.6 * kidney),
        "crp": exp(0.8 + 0.9 * z[11]),
    }
    return values, chest


def _arterial_calcium(age: float, sex: str, conditions: Mapping[str, float], z: float) -> float:
    """Coronary calcification 0..1: none in about a third at 60 years, more with risk factors."""
    risk = 0.34 * (age - 60.0) / 10.0 + (0.2 if sex == "M" else -0.2) + 1.3 * z
    risk += 0.3 * ("diabetes" in conditions) + 0.25 * ("hyperlipidaemia" in conditions)
    risk += 0.3 * ("smoking" in conditions) + 0.6 * ("coronary_disease" in conditions)
    if risk < -0.4:
        return 0.0
    return float(min(1.0, 0.09 * exp(0.75 * risk)))
