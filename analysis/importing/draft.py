"""A model as model.yaml and its cohort describe it, before any weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import fit_vocabulary
from analysis.experiment import BIRTH_CODE, table_config, told
from analysis.importing.model_file import EncoderPart, ModelFile, read_vocabulary
from analysis.predict import kind_on_file
from models.checkpoint import StoredEncoder, TaskEntry, load_encoder
from models.contracts import Kind
from models.encoders.base import ENCODERS, ModalityEncoder, build_encoder
from models.fusion.base import STRATEGIES, FusionConfig
from models.importing.adapter import OwnNetwork
from models.importing.inference import Settings, numbers_in, with_numbers
from models.importing.pickles import CheckpointError
from models.network import FusionModel, stream_widths
from models.vocabulary import Vocabulary

FROZEN_KINDS = (Kind.VOLUME, Kind.SIGNAL, Kind.VIDEO)
# How rare a code may be and still be in a vocabulary, the usual choices first.
RAREST = (5, 3, 1, 2, 4, 6, 7, 8, 9, 10, 15, 20, 25, 50, 100)
_STRATEGY = "strategy"
_KEPT_OUTLINES = 16


@dataclass
class EncoderDraft:
    """An encoder to be. stated: settings that are given, by model.yaml or by the cohort."""

    name: str
    config: dict[str, Any]
    stated: frozenset[str]
    frozen: bool
    stored: StoredEncoder | None = None
    vocabulary: Vocabulary | None = None
    learns_vocabulary: bool = False
    own_weights: bool = False

    @property
    def in_checkpoint(self) -> bool:
        """Whether its weights are looked for in the checkpoint."""
        return self.stored is None and not self.own_weights


@dataclass
class Draft:
    """A model to be, and the cohort it is for."""

    path: Path
    file: ModelFile
    cohort: Cohort
    task: TaskEntry
    strategy: dict[str, Any]
    strategy_stated: frozenset[str]
    encoders: dict[str, EncoderDraft] = field(default_factory=dict)
    _outlines: OrderedDict[str, ModalityEncoder] = field(default_factory=OrderedDict)

    @property
    def numbers(self) -> dict[tuple[str, ...], int]:
        """All numbers that model.yaml and cohort leave open, at their assumed values."""
        found = {
            (_STRATEGY, *path): value
            for path, value in numbers_in(self.strategy, self.strategy_stated).items()
        }
        for name, encoder in self.encoders.items():
            if encoder.in_checkpoint:
                inner = numbers_in(encoder.config, encoder.stated)
                found.update({(name, *path): value for path, value in inner.items()})
        return found

    def take(self, changed: Settings) -> None:
        """Replace numbers for good."""
        self.strategy = with_numbers(self.strategy, _under(changed, _STRATEGY))
        for name, encoder in self.encoders.items():
            encoder.config = with_numbers(encoder.config, _under(changed, name))

    def build(self) -> FusionModel:
        """The model with fresh weights. Raises ValueError when its settings contradict."""
        encoders = {
            name: build_encoder(draft.name, draft.config)
            if draft.stored is None
            else draft.stored.encoder
            for name, draft in self.encoders.items()
        }
        return self._around(encoders, {})

    def expected(self, changed: Settings | None = None) -> Mapping[str, Tensor]:
        """The tensors that a checkpoint of the model has, with shapes and without memory."""
        with torch.device("meta"):
            encoders = {name: self._outline(name, changed or {}) for name in self.encoders}
            state = self._around(encoders, changed or {}).state_dict()
        apart = tuple(f"encoders.{n}." for n, e in self.encoders.items() if not e.in_checkpoint)
        return {n: t for n, t in state.items() if not apart or not n.startswith(apart)}

    def _around(self, encoders: Mapping[str, ModalityEncoder], changed: Settings) -> FusionModel:
        cls = STRATEGIES.get(self.file.strategy.name)
        settings = with_numbers(self.strategy, _under(changed, _STRATEGY))
        config = cls.Config.model_validate(settings)
        strategy = cls(stream_widths(dict(encoders)), self.task.outputs, config)
        frozen = [name for name, draft in self.encoders.items() if draft.frozen]
        return FusionModel(encoders, strategy, frozen)

    def _outline(self, name: str, changed: Settings) -> ModalityEncoder:
        """An encoder without memory; the last few are kept, as most trials change but one."""
        draft = self.encoders[name]
        if draft.stored is not None:
            return draft.stored.encoder
        config = with_numbers(draft.config, _under(changed, name))
        key = f"{name} {draft.name} {config}"
        if key not in self._outlines:
            self._outlines[key] = build_encoder(draft.name, config)
        self._outlines.move_to_end(key)
        while len(self._outlines) > _KEPT_OUTLINES:
            self._outlines.popitem(last=False)
        return self._outlines[key]

    def open_settings(self) -> dict[str, Any]:
        """{where: value} of every setting that neither model.yaml nor the cohort states."""
        # A network of one's own has no use for the settings of ours.
        own = issubclass(STRATEGIES.get(self.file.strategy.name), OwnNetwork)
        idle = set(FusionConfig.model_fields) if own else set()
        found = {
            f"{_STRATEGY}.{name}": value
            for name, value in self.strategy.items()
            if name not in self.strategy_stated | idle
        }
        for modality, encoder in self.encoders.items():
            if encoder.in_checkpoint:
                found.update(
                    {
                        f"{modality}.{name}": value
                        for name, value in encoder.config.items()
                        if name not in encoder.stated
                    }
                )
        # Neither says anything once training is over.
        return {k: v for k, v in found.items() if not k.endswith(("dropout", "_weight"))}


def _under(changed: Settings, part: str) -> dict[tuple[str, ...], int]:
    return {path[1:]: value for path, value in changed.items() if path[0] == part}


# ---------------------------------------------------------------- from model.yaml


def draft_model(path: Path, file: ModelFile, encoder_places: Sequence[Path]) -> Draft:
    """The model that model.yaml describes, for its cohort.

    Raises CheckpointError, CohortError, RunError or KeyError in one sentence.
    """
    cohort = Cohort.open(path.parent / file.cohort)
    spec = cohort.spec.task(file.task)
    task = TaskEntry(
        name=file.task,
        kind=spec.kind,
        title=spec.title,
        event_title=spec.event_title,
        horizon_days=spec.horizon_days,
        classes=spec.classes,
    )
    cls = STRATEGIES.get(file.strategy.name)
    given = dict(file.strategy.config)
    if "task" in cls.Config.model_fields:
        given.setdefault("task", "prognosis" if task.kind == "survival" else "diagnosis")
    config = _validated(path, "strategy", cls.Config, given)
    draft = Draft(path, file, cohort, task, config, frozenset(given))
    for name, part in file.modalities.items():
        draft.encoders[name] = _encoder(draft, name, part.encoder, encoder_places)
    return draft


def _encoder(draft: Draft, name: str, part: EncoderPart, places: Sequence[Path]) -> EncoderDraft:
    where = f"modalities.{name}.encoder"
    if name == _STRATEGY:
        raise CheckpointError(f"{draft.path}: field '{where}': a modality needs another name.")
    vocabulary = _given_vocabulary(draft, name)
    if part.stored is not None:
        stored = load_encoder(part.stored, places)
        draft.cohort.modality(name, kind_on_file(stored.encoder.kind))
        config = stored.encoder.config.model_dump(mode="json")
        known = stored.vocabulary or vocabulary
        return EncoderDraft(stored.name, config, frozenset(config), True, stored, known)
    cls = ENCODERS.get(part.name or "")
    draft.cohort.modality(name, kind_on_file(cls.kind))
    learns = cls.kind is Kind.EVENTS and vocabulary is None
    if learns:
        vocabulary = learnt_vocabulary(draft.cohort, name, RAREST[0])
    by_cohort = _by_cohort(draft.cohort, name, set(cls.Config.model_fields), vocabulary)
    given = {**by_cohort, **part.config}
    stated = set(given)
    if learns:
        stated -= {"vocabulary_size"} - set(part.config)
    return EncoderDraft(
        name=part.name or "",
        config=_validated(draft.path, where, cls.Config, given),
        stated=frozenset(stated),
        frozen=part.frozen if part.frozen is not None else cls.kind in FROZEN_KINDS,
        vocabulary=vocabulary,
        learns_vocabulary=learns,
        own_weights=part.weights is not None,
    )


def _given_vocabulary(draft: Draft, name: str) -> Vocabulary | None:
    given = draft.file.modalities[name].vocabulary
    return None if given is None else read_vocabulary(draft.path.parent / given, name)


def _by_cohort(
    cohort: Cohort, name: str, fields: set[str], vocabulary: Vocabulary | None
) -> dict[str, Any]:
    """Settings of an encoder that are facts of the cohort."""
    found: dict[str, Any] = {}
    if "columns" in fields:
        found["columns"] = table_config(cohort, name).model_dump(mode="json")["columns"]
    if "sentences" in fields:
        found["sentences"] = told(cohort, name).model_dump(mode="json")
    if "feature_width" in fields:
        found["feature_width"] = cohort.spec.modalities[name].feature_width
    if vocabulary is not None and "vocabulary_size" in fields:
        found["vocabulary_size"] = vocabulary.size
    if vocabulary is not None and "birth_id" in fields:
        found["birth_id"] = vocabulary.index.get(BIRTH_CODE)
    return found


def learnt_vocabulary(cohort: Cohort, name: str, rarest: int) -> Vocabulary:
    """Codes of at least `rarest` training patients; all codes where there are none."""
    ids = cohort.subject_ids("train")
    found = fit_vocabulary(cohort, name, ids, min_patients=rarest)
    return found if found.codes else fit_vocabulary(cohort, name, ids)


def settle_vocabulary(draft: Draft, name: str) -> str:
    """Learn the vocabulary of the size that the weights have; a sentence on how it was learnt.

    Raises CheckpointError when the training patients have no such vocabulary.
    """
    encoder = draft.encoders[name]
    size = int(encoder.config.get("vocabulary_size", 0))
    sizes = {}
    for rarest in RAREST:
        found = learnt_vocabulary(draft.cohort, name, rarest)
        sizes[rarest] = found.size
        if found.size == size:
            encoder.vocabulary = found
            if "birth_id" in encoder.config and "birth_id" in encoder.stated:
                encoder.config["birth_id"] = found.index.get(BIRTH_CODE)
            title = draft.cohort.spec.modalities[name].title
            n = len(draft.cohort.subject_ids("train"))
            return (
                f"the codes of {title}: {len(found.codes):,} codes of at least {rarest} of {n:,} "
                "training patients, in alphabetical order"
            )
    raise CheckpointError(
        f"{draft.path}: the weights of '{name}' know {size - 2:,} codes, and the training "
        f"patients of {draft.cohort.spec.name} have {sizes[1] - 2:,}, of whom {sizes[5] - 2:,} in "
        f"at least 5 patients; give the codes it was trained with as 'vocabulary'."
    )


def _validated(path: Path, where: str, config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = config.model_validate(dict(given)).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        inner = ".".join(str(part) for part in first["loc"])
        name = f"{where}.config.{inner}" if inner else f"{where}.config"
        message = first["msg"].removeprefix("Value error, ")
        raise CheckpointError(f"{path}: field '{name}': {message}.") from error
    return found
