"""Which codes of a record stand for an item of a clinical score.

Diagnoses are told by the start of an ICD code, dots aside: `ICD10CM/I50.9`, `ICD10/I509` and
`DIAGNOSIS//ICD//10//I509` are one. Heart failure and chronic lung disease are the groups of Quan
et al., Med Care 2005; 43:1130. Cancer is any malignant tumour but non-melanoma skin cancer, active
or in the past. Vital signs are LOINC codes, as OMOP-based records have them, or the item numbers
of MIMIC-IV's charts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ICD = re.compile(
    r"^(?:DIAGNOSIS//ICD//)?(?:ICD-?)?(?P<version>9|10)(?:CM)?/+(?P<code>[A-Z]?\d[0-9A-Z.]*)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class History:
    """A diagnosis. icd10, icd9: beginnings of codes without dots; but: beginnings left out.

    acute: only at presentation, not years ago.
    """

    icd10: tuple[str, ...]
    icd9: tuple[str, ...]
    but: tuple[str, ...] = ()
    acute: bool = False


@dataclass(frozen=True)
class Vital:
    """A vital sign: its codes, the plausible range [low, high] in its unit, and another unit.

    Values between other_low and other_high are in `other`: value = (x - shift) * factor.
    """

    codes: tuple[str, ...]
    low: float
    high: float
    other: str = ""
    other_low: float = np.inf
    other_high: float = -np.inf
    shift: float = 0.0
    factor: float = 1.0

    def in_unit(self, given: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Values in the unit of the score, and which were converted."""
        converted = (given >= self.other_low) & (given <= self.other_high)
        return np.where(converted, (given - self.shift) * self.factor, given), converted


_HEART_FAILURE = History(
    icd10=("I099", "I110", "I130", "I132", "I255", "I420", "I425", "I426", "I427", "I428", "I429",
           "I43", "I50", "P290"),
    icd9=("39891", "40201", "40211", "40291", "40401", "40403", "40411", "40413", "40491", "40493",
          "4254", "4255", "4257", "4258", "4259", "428"),
)  # fmt: skip
_CHRONIC_LUNG = History(
    icd10=("I278", "I279", "J40", "J41", "J42", "J43", "J44", "J45", "J46", "J47", "J60", "J61",
           "J62", "J63", "J64", "J65", "J66", "J67", "J684", "J701", "J703"),
    icd9=("4168", "4169", "490", "491", "492", "493", "494", "495", "496", "500", "501", "502",
          "503", "504", "505", "5064", "5081", "5088"),
)  # fmt: skip
HISTORY: Mapping[str, History] = {
    "cancer": History(
        icd10=("C", "Z85"),
        icd9=("14", "15", "16", "170", "171", "172", "174", "175", "176", "179", "18", "19",
              "200", "201", "202", "203", "204", "205", "206", "207", "208", "V10"),
        but=("C44", "Z85828", "V1083"),
    ),
    "heart_failure": _HEART_FAILURE,
    "chronic_lung": _CHRONIC_LUNG,
    "cardiopulmonary": History(
        icd10=_HEART_FAILURE.icd10 + _CHRONIC_LUNG.icd10,
        icd9=_HEART_FAILURE.icd9 + _CHRONIC_LUNG.icd9,
    ),
    "altered_mental_status": History(
        icd10=("R40", "R410", "R4182", "F05"), icd9=("7800", "78097", "2930"), acute=True
    ),
}  # fmt: skip
VITALS: Mapping[str, Vital] = {
    "heart_rate": Vital(("LOINC/8867-4", "220045"), 10, 300),
    "sbp": Vital(("LOINC/8480-6", "220179", "220050"), 20, 300),
    "respiratory_rate": Vital(("LOINC/9279-1", "220210"), 2, 90),
    "spo2": Vital(
        ("LOINC/59408-5", "LOINC/2708-6", "220277"), 20, 100, "shares of 1", 0.2, 1.0, 0.0, 100.0
    ),
    "temperature": Vital(
        ("LOINC/8310-5", "223762", "223761"), 25, 45, "degrees Fahrenheit", 77, 113, 32, 5 / 9
    ),
}


def matches(code: str, known: tuple[str, ...]) -> bool:
    """Whether a code is one of those known: the whole code, or a part between double slashes."""
    return code in known or any(part in known for part in code.split("//"))


def diagnosis(code: str, history: History) -> bool:
    """Whether an ICD code belongs to a diagnosis."""
    found = _ICD.match(code)
    if found is None:
        return False
    plain = found["code"].replace(".", "").upper()
    starts = history.icd10 if found["version"] == "10" else history.icd9
    return plain.startswith(starts) and not plain.startswith(history.but or ("-",))
