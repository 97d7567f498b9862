"""Codes without a description, as MEDS's transforms of real records write them."""

from __future__ import annotations

import pytest

from analysis.attribution.code_words import code_words


@pytest.mark.parametrize(
    ("code", "unit", "words"),
    [
        ("LAB//50912//mg/dL", "mg/dL", "Laboratory: 50912"),
        ("LAB//51498//", "", "Laboratory: 51498"),
        ("LAB//227969//UNK", "", "Laboratory: 227969"),
        ("DIAGNOSIS//ICD//10//E785", "", "Diagnosis: ICD 10 E785"),
        ("DRG//APR//194//HEART FAILURE", "", "DRG: APR 194, HEART FAILURE"),
        ("MEDICATION//START//Vitamin D", "", "Medication start: Vitamin D"),
        ("MEDICATION//Insulin//Administered", "", "Medication: Insulin, Administered"),
        ("PROCEDURE//END//225459", "", "Procedure end: 225459"),
        ("HOSPITAL_ADMISSION//EW EMER.//EMERGENCY ROOM", "",
         "Hospital admission: EW EMER., EMERGENCY ROOM"),
        ("HOSPITAL_DISCHARGE//UNK", "", "Hospital discharge"),
        ("ICU_ADMISSION//Medical (MICU)", "", "ICU admission: Medical (MICU)"),
        ("ED_OUT", "", "ED out"),
        ("TRANSFER_TO//ED//Emergency Department", "", "Transfer to: ED, Emergency Department"),
        ("SUBJECT_FLUID_OUTPUT//226559//ml", "ml", "Subject fluid output: 226559"),
        ("GENDER//F", "", "Gender: F"),
        ("MEDS_BIRTH", "", "Birth"),
        ("MEDS_DEATH", "", "Death"),
        # Other dialects say what they are; nothing is made of them.
        ("LOINC/8867-4", "", "LOINC/8867-4"),
        ("BMI (kg/m2)", "", "BMI (kg/m2)"),
        ("Visit/IP", "", "Visit/IP"),
        ("//", "", "//"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_words(code: str, unit: str, words: str) -> None:
    assert code_words(code, unit) == words
