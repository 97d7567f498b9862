"""The number that is explained: the very one that the app shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from analysis.survival.baseline import BaselineHazard


class Target(Protocol):
    """Turns predictions (B, K) into T explained numbers (B, T); T is 1 but for a whole curve.

    Differentiable.
    """

    @property
    def title(self) -> str:
        """In words."""
        ...

    @property
    def unit(self) -> str:
        """Of the number and its shares."""
        ...

    @property
    def worse_is_higher(self) -> bool | None:
        """Whether a higher number is worse for the patient; None where neither is."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Plain JSON that names the target among all targets of a run."""
        ...

    def __call__(self, prediction: Tensor) -> Tensor:
        """(B, K) -> (B, T)."""
        ...


@dataclass(frozen=True)
class LogRisk:
    """The log-risk of a survival model, as the model gives it (higher is worse)."""

    title = "log-risk"
    unit = "log hazard ratio"
    worse_is_higher = True

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Names the target."""
        return {"target": "log_risk"}

    def __call__(self, prediction: Tensor) -> Tensor:
        """(B, 1) -> (B, 1)."""
        return prediction[:, :1]


@dataclass(frozen=True, eq=False)
class Survival:
    """S(t) at one or more horizons: exp(-H0(t) exp(log-risk - reference)), in [0, 1].

    days: (T,) >= 0, none beyond the follow-up that the baseline hazard was estimated on.
    """

    baseline: BaselineHazard
    days: tuple[float, ...]
    unit = "probability"
    worse_is_higher = False

    def __post_init__(self) -> None:
        last = float(self.baseline.time_days[-1])
        wrong = [day for day in self.days if not 0 <= day <= last]
        if wrong or not self.days:
            raise ValueError(
                f"survival is known from day 0 to day {last:g} of this run's training patients, "
                f"not at {wrong[0] if wrong else 'no day'}; choose a horizon within it."
            )

    @property
    def title(self) -> str:
        """'survival at 365 days', or 'survival over time'."""
        if len(self.days) == 1:
            return f"survival at {self.days[0]:g} days"
        return "survival over time"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Names the target; the baseline hazard is no part of a run's hash, so it is named here."""
        digest = hashlib.sha256()
        for part in (self.baseline.time_days, self.baseline.cumulative_hazard):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr(float(self.baseline.reference_log_risk)).encode())
        return {
            "target": "survival",
            "days": list(self.days),
            "baseline": digest.hexdigest()[:16],
        }

    def __call__(self, prediction: Tensor) -> Tensor:
        """(B, 1) -> (B, T)."""
        steps = np.r_[0.0, self.baseline.cumulative_hazard]
        at = np.searchsorted(self.baseline.time_days, np.asarray(self.days), side="right")
        hazard = torch.as_tensor(steps[at], dtype=torch.float64)
        relative = prediction[:, :1].double() - self.baseline.reference_log_risk
        return torch.exp(-hazard * torch.exp(relative))


@dataclass(frozen=True)
class ClassLogit:
    """The logit of one class of a classification model.

    A model of two classes has one logit, which is class 1's; class 0's is its negative.
    """

    index: int
    name: str
    unit = "logit"
    worse_is_higher = None

    @property
    def title(self) -> str:
        """'logit of NAME'."""
        return f"logit of {self.name}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Names the target."""
        return {"target": "class_logit", "index": self.index}

    def __call__(self, prediction: Tensor) -> Tensor:
        """(B, K) -> (B, 1)."""
        if prediction.shape[1] == 1:
            return prediction if self.index == 1 else -prediction
        return prediction[:, self.index : self.index + 1]
