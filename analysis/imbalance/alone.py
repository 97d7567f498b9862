"""Each modality alone: the fusion run that is told nothing else, and the run trained on it.

Where a fusion run that is told one modality is clearly worse than a run that was trained on this
modality, fusing cost it what the modality has to say: it is under-trained (the unimodal gap of
Wu et al., ICML 2022, and Peng et al., CVPR 2022). Both are judged on the same patients, those who
have the modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.classification.evaluation import interval_json, number_json
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.evaluation import N_RESAMPLES
from analysis.imbalance.scores import Scorer
from analysis.missing.predictions import subset_predictions
from analysis.predict import predict_stored
from analysis.store import ResultStore
from analysis.survival.comparison import percentile_interval, two_sided_p
from models.checkpoint import Run


def by_modality(run: Run, unimodal: Sequence[Run]) -> dict[str, Run]:
    """{modality: its unimodal run}, the last of several. Raises CohortError for one that is no
    match: another task, several modalities, or a modality that the run does not read.
    """
    found = {}
    for one in unimodal:
        config = one.config
        if len(config.modalities) != 1:
            raise CohortError(
                f"run '{config.name}' reads {', '.join(config.modalities)}; a unimodal run reads "
                "one modality alone."
            )
        if config.task.name != run.config.task.name:
            raise CohortError(
                f"unimodal run '{config.name}' predicts '{config.task.name}', but "
                f"'{run.config.name}' predicts '{run.config.task.name}'; name one of the same task."
            )
        name = next(iter(config.modalities))
        if name not in run.config.modalities:
            raise CohortError(
                f"unimodal run '{config.name}' reads '{name}', which '{run.config.name}' does not; "
                f"it reads {', '.join(run.config.modalities)}."
            )
        found[name] = one
    return found


def alone(
    run: Run,
    cohort: Cohort,
    split: str,
    store: ResultStore,
    unimodal: Sequence[Run] = (),
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of each modality alone and what fusing gains over the best of them; stored.

    Plain JSON. modalities: told_alone: the fusion run told only this one, unimodal: the run
    trained on it (null where none is given), gap: unimodal minus told_alone, paired, with p; all
    in the n patients who have the modality. best_single: over everyone, by the unimodal run where
    there is one and else by the fusion run told alone (`source`); gain: the run's score with
    everything minus the best single one's, paired. The best is chosen on the same patients, which
    favours the single modality.
    """
    runs = by_modality(run, unimodal)
    parameters = {
        "method": "alone",
        "run": run.hash,
        "unimodal": {name: one.hash for name, one in runs.items()},
        "names": {name: one.config.name for name, one in runs.items()},
        "cohort": cohort.fingerprint,
        "split": split,
        "n_resamples": n_resamples,
        "seed": seed,
        "version": 1,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        found = subset_predictions(run, cohort, split, store)
        own = {name: predict_stored(one, cohort, split, store).values for name, one in runs.items()}
        rows = []
        for at, name in enumerate(run.config.modalities):
            who = found.have[:, at]
            values = [found.of((name,))[who]]
            if name in own:
                values.append(own[name][who])
            used = runs[name].config if name in runs else None
            rows.append(
                {
                    "modality": name,
                    "unimodal_run": None if used is None else used.name,
                    "unimodal_title": None if used is None else used.title,
                    **_row(run, cohort, found.subject_ids[who], values, n_resamples, seed),
                }
            )
        single = {name: own.get(name, found.of((name,))) for name in run.config.modalities}
        scorer = Scorer.of_patients(run, cohort, found.subject_ids)
        best = _best(scorer, single, runs, found.as_they_are, n_resamples, seed)
        return {"modalities": rows, "best_single": best}, {}

    return dict(store.compute(parameters, make).content)


def _row(
    run: Run, cohort: Cohort, ids: Any, values: Sequence[Any], n_resamples: int, seed: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"n": len(ids), "undefined": None, "told_alone": None}
    row |= {"unimodal": None, "gap": None, "p": None}
    if not len(ids):
        return row | {"undefined": "No patient has it."}
    scorer = Scorer.of_patients(run, cohort, ids)
    if scorer.undefined is not None:
        return row | {"undefined": scorer.undefined}
    scores, sample = scorer.of(values), scorer.resampled(values, n_resamples, seed)
    row["told_alone"] = interval_json(percentile_interval(float(scores[0]), sample[0]))
    if len(values) > 1:
        gap = sample[1] - sample[0]
        row["unimodal"] = interval_json(percentile_interval(float(scores[1]), sample[1]))
        row["gap"] = interval_json(percentile_interval(float(scores[1] - scores[0]), gap))
        row["p"] = number_json(two_sided_p(gap))
    return row


def _best(
    scorer: Scorer,
    single: Mapping[str, Any],
    runs: Mapping[str, Run],
    whole: Any,
    n_resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """The best single modality in everyone, and the run with everything against it."""
    if scorer.undefined is not None:
        return None
    values = np.stack([*single.values(), whole])
    scores, sample = scorer.of(values), scorer.resampled(values, n_resamples, seed)
    at = int(np.argmax(scores[:-1]))
    name = list(single)[at]
    gap = sample[-1] - sample[at]
    return {
        "modality": name,
        "source": "unimodal run" if name in runs else "the fusion run told it alone",
        "sources_mixed": 0 < len(runs) < len(single),
        "score": interval_json(percentile_interval(float(scores[at]), sample[at])),
        "gain": interval_json(percentile_interval(float(scores[-1] - scores[at]), gap)),
        "p": number_json(two_sided_p(gap)),
    }
