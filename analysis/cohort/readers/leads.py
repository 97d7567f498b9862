"""Names of the twelve ECG leads, and what files call them."""

from __future__ import annotations

import re

from models.cardiac import LEADS as LEADS

_BY_NAME = {lead.upper(): lead for lead in LEADS}
# Last part of the lead codes of SCP-ECG ("5.6.3-9-61") and of ISO/IEEE 11073 ("2:61").
_BY_NUMBER = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"}
_BY_NUMBER |= {2 + number: f"V{number}" for number in range(1, 7)}


def lead_name(source: str) -> str | None:
    """The lead that a file means: 'avr', 'Lead aVR', 'MLII', 'Lead I (Einthoven)', 'V1-ref', ...

    None for anything else. Modified limb leads (MLI to MLIII) count as the lead they stand for.
    """
    text = re.sub(r"\(.*?\)", " ", source).upper()
    text = re.sub(r"MDC_ECG_(LEAD|ELEC_POTL)_?|\b(ECG|EKG|LEAD)\b", " ", text)
    text = re.sub(r"[\s_.:+-]+(REF\b)?", "", text)
    text = re.sub(r"^ML(?=I{1,3}$)", "", text)
    return _BY_NAME.get(text)


def lead_of_code(scheme: str, code: str) -> str | None:
    """The lead of a DICOM channel source code of the schemes SCPECG and MDC; None for others."""
    number = re.search(r"[:-](\d+)$", code)
    if number is None or scheme not in ("SCPECG", "MDC"):
        return None
    return _BY_NUMBER.get(int(number[1]))
