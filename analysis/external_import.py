"""Makes a run without a model of a table of predictions that were made elsewhere.

Survival: `risk` is any score that is higher when worse; `probability` is that of the event by a
horizon, `survival` that of being event-free until then. A probability p is kept as log(-log(1-p)),
the log-risk of a proportional hazards model up to a constant, so that ranking and cut-offs work
as for any run; as stated it is kept beside. Class tasks: `probability` of the second class, or a
column a class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from analysis.baseline_file import write_baseline
from analysis.cohort.cohort import Cohort
from analysis.cohort.readers.frame import read_frame
from analysis.cohort.schema import CohortError, Split, TaskSpec
from analysis.cohort.write import atomic_folder
from analysis.evaluation import LEARNING_SPLITS, survival_data
from analysis.external import (
    PREDICTIONS_FILE,
    Calibration,
    ExternalConfig,
    ExternalRun,
    PredictionsEntry,
    load_external,
)
from analysis.survival.baseline import BaselineHazard, breslow
from analysis.survival.concordance import harrell_c, why_undefined
from models.checkpoint import BASELINE_FILE, CONFIG_FILE, CohortEntry, TaskEntry

PredictionKind = Literal["risk", "probability", "survival"]
Floats = npt.NDArray[np.float64]
Note = Callable[[str], None]

KINDS: tuple[PredictionKind, ...] = ("risk", "probability", "survival")
INVERTED_BELOW = 0.45
"""A concordance below this on at least `FEWEST_EVENTS` events looks like a scale upside down."""
FEWEST_EVENTS = 10
_SUM_TOLERANCE = 1e-4  # a CSV rounds
_SMALLEST = 1e-12  # of a survival task's probabilities: beyond it the log-risk is cut
_TINIEST = 1e-300  # of a class task's: the logit comes back as the probability it was


@dataclass(frozen=True)
class _Given:
    """What a file says. values: by subject_id, as in `ExternalRun.frame`."""

    kind: PredictionKind
    column: str
    values: pd.DataFrame


def import_predictions(
    src: Path | str,
    cohort_folder: Path | str,
    task: str,
    name: str,
    out: Path | str,
    *,
    title: str = "",
    kind: PredictionKind | None = None,
    horizon_days: float | None = None,
    note: Note | None = None,
) -> ExternalRun:
    """Make the run folder `out` of the predictions in `src`, and open it.

    src: parquet or CSV with subject_id and the columns the module names; where kind is not said,
    the only one of them that is there counts, and a probability beside a risk is judged at the
    horizon. horizon_days: the task's where not said. note: called with a sentence for whatever
    a reader should know. Raises CohortError in one sentence (file, what, remedy) for unknown or
    repeated patients, values that are missing, infinite or no probabilities, a run that is there
    already; nothing is then left behind.
    """
    src, say = Path(src), note or (lambda sentence: None)
    cohort = Cohort.open(cohort_folder)
    spec = cohort.spec.task(task)
    frame = read_frame(src, ("subject_id",))
    _check_subjects(src, frame, cohort)
    horizon = horizon_days if horizon_days is not None else spec.horizon_days
    frame = frame.set_index("subject_id").sort_index()
    given = (
        _survival(src, frame, kind, horizon)
        if spec.kind == "survival"
        else _classes(src, frame, kind, spec)
    )
    warnings = [w for w in (_looks_inverted(cohort, task, spec, given.values),) if w]
    made, baseline, why = _calibrated(cohort, task, spec, given.values)
    predicted, without = _covered(cohort, task, given.values)
    config = _config(
        cohort,
        task,
        name,
        title or name,
        PredictionsEntry(
            source=src.name,
            source_sha256=hashlib.sha256(src.read_bytes()).hexdigest(),
            imported=datetime.now(UTC).isoformat(timespec="seconds"),
            kind=given.kind,
            column=given.column,
            horizon_days=horizon if "event_probability" in given.values else None,
            rows=len(frame),
            predicted=predicted,
            without=without,
            calibration=made,
            uncalibrated=why,
            warnings=tuple(warnings),
        ),
    )
    with atomic_folder(Path(out)) as partial:
        given.values.reset_index().to_parquet(partial / PREDICTIONS_FILE, index=False)
        if baseline is not None:
            write_baseline(baseline, partial / BASELINE_FILE)
        text = config.model_dump_json(indent=2)
        (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
    run = load_external(Path(out))
    for sentence in [*warnings, *_said(run)]:
        say(sentence)
    return run


def _config(
    cohort: Cohort, task: str, name: str, title: str, predictions: PredictionsEntry
) -> ExternalConfig:
    spec = cohort.spec.task(task)
    try:
        return ExternalConfig(
            name=name,
            title=title,
            task=TaskEntry(
                name=task,
                kind=spec.kind,
                title=spec.title,
                event_title=spec.event_title,
                horizon_days=spec.horizon_days,
                classes=spec.classes,
            ),
            cohort=CohortEntry(
                name=cohort.spec.name, title=cohort.spec.title, fingerprint=cohort.fingerprint
            ),
            predictions=predictions,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CohortError(
            f"{'.'.join(map(str, first['loc']))} '{first['input']}' cannot be used: "
            f"{first['msg']}; choose letters, digits, dots, dashes, underscores."
        ) from error


# ---------------------------------------------------------------- what the file says


def _check_subjects(src: Path, frame: pd.DataFrame, cohort: Cohort) -> None:
    ids = frame["subject_id"]
    if not len(ids):
        raise CohortError(f"{src}: there are no rows; write one a patient.")
    unknown = ids[~ids.isin(cohort.subjects.index)]
    if len(unknown):
        raise CohortError(
            f"{src}: subject_id {unknown.iloc[0]} ({len(unknown):,} of {len(ids):,} rows) is not "
            f"in cohort '{cohort.spec.name}'; use the ids of its subjects.parquet."
        )
    twice = ids[ids.duplicated()]
    if len(twice):
        raise CohortError(
            f"{src}: subject_id {twice.iloc[0]} has two rows ({len(twice):,} such rows); keep one "
            "prediction a patient."
        )


def _survival(
    src: Path, frame: pd.DataFrame, kind: PredictionKind | None, horizon: float | None
) -> _Given:
    kind = kind or _only_kind(src, frame)
    stated = kind if kind != "risk" else ("probability" if "probability" in frame else None)
    probability = None
    if stated is not None:
        if horizon is None:
            raise CohortError(
                f"{src}: column '{stated}' is a probability, and neither --horizon nor the task "
                "says until which day; add --horizon DAYS."
            )
        if not (np.isfinite(horizon) and horizon > 0):
            raise CohortError(f"--horizon {horizon:g}: give a number of days above 0.")
        probability = _probabilities(src, frame, stated)
        if stated == "survival":
            probability = 1 - probability
    if kind == "risk":
        value = _numbers(src, frame, "risk")
    else:
        assert probability is not None
        inside = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
        value = np.log(-np.log1p(-inside))
    columns = {"value": value}
    if probability is not None:
        columns["event_probability"] = probability
    return _Given(kind, kind, pd.DataFrame(columns, index=frame.index))


def _only_kind(src: Path, frame: pd.DataFrame) -> PredictionKind:
    there = [kind for kind in KINDS if kind in frame]
    if there == ["risk", "probability"]:
        return "risk"
    if len(there) != 1:
        found = f"has {' and '.join(there)}" if there else f"has {', '.join(map(str, frame))}"
        raise CohortError(
            f"{src}: {found} beside subject_id; it needs one column named risk, probability or "
            "survival, or --kind to choose."
        )
    return there[0]


def _classes(src: Path, frame: pd.DataFrame, kind: PredictionKind | None, spec: TaskSpec) -> _Given:
    if kind in ("risk", "survival") or (
        kind is None and "probability" not in frame and "risk" in frame
    ):
        raise CohortError(
            f"{src}: '{spec.title}' is a class task, which needs probabilities, not a "
            f"{kind or 'risk'}; give a column 'probability'."
        )
    if len(spec.classes) == 2:
        p = _probabilities(src, frame, "probability")
        logit = np.log(np.maximum(p, _TINIEST)) - np.log(np.maximum(1 - p, _TINIEST))
        values = pd.DataFrame({"value": logit}, index=frame.index)
        return _Given("probability", "probability", values)
    each = {f"value_{i}": _probabilities(src, frame, c) for i, c in enumerate(spec.classes)}
    values = pd.DataFrame(each, index=frame.index)
    off = (values.sum(axis=1) - 1).abs() > _SUM_TOLERANCE
    if off.any():
        raise CohortError(
            f"{src}: the classes' probabilities of subject_id {values.index[off][0]} sum to "
            f"{values[off].iloc[0].sum():g} ({int(off.sum()):,} such rows); make them sum to 1."
        )
    logits = cast(pd.DataFrame, np.log(values.clip(lower=_TINIEST)))
    return _Given("probability", ", ".join(spec.classes), logits)


def _probabilities(src: Path, frame: pd.DataFrame, column: str) -> Floats:
    numbers = _numbers(src, frame, column)
    outside = (numbers < 0) | (numbers > 1)
    if outside.any():
        at = int(np.argmax(outside))
        raise CohortError(
            f"{src}: column '{column}' holds {numbers[at]:g} for subject_id {frame.index[at]} "
            f"({int(outside.sum()):,} values outside 0 to 1); give probabilities, or name the "
            "column risk."
        )
    return numbers


def _numbers(src: Path, frame: pd.DataFrame, column: str) -> Floats:
    if column not in frame:
        raise CohortError(
            f"{src}: column '{column}' is missing (found: {', '.join(map(str, frame))}); add or "
            "rename it."
        )
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        at = int(np.argmax(bad))
        raise CohortError(
            f"{src}: column '{column}' holds no finite number for subject_id {frame.index[at]} "
            f"({int(bad.sum()):,} such rows); leave patients without a prediction out of the file."
        )
    return numbers


# ---------------------------------------------------------------- what the cohort adds


def _learning_ids(
    cohort: Cohort, task: str, values: pd.DataFrame
) -> dict[str, npt.NDArray[np.int64]]:
    found = {split: cohort.subject_ids(split, task) for split in LEARNING_SPLITS}
    known = {split: ids[np.isin(ids, values.index)] for split, ids in found.items()}
    return {split: ids for split, ids in known.items() if len(ids)}


def _looks_inverted(cohort: Cohort, task: str, spec: TaskSpec, values: pd.DataFrame) -> str | None:
    """A warning where the patients with the event are ranked lower, not higher.

    On training and tuning patients, or on all where the cohort has none of them.
    """
    learning = _learning_ids(cohort, task, values)
    where = f"the {' and '.join(learning).replace('train', 'training', 1)} patients"
    ids = np.concatenate(list(learning.values())) if learning else None
    if ids is None:
        ids, where = cohort.subject_ids(None, task), "the patients"
        ids = ids[np.isin(ids, values.index)]
    if spec.kind == "survival" and len(ids):
        data = survival_data(cohort, task, ids)
        if why_undefined(data) is not None or data.n_events < FEWEST_EVENTS:
            return None
        found, name = harrell_c(data, values.loc[ids, "value"]), "concordance"
    elif len(spec.classes) == 2 and len(ids):
        label = cohort.outcomes(task, ids).label
        assert label is not None
        if min((label == 1).sum(), (label == 0).sum()) < FEWEST_EVENTS:
            return None
        found, name = float(roc_auc_score(label, values.loc[ids, "value"])), "AUC"
    else:
        return None
    if found >= INVERTED_BELOW:
        return None
    return (
        f"The scale looks upside down: {name} {found:.3f} on {len(ids):,} of {where}, where 0.5 is "
        "chance. Higher must be worse; turn the values round if they are not."
    )


def _calibrated(
    cohort: Cohort, task: str, spec: TaskSpec, values: pd.DataFrame
) -> tuple[Calibration | None, BaselineHazard | None, str | None]:
    """Cox slope and Breslow's baseline of the learning patients, or why there are none."""
    if spec.kind != "survival":
        return None, None, None
    learning = _learning_ids(cohort, task, values)
    only = "so only the ranking of patients can be judged, no event-free probability over time"
    if not learning:
        return None, None, f"no training or tuning patient has a prediction, {only}."
    ids = np.concatenate(list(learning.values()))
    data, value = survival_data(cohort, task, ids), values.loc[ids, "value"].to_numpy(np.float64)
    spread = float(value.std())
    if data.n_events < FEWEST_EVENTS or spread == 0:
        reason = "do not differ" if spread == 0 else f"come with {data.n_events} events only"
        return None, None, f"the predictions of the learning patients {reason}, {only}."
    cox = CoxPHSurvivalAnalysis(ties="breslow")
    scaled = (value - value.mean()) / spread
    cox.fit(scaled[:, None], Surv.from_arrays(data.event, data.time_days))
    slope = float(cox.coef_[0]) / spread
    if not slope > 0:
        return None, None, f"higher values go with later events in the learning patients, {only}."
    made = Calibration(slope=slope, learned_on=tuple(learning), n=data.n, events=data.n_events)
    return made, breslow(data, slope * value), None


def _covered(
    cohort: Cohort, task: str, values: pd.DataFrame
) -> tuple[dict[str, int], dict[str, int]]:
    """Patients with an outcome, by split: those with a prediction, those without."""
    predicted, without = {}, {}
    for split in Split:
        ids = cohort.subject_ids(split, task)
        if len(ids):
            predicted[str(split)] = int(np.isin(ids, values.index).sum())
            without[str(split)] = len(ids) - predicted[str(split)]
    return predicted, without


def _said(run: ExternalRun) -> list[str]:
    """What a reader should know of the new run."""
    entry = run.config.predictions
    lacking = [
        f"{n:,} of {n + entry.predicted[split]:,} {split}"
        for split, n in entry.without.items()
        if n
    ]
    said = []
    if lacking:
        said.append(
            f"Patients with an outcome but without a prediction: {', '.join(lacking)}; they are "
            "left out of every comparison with this run."
        )
    if run.config.task.kind == "survival":
        said.append(run.calibration_note)
    return said
