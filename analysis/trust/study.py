"""What every trust study needs: who is measured, on how many, and how it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.attribution.case import Case, open_case
from analysis.attribution.result import VolumeMap
from analysis.attribution.target import ClassLogit, LogRisk, Target
from analysis.cohort.cohort import Cohort
from analysis.cohort.truth import Truth
from analysis.trust import faithfulness as faith
from analysis.trust import sanity
from models.checkpoint import Run

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Entry = dict[str, Any]
"""One method of one modality: method, layer, title and a section for each check (or None)."""
Progress = Callable[[str, int, int], None]
"""(what, done, in all)."""

WITHIN_POINTING = 0.10
RULE_TRUTH = {
    "volume": (
        "Chosen on one half of the patients: of the maps whose strongest point lies in the lesion "
        "nearly as often as the best one's (at most 10 points less), the one with the most energy "
        "in the lesion; maps that survive random weights are passed over. Its held-out numbers "
        "are those of the other half."
    ),
    "events": (
        "Chosen on one half of the patients by the AUROC of causal codes; methods that survive "
        "random weights are passed over. Its held-out numbers are those of the other half."
    ),
    "instances": (
        "Chosen on one half of the patients by the AUROC of instances that show a cause; methods "
        "that survive random weights are passed over. Its held-out numbers are those of the other "
        "half."
    ),
    "recording": (
        "Chosen on one half of the patients: the map with the most energy in what carries the "
        "outcome; maps that survive random weights are passed over. Its held-out numbers are "
        "those of the other half."
    ),
    "columns": (
        "The only method for a table, told or not, so nothing was chosen. Its held-out numbers "
        "are those of every other patient."
    ),
}
RULE_FAITHFUL = (
    "The truth is not known here. Chosen on one half of the patients by the sum of the deletion "
    "and insertion advantages over random order; methods that survive random weights are passed "
    "over. Its held-out numbers are those of the other half."
)
RULE_NOTHING = RULE_FAITHFUL.replace(
    "The truth is not known here. Chosen", "Nothing in it causes the outcome: chosen"
)
RULE_FEW = RULE_FAITHFUL.replace(
    "The truth is not known here. Chosen",
    "Too few patients show what is known of the truth: chosen",
)


@dataclass(frozen=True)
class Budget:
    """How many patients each check is made on; what is slow gets fewer.

    patients: localisation. faithful: deletion and insertion. sanity: random weights and input
    noise. slow: methods on the input (occlusion, integrated gradients) and volumes encoded again
    for each deletion.
    """

    patients: int = 50
    faithful: int = 10
    sanity: int = 6
    slow: int = 4


@dataclass(frozen=True)
class Study:
    """One run on one split of one cohort."""

    run: Run
    cohort: Cohort
    split: str
    seed: int
    budget: Budget
    target: Target
    truth: Truth | None
    progress: Progress | None = None
    slow_maps: dict[tuple[str, int], dict[str, VolumeMap]] = field(default_factory=dict)

    def cases(self, modality: str, ids: Sequence[int]) -> Iterator[Case]:
        """The patients, one by one, said to `progress`."""
        for done, subject in enumerate(ids):
            self.say(f"{modality}: maps", done, len(ids))
            yield open_case(self.run, self.cohort, int(subject))

    def say(self, what: str, done: int, of: int) -> None:
        """Progress, if anyone listens."""
        if self.progress is not None:
            self.progress(what, done, of)

    def order(self) -> Ids:
        """The split's patients with an outcome, in the study's random order."""
        ids = self.cohort.subject_ids(self.split, self.run.config.task.name)
        return np.random.default_rng(self.seed).permutation(ids)


def target_of(run: Run) -> Target:
    """The number that is studied: the log-risk, or the logit of the last class."""
    task = run.config.task
    if task.kind == "survival":
        return LogRisk()
    return ClassLogit(max(task.outputs, 2) - 1, task.classes[-1] if task.classes else "the class")


def entry(method: str, layer: str | None, title: str) -> Entry:
    """A method of which nothing is measured yet."""
    return {
        "method": method,
        "layer": layer,
        "title": title,
        "localisation": None,
        "faithfulness": None,
        "randomisation": None,
        "stability": None,
        "recommended": False,
    }


def survives(item: Mapping[str, Any]) -> bool:
    """Whether the map was found to survive random weights."""
    check = item["randomisation"]
    return bool(check) and check["verdict"] == "survives"


def halves(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Every other one: to choose on, and to report on."""
    return list(items[0::2]), list(items[1::2])


def gain(measured: Sequence[faith.Faithfulness]) -> float:
    """Deletion plus insertion advantage over these patients; -inf where there is none."""
    total = sum(abs(m.span) for m in measured)
    gains = sum(m.deletion_gain + m.insertion_gain for m in measured)
    return gains / total if total else float("-inf")


def check_sanity(
    study: Study, modality: str, cases: Sequence[Case], explain: sanity.Explain
) -> tuple[dict[str, Any], dict[str, Any]]:
    """({map: randomisation section}, {map: stability section}) over some patients."""
    random: dict[str, list[list[tuple[str, sanity.Similarity]]]] = {}
    still: dict[str, list[sanity.Similarity]] = {}
    for done, case in enumerate(cases):
        study.say(f"{modality}: random weights and noise", done, len(cases))
        seed = study.seed + done
        found = sanity.randomisation(case, modality, explain, n_groups=3, seed=seed)
        noisy = sanity.stability(case, modality, explain, repeats=1, seed=seed)
        for name, stages in found.items():
            random.setdefault(name, []).append(stages)
            still.setdefault(name, []).append(noisy[name])
    return (
        {n: sanity.summarise_randomisation(v, study.seed) for n, v in random.items()},
        {n: sanity.summarise_stability(v, study.seed) for n, v in still.items()},
    )


def mean_matrices(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean of the agreement matrices of patients who have the same methods."""
    if not found:
        return None
    alike = [f for f in found if f["names"] == found[0]["names"]]
    return {
        "names": found[0]["names"],
        "n": len(alike),
        "rank": np.mean([f["rank"] for f in alike], axis=0).tolist(),
        "top_overlap": np.mean([f["top_overlap"] for f in alike], axis=0).tolist(),
        "chance": float(np.mean([f["chance"] for f in alike])),
    }
