"""Rendered ECGs, measured as one would measure a recorded one."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import find_peaks

from sample_data.ecg_signal import SAMPLES, render_ecg
from sample_data.heart import ECG_RATE_HZ, LEADS, Heart

QUIET = Heart(noise_mv=0.0, wander_mv=0.0)
AF = replace(QUIET, rhythm="af", rate_bpm=95.0)
LEFT = replace(QUIET, block="left", qrs_ms=152.0, axis_deg=-10.0, qtc_ms=450.0)
RIGHT = replace(QUIET, block="right", qrs_ms=134.0)
SHAPES = {"none": QUIET, "left": LEFT, "right": RIGHT}


def render(heart, seed=0):
    return render_ecg(heart, np.random.default_rng(seed))


def lead(tracing, name):
    return tracing.array[LEADS.index(name)]


def waves(tracing, wave):
    """Those that lie in the record whole."""
    return [s for s in tracing.segments if s.wave == wave and s.start_s > 0 and s.end_s < 10]


def cut(tracing, name, segment):
    first, last = (round(t * ECG_RATE_HZ) for t in (segment.start_s, segment.end_s))
    return lead(tracing, name)[first : last + 1]


def r_peaks(tracing):
    """Sample numbers of the beats, from the size of the slope over all leads."""
    slope = np.abs(np.diff(tracing.array, axis=1)).sum(axis=0)
    slope = np.convolve(slope, np.ones(60) / 60, "same")
    return find_peaks(slope, height=0.4 * slope.max(), distance=100)[0]


# ---------------------------------------------------------------- the leads


@pytest.mark.parametrize("shape", SHAPES)
def test_limb_leads_obey_einthoven_and_goldberger_with_noise_and_all(shape):
    tracing = render(replace(SHAPES[shape], noise_mv=0.03, wander_mv=0.2), 4)
    one, two, three, avr, avl, avf = tracing.array[:6].astype(np.float64)
    assert tracing.array.shape == (12, SAMPLES)
    assert tracing.array.dtype == np.float32
    assert np.abs(one + three - two).max() < 1e-6
    assert np.abs(avr + avl + avf).max() < 1e-6
    assert np.abs(avl - (one - three) / 2).max() < 1e-6
    assert np.abs(avf - (two + three) / 2).max() < 1e-6


def test_the_same_generator_gives_the_same_ecg_and_another_one_another_person():
    assert np.array_equal(render(Heart(), 3).array, render(Heart(), 3).array)
    assert render(Heart(), 3).segments == render(Heart(), 3).segments
    assert not np.array_equal(render(Heart(), 3).array, render(Heart(), 4).array)


def test_r_grows_from_v1_and_s_goes_by_v6():
    for seed in range(8):
        tracing = render(QUIET, seed)
        beat = waves(tracing, "QRS")[2]
        r = [cut(tracing, f"V{n}", beat).max() for n in range(1, 7)]
        s = [-cut(tracing, f"V{n}", beat).min() for n in range(1, 7)]
        assert r[0] < r[1] < r[2] < r[3]
        assert 0.08 < r[0] < s[0]  # rS in V1 and V2
        assert r[1] < s[1]
        assert r[3] > s[3]
        assert r[5] > 4 * s[5]
        assert 0.7 < cut(tracing, "II", beat).max() < 1.4
        assert 0.7 < r[4] < 2.2
        assert cut(tracing, "V6", beat)[:15].min() < -0.02  # septal q


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("rate", [48.0, 72.0, 118.0])
@pytest.mark.parametrize("rhythm", ["sinus", "af"])
def test_the_rate_is_the_hearts(rate, rhythm):
    measured = []
    for seed in range(6):
        tracing = render(replace(QUIET, rate_bpm=rate, rhythm=rhythm), seed)
        gaps = np.diff(r_peaks(tracing)) / ECG_RATE_HZ
        measured.append(60.0 / gaps.mean())
        assert (gaps.std() / gaps.mean() > 0.1) == (rhythm == "af")
        assert len(r_peaks(tracing)) - len(waves(tracing, "QRS")) in (0, 1, 2)
    assert np.mean(measured) == pytest.approx(rate, rel=0.01 if rhythm == "sinus" else 0.06)


def width_ms(tracing, beat):
    """From the first to the last time that some lead is steeper than 3 mV/s, 0.3 mm a small square.

    By slope and not by level, since ST may lie off the baseline.
    """
    start = round((beat.start_s - 0.03) * ECG_RATE_HZ)
    part = tracing.array[:, start : round((beat.end_s + 0.03) * ECG_RATE_HZ)]
    steep = np.flatnonzero((np.abs(np.diff(part, axis=1)) * ECG_RATE_HZ > 3.0).any(axis=0))
    return 1000.0 * (steep[-1] - steep[0] + 1) / ECG_RATE_HZ


@pytest.mark.parametrize(
    ("shape", "durations"),
    [("none", (78.0, 92.0, 112.0)), ("left", (134.0, 165.0)), ("right", (126.0, 150.0))],
)
def test_the_qrs_is_as_wide_as_the_state_says(shape, durations):
    # without T and P waves nearby: a flat T wave and a long PR interval
    for duration in durations:
        heart = replace(SHAPES[shape], qrs_ms=duration, rate_bpm=55.0, pr_ms=220.0, qtc_ms=480.0)
        tracing = render(heart, 1)
        measured = [width_ms(tracing, beat) for beat in waves(tracing, "QRS")]
        assert np.median(measured) == pytest.approx(duration, abs=10)
        told = [1000 * (s.end_s - s.start_s) for s in waves(tracing, "QRS")]
        assert np.allclose(told, duration, atol=0.2)


@pytest.mark.parametrize(("qtc", "rate"), [(400.0, 60.0), (440.0, 75.0), (480.0, 100.0)])
def test_qt_by_the_tangent_gives_the_qtc_by_bazett(qtc, rate):
    tracing = render(replace(QUIET, qtc_ms=qtc, rate_bpm=rate))
    trace = lead(tracing, "V5").astype(np.float64)
    found = []
    for qrs, t in zip(waves(tracing, "QRS"), waves(tracing, "T"), strict=False):
        first = round((t.start_s + 0.5 * (t.end_s - t.start_s)) * ECG_RATE_HZ)
        last = round((t.end_s + 0.04) * ECG_RATE_HZ)
        if last >= SAMPLES or t.beat != qrs.beat:
            continue
        slope = np.gradient(trace)
        steepest = first + int(np.argmin(slope[first:last]))
        end = steepest - trace[steepest] / slope[steepest]
        found.append(1000.0 * (end / ECG_RATE_HZ - qrs.start_s))
    assert len(found) > 6
    assert np.median(found) / np.sqrt(60.0 / rate) == pytest.approx(qtc, abs=8)


@pytest.mark.parametrize("pr", [130.0, 165.0, 240.0])
def test_pr_is_kept_and_the_p_wave_stands_in_lead_ii(pr):
    tracing = render(replace(QUIET, pr_ms=pr))
    for p, qrs in zip(waves(tracing, "P"), waves(tracing, "QRS"), strict=False):
        assert 1000 * (qrs.start_s - p.start_s) == pytest.approx(pr, abs=0.2)
        wave = cut(tracing, "II", p)
        assert 0.06 < wave.max() < 0.2
        assert 0.25 < wave.argmax() / len(wave) < 0.75


def test_atrial_fibrillation_has_no_p_waves_but_a_restless_baseline():
    tracing, sinus = render(AF, 2), render(replace(QUIET, rate_bpm=95.0), 2)
    assert not waves(tracing, "P")
    assert not waves(sinus, "TQ")
    restless = np.mean([cut(tracing, "V1", s).std() for s in waves(tracing, "TQ")])
    p_of = {p.beat: p for p in waves(sinus, "P")}
    calm = [
        lead(sinus, "V1")[round(t.end_s * 500) + 10 : round(p_of[t.beat + 1].start_s * 500)].std()
        for t in waves(sinus, "T")
        if t.beat + 1 in p_of
    ]
    assert len(calm) > 8
    assert restless > 0.015
    assert restless > 4 * np.mean(calm)


def test_segments_follow_each_other_and_cover_each_beat():
    for heart in (QUIET, LEFT, RIGHT, AF, replace(QUIET, rate_bpm=135.0)):
        tracing = render(heart, 5)
        assert all(0 <= s.start_s < s.end_s <= 10 for s in tracing.segments)
        by_beat = {}
        for segment in tracing.segments:
            by_beat.setdefault(segment.beat, []).append(segment)
        assert sorted(by_beat) == list(range(len(by_beat)))
        for segments in by_beat.values():
            names = [s.wave for s in segments]
            assert names == [w for w in ("P", "QRS", "ST", "T", "TQ") if w in names]
            after_p = [s for s in segments if s.wave != "P"]
            for before, after in pairwise(after_p):
                assert after.start_s == pytest.approx(before.end_s, abs=2e-4)


# ---------------------------------------------------------------- findings


@pytest.mark.parametrize("axis", [-55.0, 0.0, 45.0, 90.0, 105.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_net_area_of_i_and_avf_gives_the_axis(axis, shape):
    tracing = render(replace(SHAPES[shape], axis_deg=axis), 6)
    found = []
    for beat in waves(tracing, "QRS")[1:-1]:
        one, avf = (cut(tracing, name, beat).sum() for name in ("I", "aVF"))
        # aVF is cos 30 of the vertical part, lead I the whole of the horizontal one
        found.append(np.rad2deg(np.arctan2(avf / np.cos(np.pi / 6), one)))
    assert np.median(found) == pytest.approx(axis, abs=4)


def test_left_bundle_branch_block():
    tracing = render(LEFT, 1)
    for beat, t in zip(waves(tracing, "QRS")[1:-1], waves(tracing, "T")[1:-1], strict=False):
        assert -cut(tracing, "V1", beat).min() > 1.2
        assert cut(tracing, "V1", beat).max() < 0.25
        for name in ("I", "V5", "V6"):
            wave = cut(tracing, name, beat)
            assert wave.min() > -0.1  # no q, no S
            assert len(find_peaks(wave, prominence=0.02)[0]) == 2  # notched
            assert cut(tracing, name, t)[20:].min() < -0.08  # T against the QRS
        assert cut(tracing, "V1", t).max() > 0.2


def test_right_bundle_branch_block():
    tracing = render(RIGHT, 1)
    for beat in waves(tracing, "QRS")[1:-1]:
        v1, half = cut(tracing, "V1", beat), round(0.067 * ECG_RATE_HZ)
        first, second = v1[:half].max(), v1[half:].max()
        assert 0.05 < first < second  # r, then a taller R'
        assert v1[: int(1.2 * half)].min() < -0.3  # S between
        for name in ("I", "V6"):
            late = cut(tracing, name, beat)[half:]
            assert late.min() < -0.2
            assert (late < -0.05).sum() / ECG_RATE_HZ > 0.03  # a broad S


def test_voltage_scales_the_qrs_alone():
    usual, large = render(QUIET, 7), render(replace(QUIET, voltage=1.8), 7)
    for name in ("I", "V2", "V5"):
        for beat, t in zip(waves(usual, "QRS")[1:4], waves(usual, "T")[1:4], strict=True):
            ratio = np.ptp(cut(large, name, beat)) / np.ptp(cut(usual, name, beat))
            assert ratio == pytest.approx(1.8, abs=0.04)
            late = slice(30, None)
            assert np.allclose(cut(large, name, t)[late], cut(usual, name, t)[late], atol=0.01)
    sokolow = []
    for heart in (QUIET, replace(QUIET, voltage=1.8)):
        tracing = render(heart, 7)
        beat = waves(tracing, "QRS")[2]
        sokolow.append(cut(tracing, "V5", beat).max() - cut(tracing, "V1", beat).min())
    assert sokolow[0] < 3.5 < sokolow[1]


def test_lateral_t_waves_turn_and_st_is_what_v6_shows():
    def t_wave(heart, name):
        tracing = render(heart, 8)
        peaks = []
        for t in waves(tracing, "T")[1:-1]:
            part = cut(tracing, name, t)
            peaks.append(part[np.abs(part).argmax()])
        return float(np.mean(peaks))

    for name in ("I", "aVL", "V5", "V6"):
        heights = [t_wave(replace(QUIET, t_inversion=level), name) for level in (0.0, 0.5, 1.0)]
        assert heights[0] > 0.05
        assert heights[2] < -0.1
        assert heights[0] > heights[1] > heights[2]
    assert t_wave(replace(QUIET, t_inversion=1.0), "V2") > 0.1  # of the lateral wall only
    for st in (-0.15, 0.1):
        flat, shifted = render(QUIET, 8), render(replace(QUIET, st_mv=st), 8)
        at = [round((s.start_s + 0.02) * ECG_RATE_HZ) for s in waves(flat, "ST")]
        shown = lead(shifted, "V6")[at] - lead(flat, "V6")[at]
        assert np.median(shown) == pytest.approx(st, rel=0.25)
        assert np.abs(lead(shifted, "V1")[at] - lead(flat, "V1")[at]).max() < np.abs(st)


def test_noise_is_as_loud_as_the_state_says():
    still, noisy = render(QUIET, 9), render(replace(QUIET, noise_mv=0.02), 9)
    noise = (noisy.array - still.array).astype(np.float64)
    measured = np.delete(noise, (2, 3, 4, 5), axis=0)  # I, II and the chest
    assert measured.std(axis=1) == pytest.approx(np.full(8, 0.019), abs=0.005)
    spectrum = np.abs(np.fft.rfft(measured, axis=1)) ** 2
    hz = np.fft.rfftfreq(SAMPLES, 1 / ECG_RATE_HZ)
    near = (np.abs(hz - 50) < 3) & (np.abs(hz - 50) > 0.2)
    assert (spectrum[:, np.abs(hz - 50) < 0.05].sum(1) > 5 * spectrum[:, near].mean(1)).all()
    wander = render(replace(QUIET, wander_mv=0.1), 9).array - still.array
    slow = np.abs(np.fft.rfft(wander, axis=1)) ** 2
    assert slow[:, hz < 0.6].sum() > 0.95 * slow.sum()


def test_an_independent_package_finds_the_same_beats():
    neurokit = pytest.importorskip("neurokit2", reason="neurokit2 is not installed")
    for seed, heart in enumerate((Heart(), Heart(rate_bpm=101.0, qrs_ms=108.0), replace(LEFT))):
        tracing = render(replace(heart, noise_mv=0.012), seed)
        _, found = neurokit.ecg_peaks(
            neurokit.ecg_clean(lead(tracing, "V5"), sampling_rate=500), sampling_rate=500
        )
        beats = found["ECG_R_Peaks"]
        assert 60.0 / (np.diff(beats) / 500).mean() == pytest.approx(heart.rate_bpm, rel=0.015)
        for beat in waves(tracing, "QRS")[1:-1]:
            inside = (beats / 500 >= beat.start_s) & (beats / 500 <= beat.end_s)
            assert inside.sum() == 1
