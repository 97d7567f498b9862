"""One simulated heart: what its ECG and its echo show, and what is to be found in them.

The state that the simulators of `ecg_signal` and `echo_loop` render. Everything is in clinical
units, so that a rendered record can be measured against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.cardiac import LEADS as LEADS
from models.cardiac import VIEWS as VIEWS

ECG_RATE_HZ = 500.0
ECG_SECONDS = 10.0


@dataclass(frozen=True)
class Heart:
    """rate_bpm: ventricular rate. rhythm: 'af' has no P waves and irregular beats. pr_ms, qrs_ms,
    qtc_ms (Bazett). axis_deg: frontal QRS axis. block: bundle branch block. voltage: factor on
    QRS amplitudes (1 normal, about 1.8 with left ventricular hypertrophy). t_inversion: 0 (upright
    T waves in the lateral leads) to 1 (inverted). st_mv: ST deviation in the lateral leads.
    noise_mv: muscle and mains noise. wander_mv: baseline wander.

    ejection_fraction: 0 to 1. lv_diameter_mm: end-diastolic. wall_mm: septum and posterior wall.
    la_diameter_mm, rv_diameter_mm. regurgitation: mitral, 0 (none) to 1 (severe), seen in colour
    Doppler views. gain: brightness of the echo, 1 usual. depth_mm: of the picture.
    views: those that were recorded.
    """

    rate_bpm: float = 72.0
    rhythm: Literal["sinus", "af"] = "sinus"
    pr_ms: float = 160.0
    qrs_ms: float = 92.0
    qtc_ms: float = 420.0
    axis_deg: float = 45.0
    block: Literal["none", "left", "right"] = "none"
    voltage: float = 1.0
    t_inversion: float = 0.0
    st_mv: float = 0.0
    noise_mv: float = 0.01
    wander_mv: float = 0.05
    ejection_fraction: float = 0.62
    lv_diameter_mm: float = 48.0
    wall_mm: float = 9.0
    la_diameter_mm: float = 36.0
    rv_diameter_mm: float = 33.0
    regurgitation: float = 0.0
    gain: float = 1.0
    depth_mm: float = 160.0
    views: tuple[str, ...] = VIEWS
