"""What the measurements of one map say, in plain words, and whether it may be shown unmarked.

The thresholds are this project's, stated here and in no sentence hidden:

    pointing (volumes)   passes from 70% of patients, fails below 30%, or when chance lies within
                         its interval
    energy (signals, videos)   passes when what carries the outcome gets 1.5 times what an even map
                         would give it, fails when chance lies within its interval
    AUROC of causal codes, columns, instances   passes from 0.9, fails below 0.7, or when 0.5 lies
                         within its interval
    deletion, insertion  pass when both intervals lie above 0 (random order), fail when one lies
                         wholly below
    random weights       fails when the map survives them, mixed when it partly does
    input noise          passes from a rank correlation of 0.8, fails below 0.5

A card is 'good' when all that was measured passes, 'fails' when one check fails, else 'mixed'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analysis.trust.report import RECORDINGS, number, percent

Level = Literal["good", "mixed", "fails", "unknown"]
Outcome = Literal["pass", "mixed", "fail"]

POINTING_GOOD, POINTING_BAD = 0.70, 0.30
AUROC_GOOD, AUROC_BAD = 0.90, 0.70
ENERGY_GOOD = 1.5
STILL_GOOD, STILL_BAD = 0.80, 0.50
IGNORANT = 0.60
NOT_MEASURED = (
    "Not measured for this run and these patients; run 'fusionlens trust'. Until then, take the "
    "map as a guess."
)


@dataclass(frozen=True)
class Check:
    """One check: its name, how it ended, and the sentence that says what was measured."""

    name: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class Card:
    """What to write beside a map. level 'fails': mark the map. sentences: most important first."""

    level: Level
    sentences: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def marked(self) -> bool:
        """Whether the page has to mark the map as one not to be believed."""
        return self.level == "fails"


def card(part: Mapping[str, Any] | None) -> Card:
    """A card from `report.report_part`; 'unknown' where nothing was measured."""
    makers: tuple[Callable[[Mapping[str, Any]], Check | None], ...] = (
        _localisation,
        _randomisation,
        _faithfulness,
        _stability,
    )
    made = [make(part) for make in makers] if part is not None else []
    checks = tuple(check for check in made if check is not None)
    if part is None or not checks:
        return Card("unknown", (NOT_MEASURED,), ())
    outcomes = {check.outcome for check in checks}
    level: Level = "good"
    if "fail" in outcomes:
        level = "fails"
    elif "mixed" in outcomes or not _says_where_or_why(checks):
        level = "mixed"
    # What speaks against the map is read first.
    order = {"fail": 0, "mixed": 1, "pass": 2}
    checks = tuple(sorted(checks, key=lambda check: order[check.outcome]))
    sentences = [check.sentence for check in checks]
    known = part.get("knowledge")
    if known and known["r2"] < IGNORANT and outcomes & {"mixed", "fail"}:
        sentences.append(
            f"Part of this is the model, not the map: the true causes explain only "
            f"{100 * known['r2']:.0f}% of the differences between its predictions."
        )
    if part.get("better"):
        sentences.append(f"Measured best of this run's maps: {part['better']}.")
    return Card(level, tuple(sentences), checks)


def _says_where_or_why(checks: tuple[Check, ...]) -> bool:
    """Being steady and depending on the weights alone makes no map good."""
    return any(check.name in ("localisation", "faithfulness") for check in checks)


def _localisation(part: Mapping[str, Any]) -> Check | None:
    found = part.get("localisation")
    if not found or not found["n"]:
        return None
    if part.get("kind") in RECORDINGS:
        return _energy(part, found)
    return _pointing(part, found) if "pointing" in found else _codes(part, found)


def _pointing(part: Mapping[str, Any], found: Mapping[str, Any]) -> Check:
    point, chance = found["pointing"], found["chance"]
    lesion = (part.get("truth") or {}).get("lesion", "lesion")
    outcome = _graded(point["value"], POINTING_GOOD, POINTING_BAD)
    if point["low"] <= chance:
        outcome = "fail"
    text = (
        f"Among {found['n']} {_patients(part)} with {_plural(lesion)}, the strongest point of this "
        f"map lay in {_article(lesion)} {lesion} in {_words(point)}; by chance "
        f"{100 * chance:.1g}%. "
        f"It puts {number(found['energy_ratio']).split(' ')[0]} times as much of itself into "
        f"{_plural(lesion)} as an even map would."
    )
    if found["no_positive_evidence"]:
        text += f" In {found['no_positive_evidence']} of them it shows nothing at all."
    return Check("localisation", outcome, text)


def _energy(part: Mapping[str, Any], found: Mapping[str, Any]) -> Check:
    truth = part.get("truth") or {}
    energy, ratio, point = found["energy"], found["energy_ratio_pooled"], found["pointing"]
    outcome: Outcome = "pass" if ratio["value"] >= ENERGY_GOOD else "mixed"
    if ratio["low"] <= 1.0:
        outcome = "fail"
    text = (
        f"Of this map, {_words(energy)} lies in the {truth.get('carriers', 'places')} that carry "
        f"the outcome ({found['n']} {_patients(part)} in whom some do); by chance "
        f"{100 * found['lesion_share']:.0f}%, their share of {truth.get('of', 'the whole')}. "
        f"Its strongest cell touches one in {percent(point).split(' ')[0]}; by chance "
        f"{100 * found['chance']:.0f}%."
    )
    if found["no_positive_evidence"]:
        text += f" In {found['no_positive_evidence']} of them it shows nothing at all."
    return Check("localisation", outcome, text)


def _codes(part: Mapping[str, Any], found: Mapping[str, Any]) -> Check:
    area = found["auroc"]["code"]
    one = "column" if part.get("kind") in ("table", "text") else "code"
    one = (part.get("truth") or {}).get("one", one)
    causes = "shows a cause of" if part.get("kind") == "bag" else "truly causes"
    if area["value"] is None:
        return Check("localisation", "mixed", f"No patient had both causal and other {one}s.")
    outcome = _graded(area["value"], AUROC_GOOD, AUROC_BAD)
    if area["low"] <= found["chance"]:
        outcome = "fail"
    text = (
        f"Among {found['n']} {_patients(part)}, a {one} that {causes} the outcome ranked above "
        f"one that does not in {100 * area['value']:.0f}% of pairs (95% interval "
        f"{100 * area['low']:.0f} to {100 * area['high']:.0f}); by chance 50%."
    )
    return Check("localisation", outcome, text)


def _randomisation(part: Mapping[str, Any]) -> Check | None:
    found = part.get("randomisation")
    if not found or not found["n"]:
        return None
    like = f"rank correlation {found['similarity']['value']:.2f}, {found['n']} patients"
    if found["verdict"] == "survives":
        text = f"Survives random weights ({like}): it shows the input, not the model. Do not trust."
        return Check("randomisation", "fail", text)
    if found["verdict"] == "partly":
        text = f"Partly survives random weights ({like}): some of it shows the input alone."
        return Check("randomisation", "mixed", text)
    text = f"Changes with the model's weights, as it should ({like} with random weights)."
    head = found["stages"][0]["strongest"]["value"] if found["stages"] else None
    if head is not None and head > found["threshold"]:
        text += (
            " With a random fusion and head alone it stays much the same: it shows what the "
            "encoder reads more than what the fusion makes of it."
        )
    return Check("randomisation", "pass", text)


def _faithfulness(part: Mapping[str, Any]) -> Check | None:
    found = part.get("faithfulness")
    if not found:
        return None
    curves = next(iter(found.values()))
    gains = (curves["deletion"], curves["insertion"])
    if any(gain["value"] is None for gain in gains):
        return None
    outcome: Outcome = "mixed"
    if all(gain["low"] > 0 for gain in gains):
        outcome = "pass"
    elif any(gain["high"] < 0 for gain in gains):
        outcome = "fail"
    said = {
        "pass": "The prediction follows it better than a random order",
        "mixed": "Whether the prediction follows it better than a random order is not certain",
        "fail": "The prediction follows it worse than a random order",
    }[outcome]
    text = (
        f"{said}: advantage {number(gains[0])} when its strongest parts are removed first, "
        f"{number(gains[1])} when they are put back first (0 is random, {curves['n']} patients)."
    )
    return Check("faithfulness", outcome, text)


def _stability(part: Mapping[str, Any]) -> Check | None:
    found = part.get("stability")
    if not found or found["rank"]["value"] is None:
        return None
    value = found["rank"]["value"]
    outcome = _graded(value, STILL_GOOD, STILL_BAD)
    said = {
        "pass": "Hardly moves",
        "mixed": "Moves somewhat",
        "fail": "Is not steady: it changes a good deal",
    }[outcome]
    text = f"{said} under a little noise in the input (rank correlation {value:.2f})."
    return Check("stability", outcome, text)


def _graded(value: float, good: float, bad: float) -> Outcome:
    if value >= good:
        return "pass"
    return "fail" if value < bad else "mixed"


def _patients(part: Mapping[str, Any]) -> str:
    return "simulated patients" if part.get("simulated") else "patients"


def _words(estimate: Mapping[str, Any]) -> str:
    value, rest = percent(estimate).split(" ", 1)
    return f"{value} (95% interval {rest.strip('()')})"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _plural(lesion: str) -> str:
    return {"embolus": "emboli", "calcium": "calcium"}.get(lesion, f"{lesion}s")
