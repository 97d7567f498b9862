"""A comparison in sentences, generated from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.evaluation import best_unimodal, find_difference
from analysis.external import EXTERNAL
from app.figures.text import count, interval, number, p_phrase, signed
from app.workspace import SIGNIFICANT, is_real, leader

Evaluation = Mapping[str, Any]


def verdict(evaluation: Evaluation) -> str:
    """Who leads in a split, by how much, and whether that is more than chance. Plain text."""
    best = leader(evaluation)
    split = evaluation["split"]
    if best is None:
        return evaluation["undefined"] or f"C is undefined for the {split} patients."
    c = interval(best["c_index"])
    if len(evaluation["runs"]) == 1:
        return f"{best['title']} has an {split} C of {c}; it is the only run chosen."
    lead = f"{best['title']} has the highest {split} C, {c}"
    if best["strategy"] == EXTERNAL:
        return f"{lead}; its predictions were made elsewhere. {_trained(evaluation, best)}"
    if best["strategy"] == "unimodal":
        return f"{lead}: no fusion strategy is above the best single modality{_next(evaluation)}."
    baseline = best_unimodal(evaluation["runs"])
    if baseline is None:
        return f"{lead}; no single modality is among the chosen runs.{_level(evaluation, best)}"
    found = find_difference(evaluation, best["run"], baseline["run"])
    assert found is not None
    gap = {k: None if v is None else 100 * v for k, v in found["difference"].items()}
    span = f"{signed(gap['low'])} to {signed(gap['high'])}, Holm {p_phrase(found['p_holm'])}"
    points = f"{number(gap['value'], 1)} points ({span})"
    if is_real(found):
        text = f"it beats the best single modality, {baseline['title']}, by {points}"
    elif found["p"] is not None and found["p"] < SIGNIFICANT:
        pairs = len(evaluation["differences"])
        text = (
            f"it is above the best single modality, {baseline['title']}, by {points}, which does "
            f"not stand after correction for {count(pairs, 'comparison')}"
        )
    else:
        text = (
            f"it is above the best single modality, {baseline['title']}, by {points}, which is "
            "within chance"
        )
    return f"{lead}; {text}.{_level(evaluation, best)}"


def _next(evaluation: Evaluation) -> str:
    fusion = [r for r in evaluation["runs"] if r["strategy"] not in ("unimodal", EXTERNAL)]
    fusion = [r for r in fusion if r["c_index"]["value"] is not None]
    if not fusion:
        return " (none is among the chosen runs)"
    closest = max(fusion, key=lambda r: float(r["c_index"]["value"]))
    return f"; the closest is {closest['title']}, {number(closest['c_index']['value'])}"


def _trained(evaluation: Evaluation, best: Mapping[str, Any]) -> str:
    """How far the best run with a model is behind predictions made elsewhere."""
    models = [r for r in evaluation["runs"] if r["strategy"] != EXTERNAL]
    models = [r for r in models if r["c_index"]["value"] is not None]
    if not models:
        return "No run with a model is among the chosen runs."
    closest = max(models, key=lambda r: float(r["c_index"]["value"]))
    found = find_difference(evaluation, closest["run"], best["run"])
    assert found is not None
    gap = {k: None if v is None else 100 * v for k, v in found["difference"].items()}
    return (
        f"The best run with a model is {closest['title']}, {number(closest['c_index']['value'])}: "
        f"{number(gap['value'], 1)} points ({signed(gap['low'])} to {signed(gap['high'])}, Holm "
        f"{p_phrase(found['p_holm'])})."
    )


def _level(evaluation: Evaluation, best: Mapping[str, Any]) -> str:
    """How many other fusion runs cannot be told apart from the leader."""
    others = [
        row["run"]
        for row in evaluation["runs"]
        if row["run"] != best["run"] and row["strategy"] not in ("unimodal", EXTERNAL)
    ]
    found = [find_difference(evaluation, best["run"], other) for other in others]
    level = sum(d is not None and not is_real(d) for d in found)
    if not level:
        return ""
    noun = "other fusion strategy" if level == 1 else "other fusion strategies"
    return f" {level} {noun} cannot be told apart from it on these patients."
