"""Draws the patients of the head and neck cancer cohort: tumour, host and their tables.

What moves a patient's outcome are latent quantities, each standard normal in the population and
independent of the others (but frailty, which follows age and smoking):

    shared       extent        pathological, icd, clinical (metastasis)
                 aggression    wsi, tma, pathological
                 exclusion     wsi, tma: immune cells kept out of the tumour
                 frailty       blood, clinical
    one only     budding       wsi
                 checkpoint    tma
                 inflammation  blood

A slide or a core shows a shared quantity with an error of its own (`SHOWN`), so two modalities
that show it tell more than one, and either can stand in for the other.

Everything random about a patient comes from generators seeded with (seed, cohort, patient, stream).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from scipy.special import expit

from analysis.cohort.schema import Split
from sample_data.hnscc_tables import (
    Cell,
    Drivers,
    draw_blood,
    draw_cell_density,
    draw_clinical,
    draw_codes,
    draw_pathological,
    level_of,
    mixed,
)
from sample_data.patients import FIRST_SUBJECT_ID

WSI, TMA, CELL_DENSITY = "wsi", "tma", "cell_density"
CLINICAL, PATHOLOGICAL, BLOOD, ICD = "clinical", "pathological", "blood", "icd"
Modality = Literal["wsi", "tma", "cell_density", "clinical", "pathological", "blood", "icd"]
MODALITIES: tuple[Modality, ...] = (
    "wsi",
    "tma",
    "cell_density",
    "clinical",
    "pathological",
    "blood",
    "icd",
)
TABLES: tuple[Modality, ...] = MODALITIES[2:]

_COHORT_NUMBER = 3  # 0 to 2 are the cohorts of `patients.CohortKind` and the heart's

LATENT = (
    "extent",
    "aggression",
    "exclusion",
    "frailty",
    "budding",
    "checkpoint",
    "inflammation",
)
# Correlation of what a bag shows with the quantity itself.
SHOWN: Mapping[str, Mapping[str, float]] = {
    WSI: {"aggression": 0.85, "exclusion": 0.80, "budding": 1.0},
    TMA: {"aggression": 0.75, "exclusion": 0.80, "checkpoint": 1.0},
}


class Stream(IntEnum):
    """The independent random streams of one patient."""

    STATE = 0
    TABLES = 1
    WSI = 2
    TMA = 3
    OUTCOME = 4
    PRESENCE = 5


@dataclass(frozen=True, kw_only=True)
class HnsccSite:
    """How a hospital's patients and slides differ.

    age_shift_years and extent_shift: added to age and to the extent of the tumour. stain: how far
    the slides' colour is from site A's, in the encoder's feature space.
    """

    name: str
    age_shift_years: float = 0.0
    extent_shift: float = 0.0
    stain: float = 0.0


SITE_A = HnsccSite(name="A")
SITE_B = HnsccSite(name="B", stain=0.6)
SITE_C = HnsccSite(name="C", age_shift_years=3.0, extent_shift=0.25, stain=1.2)
SHARE_OF_B = 0.3
"""Of the patients who are not of the external split; those of the external one are of site C."""


@dataclass(frozen=True, kw_only=True)
class HnsccPatient:
    """One simulated patient, complete but for outcomes and for what is missing.

    metastasis: at diagnosis. margin: tumour at the resection margin. Both as they are, whether or
    not the tables say so. latent: value by name of LATENT. shown: by bag, the value that it shows
    of each quantity of SHOWN. tables: by modality, value by column, None where not assessed.
    """

    seed: int
    number: int
    split: Split
    site: HnsccSite
    age_years: float
    sex: str
    p16_positive: bool
    metastasis: bool
    margin: bool
    latent: Mapping[str, float]
    shown: Mapping[str, Mapping[str, float]]
    tables: Mapping[str, Mapping[str, Cell]]

    @property
    def subject_id(self) -> int:
        """The identifier in the cohort's files."""
        return FIRST_SUBJECT_ID + self.number

    def generator(self, stream: Stream) -> np.random.Generator:
        """A fresh generator of one of the patient's streams."""
        return np.random.default_rng([self.seed, _COHORT_NUMBER, self.number, int(stream)])


def draw_hnscc_patient(number: int, seed: int, split: Split) -> HnsccPatient:
    """The patient of that number. About 0.2 ms."""
    rng = np.random.default_rng([seed, _COHORT_NUMBER, number, int(Stream.STATE)])
    site = _site(split, rng.random())
    drivers = _drivers(site, rng)
    latent = drivers.latent
    shown = {
        bag: {
            name: share * latent[name] + float(np.sqrt(1.0 - share**2) * rng.normal())
            for name, share in of_bag.items()
        }
        for bag, of_bag in SHOWN.items()
    }
    own = np.random.default_rng([seed, _COHORT_NUMBER, number, int(Stream.TABLES)])
    return HnsccPatient(
        seed=seed,
        number=number,
        split=split,
        site=site,
        age_years=drivers.age_years,
        sex=drivers.sex,
        p16_positive=drivers.p16_positive,
        metastasis=drivers.metastasis,
        margin=drivers.margin != "R0",
        latent=latent,
        shown=shown,
        tables={
            CELL_DENSITY: draw_cell_density(own),
            CLINICAL: draw_clinical(drivers, own),
            PATHOLOGICAL: draw_pathological(drivers, own),
            BLOOD: draw_blood(drivers, own),
            ICD: draw_codes(drivers, own),
        },
    )


def _site(split: Split, drawn: float) -> HnsccSite:
    if split is Split.EXTERNAL:
        return SITE_C
    return SITE_B if drawn < SHARE_OF_B else SITE_A


# Where the tumour is, and how often the human papillomavirus is found there by smoking; the
# shares of HANCOCK.
PRIMARY_SITES: Mapping[str, float] = {
    "unknown primary": 0.003,
    "hypopharynx": 0.117,
    "larynx": 0.271,
    "oral cavity": 0.175,
    "oropharynx": 0.434,
}
SMOKING: Mapping[str, float] = {"former smoker": 0.25, "non-smoker": 0.28, "smoker": 0.47}
_P16_IN_OROPHARYNX: Mapping[str, float] = {
    "former smoker": 0.45,
    "non-smoker": 0.62,
    "smoker": 0.30,
}
MARGINS: Mapping[str, float] = {"R0": 0.925, "R1": 0.070, "R2": 0.005}


def _drivers(site: HnsccSite, rng: np.random.Generator) -> Drivers:
    z = dict(zip(LATENT, rng.normal(size=len(LATENT)).tolist(), strict=True))
    primary = _one_of(PRIMARY_SITES, rng)
    smoking = _one_of(SMOKING, rng)
    p16 = bool(rng.random() < _P16_IN_OROPHARYNX[smoking]) and primary == "oropharynx"
    age = float(np.clip(rng.normal(61.5 + site.age_shift_years - 2.0 * p16, 10.1), 22.0, 92.0))
    z["frailty"] = (
        0.45 * (age - 61.2) / 10.1 + 0.35 * (smoking == "smoker") - 0.16 + 0.87 * z["frailty"]
    )
    z["extent"] += site.extent_shift
    metastasis, margin = rng.random(), rng.normal()
    return Drivers(
        age_years=float(round(age)),
        sex="female" if rng.random() < 0.195 else "male",
        primary_site=primary,
        smoking=smoking,
        p16_positive=p16,
        metastasis=bool(metastasis < expit(-2.9 + 0.8 * z["extent"])),
        margin=level_of(mixed(margin, z["extent"], 0.25), MARGINS),
        latent=z,
    )


def _one_of(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    at = np.searchsorted(np.cumsum(list(shares.values())), rng.random() * sum(shares.values()))
    return list(shares)[int(at)]
