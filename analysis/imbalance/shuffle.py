"""What it is worth that a modality is the right patient's: it is exchanged between patients.

A modality that is left out is told as absent, a state of its own; one that is exchanged is there,
with a distribution as it should be, and only belongs to somebody else. If the score does not fall
then the run makes no use of what the modality says of the patient. Permutation importance
(Breiman, Machine Learning 2001; 45:5) of a whole modality, among the patients of the split who
have it. Every modality is encoded once; what is exchanged are its encodings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from analysis.classification.evaluation import interval_json, number_json
from analysis.cohort.cohort import Cohort
from analysis.evaluation import N_RESAMPLES, check_fit
from analysis.features import Progress
from analysis.imbalance.scores import Floats, Scorer
from analysis.predict import BATCH, predict_stored, run_inputs
from analysis.store import ResultStore
from analysis.survival.comparison import percentile_interval
from models.checkpoint import Run
from models.contracts import CodeVocabulary, Encoded, Inputs
from models.fusion.attention import without_maps

REPEATS = 20
_LAST_BITS = 1e-6


def shuffled(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    *,
    repeats: int = REPEATS,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How far the score falls when a modality is exchanged between patients; stored.

    Plain JSON. By modality: n patients who have it; score: mean over the repeats; drop: the score
    as it is minus that mean, interval over resamples of patients (of the same exchanges); p: that
    an exchange scores as high as the run does, (1 + #{exchanged >= as it is}) / (repeats + 1),
    one-sided (Phipson & Smyth 2010). drop and p are null where fewer than two patients have it.
    progress gets (exchanges done, of all).
    """
    check_fit(run, cohort)
    parameters = {
        "method": "shuffled_modality",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": split,
        "repeats": repeats,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        whole = predict_stored(run, cohort, split, store)
        scorer = Scorer.of_patients(run, cohort, whole.subject_ids)
        values = exchanged_predictions(
            run, run_inputs(run, cohort, whole.subject_ids), whole.values, repeats, seed, progress
        )
        rows = [
            _row(
                scorer, name, int(whole.present[name].sum()), whole.values, found, n_resamples, seed
            )
            for name, found in values.items()
        ]
        return {
            "repeats": repeats,
            "seed": seed,
            "smallest_p": 1 / (repeats + 1),
            "undefined": scorer.undefined,
            "modalities": rows,
        }, {}

    return dict(store.compute(parameters, make).content)


def _row(
    scorer: Scorer, name: str, n: int, whole: Floats, found: Floats, n_resamples: int, seed: int
) -> dict[str, Any]:
    nothing = {"value": None, "low": None, "high": None}
    if n < 2 or scorer.undefined is not None:
        return {"modality": name, "n": n, "score": None, "drop": nothing, "p": None}
    every = np.concatenate([whole[None], found])
    scores, sample = scorer.of(every), scorer.resampled(every, n_resamples, seed)
    # Differences first: what changes nothing drops by exactly 0.
    drop = float((scores[0] - scores[1:]).mean())
    p = (1 + int((scores[1:] >= scores[0]).sum())) / len(scores)
    return {
        "modality": name,
        "n": n,
        "score": number_json(float(scores[1:].mean())),
        "drop": interval_json(percentile_interval(drop, (sample[0] - sample[1:]).mean(axis=0))),
        "p": p,
    }


def exchanged_predictions(
    run: Run,
    inputs: Inputs,
    whole: Floats,
    repeats: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Floats]:
    """{modality: (R, n, K) predictions} with the modality exchanged among those who have it.

    whole: (n, K) predictions as the patients are, which who lacks the modality keeps. The
    exchanges are drawn with `seed` and the modality's place in the run.
    """
    names = tuple(run.config.modalities)
    found = {}
    with torch.inference_mode(), without_maps():
        encoded = encode_once(run, inputs)
        for at, name in enumerate(names):
            rng = np.random.default_rng([seed, at])
            rows = np.flatnonzero(encoded[name].present.numpy())
            values = np.repeat(whole[None], repeats, axis=0)
            for r in range(repeats):
                donors = rng.permutation(rows)
                for here in _parts(_tokens(encoded, name, rows, donors)):
                    said = _fused(run, encoded, name, rows[here], donors[here])
                    # What changes the last bits only has changed nothing.
                    same = np.abs(said - whole[rows[here]]) <= _LAST_BITS
                    values[r, rows[here]] = np.where(same, whole[rows[here]], said)
                if progress is not None:
                    progress(at * repeats + r + 1, len(names) * repeats)
            found[name] = values
    return found


def encode_once(run: Run, inputs: Inputs) -> dict[str, Encoded]:
    """All patients encoded, batch by batch; stored features pass through as they are."""
    found = {}
    for name, item in inputs.items():
        if isinstance(item, Encoded):
            found[name] = item
            continue
        rows = torch.arange(len(item))
        found[name] = _joined(
            [run.model.encode_modality(name, item.take(part)) for part in torch.split(rows, BATCH)]
        )
    return found


def _fused(
    run: Run,
    encoded: Mapping[str, Encoded],
    exchanged: str,
    rows: npt.NDArray[np.int64],
    donors: npt.NDArray[np.int64],
) -> Floats:
    told = {
        name: item.take(torch.from_numpy(donors if name == exchanged else rows)).without_padding()
        for name, item in encoded.items()
    }
    said: Floats = run.model.fuse(told).prediction.double().numpy()
    return said


def _tokens(
    encoded: Mapping[str, Encoded],
    exchanged: str,
    rows: npt.NDArray[np.int64],
    donors: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """(n,) tokens of each pair of patient and donor."""
    lengths = [
        item.mask.sum(dim=1).numpy()[donors if name == exchanged else rows]
        for name, item in encoded.items()
    ]
    return np.asarray(np.sum(lengths, axis=0), np.int64)


def _parts(tokens: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Batches of like length, which then hold little padding."""
    order = np.argsort(tokens, kind="stable")
    return [order[first : first + BATCH] for first in range(0, len(order), BATCH)]


def _joined(parts: list[Encoded]) -> Encoded:
    """Batches of one encoder below each other, tokens padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.tokens.shape[1] for part in parts)

    def join(found: list[Tensor], beyond: int) -> Tensor:
        padded = []
        for one in found:
            missing = longest - one.shape[1]
            padded.append(functional.pad(one, [0, 0] * beyond + [0, missing]) if missing else one)
        return torch.cat(padded)

    layout = parts[0].layout
    layouts = [part.layout for part in parts]
    if isinstance(layout, CodeVocabulary):
        ids = [one.code_ids for one in layouts if isinstance(one, CodeVocabulary)]
        layout = replace(layout, code_ids=join(ids, 0))
    attention = [part.attention for part in parts if part.attention is not None]
    return replace(
        parts[0],
        tokens=join([part.tokens for part in parts], 1),
        mask=join([part.mask for part in parts], 0),
        pooled=torch.cat([part.pooled for part in parts]),
        present=torch.cat([part.present for part in parts]),
        layout=layout,
        attention=join(attention, 0) if len(attention) == len(parts) else None,
    )
