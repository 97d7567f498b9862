"""The stated truth of the head and neck cancer cohort: formula of the hazard, and outcomes drawn.

Death of any cause (`overall_survival`, and `death_5y`, which is read off it), the log-hazard:

    log h = 0.45 x extent + 0.50 x aggression + 0.45 x exclusion + 0.40 x frailty
          + 0.40 x budding + 0.35 x checkpoint + 0.45 x inflammation
          - 0.90 x p16-positive
          + 0.25 x (age - 61) / 10                      years
          + 0.80 x metastasis at diagnosis
          + 0.80 x tumour at the margin (R1 or R2)

Recurrence has a log-hazard of its own: the summands of the tumour alone, a third larger.
Recurrence-free survival ends with recurrence or death, whichever comes first.

Where the hazard is seen, by the formula's variance over patients of site A:

    summand        variance  shown by
    extent            0.20   pathological, icd (weakly); clinical by metastasis
    aggression        0.25   wsi, tma, pathological
    exclusion         0.20   wsi, tma
    frailty           0.16   blood, clinical
    p16               0.12   pathological, wsi, icd (by the site)
    inflammation      0.20   blood alone
    budding           0.16   wsi alone
    checkpoint        0.12   tma alone
    age               0.06   clinical alone
    metastasis        0.04   clinical alone
    margin            0.04   pathological alone
    nothing           0      cell_density

Times are exponential given the log-hazard; loss to follow-up is independent of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log

from sample_data.hnscc_patients import HnsccPatient, Modality, Stream

OVERALL, RECURRENCE_FREE, DEATH_5Y = "overall_survival", "recurrence_free_survival", "death_5y"
HORIZON_DAYS = 1826.0


@dataclass(frozen=True, kw_only=True)
class HnsccTerm:
    """One summand of the log-hazard of death.

    shown_by: the modalities that show it, best first. columns: those of their tables that do.
    tissue: of the tumour, so that recurrence has it too.
    """

    name: str
    title: str
    coefficient: float
    value: Callable[[HnsccPatient], float]
    shown_by: tuple[Modality, ...]
    columns: tuple[str, ...] = ()
    tissue: bool = False


def _latent(name: str) -> Callable[[HnsccPatient], float]:
    return lambda patient: patient.latent[name]


TERMS: tuple[HnsccTerm, ...] = (
    HnsccTerm(
        name="extent",
        title="extent of the tumour, per standard deviation",
        coefficient=0.45,
        value=_latent("extent"),
        shown_by=("pathological", "icd", "clinical"),
        columns=(
            "pT_stage",
            "pN_stage",
            "number_of_positive_lymph_nodes",
            "infiltration_depth_in_mm",
            "perinodal_invasion",
            "c770",
        ),
        tissue=True,
    ),
    HnsccTerm(
        name="aggression",
        title="aggressive growth, per standard deviation",
        coefficient=0.50,
        value=_latent("aggression"),
        shown_by=("wsi", "tma", "pathological"),
        columns=(
            "grading",
            "lymphovascular_invasion_L",
            "vascular_invasion_V",
            "perineural_invasion_Pn",
        ),
        tissue=True,
    ),
    HnsccTerm(
        name="exclusion",
        title="immune cells kept out of the tumour, per standard deviation",
        coefficient=0.45,
        value=_latent("exclusion"),
        shown_by=("wsi", "tma"),
        tissue=True,
    ),
    HnsccTerm(
        name="frailty",
        title="frailty, per standard deviation",
        coefficient=0.40,
        value=_latent("frailty"),
        shown_by=("blood", "clinical"),
        columns=(
            "Hemoglobin [Mass/volume] in Blood",
            "Erythrocytes [#/volume] in Blood",
            "Hematocrit [Volume Fraction] of Blood",
            "Erythrocyte distribution width [Ratio]",
            "smoking_status",
        ),
    ),
    HnsccTerm(
        name="p16",
        title="p16-positive tumour (human papillomavirus)",
        coefficient=-0.90,
        value=lambda p: float(p.p16_positive),
        shown_by=("pathological", "wsi", "icd"),
        columns=("hpv_association_p16",),
        tissue=True,
    ),
    HnsccTerm(
        name="budding",
        title="tumour budding, per standard deviation",
        coefficient=0.40,
        value=_latent("budding"),
        shown_by=("wsi",),
        tissue=True,
    ),
    HnsccTerm(
        name="checkpoint",
        title="checkpoint ligand on the tumour, per standard deviation",
        coefficient=0.35,
        value=_latent("checkpoint"),
        shown_by=("tma",),
        tissue=True,
    ),
    HnsccTerm(
        name="inflammation",
        title="systemic inflammation, per standard deviation",
        coefficient=0.45,
        value=_latent("inflammation"),
        shown_by=("blood",),
        columns=(
            "Leukocytes [#/volume] in Blood",
            "Granulocytes [#/volume] in Blood",
            "Lymphocytes [#/volume] in Blood",
            "Monocytes [#/volume] in Blood",
            "Platelets [#/volume] in Blood",
        ),
    ),
    HnsccTerm(
        name="age",
        title="age, per 10 years over 61",
        coefficient=0.25,
        value=lambda p: (p.age_years - 61.0) / 10.0,
        shown_by=("clinical",),
        columns=("age_at_initial_diagnosis",),
    ),
    HnsccTerm(
        name="metastasis",
        title="metastasis at diagnosis",
        coefficient=0.80,
        value=lambda p: float(p.metastasis),
        shown_by=("clinical",),
        columns=("primarily_metastasis",),
    ),
    HnsccTerm(
        name="margin",
        title="tumour at the resection margin (R1 or R2)",
        coefficient=0.80,
        value=lambda p: float(p.margin),
        shown_by=("pathological",),
        columns=("resection_status",),
        tissue=True,
    ),
)
NOISE: Modality = "cell_density"
"""The modality that shows no summand at all."""

_RECURRENCE = 1.33  # factor on the tumour's summands
_SCALE_DEATH_DAYS, _SCALE_RECURRENCE_DAYS = 6800.0, 10500.0
_LOSS_SHAPE, _LOSS_SCALE_DAYS, _LAST_DAYS = 2.0, 1150.0, 5163.0


@dataclass(frozen=True, kw_only=True)
class HnsccOutcome:
    """What happened. terms: summands of the log-hazard of death. log_hazard: their sum;
    log_hazard_rfs: of recurrence or death, relative to the population's scale of death.

    time_days, event: death. rfs_days, rfs_event: recurrence or death. dead_5y: whether the
    patient died within HORIZON_DAYS, None where lost before.
    """

    terms: Mapping[str, float]
    log_hazard: float
    log_hazard_rfs: float
    time_days: float
    event: int
    rfs_days: float
    rfs_event: int
    dead_5y: int | None


def draw_outcome(patient: HnsccPatient) -> HnsccOutcome:
    """The patient's outcomes."""
    rng = patient.generator(Stream.OUTCOME)
    terms = {term.name: term.coefficient * term.value(patient) for term in TERMS}
    log_hazard = sum(terms.values())
    tumour = _RECURRENCE * sum(terms[term.name] for term in TERMS if term.tissue)
    units = rng.exponential(size=2)
    until_death = _SCALE_DEATH_DAYS * units[0] / exp(log_hazard)
    until_recurrence = _SCALE_RECURRENCE_DAYS * units[1] / exp(tumour)
    loss = min(_LAST_DAYS, rng.gamma(_LOSS_SHAPE, _LOSS_SCALE_DAYS))
    days, event = _seen(until_death, loss)
    rfs_days, rfs_event = _seen(min(until_death, until_recurrence), loss)
    known = event or days >= HORIZON_DAYS
    both = exp(log_hazard) + exp(tumour) * _SCALE_DEATH_DAYS / _SCALE_RECURRENCE_DAYS
    return HnsccOutcome(
        terms=terms,
        log_hazard=log_hazard,
        log_hazard_rfs=log(both),
        time_days=days,
        event=event,
        rfs_days=rfs_days,
        rfs_event=rfs_event,
        dead_5y=int(bool(event) and days <= HORIZON_DAYS) if known else None,
    )


def _seen(until: float, loss: float) -> tuple[float, int]:
    """(whole days, event) under loss to follow-up."""
    return float(max(1, round(min(until, loss)))), int(until <= loss)
