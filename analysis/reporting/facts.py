"""What a workspace knows of the items of TRIPOD+AI and CLAIM: facts in sentences.

Facts come from cohort.yaml, subjects.parquet, the runs' configs and what was measured. What is
nowhere written (eligibility, ethics, registration) is no fact and its item stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.cohort.cohort import Cohort
from analysis.cohort.schema import Split
from models.checkpoint import RunConfig
from models.contracts import Kind

SPLIT_WORDS = {
    Split.TRAIN: "training",
    Split.TUNING: "tuning",
    Split.INTERNAL: "internal test",
    Split.EXTERNAL: "external test",
}
_NEVER_ZERO = (
    "A modality that a patient lacks is told to the model as absent, never as zero; nothing is "
    "imputed, and nobody is left out for lacking one."
)


def facts(
    cohort: Cohort, task: str, configs: Sequence[RunConfig], measured: Mapping[str, str]
) -> dict[str, str]:
    """{name: sentence} for `checklists.answered`.

    measured: further facts by name, of what was computed for the report; they come last and win.
    """
    spec = cohort.spec
    origin = spec.provenance
    people = _people(cohort, task)
    first = configs[0]
    counts = _by_split(people)
    found = {
        "use": first.intended_use,
        "source": " ".join(
            part
            for part in (
                f"{spec.title}: {origin.source}.",
                "Simulated patients, not real people." if origin.simulated else "",
                f"Licence: {origin.licence}." if origin.licence else "",
                origin.citation,
            )
            if part
        ),
        "sites": _sites(people),
        "outcome": _outcome(cohort, task),
        "predictors": _predictors(cohort, configs),
        "missing": _NEVER_ZERO,
        "missing_use": _NEVER_ZERO,
        "partition": f"By the column split of subjects.parquet: {counts}.",
        "disjoint": "By patient: a subject_id is in one split.",
        "encoders": _encoders(configs),
        "model": _models(configs),
        "start": f"At random, seed {_values(configs, 'seed')}; frozen encoders as named by hash.",
        "training": _training(configs),
        "selection": "For each run the epoch with the best score on the tuning patients.",
        "ensembling": "None: one model a run.",
        "updating": "None: runs are used as they were trained.",
        "prediction": "The trained weights on every test patient, once, without any change.",
        "output": (
            "A log-risk (higher is worse), and survival probabilities by the training patients' "
            "baseline hazard."
            if first.task.kind == "survival"
            else "A probability of each class."
        ),
        "measures": (
            "Harrell's and Uno's C, cumulative/dynamic AUC, Brier score, calibration, net benefit."
            if first.task.kind == "survival"
            else "Area under the ROC and precision-recall curves, accuracy, calibration, net "
            "benefit."
        ),
        "uncertainty": (
            "95% intervals from resamples of patients, the same for every run, so that "
            "differences are paired; p-values adjusted for the number of comparisons (Holm)."
        ),
        "weights": "Weights (safetensors), vocabularies and baseline hazard are in each run.",
        "code": f"FusionLens, and {_versions(first)}.",
        "numbers": f"{counts}.",
        "data": (
            f"{origin.source}{f', {origin.licence}' if origin.licence else ''}; the runs lie in "
            "the workspace."
        ),
        **measured,
    }
    return {name: text for name, text in found.items() if text}


def _people(cohort: Cohort, task: str) -> pd.DataFrame:
    ids = cohort.subject_ids(None, task)
    subjects = cohort.subjects.loc[ids]
    outcomes = cohort.outcomes(task, ids)
    happened = outcomes.event if outcomes.event is not None else outcomes.label == 1
    return subjects.assign(happened=happened)


def _by_split(people: pd.DataFrame) -> str:
    parts = []
    for split, words in SPLIT_WORDS.items():
        mine = people[people["split"] == split.value]
        if len(mine):
            parts.append(f"{words} {len(mine):,} ({int(mine['happened'].sum()):,} events)")
    return ", ".join(parts)


def _sites(people: pd.DataFrame) -> str:
    if "site" not in people or people["site"].isna().all():
        return ""
    parts = []
    for split, words in SPLIT_WORDS.items():
        sites = people.loc[people["split"] == split.value, "site"].dropna().value_counts()
        if len(sites):
            told = ", ".join(f"{name} {n:,}" for name, n in sites.items())
            parts.append(f"{words}: {told}")
    n = people["site"].nunique()
    return f"{n} {'site' if n == 1 else 'sites'} ({'; '.join(parts)})."


def _outcome(cohort: Cohort, task: str) -> str:
    spec = cohort.spec.task(task)
    if spec.kind == "classification":
        return f"{spec.title}: {' or '.join(spec.classes)}."
    horizon = f", up to {spec.horizon_days:,.0f} days" if spec.horizon_days else ""
    since = f" after {cohort.spec.index_event}" if cohort.spec.index_event else ""
    return f"{spec.title}: time in days to {spec.event_title or 'the event'}{since}{horizon}."


def _predictors(cohort: Cohort, configs: Sequence[RunConfig]) -> str:
    names = dict.fromkeys(name for config in configs for name in config.modalities)
    parts = []
    for name in names:
        modality = cohort.spec.modalities.get(name)
        if modality is None:
            continue
        columns = f", {len(modality.columns)} columns" if modality.kind is Kind.TABLE else ""
        parts.append(f"{modality.title} ({modality.kind.value}{columns})")
    since = f"; time zero is {cohort.spec.index_event}" if cohort.spec.index_event else ""
    return f"{'; '.join(parts)}{since}; cohort.yaml names every column with its unit."


def _encoders(configs: Sequence[RunConfig]) -> str:
    found: dict[str, None] = {}  # in order, each once
    for config in configs:
        for entry in config.modalities.values():
            state = "frozen" if entry.encoder.frozen else "trained"
            found[f"{entry.title}: {entry.encoder.name} ({state})"] = None
    return f"{'; '.join(found)}."


def _models(configs: Sequence[RunConfig]) -> str:
    told = (f"{c.title} ({c.strategy.name}: {', '.join(c.modalities)})" for c in configs)
    return f"{'; '.join(told)}. config.json of a run holds every setting."


def _training(configs: Sequence[RunConfig]) -> str:
    devices = ", ".join(sorted({c.training.device for c in configs if c.imported is None}))
    epochs = [c.training.epochs for c in configs if c.training.epochs is not None]
    if not epochs:
        return "Not recorded: the weights were trained elsewhere and imported."
    return (
        f"Learning rate {_values(configs, 'learning_rate')}, batches of "
        f"{_values(configs, 'batch_size')}, at most {_values(configs, 'max_epochs')} epochs, "
        f"stopped after {min(epochs)} to {max(epochs)}; on {devices}."
    )


def _values(configs: Sequence[RunConfig], setting: str) -> str:
    found = {c.training.settings[setting] for c in configs if setting in c.training.settings}
    return ", ".join(f"{value:g}" for value in sorted(found)) or "not recorded"


def _versions(config: RunConfig) -> str:
    return ", ".join(f"{name} {number}" for name, number in config.training.versions.items())
