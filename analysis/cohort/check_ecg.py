"""Guard: ECG leads that are not what they are called, and voltages in another unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from analysis.cohort.evidence import Evidence, Floats
from analysis.cohort.readers.signal import FLAT_MV, Signal, read_signal
from analysis.cohort.report import some
from analysis.cohort.schema import CohortError
from models.contracts import Kind

_LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
# Einthoven's law and Goldberger's leads, as sums that are zero, by what they are told as.
_LAWS: tuple[tuple[str, str, Mapping[str, float]], ...] = (
    ("II", "I + III", {"I": 1, "III": 1, "II": -1}),
    ("aVR", "-(I + II) / 2", {"I": 0.5, "II": 0.5, "aVR": 1}),
    ("aVL", "I - II / 2", {"I": 1, "II": -0.5, "aVL": -1}),
    ("aVF", "II - I / 2", {"II": 1, "I": -0.5, "aVF": -1}),
)
_BROKEN, _HOLDS, _MOST_CAUSES = 0.3, 0.1, 2
_HIGH_MV, _LOW_MV = 20.0, 0.02
_PLAUSIBLE_MV = (0.3, 6.0)
_SCALES = (
    ("microvolts", 1e-3),
    ("converter steps of 5 microvolts", 5e-3),
    ("volts", 1e3),
)


@dataclass(frozen=True)
class _LeadFault:
    """cause: what mends the laws, or "" where nothing simple does. evidence: the numbers."""

    cause: str
    evidence: str


def check_ecg_leads(evidence: Evidence) -> None:
    """Note ECGs whose limb leads contradict each other, and voltages that cannot be mV.

    Eight recordings are looked at, all of them if `deep`. Leads: of the limb leads that the file
    itself holds, II = I + III, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2 hold within
    the converter's step, because four electrodes make all six. The residual is given relative to
    what leads that have nothing to do with each other would leave (1); from 0.3 on the law is
    broken (real files stay below 0.01, simulated ones with noise below 0.05). Where an exchange of
    names, or one lead turned upside down, brings all laws below 0.1, it is named: an error in more
    than half of the recordings. Three leads alone cannot tell the two apart, then both are named;
    more than two causes are not named. All else is a warning. Exchanged electrodes (the arms, say)
    keep all laws and are not seen.

    Units: the median over the leads of the 0.5 to 99.5 % range is above 20 mV or below 0.02 mV
    (usual are 0.5 to 3): an error if in more than half of the recordings, else a warning.
    """
    for name, modality in evidence.spec.modalities.items():
        if modality.kind is not Kind.SIGNAL:
            continue
        faults: dict[str, list[tuple[int, _LeadFault]]] = {}
        swings: list[tuple[int, float]] = []
        for subject, _, path, _ in evidence.looked_at(name):
            try:
                signal = read_signal(path)
            except CohortError:  # noted by the check itself, with `deep` or its header
                continue
            swings.append((subject, swing_mv(signal)))
            fault = lead_fault(signal)
            if fault is not None:
                faults.setdefault(fault.cause, []).append((subject, fault))
        _note_leads(evidence, modality.path, name, faults, len(swings))
        _note_units(evidence, modality.path, name, swings)


def _note_leads(
    evidence: Evidence,
    file: str,
    name: str,
    faults: Mapping[str, list[tuple[int, _LeadFault]]],
    looked: int,
) -> None:
    for cause, found in faults.items():
        subjects = some(subject for subject, _ in found)
        what = f"{subjects} (of {looked} recordings looked at): {found[0][1].evidence}"
        if cause:
            what += f"; all laws of the limb leads hold if {cause}"
            most = len(found) > looked / 2
            note = evidence.report.error if most else evidence.report.warn
            note(file, f"leads of {name}", what, "name the leads as recorded")
        else:
            remedy = "compare the order of the leads with the device's, and the filter of each"
            evidence.report.warn(file, f"leads of {name}", what, remedy)


def _note_units(evidence: Evidence, file: str, name: str, swings: list[tuple[int, float]]) -> None:
    for odd, words in (
        ([(s, mv) for s, mv in swings if mv > _HIGH_MV], "more than any heart gives"),
        ([(s, mv) for s, mv in swings if FLAT_MV < mv < _LOW_MV], "less than any heart gives"),
    ):
        if not odd:
            continue
        typical = float(np.median([mv for _, mv in odd]))
        fits = [
            f"{unit} ({typical * scale:.2g} mV)"
            for unit, scale in _SCALES
            if _PLAUSIBLE_MV[0] <= typical * scale <= _PLAUSIBLE_MV[1]
        ]
        guess = f"; they would fit {' or '.join(fits)}" if fits else ""
        what = (
            f"{some(s for s, _ in odd)} (of {len(swings)} recordings looked at) swing by "
            f"{typical:.3g} mV, {words}{guess}"
        )
        note = evidence.report.error if len(odd) > len(swings) / 2 else evidence.report.warn
        note(file, f"unit of {name}", what, "state the gain and unit in the header, or give mV")


def swing_mv(signal: Signal) -> float:
    """Median over recorded leads that move of the 0.5 to 99.5 % range, in mV; 0 without any."""
    spans = []
    for lead, row in zip(signal.leads, signal.array, strict=True):
        there = row[np.isfinite(row)]
        if lead not in signal.derived and len(there) and np.ptp(there) > 0:
            spans.append(float(np.diff(np.quantile(there, (0.005, 0.995)))[0]))
    return float(np.median(spans)) if spans else 0.0


def lead_fault(signal: Signal) -> _LeadFault | None:
    """What is wrong with the names of the limb leads of a recording; None where nothing is."""
    names = [lead for lead in _LIMB if lead in signal.leads and lead not in signal.derived]
    if not {"I", "II"} < set(names):
        return None
    rows = np.stack([signal.lead(lead).astype(np.float64) for lead in names])
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    if rows.shape[1] < 2 or (np.ptp(rows, axis=1) <= FLAT_MV).any():
        return None
    spread = np.cov(rows)
    laws = [law for law in _LAWS if set(law[2]) <= set(names)]
    sums = np.array([[law[2].get(lead, 0.0) for lead in names] for law in laws])
    residual = _residuals(spread[None], sums)[0]
    worst = int(residual.argmax())
    if residual[worst] < _BROKEN:
        return None
    lead, formula, _ = laws[worst]
    off = float(np.sqrt(sums[worst] @ spread @ sums[worst]))
    own = float(np.sqrt(spread[names.index(lead), names.index(lead)]))
    told = (
        f"{lead} differs from {formula} by {off:.2g} mV (rms; the lead itself moves by "
        f"{own:.2g} mV), {residual[worst]:.0%} of what unrelated leads would"
    )
    cause, left = _remedy(names, spread, sums)
    return _LeadFault(cause, told + (f", and by {left:.0%} once mended" if cause else ""))


def _residuals(spreads: Floats, sums: Floats) -> Floats:
    """(P, laws): rms of each sum over the rms that uncorrelated leads would leave.

    spreads: (P, leads, leads) covariances. sums: (laws, leads).
    """
    left = np.einsum("li,pij,lj->pl", sums, spreads, sums)
    free = np.einsum("li,pii->pl", sums**2, spreads)
    return np.asarray(np.sqrt(np.clip(left, 0, None) / free))


@cache
def _orders(leads: int) -> npt.NDArray[np.int64]:
    """All orders of the leads; those that move fewest come first, the given one is left out."""
    every = np.array(list(permutations(range(leads))), np.int64)
    moved = (every != np.arange(leads)).sum(axis=1)
    return every[np.argsort(moved, kind="stable")][1:]


def _remedy(names: list[str], spread: Floats, sums: Floats) -> tuple[str, float]:
    """The least changes of names or signs with which all laws hold, and what they leave.

    A lead turned upside down counts as much as two that are swapped.
    """
    orders = _orders(len(names))
    signs = 1 - 2 * np.eye(len(names))
    turned = spread * signs[:, :, None] * signs[:, None, :]
    swapped = spread[orders[:, :, None], orders[:, None, :]]
    worst = np.concatenate([_residuals(turned, sums), _residuals(swapped, sums)]).max(axis=1)
    moved = np.concatenate([np.full(len(signs), 2), (orders != np.arange(len(names))).sum(axis=1)])
    good = np.flatnonzero(worst <= _HOLDS)
    if not len(good):
        return "", 0.0
    least = good[moved[good] == moved[good].min()].tolist()
    if len(least) > _MOST_CAUSES:
        return "", 0.0
    told = [_told(names, at, orders[at - len(names)]) for at in least]
    return " or ".join(told), float(worst[least].max())


def _told(names: list[str], at: int, order: npt.NDArray[np.int64]) -> str:
    """A change in words: the lead `at` turned, or beyond the leads an order of their rows."""
    if at < len(names):
        return f"{names[at]} is turned upside down"
    away = [i for i in range(len(names)) if order[i] != i]
    true = ", ".join(names[order[i]] for i in away)
    if len(away) == 2:
        return f"{names[away[0]]} and {names[away[1]]} are swapped"
    return f"the rows now called {true} are called {', '.join(names[i] for i in away)}"
