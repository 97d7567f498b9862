"""Which parts of one modality carry a patient's prediction: the entry to all methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from analysis.attribution.case import AttributionError, Case
from analysis.attribution.game import Contexts, Game
from analysis.attribution.parts import part_table
from analysis.attribution.preview import STEPS, event_gradients
from analysis.attribution.result import Attribution, describe_target
from analysis.attribution.shapley import (
    EXACT_PARTS,
    Estimate,
    exact,
    permutation,
    shap_partition,
    shap_permutation,
)
from analysis.attribution.target import Target
from models.contracts import Kind

Method = Literal[
    "permutation", "exact", "shap_permutation", "shap_partition", "integrated_gradients"
]
METHODS: dict[str, str] = {
    "permutation": "Shapley values, sampled until two halves agree",
    "exact": "Shapley values, all coalitions",
    "shap_permutation": "shap's PermutationExplainer",
    "shap_partition": "shap's PartitionExplainer over neighbours in time",
    "integrated_gradients": "Integrated gradients (a fast preview)",
}
ROUNDS = 8
BLOCK = 2


def default_budget(n_parts: int) -> int:
    """Evaluations for eight rounds of two pairs of orders."""
    return ROUNDS * (4 * n_parts + 4)


def explain_modality(
    case: Case,
    modality: str,
    target: Target,
    *,
    method: str = "permutation",
    budget: int | None = None,
    agreement: float = 0.9,
    seed: int = 0,
    contexts: str = "given",
    background: npt.ArrayLike | None = None,
    block: int = BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Shares of the parts of a modality in the explained number.

    method: see METHODS. 'permutation' becomes 'exact' up to 10 parts where the budget allows
    (the result says which it was). budget: evaluations at most (default: 32 a part); agreement:
    rank correlation of the halves at which sampling stops. contexts: 'given' explains
    f(x) - f(modality absent) beside the patient's other modalities; 'ledger' the modality's
    Shapley value among them (`game.contexts_of`); `whole` and `reference` are then averages over
    those contexts. background: (R, C) rows of a table (NaN where missing), with which a column
    that is left out is filled instead of being missing: shares then sum to f(x) minus the mean
    over the background, for S(t) as in SurvSHAP(t) (Krzyzinski et al. 2023). block: cells a side
    of the regions of a volume. progress(done, total) is called after each round.

    `whole` is the number that the app shows, so `gap` also tells of any difference between it and
    the value function (a stored feature that no longer fits, say).

    Raises AttributionError when the patient lacks the modality, the budget is too small or a
    method does not fit, with the remedy.
    """
    if method not in METHODS:
        raise AttributionError(
            f"there is no method '{method}'; choose one of {', '.join(METHODS)}."
        )
    if contexts not in ("given", "ledger"):
        raise AttributionError(f"contexts are 'given' or 'ledger', not '{contexts}'.")
    if not 0 < agreement <= 1:
        raise AttributionError(f"an agreement is above 0 and at most 1, not {agreement:g}.")
    beside = cast(Contexts, contexts)
    case.require(modality)
    parameters: dict[str, Any] = {"contexts": contexts}
    if case.kind(modality) is Kind.VOLUME:
        parameters["block"] = block
    if method == "integrated_gradients":
        if background is not None:
            raise AttributionError("integrated gradients take no background; leave it out.")
        return _gradients(case, modality, target, beside, parameters)
    game = Game(case, modality, target, contexts=beside, block=block, background=background)
    spend = default_budget(game.n_parts) if budget is None else budget
    affordable = budget is None or 2**game.n_parts <= budget
    if method == "permutation" and game.n_parts <= EXACT_PARTS and affordable:
        method = "exact"
    found = _estimate(game, method, spend, agreement, seed, progress)
    if method != "exact":
        parameters.update(budget=spend)
    if method == "permutation":
        parameters.update(wanted_agreement=agreement)
    if method in ("permutation", "shap_permutation"):
        parameters.update(seed=seed)
    if background is not None:
        parameters.update(background_rows=len(np.asarray(background)))
    whole = np.asarray(case.value(target)) if contexts == "given" else found.everything
    return Attribution(
        subject=case.subject,
        modality=modality,
        kind=str(case.kind(modality)),
        method=method,
        target=describe_target(target),
        parts=part_table(case, modality, block),
        values=found.values,
        whole=whole,
        reference=found.nothing,
        agreement=found.agreement,
        spread=found.spread,
        evaluations=found.evaluations,
        parameters=parameters,
    )


def _estimate(
    game: Game,
    method: str,
    budget: int,
    agreement: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Estimate:
    if method == "exact":
        return exact(game, progress)
    if method == "permutation":
        return permutation(game, budget=budget, agreement=agreement, seed=seed, progress=progress)
    if method == "shap_permutation":
        return shap_permutation(game, budget=budget, seed=seed)
    return shap_partition(game, budget=budget)


def _gradients(
    case: Case, modality: str, target: Target, contexts: Contexts, parameters: dict[str, Any]
) -> Attribution:
    """As an Attribution. Its reference is the gradients' own baseline, which is not absence."""
    found = event_gradients(case, modality, target, contexts=contexts)
    whole = np.asarray(case.value(target)) if contexts == "given" else found.everything
    return Attribution(
        subject=case.subject,
        modality=modality,
        kind=str(case.kind(modality)),
        method="integrated_gradients",
        target=describe_target(target),
        parts=part_table(case, modality),
        values=found.values,
        whole=whole,
        reference=found.baseline,
        evaluations=found.evaluations,
        parameters={**parameters, "steps": STEPS, "weight": found.form},
    )
