"""When a simulated heart fills, ejects and opens its valves, frame by frame.

A loop begins shortly before an R wave, as a scanner that is triggered by the ECG stores it.
Systolic time intervals follow Weissler et al., Circulation 1968;37:149, in that they shorten with
the cycle; here with its square root.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sample_data.heart import Heart

# Seconds after the R wave at a cycle of 1 s; all scale with the square root of the cycle.
_EJECTION_BEGINS = 0.05
_EJECTION_ENDS = 0.38
_RELAXATION = 0.07
_EARLY_FILLING = 0.17
_ATRIAL_SYSTOLE = 0.14
# What the atrial contraction adds of the stroke volume, and the early filling of the atrial one.
_ATRIAL_KICK = 0.22
_PASSIVE_EMPTYING = 0.55


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """State of the cardiac cycle in each of F frames; every array is (F,).

    phase: 0 at the R wave, up to 1. ejected: share of the stroke volume that has left the
    ventricles, 0 at end-diastole, 1 at end-systole. atrial_emptying: 0 when the atria are
    largest (end-systole), 1 when smallest; fibrillating atria stop at 0.5. mitral, aortic:
    opening of the atrioventricular and of the arterial valves, 0..1. systole: 1 while the
    ventricular pressure is above the atrial one, when a leaking mitral valve leaks. ed_frame,
    es_frame: end-diastole and end-systole of the first whole beat, which ejects the full stroke
    volume. r_waves_ms: when the R waves within the loop came, from its first frame on; not (F,).
    """

    phase: np.ndarray
    ejected: np.ndarray
    atrial_emptying: np.ndarray
    mitral: np.ndarray
    aortic: np.ndarray
    systole: np.ndarray
    ed_frame: int
    es_frame: int
    r_waves_ms: tuple[float, ...]


def cycle_of(heart: Heart, rng: np.random.Generator, frames: int, fps: float) -> Cycle:
    """The cycle seen by a loop of `frames` at `fps`.

    Sinus rhythm varies by 2 %. In atrial fibrillation cycle lengths vary by about a fifth, there
    is no atrial contraction, and a beat after a short pause ejects less, save for the first whole
    beat: measures are taken there.
    """
    mean = 60.0 / heart.rate_bpm
    fibrillating = heart.rhythm == "af"
    time = np.arange(frames) / fps
    spread, limits = (0.22, (0.6, 1.6)) if fibrillating else (0.02, (0.94, 1.06))
    count = int(np.ceil(time[-1] / (mean * limits[0]))) + 3
    lengths = mean * np.clip(np.exp(rng.normal(0.0, spread, count)), *limits)
    first_r = rng.uniform(0.0, 0.08)
    r_waves = first_r + np.append(-lengths[0], np.cumsum(lengths[1:]) - lengths[1:])
    beat = np.searchsorted(r_waves, time, side="right") - 1
    since = time - r_waves[beat]
    cycle = lengths[beat]

    strength = np.ones(count)
    if fibrillating:
        strength[2:] = np.minimum(1.0, np.sqrt(lengths[1:-1] / mean))
    root = np.sqrt(cycle)
    end_systole = _EJECTION_ENDS * root
    relaxed = end_systole + _RELAXATION * root
    early_end = np.minimum(relaxed + _EARLY_FILLING * root, cycle)
    atrial_start = cycle - _ATRIAL_SYSTOLE * root

    leaving = _rise(since, _EJECTION_BEGINS * root, end_systole)
    early = _rise(since, relaxed, early_end)
    late = np.zeros(frames) if fibrillating else _rise(since, atrial_start, cycle)
    kick = 0.0 if fibrillating else _ATRIAL_KICK
    emptied = 0.5 * early if fibrillating else _blend(early, late, _PASSIVE_EMPTYING)
    still_empty = (0.5 if fibrillating else 1.0) * (1.0 - _rise(since, 0.0 * root, end_systole))

    knots = np.stack([relaxed, relaxed + 0.05 * root, early_end, atrial_start])
    a_wave = 0.3 if fibrillating else 0.8
    return Cycle(
        phase=since / cycle,
        ejected=strength[beat] * leaving * (1.0 - _blend(early, late, 1.0 - kick)),
        atrial_emptying=np.where(since < end_systole, still_empty, emptied),
        mitral=_mitral_opening(since, cycle, knots, a_wave),
        aortic=np.minimum(
            _rise(since, _EJECTION_BEGINS * root, (_EJECTION_BEGINS + 0.04) * root),
            1.0 - _rise(since, end_systole - 0.04 * root, end_systole),
        ),
        systole=np.minimum(
            _rise(since, 0.01 * root, _EJECTION_BEGINS * root),
            1.0 - _rise(since, end_systole, relaxed),
        ),
        **_measured_frames(beat, since, leaving),
        r_waves_ms=tuple(1000.0 * at for at in r_waves.tolist() if 0.0 <= at <= time[-1]),
    )


def _measured_frames(beat: np.ndarray, since: np.ndarray, leaving: np.ndarray) -> dict[str, int]:
    """Frame of the first R wave, and the first frame of the fullest ejection in that beat."""
    whole = np.flatnonzero(beat == 1)
    if not len(whole):
        whole = np.arange(len(beat))
    ed = int(whole[np.argmin(since[whole])])
    systole = whole[whole >= ed]
    return {"ed_frame": ed, "es_frame": int(systole[np.argmax(leaving[systole])])}


def _mitral_opening(
    since: np.ndarray, cycle: np.ndarray, knots: np.ndarray, a_wave: float
) -> np.ndarray:
    """E wave, half-closed diastasis, A wave; shut from the R wave to the end of relaxation."""
    relaxed, peak, early_end, atrial_start = knots
    e_wave = _rise(since, relaxed, peak) * (1.0 - 0.65 * _rise(since, peak, early_end))
    middle = atrial_start + 0.5 * (cycle - atrial_start)
    late = a_wave * _rise(since, atrial_start, middle)
    opening: np.ndarray = np.maximum(e_wave, late) * (1.0 - _rise(since, middle, cycle))
    return opening


def _rise(time: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """0 before start, 1 after end, a smooth step between."""
    x = np.clip((time - start) / np.maximum(end - start, 1e-6), 0.0, 1.0)
    step: np.ndarray = x * x * (3.0 - 2.0 * x)
    return step


def _blend(early: np.ndarray, late: np.ndarray, share: float) -> np.ndarray:
    return share * early + (1.0 - share) * late
