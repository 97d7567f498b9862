"""Is a run balanced, dominated by one modality, or has one collapsed? By stated rules, in words.

In this order:
no better than chance: the interval of the run's score reaches 0.5, so there is nothing to divide.
collapse suspected of a modality: all of (a) it is informative alone: the interval of the unimodal
    run's score (of the fusion run told it alone, where no unimodal run is given) lies above 0.5;
    (b) the interval of what it adds to the rest includes 0; (c) exchanging it between patients
    does not lower the score, p >= 0.05, or by less than half a point for certain (the interval of
    the drop ends below 0.005); (d) its mean share of the patients' predictions is below
    a fifth of an equal share, 0.2 / M. A modality that tells only what the others tell looks the
    same, hence suspected.
X-dominant: X has at least 60% of the sum of the Shapley values, and the interval of X's value
    minus all the others' together lies above 0.
uneven: nobody dominates, but the Shapley intervals of some modalities include 0 or less: these
    patients do not show that they carry anything.
balanced: nobody dominates and the Shapley interval of every modality lies above 0.
Intervals are 95% and not adjusted for the number of modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from analysis.classification.evaluation import interval_json
from analysis.imbalance.cohort import Game
from analysis.imbalance.game import shapley_weights
from analysis.imbalance.scores import CHANCE

Verdict = Literal["undefined", "chance", "collapse", "dominant", "uneven", "balanced"]
DOMINANT = 0.6
TINY = 0.2
NEGLIGIBLE = 0.005
ALPHA = 0.05
RULES = {
    "chance": "the interval of the run's score reaches 0.5",
    "collapse": (
        "informative alone (interval above 0.5), adds nothing to the rest (interval includes 0), "
        f"exchanging it does not lower the score (p >= {ALPHA}, or the interval of the drop ends "
        f"below {NEGLIGIBLE}), and its mean share of the predictions is below {TINY} / number of "
        "modalities"
    ),
    "dominant": (
        f"at least {DOMINANT:.0%} of the sum of the Shapley values, and more than all the others "
        "together (interval of the difference above 0)"
    ),
    "uneven": "nobody dominates; the Shapley intervals of some modalities include 0 or less",
    "balanced": "nobody dominates; the Shapley interval of every modality lies above 0",
}
METRICS = {"c_index": "C", "auc": "AUC"}
Interval = Mapping[str, float | None]


def judge(game: Game, parts: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """The verdict on a run, plain JSON: `verdict`, `words`, and by modality what the rules saw.

    parts: shapley, utilisation, shuffled, shares, alone, metric and undefined as the report has
    them. titles: {modality: for people}. informative_by: 'unimodal run' or 'told alone'.
    """
    if parts["undefined"] is not None:
        words = f"No verdict: {parts['undefined']}"
        return {"verdict": "undefined", "modality": None, "words": words, "rules": RULES,
                "modalities": []}  # fmt: skip
    rows = [_seen(parts, at, name) for at, name in enumerate(game.modalities)]
    for row, gap in zip(rows, _against_the_rest(game), strict=True):
        row["against_the_rest"] = gap
    verdict, who = _verdict(parts["shapley"], rows)
    words = _words(verdict, who, parts, rows, titles)
    return {
        "verdict": verdict,
        "modality": who,
        "words": words,
        "rules": RULES,
        "modalities": rows,
    }


def _seen(parts: Mapping[str, Any], at: int, name: str) -> dict[str, Any]:
    """What the rules say of one modality."""
    single = parts["alone"]["modalities"][at]
    by = "unimodal run" if single["unimodal"] is not None else "told alone"
    score = single["unimodal"] if single["unimodal"] is not None else single["told_alone"]
    shuffled, share = parts["shuffled"]["modalities"][at], parts["shares"]["modalities"][at]
    gain = parts["utilisation"][at]["gain"]
    mean = share["mean"]["value"]
    row: dict[str, Any] = {
        "modality": name,
        "carries": above(parts["shapley"]["modalities"][at]["value"], 0.0),
        "adds": None if gain["value"] is None else _sign(gain),
        "informative": None if score is None else above(score, CHANCE),
        "informative_by": by,
        "used_by_exchange": None if shuffled["p"] is None else _missed(shuffled),
        "tiny_share": None if mean is None else bool(mean < TINY / len(parts["utilisation"])),
    }
    row["collapse_suspected"] = bool(
        row["informative"]
        and row["adds"] == "within chance"
        and row["used_by_exchange"] is False
        and row["tiny_share"]
    )
    return row


def _missed(shuffled: Mapping[str, Any]) -> bool:
    """Whether exchanging a modality lowers the score by more than nothing."""
    high = shuffled["drop"]["high"]
    return bool(shuffled["p"] < ALPHA and (high is None or high >= NEGLIGIBLE))


def _against_the_rest(game: Game) -> list[dict[str, float | None]]:
    weights = shapley_weights(len(game.modalities))
    total = weights.sum(axis=0)
    return [interval_json(game.interval(2 * one - total)) for one in weights]


def _verdict(
    shapley: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[Verdict, str | None]:
    if not above(shapley["score"], CHANCE):
        return "chance", None
    collapsed = [row["modality"] for row in rows if row["collapse_suspected"]]
    if collapsed:
        return "collapse", collapsed[0]
    for row, entry in zip(rows, shapley["modalities"], strict=True):
        share = entry["share"]["value"]
        if share is not None and share >= DOMINANT and above(row["against_the_rest"], 0.0):
            return "dominant", row["modality"]
    return ("balanced" if all(row["carries"] for row in rows) else "uneven"), None


def _words(
    verdict: Verdict,
    who: str | None,
    parts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
) -> str:
    shapley = parts["shapley"]
    metric = METRICS[parts["metric"]]
    score = f"{metric} {_told(shapley['score'], 1, 3)}"
    share = {row["modality"]: row["share"] for row in shapley["modalities"]}
    if verdict == "chance":
        return f"No better than chance: {score}. There is nothing to divide between modalities."
    if verdict == "collapse":
        names = [row["modality"] for row in rows if row["collapse_suspected"]]
        each = [_unheard(name, parts, titles, metric) for name in names]
        head = f"Collapse suspected: {'; '.join(each)}."
    elif verdict == "dominant":
        assert who is not None
        head = (
            f"{titles[who]}-dominant: {titles[who]} carries {_told(share[who], 100, 0, '%')} of "
            f"what the run is above chance ({score})."
        )
    elif verdict == "uneven":
        silent = [titles[r["modality"]] for r in rows if not r["carries"]]
        head = (
            f"Uneven: no modality dominates, but these patients do not show that {_listed(silent)} "
            f"{'carries' if len(silent) == 1 else 'carry'} anything ({score})."
        )
    else:
        carried = [f"{titles[n]} {_told(s, 100, 0, '%')}" for n, s in share.items()]
        head = f"Balanced: {_listed(carried)} of what the run is above chance ({score})."
    wanted = [r for r in rows if r["collapse_suspected"]] or _weakest(rows, shapley)
    ends = [_sentence(row["modality"], parts, titles, metric) for row in wanted]
    return " ".join([head, *ends, *_collapse_words(verdict, rows, titles)])


def _unheard(name: str, parts: Mapping[str, Any], titles: Mapping[str, str], metric: str) -> str:
    """What a modality could say, and what of it the fused run kept."""
    single = next(row for row in parts["alone"]["modalities"] if row["modality"] == name)
    best = single["unimodal"] or single["told_alone"]
    text = f"the run hardly uses {titles[name]}, which alone reaches {metric} {_told(best, 1, 3)}"
    if single["gap"] is None:
        return f"{text}; it may repeat what the others say"
    gap = _told(single["gap"], 100, 1)
    text = f"{text}; told it alone, the run is {gap} points below the run trained on it"
    return text if above(single["gap"], 0.0) else f"{text}, so it may only repeat the others"


def _weakest(
    rows: Sequence[Mapping[str, Any]], shapley: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """The modality with the smallest Shapley value, of which the reader wants to know more."""
    values = [entry["value"]["value"] for entry in shapley["modalities"]]
    return [rows[int(np.argmin(values))]]


def _sentence(name: str, parts: Mapping[str, Any], titles: Mapping[str, str], metric: str) -> str:
    """What one modality adds to the rest, and in how many patients it matters."""
    at = [row["modality"] for row in parts["utilisation"]].index(name)
    gain = parts["utilisation"][at]["gain"]
    others = [titles[row["modality"]] for row in parts["utilisation"] if row["modality"] != name]
    beyond = others[0] if len(others) == 1 else "the others"
    text = f"{titles[name]} adds {_told(gain, 100, 1)} points of {metric} beyond {beyond}"
    if _sign(gain) == "within chance":
        text += ", which is within chance"
    changes = parts["shares"]["modalities"][at]["changes"]
    if changes is not None and changes["value"] is not None:
        n = parts["shares"]["modalities"][at]["n"]
        text += f"; without it {100 * changes['value']:.0f}% of {n:,} patients change their group"
    return f"{text}."


def _collapse_words(
    verdict: Verdict, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]
) -> list[str]:
    if verdict == "collapse":
        return []
    blind = [
        titles[r["modality"]]
        for r in rows
        if r["informative_by"] == "told alone"
        and not r["informative"]
        and r["adds"] == "within chance"
        and r["used_by_exchange"] is False
    ]
    if blind:
        return [
            f"Whether {_listed(blind)} collapsed cannot be told without "
            f"{'a run trained on it alone' if len(blind) == 1 else 'runs trained on each alone'}."
        ]
    return ["Collapse not suspected."]


def above(estimate: Interval, level: float) -> bool:
    """Whether an interval lies above a level."""
    return estimate["low"] is not None and estimate["low"] > level


def _sign(gain: Interval) -> str:
    if gain["low"] is not None and gain["low"] > 0:
        return "more"
    if gain["high"] is not None and gain["high"] < 0:
        return "less"
    return "within chance"


def _told(estimate: Interval, scale: float, digits: int, unit: str = "") -> str:
    """'0.9 (95% CI 0.1 to 1.8)'."""
    value, low, high = (estimate[part] for part in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "not defined"
    shown = [_number(scale * v, digits) for v in (value, low, high)]
    return f"{shown[0]}{unit} (95% CI {shown[1]} to {shown[2]})"


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
