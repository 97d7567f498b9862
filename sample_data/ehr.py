"""Simulates the record of a patient before the index time, as MEDS events.

Years of visits, clustered into episodes of care; at each visit a few of the patient's conditions
are coded, treated and measured, each patient keeping to a few of a condition's codes and drugs.
Laboratory values carry a personal level, shift with the conditions, and drift towards the index
time. The last day holds the index visit: complaints, vital signs and the values of
`Patient.index_values`, the very numbers that enter the hazard.

A record has 20 to 500 events. Causal diagnoses always appear in it: a cause that nothing shows
would make the truth unreachable rather than hard. A causal laboratory value may be missing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp

import numpy as np
import pandas as pd

from sample_data.conditions import (
    CANCER_CARE,
    CANCER_HISTORY,
    CANCERS,
    CONDITIONS,
    INDEX_COMPLAINTS,
    METASTASES,
)
from sample_data.hazard import CAUSAL_CONDITIONS
from sample_data.patients import CohortKind, Patient, Stream
from sample_data.vocabulary_codes import (
    BIRTH,
    DESCRIPTIONS,
    DRUGS,
    LABS,
    OTHER_CODES,
    SMOKING_STATUS,
    UNITS,
)

FEWEST, MOST = 20, 500
_MEDIAN_EVENTS = 106.0
_DAY = 1440  # minutes

_PANELS: Mapping[str, tuple[str, ...]] = {
    "metabolic": ("creatinine", "bun", "sodium", "potassium", "chloride", "bicarbonate",
                  "glucose", "calcium", "egfr"),
    "count": ("haemoglobin", "haematocrit", "leukocytes", "platelets", "mcv", "rdw",
              "erythrocytes", "neutrophils", "lymphocytes", "eosinophils"),
    "liver": ("alt", "ast", "alp", "bilirubin", "bilirubin_direct", "albumin", "protein", "ggt"),
    "lipids": ("cholesterol", "ldl", "hdl", "triglycerides"),
    "vitals": ("sbp", "dbp", "heart_rate", "weight", "bmi", "height", "temperature", "spo2",
               "respiratory_rate"),
    "coagulation": ("inr", "prothrombin_time", "aptt", "fibrinogen"),
    "blood_gas": ("arterial_ph", "arterial_po2", "arterial_pco2", "lactate"),
    "cardiac": ("troponin", "bnp", "ck", "ck_mb"),
    "other": ("tsh", "hba1c", "b12", "vitamin_d", "ferritin", "iron", "magnesium", "phosphate",
              "urate", "crp", "esr", "ldh", "procalcitonin", "prealbumin"),
}  # fmt: skip
# Chance of a panel by visit.
_ORDERED: Mapping[str, Mapping[str, float]] = {
    "Visit/OP": {"vitals": 0.35, "metabolic": 0.22, "count": 0.2, "lipids": 0.12, "liver": 0.08,
                 "other": 0.2},
    "Visit/ER": {"vitals": 0.8, "metabolic": 0.7, "count": 0.6, "cardiac": 0.3, "liver": 0.2,
                 "coagulation": 0.2, "blood_gas": 0.1},
    "Visit/IP": {"vitals": 0.9, "metabolic": 0.9, "count": 0.9, "liver": 0.5, "coagulation": 0.4,
                 "blood_gas": 0.3, "cardiac": 0.3, "other": 0.3},
}  # fmt: skip
# Index values that are a patient's usual level rather than an acute state.
_LASTING = {
    CohortKind.PE: ("creatinine",),
    CohortKind.CVD: ("sbp", "ldl", "hdl", "triglycerides", "cholesterol", "hba1c", "creatinine",
                     "bmi"),
}  # fmt: skip
_SMOKING_TEXT = {
    "smoking": "Current every day smoker",
    "former_smoking": "Former smoker",
    "": "Never smoker",
}


@dataclass(frozen=True)
class Record:
    """A patient's events, oldest first. time is datetime64[us]; text is None where there is none.

    A missing numeric value is NaN.
    """

    time: np.ndarray
    code: list[str]
    value: np.ndarray
    text: list[str | None]

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True)
class _Strand:
    """One condition as this patient's record shows it. Days count back from the index time."""

    onset_day: float
    rate: float
    chronic: bool
    diagnoses: list[str]
    drugs: list[str]
    orders: Sequence[str]
    labs: Mapping[str, float]
    causal: bool

    def active(self, day: float) -> bool:
        """Whether a visit that day may concern it; an episode is over after six weeks."""
        return day <= self.onset_day and (self.chronic or self.onset_day - day <= 42.0)


def simulate_record(patient: Patient) -> Record:
    """The events before the patient's index time, whether or not the cohort shows them."""
    return _Writer(patient).write()


def code_table() -> pd.DataFrame:
    """Every code that a record may hold: code, description, parent_codes, unit."""
    codes = sorted(DESCRIPTIONS)
    return pd.DataFrame(
        {
            "code": codes,
            "description": [DESCRIPTIONS[code] for code in codes],
            "parent_codes": [_parents(code) for code in codes],
            "unit": [UNITS.get(code, "") for code in codes],
        }
    )


def _parents(code: str) -> list[str]:
    """The three-character category of a diagnosis, which is what groups a cancer's codes."""
    system, _, name = code.partition("/")
    return [f"ICD10CM/{name[:3]}"] if system == "ICD10CM" and "." in name else []


def _numbers(draw: Callable[[int], np.ndarray]) -> Iterator[float]:
    # one call of a generator costs as much as 500 numbers of a list
    while True:
        yield from draw(512).tolist()


class _Writer:
    """Writes one record, newest visit first, until it is long enough."""

    def __init__(self, patient: Patient) -> None:
        rng = patient.generator(Stream.RECORD)
        self.patient = patient
        self.uniform = _numbers(rng.random).__next__
        self.normal = _numbers(rng.standard_normal).__next__
        self.minutes: list[int] = []
        self.codes: list[str] = []
        self.values: list[float] = []
        self.texts: dict[int, str] = {}
        self.index_clock = 60 * patient.index_time.hour + patient.index_time.minute
        self.swaps = {
            code: other
            for code, other in OTHER_CODES.items()
            if self.uniform() < patient.site.other_codes
        }
        self.other_labs = {
            name
            for name, lab in LABS.items()
            if lab.other_code and self.uniform() < patient.site.other_codes
        }
        self.personal = self._personal_levels()
        self.strands = self._strands()

    # ---------------------------------------------------------- the patient's habits

    def _personal_levels(self) -> dict[str, float]:
        """Deviation of a lab from the population's mean, in standard deviations."""
        levels = {"height": (0.7 if self.patient.sex == "M" else -0.7) + 0.7 * self.normal()}
        for name in _LASTING[self.patient.kind]:
            lab, value = LABS[name], self.patient.index_values[name]
            levels[name] = ((np.log(value) if lab.scale == "log" else value) - lab.mean) / lab.sd
        return levels

    def _strands(self) -> list[_Strand]:
        patient = self.patient
        causal = CAUSAL_CONDITIONS[patient.kind]
        strands = []
        for name, years in patient.conditions.items():
            condition = CONDITIONS[name]
            strands.append(
                _Strand(
                    onset_day=365.25 * years,
                    rate=condition.rate,
                    chronic=condition.chronic,
                    diagnoses=self._favourites(condition.diagnoses, 3),
                    drugs=self._favourites(condition.drugs, 3),
                    orders=condition.orders,
                    labs=condition.labs,
                    causal=name in causal,
                )
            )
        if patient.cancer:
            strands += self._cancer_strands()
        if patient.cancer_history:
            strands.append(
                _Strand(
                    onset_day=2500.0,
                    rate=0.8,
                    chronic=True,
                    diagnoses=self._favourites(CANCER_HISTORY, 1),
                    drugs=[],
                    orders=(),
                    labs={},
                    causal=False,
                )
            )
        return strands

    def _cancer_strands(self) -> list[_Strand]:
        patient, cancer = self.patient, CANCERS[self.patient.cancer]
        onset = 365.25 * patient.cancer_years
        primary = _Strand(
            onset_day=onset,
            rate=3.0,
            chronic=True,
            diagnoses=self._favourites(cancer.diagnoses, 2),
            drugs=self._favourites(cancer.drugs, 4),
            orders=CANCER_CARE.orders,
            labs={cancer.marker: 3.0} if cancer.marker else {},
            causal=patient.kind is CohortKind.PE,
        )
        secondary = self._favourites(METASTASES, 3) if patient.metastatic else []
        care = _Strand(
            onset_day=onset * 0.9,
            rate=2.0,
            chronic=True,
            diagnoses=secondary + self._favourites(CANCER_CARE.diagnoses, 3),
            drugs=self._favourites(CANCER_CARE.drugs, 3),
            orders=(),
            labs=CANCER_CARE.labs,
            causal=False,
        )
        return [primary, care]

    def _favourites(self, choices: Sequence[str], most: int) -> list[str]:
        """Up to `most` of the choices, the commonest likeliest."""
        if not choices:
            return []
        total = list(accumulate(1.0 / (rank + 1.0) for rank in range(len(choices))))
        count = 1 + int(most * self.uniform())
        picked = dict.fromkeys(
            choices[bisect_right(total, self.uniform() * total[-1] * 0.999999)]
            for _ in range(count)
        )
        return list(picked)

    # ---------------------------------------------------------- the record

    def write(self) -> Record:
        patient = self.patient
        self._add(int(patient.age_years * 365.25 * _DAY), BIRTH)
        self._add(int(patient.age_years * 365.25 * _DAY), f"Gender/{patient.sex}")
        index_minute = self._index_visit()
        target = self._target()
        days = self._visit_days(target)
        for day in days:
            if len(self.codes) >= target:
                break
            self._visit(day, target)
        while len(self.codes) < target:
            self._visit(days[-1] * (1.05 + self.uniform()), target)
        written = set(self.codes)
        for strand in self.strands:
            if strand.causal and written.isdisjoint(map(self._code_of, strand.diagnoses)):
                self._diagnose(index_minute, strand.diagnoses[0])
        return self._sorted()

    def _target(self) -> int:
        """How many events, leaving room for causal diagnoses that no visit has coded."""
        burden = 0.05 * (len(self.strands) - 10.0)
        length = _MEDIAN_EVENTS * exp(0.6 * self.normal() + burden)
        shortest = max(FEWEST, len(self.codes) + 4)
        return int(min(max(length, shortest), MOST - 5))

    def _visit_days(self, target: int) -> list[float]:
        history = 365.25 * (1.0 + 9.0 * self.uniform())
        history = min(history, 365.25 * (self.patient.age_years - 16.0))
        count = 2 + (target - len(self.codes)) // 9
        centres = [s.onset_day for s in self.strands if s.onset_day < history]
        centres += [history * self.uniform() ** 1.3 for _ in range(1 + count // 8)]
        days = []
        for _ in range(count):
            if self.uniform() < 0.5:
                centre = centres[int(self.uniform() * len(centres))]
                # care follows an onset, so it lies nearer to the index time
                days.append(max(2.0, centre - 40.0 * self.uniform() ** 2))
            else:
                days.append(2.0 + history * self.uniform() ** 1.2)
        return sorted(days)

    def _index_visit(self) -> int:
        patient = self.patient
        acute = patient.kind is CohortKind.PE
        arrival = 90 + int((500 if acute else 90) * self.uniform())
        self._add(arrival, "Visit/ER" if acute else "Visit/OP")
        for complaint in self._favourites(INDEX_COMPLAINTS[patient.kind.value], 3):
            self._diagnose(arrival - 5, complaint)
        if not acute:
            status = next((name for name in _SMOKING_TEXT if name in patient.conditions), "")
            self.texts[len(self.codes)] = _SMOKING_TEXT[status]
            self._add(arrival - 10, SMOKING_STATUS)
        for name, value in patient.index_values.items():
            if self.uniform() >= patient.site.lost_labs:
                self._report(arrival - 10 - int(60 * self.uniform()), name, value)
        for name in (*_PANELS["count"][:4], *_PANELS["metabolic"][1:7]):
            if self.uniform() < 0.7 * (1.0 - patient.site.lost_labs):
                self._measure(arrival - 10 - int(60 * self.uniform()), name, 0.0)
        return arrival

    def _visit(self, day: float, target: int) -> None:
        active = [strand for strand in self.strands if strand.active(day)]
        ill = any(not s.chronic or s.rate >= 3.0 for s in active)
        chance = self.uniform() * (0.55 if ill else 1.0)
        kind = "Visit/IP" if chance < 0.10 else "Visit/ER" if chance < 0.24 else "Visit/OP"
        # clinics keep office hours, emergencies do not
        clock = (
            480 + int(540 * self.uniform()) if kind == "Visit/OP" else int(1200 * self.uniform())
        )
        minute = int(day) * _DAY + self.index_clock - clock
        self._add(minute, kind)
        done: set[str] = set()
        for strand in self._concerns(active, 2 if kind == "Visit/OP" else 4):
            self._care(minute, strand, done)
        for panel, likely in _ORDERED[kind].items():
            if self.uniform() < likely:
                share = 0.15 if panel == "other" else 0.45
                for name in _PANELS[panel]:
                    if name not in done and self.uniform() < share:
                        done.add(name)
                        self._measure(minute - int(90 * self.uniform()), name, day)
        excess = len(self.codes) - target
        if excess > 0:
            for kept in (self.minutes, self.codes, self.values):
                del kept[-excess:]

    def _concerns(self, active: list[_Strand], usual: int) -> list[_Strand]:
        if not active:
            return []
        total = list(accumulate(s.rate * (1.0 if s.chronic else 2.5) for s in active))
        count = 1 + int(2 * usual * self.uniform() ** 1.5)
        picks = {
            min(bisect_right(total, self.uniform() * total[-1]), len(active) - 1)
            for _ in range(count)
        }
        return [active[i] for i in sorted(picks)]

    def _care(self, minute: int, strand: _Strand, done: set[str]) -> None:
        """Code, treat and measure one condition at a visit; nothing twice."""
        first = strand.diagnoses[int(self.uniform() ** 1.5 * len(strand.diagnoses))]
        if first not in done:
            done.add(first)
            self._diagnose(minute - 20, first)
        if strand.drugs and self.uniform() < 0.6:
            for drug in strand.drugs:
                if drug not in done and self.uniform() < 0.6:
                    done.add(drug)
                    code = DRUGS[drug]
                    self._add(minute - 40, self.swaps.get(code, code))
        if strand.orders and self.uniform() < 0.12:
            order = strand.orders[int(self.uniform() * len(strand.orders))]
            if order not in done:
                done.add(order)
                self._add(minute - 45, order)
        for name in strand.labs:
            if name not in done and self.uniform() < 0.3:
                done.add(name)
                self._measure(minute - int(60 * self.uniform()), name, minute / _DAY)

    def _code_of(self, diagnosis: str) -> str:
        code = "ICD10CM/" + diagnosis
        return self.swaps.get(code, code)

    def _diagnose(self, minute: int, diagnosis: str) -> None:
        self._add(minute, self._code_of(diagnosis))

    def _measure(self, minute: int, name: str, day: float) -> None:
        """A value at the patient's own level, moved by conditions, less so near their onset."""
        lab = LABS[name]
        level = self.personal.get(name)
        if level is None:
            level = self.personal[name] = 0.65 * self.normal()
        if name not in _LASTING[self.patient.kind]:
            for strand in self.strands:
                shift = strand.labs.get(name)
                if shift is not None and strand.active(day):
                    level += shift * (1.0 - 0.5 * day / strand.onset_day)
        else:
            level -= 0.04 * day / 365.25  # these drift upwards with age
        noise = 0.05 if name == "height" else 0.55
        score = lab.mean + lab.sd * (level + noise * self.normal())
        self._report(minute, name, exp(score) if lab.scale == "log" else score)

    def _report(self, minute: int, name: str, value: float) -> None:
        lab = LABS[name]
        value = min(max(value, lab.low), lab.high)
        if name in self.other_labs:
            self._add(minute, lab.other_code, round(value * lab.other_factor, lab.other_decimals))
        else:
            self._add(minute, lab.code, round(value, lab.decimals))

    def _add(self, minute: int, code: str, value: float = float("nan")) -> None:
        self.minutes.append(max(minute, 1))
        self.codes.append(code)
        self.values.append(value)

    def _sorted(self) -> Record:
        minutes = np.asarray(self.minutes, np.int64)
        order = np.argsort(-minutes, kind="stable")
        index = np.datetime64(self.patient.index_time, "us")
        return Record(
            time=index - minutes[order].astype("timedelta64[m]").astype("timedelta64[us]"),
            code=[self.codes[i] for i in order.tolist()],
            value=np.asarray(self.values, np.float32)[order],
            text=[self.texts.get(i) for i in order.tolist()],
        )
