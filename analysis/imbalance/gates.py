"""What a strategy's own learned weights of modalities say, where it has some.

A gate is what the model multiplies a modality by. It is no measure of use by itself: a large
weight of a small number moves little, so it stands beside the Shapley values, not for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from analysis.classification.evaluation import number_json
from analysis.cohort.cohort import Cohort
from analysis.evaluation import check_fit
from analysis.features import Progress
from analysis.imbalance.shares import QUANTILES
from analysis.predict import BATCH, predict_stored, run_inputs
from analysis.store import ResultStore
from models.checkpoint import Run
from models.fusion.attention import without_maps

ABSENT = "This strategy has no learned gates."
# Weights of one value differ by rounding between batches.
_SAME = 1e-6


def gates(
    run: Run, cohort: Cohort, split: str, store: ResultStore, progress: Progress | None = None
) -> dict[str, Any]:
    """Mean, spread and quantiles of each gate over a split's patients; stored, plain JSON.

    A gate that has a modality's name counts the patients who have the modality; any other (of a
    set of modalities, or of what they share) those who have all of the run's, or everyone where
    nobody has. constant: the same for every patient. `gates` is empty, and `note` says so, where
    the strategy has none.
    """
    check_fit(run, cohort)
    parameters = {
        "method": "gates",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        whole = predict_stored(run, cohort, split, store)
        inputs = run_inputs(run, cohort, whole.subject_ids)
        parts: dict[str, list[torch.Tensor]] = {}
        n = len(whole.subject_ids)
        with torch.inference_mode(), without_maps():
            for rows in torch.split(torch.arange(n), BATCH):
                said = run.model({name: item.take(rows) for name, item in inputs.items()})
                for name, gate in said.gates.items():
                    parts.setdefault(name, []).append(gate.double())
                if progress is not None:
                    progress(int(rows[-1]) + 1, n)
        complete = np.stack(list(whole.present.values())).all(axis=0)
        rest = complete if complete.any() else np.ones(n, bool)
        rows_of = {name: whole.present.get(name, rest) for name in parts}
        found = [
            _row(name, name in whole.present, torch.cat(part).numpy()[rows_of[name]])
            for name, part in parts.items()
            if rows_of[name].any()
        ]
        return {"gates": found, "note": None if found else ABSENT}, {}

    return dict(store.compute(parameters, make).content)


def _row(name: str, of_modality: bool, values: Any) -> dict[str, Any]:
    quantiles = np.quantile(values, QUANTILES)
    return {
        "gate": name,
        "of_modality": of_modality,
        "n": len(values),
        "mean": number_json(float(values.mean())),
        "sd": number_json(float(values.std())),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "constant": bool(np.ptp(values) <= _SAME * max(1.0, float(np.abs(values).max()))),
    }
