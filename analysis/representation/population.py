"""The patients of some splits as a run represents them, with what they can be coloured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.classification.data import probability
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError, Split
from analysis.evaluation import check_fit
from analysis.features import Ids, Progress
from analysis.outlook import class_names, percentiles
from analysis.predict import Predictions, predict_stored
from analysis.representation.embeddings import Embeddings, designed_sample, stages_of
from analysis.store import ResultStore
from models.checkpoint import Run

ALL = "all"
MOST_POINTS = 15_000


@dataclass(frozen=True, kw_only=True)
class Population:
    """Patients, what happened to them, what the run predicts, and their embeddings.

    people: one row a patient, in the order of the embeddings: subject_id, split, site, outcome
    (text: what happened), time_days (survival), group (int, see `outcome_groups`), prediction
    (log-risk, or the probability of the last class) and percentile (of the log-risk, among the
    run's training patients). stages: {'before', 'after'} where the run gives them. n_all: patients
    before sampling. n_unread: patients without any of the run's modalities, who have no point.
    compared_with: whom the percentiles are of. seed: of the sample.
    """

    run: Run
    cohort: Cohort
    splits: tuple[str, ...]
    people: pd.DataFrame
    stages: dict[str, Embeddings]
    raw: Predictions
    n_all: int
    n_unread: int
    compared_with: str
    seed: int

    @property
    def titles(self) -> dict[str, str]:
        """{modality: its title}, in the run's order."""
        return {name: entry.title for name, entry in self.run.config.modalities.items()}

    @property
    def n_points(self) -> int:
        """Embeddings of a stage."""
        stage = next(iter(self.stages.values()))
        return int(sum(there.sum() for there in stage.present.values()))


def splits_of(cohort: Cohort, task: str, asked: str | Sequence[str]) -> tuple[str, ...]:
    """The splits that 'all' or names of splits stand for. Raises CohortError for an empty one."""
    if asked == ALL:
        found = tuple(str(s) for s in Split if len(cohort.subject_ids(s, task)))
    else:
        found = (asked,) if isinstance(asked, str) else tuple(asked)
    for split in found:
        if not len(cohort.subject_ids(split, task)):
            raise CohortError(
                f"cohort '{cohort.spec.name}' has no patients of split '{split}' with an outcome "
                f"for '{task}'; choose another split, or '{ALL}'."
            )
    return found


def population(
    run: Run,
    cohort: Cohort,
    splits: str | Sequence[str],
    store: ResultStore,
    *,
    training: Cohort | None = None,
    most_points: int = MOST_POINTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Population:
    """The patients of `splits` ('all', or names) who have an outcome for the run's task.

    training: the cohort that the run was trained on, for percentiles; None where it is not at
    hand. Above `most_points` embeddings a designed sample of the patients is taken: systematic,
    over split, outcome, site and time. Raises CohortError when the run does not fit or nobody
    can be read.
    """
    check_fit(run, cohort)
    task = run.config.task.name
    names = splits_of(cohort, task, splits)
    made = _joined([predict_stored(run, cohort, s, store, progress) for s in names])
    people = _people(run, cohort, made)
    n_all, known = len(people), np.flatnonzero(made.known)
    if not len(known):
        raise CohortError(
            f"cohort '{cohort.spec.name}': no patient of {', '.join(names)} has any of "
            f"{', '.join(run.config.modalities)}, so there is nothing to show."
        )
    points = int(sum(there.sum() for there in made.present.values()))
    wanted = len(known) if points <= most_points else int(most_points * len(known) / points)
    drawn = known[designed_sample(people.loc[known, _SAMPLED_OVER], wanted, seed)]
    made = _taken(made, drawn)
    people = people.loc[drawn].reset_index(drop=True)
    risks, compared_with = _training_risks(run, training, store, people)
    if risks is not None:
        people["percentile"] = percentiles(people["prediction"], risks)
    return Population(
        run=run,
        cohort=cohort,
        splits=names,
        people=people,
        stages=stages_of(made, list(run.config.modalities)),
        raw=made,
        n_all=n_all,
        n_unread=n_all - len(known),
        compared_with=compared_with,
        seed=seed,
    )


_SAMPLED_OVER = ["split", "outcome", "site", "time_days"]


def outcome_groups(
    event: npt.ArrayLike, time_days: npt.ArrayLike, horizon_days: float | None
) -> npt.NDArray[np.int64]:
    """(n,) 1: the event by the horizon, 0: followed to the horizon without it, -1: not known.

    Without a horizon: 1 the event was seen, 0 it was not.
    """
    happened, time = np.asarray(event, bool), np.asarray(time_days, np.float64)
    if horizon_days is None:
        return happened.astype(np.int64)
    early = happened & (time <= horizon_days)
    return np.where(early, 1, np.where(time >= horizon_days, 0, -1)).astype(np.int64)


def outcome_words(run: Run) -> dict[int, str]:
    """What the groups of `outcome_groups`, or of a class task, are called."""
    task = run.config.task
    if task.kind == "classification":
        return dict(enumerate(class_names(task.classes, task.outputs)))
    if task.horizon_days is None:
        return {0: "no event seen", 1: "event"}
    days = f"{task.horizon_days:,.0f} days"
    return {0: f"no event within {days}", 1: f"event within {days}", -1: f"followed under {days}"}


def _people(run: Run, cohort: Cohort, made: Predictions) -> pd.DataFrame:
    task = run.config.task
    found = cohort.outcomes(task.name, made.subject_ids)
    about = cohort.subjects.loc[made.subject_ids]
    frame = pd.DataFrame(
        {
            "subject_id": made.subject_ids,
            "split": about["split"].astype(str).to_numpy(),
            "site": about["site"].fillna("").astype(str).to_numpy(),
        }
    )
    if found.time_days is not None and found.event is not None:
        frame["outcome"] = np.where(found.event, "event", "censored")
        frame["time_days"] = found.time_days
        frame["group"] = outcome_groups(found.event, found.time_days, task.horizon_days)
        frame["prediction"] = made.values[:, 0]
    else:
        assert found.label is not None
        names = outcome_words(run)
        frame["outcome"] = [names.get(int(i), f"class {i}") for i in found.label]
        frame["time_days"] = np.nan
        frame["group"] = found.label
        chances = probability(made.values)
        frame["prediction"] = chances if chances.ndim == 1 else chances[:, -1]
    frame["percentile"] = np.nan
    return frame


def _training_risks(
    run: Run, training: Cohort | None, store: ResultStore, people: pd.DataFrame
) -> tuple[npt.NDArray[np.float64] | None, str]:
    """Whom a risk is compared with: training patients, else those shown; None for classes."""
    task = run.config.task
    if task.kind != "survival":
        return None, ""
    if training is not None and len(training.subject_ids("train", task.name)):
        return predict_stored(run, training, "train", store).risk, "the run's training patients"
    return people["prediction"].to_numpy(np.float64), "the patients shown"


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of several splits, one after the other."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def join(name: str) -> dict[str, Any]:
        every = [getattr(part, name) for part in parts]
        return {k: np.concatenate([found[k] for found in every]) for k in every[0]}

    return replace(
        first,
        subject_ids=np.concatenate([p.subject_ids for p in parts]),
        values=np.concatenate([p.values for p in parts]),
        present=join("present"),
        before=join("before"),
        after=join("after"),
        fused=np.concatenate([p.fused for p in parts]),
    )


def _taken(made: Predictions, rows: Ids) -> Predictions:
    def take(name: str) -> dict[str, Any]:
        return {k: v[rows] for k, v in getattr(made, name).items()}

    return replace(
        made,
        subject_ids=made.subject_ids[rows],
        values=made.values[rows],
        present=take("present"),
        before=take("before"),
        after=take("after"),
        fused=made.fused[rows],
    )
