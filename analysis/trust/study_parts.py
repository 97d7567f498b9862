"""Trust of the shares of a modality's parts: events one by one, columns of a table, instances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.attribution.attention import mil_attention
from analysis.attribution.case import AttributionError, Case
from analysis.attribution.game import Game
from analysis.attribution.parts import part_table
from analysis.attribution.within import default_budget, explain_modality
from analysis.trust import faithfulness as faith
from analysis.trust.agreement import agreement, attention_shares
from analysis.trust.localisation import EventScore, score_events, summarise_events
from analysis.trust.study import (
    RULE_FAITHFUL,
    RULE_TRUTH,
    Entry,
    Study,
    check_sanity,
    entry,
    gain,
    halves,
    mean_matrices,
    survives,
)
from models.contracts import Kind

Floats = npt.NDArray[np.float64]
Shares = dict[str, Floats]

Causes = Mapping[str, Collection[str]]
"""{code or instance: terms of the hazard that it carries}."""

UNIT = "code"
"""What the choice and the aim of the AUROC are stated in: |sum of shares| of each code."""
ROUND = 4
"""Evaluations a part of the shares that are only compared with themselves: one sampling round,
always of the same orders."""
MOST = 2048
"""Evaluations at most of the shares that are localised and tested for faithfulness (but at least
one round): within it they are sampled as on the page, until their halves agree."""
TITLES: Mapping[str, str] = {
    "permutation": "Shapley values",
    "integrated_gradients": "Integrated gradients",
    "attention": "Attention (mean over heads)",
    "attention_gradient": "Attention, gradient-weighted",
}
CHOOSABLE = ("permutation", "integrated_gradients")
POOLED = "Attention of the bag's own encoder"
FEWER = 24
"""Bags are explained in so many patients at most: there are as many parts as tiles."""


def study_parts(study: Study, modality: str) -> dict[str, Any]:
    """The report's part for events, a table or a bag."""
    kind = study.run.config.modalities[modality].kind
    if kind is Kind.BAG:
        fewer = replace(study.budget, patients=min(study.budget.patients, FEWER))
        study = replace(study, budget=fewer)
    causes = _causes(study, modality)
    ids, without = _patients(study, modality, causes)
    if not ids:
        return {"kind": str(kind), "n": 0, "methods": [], "recommended": None, "why": "no patients"}
    found = _explain_all(study, modality, ids, causes)
    # A patient who lacks the other modalities has no attention; others may have.
    names = dict.fromkeys(name for shares in found.shares for name in shares)
    titles = {**TITLES, "attention": POOLED} if kind is Kind.BAG else TITLES
    entries = {name: entry(name, None, titles.get(name, name)) for name in names}
    for name in entries.keys() & found.scores.keys():
        scores = found.scores[name]
        entries[name]["localisation"] = summarise_events(scores, study.seed)
    n = study.budget
    random, still = check_sanity(
        study,
        modality,
        found.cases[: n.sanity],
        lambda case: _shares(case, modality, study, quick=True),
    )
    measured = _faithful(study, modality, found)
    for name, item in entries.items():
        item["randomisation"], item["stability"] = random.get(name), still.get(name)
        if name in measured:
            curves = faith.summarise(measured[name], study.seed)
            item["faithfulness"] = {"parts_left_out": {"n": len(measured[name]), **curves}}
    return {
        "kind": str(kind),
        "n": len(ids),
        "truth": causes.said(without) if causes else None,
        "methods": list(entries.values()),
        "recommended": _recommend(study, entries, found.scores, measured, causes),
        "agreement": mean_matrices(found.agreements),
    }


class _Found:
    """What was explained: by patient, and by method."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.shares: list[Shares] = []
        self.scores: dict[str, list[EventScore]] = defaultdict(list)
        self.agreements: list[dict[str, Any]] = []


@dataclass(frozen=True)
class _Known:
    """What the truth knows of a modality's parts.

    of: a patient's causes. parts: the patient's codes or instances. rule: of RULE_TRUTH. said: the
    report's truth section, given how many patients were left out.
    """

    of: Callable[[int], Causes]
    parts: Callable[[int], set[str]]
    rule: str
    said: Callable[[int], dict[str, Any]]


def _causes(study: Study, modality: str) -> _Known | None:
    """What is known of events or of a bag; None where there is no truth about this modality."""
    if study.truth is None:
        return None
    kind = study.run.config.modalities[modality].kind
    if kind is Kind.EVENTS and study.truth.causal_codes is not None:
        return _causal_codes(study, modality, study.truth.causal_codes)
    if kind is Kind.BAG:
        return _causal_instances(study, modality)
    return None


def _causal_codes(study: Study, modality: str, table: pd.DataFrame) -> _Known:
    causes = {str(code): set(rows["term"]) for code, rows in table.groupby("code")}
    events, usable = study.cohort.events(modality), study.cohort.usable_events(modality)

    def codes(subject: int) -> set[str]:
        rows = events.rows(subject)
        return {events.codes[i] for i in events.code_index[rows][usable[rows]]}

    return _Known(
        lambda _: causes, codes, "events", lambda n: _truth_json(study, modality, causes, n)
    )


def _causal_instances(study: Study, modality: str) -> _Known | None:
    """Instances that show a term of this task; None where the truth names none of the bag."""
    truth, bag = study.truth, study.cohort.bag(modality)
    assert truth is not None
    terms = truth.terms(study.run.config.task.name)
    if terms is None:
        return None
    counted = {str(name).removeprefix("term_") for name in terms.columns}

    def causes(subject: int) -> Causes:
        rows = truth.bag_instances(modality, subject)
        if rows is None:
            return {}
        shown = zip(rows["instance"], rows["carries"], strict=True)
        return {str(name): kept for name, terms in shown if (kept := counted & set(terms))}

    if not any(causes(int(i)) for i in bag.subject_ids):
        return None
    one = study.cohort.modality(modality).instance_name
    return _Known(
        causes,
        lambda subject: set(bag.instances[bag.rows(subject)]),
        "instances",
        lambda left_out: _instances_json(one, left_out),
    )


def _patients(study: Study, modality: str, known: _Known | None) -> tuple[list[int], int]:
    """Patients who have the modality and (where known) a causal part and another."""
    there = set(study.cohort.having(modality).tolist())
    candidates = [int(i) for i in study.order() if int(i) in there]
    if known is None:
        return candidates[: study.budget.patients], 0
    chosen: list[int] = []
    without = 0
    for subject in candidates:
        if len(chosen) == study.budget.patients:
            break
        causes, parts = known.of(subject), known.parts(subject)
        causal = sum(part in causes for part in parts)
        if 0 < causal < len(parts):
            chosen.append(subject)
        else:
            without += 1
    return chosen, without


def _shares(case: Case, modality: str, study: Study, *, quick: bool = False) -> Shares:
    """Every method's shares (P,) of one patient; `quick` for comparisons with themselves."""
    n_parts = len(part_table(case, modality))
    once = ROUND * n_parts
    budget = once if quick else max(once, min(default_budget(n_parts), MOST))
    made: Shares = {}
    for method in CHOOSABLE:
        try:
            shown = explain_modality(
                case, modality, study.target, method=method, budget=budget, seed=study.seed
            )
        except AttributionError:
            if method == CHOOSABLE[0]:
                raise
            continue  # integrated gradients need an encoder with a gradient
        made[method] = np.asarray(shown.values[:, 0], np.float64)
    if case.kind(modality) is Kind.EVENTS:
        for name, target in (("attention", None), ("attention_gradient", study.target)):
            looked = attention_shares(case, modality, target)
            if looked is not None:
                made[name] = looked
    if case.kind(modality) is Kind.BAG:
        with suppress(AttributionError):  # an encoder that pools otherwise
            made["attention"] = mil_attention(case, modality).weights
    return made


def _explain_all(study: Study, modality: str, ids: Sequence[int], causes: _Known | None) -> _Found:
    found = _Found()
    keep = max(study.budget.faithful, study.budget.sanity)
    for number, case in enumerate(study.cases(modality, ids if causes else ids[:keep])):
        shares = _shares(case, modality, study)
        if number < keep:
            found.cases.append(case)
            found.shares.append(shares)
        if len(shares) > 1:
            found.agreements.append(agreement(shares, k=5).as_json())
        if causes:
            parts: pd.DataFrame = part_table(case, modality)
            if "code" not in parts:
                parts = pd.DataFrame({"code": parts["name"]})
            own = causes.of(case.subject_id)
            vocabulary = study.run.vocabularies.get(modality)
            known = None if vocabulary is None else vocabulary.index.keys()
            for name, values in shares.items():
                found.scores[name].append(score_events(parts, values, own, known))
    return found


def _faithful(study: Study, modality: str, found: _Found) -> dict[str, list[faith.Faithfulness]]:
    n = study.budget.faithful
    measured: dict[str, list[faith.Faithfulness]] = {}
    for number, case in enumerate(found.cases[:n]):
        study.say(f"{modality}: deletion and insertion", number, n)
        game = Game(case, modality, study.target)
        made = faith.faithfulness(
            lambda kept, game=game: game(kept)[:, 0],  # type: ignore[misc]
            found.shares[number],
            n_points=24,
            n_random=8,
            seed=study.seed + number,
        )
        for name, item in made.items():
            measured.setdefault(name, []).append(item)
    return measured


def _recommend(
    study: Study,
    entries: Mapping[str, Entry],
    scores: Mapping[str, Sequence[EventScore]],
    measured: Mapping[str, Sequence[faith.Faithfulness]],
    causes: _Known | None,
) -> dict[str, Any]:
    def worth(name: str) -> float:
        if scores:
            return float(np.nanmean([s.auroc[UNIT] for s in halves(scores[name])[0]]))
        return gain(halves(measured[name])[0])

    known = [name for name in CHOOSABLE if name in entries]
    trusted = [name for name in known if not survives(entries[name])] or known
    name = max(trusted, key=worth)
    chosen = entries[name]
    chosen["recommended"] = True
    if scores:
        held = {"localisation": summarise_events(halves(scores[name])[1], study.seed)}
    else:
        rest = faith.summarise(halves(measured[name])[1], study.seed)
        held = {"faithfulness": {"parts_left_out": rest}}
    return {
        "method": name,
        "layer": None,
        "title": chosen["title"],
        "rule": RULE_TRUTH[causes.rule] if causes and scores else RULE_FAITHFUL,
        "held_out": held,
        "survives_random_weights": survives(chosen),
    }


def _truth_json(study: Study, modality: str, causes: Causes, without: int) -> dict[str, Any]:
    vocabulary = study.run.vocabularies.get(modality)
    known = sum(code in vocabulary.index for code in causes) if vocabulary is not None else None
    return {
        "causal_codes": len(causes),
        "known_to_the_run": known,
        "left_out_without_both": without,
        "unit": UNIT,
        "note": (
            "A code counts as a cause when the stated hazard reads it. The patient's own value may "
            "happen to contribute nothing, and older values of a causal test are not read."
        ),
    }


def _instances_json(one: str, without: int) -> dict[str, Any]:
    return {
        "one": one,
        "left_out_without_both": without,
        "unit": "instance",
        "note": (
            f"A {one} counts as a cause when its tissue shows something that the stated formula "
            "reads, whether or not that is unusual in this patient."
        ),
    }
