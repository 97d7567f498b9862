"""Names that ECG and echo go by everywhere: files, encoders, simulation and pages."""

from __future__ import annotations

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve leads in the usual order of reading (ST-MEM's, too)."""

VIEWS = (
    "A2C",
    "A3C",
    "A4C",
    "A5C",
    "Apical_Doppler",
    "Doppler_Parasternal_Long",
    "Doppler_Parasternal_Short",
    "Parasternal_Long",
    "Parasternal_Short",
    "SSN",
    "Subcostal",
)
"""The eleven views of Zhang et al. (TGMM, section 3.3); those with Doppler are in colour."""
