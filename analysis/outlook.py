"""What a run says of one patient, beside the patients it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from analysis.attribution.case import Case, Subject
from analysis.cohort.cohort import Cohort
from analysis.survival.baseline import BaselineHazard, survival_curve

Floats = npt.NDArray[np.float64]
BAND = (0.1, 0.9)
# One patient alone and the same patient in a batch differ in the last bits of a float32.
_TIE = 1e-6


@dataclass(frozen=True, eq=False)
class SurvivalOutlook:
    """A patient's predicted survival and that of the training patients.

    log_risk: as the model gives it. relative: log hazard ratio to the mean training patient.
    percentile: in [0, 100], training patients with a lower predicted risk; ties count half.
    times_days: (t,) from day 0 to the end of the training follow-up. survival: (t,) S(t) of the
    patient. median: (t,) of the training patient of median risk. low, high: (t,) the 10% and
    90% quantiles over the training patients' predicted curves (a spread of predictions, no
    confidence interval). horizon_days, at_horizon: S there; nan when it lies beyond the training
    follow-up. median_days: the first time with S(t) <= 0.5; None when it is not reached within
    the follow-up. n_training: patients behind percentile and band.
    """

    subject: Subject
    log_risk: float
    relative: float
    percentile: float
    times_days: Floats
    survival: Floats
    median: Floats
    low: Floats
    high: Floats
    horizon_days: float
    at_horizon: float
    median_days: float | None
    n_training: int

    def __post_init__(self) -> None:
        curves = (self.survival, self.median, self.low, self.high)
        if any(curve.shape != self.times_days.shape for curve in curves):
            raise ValueError(
                f"{len(self.times_days)} times, curves of {[len(curve) for curve in curves]}."
            )


@dataclass(frozen=True)
class ClassOutlook:
    """A patient's predicted class probabilities: {class name: probability}, they sum to 1."""

    subject: Subject
    probabilities: Mapping[str, float]


Outlook = SurvivalOutlook | ClassOutlook


@dataclass(frozen=True)
class Observed:
    """What happened: time_days and event (true: it happened) for survival, else `label`."""

    task: str
    time_days: float | None = None
    event: bool | None = None
    label: str | None = None


def outlook(
    case: Case,
    baseline: BaselineHazard | None,
    training_risks: npt.ArrayLike | None,
    horizon_days: float | None = None,
) -> Outlook:
    """What the run predicts for the patient.

    baseline: the run's, and training_risks: (n,) its log-risks of the training patients (from
    `predict_stored(run, cohort, 'train', store).risk`), None where that cohort is not at hand:
    percentile and band are then nan and n_training 0. Neither is used for a classification run.
    horizon_days: the task's own one if not given, else the end of the training follow-up. Raises
    ValueError for a survival run without a baseline, for training risks that are empty or not
    finite, and for a negative horizon.
    """
    task = case.run.config.task
    if task.kind == "classification":
        names = class_names(task.classes, case.prediction.shape[1])
        return ClassOutlook(case.subject, dict(zip(names, _probabilities(case), strict=True)))
    if baseline is None:
        raise ValueError("a survival outlook needs the run's baseline hazard.")
    risks = None if training_risks is None else np.asarray(training_risks, np.float64)
    if risks is not None and (risks.ndim != 1 or not len(risks) or not np.isfinite(risks).all()):
        raise ValueError(
            f"training_risks must be finite log-risks of at least one patient, got {risks.shape}."
        )
    risk = float(case.prediction[0, 0])
    times = np.unique(np.r_[0.0, baseline.time_days])
    survival = survival_curve(baseline, [risk], times)[0]
    unknown = np.full(len(times), np.nan)
    horizon = horizon_days if horizon_days is not None else task.horizon_days
    horizon = float(times[-1] if horizon is None else horizon)
    return SurvivalOutlook(
        subject=case.subject,
        log_risk=risk,
        relative=risk - baseline.reference_log_risk,
        percentile=np.nan if risks is None else percentile(risk, risks),
        times_days=times,
        survival=survival,
        median=unknown
        if risks is None
        else survival_curve(baseline, [float(np.median(risks))], times)[0],
        low=unknown if risks is None else curve_quantile(baseline, risks, times, BAND[0]),
        high=unknown if risks is None else curve_quantile(baseline, risks, times, BAND[1]),
        horizon_days=horizon,
        at_horizon=float(survival_curve(baseline, [risk], [horizon])[0, 0]),
        median_days=_first_half(times, survival),
        n_training=0 if risks is None else len(risks),
    )


def percentile(risk: float, risks: Floats) -> float:
    """Percent of `risks` below `risk`, ties counted half (mid-rank); in [0, 100]."""
    tied = np.abs(risks - risk) <= _TIE
    lower = (risks < risk) & ~tied
    return float(100 * (lower.sum() + 0.5 * tied.sum()) / len(risks))


def percentiles(risks: npt.ArrayLike, among: npt.ArrayLike) -> Floats:
    """(n,) `percentile` of many risks at once; nan where a risk is nan."""
    asked, ordered = np.asarray(risks, np.float64), np.sort(np.asarray(among, np.float64))
    low = np.searchsorted(ordered, asked - _TIE, side="left")
    high = np.searchsorted(ordered, asked + _TIE, side="right")
    return np.asarray(np.where(np.isfinite(asked), 50.0 * (low + high) / len(ordered), np.nan))


def curve_quantile(
    baseline: BaselineHazard, risks: Floats, times_days: Floats, share: float
) -> Floats:
    """(t,) quantile over patients of their predicted S(t), at each time; linear between patients.

    All curves keep the order of the risks at every time, so only the two patients around the
    quantile are needed; equal to numpy's quantile over the curves of everybody.
    """
    ordered = np.sort(risks)[::-1]  # the highest risk has the lowest curve
    at = share * (len(ordered) - 1)
    below, above = int(np.floor(at)), int(np.ceil(at))
    first, second = survival_curve(baseline, ordered[[below, above]], times_days)
    quantile: Floats = first + (at - below) * (second - first)
    return quantile


def _first_half(times: Floats, survival: Floats) -> float | None:
    reached = np.flatnonzero(survival <= 0.5)
    return float(times[reached[0]]) if len(reached) else None


def _probabilities(case: Case) -> list[float]:
    logits = case.prediction[0].double()
    if len(logits) == 1:
        # One logit for two classes: that of the second.
        positive = float(torch.sigmoid(logits[0]))
        return [1 - positive, positive]
    return [float(p) for p in torch.softmax(logits, dim=0)]


def class_names(classes: tuple[str, ...], outputs: int) -> tuple[str, ...]:
    """Names of the classes; 'class 0', 'class 1', ... where the task names none."""
    expected = max(outputs, 2)
    return classes if len(classes) == expected else tuple(f"class {i}" for i in range(expected))


def observed(cohort: Cohort, task: str, subject_id: int) -> Observed | None:
    """What happened to a patient; None when the cohort has no outcome of this task for them.

    Kept apart from the prediction, so that a page can be read blinded. Raises CohortError for
    an unknown task.
    """
    found = cohort.outcomes(task, [subject_id])
    if not len(found):
        return None
    if found.time_days is not None and found.event is not None:
        return Observed(task, float(found.time_days[0]), bool(found.event[0]))
    assert found.label is not None
    label = int(found.label[0])
    names = cohort.spec.task(task).classes
    name = names[label] if 0 <= label < len(names) else f"class {label}"
    return Observed(task, label=name)
