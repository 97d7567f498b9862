"""ECGs are read in mV, by lead name, from whatever file holds them; models get what they ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydicom
import pytest
import wfdb
from pydicom import examples
from pydicom.waveforms import multiplex_array

from analysis.cohort.check import check_cohort
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import CohortDataset, SignalReading, all_inputs
from analysis.cohort.readers.signal import (
    LEADS,
    Signal,
    flat_leads,
    for_model,
    lead_name,
    probe_signal,
    read_signal,
)
from analysis.cohort.schema import (
    CohortError,
    CohortSpec,
    ModalitySpec,
    Provenance,
    TaskSpec,
    write_spec,
)
from analysis.cohort.write import write_imaging, write_outcomes, write_signal, write_subjects
from models.contracts import Kind

MIMIC_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
BAND = (0.67, 40.0)


def electrodes(samples: int = 5000, seed: int = 0) -> dict[str, npt.NDArray[np.float64]]:
    """Twelve leads in mV from the potentials of ten electrodes, as a machine computes them."""
    rng = np.random.default_rng(seed)
    r, left, f, *chest = np.cumsum(rng.normal(0, 0.02, (9, samples)), axis=1)
    terminal = (r + left + f) / 3
    leads = {"I": left - r, "II": f - r, "III": f - left}
    leads |= {"aVR": r - (left + f) / 2, "aVL": left - (r + f) / 2, "aVF": f - (r + left) / 2}
    return leads | {f"V{i}": c - terminal for i, c in enumerate(chest, 1)}


def signal_of(array: npt.ArrayLike, rate_hz: float, leads: tuple[str, ...] = ("I",)) -> Signal:
    values = np.atleast_2d(np.asarray(array, np.float32))
    return Signal(leads, values, rate_hz, None, leads)


# ---------------------------------------------------------------- names and files


@pytest.mark.parametrize(
    ("source", "lead"),
    [
        ("i", "I"),
        ("AVR", "aVR"),
        ("Lead aVL", "aVL"),
        ("Lead I (Einthoven)", "I"),
        ("MLII", "II"),
        ("v6", "V6"),
        ("V1-ref", "V1"),
        ("ECG lead V2", "V2"),
        ("MDC_ECG_LEAD_AVF", "aVF"),
        ("vx", None),
        ("V7", None),
        ("ABP", None),
        ("Channel 1", None),
        ("", None),
    ],
)
def test_leads_are_known_by_their_many_names(source: str, lead: str | None) -> None:
    assert lead_name(source) == lead


def test_what_is_written_is_read_by_name_with_gaps(tmp_path: Path) -> None:
    leads = electrodes()
    order = tuple(name for name in MIMIC_ORDER if name != "V5")
    array = np.stack([leads[name] for name in order])
    array[order.index("aVF"), 100:150] = np.nan
    start = datetime(2020, 6, 1, 7, 30, 5)
    path = write_signal(tmp_path / "e_1.hea", array, order, 500.0, start=start)
    found = read_signal(path)
    assert found.leads == tuple(name for name in LEADS if name != "V5")
    assert (found.rate_hz, found.start, found.seconds) == (500.0, start, 10.0)
    for name in order:
        np.testing.assert_allclose(
            found.lead(name), array[order.index(name)], atol=0.00251, err_msg=name
        )
    assert np.flatnonzero(np.isnan(found.lead("aVF"))).tolist() == list(range(100, 150))
    assert np.isnan(found.lead("V5")).all()
    assert found.array.dtype == np.float32
    info = probe_signal(path)
    assert (info.leads, info.rate_hz, info.seconds) == (found.leads, 500.0, 10.0)


def test_written_records_are_sound_wfdb_and_repeatable(tmp_path: Path) -> None:
    array = np.stack(list(electrodes().values()))
    array[2, 7] = np.nan
    first = write_signal(tmp_path / "a" / "e.hea", array, LEADS, 500.0)
    again = write_signal(tmp_path / "b" / "e.hea", array, LEADS, 500.0)
    for suffix in (".hea", ".dat"):
        one, two = first.with_suffix(suffix), again.with_suffix(suffix)
        assert one.read_bytes() == two.read_bytes()
    record = wfdb.rdrecord(str(first.with_suffix("")))
    assert tuple(record.sig_name) == LEADS
    assert set(record.units) == {"mV"}
    np.testing.assert_allclose(record.p_signal.T, array, atol=0.00251)
    raw = wfdb.rdrecord(str(first.with_suffix("")), physical=False)
    stated = [value % 65536 for value in raw.checksum]
    assert stated == (raw.d_signal.astype(np.int64).sum(axis=0) % 65536).tolist()
    assert [int(value) for value in raw.init_value] == raw.d_signal[0].tolist()


def test_what_does_not_fit_a_record_is_refused(tmp_path: Path) -> None:
    good = np.zeros((1, 10))
    with pytest.raises(CohortError, match="no name for a WFDB record"):
        write_signal(tmp_path / "e 1.hea", good, ("I",), 500)
    with pytest.raises(CohortError, match=r"\(1, 10\) for 2 leads"):
        write_signal(tmp_path / "e.hea", good, ("I", "II"), 500)
    with pytest.raises(CohortError, match="beyond 164 mV"):
        write_signal(tmp_path / "e.hea", good + 200, ("I",), 500)
    with pytest.raises(CohortError, match="0 Hz"):
        write_signal(tmp_path / "e.hea", good, ("I",), 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "unit", ["0.2(0)/uV", "200000(0)/V", "200(0)/MV", "0.2(0)/µV", "0.2(0)/μV"]
)
def test_units_become_millivolts(tmp_path: Path, unit: str) -> None:
    leads = electrodes(1000)
    path = write_signal(tmp_path / "e.hea", np.stack(list(leads.values())), LEADS, 500)
    expected = read_signal(path).array
    text = path.read_text().replace("200(0)/mV", unit)
    path.write_text(text, encoding="utf-8")
    np.testing.assert_allclose(read_signal(path).array, expected, rtol=1e-5, atol=1e-6)
    if "\u00b5" in text:
        path.write_text(text, encoding="latin-1")
        np.testing.assert_allclose(read_signal(path).array, expected, rtol=1e-5, atol=1e-6)


def test_a_unit_that_is_no_voltage_is_refused_on_leads_only(tmp_path: Path) -> None:
    path = write_signal(tmp_path / "e.hea", np.ones((2, 50)), ("I", "ABP"), 500)
    text = path.read_text()
    lines = text.splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace("/mV", "/mmHg")]) + "\n")
    assert read_signal(path).left_out == ("ABP",)
    path.write_text(text.replace("/mV", "/mmHg"))
    with pytest.raises(CohortError, match="channel 'I' is in 'mmHg', no voltage"):
        read_signal(path)


def test_damaged_records_are_refused_in_words(tmp_path: Path) -> None:
    path = write_signal(tmp_path / "e.hea", np.ones((2, 500)), ("I", "II"), 500)
    whole = path.with_suffix(".dat").read_bytes()
    path.with_suffix(".dat").write_bytes(whole[:900])
    with pytest.raises(CohortError, match="perhaps truncated"):
        read_signal(path)
    path.with_suffix(".dat").unlink()
    with pytest.raises(CohortError, match=r"its signal file 'e\.dat' is missing"):
        read_signal(path)
    with pytest.raises(CohortError, match="there is no such file"):
        read_signal(tmp_path / "none.hea")
    (tmp_path / "junk.hea").write_text("junk\n")
    with pytest.raises(CohortError, match="not readable as a WFDB record"):
        probe_signal(tmp_path / "junk.hea")
    (tmp_path / "junk.dcm").write_bytes(b"junk" * 100)
    with pytest.raises(CohortError, match="neither a WFDB header"):
        read_signal(tmp_path / "junk.dcm")
    with pytest.raises(CohortError, match="holds no waveform"):
        read_signal(Path(examples.get_path("ct")))
    twice = write_signal(tmp_path / "t.hea", np.ones((2, 50)), ("II", "MLII"), 500)
    with pytest.raises(CohortError, match="lead II is there twice"):
        read_signal(twice)
    none = write_signal(tmp_path / "n.hea", np.ones((2, 50)), ("vx", "vy"), 500)
    with pytest.raises(CohortError, match=r"none of the twelve leads \(it has vx, vy\)"):
        read_signal(none)


def test_a_real_record_is_its_stored_numbers(real_data: Callable[[str], Path]) -> None:
    path = real_data("ecg") / "s0010_re.hea"
    found = read_signal(path)
    assert found.leads == LEADS
    assert found.left_out == ("vx", "vy", "vz")
    assert found.source_names[3] == "avr"
    raw = np.fromfile(path.with_suffix(".dat"), "<i2").reshape(-1, 12).T
    np.testing.assert_allclose(found.array, raw / 2000, atol=1e-6)
    wrong = found.lead("I") + found.lead("III") - found.lead("II")
    assert np.abs(wrong).max() <= 0.00101  # two steps of the converter
    array, mask = for_model(found, LEADS, 250, 10, BAND)
    assert array.shape == (12, 2500)
    assert mask.all()


# ---------------------------------------------------------------- DICOM


def waveform() -> pydicom.Dataset:
    return pydicom.dcmread(examples.get_path("waveform"))


def test_a_dicom_waveform_is_what_pydicom_computes() -> None:
    found = read_signal(Path(examples.get_path("waveform")))
    expected = multiplex_array(waveform(), 0, as_raw=False).T / 1000  # stored in uV
    np.testing.assert_allclose(found.array, expected, atol=1e-6)
    assert found.leads == LEADS
    assert found.source_names[0] == "Lead I (Einthoven)"
    assert found.rate_hz == 1000
    assert found.start == datetime(2013, 1, 25, 10, 59, 19)
    assert found.seconds == 10  # the rhythm, not the 1.2 s median beat of the second group


def test_dicom_units_codes_baseline_and_padding(tmp_path: Path) -> None:
    expected = read_signal(Path(examples.get_path("waveform"))).array
    content = waveform()
    group = content.WaveformSequence[0]
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelSourceSequence[0].CodeMeaning = ""
        channel.ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
    group.ChannelDefinitionSequence[1].ChannelBaseline = "0.25"
    group.ChannelDefinitionSequence[1].ChannelSensitivityCorrectionFactor = "2"
    raw = multiplex_array(content, 0, as_raw=True)
    filler = int(raw[77, 0])
    group.add_new("WaveformPaddingValue", "OW", np.int16(filler).tobytes())
    content.save_as(tmp_path / "e.dcm")
    found = read_signal(tmp_path / "e.dcm")
    assert found.leads == LEADS
    gaps = (raw == filler).T
    assert gaps[0, 77]
    assert np.array_equal(np.isnan(found.array), gaps)
    there = ~gaps
    factor = np.where(np.arange(12) == 1, 2000.0, 1000.0)[:, None]
    shift = np.where(np.arange(12) == 1, 0.25, 0.0)[:, None]
    np.testing.assert_allclose(
        found.array[there], (expected * factor + shift)[there], rtol=1e-5, atol=1e-4
    )


def test_a_dicom_channel_without_voltage_is_refused(tmp_path: Path) -> None:
    content = waveform()
    del content.WaveformSequence[0].ChannelDefinitionSequence[4].ChannelSensitivity
    content.save_as(tmp_path / "e.dcm")
    with pytest.raises(CohortError, match="'Lead aVL' states no sensitivity"):
        read_signal(tmp_path / "e.dcm")


# ---------------------------------------------------------------- leads that are not there


def test_missing_limb_leads_follow_from_the_others(tmp_path: Path) -> None:
    leads = electrodes()
    order = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    array = np.stack([leads[name] for name in order])
    array[0, 40:60] = np.nan
    found = read_signal(write_signal(tmp_path / "e.hea", array, order, 500, steps_per_mv=1000))
    assert found.leads == LEADS
    assert found.derived == ("III", "aVR", "aVL", "aVF")
    for name in found.derived:
        expected = leads[name].copy()
        expected[40:60] = np.nan
        np.testing.assert_allclose(found.lead(name), expected, atol=0.00101, err_msg=name)
        assert found.source_names[LEADS.index(name)] == ""


def test_nothing_follows_from_one_limb_lead_or_from_chest_leads(tmp_path: Path) -> None:
    array = np.stack(list(electrodes().values()))
    path = write_signal(tmp_path / "e.hea", array[1:], LEADS[1:], 500)
    found = read_signal(path)
    assert found.derived == ()
    assert "I" not in found.leads
    array[[0, 2]] = np.nan
    found = read_signal(write_signal(tmp_path / "f.hea", array, LEADS, 500))
    assert found.derived == ()
    assert np.isnan(found.lead("III")).all()


def test_missing_and_flat_leads_are_masked(tmp_path: Path) -> None:
    array = np.stack([electrodes()[name] for name in ("II", "V1", "V2")])
    array[1] = 0.37
    found = read_signal(write_signal(tmp_path / "e.hea", array, ("II", "V1", "V2"), 500))
    assert flat_leads(found) == ("V1",)
    given, mask = for_model(found, ("V2", "V1", "I", "II"), 250, 10, BAND)
    assert mask.all(axis=1).tolist() == [True, False, False, True]
    assert mask.any(axis=1).tolist() == [True, False, False, True]
    assert not given[1:3].any()
    alone, _ = for_model(found, ("II",), 250, 10, BAND)
    np.testing.assert_allclose(given[3], alone[0], atol=1e-6)


# ---------------------------------------------------------------- as a model reads it


@pytest.mark.parametrize("rate", [1000.0, 500.0, 360.0, 257.0, 250.0, 128.0])
def test_resampling_keeps_amplitude_and_time_of_a_10_hz_wave(rate: float) -> None:
    def wave(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 0.8 * np.sin(2 * np.pi * 10 * at + 0.3)

    source = signal_of(wave(np.arange(round(20 * rate)) / rate), rate)
    given, mask = for_model(source, ("I",), 250, 10, BAND)
    assert mask.all()
    at = np.arange(2500) / 250
    middle = slice(500, 2500)  # the high-pass needs about two seconds to settle
    np.testing.assert_allclose(given[0, middle], wave(at)[middle], atol=0.008)


@pytest.mark.parametrize("hertz", [0.2, 1.0, 20.0, 50.0, 60.0])
def test_band_pass_is_a_butterworth_filter_run_twice(hertz: float) -> None:
    rate = 250.0
    at = np.arange(round(60 * rate)) / rate
    source = signal_of(np.sin(2 * np.pi * hertz * at), rate)
    given, _ = for_model(source, ("I",), rate, 50, BAND)
    warped, low, high = (np.tan(np.pi * f / rate) for f in (hertz, *BAND))
    ratio = (warped**2 - low * high) / (warped * (high - low))
    gain = 1 / (1 + ratio**10)
    middle = given[0, 3000:9000]
    assert np.sqrt(2) * middle.std() == pytest.approx(gain, abs=0.005)
    if hertz in (0.2, 60.0):
        assert gain < 0.02


def test_without_a_band_the_numbers_stay() -> None:
    rng = np.random.default_rng(1)
    array = rng.normal(size=(1, 2600)).astype(np.float32)
    given, mask = for_model(signal_of(array, 250.0), ("I",), 250, 10, None)
    np.testing.assert_array_equal(given, array[:, :2500])
    assert mask.all()


def test_gaps_are_masked_and_do_not_spoil_the_rest() -> None:
    rate = 500.0
    at = np.arange(5000) / rate
    clean = np.sin(2 * np.pi * 1.2 * at)
    holed = clean.copy()
    holed[2000:2010] = np.nan  # 20 ms
    holed[3001] = np.nan  # between two samples of the model
    whole, _ = for_model(signal_of(clean, rate), ("I",), 250, 10, BAND)
    given, mask = for_model(signal_of(holed, rate), ("I",), 250, 10, BAND)
    assert np.flatnonzero(~mask[0]).tolist() == [1000, 1001, 1002, 1003, 1004, 1005, 1500, 1501]
    assert not given[~mask].any()
    np.testing.assert_allclose(given[mask], whole[mask], atol=0.01)


def test_the_first_seconds_are_read_and_short_recordings_masked() -> None:
    rng = np.random.default_rng(2)
    long = rng.normal(size=(1, 40 * 250)).astype(np.float32)
    given, mask = for_model(signal_of(long, 250.0), ("I",), 250, 10, BAND)
    fifteen, _ = for_model(signal_of(long[:, :3750], 250.0), ("I",), 250, 10, BAND)
    np.testing.assert_array_equal(given, fifteen)
    assert mask.all()
    given, mask = for_model(signal_of(long[:, :1500], 250.0), ("I",), 250, 10, BAND)
    assert given.shape == (1, 2500)
    assert np.flatnonzero(mask[0]).tolist() == list(range(1500))
    assert not given[0, 1500:].any()
    _, mask = for_model(signal_of(long[:, :20], 250.0), ("I",), 250, 10, BAND)
    assert not mask.any()


def test_impossible_readings_are_refused() -> None:
    source = signal_of(np.arange(500.0), 250.0)
    with pytest.raises(ValueError, match="there is no lead 'V9'"):
        for_model(source, ("V9",), 250, 10, BAND)
    with pytest.raises(ValueError, match="does not fit 60 Hz"):
        for_model(source, ("I",), 60, 10, BAND)


# ---------------------------------------------------------------- in a cohort

ZERO = pd.Timestamp("2020-06-01 12:00:00")


@pytest.fixture
def ecg_cohort(tmp_path: Path) -> Path:
    """Five patients: 1 three ECGs, 2 one without V6, 3 one after the index day, 4 flat, 5 none."""
    folder = tmp_path / "ecgs"
    folder.mkdir()
    ids = [1, 2, 3, 4, 5]
    write_subjects(
        folder,
        pd.DataFrame({"subject_id": ids, "split": "train", "index_time": ZERO}),
    )
    write_outcomes(
        folder, pd.DataFrame({"subject_id": ids, "task": "hf", "label": [0, 1, 0, 1, 0]})
    )
    day = pd.Timedelta(days=1)
    rows = []
    for name, subject, leads, when, seconds in (
        ("early", 1, LEADS, ZERO - 3 * day, 10),
        ("same_day", 1, MIMIC_ORDER, ZERO + pd.Timedelta(hours=6), 10),
        ("late", 1, LEADS, ZERO + day, 10),
        ("short", 2, LEADS[:-1], ZERO, 5),
        ("tomorrow", 3, LEADS, ZERO + day, 10),
        ("flat", 4, LEADS, ZERO, 10),
    ):
        made = electrodes(500 * seconds, seed=len(rows))
        array = np.stack([made[lead] for lead in leads])
        array = array * 0 if name == "flat" else array
        write_signal(folder / "ecg" / f"{name}.hea", array, leads, 500)
        rows.append(("ecg", subject, f"ecg/{name}.hea", when))
    columns = ["modality", "subject_id", "path", "acquired"]
    write_imaging(folder, pd.DataFrame(rows, columns=columns))
    write_spec(
        CohortSpec(
            name="ecgs",
            title="ECGs",
            modalities={"ecg": ModalitySpec(kind=Kind.SIGNAL, title="ECG", path="imaging.parquet")},
            tasks={"hf": TaskSpec(kind="classification", title="HF", classes=("no", "yes"))},
            provenance=Provenance(source="test"),
        ),
        folder,
    )
    return folder


def test_cohort_gives_the_last_ecg_of_the_index_day(ecg_cohort: Path) -> None:
    cohort = Cohort.open(ecg_cohort)
    assert {s: p.stem for s, p in cohort.signals("ecg").items()} == {
        1: "same_day",
        2: "short",
        4: "flat",
    }
    assert cohort.having("ecg").tolist() == [1, 2, 4]
    (ecg_cohort / "ecg" / "short.hea").unlink()
    assert Cohort.open(ecg_cohort).having("ecg").tolist() == [1, 4]
    with pytest.raises(CohortError, match="is signal, not volume"):
        cohort.volumes("ecg")


def test_dataset_gives_leads_in_the_order_asked(ecg_cohort: Path) -> None:
    cohort = Cohort.open(ecg_cohort)
    reading = SignalReading(leads=("aVL", "aVF", "V6"), rate_hz=250.0, seconds=8.0)
    dataset = CohortDataset(cohort, [1, 2, 3, 4, 5], {"ecg": reading}, "hf")
    batch = all_inputs(dataset)
    given = batch.inputs["ecg"]
    assert given.kind is Kind.SIGNAL
    assert given.present.tolist() == [True, True, False, False, False]
    assert tuple(given.fields["signal"].shape) == (5, 3, 2000)
    mask = given.fields["mask"]
    assert mask[0].all()
    assert mask[1].sum(dim=1).tolist() == [1250, 1250, 0]
    assert not mask[2:].any()
    assert not given.fields["signal"][~mask].any()
    source = read_signal(cohort.signals("ecg")[1])
    expected, _ = for_model(source, reading.leads, 250, 8, BAND)
    np.testing.assert_array_equal(given.fields["signal"][0].numpy(), expected)
    made = electrodes(5000, seed=1)  # stored with aVF before aVL
    bare = SignalReading(leads=("aVL",), rate_hz=500.0, band_hz=None)
    sample = CohortDataset(cohort, [1], {"ecg": bare})[0].inputs["ecg"]
    np.testing.assert_allclose(sample.fields["signal"][0, 0], made["aVL"], atol=0.00251)


def test_check_finds_what_is_wrong_with_ecgs(ecg_cohort: Path) -> None:
    problems = [str(p) for p in check_cohort(ecg_cohort) if "without any modality" not in str(p)]
    assert not [p for p in problems if p.startswith("error")]
    assert any("1 subject: 3" not in p and "after the index day" in p for p in problems)
    assert any("lead V6" in p and "1 subject: 2" in p for p in problems)
    assert any("less than 10 s" in p and "1 subject: 2" in p for p in problems)
    assert not any("flat" in p for p in problems)
    deep = [str(p) for p in check_cohort(ecg_cohort, deep=True)]
    assert any("ecg/flat.hea" in p and "is flat" in p for p in deep)
    dat = ecg_cohort / "ecg" / "same_day.dat"
    dat.write_bytes(dat.read_bytes()[:5000])
    (ecg_cohort / "ecg" / "early.hea").write_text("junk\n")
    (ecg_cohort / "ecg" / "late.hea").unlink()
    deep = [str(p) for p in check_cohort(ecg_cohort, deep=True) if p.severity == "error"]
    assert any("same_day.hea" in p and "perhaps truncated" in p for p in deep)
    assert any("early.hea" in p and "not readable" in p for p in deep)
    assert any("'ecg/late.hea' is missing" in p for p in deep)
