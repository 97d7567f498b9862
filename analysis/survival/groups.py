"""Risk groups: cut-offs learned on one set of patients, curves drawn on another.

A cut-off chosen on the very patients it then separates makes the separation look better than it
is (Altman et al., JNCI 1994; 86:829), so a cut-off carries where it was learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.contrasts import (
    RMST,
    HazardRatio,
    LogRank,
    RMSTDifference,
    hazard_ratio,
    logrank,
    rmst,
    rmst_difference,
)
from analysis.survival.curves import AtRiskTable, KaplanMeierCurve, kaplan_meier, number_at_risk
from analysis.survival.data import Floats, Ints, SurvivalData, as_risk, check_positive

RULES = {"median": (1 / 2,), "tertiles": (1 / 3, 2 / 3), "quartiles": (1 / 4, 1 / 2, 3 / 4)}
_NAMES = {
    2: ("Low risk", "High risk"),
    3: ("Low risk", "Intermediate risk", "High risk"),
    4: ("Low risk", "Low-intermediate risk", "High-intermediate risk", "High risk"),
}
_NAN = float("nan")


@dataclass(frozen=True)
class RiskCutoffs:
    """Where a risk scale is cut: a risk above values[g - 1], up to values[g], is in group g.

    rule: "median", "tertiles", "quartiles" or "fixed"; values: increasing, on the risk scale of
    the run; learned_on: which patients they come from, n of them.
    """

    rule: str
    values: tuple[float, ...]
    learned_on: str
    n: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, lowest risk first."""
        return _NAMES[len(self.values) + 1]


@dataclass(frozen=True, eq=False, kw_only=True)
class RiskGroup:
    """One risk group of a split. curve and rmst are None when the group is empty."""

    name: str
    n: int
    n_events: int
    curve: KaplanMeierCurve | None
    at_risk: AtRiskTable | None
    rmst: RMST | None


@dataclass(frozen=True, eq=False, kw_only=True)
class KaplanMeierSplit:
    """Survival of risk groups, lowest risk first, and how far apart they are.

    Everything counts only what happened up to horizon_days, like the figure. tau_days: until
    when the restricted means run: the horizon, or where the shortest group's follow-up ends.
    rmst_difference and hazard_ratio: highest risk group against the lowest.
    """

    cutoffs: RiskCutoffs
    horizon_days: float | None
    tau_days: float
    groups: tuple[RiskGroup, ...]
    logrank: LogRank
    rmst_difference: RMSTDifference
    hazard_ratio: HazardRatio


def learn_cutoffs(
    train_risk: npt.ArrayLike, rule: str | float = "median", learned_on: str = "train"
) -> RiskCutoffs:
    """Return the cut-offs of a rule from the risks (n,) of the patients named by learned_on.

    rule: "median", "tertiles", "quartiles" (quantiles with linear interpolation), or a number,
    taken as the cut itself. Raises ValueError for an unknown rule, missing risks, or risks with
    too few distinct values to form the groups.
    """
    risk = np.asarray(train_risk, dtype=np.float64)
    if risk.ndim != 1 or risk.size == 0 or not np.isfinite(risk).all():
        raise ValueError("Cut-offs need at least one risk, and none missing or infinite.")
    if not isinstance(rule, str):
        if not np.isfinite(rule):
            raise ValueError("A cut on the risk scale must be a finite number.")
        return RiskCutoffs("fixed", (float(rule),), learned_on, risk.size)
    if rule not in RULES:
        raise ValueError(f"Unknown rule {rule!r}; use {', '.join(RULES)} or a number.")
    values = np.quantile(risk, RULES[rule])
    if len(np.unique(np.searchsorted(values, risk, side="left"))) <= len(values):
        raise ValueError(
            f"The risks take too few distinct values to be split by {rule}: a group would be empty."
        )
    return RiskCutoffs(rule, tuple(values.tolist()), learned_on, risk.size)


def assign(cutoffs: RiskCutoffs, risk: npt.ArrayLike) -> Ints:
    """Return the group (n,) of each risk, 0 the lowest; a risk equal to a cut-off is below it."""
    values = np.asarray(risk, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("A patient without a risk cannot be assigned to a risk group.")
    return np.searchsorted(cutoffs.values, values, side="left").astype(np.int64)


def km_split(
    data: SurvivalData,
    risk: npt.ArrayLike,
    cutoffs: RiskCutoffs,
    horizon_days: float | None = None,
    ticks_days: npt.ArrayLike | None = None,
) -> KaplanMeierSplit:
    """Split patients by risk and compare their survival.

    risk: (n,), on the scale of the cut-offs. ticks_days: times of the at-risk tables, by default
    6 from 0 to the horizon (or the end of follow-up). Empty groups stay in the result, with
    n = 0; what they leave undefined says so. Raises ValueError for a risk that does not fit.
    """
    group = assign(cutoffs, as_risk(data, risk))
    if horizon_days is not None:
        check_positive(horizon_days, "horizon_days")
    end = float(data.time_days.max()) if horizon_days is None else horizon_days
    ticks = np.linspace(0, end, 6) if ticks_days is None else np.asarray(ticks_days, np.float64)
    members = [data.subset(group == g) if (group == g).any() else None for g in range(_n(cutoffs))]
    present = [m for m in members if m is not None]
    counted = [m if horizon_days is None else m.censored_at(horizon_days) for m in present]
    tau = min(float(m.time_days.max()) for m in counted)
    lowest, highest = (None if m is None else m for m in (members[0], members[-1]))
    return KaplanMeierSplit(
        cutoffs=cutoffs,
        horizon_days=horizon_days,
        tau_days=tau,
        groups=tuple(
            _describe(name, m, horizon_days, ticks, tau)
            for name, m in zip(cutoffs.names, members, strict=True)
        ),
        logrank=_logrank(counted),
        rmst_difference=_rmst_difference(highest, lowest, tau),
        hazard_ratio=_hazard_ratio(highest, lowest, horizon_days),
    )


def _n(cutoffs: RiskCutoffs) -> int:
    return len(cutoffs.values) + 1


def _describe(
    name: str,
    members: SurvivalData | None,
    horizon_days: float | None,
    ticks: Floats,
    tau: float,
) -> RiskGroup:
    if members is None:
        return RiskGroup(name=name, n=0, n_events=0, curve=None, at_risk=None, rmst=None)
    curve = kaplan_meier(members, horizon_days)
    return RiskGroup(
        name=name,
        n=members.n,
        n_events=curve.n_events,
        curve=curve,
        at_risk=number_at_risk(members, ticks),
        rmst=rmst(members, tau) if tau > 0 else None,
    )


def _logrank(groups: list[SurvivalData]) -> LogRank:
    if len(groups) > 1:
        return logrank(groups)
    return LogRank(
        chi2=_NAN,
        df=0,
        p=_NAN,
        observed=(float(groups[0].n_events),),
        expected=(float(groups[0].n_events),),
        undefined="All patients fall into one risk group.",
    )


def _rmst_difference(
    highest: SurvivalData | None, lowest: SurvivalData | None, tau: float
) -> RMSTDifference:
    if highest is not None and lowest is not None and tau > 0:
        return rmst_difference(highest, lowest, tau)
    reason = _why_incomparable(highest, lowest) or "A group was not observed beyond day 0."
    return RMSTDifference(
        tau_days=tau, value=_NAN, se=_NAN, low=_NAN, high=_NAN, p=_NAN, undefined=reason
    )


def _hazard_ratio(
    highest: SurvivalData | None, lowest: SurvivalData | None, horizon_days: float | None
) -> HazardRatio:
    if highest is None or lowest is None:
        reason = _why_incomparable(highest, lowest)
        return HazardRatio(value=_NAN, low=_NAN, high=_NAN, p=_NAN, undefined=reason)
    if horizon_days is not None:
        highest, lowest = highest.censored_at(horizon_days), lowest.censored_at(horizon_days)
    return hazard_ratio(highest, lowest)


def _why_incomparable(highest: SurvivalData | None, lowest: SurvivalData | None) -> str | None:
    empty = [name for name, m in (("highest", highest), ("lowest", lowest)) if m is None]
    return f"The {' and the '.join(empty)} risk group is empty." if empty else None
