from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.cohort.readers.signal import read_signal
from analysis.ecg import NOTHING, delineate
from sample_data.ecg_signal import render_ecg
from sample_data.heart import ECG_RATE_HZ, LEADS, Heart

REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "ecg" / "s0010_re.hea"


def drawn(seed: int = 0, **state: object) -> np.ndarray:
    return render_ecg(Heart(**state), np.random.default_rng(seed)).array  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [55.0, 80.0, 115.0])
def test_rate_and_beats_are_those_that_were_drawn(rate: float) -> None:
    found = delineate(drawn(rate_bpm=rate), LEADS, ECG_RATE_HZ)
    assert found.measures.rate_bpm == pytest.approx(rate, rel=0.04)
    assert abs(len(found.beats) - rate / 6) <= 1.5
    assert (np.diff(found.beats["start_s"]) > 0).all()
    assert np.allclose(found.beats["end_s"][:-1], found.beats["start_s"][1:])


@pytest.mark.parametrize("axis", [-50.0, 0.0, 60.0, 100.0])
def test_the_axis_comes_from_the_net_areas(axis: float) -> None:
    found = delineate(drawn(axis_deg=axis), LEADS, ECG_RATE_HZ)
    assert found.measures.axis_deg == pytest.approx(axis, abs=4)


def test_broad_and_narrow_complexes_are_told_apart() -> None:
    narrow = delineate(drawn(qrs_ms=86.0), LEADS, ECG_RATE_HZ).measures
    broad = delineate(drawn(qrs_ms=160.0, block="left"), LEADS, ECG_RATE_HZ).measures
    assert narrow.qrs_ms is not None
    assert broad.qrs_ms is not None
    assert narrow.qrs_ms == pytest.approx(86, abs=12)
    assert broad.qrs_ms == pytest.approx(160, abs=25)
    assert narrow.pr_ms == pytest.approx(160, abs=15)


@pytest.mark.parametrize("inversion", [0.0, 1.0])
def test_qtc_is_read_with_upright_and_inverted_t_waves(inversion: float) -> None:
    found = delineate(drawn(t_inversion=inversion, qtc_ms=430.0), LEADS, ECG_RATE_HZ).measures
    assert found.qtc_ms == pytest.approx(430, abs=30)


def test_qtc_is_bazetts() -> None:
    found = delineate(drawn(rate_bpm=60.0), LEADS, ECG_RATE_HZ).measures
    assert found.qt_ms is not None
    assert found.qtc_ms == pytest.approx(found.qt_ms / np.sqrt(60 / found.rate_bpm))  # type: ignore[operator]


def test_segments_follow_each_other_within_a_beat() -> None:
    found = delineate(drawn(), LEADS, ECG_RATE_HZ)
    for _, beat in found.segments.groupby("beat"):
        spans = beat.set_index("segment")
        assert (spans["end_s"] > spans["start_s"]).all()
        if {"QRS", "ST", "T"} <= set(spans.index):
            assert spans.loc["ST", "start_s"] == spans.loc["QRS", "end_s"]
            assert spans.loc["T", "start_s"] == spans.loc["ST", "end_s"]


def test_atrial_fibrillation_is_irregular() -> None:
    even, odd = (delineate(drawn(rhythm=r), LEADS, ECG_RATE_HZ).measures for r in ("sinus", "af"))
    assert even.rr_cv is not None
    assert odd.rr_cv is not None
    assert odd.rr_cv > 2 * even.rr_cv
    assert odd.pr_ms is None
    assert even.pr_ms is not None


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros((12, 5000), np.float32),
        np.full((12, 5000), np.nan, np.float32),
        np.ones((12, 500), np.float32),
    ],
)
def test_a_flat_empty_or_short_record_has_no_beats(signal: np.ndarray) -> None:
    assert delineate(signal, LEADS, ECG_RATE_HZ) is NOTHING


def test_another_lead_helps_where_lead_two_was_off() -> None:
    signal = drawn()
    signal[LEADS.index("II")] = np.nan
    found = delineate(signal, LEADS, ECG_RATE_HZ).measures
    assert found.leads == ("V2", "V5", "I")
    assert found.rate_bpm == pytest.approx(72, rel=0.04)


def test_a_real_record() -> None:
    """PTB s0010_re: sinus rhythm of 82 a minute, counted over its first ten seconds."""
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there: real data are kept outside the repository")
    signal = read_signal(REAL)
    found = delineate(signal.array[:, : round(10 * signal.rate_hz)], signal.leads, signal.rate_hz)
    assert found.measures.rate_bpm == pytest.approx(82, abs=2)
    assert found.measures.rr_cv is not None
    assert found.measures.rr_cv < 0.05
    assert 13 <= len(found.beats) <= 14
