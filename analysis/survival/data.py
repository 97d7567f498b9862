"""Times, events and risks, checked once so that the code behind them can trust its input.

Conventions of the whole folder: `event` is True when the event happened; risk is larger when
worse (lifelines' concordance wants the opposite sign); time carries its unit in its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SurvivalData:
    """Right-censored follow-up of n patients, one entry a patient.

    time_days: (n,) float64, days from baseline to the event or to the end of observation, >= 0.
    event: (n,) bool, True where the event happened; 0/1 numbers are accepted and converted.
    Both are copied and made read-only. Raises ValueError, in one sentence, for anything else.
    """

    time_days: Floats
    event: Bools

    def __post_init__(self) -> None:
        time = _numbers(self.time_days, "time_days")
        event = _numbers(self.event, "event")
        if time.size == 0:
            raise ValueError("There are no patients: time_days is empty.")
        if time.shape != event.shape:
            raise ValueError(
                f"time_days has {time.size} entries but event has {event.size}; "
                "both need one entry per patient."
            )
        _refuse(~np.isfinite(time), "time_days is missing or infinite")
        _refuse(time < 0, "time_days is negative")
        _refuse((event != 0) & (event != 1), "event is neither 0 (censored) nor 1 (happened)")
        event_bool = event.astype(bool)
        time.setflags(write=False)
        event_bool.setflags(write=False)
        object.__setattr__(self, "time_days", time)
        object.__setattr__(self, "event", event_bool)

    @property
    def n(self) -> int:
        """Number of patients."""
        return int(self.time_days.size)

    @property
    def n_events(self) -> int:
        """Number of patients in whom the event was observed."""
        return int(self.event.sum())

    def subset(self, chosen: Bools | Ints) -> SurvivalData:
        """Return the chosen patients: (n,) bool mask or integer positions, at least one."""
        return SurvivalData(self.time_days[chosen], self.event[chosen])

    def censored_at(self, horizon_days: float) -> SurvivalData:
        """Return the same patients with follow-up closed at the horizon.

        Events on the horizon day itself still count. Raises ValueError for a horizon <= 0.
        """
        check_positive(horizon_days, "horizon_days")
        late = self.time_days > horizon_days
        return SurvivalData(np.minimum(self.time_days, horizon_days), self.event & ~late)


def as_risk(data: SurvivalData, risk: npt.ArrayLike, name: str = "risk") -> Floats:
    """Return risk as (n,) float64; raises ValueError for a wrong length, NaN or infinity."""
    checked = _numbers(risk, name)
    if checked.size != data.n:
        raise ValueError(f"{name} has {checked.size} entries for {data.n} patients.")
    _refuse(~np.isfinite(checked), f"{name} is missing or infinite")
    return checked


def pool(groups: Sequence[SurvivalData]) -> SurvivalData:
    """Return all patients of the groups as one, in the order of the groups."""
    return SurvivalData(
        np.concatenate([g.time_days for g in groups]), np.concatenate([g.event for g in groups])
    )


def check_positive(value: float, name: str) -> None:
    """Raise ValueError unless value is a finite number above 0."""
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a number above 0, not {value}.")


def _numbers(values: npt.ArrayLike, name: str) -> Floats:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers only.") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, but its shape is {array.shape}.")
    return array


def _refuse(bad: Bools, what: str) -> None:
    count = int(bad.sum())
    if count:
        first = int(np.argmax(bad))
        raise ValueError(f"{what} for {count} of {bad.size} patients (first at position {first}).")
