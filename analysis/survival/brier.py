"""Brier score of predicted survival probabilities under censoring.

Graf et al., Stat Med 1999; 18:2529. Mean squared distance between the predicted probability of
being event-free at t and what happened, patients weighted by the inverse probability of not
being censored. 0 is perfect, lower is better; 0.25 is what a constant 0.5 gets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.survival.concordance import Multiplicities
from analysis.survival.curves import kaplan_meier, life_table
from analysis.survival.data import Floats, SurvivalData


@dataclass(frozen=True, eq=False)
class BrierCurve:
    """Brier score over time, beside that of the Kaplan-Meier estimate that knows no patient.

    times_days, score, reference: (T,). A model is of use where score is below reference.
    """

    times_days: Floats
    score: Floats
    reference: Floats


@dataclass(frozen=True)
class IntegratedBrier:
    """Brier score averaged over [start_days, end_days]; reference: of Kaplan-Meier.

    skill: 1 - value / reference, the share of the reference's error removed; nan when that is 0.
    """

    value: float
    reference: float
    skill: float
    start_days: float
    end_days: float


def brier(
    train: SurvivalData, test: SurvivalData, survival: npt.ArrayLike, times_days: npt.ArrayLike
) -> BrierCurve:
    """Return the Brier score of the test patients at each time.

    survival: (n of test, T) predicted probability of being event-free, in [0, 1]; times_days:
    (T,) increasing. train gives the censoring distribution and the Kaplan-Meier reference.
    Equal to scikit-survival's brier_score, which refuses more: times before the first test
    patient leaves, and any test patient followed longer than the training patients. Raises
    ValueError, in a sentence, where the shapes do not fit or follow-up does not permit: times
    must lie before the end of both follow-ups.
    """
    times = _check_times(train, test, times_days)
    score, reference = _errors(train, test, survival, times)
    return BrierCurve(times, score.mean(axis=0), reference.mean(axis=0))


def resampled_brier(
    train: SurvivalData,
    test: SurvivalData,
    survival: npt.ArrayLike,
    times_days: npt.ArrayLike,
    weights: Multiplicities,
) -> tuple[Floats, Floats]:
    """Return Brier score and that of Kaplan-Meier in B weighted copies of the test patients.

    Arguments and errors as `brier`; weights (B, n). Both (B, T). Censoring and Kaplan-Meier stay
    those of train in every copy.
    """
    times = _check_times(train, test, times_days)
    score, reference = _errors(train, test, survival, times)
    counts = np.asarray(weights, np.float64)
    each = counts.sum(axis=1, keepdims=True)
    return counts @ score / each, counts @ reference / each


def over_time(values: Floats, times: Floats) -> Floats:
    """Return the mean over time (...,) of values (..., T) by trapezoids; needs 2 times."""
    if times.size < 2:
        raise ValueError("The integrated Brier score needs at least 2 times.")
    return np.asarray(np.trapezoid(values, times, axis=-1) / (times[-1] - times[0]), np.float64)


def _errors(
    train: SurvivalData, test: SurvivalData, survival: npt.ArrayLike, times: Floats
) -> tuple[Floats, Floats]:
    """Return each patient's weighted squared error (n, T), and that of Kaplan-Meier."""
    predicted = np.asarray(survival, dtype=np.float64)
    if predicted.shape != (test.n, times.size):
        raise ValueError(
            f"survival has shape {predicted.shape}; {test.n} patients at {times.size} times "
            f"need {(test.n, times.size)}."
        )
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("survival must hold probabilities between 0 and 1, none missing.")
    dead, alive = _weights(train, test, times)
    km = kaplan_meier(train).at(times)
    return (
        dead * predicted**2 + alive * (1 - predicted) ** 2,
        dead * km**2 + alive * (1 - km) ** 2,
    )


def integrated_brier(
    train: SurvivalData, test: SurvivalData, survival: npt.ArrayLike, times_days: npt.ArrayLike
) -> IntegratedBrier:
    """Return the Brier score averaged over the times, by trapezoids.

    Arguments and errors as `brier`, with at least 2 times. Equal to scikit-survival's
    integrated_brier_score.
    """
    curve = brier(train, test, survival, times_days)
    times = curve.times_days
    value = float(over_time(curve.score, times))
    reference = float(over_time(curve.reference, times))
    skill = 1 - value / reference if reference > 0 else float("nan")
    return IntegratedBrier(value, reference, skill, float(times[0]), float(times[-1]))


def last_usable_day(train: SurvivalData, test: SurvivalData) -> float:
    """Return the last time at which a Brier score can be had: just before either follow-up ends."""
    end = min(float(test.time_days.max()), float(train.time_days.max()))
    return float(np.nextafter(end, 0))


def _check_times(train: SurvivalData, test: SurvivalData, times_days: npt.ArrayLike) -> Floats:
    times = np.atleast_1d(np.asarray(times_days, dtype=np.float64))
    if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all():
        raise ValueError("times_days must be a row of at least one finite number of days.")
    if (np.diff(times) <= 0).any():
        raise ValueError("times_days must increase from one to the next.")
    if times[0] < 0 or times[-1] > last_usable_day(train, test):
        raise ValueError(
            f"A Brier score from {times[0]:g} to {times[-1]:g} days is not possible: follow-up "
            f"ends at {test.time_days.max():g} days in the test and {train.time_days.max():g} in "
            "the training patients; choose times from 0 to just before the earlier end."
        )
    return times


def _weights(train: SurvivalData, test: SurvivalData, times: Floats) -> tuple[Floats, Floats]:
    """Return (n, T) weights of those with the event by t, and of those event-free at t."""
    by_then = test.time_days[:, None] <= times
    had_event = by_then & test.event[:, None]
    at_event = uncensored(train, np.minimum(test.time_days, times[-1]))[:, None]
    at_time = uncensored(train, times)
    # Nobody can be observed where the probability is 0: weight 0, as in scikit-survival.
    smallest = np.finfo(np.float64).tiny
    return (
        np.where(had_event & (at_event > 0), 1 / np.maximum(at_event, smallest), 0.0),
        np.where(~by_then & (at_time > 0), 1 / np.maximum(at_time, smallest), 0.0),
    )


def uncensored(train: SurvivalData, times: Floats) -> Floats:
    """Return the probability of not being censored by each time: Kaplan-Meier of the censoring.

    On a day with both, events come first: who had the event was no longer there to be censored.
    """
    table = life_table(train)
    there = np.maximum(table.at_risk - table.events, 1)
    probability: Floats = np.r_[1.0, np.cumprod(1 - table.censored / there)]
    now: Floats = probability[np.searchsorted(table.time_days, times, side="right")]
    return now
