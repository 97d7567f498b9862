"""The observed risk of groups of patients, in them and in weighted copies of them.

What decision curves, alerts, reclassification and calibration have in common: a group is marked,
and the question is how many of it had the event by the horizon. With censoring that is one minus
Kaplan-Meier within the group (Vickers et al., BMC Med Inform Decis Mak 2008; 8:53).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from analysis.survival import _weighted
from analysis.survival.concordance import Multiplicities
from analysis.survival.data import Bools, Floats, SurvivalData, check_positive


class Observed(Protocol):
    """Outcomes of n patients from which a group's risk can be had."""

    @property
    def n(self) -> int:
        """Number of patients."""
        ...

    def risk(self, members: Bools, weights: Multiplicities) -> Floats:
        """(B, G) risk in [0, 1] of G groups, members (G, n), in B copies weighted by (B, n)."""
        ...

    def why_undefined(self) -> str | None:
        """Why nothing can be said of these patients, in one sentence; None otherwise."""
        ...


@dataclass(frozen=True, eq=False)
class ByHorizon:
    """Risk of the event by a horizon: one minus Kaplan-Meier at horizon_days.

    nan for an empty group, and for one in which nobody is followed to the horizon while some are
    event-free when last seen.
    """

    data: SurvivalData
    horizon_days: float

    def __post_init__(self) -> None:
        check_positive(self.horizon_days, "horizon_days")

    @property
    def n(self) -> int:
        """Number of patients."""
        return self.data.n

    @property
    def n_events(self) -> int:
        """Patients seen to have the event by the horizon."""
        return self.data.censored_at(self.horizon_days).n_events

    def risk(self, members: Bools, weights: Multiplicities) -> Floats:
        """As `Observed.risk`."""
        return 1 - event_free(self.data, members, np.full(len(members), self.horizon_days), weights)

    def why_undefined(self) -> str | None:
        """As `Observed.why_undefined`."""
        if self.n_events == 0:
            return f"None of the {self.n} patients had the event by {self.horizon_days:g} days."
        risk = self.risk(np.ones((1, self.n), bool), once(self.n))[0, 0]
        if np.isnan(risk):
            longest = float(self.data.time_days.max())
            return (
                f"Follow-up ends at {longest:g} days, before the horizon of {self.horizon_days:g}."
            )
        if risk == 1:
            return f"By {self.horizon_days:g} days nobody is left without the event."
        return None


def event_free(
    data: SurvivalData, members: npt.ArrayLike, times_days: npt.ArrayLike, weights: Multiplicities
) -> Floats:
    """Kaplan-Meier of G groups, each at its own time, in B weighted copies: (B, G).

    members (G, n) bool, times_days (G,). nan as in `ByHorizon`.
    """
    chosen = np.atleast_2d(np.asarray(members, bool))
    times = np.asarray(times_days, np.float64)
    order = np.argsort(data.time_days, kind="stable")
    group, member = np.nonzero(chosen[:, order])
    starts = np.searchsorted(group, np.arange(len(chosen) + 1))
    counts = np.ascontiguousarray(weights, np.int32)
    out = np.empty((len(counts), len(chosen)))
    kernel = _weighted.event_free_one if len(counts) == 1 else _weighted.event_free_lanes
    fixed: tuple[Any, ...] = (
        order, data.time_days[order], data.event[order], member, starts, times,
    )  # fmt: skip

    def run(part: slice) -> None:
        kernel(counts[part], *fixed, out[part])

    _weighted.in_parts(len(counts), len(counts) * member.size, run)
    return out


def once(n: int) -> Multiplicities:
    """(1, n): every patient once, the cohort itself."""
    return np.ones((1, n), np.int32)
