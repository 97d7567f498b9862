"""A code in words where no description of it is known: its parts, told apart; nothing is looked up.

MEDS transforms join what they know of an event by `//`: kind, item, unit or outcome. The code
itself stays what everything is found by.
"""

from __future__ import annotations

import re
from itertools import pairwise

_EMPTY = {"", "UNK", "UNKNOWN", "NONE", "NAN", "NULL"}
_PHASES = {"START", "END", "STOP"}
_SHORT = {
    "LAB": "Laboratory",
    "LABS": "Laboratory",
    "MED": "Medication",
    "MEDS": "Medication",
    "DX": "Diagnosis",
    "PROC": "Procedure",
}
_A_CODE = re.compile(r"[0-9A-Z.\-]{1,8}")


def code_words(code: str, unit: str = "") -> str:
    """'LAB//50912//mg/dL' is 'Laboratory: 50912', 'MEDICATION//START//Aspirin' 'Medication start:
    Aspirin'; a code without `//` or `_` stays as it is.

    unit: left out at the end, as it stands beside the value.
    """
    head, *rest = (part.strip() for part in code.split("//"))
    rest = [part for part in rest if part.upper() not in _EMPTY]
    if rest and unit and rest[-1] == unit:
        rest = rest[:-1]
    if "//" not in code and "_" not in head:
        return code
    name = _words(head)
    if rest and rest[0].upper() in _PHASES:
        name += f" {rest.pop(0).lower()}"
    if not rest:
        return name or code
    told = rest[0]
    for before, part in pairwise(rest):
        # A system and a code in it belong together: ICD 10 E785.
        together = _A_CODE.fullmatch(before) and _A_CODE.fullmatch(part)
        told += f" {part}" if together else f", {part}"
    return f"{name}: {told}" if name else told


def _words(head: str) -> str:
    """HOSPITAL_ADMISSION is 'Hospital admission', ICU_ADMISSION 'ICU admission'."""
    if head.upper() in _SHORT:
        return _SHORT[head.upper()]
    bare = re.sub(r"^MEDS_", "", head)
    if not re.fullmatch(r"[A-Z0-9_]+", bare):
        return bare.replace("_", " ").strip()
    words = bare.split("_")
    told = [word if len(word) <= 3 and word not in {"TO", "AT", "OF", "OUT"} else word.lower()
            for word in words]  # fmt: skip
    text = " ".join(told).strip()
    return text[:1].upper() + text[1:]
