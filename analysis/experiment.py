"""From a cohort and a strategy to a run folder: what `fusionlens train` does."""

from __future__ import annotations

import glob
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from analysis.baseline_file import write_baseline
from analysis.cohort.cohort import Cohort, Outcomes
from analysis.cohort.dataset import CohortDataset, all_inputs, fit_vocabulary
from analysis.cohort.readings import reading_for
from analysis.cohort.schema import CohortError
from analysis.features import Ids, ensure_features, read_features
from analysis.partial import InUseError, clear_stale, held
from analysis.survival.baseline import breslow
from analysis.survival.concordance import harrell_c, why_undefined
from analysis.survival.data import SurvivalData
from models.checkpoint import (
    BASELINE_FILE,
    HISTORY_FILE,
    CohortEntry,
    EncoderEntry,
    ModalityEntry,
    Run,
    RunConfig,
    RunError,
    StoredEncoder,
    StrategyEntry,
    TaskEntry,
    TrainingEntry,
    load_encoder,
    load_run,
    save_encoder,
    write_model,
)
from models.contracts import Encoded, Inputs, Kind, ModalityInput
from models.encoders.bag import GatedAttentionMIL, GatedAttentionMILConfig
from models.encoders.base import ENCODERS, ModalityEncoder
from models.encoders.clmbr import CLMBR, CLMBRConfig
from models.encoders.counts import CodeCounts, CodeCountsConfig
from models.encoders.table import TableColumn, TableConfig, TableEncoder
from models.encoders.text import TableTextConfig, TableTextEncoder
from models.fusion.base import STRATEGIES, FusionConfig, FusionStrategy
from models.network import FusionModel, stream_widths
from models.pretraining import pretrain_clmbr
from models.sentences import Sentences, TextColumn
from models.training import Progress, SplitData, TrainingSettings, train
from models.vocabulary import FIRST_CODE, Vocabulary

BIRTH_CODE = "MEDS_BIRTH"
EHR_ENCODERS = ("onehot", "clmbr")
TABLE_ENCODERS = ("columns", "text")
Stage = Callable[[str, int, int, Mapping[str, float]], None]
"""(stage in words, done, in all, latest numbers)."""


@dataclass(frozen=True)
class Plan:
    """What to train.

    modalities: which ones, in order; all of the cohort's if empty. ehr: 'onehot' or 'clmbr' for
    events. tables: 'columns' or 'text' (told in sentences). fine_tune: train the encoders that
    would otherwise stay frozen. strategy_config and settings override defaults. encoder_store:
    where frozen encoders are kept; ct_encoder: hash of the pretrained CT encoder. train_ids,
    tuning_ids: instead of the cohort's splits (folds).
    """

    cohort: Path
    task: str
    strategy: str
    out: Path
    encoder_store: Path
    modalities: tuple[str, ...] = ()
    ehr: str = "onehot"
    tables: str = "columns"
    ct_encoder: str | None = None
    encoder_folders: tuple[Path, ...] = ()
    fine_tune: bool = False
    strategy_config: Mapping[str, Any] = field(default_factory=dict)
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    title: str = ""
    command: str = ""
    train_ids: Sequence[int] | None = None
    tuning_ids: Sequence[int] | None = None


@dataclass(frozen=True)
class Prepared:
    """Encoders of a run before training, and how they are described."""

    encoders: dict[str, ModalityEncoder]
    entries: dict[str, EncoderEntry]
    vocabularies: dict[str, Vocabulary]


def survival_score(prediction: torch.Tensor, patients: SplitData) -> float:
    """Harrell's C of a log-risk."""
    assert patients.time_days is not None
    assert patients.event is not None
    data = SurvivalData(patients.time_days.double().numpy(), patients.event.numpy())
    return harrell_c(data, prediction[:, 0].double().numpy())


def class_score(prediction: torch.Tensor, patients: SplitData) -> float:
    """Area under the ROC curve, one against the rest where there are more than two classes."""
    from sklearn.metrics import roc_auc_score

    assert patients.label is not None
    label = patients.label.numpy()
    if len(np.unique(label)) < 2:
        return float("nan")
    if prediction.shape[1] == 1:
        return float(roc_auc_score(label, prediction[:, 0].numpy()))
    probability = torch.softmax(prediction, dim=1).numpy()
    return float(roc_auc_score(label, probability, multi_class="ovr", average="macro"))


def train_run(plan: Plan, stage: Stage | None = None, accelerator: str = "auto") -> Run:
    """Train a model and write its run folder; returns the loaded run.

    Work in progress lives in .OUT.partial; after a kill at any moment the same plan goes on from
    there. What is trained is kept until the run is whole and in its place.
    Raises CohortError, RunError or KeyError in one sentence before anything is written.
    """
    say = stage or (lambda *_: None)
    out = Path(plan.out)
    partial = out.with_name(f".{out.name}.partial")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        clear_stale(out.absolute().parent, glob.escape(partial.name))
        raise RunError(f"{out}: already exists; name a new folder or delete this one.")
    STRATEGIES.get(plan.strategy)
    cohort = Cohort.open(plan.cohort)
    cohort.spec.task(plan.task)
    names = plan.modalities or tuple(cohort.spec.modalities)
    for name in names:
        cohort.modality(name)
    training, tuning = _splits(cohort, plan)
    with ExitStack() as stack:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(held(partial))
        except InUseError as error:
            raise RunError(str(error)) from error
        return _train_in(partial, plan, cohort, names, training, tuning, say, accelerator)


def _train_in(
    partial: Path,
    plan: Plan,
    cohort: Cohort,
    names: Sequence[str],
    training: Outcomes,
    tuning: Outcomes,
    say: Stage,
    accelerator: str,
) -> Run:
    """Train, or go on, in `partial`; the finished run is moved to its place as a whole."""
    out, task = Path(plan.out), cohort.spec.task(plan.task)
    torch.manual_seed(plan.settings.seed)
    prepared = _prepare(cohort, plan, names, training.subject_ids, say)
    entry = TaskEntry(
        name=plan.task,
        kind=task.kind,
        title=task.title,
        event_title=task.event_title,
        horizon_days=task.horizon_days,
        classes=task.classes,
    )
    strategy_class = STRATEGIES.get(plan.strategy)
    strategy_config = _strategy_config(strategy_class, plan, entry)
    strategy = strategy_class(stream_widths(prepared.encoders), entry.outputs, strategy_config)
    frozen = [name for name, e in prepared.entries.items() if e.frozen]
    model = FusionModel(prepared.encoders, strategy, frozen)
    data = [_load(cohort, prepared, outcomes, say) for outcomes in (training, tuning)]

    def progress(done: int, total: int, metrics: Mapping[str, float]) -> None:
        say("Training", done, total, metrics)

    result = train(
        model,
        task.kind,
        data[0],
        data[1],
        plan.settings,
        survival_score if task.kind == "survival" else class_score,
        checkpoint_folder=partial / "training",
        progress=cast(Progress, progress),
        accelerator=accelerator,
    )
    config = RunConfig(
        name=out.name,
        title=plan.title or _title(plan, names, cohort),
        strategy=StrategyEntry(name=plan.strategy, config=strategy_config.model_dump(mode="json")),
        modalities={
            name: ModalityEntry(
                kind=prepared.encoders[name].kind,
                title=cohort.spec.modalities[name].title,
                unit=cohort.spec.modalities[name].unit,
                encoder=prepared.entries[name],
            )
            for name in names
        },
        task=entry,
        cohort=CohortEntry(
            name=cohort.spec.name, title=cohort.spec.title, fingerprint=cohort.fingerprint
        ),
        training=TrainingEntry(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=plan.command,
            device=result.device,
            precision=result.precision,
            seconds=round(result.seconds, 1),
            n_train=len(training),
            n_tuning=len(tuning),
            events_train=None if training.event is None else int(training.event.sum()),
            epochs=result.epochs,
            best_epoch=result.best_epoch,
            tuning_score=None if np.isnan(result.tuning_score) else result.tuning_score,
            settings=plan.settings.model_dump(mode="json"),
            versions={
                **{name: version(name) for name in ("torch", "lightning", "monai", "torchsurv")},
                "python": platform.python_version(),
            },
        ),
    )
    whole = partial / "run"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    write_model(whole, config, model, prepared.vocabularies)
    pd.DataFrame(result.history).to_parquet(whole / HISTORY_FILE, index=False)
    if task.kind == "survival":
        with torch.inference_mode():
            risk = model(data[0].inputs).prediction[:, 0].double().numpy()
        write_baseline(breslow(_survival(training), risk), whole / BASELINE_FILE)
    if out.exists():
        out.rmdir()
    whole.rename(out)
    shutil.rmtree(partial, ignore_errors=True)
    return load_run(out, [plan.encoder_store, *plan.encoder_folders])


def _strategy_config(strategy: type[FusionStrategy], plan: Plan, task: TaskEntry) -> FusionConfig:
    """The strategy's settings; one that words its answers is told what it is asked.

    One logit gets an intercept: with more classes the heads have their own.
    """
    chosen = dict(plan.strategy_config)
    if "task" in strategy.Config.model_fields:
        chosen.setdefault("task", "prognosis" if task.kind == "survival" else "diagnosis")
    if task.kind == "classification" and task.outputs == 1 and strategy.takes_intercept:
        chosen.setdefault("intercept", True)
    return strategy.Config.model_validate(chosen)


def _survival(outcomes: Outcomes) -> SurvivalData:
    assert outcomes.time_days is not None
    assert outcomes.event is not None
    return SurvivalData(outcomes.time_days, outcomes.event)


def _title(plan: Plan, names: Sequence[str], cohort: Cohort) -> str:
    """Words for people: strategy, and what it reads."""
    title = STRATEGIES.get(plan.strategy).title
    guide = plan.strategy_config.get("guide") or plan.strategy_config.get("query")
    parts = []
    for name in names:
        kind = cohort.spec.modalities[name].kind
        tag = {"onehot": "one-hot", "clmbr": "CLMBR"}[plan.ehr] if kind is Kind.EVENTS else ""
        parts.append(f"{cohort.spec.modalities[name].title}{f' ({tag})' if tag else ''}")
    if plan.strategy == "unimodal":
        return f"{parts[0]} only"
    guided = ""
    if guide in cohort.spec.modalities:
        word = "guided by" if plan.strategy == "co_attention" else "asked by"
        guided = f", {word} {cohort.spec.modalities[str(guide)].title}"
    shown = " + ".join(parts) if len(parts) < 4 else f"{len(parts)} modalities"
    return f"{title}{guided}: {shown}"


def _splits(cohort: Cohort, plan: Plan) -> tuple[Outcomes, Outcomes]:
    ids = {
        "train": plan.train_ids if plan.train_ids is not None else cohort.subject_ids("train"),
        "tuning": plan.tuning_ids if plan.tuning_ids is not None else cohort.subject_ids("tuning"),
    }
    found = {name: cohort.outcomes(plan.task, chosen) for name, chosen in ids.items()}
    for name, outcomes in found.items():
        if not len(outcomes):
            raise CohortError(
                f"{cohort.folder}: split '{name}' has no patient with an outcome for "
                f"'{plan.task}'; training needs the splits train and tuning."
            )
        if outcomes.event is not None:
            reason = why_undefined(_survival(outcomes))
            if reason:
                raise CohortError(f"{cohort.folder}: split '{name}', task '{plan.task}': {reason}")
    return found["train"], found["tuning"]


# ---------------------------------------------------------------- encoders


def _prepare(
    cohort: Cohort, plan: Plan, names: Sequence[str], train_ids: Ids, say: Stage
) -> Prepared:
    prepared = Prepared({}, {}, {})
    for name in names:
        kind = cohort.spec.modalities[name].kind
        if kind is Kind.VOLUME:
            _prepare_volume(name, plan, prepared)
        elif kind is Kind.EVENTS:
            _prepare_events(cohort, name, plan, train_ids, prepared, say)
        elif kind in (Kind.SIGNAL, Kind.VIDEO):
            _prepare_recording(name, kind, plan, prepared)
        elif kind is Kind.TABLE:
            encoder = _table_encoder(cohort, name, plan)
            prepared.encoders[name] = encoder
            prepared.entries[name] = _trainable(ENCODERS.name_of(type(encoder)), encoder)
        elif kind is Kind.BAG:
            width = cohort.spec.modalities[name].feature_width or 0
            bag = GatedAttentionMIL(GatedAttentionMILConfig(feature_width=width))
            prepared.encoders[name] = bag
            prepared.entries[name] = _trainable("gated_attention_mil", bag)
        else:
            raise CohortError(
                f"{cohort.folder}: modality '{name}' is of kind '{kind}', for which there is no "
                "encoder; choose others with --modality."
            )
    return prepared


def _trainable(name: str, encoder: ModalityEncoder) -> EncoderEntry:
    return EncoderEntry(name=name, config=encoder.config.model_dump(mode="json"))


def table_config(cohort: Cohort, name: str) -> TableConfig:
    """The table encoder's columns, as the cohort's spec describes them."""
    columns = cohort.spec.modalities[name].columns
    return TableConfig(
        columns=tuple(
            TableColumn(name=column, kind=spec.kind, n_categories=len(spec.categories))
            for column, spec in columns.items()
        )
    )


def _adopt(name: str, stored: StoredEncoder, plan: Plan, prepared: Prepared) -> None:
    """A pretrained encoder: frozen and named by its hash, or a copy of it to fine-tune."""
    encoder = stored.encoder
    if plan.fine_tune:
        encoder.requires_grad_(True)
    prepared.encoders[name] = encoder
    prepared.entries[name] = EncoderEntry(
        name=stored.name,
        config=encoder.config.model_dump(mode="json"),
        frozen=not plan.fine_tune,
        weights=None if plan.fine_tune else stored.hash,
    )
    if stored.vocabulary is not None:
        prepared.vocabularies[name] = stored.vocabulary


def _places(plan: Plan) -> list[Path]:
    return [plan.encoder_store, *plan.encoder_folders]


def _prepare_volume(name: str, plan: Plan, prepared: Prepared) -> None:
    wanted = plan.ct_encoder or find_encoder(_places(plan), {"encodes": "volume"})
    if wanted is None:
        raise RunError(
            f"modality '{name}' needs a pretrained CT encoder and none is in "
            f"{', '.join(map(str, _places(plan)))}; name one with --ct-encoder."
        )
    _adopt(name, load_encoder(wanted, _places(plan)), plan, prepared)


def _prepare_recording(name: str, kind: Kind, plan: Plan, prepared: Prepared) -> None:
    """An ECG's or echo's encoder, pretrained on measurements."""
    wanted = find_encoder(_places(plan), {"encodes": str(kind)})
    if wanted is None:
        raise RunError(
            f"modality '{name}' needs a pretrained encoder of a {kind} and none is in "
            f"{', '.join(map(str, _places(plan)))}; copy one there (the sample workspace has them)."
        )
    _adopt(name, load_encoder(wanted, _places(plan)), plan, prepared)


def _table_encoder(cohort: Cohort, name: str, plan: Plan) -> ModalityEncoder:
    if plan.tables not in TABLE_ENCODERS:
        raise RunError(f"tables are read as {' or '.join(TABLE_ENCODERS)}, not '{plan.tables}'.")
    if plan.tables == "columns":
        return TableEncoder(table_config(cohort, name))
    return TableTextEncoder(TableTextConfig(sentences=told(cohort, name)))


def told(cohort: Cohort, name: str) -> Sentences:
    """How a table of the cohort is told in sentences."""
    return Sentences(
        columns=tuple(
            TextColumn(
                name=column,
                title=spec.title,
                unit=spec.unit,
                kind=spec.kind,
                categories=spec.categories,
            )
            for column, spec in cohort.spec.modalities[name].columns.items()
        )
    )


def _prepare_events(
    cohort: Cohort, name: str, plan: Plan, train_ids: Ids, prepared: Prepared, say: Stage
) -> None:
    if plan.ehr not in EHR_ENCODERS:
        raise RunError(f"EHR encoder '{plan.ehr}' is unknown; choose {' or '.join(EHR_ENCODERS)}.")
    if plan.ehr == "onehot":
        vocabulary = fit_vocabulary(cohort, name, train_ids, min_patients=5)
        if not vocabulary.codes:
            vocabulary = fit_vocabulary(cohort, name, train_ids)
        encoder = CodeCounts(
            CodeCountsConfig(
                vocabulary_size=vocabulary.size, birth_id=vocabulary.index.get(BIRTH_CODE)
            )
        )
        prepared.encoders[name] = encoder
        prepared.entries[name] = _trainable("onehot", encoder)
        prepared.vocabularies[name] = vocabulary
        return
    made_from = {
        "encodes": "events",
        "cohort": cohort.fingerprint,
        "modality": name,
        "n_patients": len(train_ids),
    }
    known = find_encoder(_places(plan), made_from)
    if known is None:
        known = pretrain_events(cohort, name, train_ids, plan, made_from, say)
    _adopt(name, load_encoder(known, _places(plan)), plan, prepared)


def find_encoder(places: Sequence[Path], provenance: Mapping[str, object]) -> str | None:
    """Hash of a stored encoder whose provenance has all these entries, or None."""
    import json

    for place in places:
        for path in sorted(Path(place).glob("*/encoder.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8")).get("provenance", {})
            except (ValueError, AttributeError, OSError):
                continue
            if all(content.get(key) == value for key, value in provenance.items()):
                return path.parent.name
    return None


def pretrain_events(
    cohort: Cohort,
    name: str,
    train_ids: Ids,
    plan: Plan,
    provenance: Mapping[str, object],
    say: Stage,
) -> str:
    """Pretrain a CLMBR-like encoder on the training patients' events; returns its hash."""
    vocabulary = fit_vocabulary(cohort, name, train_ids, min_patients=3)
    torch.manual_seed(plan.settings.seed)
    encoder = CLMBR(CLMBRConfig(vocabulary_size=vocabulary.size))
    special = [0.0] * FIRST_CODE
    ones = [1.0] * FIRST_CODE
    encoder.set_value_scale(
        torch.tensor([*special, *vocabulary.value_mean]),
        torch.tensor([*ones, *vocabulary.value_sd]),
    )
    dataset = CohortDataset(cohort, train_ids, {name: reading_for(encoder, vocabulary)})
    inputs = all_inputs(dataset).inputs[name]

    def report(done: int, total: int, losses: Mapping[str, float]) -> None:
        say("Pretraining the event encoder on next codes", done, total, losses)

    pretrain_clmbr(encoder, inputs, seed=plan.settings.seed, report=report)
    return save_encoder(
        encoder,
        plan.encoder_store,
        vocabulary=vocabulary,
        provenance={
            **provenance,
            "objective": "next code and value",
            "cohort_name": cohort.spec.name,
        },
    )


# ---------------------------------------------------------------- data


def _load(cohort: Cohort, prepared: Prepared, outcomes: Outcomes, say: Stage) -> SplitData:
    """Patients in memory: stored features of frozen encoders, raw tensors for the others."""
    ids = outcomes.subject_ids
    inputs: dict[str, ModalityInput | Encoded] = {}
    raw = {}
    for name, encoder in prepared.encoders.items():
        entry = prepared.entries[name]
        reading = reading_for(encoder, prepared.vocabularies.get(name))
        if entry.frozen and entry.weights:
            title = cohort.spec.modalities[name].title

            def progress(done: int, total: int, title: str = title) -> None:
                say(f"Encoding {title}", done, total, {})

            path = ensure_features(
                cohort, name, encoder, entry.weights, reading, ids, progress=progress
            )
            if path.is_file():
                inputs[name] = read_features(path, ids)
                continue
        raw[name] = reading
    if raw:
        inputs.update(all_inputs(CohortDataset(cohort, ids, raw)).inputs)
    ordered: Inputs = {name: inputs[name] for name in prepared.encoders}
    return SplitData(
        ordered,
        None if outcomes.time_days is None else torch.from_numpy(outcomes.time_days).float(),
        None if outcomes.event is None else torch.from_numpy(outcomes.event),
        None if outcomes.label is None else torch.from_numpy(outcomes.label),
    )
