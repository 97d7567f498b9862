"""A study on the MIMIC-IV demo: death after the first day of the first admission."""

from __future__ import annotations

from pathlib import Path

from analysis.cohort.importers.meds import import_meds
from analysis.cohort.importers.study import read_study

EVENTS = "mimic_iv_demo_meds/events.parquet"
STUDY = """\
name: mimic_demo
title: MIMIC-IV demo
description: Time zero is a day after the first admission to hospital.
index_event: a day after the first admission
source: MIMIC-IV Clinical Database Demo in MEDS (PhysioNet)
licence: ODbL 1.0
index: {codes: ["HOSPITAL_ADMISSION*"], plus_hours: 24}
tasks:
  death:
    title: Death from any cause
    horizon_days: 365
    codes: [MEDS_DEATH]
  icu_month:
    title: Intensive care within a month
    kind: classification
    codes: ["ICU_ADMISSION*"]
    within_days: 30
    again: true
modalities:
  ehr: {title: EHR}
  labs:
    title: Blood tests
    values:
      creatinine: {codes: ["LAB//50912//*"], unit: mg/dL, title: Creatinine}
      sodium: {codes: ["LAB//50983//*"], unit: mmol/L, title: Sodium}
      lactate: {codes: ["LAB//50813//*"], unit: mmol/L, title: Lactate, within_days: 1}
"""


def write_mimic_demo(events: Path, out: Path) -> Path:
    """The cohort, with its record and three blood tests."""
    file = out.parent / f"{out.name}.study.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(STUDY)
    study = read_study(file)
    import_meds(events, out, study)
    import_meds(events, out, study, name="labs")
    return out
