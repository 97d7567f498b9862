"""Pictures of embeddings in one locked frame: t-SNE and UMAP of all modalities, before and after.

How the two pictures are made comparable:
  1. the same points, in the same order, with the same seed and settings;
  2. both start from the same places, the first two principal components of the first stage, so
     that a point moves only as far as the embeddings ask for. Measured on the sample runs and on
     modalities mixed by design, neighbourhoods are kept as well as from the stage's own
     components;
  3. the later picture is turned and mirrored as a whole onto the earlier one (orthogonal
     Procrustes: no distance changes, since the axes of these methods mean nothing);
  4. both are centred and drawn within the same limits.
Places far apart and the sizes of islands mean little in either method; `quality` says how far
neighbourhoods can be trusted.

Neither torch nor a model is needed here, so that a background process starts fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from analysis.representation.quality import judge
from analysis.store import ResultStore

Floats = npt.NDArray[np.float64]
Say = Callable[[str, int, int], None]
"""(what is being done, steps done, steps in all)."""

PERPLEXITY = 30.0
EXAGGERATED, STEPS = 125, 375
UMAP_NEIGHBOURS, MIN_DIST = 15, 0.1
FEWEST_POINTS = 10


class Method(StrEnum):
    """How points are laid on a plane."""

    TSNE = "tsne"
    UMAP = "umap"


TITLES = {Method.TSNE: "t-SNE", Method.UMAP: "UMAP"}


@dataclass(frozen=True)
class Projection:
    """Pictures of the stages in one frame.

    places: {stage: (N, 2) float64}, centred. limit: every place lies within [-limit, limit] of
    both axes. settings: what the picture is made with. quality: {stage: what `judge` says}.
    """

    places: dict[str, Floats]
    limit: float
    settings: dict[str, Any]
    quality: dict[str, dict[str, float]]


def settings_of(method: Method, n_points: int, seed: int) -> dict[str, Any]:
    """The settings of a picture of `n_points`, the same for both stages."""
    common = {
        "method": str(method),
        "distance": "Euclidean on unit vectors, which orders as the cosine does",
        "start": "first two principal components of the first stage",
        "seed": seed,
    }
    if method is Method.TSNE:
        return {
            **common,
            "perplexity": float(min(PERPLEXITY, (n_points - 1) / 3)),
            "steps": STEPS,
            "of_these_exaggerated": EXAGGERATED,
        }
    return {**common, "neighbours": min(UMAP_NEIGHBOURS, n_points - 1), "min_dist": MIN_DIST}


def project(
    stages: Mapping[str, npt.ArrayLike], method: Method, seed: int = 0, say: Say | None = None
) -> Projection:
    """The pictures of {stage: (N, D) unit vectors}, earliest stage first; widths may differ.

    The same seed gives the same picture on the same machine. Raises ValueError below 10 points
    or where the stages do not hold the same number of them.
    """
    vectors = {name: np.asarray(v, np.float64) for name, v in stages.items()}
    sizes = {len(v) for v in vectors.values()}
    if len(sizes) != 1:
        raise ValueError(f"the stages hold different points: {[len(v) for v in vectors.values()]}.")
    (n,) = sizes
    if n < FEWEST_POINTS:
        raise ValueError(f"a picture takes at least {FEWEST_POINTS} embeddings; there are {n}.")
    settings = settings_of(method, n, seed)
    start = starting_places(next(iter(vectors.values())))
    places: dict[str, Floats] = {}
    for done, (name, rows) in enumerate(vectors.items()):
        made = _lay(method, rows, start, settings, _part(say, name, done, len(vectors)))
        made = made - made.mean(axis=0)
        if places:
            turn, _ = orthogonal_procrustes(made, next(iter(places.values())))
            made = made @ turn
        places[name] = made
    quality = {name: judge(vectors[name], places[name], seed) for name in vectors}
    limit = float(max(np.abs(p).max() for p in places.values())) * 1.04
    return Projection(places, limit, settings, quality)


def find_projection(store: ResultStore, parameters: Mapping[str, Any]) -> Projection | None:
    """A stored picture; None where there is none."""
    found = store.get(parameters)
    if found is None:
        return None
    content = found.content
    places = {name: found.arrays[name] for name in content["stages"]}
    return Projection(places, content["limit"], content["settings"], content["quality"])


def make_projection(
    store: ResultStore,
    parameters: Mapping[str, Any],
    stages: Mapping[str, Floats],
    method: Method,
    seed: int,
    say: Say | None = None,
) -> Projection:
    """Compute a picture and store it."""
    made = project(stages, method, seed, say)
    store.put(
        parameters,
        {
            "stages": list(made.places),
            "limit": made.limit,
            "settings": made.settings,
            "quality": made.quality,
        },
        made.places,
    )
    return made


def starting_places(vectors: npt.ArrayLike) -> Floats:
    """(N, 2) the first two principal components, signs fixed, the first with an sd of 1e-4.

    Noise takes the place of a component that does not vary.
    """
    rows = np.asarray(vectors, np.float64)
    kept = min(2, *rows.shape)
    made = np.zeros((len(rows), 2))
    if np.ptp(rows, axis=0).any():
        made[:, :kept] = PCA(kept, svd_solver="full").fit_transform(rows)
    spread = made.std(axis=0)
    flat = spread <= 1e-9
    made[:, flat] = np.random.default_rng(0).normal(size=(len(rows), int(flat.sum())))
    scale = made[:, 0].std()
    return np.asarray(made / scale * 1e-4, np.float64)


def _lay(
    method: Method, rows: Floats, start: Floats, settings: Mapping[str, Any], say: Say | None
) -> Floats:
    if method is Method.TSNE:
        return _tsne(rows, start, settings, say)
    return _umap(rows, start, settings, say)


def _tsne(rows: Floats, start: Floats, settings: Mapping[str, Any], say: Say | None) -> Floats:
    from openTSNE import TSNE

    done = 0

    def each(iteration: int, _error: float, _places: Any) -> None:
        # openTSNE counts each of its two phases from one.
        nonlocal done
        done += 25
        if say is not None:
            say("t-SNE", min(done, STEPS), STEPS)

    made = TSNE(
        perplexity=settings["perplexity"],
        initialization=start.copy(),
        early_exaggeration_iter=EXAGGERATED,
        n_iter=STEPS - EXAGGERATED,
        # Sums of several threads come in any order, and t-SNE makes another picture of it.
        n_jobs=1,
        random_state=settings["seed"],
        callbacks=each,
        callbacks_every_iters=25,
    ).fit(rows)
    return np.asarray(made, np.float64)


def _umap(rows: Floats, start: Floats, settings: Mapping[str, Any], say: Say | None) -> Floats:
    if say is not None:
        compiles = "umap" not in sys.modules
        say("UMAP, compiled for its first picture (half a minute)" if compiles else "UMAP", 0, 1)
    from umap import UMAP

    made = UMAP(
        n_neighbors=settings["neighbours"],
        min_dist=settings["min_dist"],
        # UMAP wants a start of the size of its pictures.
        init=(start / np.abs(start).max() * 10).astype(np.float32),
        random_state=settings["seed"],
        n_jobs=1,
    ).fit_transform(rows.astype(np.float32))
    if say is not None:
        say("UMAP", 1, 1)
    return np.asarray(made, np.float64)


def _part(say: Say | None, name: str, done: int, stages: int) -> Say | None:
    """Progress of one stage as progress of the whole."""
    if say is None:
        return None

    def told(what: str, step: int, steps: int) -> None:
        say(f"{what}, {name} alignment", done * steps + step, stages * steps)

    return told
