"""The stated truth of the heart-failure cohort: two tasks, their formulas, and outcomes drawn.

Prevalent heart failure (`hf`), the logit of the diagnosis at admission:

    logit = -1.40
          + 0.72 x ln(NT-proBNP / 620)                  pg/mL
          + 0.80 x loop diuretic
          + 0.50 x ln(creatinine / 0.9)                 mg/dL
          + 0.10 x (139 - sodium)                       mmol/L
          + 0.05 x (QRS - 92), at most 60               ms
          + 1.40 x atrial fibrillation
          + 0.27 x (QRS voltage - 1) / 0.1
          + 0.10 x (62 - ejection fraction)             percent
          + 0.08 x (left atrium - 36)                   mm
          + 0.06 x (left ventricle - 48)                mm

Incident heart failure (`incident_hf`), the log-hazard of those without it at admission:

    log h = 2.1 x inverted lateral T waves, 0 to 1
          + 0.36 x (wall - 10)                                            mm
          + 0.75 x diabetes + 0.60 x hypertension + 0.38 x (age - 65) / 10

An outcome counts what the state shows, whether or not it was recorded. With left bundle branch
block the lateral T waves are inverted against the QRS, and count as inverted. Incident heart
failure is Weibull, H(t) = exp(log h) (t / scale)^shape; loss to follow-up is exponential and
independent of everything, and what is left is censored after four years.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log

from sample_data.heart import Heart
from sample_data.heart_patients import HeartPatient, Modality, Stream

HF, INCIDENT_HF = "hf", "incident_hf"
HORIZON_DAYS = 1461.0


@dataclass(frozen=True, kw_only=True)
class HeartTerm:
    """One summand of a logit or log-hazard.

    modality: which one shows it. columns: those of the table that carry it. segments: the waves
    of the ECG that carry it.
    """

    name: str
    title: str
    modality: Modality
    coefficient: float
    value: Callable[[HeartPatient], float]
    columns: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()


def t_inversion_shown(heart: Heart) -> float:
    """0 to 1: how far the lateral T waves are inverted on the tracing."""
    return 1.0 if heart.block == "left" else heart.t_inversion


INTERCEPT = -1.40
DIAGNOSIS_TERMS: tuple[HeartTerm, ...] = (
    HeartTerm(
        name="nt_probnp",
        title="NT-proBNP, per natural logarithm over 620 pg/mL",
        modality="labs",
        coefficient=0.72,
        value=lambda p: log(p.lab("nt_probnp") / 620.0),
        columns=("nt_probnp",),
    ),
    HeartTerm(
        name="diuretic",
        title="loop diuretic",
        modality="labs",
        coefficient=0.80,
        value=lambda p: p.lab("drug_diuretic"),
        columns=("drug_diuretic",),
    ),
    HeartTerm(
        name="creatinine",
        title="creatinine, per natural logarithm over 0.9 mg/dL",
        modality="labs",
        coefficient=0.50,
        value=lambda p: log(p.lab("creatinine") / 0.9),
        columns=("creatinine",),
    ),
    HeartTerm(
        name="sodium",
        title="sodium, per mmol/L below 139",
        modality="labs",
        coefficient=0.10,
        value=lambda p: 139.0 - p.lab("sodium"),
        columns=("sodium",),
    ),
    HeartTerm(
        name="qrs_duration",
        title="QRS duration, per ms over 92, at most 60",
        modality="ecg",
        coefficient=0.05,
        value=lambda p: min(60.0, p.heart.qrs_ms - 92.0),
        segments=("QRS",),
    ),
    HeartTerm(
        name="atrial_fibrillation",
        title="atrial fibrillation",
        modality="ecg",
        coefficient=1.40,
        value=lambda p: float(p.heart.rhythm == "af"),
        segments=("TQ",),
    ),
    HeartTerm(
        name="voltage",
        title="QRS voltage, per 0.1 over usual",
        modality="ecg",
        coefficient=0.27,
        value=lambda p: (p.heart.voltage - 1.0) / 0.1,
        segments=("QRS",),
    ),
    HeartTerm(
        name="ejection_fraction",
        title="ejection fraction, per percent below 62",
        modality="echo",
        coefficient=0.10,
        value=lambda p: 62.0 - 100.0 * p.heart.ejection_fraction,
    ),
    HeartTerm(
        name="left_atrium",
        title="left atrial diameter, per mm over 36",
        modality="echo",
        coefficient=0.08,
        value=lambda p: p.heart.la_diameter_mm - 36.0,
    ),
    HeartTerm(
        name="left_ventricle",
        title="left ventricular diameter, per mm over 48",
        modality="echo",
        coefficient=0.06,
        value=lambda p: p.heart.lv_diameter_mm - 48.0,
    ),
)

INCIDENT_TERMS: tuple[HeartTerm, ...] = (
    HeartTerm(
        name="t_inversion",
        title="inverted lateral T waves, from upright 0 to inverted 1",
        modality="ecg",
        coefficient=2.10,
        value=lambda p: t_inversion_shown(p.heart),
        segments=("T",),
    ),
    HeartTerm(
        name="wall_thickness",
        title="wall thickness, per mm over 10",
        modality="echo",
        coefficient=0.36,
        value=lambda p: p.heart.wall_mm - 10.0,
    ),
    HeartTerm(
        name="diabetes",
        title="history of diabetes",
        modality="labs",
        coefficient=0.75,
        value=lambda p: p.lab("history_diabetes"),
        columns=("history_diabetes",),
    ),
    HeartTerm(
        name="hypertension",
        title="history of hypertension",
        modality="labs",
        coefficient=0.60,
        value=lambda p: p.lab("history_hypertension"),
        columns=("history_hypertension",),
    ),
    HeartTerm(
        name="age",
        title="age, per 10 years over 65",
        modality="labs",
        coefficient=0.38,
        value=lambda p: (p.age_years - 65.0) / 10.0,
        columns=("age",),
    ),
)
TERMS: Mapping[str, tuple[HeartTerm, ...]] = {HF: DIAGNOSIS_TERMS, INCIDENT_HF: INCIDENT_TERMS}

_SHAPE, _SCALE_DAYS, _MEAN_DAYS_TO_LOSS = 1.1, 11200.0, 3600.0


@dataclass(frozen=True, kw_only=True)
class HeartOutcome:
    """What happened. terms: by task, each term's summand. logit: of `hf`; log_hazard: of
    `incident_hf`. time_days and event are None for those who had heart failure already or were
    not followed.
    """

    terms: Mapping[str, Mapping[str, float]]
    logit: float
    log_hazard: float
    prevalent: bool
    time_days: float | None
    event: int | None


def draw_outcome(patient: HeartPatient, followed: float) -> HeartOutcome:
    """The patient's outcomes. followed: chance that one without heart failure is followed up."""
    rng = patient.generator(Stream.OUTCOME)
    terms = {
        task: {term.name: term.coefficient * term.value(patient) for term in of_task}
        for task, of_task in TERMS.items()
    }
    logit = INTERCEPT + sum(terms[HF].values())
    log_hazard = sum(terms[INCIDENT_HF].values())
    prevalent = bool(rng.random() < 1.0 / (1.0 + exp(-logit)))
    follow, unit, loss = rng.random(), rng.exponential(), rng.exponential(_MEAN_DAYS_TO_LOSS)
    until_event = _SCALE_DAYS * (unit / exp(log_hazard)) ** (1.0 / _SHAPE)
    until_loss = min(HORIZON_DAYS, loss)
    seen = not prevalent and follow < followed
    return HeartOutcome(
        terms=terms,
        logit=logit,
        log_hazard=log_hazard,
        prevalent=prevalent,
        time_days=max(0.01, round(float(min(until_event, until_loss)), 2)) if seen else None,
        event=int(until_event <= until_loss) if seen else None,
    )
