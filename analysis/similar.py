"""Patients whom a run sees alike, with what happened to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.case import AttributionError, Case
from analysis.cohort.cohort import Cohort
from analysis.predict import predict_stored
from analysis.store import ResultStore

Floats = npt.NDArray[np.float64]


def similar_patients(
    case: Case,
    store: ResultStore,
    k: int = 8,
    split: str = "train",
    among: Cohort | None = None,
) -> pd.DataFrame:
    """The `k` patients of a split nearest to the patient in the run's fused space, nearest first.

    Columns: subject_id; distance (>= 0), the root mean square difference over the fused
    dimensions after each is divided by its sd over the split's patients (dimensions that do not
    vary there are left out), so 1 is a typical difference of one sd; similarity = 1 / (1 +
    distance), in (0, 1]; log_risk (nan for classes); time_days and event (survival) or label
    (class number); age_years, sex, site. Alike is what the fusion layer holds of two patients
    before its head: also lacking the same modality makes patients alike. The patient is
    never a neighbour of their own, and neither is a patient without any of the run's modalities.

    among: the cohort to look in, the patient's own if not given. Their outcomes are few numbers:
    a Kaplan-Meier curve of 8 patients shows little, and a page must say so.
    Raises AttributionError when the split has fewer than `k` other patients.
    """
    cohort = case.cohort if among is None else among
    task = case.run.config.task
    ids = cohort.subject_ids(split, task.name)
    own = case.subject_id if cohort.fingerprint == case.cohort.fingerprint else None
    if k < 1 or np.count_nonzero(ids != own) < k:
        raise _too_few(cohort, split, int(np.count_nonzero(ids != own)), k)
    found = predict_stored(case.run, cohort, split, store)
    usable = found.known & (found.subject_ids != own)
    if np.count_nonzero(usable) < k:
        raise _too_few(cohort, split, int(np.count_nonzero(usable)), k)
    fused = found.fused[usable].astype(np.float64)
    distance = standardised_distance(case.output.fused[0].double().numpy(), fused)
    nearest = np.argsort(distance, kind="stable")[:k]
    chosen = found.subject_ids[usable][nearest]
    survival = task.kind == "survival"
    outcomes = cohort.outcomes(task.name, chosen)
    people = cohort.subjects.loc[chosen]
    frame = pd.DataFrame(
        {
            "subject_id": chosen,
            "distance": distance[nearest],
            "similarity": 1 / (1 + distance[nearest]),
            "log_risk": found.values[usable][nearest, 0] if survival else np.nan,
        }
    )
    if survival:
        frame = frame.assign(time_days=outcomes.time_days, event=outcomes.event)
    else:
        frame = frame.assign(label=outcomes.label)
    return frame.assign(**{name: people[name].to_numpy() for name in ("age_years", "sex", "site")})


def standardised_distance(one: Floats, many: Floats) -> Floats:
    """(n,) root mean square difference of `one` (D,) to each row of `many` (n, D), in sd of `many`.

    Dimensions that do not vary over `many` are left out.
    """
    sd = many.std(axis=0)
    varies = sd > 1e-6 * max(1.0, float(np.abs(many).max()))
    if not varies.any():
        return np.zeros(len(many))
    z = (many[:, varies] - one[varies]) / sd[varies]
    distance: Floats = np.sqrt(np.mean(z**2, axis=1))
    return distance


def _too_few(cohort: Cohort, split: str, n: int, k: int) -> AttributionError:
    return AttributionError(
        f"cohort '{cohort.spec.name}' has {n} other patients of split '{split}' that the run "
        f"can read, fewer than the {k} asked for; ask for fewer or choose another split."
    )
