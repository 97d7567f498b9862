"""From a risk score to survival probabilities: Breslow's baseline hazard.

Breslow, discussion of Cox, JRSS B 1972; 34:216. H0(t) = sum over events up to t of
1 / (sum of exp(log risk) over the patients still at risk).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.curves import life_table
from analysis.survival.data import Floats, SurvivalData, as_risk


@dataclass(frozen=True, eq=False)
class BaselineHazard:
    """Cumulative hazard over time of a patient whose log-risk is `reference_log_risk`.

    time_days: (m,) distinct observed times of the training patients, increasing; the last one is
    the end of their follow-up. cumulative_hazard: (m,) >= 0, not decreasing, the value from that
    time on (0 before the first). A network's log-risk has no natural zero: with scores around
    1000 the hazard "at 0" would underflow, so the reference is the mean of the training scores.
    """

    time_days: Floats
    cumulative_hazard: Floats
    reference_log_risk: float = 0.0

    def __post_init__(self) -> None:
        time = np.array(self.time_days, dtype=np.float64)
        hazard = np.array(self.cumulative_hazard, dtype=np.float64)
        if time.ndim != 1 or time.shape != hazard.shape or time.size == 0:
            raise ValueError(
                f"A baseline hazard needs one value per time: shapes {time.shape}, {hazard.shape}."
            )
        if not ((np.diff(time) > 0).all() and np.isfinite(time).all() and time[0] >= 0):
            raise ValueError("The times of a baseline hazard must increase from 0 upwards.")
        if not ((np.diff(hazard) >= 0).all() and np.isfinite(hazard).all() and hazard[0] >= 0):
            raise ValueError("A cumulative hazard cannot be negative, missing or decreasing.")
        object.__setattr__(self, "time_days", time)
        object.__setattr__(self, "cumulative_hazard", hazard)

    def relative_to(self, log_risk: float) -> BaselineHazard:
        """Return the same hazard for a patient of another log-risk, such as 0."""
        factor = float(np.exp(log_risk - self.reference_log_risk))
        return BaselineHazard(self.time_days, self.cumulative_hazard * factor, log_risk)


def breslow(data: SurvivalData, log_risk: npt.ArrayLike) -> BaselineHazard:
    """Return Breslow's cumulative baseline hazard of the training patients.

    log_risk: (n,) linear predictor of a Cox model, any offset. Equal to scikit-survival's
    `cum_baseline_hazard_` after `relative_to(0)`. R's basehaz and lifelines centre covariates
    instead, which only shifts the reference. Raises ValueError when there is no event.
    """
    scores = as_risk(data, log_risk, "log_risk")
    if data.n_events == 0:
        raise ValueError(
            f"None of the {data.n} training patients had the event: there is no baseline hazard."
        )
    reference = float(scores.mean())
    table = life_table(data)
    longest_first = np.argsort(-data.time_days, kind="stable")
    # Sums of exponentials in logarithms: neither a large score nor a wide spread overflows.
    log_sums = np.logaddexp.accumulate(scores[longest_first] - reference)
    log_at_risk = log_sums[table.at_risk - 1]
    increments = table.events * np.exp(-log_at_risk)
    return BaselineHazard(table.time_days, np.cumsum(increments), reference)


def survival_curve(
    baseline: BaselineHazard, log_risk: npt.ArrayLike, times_days: npt.ArrayLike
) -> Floats:
    """Return S(t) = exp(-H0(t) exp(log_risk)) for n patients at T times: (n, T), in [0, 1].

    log_risk: (n,), from the model the baseline was estimated with. times_days: (T,) >= 0. nan
    beyond the follow-up of the training patients, where nothing is known. Raises ValueError for
    a missing or infinite log-risk or negative time.
    """
    scores = np.atleast_1d(np.asarray(log_risk, dtype=np.float64))
    times = np.atleast_1d(np.asarray(times_days, dtype=np.float64))
    if not np.isfinite(scores).all():
        raise ValueError("log_risk is missing or infinite for at least one patient.")
    if not (times >= 0).all():
        raise ValueError("times_days must be numbers of days from 0 upwards.")
    steps = np.r_[0.0, baseline.cumulative_hazard]
    hazard = steps[np.searchsorted(baseline.time_days, times, side="right")]
    with np.errstate(divide="ignore", over="ignore"):
        log_hazard = np.log(hazard) + (scores - baseline.reference_log_risk)[:, None]
        survival: Floats = np.exp(-np.exp(log_hazard))
    survival[:, times > baseline.time_days[-1]] = np.nan
    return survival
