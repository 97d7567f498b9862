"""Leads that are not what they are called, and voltages in another unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom.examples
import pytest

from analysis.cohort.check_ecg import lead_fault, swing_mv
from analysis.cohort.readers.signal import LEADS, Signal, read_signal
from analysis.cohort.write import write_signal
from models.contracts import Kind

MIMIC = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def _electrodes(seed: int = 0) -> dict[str, np.ndarray]:
    """Leads of potentials that move on their own, with 2 % noise a lead; about 1 mV."""
    rng = np.random.default_rng(seed)
    r, left, f, *chest = rng.normal(0, 0.25, (9, 5000))
    leads = {"I": left - r, "II": f - r, "III": f - left}
    leads |= {"aVR": r - (left + f) / 2, "aVL": left - (r + f) / 2, "aVF": f - (r + left) / 2}
    leads |= {f"V{i}": c - (r + left + f) / 3 for i, c in enumerate(chest, 1)}
    return {name: row + rng.normal(0, 0.008, 5000) for name, row in leads.items()}


def _array(leads: dict[str, np.ndarray], names: tuple[str, ...] = LEADS) -> np.ndarray:
    return np.stack([leads[name] for name in names])


def _with_ecgs(toy, names: tuple[str, ...], change=lambda a: a, **how: float) -> None:
    for subject in range(1, 11):
        array = change(_array(_electrodes(subject)))
        write_signal(toy.folder / f"ecg/{subject}.hea", array, names, 500, **how)
        toy.files.append(("ecg", subject, f"ecg/{subject}.hea"))
    toy.kinds["ecg"] = Kind.SIGNAL


def test_sound_ecgs_in_any_order_of_leads(toy) -> None:
    _with_ecgs(toy, MIMIC, lambda a: a[[LEADS.index(name) for name in MIMIC]])
    assert toy.problems() == []
    assert toy.problems(deep=True) == []


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (MIMIC, "aVL and aVF are swapped"),
        (("II", "I", *LEADS[2:]), "I and II are swapped"),
        (("I", "II", "V1", *LEADS[3:6], "III", *LEADS[7:]), ""),
    ],
)
def test_leads_under_other_names(toy, names: tuple[str, ...], cause: str) -> None:
    _with_ecgs(toy, names)
    (problem,) = [p for p in toy.problems() if p.where == "leads of ecg"]
    assert "8 subjects: 1, 2" in problem.what
    assert "(of 8 recordings looked at)" in problem.what
    assert " mV (rms; the lead itself moves by " in problem.what
    if cause:
        assert problem.severity == "error"
        assert problem.what.endswith(f"all laws of the limb leads hold if {cause}")
    else:
        assert problem.severity == "warning"
        assert "hold if" not in problem.what
    deep = [p for p in toy.problems(deep=True) if p.where == "leads of ecg"]
    assert "10 subjects: 1, 2" in deep[0].what


def test_a_lead_upside_down(toy) -> None:
    turn = np.ones((12, 1))
    turn[LEADS.index("aVR")] = -1
    _with_ecgs(toy, LEADS, lambda a: a * turn)
    (problem,) = toy.problems()
    assert problem.severity == "error"
    assert "hold if aVR is turned upside down" in problem.what


def test_three_leads_are_enough_and_two_are_not() -> None:
    leads = _electrodes()

    def fault(rows: tuple[str, ...], names: tuple[str, ...]):
        ordered = tuple(name for name in LEADS if name in names)
        array = np.stack([leads[rows[names.index(name)]] for name in ordered])
        return lead_fault(Signal(ordered, array.astype(np.float32), 500, None, ordered))

    assert fault(("I", "II", "III"), ("I", "II", "III")) is None
    found = fault(("II", "I", "III"), ("I", "II", "III"))
    assert found is not None
    assert found.cause == "III is turned upside down or I and II are swapped"
    assert fault(("II", "I"), ("I", "II")) is None


def test_real_ecgs_keep_the_laws(real_data: Callable[[str], Path]) -> None:
    paths = (real_data("ecg/s0010_re.hea"), pydicom.examples.get_path("waveform"))
    for signal in (read_signal(Path(path)) for path in paths):
        assert lead_fault(signal) is None
        assert 0.3 < swing_mv(signal) < 6
        rows = [signal.leads.index(name) for name in MIMIC]
        crossed = Signal(signal.leads, signal.array[rows], 500, None, signal.leads)
        fault = lead_fault(crossed)
        assert fault is not None
        assert fault.cause == "aVL and aVF are swapped"


@pytest.mark.parametrize(
    ("scale", "words"),
    [(1000.0, "microvolts"), (200.0, "converter steps"), (1e-3, "volts (")],
)
def test_voltages_in_another_unit(toy, scale: float, words: str) -> None:
    _with_ecgs(toy, LEADS, lambda a: a * scale, steps_per_mv=min(1e6, 4000 / scale))
    (problem,) = [p for p in toy.problems() if p.where == "unit of ecg"]
    assert problem.severity == "error"
    assert "(of 8 recordings looked at)" in problem.what
    assert words in problem.what
