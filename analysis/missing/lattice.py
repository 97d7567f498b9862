"""Adding a modality to a combination, for the whole set of complete patients.

The combinations of a run's modalities form a lattice: an edge leads from a combination to the
same with one modality more. A monotone fusion scores no lower at the upper end of any edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.classification.data import LabelData, probability
from analysis.classification.delong import auc_interval, auc_test, delong
from analysis.classification.evaluation import interval_json, label_data, number_json
from analysis.cohort.cohort import Cohort
from analysis.evaluation import survival_data
from analysis.missing.design import Combination, Design
from analysis.missing.predictions import Floats, SubsetPredictions
from analysis.survival.comparison import LEVEL, ConfidenceInterval, compare, holm
from models.checkpoint import Run

Edge = tuple[Combination, Combination]
Tested = tuple[ConfidenceInterval, float]


def edges(design: Design) -> tuple[Edge, ...]:
    """(combination, the same with one modality more) of all non-empty ones in the design."""
    known = set(design.combinations)
    found = []
    for upper in design.combinations:
        for name in upper:
            lower = tuple(n for n in upper if n != name)
            if lower and lower in known:
                found.append((lower, upper))
    return tuple(found)


def lattice(
    run: Run, cohort: Cohort, found: SubsetPredictions, n_resamples: int, seed: int
) -> dict[str, Any]:
    """Scores of the combinations and what each edge adds, in complete patients.

    `nodes`: modalities, score. `edges`: modalities (before), added, difference (after minus
    before, paired by patient: bootstrap of Harrell's C, or DeLong) and p, Holm over the edges.
    `lower`: edges that score lower with the modality; `beyond_chance`: of these, the interval
    lies below zero; `after_holm`: also Holm p < 0.05. `undefined` says why there is no score.
    """
    rows = found.complete
    metric = "c_index" if run.config.task.kind == "survival" else "auc"
    if not rows.any():
        return _empty(metric, 0, None, "No patient has all of the run's modalities.")
    wanted = edges(found.design)
    values = {c: found.of(c)[rows] for c in found.design.combinations if c}
    ids = found.subject_ids[rows]
    task = run.config.task
    events: int | None
    if metric == "c_index":
        data = survival_data(cohort, task.name, ids)
        compared = compare(
            data,
            {_name(c): v[:, 0] for c, v in values.items()},
            n_resamples,
            seed,
            pairs=[(_name(upper), _name(lower)) for lower, upper in wanted],
        )
        undefined = compared.undefined
        events = data.n_events
        nodes = {c: r.c for c, r in zip(values, compared.runs, strict=True)}
        tested = [(d.difference, d.p) for d in compared.differences]
    else:
        labels = label_data(cohort, task.name, task.classes, ids)
        undefined = labels.undefined
        events = int(labels.counts[1]) if labels.is_binary else None
        if undefined is not None:
            return _empty(metric, len(ids), events, undefined)
        nodes, tested = _areas(labels, values, wanted)
    return {
        "metric": metric,
        "n": len(ids),
        "events": events,
        "undefined": undefined,
        "nodes": [{"modalities": list(c), metric: interval_json(v)} for c, v in nodes.items()],
        **_counted(wanted, tested),
    }


def _areas(
    labels: LabelData, values: dict[Combination, Floats], wanted: tuple[Edge, ...]
) -> tuple[dict[Combination, ConfidenceInterval], list[Tested]]:
    found = delong(labels, [probability(v) for v in values.values()])
    at = {c: i for i, c in enumerate(values)}
    nodes = {
        c: auc_interval(float(found.auc[i]), float(found.covariance[i, i])) for c, i in at.items()
    }
    tests = [auc_test(found, at[upper], at[lower]) for lower, upper in wanted]
    return nodes, [(test.difference, test.p) for test in tests]


def _counted(wanted: tuple[Edge, ...], tested: list[Tested]) -> dict[str, Any]:
    adjusted = holm(np.array([p for _, p in tested], np.float64)).tolist()
    rows = [
        {
            "modalities": list(lower),
            "added": next(n for n in upper if n not in lower),
            "difference": interval_json(gap),
            "p": number_json(p),
            "p_holm": number_json(p_holm),
        }
        for (lower, upper), (gap, p), p_holm in zip(wanted, tested, adjusted, strict=True)
    ]
    below = [gap.high < 0 for gap, _ in tested]
    return {
        "edges": rows,
        "lower": sum(gap.value < 0 for gap, _ in tested),
        "beyond_chance": sum(below),
        "after_holm": sum(b and p < 1 - LEVEL for b, p in zip(below, adjusted, strict=True)),
    }


def _empty(metric: str, n: int, events: int | None, why: str) -> dict[str, Any]:
    return {
        "metric": metric,
        "n": n,
        "events": events,
        "undefined": why,
        "nodes": [],
        "edges": [],
        "lower": 0,
        "beyond_chance": 0,
        "after_holm": 0,
    }


def _name(combination: Combination) -> str:
    return " + ".join(combination)
