"""What alignment changed, in numbers: what `fusionlens represent --json` prints and the page shows.

Every number stands before and after alignment, with its interval, with what it would be by
chance, and with the change on the same patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import analysis.representation.between
import analysis.representation.matching
import analysis.representation.spectrum
import analysis.representation.within  # noqa: F401  (imports register the measures)
from analysis.classification.evaluation import interval_json, number_json
from analysis.evaluation import N_RESAMPLES
from analysis.features import Progress
from analysis.representation.embeddings import Floats
from analysis.representation.meaning import meaning_json
from analysis.representation.metrics import (
    METRICS,
    Metric,
    Part,
    Study,
    interval,
    replicate_weights,
)
from analysis.representation.population import Population, outcome_words
from analysis.representation.spectrum import DominantShare, columns, shares
from analysis.store import ResultStore

ORDER = (
    "gap",
    "modality_purity",
    "alignment",
    "row_correlation",
    "foscttm",
    "recall_1",
    "recall_5",
    "cka",
    "sigma1",
    "uniformity",
    "outcome_purity",
)
VERSION = 1


def representation(
    people: Population,
    store: ResultStore,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All measures before and after alignment as plain JSON, stored.

    `measures`: one a measure in `ORDER`, later ones after; its `before` and `after` hold value,
    low, high (95%), chance, n (patients) and why (the reason where there is no value); `change` is
    after minus before on the same patients; `parts` the same for each pair of modalities, each
    modality or all of them. `spectrum`: mean share of each singular value.
    """
    parameters = {
        "method": "representation",
        **key_of(people),
        "n_resamples": n_resamples,
        "measure_seed": seed,
        "version": VERSION,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        studies = {
            name: Study(stage, people.people["group"].to_numpy(np.int64), seed)
            for name, stage in people.stages.items()
        }
        names = ordered()
        rows = []
        for done, name in enumerate(names):
            if progress is not None:
                progress(done, len(names))
            rows.append(_row(name, METRICS.get(name)(), studies, n_resamples, seed))
        return {
            **about(people),
            "measures": rows,
            "spectrum": _spectrum(studies),
            "resamples": {"n": n_resamples, "seed": seed, "units": "patients"},
        }, {}

    return dict(store.compute(parameters, make).content)


def key_of(people: Population) -> dict[str, Any]:
    """What a stored result about these embeddings is found by."""
    return {
        "run": people.run.hash,
        "cohort": people.cohort.fingerprint,
        "task": people.run.config.task.name,
        "splits": list(people.splits),
        "patients": len(people.people),
        "points": people.n_points,
        "sample_seed": people.seed,
    }


def about(people: Population) -> dict[str, Any]:
    """Whose embeddings these are, and what the stages are."""
    config = people.run.config
    alignment = people.run.model.strategy.alignment()
    groups = people.people["group"].value_counts()
    return {
        "run": config.name,
        "title": config.title,
        "strategy": config.strategy.name,
        "cohort": people.cohort.spec.name,
        "task": config.task.name,
        "task_title": config.task.title,
        "splits": list(people.splits),
        "n": len(people.people),
        "n_all": people.n_all,
        "n_unread": people.n_unread,
        "n_points": people.n_points,
        "sample_seed": people.seed,
        "outcomes": {w: int(groups.get(g, 0)) for g, w in outcome_words(people.run).items()},
        "modalities": {
            name: {
                "title": title,
                "n": int(people.raw.present[name].sum()),
                "width": {s: e.widths[name] for s, e in people.stages.items() if name in e.widths},
            }
            for name, title in people.titles.items()
        },
        "stages": list(people.stages),
        "after_is": alignment.words,
        "alignment_loss": alignment.loss,
        "geometry": "embeddings scaled to unit length",
    }


def ordered() -> list[str]:
    """All registered measures, those of `ORDER` first."""
    return [*ORDER, *(name for name in METRICS if name not in ORDER)]


def _row(
    name: str, metric: Metric, studies: Mapping[str, Study], n_resamples: int, seed: int
) -> dict[str, Any]:
    n = len(next(iter(studies.values())).outcome)
    weights = replicate_weights(n, metric.resampling, n_resamples, seed)
    found: dict[str, dict[tuple[str, ...], tuple[Part, Floats, float]]] = {}
    why = {stage: metric.why_not(study) for stage, study in studies.items()}
    for stage, study in studies.items():
        found[stage] = {}
        for part in [] if why[stage] else metric.parts(study.stage):
            measured = metric.measure(study, part)
            replicates = measured.replicate(weights[:, part.rows])
            found[stage][part.of] = (part, replicates, measured.chance)
    every = list(dict.fromkeys(of for parts in found.values() for of in parts))
    head = {stage: _mean(parts) for stage, parts in found.items()}
    return {
        "name": name,
        **meaning_json(type(metric)),
        "interval": metric.resampling,
        **{stage: _told(metric, head.get(stage), why.get(stage)) for stage in ("before", "after")},
        "change": _change(metric, *_shared(found)),
        "parts": [
            {
                "of": list(of),
                **{s: _told(metric, found.get(s, {}).get(of), None) for s in ("before", "after")},
                "change": _change(metric, *(found.get(s, {}).get(of) for s in ("before", "after"))),
            }
            for of in every
        ],
    }


Parts = Mapping[tuple[str, ...], tuple[Part, Floats, float]]
One = tuple[Part, Floats, float]


def _mean(parts: Parts) -> One | None:
    """The mean over parts, replicate by replicate; the patients of any part."""
    if not parts:
        return None
    rows = np.unique(np.concatenate([part.rows for part, _, _ in parts.values()]))
    replicates = np.mean([r for _, r, _ in parts.values()], axis=0)
    chance = float(np.mean([c for _, _, c in parts.values()]))
    return Part((), rows), replicates, chance


def _shared(found: Mapping[str, Parts]) -> tuple[One | None, One | None]:
    """Means before and after over the parts that both stages have."""
    both = [of for of in found.get("before", {}) if of in found.get("after", {})]
    if not both:
        return None, None
    first, second = ({of: found[s][of] for of in both} for s in ("before", "after"))
    return _mean(first), _mean(second)


def _told(metric: Metric, one: One | None, why: str | None) -> dict[str, Any] | None:
    """A stage's number; None where the run has no such stage."""
    if one is None:
        empty = dict.fromkeys(("value", "low", "high", "chance", "n"))
        return None if why is None else {**empty, "why": why}
    part, replicates, chance = one
    made = interval(replicates, metric.resampling, metric.low, metric.high)
    return {
        **interval_json(made),
        "chance": number_json(chance),
        "n": len(part.rows),
        "why": None,
    }


def _change(metric: Metric, before: One | None, after: One | None) -> dict[str, Any] | None:
    if before is None or after is None:
        return None
    return dict(interval_json(interval(after[1] - before[1], metric.resampling)))


def _spectrum(studies: Mapping[str, Study]) -> dict[str, Any] | None:
    """{stage: mean share of every singular value}, over patients who have all modalities."""
    metric = DominantShare()
    told = {}
    n = 0
    for stage, study in studies.items():
        if metric.why_not(study) is None:
            (part,) = metric.parts(study.stage)
            n = len(part.rows)
            told[stage] = [float(v) for v in shares(columns(study, part)).mean(axis=0)]
    return {"n": n, **told} if told else None
