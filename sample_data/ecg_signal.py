"""A simulated 12-lead ECG: a moving heart vector, projected onto the leads.

The heart vector (x to the patient's left, y to the feet, z to the front; mV as lead I and aVF see
it) is a sum of Gaussian bumps for each beat: two for the P wave, three to five for the QRS
complex, a lopsided one for the T wave, and a plateau between QRS and T. The conduction decides
which bumps the QRS has:

    none    septum (right, front), free wall (left, down), base (back): q in V6, r growing V1-V6
    left    left ventricle late and slow: notched R in I, V5, V6, deep S in V1-V3, T opposed
    right   as none, then a slow last part to the right and front: rsR' in V1, broad S in I, V6

Lead I is x and lead II is x cos 60 + y sin 60 (Einthoven's triangle); the other limb leads
follow from I and II as the electrodes make them, so III = II - I holds to rounding. Chest leads
use the lead vectors of Dower, Machado & Osborne (Clin Cardiol 1980, 3:87). They lie close to the
heart: of a turn of the frontal axis they see a part only, so the vector holds x and y twice, once
for the limbs and once for the chest.

The T wave's end is where the tangent at its steepest descent meets the baseline (Lepeschkin &
Surawicz, Circulation 1952, 6:378): for a Gaussian two standard deviations from its peak. P waves
are measured likewise, the QRS complex to where it leaves the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sample_data.heart import ECG_RATE_HZ, ECG_SECONDS, LEADS, Heart

Wave = Literal["P", "QRS", "ST", "T", "TQ"]
Signal = npt.NDArray[np.float32]
_Floats = npt.NDArray[np.float64]

SAMPLES = round(ECG_RATE_HZ * ECG_SECONDS)
MAINS_HZ = 50.0


@dataclass(frozen=True)
class Segment:
    """One wave of one beat, in seconds of the record, cut at its ends. beat: counted from 0.

    TQ (end of T to the next QRS) is told of fibrillating atria alone: there a P wave is missed.
    """

    beat: int
    wave: Wave
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Tracing:
    """A rendered ECG. array: (12, 5000) float32 mV at 500 Hz, in the order of `heart.LEADS`.

    segments: what lies where, in order of time.
    """

    array: Signal
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class _Bump:
    """centre, sigma: shares of the QRS duration. vector: (x, y, z) at the peak, mV."""

    centre: float
    sigma: float
    vector: tuple[float, float, float]


# The first bump begins at 0 and the last one ends at 1, both at 2.5 sigma: a twentieth of the
# peak, about as little as the eye sees.
_QRS: dict[str, tuple[_Bump, ...]] = {
    "none": (
        _Bump(0.20, 0.080, (-0.14, -0.05, 0.24)),
        _Bump(0.44, 0.115, (0.80, 0.80, -0.16)),
        _Bump(0.62, 0.110, (0.12, 0.10, -0.62)),
        _Bump(0.79, 0.084, (-0.13, -0.10, -0.22)),
    ),
    "left": (
        _Bump(0.15, 0.060, (0.12, 0.08, 0.12)),
        _Bump(0.34, 0.105, (0.68, 0.52, -0.95)),
        _Bump(0.52, 0.100, (0.31, 0.24, -0.98)),
        _Bump(0.69, 0.108, (0.74, 0.50, -1.02)),
    ),
    "right": (
        _Bump(0.13, 0.052, (-0.14, -0.05, 0.22)),
        _Bump(0.29, 0.080, (0.82, 0.72, 0.00)),
        _Bump(0.42, 0.075, (0.10, 0.12, -0.60)),
        _Bump(0.71, 0.116, (-0.38, -0.02, 0.62)),
    ),
}
_T_VECTOR: dict[str, tuple[float, float, float]] = {
    "none": (0.22, 0.20, 0.18),
    "left": (-0.17, -0.06, 0.46),
    "right": (0.20, 0.18, -0.12),
}
_LEFT_ST = (-0.05, -0.03, 0.14)  # with left block the ST segment leaves against the QRS

# Lateral T waves (I, aVL, V5, V6) follow x: at 1 they are about as deep as they were high.
_T_TURN = 1.9

# Limb electrodes see x and y, the chest matrix is stated for Frank's x and y, which are larger.
_FRANK_X, _FRANK_Y = 0.632, 1.1
_DOWER = np.array(
    [
        (-0.515, 0.157, 0.917),
        (0.044, 0.164, 1.387),
        (0.882, 0.098, 1.277),
        (1.213, 0.127, 0.601),
        (1.125, 0.127, 0.086),
        (0.831, 0.076, -0.230),
    ]
)
_CHEST = _DOWER / np.array([_FRANK_X, _FRANK_Y, 1.0])
_V6 = LEADS.index("V6") - 6
_CHEST_TURN = 0.35  # share of a turn of the frontal axis that the chest leads see


def render_ecg(heart: Heart, rng: np.random.Generator) -> Tracing:
    """The heart's ECG, ten seconds. About 5 ms.

    Small things that no state describes (the heart's turn about its long axis, the chest wall,
    the height of T, breathing) come from `rng`. `heart.st_mv` is what V6 shows; QT follows
    Bazett at the mean rate; the net area of the QRS points along `heart.axis_deg`.
    """
    onsets = _qrs_onsets(heart, rng)
    person = _Person(rng)
    vector = np.zeros((5, SAMPLES))
    segments = _beats(heart, onsets, person, vector)
    if heart.rhythm == "af":
        _fibrillate(vector, rng)
    # I, II and the six chest leads are what is measured; noise and wander belong to each of them.
    measured = np.empty((8, SAMPLES))
    measured[0] = vector[0]
    measured[1] = 0.5 * vector[0] + np.sqrt(0.75) * vector[1]
    measured[2:] = person.chest_gain[:, None] * (_CHEST @ vector[2:])
    measured += _disturbance(heart, rng)
    return Tracing(array=_twelve(measured), segments=tuple(segments))


class _Person:
    """What differs between people with the same heart state."""

    def __init__(self, rng: np.random.Generator) -> None:
        # Fixed order of draws: the same generator gives the same person.
        self.turn = 0.10 * rng.normal()  # z gained for each x: moves the transition zone
        self.r_gain = float(np.exp(0.08 * rng.normal()))
        self.t_gain = float(np.exp(0.15 * rng.normal()))
        self.chest_gain = np.exp(0.07 * rng.normal(size=6))
        self.breath_hz = rng.uniform(0.18, 0.32)
        self.breath_phase = rng.uniform(0.0, 2.0 * np.pi)

    def breath(self, time_s: float) -> float:
        return float(np.sin(2.0 * np.pi * self.breath_hz * time_s + self.breath_phase))


def _qrs_onsets(heart: Heart, rng: np.random.Generator) -> _Floats:
    """Times of QRS onset in seconds, from before the record to after it, at the mean rate."""
    mean = 60.0 / heart.rate_bpm
    count = int(np.ceil(ECG_SECONDS / mean)) + 5
    if heart.rhythm == "af":
        # Skewed to long pauses, and never faster than the node lets through.
        gaps = np.maximum(0.60, np.exp(0.24 * rng.normal(size=count)))
    else:
        breath = np.sin(2.0 * np.pi * 0.25 * mean * np.arange(count) + rng.uniform(0.0, 2 * np.pi))
        gaps = 1.0 + 0.025 * breath + 0.008 * rng.normal(size=count)
    gaps *= mean / gaps[2:-2].mean()
    return np.asarray(np.cumsum(gaps) - gaps[0] - mean * (1.0 + rng.random()))


# ---------------------------------------------------------------- waves


def _qrs_bumps(heart: Heart, person: _Person) -> list[tuple[float, float, _Floats]]:
    """(centre, sigma, vector) in shares of the duration, turned so that the area has the axis."""
    bumps = _QRS[heart.block]
    vectors = np.array([bump.vector for bump in bumps])
    weights = np.array([bump.sigma for bump in bumps])
    net = weights @ vectors[:, :2]
    turn = np.deg2rad(heart.axis_deg) - np.arctan2(net[1], net[0])
    limbs = vectors[:, :2] @ _rotation(turn)
    chest = vectors[:, :2] @ _rotation(_CHEST_TURN * turn)
    depth = vectors[:, 2] + person.turn * chest[:, 0]
    turned = np.column_stack([limbs, chest, depth]) * (heart.voltage * person.r_gain)
    return [(b.centre, b.sigma, v) for b, v in zip(bumps, turned, strict=True)]


def _rotation(angle: float) -> _Floats:
    # of rows (x, y), from left towards the feet: positive as axes are read on an ECG
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _both(vector: _Floats) -> _Floats:
    """(x, y, z) as limbs and chest see it: (x, y, x, y, z)."""
    return np.concatenate([vector[:2], vector])


_P_RIGHT = _both(np.array([0.040, 0.085, 0.060]))  # right atrium, then left
_P_LEFT = _both(np.array([0.060, 0.055, -0.055]))


def _t_vector(heart: Heart, person: _Person) -> _Floats:
    vector = np.array(_T_VECTOR[heart.block])
    if heart.block == "left":
        # opposed by the block already; the deeper for the finding
        vector[0] -= 0.1 * heart.t_inversion
    else:
        vector[0] *= 1.0 - _T_TURN * heart.t_inversion
        # strain: a thick ventricle's inverted T waves are deeper
        vector[0] -= 0.12 * heart.t_inversion * max(0.0, heart.voltage - 1.0)
    return _both(vector * person.t_gain)


def _beats(
    heart: Heart, onsets: _Floats, person: _Person, vector: npt.NDArray[np.float64]
) -> list[Segment]:
    """Add every beat to `vector` (5, samples) and say where its waves lie."""
    mean_rr = 60.0 / heart.rate_bpm
    qrs = heart.qrs_ms / 1000.0
    pr = heart.pr_ms / 1000.0
    p_width = min(0.105, pr - 0.03)
    fall = 0.038 * np.sqrt(mean_rr)
    t_peak = max(heart.qtc_ms / 1000.0 * np.sqrt(mean_rr) - 2.0 * fall, qrs + 0.05)
    rise = min(1.55 * fall, (t_peak - qrs - 0.015) / 2.0)
    bumps = _qrs_bumps(heart, person)
    t_vector = _t_vector(heart, person)
    st_vector = np.array([heart.st_mv / _CHEST[_V6, 0], 0.0, 0.0])
    if heart.block == "left":
        st_vector += _LEFT_ST
    st_vector = _both(st_vector)
    has_p = heart.rhythm != "af"

    segments: list[Segment] = []
    for beat, onset in enumerate(onsets):
        breath = 1.0 + 0.04 * person.breath(onset)
        if has_p:
            start = onset - pr
            _add(vector, start + 0.38 * p_width, 0.19 * p_width, _P_RIGHT)
            _add(vector, start + 0.62 * p_width, 0.19 * p_width, _P_LEFT)
            segments.append(Segment(beat, "P", start, start + p_width))
        for centre, sigma, peak in bumps:
            _add(vector, onset + centre * qrs, sigma * qrs, peak * breath)
        _add(vector, onset + t_peak, rise, t_vector * breath, fall)
        _add_plateau(vector, onset + qrs, onset + t_peak, st_vector)
        t_start, t_end = onset + t_peak - 2.0 * rise, onset + t_peak + 2.0 * fall
        segments.append(Segment(beat, "QRS", onset, onset + qrs))
        segments.append(Segment(beat, "ST", onset + qrs, t_start))
        segments.append(Segment(beat, "T", t_start, t_end))
        if not has_p and beat + 1 < len(onsets) and t_end < onsets[beat + 1]:
            segments.append(Segment(beat, "TQ", t_end, float(onsets[beat + 1])))
    return _inside(segments)


def _inside(segments: list[Segment]) -> list[Segment]:
    """What lies in the record, cut at its ends, beats counted from the first that shows."""
    seen = [s for s in segments if s.end_s > 0.0 and s.start_s < ECG_SECONDS]
    first = min((s.beat for s in seen), default=0)
    return [
        Segment(
            s.beat - first,
            s.wave,
            round(float(max(0.0, s.start_s)), 4),
            round(float(min(ECG_SECONDS, s.end_s)), 4),
        )
        for s in seen
    ]


def _span(start_s: float, end_s: float) -> tuple[slice, _Floats]:
    """The samples between two times and when they were taken."""
    first = max(0, int(np.ceil(start_s * ECG_RATE_HZ)))
    last = max(first, min(SAMPLES, int(np.floor(end_s * ECG_RATE_HZ)) + 1))
    return slice(first, last), np.arange(first, last) / ECG_RATE_HZ


def _add(
    vector: npt.NDArray[np.float64],
    centre_s: float,
    sigma_s: float,
    peak: _Floats,
    fall_s: float | None = None,
) -> None:
    """Add a Gaussian bump; `fall_s` is its sigma after the peak where that differs."""
    after = sigma_s if fall_s is None else fall_s
    where, time = _span(centre_s - 4.5 * sigma_s, centre_s + 4.5 * after)
    distance = time - centre_s
    distance /= np.where(distance < 0.0, sigma_s, after) if fall_s is not None else sigma_s
    vector[:, where] += peak[:, None] * np.exp(-0.5 * distance**2)


def _add_plateau(
    vector: npt.NDArray[np.float64], start_s: float, end_s: float, level: _Floats
) -> None:
    """Add an ST segment: up within the last 20 ms of the QRS, fading into the T wave."""
    if not level.any():
        return
    where, time = _span(start_s - 0.02, end_s)
    up = np.clip((time - start_s + 0.02) / 0.02, 0.0, 1.0)
    down = np.clip((end_s - time) / (0.5 * (end_s - start_s)), 0.0, 1.0)
    shape = up**2 * (3.0 - 2.0 * up) * down**2 * (3.0 - 2.0 * down)
    vector[:, where] += level[:, None] * shape


def _fibrillate(vector: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    """Add fibrillatory waves, 5 to 8 a second, never quite the same; largest in V1 and II."""
    time = np.arange(SAMPLES) / ECG_RATE_HZ
    size = 0.045 * np.exp(0.25 * rng.normal())
    rate = rng.uniform(5.2, 7.6)
    drift = sum(
        rng.normal() * np.sin(2.0 * np.pi * f * time + rng.uniform(0.0, 2.0 * np.pi))
        for f in (0.23, 0.61, 1.3)
    )
    phase = 2.0 * np.pi * rate * time + 0.9 * drift
    swell = 1.0 + 0.35 * np.sin(2.0 * np.pi * 0.4 * time + rng.uniform(0.0, 2.0 * np.pi))
    wave = size * swell * (np.sin(phase) + 0.3 * np.sin(2.0 * phase + 0.6))
    vector += _both(np.array([-0.15, 0.75, 1.0]))[:, None] * wave


# ---------------------------------------------------------------- what the electrodes add


def _disturbance(heart: Heart, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(8, samples) mV: muscle and mains noise, and wander of the baseline with breathing."""
    time = np.arange(SAMPLES) / ECG_RATE_HZ
    raw = rng.standard_normal((8, SAMPLES + 1), dtype=np.float32)
    muscle = (raw[:, 1:] + raw[:, :-1]) * (0.85 * heart.noise_mv / np.sqrt(2.0))
    hum = 0.5 * heart.noise_mv * np.sqrt(2.0) * rng.random((8, 1))
    mains = hum * np.sin(2.0 * np.pi * MAINS_HZ * time + rng.uniform(0.0, 2.0 * np.pi))
    slow = np.stack([np.sin(2.0 * np.pi * f * time + rng.uniform(0.0, 2.0 * np.pi))
                     for f in (0.07, rng.uniform(0.17, 0.3), 0.47)])  # fmt: skip
    share = rng.normal(size=(8, 3)) * np.array([0.5, 0.5, 0.15])
    return np.asarray(muscle + mains + heart.wander_mv * (share @ slow))


def _twelve(measured: npt.NDArray[np.float64]) -> Signal:
    """All leads of LEADS from I, II and V1 to V6."""
    one, two = measured[0], measured[1]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2])
    return np.concatenate([limb, measured[2:]]).astype(np.float32)
