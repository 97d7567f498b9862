"""What a run would say of one patient with less: every combination of what the patient has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.attribution.case import Case
from analysis.attribution.modalities import modality_ledger
from analysis.classification.data import probability
from analysis.classification.evaluation import number_json
from analysis.missing.design import subsets
from analysis.outlook import class_names
from analysis.survival.baseline import BaselineHazard, survival_curve

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """The run's own numbers, all of them: log-risk or logits."""

    title = "prediction"
    unit = ""
    worse_is_higher = None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Names the target."""
        return {"target": "prediction"}

    def __call__(self, prediction: Tensor) -> Tensor:
        """(B, K) -> (B, K)."""
        return prediction


def patient_combinations(
    case: Case, baseline: BaselineHazard | None, horizon_days: float | None = None
) -> dict[str, Any]:
    """The prediction under every combination of the patient's modalities, as plain JSON.

    `rows`: the whole first, then by falling size, nothing last; each with modalities, hidden (of
    what the patient has) and for survival log_risk, relative_log_risk (to the mean training
    patient) and event_free at the horizon (null beyond the training follow-up), for a class task
    `probabilities` by class. `absent`: what the patient lacks, which no row can tell. baseline:
    the run's, for survival. Raises AttributionError for more than 12 modalities.
    """
    ledger = modality_ledger(case, Prediction())
    task = case.run.config.task
    horizon = None
    if task.kind == "survival":
        if baseline is None:
            raise ValueError("a survival run's combinations need its baseline hazard.")
        wanted = horizon_days if horizon_days is not None else task.horizon_days
        horizon = float(baseline.time_days[-1] if wanted is None else wanted)
    names = ledger.modalities
    rows = []
    for combination in (*reversed(subsets(names)), ()):
        values = ledger.value(set(combination))
        rows.append(
            {
                "modalities": list(combination),
                "hidden": [n for n in names if n not in combination],
                **_said(case, values, baseline, horizon),
            }
        )
    # The whole is the number that every page shows, not its twin from a batch of another size.
    rows[0].update(_said(case, ledger.whole, baseline, horizon))
    return {
        "patient": case.subject_id,
        "modalities": dict(ledger.titles),
        "present": list(names),
        "absent": list(ledger.absent),
        "horizon_days": horizon,
        "rows": rows,
    }


def _said(
    case: Case, values: Floats, baseline: BaselineHazard | None, horizon: float | None
) -> dict[str, Any]:
    if baseline is not None and horizon is not None:
        risk = float(values[0])
        return {
            "log_risk": risk,
            "relative_log_risk": risk - baseline.reference_log_risk,
            "event_free": number_json(float(survival_curve(baseline, [risk], [horizon])[0, 0])),
        }
    given = np.atleast_1d(probability(values[None])[0])
    if len(given) == 1:
        given = np.array([1 - given[0], given[0]])
    names = class_names(case.run.config.task.classes, len(given))
    return {"probabilities": dict(zip(names, map(float, given), strict=True))}
