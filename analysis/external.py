"""A run without a model: predictions that were made elsewhere, in a folder beside the trained runs.

    RUN/
      config.json               ExternalConfig: what is predicted, for whom, where it comes from
      predictions.parquet       subject_id, value, and event_probability where one was stated
      baseline_hazard.parquet   survival, where the cohort has patients to learn it on

It has numbers to judge and nothing to explain: it joins every comparison of predictions, and
whatever asks for a model says that there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.baseline_file import read_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError
from analysis.survival.baseline import BaselineHazard
from models.checkpoint import (
    CONFIG_FILE,
    PREDICTIONS,
    CohortEntry,
    ModalityEntry,
    Run,
    RunError,
    StrategyEntry,
    TaskEntry,
    load_run,
    run_hash,
)

EXTERNAL = "external_predictions"
"""Name of the strategy of such a run, in evaluations and figures."""
PREDICTIONS_FILE = "predictions.parquet"

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(_Strict):
    """How a value becomes a log-risk: slope x value, by a Cox model with nothing else in it.

    learned_on: splits whose patients gave the slope and Breslow's baseline hazard.
    """

    slope: float = Field(gt=0)
    learned_on: tuple[str, ...]
    n: int
    events: int


class PredictionsEntry(_Strict):
    """Where the numbers come from, and for whom there are none.

    kind: what the file holds. column: its name there. horizon_days: until when a probability
    counts. predicted, without: patients with an outcome for the task by split. calibration: None
    where only the ranking can be judged, `uncalibrated` then says why. warnings: sentences.
    """

    source: str
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    imported: str
    kind: Literal["risk", "probability", "survival"]
    column: str
    horizon_days: float | None = None
    rows: int
    predicted: dict[str, int]
    without: dict[str, int]
    calibration: Calibration | None = None
    uncalibrated: str | None = None
    warnings: tuple[str, ...] = ()


class ExternalConfig(_Strict):
    """The whole of config.json of a run without a model."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    title: str = Field(min_length=1)
    task: TaskEntry
    cohort: CohortEntry
    predictions: PredictionsEntry
    intended_use: str = "Predictions made elsewhere, for comparison; not for clinical decisions."

    @property
    def strategy(self) -> StrategyEntry:
        """No strategy of this product: tells such a run apart wherever runs are listed."""
        return StrategyEntry(name=EXTERNAL, config={})

    @property
    def modalities(self) -> Mapping[str, ModalityEntry]:
        """None: what the predictions were made from is not known here."""
        return {}


@dataclass(frozen=True)
class ExternalRun:
    """An opened run without a model. hash: 16 hex digits over config and predictions."""

    folder: Path
    config: ExternalConfig
    frame: pd.DataFrame
    """By subject_id: value (log-risk or score, higher is worse; logit a class for class tasks:
    value_0, value_1, ...), event_probability until `horizon_days` where one was stated."""
    hash: str

    def check_cohort(self, cohort: Cohort) -> None:
        """Raise CohortError unless the cohort is, byte for byte, the one they were imported for."""
        if cohort.fingerprint != self.config.cohort.fingerprint:
            raise CohortError(
                f"the predictions of '{self.config.name}' were imported for another cohort, or "
                f"another version of cohort '{cohort.spec.name}'; import them again for this one."
            )

    def of(self, cohort: Cohort, subject_ids: npt.ArrayLike) -> tuple[Ids, Floats]:
        """Those of the patients who have a prediction, in the order given, and values (n, K)."""
        self.check_cohort(cohort)
        asked = np.asarray(subject_ids, np.int64)
        found = asked[np.isin(asked, self.frame.index.to_numpy(np.int64))]
        columns = [name for name in self.frame if str(name).startswith("value")]
        return found, self.frame.loc[found, columns].to_numpy(np.float64)

    def event_probability(self, subject_ids: npt.ArrayLike) -> Floats | None:
        """(n,) stated probability of the event by the horizon, as in the file; None if none was."""
        if "event_probability" not in self.frame:
            return None
        stated = self.frame.loc[np.asarray(subject_ids, np.int64), "event_probability"]
        return stated.to_numpy(np.float64)

    @cached_property
    def calibration_note(self) -> str:
        """Where event-free curves of these predictions come from, or why there are none."""
        made = self.config.predictions.calibration
        if made is None:
            return f"{self.config.title}: {self.config.predictions.uncalibrated}"
        where = " and ".join(made.learned_on).replace("train", "training", 1)
        return (
            f"{self.config.title}: the predictions state no event-free curve; a Cox slope and "
            f"Breslow's baseline hazard were learned on {made.n:,} {where} patients of the cohort."
        )


AnyRun = Run | ExternalRun
"""Whatever predicts."""


def without_model(titles: Sequence[str]) -> str:
    """Why runs are not offered where a model is needed, in a sentence."""
    many = len(titles) > 1
    return (
        f"{'; '.join(titles)}: {'their' if many else 'its'} predictions were made elsewhere and "
        f"came without a model, so there is nothing to explain or to ask with fewer modalities. "
        f"Compare and Survival show {'them' if many else 'it'}."
    )


# ---------------------------------------------------------------- reading


def is_external(folder: Path) -> bool:
    """Whether a folder says that it holds predictions instead of weights; nothing is checked."""
    try:
        content = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and PREDICTIONS in content


def read_external_config(folder: Path) -> ExternalConfig:
    """The validated config.json of a run without a model. Raises RunError."""
    path = Path(folder) / CONFIG_FILE
    try:
        return ExternalConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: there is no such file; import the predictions again.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(
            f"{path}: field '{where}': {first['msg']}; import the predictions again."
        ) from error


def load_external(folder: Path) -> ExternalRun:
    """Open a run without a model. Raises RunError when its table is missing or damaged."""
    folder = Path(folder)
    config = read_external_config(folder)
    path = folder / PREDICTIONS_FILE
    try:
        frame = read_frame(path, ("subject_id",)).set_index("subject_id")
    except CohortError as error:
        raise RunError(
            f"{path}: not readable ({type(error.__cause__ or error).__name__}); import the "
            "predictions again."
        ) from error
    width = config.task.outputs
    named = [name for name in frame if str(name).startswith("value")]
    sound = all(pd.api.types.is_float_dtype(t) for t in frame.dtypes)
    if not sound or len(named) != width or frame.index.has_duplicates:
        raise RunError(f"{path}: does not fit config.json; import the predictions again.")
    if not np.isfinite(frame.to_numpy()).all():
        raise RunError(f"{path}: holds values that are not finite; import the predictions again.")
    return ExternalRun(folder, config, frame, external_hash(folder))


def external_hash(folder: Path) -> str:
    """16 hex digits over config.json and predictions.parquet."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, PREDICTIONS_FILE):
        try:
            digest.update((Path(folder) / name).read_bytes())
        except OSError as error:
            raise RunError(
                f"{Path(folder) / name}: there is no such file; import the predictions again."
            ) from error
    return digest.hexdigest()[:16]


def hash_of(folder: Path) -> str:
    """The hash of a run of either kind, read without loading it. Raises RunError."""
    return external_hash(folder) if is_external(folder) else run_hash(folder)


def open_run(folder: Path, encoder_folders: Sequence[Path] = ()) -> AnyRun:
    """A run of either kind. Raises RunError in one sentence."""
    return load_external(folder) if is_external(folder) else load_run(folder, encoder_folders)


def baseline_of(run: AnyRun) -> BaselineHazard:
    """A run's baseline hazard. Raises RunError where it has none."""
    if isinstance(run, ExternalRun) and run.config.predictions.calibration is None:
        raise RunError(run.calibration_note)
    return read_baseline(run.folder)


def log_risk(run: AnyRun, risk: Floats) -> Floats:
    """(n,) log-risk to go with `baseline_of`; for a model it is the risk as predicted."""
    if isinstance(run, ExternalRun) and run.config.predictions.calibration is not None:
        return run.config.predictions.calibration.slope * risk
    return risk
