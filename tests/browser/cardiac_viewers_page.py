"""The ECG paper and the echo loops alone on a page, for their browser tests.

?show= names what is drawn: ecg, real (with path=), echo or eleven.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import streamlit as st

from analysis.cohort.readers.echo_ecg import CineECG
from analysis.cohort.readers.echo_header import VIEW_TITLES, VIEWS
from app.panels import ecg_paper, echo_cine
from app.panels.ecg_paper import Interval, LeadMap, PaperSignal
from app.panels.echo_cine import Cine, CineMap

RATE_HZ = 500.0
SPIKE_S = 1.234
SPIKE_MV = 1.5
GAP_S = (0.6, 1.0)
OFFSET_MV = 0.7
CELL_S = 0.25
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V6")  # no V5
MEASURED = {"rate_bpm": 60.0, "pr_ms": 160.0, "qrs_ms": 92.0, "qt_ms": 400.0, "qtc_ms": 400.0}
# R and S of each lead in mV, as a heart with an axis of about 45 degrees has them.
HEIGHTS = {
    "II": (1.1, 0.15), "III": (0.5, 0.2), "aVR": (-0.9, 0.0), "aVL": (0.35, 0.1),
    "aVF": (0.8, 0.15), "V1": (0.25, 0.9), "V2": (0.5, 1.2), "V3": (0.9, 0.8), "V4": (1.4, 0.4),
}  # fmt: skip


def beat(time: np.ndarray, r: float, s: float) -> np.ndarray:
    """Beats at 0.5, 1.5 ... s: P, QRS and T as bumps."""
    within = np.mod(time, 1.0)

    def bump(at: float, width: float) -> np.ndarray:
        return np.exp(-(((within - at) / width) ** 2))

    sign = np.sign(r) or 1.0
    waves = 0.12 * sign * bump(0.34, 0.025) + r * bump(0.5, 0.012)
    return waves - s * bump(0.53, 0.012) + 0.25 * r * bump(0.76, 0.05)


def signal() -> PaperSignal:
    """Lead I flat with one spike, a gap in III, an offset in aVF, V5 absent, V6 without samples."""
    time = np.arange(5000) / RATE_HZ
    array = np.zeros((len(LEADS), time.size), np.float32)
    for lead, (r, s) in HEIGHTS.items():
        array[LEADS.index(lead)] = beat(time, r, s)
    peak = round(SPIKE_S * RATE_HZ)
    array[0, peak - 3 : peak + 4] = SPIKE_MV * np.array([0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25])
    array[LEADS.index("III"), slice(*(round(s * RATE_HZ) for s in GAP_S))] = np.nan
    array[LEADS.index("aVF")] += OFFSET_MV
    array[LEADS.index("V6")] = np.nan
    return PaperSignal(array, LEADS, RATE_HZ)


def lead_map() -> LeadMap:
    """Lead I: +2 from 1.0 to 1.5 s and -1 from 2.0 to 2.25 s; all of V2 at 0.5."""
    values = np.zeros((len(LEADS), 40), np.float32)
    values[0, 4:6] = 2
    values[0, 8] = -1
    values[LEADS.index("V2")] = 0.5
    return LeadMap(
        values, LEADS, 0.0, CELL_S, True, "Integrated gradients", "40 cells of 250 ms",
        ends=("lowers the risk", "raises the risk"),
    )  # fmt: skip


def unsigned_map() -> LeadMap:
    """Strongest at the QRS of every beat."""
    time = (np.arange(200) + 0.5) * 0.05
    bump = np.exp(-(((np.mod(time, 1) - 0.5) / 0.12) ** 2)).astype(np.float32)
    return LeadMap(
        np.tile(bump, (len(LEADS), 1)), LEADS, 0.0, 0.05, False, "Attention", ends=("none", "most")
    )


def beats() -> list[Interval]:
    """One a second."""
    return [Interval(k, k + 1.0, f"beat {k + 1}") for k in range(10)]


def segments() -> list[Interval]:
    """P, QRS, ST and T of every beat."""
    waves = {"P": (0.28, 0.40), "QRS": (0.46, 0.57), "ST": (0.57, 0.66), "T": (0.66, 0.88)}
    return [
        Interval(round(k + a, 3), round(k + b, 3), name)
        for k in range(10)
        for name, (a, b) in waves.items()
    ]


def loop(
    n: int, size: int = 112, *, colour: bool = False, step_ms: float = 1000 / 30, seed: int = 0
) -> tuple[np.ndarray, list[float]]:
    """A ring that beats once in the loop; the grey of its upper left corner is 7 x the frame."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((n, size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size] / size - 0.5
    sector = (np.abs(x) < (y + 0.5) * 0.85) & (np.hypot(x, y + 0.5) < 0.97)
    speckle = rng.normal(size=(size, size))
    for k in range(n):
        radius = 0.2 + 0.06 * np.cos(2 * np.pi * k / n)
        ring = np.exp(-(((np.hypot(x, y) - radius) / 0.05) ** 2))
        grey = (35 + 25 * speckle + 170 * ring) * sector
        frames[k] = np.clip(grey, 0, 255)[..., None]
        if colour:
            jet = np.hypot(x - 0.05, y + 0.15) < 0.08 * (1 + np.sin(2 * np.pi * k / n))
            frames[k][jet] = (220, 60, 20)
        frames[k, :16, :16] = min(7 * k, 255)
    return frames, [k * step_ms for k in range(n)]


@st.cache_resource
def study() -> list[Cine]:
    """Nine loops of several lengths, one with an ECG; stills, a strip and a file that cannot be
    read; SSN not recorded.
    """
    cines = []
    for i, view in enumerate(VIEWS):
        title = VIEW_TITLES[view]
        if view == "SSN":
            cines.append(Cine(view, title))
            continue
        if view == "Subcostal":
            frames, times = loop(1, seed=i)
            cines.append(Cine(view, title, frames, times, aside="still"))
            continue
        n, step = (24, 40.0) if view == "A2C" else (32, 1000 / 30)
        carried = view == "A4C"
        frames, times = loop(n, colour="Doppler" in view, step_ms=step, seed=i)
        cines.append(
            Cine(
                view,
                title,
                frames,
                times,
                mm_per_pixel=160 / 112,
                ed_frames=[0],
                es_frames=[n // 2],
                ed_from="R wave stated in the file",
                es_from="the simulation's truth",
                r_waves_ms=[8.0, n * step - 40.0],
                ecg=strip() if carried else None,
                heart_rate_bpm=56.0,
            )
        )
    frames, _ = loop(1, seed=20)
    cines.append(Cine("still 1", "View not stated", frames, aside="spectral Doppler"))
    cines.append(Cine("still 2", "View not stated", missing="cannot be read"))
    return cines


def strip() -> CineECG:
    """An ECG of 100 Hz along a loop: flat but for one sample of 1 mV at 500 ms."""
    values = np.zeros(110, np.float32)
    values[52] = 1
    return CineECG(values, -20.0, 10.0, "mV")


@st.cache_resource
def eleven(size: int) -> list[Cine]:
    """All eleven views, 32 frames each at 30 a second."""
    cines = []
    for i, view in enumerate(VIEWS):
        frames, times = loop(32, colour="Doppler" in view, seed=i)
        if size != 112:
            frames = np.stack([cv2.resize(one, (size, size)) for one in frames])
        cines.append(
            Cine(
                view,
                VIEW_TITLES[view],
                frames,
                times,
                160 / size,
                0.0,
                [0],
                [16],
                heart_rate_bpm=56.0,
            )
        )
    return cines


def cine_map(is_signed: bool = True) -> CineMap:
    """A4C: +1 in the lower right cell of the second half of the frames read, -1 upper left."""
    values = {view: np.zeros((4, 2, 2), np.float32) for view in ("A4C", "A2C")}
    values["A4C"][2:, 1, 1] = 1
    values["A4C"][:, 0, 0] = -1 if is_signed else 0.5
    return CineMap(
        values, 6, is_signed, "Signed" if is_signed else "Grad-CAM", note="4x2x2 cells of 6 frames",
        ends=("lowers the risk", "raises the risk"),
    )  # fmt: skip


def smooth_map(views: list[str]) -> CineMap:
    """A blob that comes and goes on a 4 x 7 x 7 grid, for screenshots and timing."""
    t, y, x = np.meshgrid(*[np.linspace(0, 1, n) for n in (4, 7, 7)], indexing="ij")
    blob = np.exp(-(((x - 0.4) / 0.2) ** 2) - ((y - 0.5) / 0.25) ** 2) * (0.3 + 0.7 * t)
    return CineMap(
        {view: blob.astype(np.float32) for view in views},
        8,
        False,
        "Grad-CAM",
        ends=("none", "most"),
    )


@st.cache_resource
def kept_signal() -> PaperSignal:
    """The synthetic ECG."""
    return signal()


@st.cache_resource
def real(path: str) -> PaperSignal:
    """A WFDB record of format 16, for screenshots; wfdb is not needed for it."""
    head, *lines = Path(path).read_text().splitlines()
    rate = float(head.split()[2])
    rows = [line.split() for line in lines[:12]]
    raw = np.fromfile(Path(path).with_suffix(".dat"), "<i2").reshape(-1, 12).T
    gains = np.array([float(row[2].split("(")[0].split("/")[0]) for row in rows])
    names = {"avr": "aVR", "avl": "aVL", "avf": "aVF"}
    leads = tuple(names.get(row[-1], row[-1].upper()) for row in rows)
    return PaperSignal((raw / gains[:, None]).astype(np.float32), leads, rate)


def ecg() -> None:
    """The synthetic ECG with its overlays."""
    told = ecg_paper.show(
        kept_signal(),
        key="ecg",
        alt="A synthetic ECG",
        title="Synthetic",
        overlays=[lead_map(), unsigned_map()] if "overlay" in st.query_params else [],
        beats=beats(),
        segments=segments(),
        measurements=MEASURED,
        qtc_formula="Bazett",
    ).picked
    st.text(
        "picked: nothing" if told is None else f"picked: {told.lead} {told.beat} {told.segment}"
    )


def main() -> None:
    """The page."""
    st.set_page_config(layout="wide")
    st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    st.button("Run again")
    what = st.query_params.get("show", "ecg")
    if what == "ecg":
        ecg()
    elif what == "real":
        path = st.query_params["path"]
        ecg_paper.show(real(path), key="ecg", alt="A recorded ECG", title=Path(path).stem)
    elif what == "echo":
        state = echo_cine.show(
            study(), key="echo", alt="A synthetic echo", title="Synthetic",
            overlays=[cine_map(), cine_map(False)],
        )  # fmt: skip
        st.text(f"enlarged: {state.view}")
    else:
        overlays = [smooth_map(list(VIEWS))] if "overlay" in st.query_params else []
        size = int(st.query_params.get("size", "112"))
        state = echo_cine.show(eleven(size), key="echo", alt="Eleven", overlays=overlays)
    st.text(f"runs: {st.session_state['runs']}")


if __name__ == "__main__":
    main()
