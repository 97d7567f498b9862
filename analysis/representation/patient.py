"""One patient's embeddings side by side: modalities by dimensions (Zheng et al. 2026, HAF, fig. 4).

Every row is put on a scale of its own, since modalities differ in length:
    as given      the embedding divided by its root mean square, so that 1 is a typical size;
    standardised  every dimension minus its mean, in sd, over the patients who have the modality,
                  so that what is common to all patients of a modality is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.classification.evaluation import number_json
from analysis.representation.embeddings import STAGES, Floats
from analysis.representation.population import Population

Scale = Literal["as_given", "standardised"]


@dataclass(frozen=True)
class PatientRows:
    """One patient at one stage.

    rows: {modality: (D,)} on `scale`, those that the patient has; correlation: {(a, b): Pearson r
    over the dimensions}, nan where a row does not vary, empty where widths differ; mean: of these;
    others: the same mean with the rows of other patients in place of b's, nan where there is none.
    """

    subject_id: int
    stage: str
    scale: Scale
    rows: dict[str, Floats]
    correlation: dict[tuple[str, str], float]
    mean: float
    others: float


def patient_rows(people: Population, subject_id: int, scale: Scale) -> dict[str, PatientRows]:
    """{stage: rows} of a patient of the population. Raises ValueError for another one."""
    at = np.flatnonzero(people.raw.subject_ids == subject_id)
    if not len(at):
        raise ValueError(f"patient {subject_id} is not among the patients shown.")
    found = {}
    for stage in STAGES:
        given = getattr(people.raw, stage)
        every = {
            name: scaled(np.asarray(given[name], np.float64)[people.raw.present[name]], scale)
            for name in people.titles
            if name in given
        }
        where = {name: np.flatnonzero(people.raw.present[name]) for name in every}
        mine = {
            name: int(np.searchsorted(where[name], at[0]))
            for name in every
            if people.raw.present[name][at[0]]
        }
        if every:
            found[stage] = _one(subject_id, stage, scale, every, mine)
    return found


def rows_json(found: Mapping[str, PatientRows]) -> dict[str, Any]:
    """The numbers beside the heat map as plain JSON; the rows themselves are left out."""
    first = next(iter(found.values()))
    return {
        "subject_id": first.subject_id,
        "scale": first.scale,
        "stages": {
            stage: {
                "mean_correlation": number_json(one.mean),
                "with_other_patients": number_json(one.others),
                "pairs": [
                    {"of": list(pair), "correlation": number_json(r)}
                    for pair, r in one.correlation.items()
                ],
            }
            for stage, one in found.items()
        },
    }


def scaled(rows: Floats, scale: Scale) -> Floats:
    """Rows (n, D) of one modality on a scale; see the module. What does not vary becomes zero."""
    if scale == "as_given":
        size = np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
        return np.asarray(rows / np.where(size > 0, size, 1.0), np.float64)
    sd = rows.std(axis=0)
    varies = sd > 1e-9 * max(1.0, float(np.abs(rows).max(initial=0.0)))
    centred = (rows - rows.mean(axis=0)) * varies
    return np.asarray(centred / np.where(varies, sd, 1.0), np.float64)


def _one(
    subject_id: int,
    stage: str,
    scale: Scale,
    every: dict[str, Floats],
    mine: dict[str, int],
) -> PatientRows:
    rows = {name: every[name][at] for name, at in mine.items()}
    correlation: dict[tuple[str, str], float] = {}
    beside = []
    names = list(rows)
    if len({len(row) for row in rows.values()}) == 1:
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                correlation[a, b] = float(_pearson(rows[a], rows[b][None])[0])
                for one, other in ((a, b), (b, a)):
                    rest = np.delete(every[other], mine[other], axis=0)
                    beside.append(_pearson(rows[one], rest))
    values = np.array(list(correlation.values()))
    others = np.concatenate(beside) if beside else np.empty(0)
    return PatientRows(subject_id, stage, scale, rows, correlation, _mean(values), _mean(others))


def _pearson(one: Floats, many: Floats) -> Floats:
    """(n,) correlation of a row (D,) with rows (n, D); nan where one does not vary."""
    x, y = one - one.mean(), many - many.mean(axis=1, keepdims=True)
    below = np.linalg.norm(x) * np.linalg.norm(y, axis=1)
    missing = np.full(len(many), np.nan)
    return np.asarray(np.divide(y @ x, below, out=missing, where=below > 1e-12))


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
