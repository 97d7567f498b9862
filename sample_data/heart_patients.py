"""Draws the patients of the heart-failure cohort: their hearts and their tables.

Each patient has four independent latent quantities: congestion, which the table shows;
conduction, which the ECG shows; the pump, which the echo shows; and severity, which all three
show some of. No modality therefore stands for another, and each adds to the others.

Everything random about a patient comes from generators seeded with (seed, cohort, patient, stream).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from math import exp
from typing import Literal

import numpy as np

from analysis.cohort.schema import Split
from sample_data.heart import VIEWS, Heart
from sample_data.heart_labs import Cell, LabDrivers, draw_labs, measured_columns
from sample_data.patients import FIRST_SUBJECT_ID

LABS, ECG, ECHO = "labs", "ecg", "echo"
Modality = Literal["labs", "ecg", "echo"]

_COHORT_NUMBER = 2  # 0 and 1 are the cohorts of `patients.CohortKind`


class Stream(IntEnum):
    """The independent random streams of one patient."""

    STATE = 0
    LABS = 1
    ECG = 2
    ECHO = 3
    OUTCOME = 4


@dataclass(frozen=True, kw_only=True)
class HeartSite:
    """How a hospital's patients and data differ.

    noise: factor on the ECG's noise and wander. gain: of the echo. lost: factor on the chance of
    a missing laboratory value or view. without: chance that a modality is absent.
    """

    name: str
    age_shift_years: float
    hypertension: float
    noise: float
    gain: float
    lost: float
    without: Mapping[Modality, float]


SITE_A = HeartSite(
    name="A",
    age_shift_years=0.0,
    hypertension=0.0,
    noise=1.0,
    gain=1.0,
    lost=1.0,
    without={"labs": 0.03, "ecg": 0.08, "echo": 0.12},
)
SITE_B = HeartSite(
    name="B",
    age_shift_years=4.0,
    hypertension=0.3,
    noise=1.8,
    gain=0.85,
    lost=1.5,
    without={"labs": 0.05, "ecg": 0.12, "echo": 0.18},
)

# Chance that a view was not recorded; A5C as in Zhang et al. (TGMM, section 3).
WITHOUT_VIEW: Mapping[str, float] = {
    "A2C": 0.08,
    "A3C": 0.12,
    "A4C": 0.05,
    "A5C": 0.38,
    "Apical_Doppler": 0.14,
    "Doppler_Parasternal_Long": 0.15,
    "Doppler_Parasternal_Short": 0.22,
    "Parasternal_Long": 0.06,
    "Parasternal_Short": 0.10,
    "SSN": 0.25,
    "Subcostal": 0.18,
}


@dataclass(frozen=True, kw_only=True)
class HeartPatient:
    """One simulated patient, complete but for the outcomes.

    heart.views: those recorded, also where the echo as a whole is absent (has_echo). labs: every
    column's value; measured: the columns that the table shows. index_time: of the admission.
    """

    seed: int
    number: int
    split: Split
    site: HeartSite
    age_years: float
    sex: str
    index_time: datetime
    heart: Heart
    labs: Mapping[str, Cell]
    measured: frozenset[str]
    has_labs: bool
    has_ecg: bool
    has_echo: bool

    @property
    def subject_id(self) -> int:
        """The identifier in the cohort's files."""
        return FIRST_SUBJECT_ID + self.number

    def generator(self, stream: Stream, part: int = 0) -> np.random.Generator:
        """A fresh generator of one of the patient's streams; `part` numbers the echo's views."""
        return np.random.default_rng([self.seed, _COHORT_NUMBER, self.number, int(stream), part])

    def lab(self, column: str) -> float:
        """A numeric column's value, measured or not."""
        return float(self.labs[column])


# ---------------------------------------------------------------- drawing


def draw_heart_patient(number: int, seed: int, split: Split, site: HeartSite) -> HeartPatient:
    """The patient of that number. About 0.2 ms."""
    rng = np.random.default_rng([seed, _COHORT_NUMBER, number, int(Stream.STATE), 0])
    age = float(np.clip(rng.normal(66.0 + site.age_shift_years, 13.0), 22.0, 97.0))
    sex = "F" if rng.random() < 0.46 else "M"
    severity, congestion, conduction, pump = rng.normal(size=4).tolist()
    heart = _draw_heart(rng, age, sex, severity, conduction, pump, site)
    days = int(rng.integers(0, 80 * 365))  # shifted into the future, as de-identified records are
    minutes = int(rng.integers(60, 12 * 60))
    absent = _draw_absent(rng, site)
    labs_rng = np.random.default_rng([seed, _COHORT_NUMBER, number, int(Stream.LABS), 0])
    drivers = LabDrivers(
        age_years=age,
        sex=sex,
        congestion=_mixed(congestion, severity),
        damage=pump,
        fibrillates=heart.rhythm == "af",
        hypertension_log_odds=site.hypertension,
    )
    return HeartPatient(
        seed=seed,
        number=number,
        split=split,
        site=site,
        age_years=round(age, 2),
        sex=sex,
        index_time=datetime(2110, 1, 1) + timedelta(days=days, minutes=minutes),
        heart=heart,
        labs=draw_labs(drivers, labs_rng),
        measured=measured_columns(site.lost, labs_rng),
        has_labs=LABS not in absent,
        has_ecg=ECG not in absent,
        has_echo=ECHO not in absent,
    )


_SHARED = 0.68  # correlation of a modality's own quantity with severity


def _mixed(own: float, severity: float) -> float:
    """Standard normal: the modality's own latent quantity and some severity."""
    return _SHARED * severity + float(np.sqrt(1.0 - _SHARED**2)) * own


def _draw_absent(rng: np.random.Generator, site: HeartSite) -> set[str]:
    drawn = rng.random(len(site.without)).tolist()
    pairs = zip(site.without.items(), drawn, strict=True)
    absent: set[str] = {modality for (modality, chance), u in pairs if u < chance}
    return absent if len(absent) < len(drawn) else {ECG, ECHO}


def _draw_heart(
    rng: np.random.Generator,
    age: float,
    sex: str,
    severity: float,
    conduction: float,
    pump: float,
    site: HeartSite,
) -> Heart:
    z = rng.normal(size=21).tolist()
    other_block = rng.random()
    slow, weak = _mixed(conduction, severity), _mixed(pump, severity)
    decades = (age - 66.0) / 10.0
    delay, fibrillation, mass = (0.7 * slow + 0.714 * z[i] for i in range(3))
    left = delay > 1.25
    right = not left and other_block < 0.05
    if left:
        qrs = 134.0 + 12.0 * (delay - 1.25) + 7.0 * abs(z[3])
    elif right:
        qrs = 128.0 + 7.0 * abs(z[3])
    else:
        qrs = min(118.0, 92.0 + 8.5 * delay + 2.0 * z[3])
    af = fibrillation + 0.18 * decades > 1.15
    rate = 74.0 * exp(0.15 * z[4] + 0.05 * severity) * (1.2 if af else 1.0)
    axis = 38.0 + 24.0 * z[5] - 6.0 * decades - 35.0 * left - 6.0 * mass
    # about four in ten have something to see in the lateral T waves
    t_inversion = float(np.clip(0.10 + 0.42 * (z[6] + 0.15 * mass), 0.0, 1.0))
    inverted = 0.0 if left else t_inversion
    st = -0.06 * inverted + 0.015 * z[7]
    thick = 0.2 * mass + 0.98 * z[10]
    dilated = 0.75 * weak + 0.66 * z[11]
    atrium = 0.75 * weak + 0.66 * z[12]
    ejection = 0.63 - 0.075 * weak - 0.035 * max(0.0, weak) ** 1.5 + 0.02 * z[13]
    small = 2.0 if sex == "F" else 0.0
    seen = rng.random(len(VIEWS)).tolist()
    lost = {v: min(0.8, site.lost * WITHOUT_VIEW[v]) for v in VIEWS}
    views = tuple(v for v, drawn in zip(VIEWS, seen, strict=True) if drawn >= lost[v])
    return Heart(
        rate_bpm=float(np.clip(rate, 46.0, 142.0)),
        rhythm="af" if af else "sinus",
        pr_ms=float(np.clip(158.0 + 14.0 * slow + 16.0 * z[8] + 4.0 * decades, 112.0, 290.0)),
        qrs_ms=float(np.clip(qrs, 74.0, 186.0)),
        qtc_ms=float(np.clip(422.0 + 16.0 * z[9] + 28.0 * left + 14.0 * right, 370.0, 520.0)),
        axis_deg=float(np.clip(axis, -70.0, 110.0)),
        block="left" if left else "right" if right else "none",
        voltage=float(np.clip(1.08 * exp(0.22 * mass), 0.55, 2.0)),
        t_inversion=inverted,
        st_mv=float(np.clip(st, -0.2, 0.12)),
        noise_mv=float(0.010 * site.noise * exp(0.35 * z[14])),
        wander_mv=float(0.05 * site.noise * exp(0.45 * z[15])),
        ejection_fraction=float(np.clip(ejection, 0.14, 0.76)),
        lv_diameter_mm=float(np.clip(49.0 - small + 4.8 * dilated + 1.5 * z[16], 36.0, 74.0)),
        wall_mm=float(np.clip(10.0 + 2.0 * thick, 6.5, 18.0)),
        la_diameter_mm=float(np.clip(38.0 - small / 2 + 4.6 * atrium + 1.5 * af, 26.0, 62.0)),
        rv_diameter_mm=float(np.clip(33.0 - small + 3.0 * (0.4 * weak + 0.9 * z[17]), 22.0, 52.0)),
        regurgitation=float(np.clip(0.12 + 0.24 * (0.6 * atrium + 0.8 * z[18]), 0.0, 1.0)),
        gain=float(site.gain * exp(0.10 * z[19])),
        depth_mm=float(np.clip(160.0 + 9.0 * z[20], 135.0, 190.0)),
        views=views or ("A4C",),
    )
