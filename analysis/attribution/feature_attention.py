"""Attention between a strategy's own features: what is specific to a modality and what is shared.

TGMM looks from each of its features (one a modality, one a subset of modalities) at all of them
under the textual guidance (Zhang et al., TGMM, equation 9); its figure 8 shows these maps by
outcome. They are no places in the input, so they have a picture of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analysis.attribution.case import Case
from analysis.cohort.cohort import Cohort
from analysis.predict import run_inputs
from analysis.store import ResultStore
from models.checkpoint import Run
from models.contracts import FusionOutput
from models.network import FusionModel

FEATURES = "features"
_BATCH = 64
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureAttention:
    """names: (F) features by their modalities' titles. weights: (F, F) head mean, row looks at
    column, rows of features that are there sum to 1; NaN in rows and columns of features that are
    not. n: patients averaged.
    """

    names: tuple[str, ...]
    weights: Floats
    n: int


def feature_attention(case: Case) -> FeatureAttention | None:
    """The patient's own map; None where the strategy has none."""
    found = _maps(case.output)
    if found is None:
        return None
    weights, counted = _masked(found)
    return FeatureAttention(_names(case.run), _mean(weights, counted), 1)


def by_outcome(
    run: Run, cohort: Cohort, split: str, store: ResultStore
) -> dict[str, FeatureAttention]:
    """{group: mean map} over a split's patients; empty where the strategy has none.

    Groups: the true classes of a classification task; for survival the patients below and above
    the split's median predicted risk. A cell is averaged over the patients who have both
    features. Stored.
    """
    parameters = {
        "method": "feature_attention",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        groups = _groups(run, cohort, split)
        names = [] if groups is None else list(groups)
        content = {"groups": names, "n": [] if groups is None else [g[1] for g in groups.values()]}
        arrays = {} if groups is None else {"weights": np.stack([g[0] for g in groups.values()])}
        return content, arrays

    found = store.compute(parameters, make)
    return {
        name: FeatureAttention(_names(run), found.arrays["weights"][i], int(found.content["n"][i]))
        for i, name in enumerate(found.content["groups"])
    }


def _groups(run: Run, cohort: Cohort, split: str) -> dict[str, tuple[Floats, int]] | None:
    task = run.config.task
    ids = cohort.subject_ids(split, task.name)
    if not len(ids):
        return None
    inputs = run_inputs(run, cohort, ids)
    weights, counted, predictions = [], [], []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(ids)), _BATCH):
            output = run.model({name: item.take(rows) for name, item in inputs.items()})
            found = _maps(output)
            if found is None:
                return None
            one, both = _masked(found)
            weights.append(one)
            counted.append(both)
            predictions.append(output.prediction[:, 0].numpy())
    every, there = np.concatenate(weights), np.concatenate(counted)
    if task.kind == "classification":
        label = cohort.outcomes(task.name, ids).label
        assert label is not None
        groups = {name: label == i for i, name in enumerate(task.classes)}
    else:
        risk = np.concatenate(predictions)
        high = risk > np.median(risk)
        groups = {"lower risk": ~high, "higher risk": high}
    return {
        name: (_mean(every[rows], there[rows]), int(rows.sum()))
        for name, rows in groups.items()
        if rows.any()
    }


def _maps(output: FusionOutput) -> Floats | None:
    """(B, F, F) head mean of the first map between features."""
    for found in output.attention:
        if found.query == FEATURES and found.key == FEATURES:
            return np.asarray(found.weights.mean(dim=1).double().numpy())
    return None


def _masked(weights: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The maps, and which cells are between features that the patient has."""
    there = weights.sum(axis=2) > 0.5
    return weights, there[:, :, None] & there[:, None, :]


def _mean(weights: Floats, counted: npt.NDArray[np.bool_]) -> Floats:
    n = counted.sum(axis=0)
    total = (weights * counted).sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _names(run: Run) -> tuple[str, ...]:
    titles: Mapping[str, str] = {n: e.title for n, e in run.config.modalities.items()}
    model: FusionModel = run.model
    names: tuple[str, ...] = getattr(model.strategy, "feature_names", ())
    return tuple(" + ".join(titles.get(p, p) for p in name.split(" + ")) for name in names)
