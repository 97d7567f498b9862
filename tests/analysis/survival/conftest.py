"""Simulated follow-up with what breaks estimators: tied days, tied risks, late censoring."""

from collections.abc import Callable

import numpy as np
import pytest

from analysis.survival.data import SurvivalData

Cohort = Callable[..., tuple[SurvivalData, np.ndarray]]


@pytest.fixture
def cohort() -> Cohort:
    def make(n: int = 200, seed: int = 0, scores: int = 1) -> tuple[SurvivalData, np.ndarray]:
        rng = np.random.default_rng(seed)
        z = rng.normal(size=n)
        event_time = rng.exponential(300 * np.exp(-0.8 * z))
        censoring = rng.exponential(400, size=n)
        days = np.ceil(np.minimum(event_time, censoring) / 7) * 7
        risks = np.stack([z * (k + 1) / scores + rng.normal(size=n) for k in range(scores)])
        risks[0] = risks[0].round(1)
        return SurvivalData(days, event_time <= censoring), risks

    return make
