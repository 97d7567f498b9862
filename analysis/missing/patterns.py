"""Who has what: the patterns in which a run's modalities occur, and whether they say something.

A pattern is the set of modalities that a patient has. Where patterns differ in outcome,
missingness is informative: that a modality was not recorded already tells something of the
patient, and a model may use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import MonteCarloMethod, chi2, chi2_contingency

from analysis.classification.data import LabelData
from analysis.classification.evaluation import interval_json, label_data, number_json
from analysis.classification.proportions import wilson
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split
from analysis.evaluation import check_fit, survival_data
from analysis.features import Progress
from analysis.predict import predict_stored
from analysis.store import ResultStore
from analysis.survival.comparison import LEVEL, ConfidenceInterval
from analysis.survival.contrasts import logrank
from analysis.survival.data import SurvivalData, pool
from models.checkpoint import Run

EVERY = "all"
RARE = 10
_TABLES = 9999
_DAYS = 100 * 365.25


def availability(
    run: Run,
    cohort: Cohort,
    store: ResultStore,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Patterns of the run's modalities by split and site, with outcomes; plain JSON, stored.

    Patients with an outcome for the run's task. `groups`: one for each split and site that has
    patients, and for all of them ('all'; p-values are not adjusted for their number): n, events,
    `marginals` {modality: patients}, `patterns` (most frequent first: modalities, n, events, rate)
    and `test`. `outcome` names what the events are. Rate: events per 100
    patient-years with Garwood's exact interval (Fam Med 1936), or the share of the second of two
    classes with Wilson's. Test: log-rank over patterns, or chi-squared against 9,999 random tables
    of the same margins;
    patterns of fewer than 10 patients are put together, and left out if they stay fewer.
    """
    check_fit(run, cohort)
    parameters = {
        "method": "availability_patterns",
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "task": run.config.task.name,
        "seed": seed,
        "version": 4,
    }

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        table = presence(run, cohort, store, progress)
        task = run.config.task
        outcome: SurvivalData | LabelData
        if task.kind == "survival":
            outcome = survival_data(cohort, task.name, table.index)
        else:
            outcome = label_data(cohort, task.name, task.classes, table.index)
        names = list(run.config.modalities)
        splits = _chosen([str(s) for s in Split if (table["split"] == str(s)).any()])
        sites = _chosen(sorted(set(table["site"])))
        groups = []
        for split in splits:
            for site in sites:
                rows = _where(table, split, site)
                if rows.any():
                    part = _group(table.loc[rows, names], outcome.subset(rows), seed)
                    groups.append({"split": split, "site": site, **part})
        return {
            "modalities": {n: m.title for n, m in run.config.modalities.items()},
            "task": task.name,
            "kind": task.kind,
            "outcome": task.event_title or (task.classes[1] if len(task.classes) == 2 else ""),
            "splits": splits,
            "sites": sites,
            "groups": groups,
            "seed": seed,
        }, {}

    return dict(store.compute(parameters, make).content)


def presence(
    run: Run, cohort: Cohort, store: ResultStore, progress: Progress | None = None
) -> pd.DataFrame:
    """By subject_id: one bool column a modality of the run, as the run sees it; split, site.

    Patients of all splits with an outcome for the run's task. A site that is not said is ''.
    """
    parts = []
    for split in Split:
        if not len(cohort.subject_ids(split, run.config.task.name)):
            continue
        found = predict_stored(run, cohort, str(split), store, progress)
        parts.append(pd.DataFrame(dict(found.present), index=found.subject_ids))
    table = pd.concat(parts)
    told = cohort.subjects.loc[table.index]
    table["split"] = told["split"].astype(str)
    table["site"] = told["site"].astype(object).where(told["site"].notna(), "").astype(str)
    return table


def _chosen(found: list[str]) -> list[str]:
    return [EVERY, *(found if len(found) > 1 else [])]


def _where(table: pd.DataFrame, split: str, site: str) -> npt.NDArray[np.bool_]:
    rows = np.ones(len(table), bool)
    for column, value in (("split", split), ("site", site)):
        if value != EVERY:
            rows &= (table[column] == value).to_numpy()
    return rows


def _group(there: pd.DataFrame, outcome: SurvivalData | LabelData, seed: int) -> dict[str, Any]:
    names = list(there)
    found, which = np.unique(there.to_numpy(bool), axis=0, return_inverse=True)
    counted = [(row, np.flatnonzero(which.ravel() == i)) for i, row in enumerate(found.tolist())]
    patterns = sorted(counted, key=lambda item: (-len(item[1]), [not has for has in item[0]]))
    rows = [
        {
            "modalities": [n for n, has in zip(names, pattern, strict=True) if has],
            "n": len(members),
            **_outcome(outcome.subset(members)),
        }
        for pattern, members in patterns
    ]
    return {
        "n": len(there),
        **_outcome(outcome),
        "marginals": {name: int(there[name].sum()) for name in names},
        "patterns": rows,
        "test": _test([outcome.subset(members) for _, members in patterns], seed),
    }


def _outcome(data: SurvivalData | LabelData) -> dict[str, Any]:
    if isinstance(data, SurvivalData):
        return {
            "events": data.n_events,
            "rate": interval_json(rate(data.n_events, float(data.time_days.sum()))),
        }
    if not data.is_binary:
        return {"events": None, "rate": None}
    events = int(data.counts[1])
    return {"events": events, "rate": interval_json(wilson(events, data.n))}


def rate(events: int, days: float) -> ConfidenceInterval:
    """Events per 100 patient-years with the exact 95% interval of a Poisson count (Garwood)."""
    if days <= 0:
        return ConfidenceInterval(float("nan"), float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    low = chi2.ppf(tail, 2 * events) / 2 if events else 0.0
    high = chi2.ppf(1 - tail, 2 * (events + 1)) / 2
    scale = _DAYS / days
    return ConfidenceInterval(events * scale, float(low * scale), float(high * scale))


def _test(groups: Sequence[SurvivalData | LabelData], seed: int) -> dict[str, Any]:
    """Whether the patterns differ in outcome."""
    rare = [g for g in groups if g.n < RARE]
    pooled = sum(g.n for g in rare)
    together = [_together(rare)] if pooled >= RARE else []
    common = [g for g in groups if g.n >= RARE] + together
    answer = {
        "groups": len(common),
        "rare": len(rare) if together else 0,
        "left_out": 0 if together else pooled,
    }
    if len(common) < 2:
        return answer | _untested("Fewer than two patterns have enough patients to compare.")
    of_time = [g for g in common if isinstance(g, SurvivalData)]
    if of_time:
        found = logrank(of_time)
        return answer | {
            "name": "log-rank",
            "statistic": number_json(found.chi2),
            "df": found.df,
            "p": number_json(found.p),
            "undefined": found.undefined,
        }
    table = np.stack([g.counts for g in common if isinstance(g, LabelData)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return answer | _untested("All of these patients are of one class.")
    method = MonteCarloMethod(n_resamples=_TABLES, rng=np.random.default_rng(seed))
    tested = chi2_contingency(table, correction=False, method=method)
    return answer | {
        "name": "chi-squared",
        "statistic": float(tested.statistic),
        "df": None,
        "p": float(tested.pvalue),
        "undefined": None,
    }


def _untested(why: str) -> dict[str, Any]:
    return {"name": None, "statistic": None, "df": None, "p": None, "undefined": why}


def _together(groups: Sequence[SurvivalData | LabelData]) -> SurvivalData | LabelData:
    of_time = [g for g in groups if isinstance(g, SurvivalData)]
    if of_time:
        return pool(of_time)
    labels = [g for g in groups if isinstance(g, LabelData)]
    return LabelData(np.concatenate([g.label for g in labels]), labels[0].classes)
