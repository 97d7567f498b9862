"""Pictures that are computed once, and their coordinates as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.cohort.schema import CohortError
from analysis.representation.embeddings import Embeddings, unlike_widths
from analysis.representation.meaning import meaning_json
from analysis.representation.population import Population
from analysis.representation.projection import (
    FEWEST_POINTS,
    Method,
    Projection,
    Say,
    find_projection,
    make_projection,
)
from analysis.representation.quality import PICTURE_METRICS
from analysis.representation.report import key_of
from analysis.store import ResultStore

VERSION = 1


def projection_key(people: Population, method: Method, seed: int = 0) -> dict[str, Any]:
    """What a stored picture is found by."""
    return {
        "method": "projection",
        **key_of(people),
        "projection": str(method),
        "projection_seed": seed,
        "version": VERSION,
    }


def drawable(people: Population) -> tuple[dict[str, Embeddings], dict[str, str]]:
    """{stage: embeddings} that can be drawn in one picture, and {stage: why it cannot}.

    Of the modalities that every stage has, so that the pictures hold the same points.
    """
    shared = [
        name
        for name in people.titles
        if all(name in stage.vectors for stage in people.stages.values())
    ]
    drawn, why = {}, {}
    for name, stage in people.stages.items():
        kept = stage.only(shared)
        if not shared or not kept.share_axes:
            why[name] = unlike_widths(stage)
            continue
        if len(kept.points) < FEWEST_POINTS:
            why[name] = f"a picture takes {FEWEST_POINTS} embeddings; there are {len(kept.points)}."
            continue
        drawn[name] = kept
    return drawn, why


def stored_projection(
    people: Population,
    method: Method,
    store: ResultStore,
    *,
    seed: int = 0,
    say: Say | None = None,
) -> Projection:
    """The picture of a population, computed here when it is not stored.

    Raises CohortError where no stage can be drawn.
    """
    parameters = projection_key(people, method, seed)
    found = find_projection(store, parameters)
    if found is not None:
        return found
    drawn, why = drawable(people)
    if not drawn:
        raise CohortError(
            f"run '{people.run.config.name}', {', '.join(people.splits)}: "
            f"{next(iter(why.values()))} Choose other patients, or the numbers without a picture."
        )
    vectors = {name: stage.points.vectors for name, stage in drawn.items()}
    return make_projection(store, parameters, vectors, method, seed, say)


def picture_json(made: Projection, why: Mapping[str, str]) -> dict[str, Any]:
    """A picture's settings and how far it can be trusted; its coordinates are `coordinates`.

    why: {stage: why it is not drawn}.
    """
    return {
        "settings": made.settings,
        "limit": made.limit,
        "quality": made.quality,
        "measures": {name: meaning_json(PICTURE_METRICS.get(name)) for name in PICTURE_METRICS},
        "not_drawn": dict(why),
    }


def coordinates(people: Population, made: Projection) -> pd.DataFrame:
    """One row a point: who it is, what they can be coloured by, and its places.

    Columns: those of `Population.people`, modality, and x_STAGE, y_STAGE for each stage drawn.
    """
    drawn, _ = drawable(people)
    stage = drawn[next(iter(made.places))]
    points = stage.points
    frame = people.people.iloc[points.rows].reset_index(drop=True)
    names = np.array(list(stage.vectors))
    frame.insert(1, "modality", names[points.modality])
    for name, places in made.places.items():
        frame[f"x_{name}"], frame[f"y_{name}"] = places[:, 0], places[:, 1]
    return frame
