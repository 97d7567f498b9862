from collections import Counter

import numpy as np
import pytest

from analysis.cohort.schema import Split
from sample_data.conditions import CANCERS, CONDITIONS
from sample_data.ehr import FEWEST, MOST, code_table, simulate_record
from sample_data.hazard import CANCER_CODES, CAUSAL_CONDITIONS, causal_codes
from sample_data.patients import CohortKind, draw_patient
from sample_data.vocabulary_codes import BIRTH, DESCRIPTIONS, DRUGS, LABS, OTHER_CODES, UNITS


def draw(kind, split, count, seed=5):
    patients = [draw_patient(kind, seed, number, split) for number in range(count)]
    return patients, [simulate_record(patient) for patient in patients]


@pytest.fixture(scope="module")
def pe():
    return draw(CohortKind.PE, Split.INTERNAL, 600)


@pytest.fixture(scope="module")
def pe_external():
    return draw(CohortKind.PE, Split.EXTERNAL, 600)


@pytest.fixture(scope="module")
def cvd():
    return draw(CohortKind.CVD, Split.INTERNAL, 600)


def counts(records):
    return Counter(code for record in records for code in record.code)


def test_codes_and_descriptions_are_unique_and_every_reference_exists():
    table = code_table()
    assert table["code"].is_unique
    assert table["description"].is_unique
    assert len(table) > 350
    for condition in (*CONDITIONS.values(), *CANCERS.values()):
        assert {f"ICD10CM/{code}" for code in condition.diagnoses} <= DESCRIPTIONS.keys()
        assert set(condition.drugs) <= DRUGS.keys()
    for condition in CONDITIONS.values():
        assert set(condition.orders) <= DESCRIPTIONS.keys()
        assert set(condition.labs) <= LABS.keys()
        assert set(condition.given) <= CONDITIONS.keys()
    assert OTHER_CODES.keys() | set(OTHER_CODES.values()) <= DESCRIPTIONS.keys()


def test_loinc_numbers_have_a_right_check_digit():
    for code in DESCRIPTIONS:
        system, _, number = code.partition("/")
        if system == "LOINC":
            body, check = number.split("-")
            doubled = str(int(body[::-1][::2]) * 2) + body[::-1][1::2]
            assert -sum(map(int, doubled)) % 10 == int(check), code


def test_records_have_20_to_500_events_in_order_and_end_before_the_index_time(pe, cvd, pe_external):
    for patients, records in (pe, cvd, pe_external):
        sizes = [len(record) for record in records]
        assert min(sizes) >= FEWEST
        assert max(sizes) <= MOST
        assert 85 < np.median(sizes) < 130
        for patient, record in zip(patients, records, strict=True):
            assert record.time.dtype == np.dtype("datetime64[us]")
            assert (np.diff(record.time) >= np.timedelta64(0)).all()
            assert record.time[-1] < np.datetime64(patient.index_time, "us")
            assert record.code[0] == BIRTH
            assert record.code.count(BIRTH) == 1
            assert record.value.dtype == np.float32


def test_birth_gives_the_age(pe):
    for patient, record in zip(*pe, strict=True):
        lived = np.datetime64(patient.index_time, "us") - record.time[0]
        years = lived / np.timedelta64(1, "D") / 365.25
        assert years == pytest.approx(patient.age_years, abs=0.01)


def test_many_codes_occur_and_only_quantities_carry_values(pe, cvd):
    seen = counts(pe[1])
    assert len(seen) > 600
    for _, records in (pe, cvd):
        for record in records:
            for code, value in zip(record.code, record.value, strict=True):
                assert np.isnan(value) != (code in UNITS)
    texts = {text for record in cvd[1] for text in record.text if text}
    assert texts == {"Current every day smoker", "Former smoker", "Never smoker"}


def test_active_cancer_shows_in_rare_codes_and_nowhere_else(pe):
    rare = counts(pe[1])
    for patient, record in zip(*pe, strict=True):
        assert bool(set(record.code) & set(CANCER_CODES)) == bool(patient.cancer)
    patients_by_code = [sum(code in record.code for record in pe[1]) for code in CANCER_CODES]
    assert sum(count > 0 for count in patients_by_code) > 40
    assert max(patients_by_code) < 0.05 * len(pe[1])
    assert rare["ICD10CM/Z51.11"] > 0


def test_causal_diagnoses_of_cvd_are_always_coded(cvd):
    for patient, record in zip(*cvd, strict=True):
        for name in CAUSAL_CONDITIONS[CohortKind.CVD]:
            codes = {f"ICD10CM/{code}" for code in CONDITIONS[name].diagnoses}
            shown = codes | {OTHER_CODES[code] for code in codes if code in OTHER_CODES}
            if name in patient.conditions:
                assert shown & set(record.code)


def test_causal_rows_name_known_codes_and_most_codes_are_not_causal():
    for kind in CohortKind:
        rows = causal_codes(kind)
        assert {row["code"] for row in rows} <= DESCRIPTIONS.keys()
        assert all(row["coefficient"] and row["meaning"] for row in rows)
        assert len({row["code"] for row in rows}) < 0.2 * len(DESCRIPTIONS)


def test_index_values_in_the_record_are_those_of_the_hazard(pe):
    lab, reported = LABS["troponin"], 0
    for patient, record in zip(*pe, strict=True):
        last = record.time > record.time[-1] - np.timedelta64(1, "D")
        here = np.asarray(record.code) == lab.code
        values = record.value[last & here]
        reported += len(values)
        if len(values):
            assert values[-1] == np.float32(patient.index_values["troponin"])
    assert reported > 0.85 * len(pe[0])


def test_conditions_leave_correlated_traces(pe):
    patients, records = pe
    diabetic = np.array(["diabetes" in patient.conditions for patient in patients])
    metformin = np.array([DRUGS["metformin"] in record.code for record in records])
    assert metformin[diabetic].mean() > 5 * metformin[~diabetic].mean()
    glucose = np.array(
        [
            np.mean([v for c, v in zip(r.code, r.value, strict=True) if c == LABS["glucose"].code]
                    or [np.nan])
            for r in records
        ]
    )  # fmt: skip
    assert np.nanmean(glucose[diabetic]) - np.nanmean(glucose[~diabetic]) > 15


def test_the_external_site_codes_differently_and_measures_less(pe, pe_external):
    def share(records, code, other):
        seen = counts(records)
        return seen[other] / (seen[code] + seen[other])

    troponin = LABS["troponin"]
    assert share(pe[1], troponin.code, troponin.other_code) < 0.12
    assert share(pe_external[1], troponin.code, troponin.other_code) > 0.45

    def measured(sample):
        codes = {troponin.code, troponin.other_code}
        day = np.timedelta64(1, "D")
        return np.mean(
            [
                any(
                    c in codes and t > r.time[-1] - day for c, t in zip(r.code, r.time, strict=True)
                )
                for r in sample[1]
            ]
        )

    assert measured(pe) - measured(pe_external) > 0.1


def test_the_record_does_not_depend_on_who_else_is_drawn():
    alone = simulate_record(draw_patient(CohortKind.PE, 5, 77, Split.INTERNAL))
    _, records = draw(CohortKind.PE, Split.INTERNAL, 78)
    assert alone.code == records[77].code
    assert np.array_equal(alone.value, records[77].value, equal_nan=True)
