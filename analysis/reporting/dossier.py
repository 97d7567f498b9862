"""All that a reviewer asks of the runs of one task, computed in one go: plain JSON.

Nothing is computed here: the parts are those of the other pages and commands (`evaluation`,
`classification.evaluation`, `reviewer`, `imbalance`, `missing`, `trust`), with one set of
settings, so that a report and a page cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.classification.evaluation import evaluate_labels
from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import CohortError
from analysis.cohort.table_one import table_one
from analysis.evaluation import N_RESAMPLES, check_together, evaluate
from analysis.explain import find_trust
from analysis.external import AnyRun
from analysis.imbalance.report import imbalance_report
from analysis.missing.design import MOST_ALL
from analysis.missing.drop import drop_curve
from analysis.missing.monotonicity import monotonicity
from analysis.reporting.checklists import answered
from analysis.reporting.facts import facts
from analysis.reviewer.report import reviewer_statistics
from analysis.store import ResultStore
from analysis.trust.card import card
from analysis.trust.report import report_part
from models.checkpoint import Run

Stage = Callable[[str, int, int], None]
"""(what is done in words, done, of all)."""
MOST_RUNS = 12


def dossier(
    runs: Sequence[AnyRun],
    cohort: Cohort,
    splits: Sequence[str],
    store: ResultStore,
    *,
    single: Sequence[Run] = (),
    trust_store: ResultStore | None = None,
    horizon_days: float | None = None,
    threshold: float | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    progress: Stage | None = None,
) -> dict[str, Any]:
    """Everything a reviewer's page and report show of runs of one task.

    splits: evaluated ones, the primary one first. single: runs of one modality of the same task,
    against which fused ones are held. trust_store: where `fusionlens trust` left its reports,
    `store` without it. Keys: about, people (`table_one`), splits ({split: comparison,
    assessment}), imbalance and missing (by fused run, on the first split), trust (by run), notes
    ({run: why a part is not there}), checklist. Raises CohortError in a sentence for no run, runs
    of several tasks, or a split without patients.
    """
    _check(runs, cohort, splits)
    task = runs[0].config.task
    settings: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    notes: dict[str, list[str]] = {}

    def say(words: str, done: int, total: int) -> None:
        if progress is not None:
            progress(words, done, total)

    judged: dict[str, Any] = {}
    for at, split in enumerate(splits):
        say("Comparing runs", at, len(splits))
        survival = task.kind == "survival"
        compared = (evaluate if survival else evaluate_labels)(
            runs, cohort, split, store, **settings
        )
        assessed = reviewer_statistics(
            runs, cohort, split, store, horizon_days, threshold, **settings
        )
        judged[split] = {"comparison": compared, "assessment": assessed}
    balance: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    fused = [run for run in runs if isinstance(run, Run) and len(run.config.modalities) > 1]
    for at, run in enumerate(fused):
        say("Telling runs less", at, len(fused))
        mine = [one for one in single if set(one.config.modalities) <= set(run.config.modalities)]
        try:
            if len(run.config.modalities) <= MOST_ALL:
                balance[run.config.name] = imbalance_report(
                    run, cohort, splits[0], store, mine, **settings
                )
            missing[run.config.name] = {
                "drop": drop_curve(run, cohort, splits[0], store, **settings),
                "monotonicity": monotonicity(run, cohort, splits[0], store, **settings),
            }
        except CohortError as error:
            notes.setdefault(run.config.name, []).append(str(error))
    trusted = {
        run.config.name: told
        for run in runs
        if isinstance(run, Run) and (told := _trust(run, cohort, trust_store or store))
    }
    people = table_one(cohort, task.name)
    found = {
        "about": {
            **_about(runs, cohort, splits, judged[splits[0]]["assessment"], settings),
            "asked": {"horizon_days": horizon_days, "threshold": threshold},
        },
        "people": people,
        "splits": judged,
        "imbalance": balance,
        "missing": missing,
        "trust": trusted,
        "notes": notes,
    }
    return {**found, "checklist": _checklist(runs, cohort, task.name, found)}


def _check(runs: Sequence[AnyRun], cohort: Cohort, splits: Sequence[str]) -> None:
    if len(runs) > MOST_RUNS:
        raise CohortError(
            f"{len(runs)} runs are more than a reader can compare; choose at most {MOST_RUNS}."
        )
    if not splits:
        raise CohortError(
            f"cohort '{cohort.spec.name}' has no internal or external test patients for the task."
        )
    check_together(runs, cohort)


def _about(
    runs: Sequence[AnyRun],
    cohort: Cohort,
    splits: Sequence[str],
    assessed: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    task = runs[0].config.task
    return {
        "cohort": cohort.spec.name,
        "cohort_title": cohort.spec.title,
        "description": cohort.spec.description,
        "simulated": cohort.spec.provenance.simulated,
        "fingerprint": cohort.fingerprint,
        "task": task.name,
        "task_title": task.title,
        "event_title": task.event_title,
        "index_event": cohort.spec.index_event,
        "kind": task.kind,
        "splits": list(splits),
        "horizon_days": assessed.get("horizon_days"),
        "threshold": assessed["threshold"],
        "runs": [
            {
                "run": run.config.name,
                "title": run.config.title,
                "strategy": run.config.strategy.name,
                "modalities": [entry.title for entry in run.config.modalities.values()],
                "hash": run.hash,
            }
            for run in runs
        ],
        **settings,
    }


def _trust(run: Run, cohort: Cohort, store: ResultStore) -> list[dict[str, Any]]:
    """What the checks say of the explanation that is shown first of every modality."""
    report = find_trust(run, [cohort], store)
    if report is None:
        return []
    rows = []
    for name, part in report["modalities"].items():
        best = part["recommended"]
        if not best:
            continue
        judged = card(report_part(report, name, best["method"], best["layer"]))
        rows.append(
            {
                "modality": part["title"],
                "explanation": best["title"],
                "level": judged.level,
                "sentences": list(judged.sentences),
                "n": part["n"],
            }
        )
    return rows


def _checklist(
    runs: Sequence[AnyRun], cohort: Cohort, task: str, found: Mapping[str, Any]
) -> list[dict[str, str]]:
    configs = [run.config for run in runs if isinstance(run, Run)]
    if not configs:
        return []
    told = answered(facts(cohort, task, configs, _measured(found)))
    return [
        {
            "guideline": answer.item.guideline,
            "number": answer.item.number,
            "section": answer.item.section,
            "asks": answer.item.asks,
            "answer": answer.text,
        }
        for answer in told
    ]


def _measured(found: Mapping[str, Any]) -> dict[str, str]:
    """Facts that only this report knows: where its own sections answer an item."""
    splits = list(found["splits"])
    told = {
        "flow": "Section 1: patients by split, with and without an outcome.",
        "table_one": "Section 1: characteristics and missing data by split.",
        "shift": "Section 1: standardised mean differences between splits.",
        "performance": "Section 2: every measure with its 95% interval; subgroups in section 7.",
        "numbers": "Every figure and table states its patients and events.",
    }
    told["internal"] = "Section 2." if "internal" in splits else ""
    told["external"] = "Sections 2 and 7." if "external" in splits else ""
    if len(splits) > 1:
        told["centres"] = "Section 7: other patients beside the first, and subgroups by site."
    if found["missing"]:
        told["robustness"] = "Section 6: modalities hidden on purpose and at random."
    if found["trust"]:
        told["explanations"] = (
            "Section 8: whether explanations point to the truth where it is known, follow the "
            "prediction, depend on the weights and are stable."
        )
    return told
