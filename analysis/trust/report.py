"""How far can a run's explanations be believed, measured on a cohort? As plain JSON, stored.

Per modality and method (and layer): localisation beside chance where the truth is known,
faithfulness against random order, dependence on the weights, stability, and the number of
patients behind each; and which map is shown by default, by a rule that the report states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from analysis.attribution.case import AttributionError
from analysis.attribution.result import describe_target
from analysis.cohort.cohort import Cohort
from analysis.cohort.truth import read_truth
from analysis.predict import predict
from analysis.store import ResultStore
from analysis.trust.knowledge import knowledge
from analysis.trust.study import Budget, Progress, Study, target_of
from models.checkpoint import Run
from models.contracts import Kind

METHOD, VERSION = "trust", 1
Report = Mapping[str, Any]


def trust_report(
    run: Run,
    cohort: Cohort,
    *,
    split: str = "internal",
    n_patients: int = 50,
    seed: int = 0,
    store: ResultStore | None = None,
    modalities: Sequence[str] | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure, or find the stored report of the same run, cohort and parameters.

    n_patients: for localisation; the slower checks are made on fewer (`budget`), each says on how
    many. modalities: all of the run's by default. Takes minutes. Raises AttributionError for a
    modality that the run does not read, CohortError for an unknown split or unreadable files.
    """
    names = list(run.config.modalities) if modalities is None else list(modalities)
    for name in names:
        if name not in run.config.modalities:
            raise AttributionError(
                f"run '{run.config.name}' does not read '{name}'; it reads "
                f"{', '.join(run.config.modalities)}."
            )
    if n_patients < 2:
        raise AttributionError(f"{n_patients} patients are too few to measure; give at least 2.")
    sizes = budget or Budget(patients=n_patients)
    parameters = {
        "method": METHOD,
        "version": VERSION,
        "run": run.hash,
        "cohort": cohort.fingerprint,
        "split": str(split),
        "seed": seed,
        "modalities": names,
        "budget": asdict(sizes),
    }
    found = store.get(parameters) if store is not None else None
    if found is not None:
        return found.content
    target, truth = target_of(run), read_truth(cohort)
    study = Study(run, cohort, str(split), seed, sizes, target, truth, progress)
    report = _measure(study, names)
    if store is not None:
        store.put(parameters, report)
    return report


def _measure(study: Study, names: Sequence[str]) -> dict[str, Any]:
    # The studies pull in every explanation method; the report's readers need none of them.
    from analysis.trust.study_parts import study_parts
    from analysis.trust.study_recording import study_recording, study_table
    from analysis.trust.study_volume import study_volume

    studies: Mapping[Kind, Callable[[Study, str], dict[str, Any]]] = {
        Kind.VOLUME: study_volume,
        Kind.SIGNAL: study_recording,
        Kind.VIDEO: study_recording,
        Kind.TABLE: study_table,
        Kind.TEXT: study_table,
    }

    wall, cpu = time.perf_counter(), time.process_time()
    run, cohort = study.run, study.cohort
    parts: dict[str, Any] = {}
    for name in names:
        begun = time.perf_counter()
        part = studies.get(run.config.modalities[name].kind, study_parts)(study, name)
        title = run.config.modalities[name].title
        parts[name] = {"title": title, **part, "seconds": time.perf_counter() - begun}
    return {
        "version": VERSION,
        "run": run.config.name,
        "run_hash": run.hash,
        "cohort": cohort.spec.name,
        "cohort_fingerprint": cohort.fingerprint,
        "simulated": cohort.spec.provenance.simulated,
        "truth_known": study.truth is not None,
        "knowledge": _knowledge(study),
        "task": run.config.task.name,
        "target": describe_target(study.target),
        "split": study.split,
        "seed": study.seed,
        "budget": asdict(study.budget),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "modalities": parts,
    }


def _knowledge(study: Study) -> dict[str, Any] | None:
    """What the run has learnt of the truth, over the whole split; None where there is none."""
    task = study.run.config.task
    terms = study.truth.terms(task.name) if study.truth is not None else None
    if terms is None or (task.kind != "survival" and task.outputs > 2):
        return None
    ids = np.intersect1d(study.order(), terms.index.to_numpy(np.int64))
    if not len(ids):
        return None
    said = predict(study.run, study.cohort, ids)
    number = study.target(torch.from_numpy(said.values))[:, 0].numpy()
    return knowledge(number[said.known], terms.loc[ids[said.known]])


def stored_trust(
    run: Run, cohort: Cohort, store: ResultStore, split: str | None = None
) -> Report | None:
    """The latest stored report of a run on a cohort, however many patients; None without one.

    split: only of this split. A damaged file is passed over.
    """
    latest: Report | None = None
    mine = (METHOD, VERSION, run.hash, cohort.fingerprint)
    for asked in store.parameters_of(METHOD).values():
        if tuple(asked.get(k) for k in ("method", "version", "run", "cohort")) != mine:
            continue
        if split is not None and asked.get("split") != split:
            continue
        found = store.get(asked)
        if found is None or not isinstance(found.content, dict) or "created" not in found.content:
            continue
        if latest is None or found.content["created"] > latest["created"]:
            latest = found.content
    return latest


def recommended(report: Report | None, modality: str) -> tuple[str, str | None] | None:
    """(method, layer) that the page shows by default; None where nothing was measured."""
    part = (report or {}).get("modalities", {}).get(modality)
    chosen = part.get("recommended") if part else None
    return (chosen["method"], chosen["layer"]) if chosen else None


def report_part(
    report: Report | None, modality: str, method: str, layer: str | None = None
) -> dict[str, Any] | None:
    """One method's measurements with what they are of; None where it was not measured."""
    part = (report or {}).get("modalities", {}).get(modality)
    for item in part["methods"] if part else ():
        if item["method"] == method and item["layer"] == layer:
            context = {k: (report or {})[k] for k in ("cohort", "simulated", "split", "run")}
            chosen = part["recommended"] or {}
            same = (chosen.get("method"), chosen.get("layer")) == (method, layer)
            return {
                **item,
                **context,
                "modality": modality,
                "kind": part["kind"],
                "truth": part.get("truth"),
                "held_out": chosen.get("held_out") if same else None,
                "better": None if same or not chosen else chosen["title"],
                "knowledge": (report or {}).get("knowledge"),
            }
    return None


# ---------------------------------------------------------------- as tables


@dataclass(frozen=True)
class TrustTable:
    """A table of text: title, column heads, rows; note: what it rests on."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def tables(report: Report) -> list[TrustTable]:
    """One table a modality, best map first, ready to print."""
    return [_table(name, part) for name, part in report["modalities"].items()]


RECORDINGS = ("signal", "video")
# Of a kind, what its localisation is told by; all others are parts that are ranked.
_PLACE: Mapping[str, tuple[str, ...]] = {
    "volume": ("points right", "chance", "energy (median)"),
    "signal": ("energy in truth", "chance", "points right", "chance of that"),
    "video": ("energy in truth", "chance", "points right", "chance of that"),
    "table": ("AUROC columns",),
    "text": ("AUROC columns", "words"),
    "bag": ("AUROC instances",),
}
_UNITS = ("code", "event")


def _table(name: str, part: Mapping[str, Any]) -> TrustTable:
    place = _PLACE.get(part["kind"], ("AUROC codes", "events"))
    columns = ("map", *place, "deletion", "insertion", "random weights", "noise")
    rows = [_row(item, part["kind"], len(place)) for item in sorted(part["methods"], key=_worth)]
    chosen = part["recommended"]
    note = f"{part['n']} patients. "
    note += f"Shown by default: {chosen['title']}. {chosen['rule']}" if chosen else ""
    return TrustTable(f"{part.get('title', name)} ({name})", columns, tuple(rows), note)


def _worth(item: Mapping[str, Any]) -> tuple[bool, float]:
    found = item["localisation"]
    if not found:
        return not item["recommended"], 0.0
    best = found["pointing"]["value"] if "pointing" in found else found["auroc"]["code"]["value"]
    return not item["recommended"], -(best or 0.0)


def _row(item: Mapping[str, Any], kind: str, places: int) -> tuple[str, ...]:
    found = item["localisation"]
    place = _place(found, kind)[:places] if found else ("",) * places
    curves = next(iter((item["faithfulness"] or {}).values()), None)
    random, still = item["randomisation"], item["stability"]
    return (
        f"{item['title']}{' *' if item['recommended'] else ''}",
        *place,
        number(curves["deletion"]) if curves else "",
        number(curves["insertion"]) if curves else "",
        f"{random['verdict']} ({random['similarity']['value']:.2f})" if random else "",
        number(still["rank"]) if still else "",
    )


def _place(found: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    if kind == "volume":
        return (
            percent(found["pointing"]),
            f"{100 * found['chance']:.2g}%",
            number(found["energy_ratio"], "x"),
        )
    if kind in RECORDINGS:
        return (
            percent(found["energy"]),
            f"{100 * found['lesion_share']:.0f}%",
            percent(found["pointing"]),
            f"{100 * found['chance']:.0f}%",
        )
    return tuple(number(found["auroc"][unit]) for unit in _UNITS)


def percent(estimate: Mapping[str, Any]) -> str:
    """'78% (66 to 88)'."""
    if estimate["value"] is None:
        return "undefined"
    value, low, high = (100 * estimate[k] for k in ("value", "low", "high"))
    return f"{value:.0f}% ({low:.0f} to {high:.0f})"


def number(estimate: Mapping[str, Any], unit: str = "") -> str:
    """'0.91 (0.88 to 0.93)', or whole numbers from 100 on."""
    if estimate["value"] is None:
        return "undefined"
    shown = [estimate[k] for k in ("value", "low", "high")]
    text = [f"{x:.0f}" if max(map(abs, shown)) >= 100 else f"{x:.2f}" for x in shown]
    return f"{text[0]}{unit} ({text[1]} to {text[2]})"
