"""TRIPOD+AI and CLAIM: which items a workspace can answer, and which stay open.

TRIPOD+AI: Collins et al., BMJ 2024; 385:e078378. CLAIM: Tejani et al., Radiol Artif Intell 2024;
6:e240300 (update of Mongan et al. 2020). Items are named by their numbers and told in our own
words; whoever submits a paper fills in the guideline's own form.

An answer is a fact of the workspace, never a guess: what nobody wrote down stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Guideline = Literal["TRIPOD+AI", "CLAIM"]


@dataclass(frozen=True)
class Item:
    """An item of a guideline. fact: the name under which `answered` looks for its answer."""

    guideline: Guideline
    number: str
    section: str
    asks: str
    fact: str = ""


@dataclass(frozen=True)
class Answer:
    """An item and what the workspace says of it; '' where it is open."""

    item: Item
    text: str

    @property
    def open(self) -> bool:
        """Whether somebody has to answer it."""
        return not self.text


def _items(guideline: Guideline, rows: Sequence[tuple[str, str, str, str]]) -> tuple[Item, ...]:
    return tuple(Item(guideline, *row) for row in rows)


TRIPOD_AI = _items(
    "TRIPOD+AI",
    (
        ("1", "Title", "says that a prediction model is made or evaluated, for whom, for what", ""),
        ("2", "Abstract", "structured summary", ""),
        ("3a", "Introduction", "healthcare context and why the model is wanted", ""),
        ("3b", "Introduction", "target population, purpose and users of the model", "use"),
        ("3c", "Introduction", "known health inequalities between groups", ""),
        ("4", "Introduction", "objectives: development, evaluation or both", ""),
        ("5a", "Methods", "sources of the data, for development and for evaluation", "source"),
        ("5b", "Methods", "dates: accrual and end of follow-up", ""),
        ("6a", "Methods", "setting, number and place of centres", "sites"),
        ("6b", "Methods", "eligibility", ""),
        ("6c", "Methods", "treatments received and how they were handled", ""),
        ("7", "Methods", "preparation of the data and checks of their quality", "preparation"),
        ("8a", "Methods", "outcome and its time horizon", "outcome"),
        ("8b", "Methods", "who assessed an outcome that takes judgement", ""),
        ("8c", "Methods", "blinding of that assessment", ""),
        ("9a", "Methods", "why these predictors", ""),
        ("9b", "Methods", "all predictors, how and when they were measured", "predictors"),
        ("9c", "Methods", "who assessed predictors that take judgement", ""),
        ("10", "Methods", "how the sample size came about", "sample"),
        ("11", "Methods", "how missing data were handled", "missing"),
        ("12a", "Methods", "how the data were divided", "partition"),
        ("12b", "Methods", "how predictors entered the model", "encoders"),
        ("12c", "Methods", "type of model, how it was built, tuned and validated", "model"),
        ("12d", "Methods", "heterogeneity between centres", "centres"),
        ("12e", "Methods", "measures of performance, and how models were compared", "measures"),
        ("12f", "Methods", "updating of the model", "updating"),
        ("12g", "Methods", "how predictions were computed for the evaluation", "prediction"),
        ("13", "Methods", "class imbalance", ""),
        ("14", "Methods", "what was done for fairness", ""),
        ("15", "Methods", "what the model puts out, and thresholds", "output"),
        ("16", "Methods", "differences between development and evaluation data", "shift"),
        ("17", "Methods", "ethical approval and consent", ""),
        ("18a", "Open science", "funding", ""),
        ("18b", "Open science", "conflicts of interest", ""),
        ("18c", "Open science", "protocol", ""),
        ("18d", "Open science", "registration", ""),
        ("18e", "Open science", "availability of data", "data"),
        ("18f", "Open science", "availability of code", "code"),
        ("19", "Patients and public", "their involvement", ""),
        ("20a", "Results", "flow of participants, with and without the outcome", "flow"),
        ("20b", "Results", "characteristics, follow-up and missing data by source", "table_one"),
        ("20c", "Results", "development compared with evaluation data", "shift"),
        ("21", "Results", "participants and events in every analysis", "numbers"),
        ("22", "Results", "the full model, so that others can predict with it", "weights"),
        ("23a", "Results", "performance with intervals, subgroups included", "performance"),
        ("23b", "Results", "heterogeneity of performance between centres", "centres"),
        ("24", "Results", "results of updating", "updating"),
        ("25", "Discussion", "interpretation, fairness included", ""),
        ("26", "Discussion", "limitations", ""),
        (
            "27a",
            "Discussion",
            "input that is poor or missing in use",
            "missing_use",
        ),
        ("27b", "Discussion", "what users have to do and to know", ""),
        ("27c", "Discussion", "next steps, and where else the model might hold", ""),
    ),
)
CLAIM = _items(
    "CLAIM",
    (
        ("1", "Title", "says that the study is on artificial intelligence, and which kind", ""),
        ("2", "Abstract", "structured summary", ""),
        ("3", "Introduction", "background and clinical role", ""),
        ("4", "Introduction", "aims and hypotheses", ""),
        ("5", "Methods", "prospective or retrospective", ""),
        ("6", "Methods", "goal of the study", ""),
        ("7", "Methods", "sources of the data", "source"),
        ("8", "Methods", "inclusion and exclusion", ""),
        ("9", "Methods", "preprocessing", "preparation"),
        ("10", "Methods", "parts of the data that were used", "partition"),
        ("11", "Methods", "de-identification", ""),
        ("12", "Methods", "missing data", "missing"),
        ("13", "Methods", "protocol of image acquisition", ""),
        ("14", "Methods", "reference standard", "outcome"),
        ("15", "Methods", "why that reference standard", ""),
        ("16", "Methods", "where annotations came from", ""),
        ("17", "Methods", "annotation of the test data", ""),
        ("18", "Methods", "variability between and within annotators", ""),
        ("19", "Methods", "how data were assigned to partitions", "partition"),
        ("20", "Methods", "level at which partitions are disjoint", "disjoint"),
        ("21", "Methods", "sample size", "sample"),
        ("22", "Methods", "the model in detail", "model"),
        ("23", "Methods", "software and packages", "code"),
        ("24", "Methods", "how parameters started", "start"),
        ("25", "Methods", "training in detail", "training"),
        ("26", "Methods", "how the final model was chosen", "selection"),
        ("27", "Methods", "ensembling", "ensembling"),
        ("28", "Methods", "measures of performance", "measures"),
        ("29", "Methods", "statistical uncertainty", "uncertainty"),
        ("30", "Methods", "robustness and sensitivity", "robustness"),
        ("31", "Methods", "explanations and how they were validated", "explanations"),
        ("32", "Methods", "evaluation on internal data", "internal"),
        ("33", "Methods", "testing on external data", "external"),
        ("34", "Methods", "registration of a trial", ""),
        ("35", "Results", "flow of patients", "flow"),
        ("36", "Results", "characteristics by partition", "table_one"),
        ("37", "Results", "performance and its uncertainty", "performance"),
        ("38", "Results", "estimates and their precision", "performance"),
        ("39", "Results", "analysis of failures", "failures"),
        ("40", "Discussion", "limitations", ""),
        ("41", "Discussion", "implications for practice", ""),
        ("42", "Other", "full protocol", ""),
        ("43", "Other", "where software, model and data can be had", "data"),
        ("44", "Other", "funding", ""),
    ),
)


def answered(facts: Mapping[str, str]) -> list[Answer]:
    """Every item of both guidelines with its answer. facts: {name: sentence}; '' counts as open.

    Raises ValueError for a fact that no item asks for, so that none is lost by a typing error.
    """
    items = (*TRIPOD_AI, *CLAIM)
    asked = {item.fact for item in items}
    unknown = sorted(set(facts) - asked)
    if unknown:
        raise ValueError(
            f"no item asks for {', '.join(unknown)}; known: {', '.join(sorted(asked))}"
        )
    return [Answer(item, facts.get(item.fact, "") if item.fact else "") for item in items]
