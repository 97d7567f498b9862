"""A run's baseline hazard on disk: baseline_hazard.parquet in the run folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.cohort.readers.frame import read_frame
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import BASELINE_FILE, RunError


def write_baseline(baseline: BaselineHazard, path: Path) -> None:
    """Breslow's cumulative baseline hazard, for a patient at the reference log-risk."""
    frame = pd.DataFrame(
        {
            "time_days": baseline.time_days,
            "cumulative_hazard": baseline.cumulative_hazard,
            "reference_log_risk": baseline.reference_log_risk,
        }
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_parquet(partial, index=False)
    partial.rename(path)


def read_baseline(run_folder: Path) -> BaselineHazard:
    """A run's baseline hazard. Raises RunError when it is missing or damaged."""
    path = Path(run_folder) / BASELINE_FILE
    try:
        frame = read_frame(path, ("time_days", "cumulative_hazard", "reference_log_risk"))
        return BaselineHazard(
            frame["time_days"].to_numpy(np.float64),
            frame["cumulative_hazard"].to_numpy(np.float64),
            float(frame["reference_log_risk"].iloc[0]),
        )
    except (ValueError, TypeError, IndexError) as error:
        raise RunError(
            f"{path}: no readable baseline hazard ({_reason(error)}); restore the file or "
            "train the run again."
        ) from error


def _reason(error: Exception) -> str:
    return type(error.__cause__ or error).__name__
