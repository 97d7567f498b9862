r"""model.yaml: what a checkpoint does not say of its model, validated.

    title: Our late fusion
    task: mortality                       a task of the cohort
    cohort: cohorts/pe                    relative to this file
    strategy: {name: late, config: {heads: 8}}
    modalities:                           in the order of the model
      ct:
        encoder: {name: ct_resnet, config: {...}}
      ehr:
        encoder: onehot
        vocabulary: codes.json
    rename:
      - {prefix: fusion., to: strategy.}
      - {regex: 'enc_(\w+)\.', to: 'encoders.\1.'}

Paths are relative to the file's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from analysis.plain_yaml import read_plain_yaml
from models.importing.names import Rename
from models.importing.pickles import CheckpointError
from models.vocabulary import Vocabulary

_MOST_VOCABULARY = 64 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _named(value: Any) -> Any:
    """A bare name stands for a part without settings."""
    return {"name": value} if isinstance(value, str) else value


class RenameRule(_Strict):
    """A prefix or a regular expression in a tensor's name, and what takes its place."""

    prefix: str | None = Field(default=None, min_length=1)
    regex: str | None = Field(default=None, min_length=1)
    to: str = ""

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            Rename(value, regex=True)
        return value

    @model_validator(mode="after")
    def _one(self) -> RenameRule:
        if (self.prefix is None) == (self.regex is None):
            raise ValueError("a rule has either a prefix or a regex")
        return self

    @property
    def rule(self) -> Rename:
        """The rule as it is applied."""
        return Rename(self.prefix or self.regex or "", self.to, self.regex is not None)


class StrategyPart(_Strict):
    """The fusion strategy. What `config` leaves out is read off the shapes or assumed."""

    name: str
    config: dict[str, Any] = {}


class EncoderPart(_Strict):
    """The encoder of a modality: by name, or by the hash under which it is stored.

    frozen: whether it is kept apart and its features are stored once; by default for scans and
    recordings. weights: a checkpoint of its own; within: where in it the weights lie.
    """

    name: str | None = None
    config: dict[str, Any] = {}
    frozen: bool | None = None
    stored: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    weights: str | None = None
    within: str = ""

    @model_validator(mode="after")
    def _one(self) -> EncoderPart:
        if (self.name is None) == (self.stored is None):
            raise ValueError("an encoder has either a name or the hash under which it is stored")
        if self.stored and (self.config or self.weights or self.frozen is False):
            raise ValueError("a stored encoder brings its settings and weights, and is frozen")
        return self


class ModalityPart(_Strict):
    """A modality of the model; kind and title are the cohort's."""

    encoder: Annotated[EncoderPart, BeforeValidator(_named)]
    vocabulary: str | None = None


class ModelFile(_Strict):
    """The whole of model.yaml."""

    title: str = ""
    task: str
    cohort: str
    strategy: Annotated[StrategyPart, BeforeValidator(_named)]
    modalities: dict[str, ModalityPart] = Field(min_length=1)
    rename: tuple[RenameRule, ...] = ()
    within: str = ""
    baseline: str | None = None
    intended_use: str = "Research on fusion strategies; not for clinical decisions."

    @property
    def rules(self) -> tuple[Rename, ...]:
        """The rename rules, in order."""
        return tuple(rule.rule for rule in self.rename)


def read_model_file(path: Path) -> ModelFile:
    """The validated model.yaml. Raises CheckpointError naming the field and the remedy."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; describe the model in it.")
    try:
        content = read_plain_yaml(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as YAML ({error}); mend it.") from error
    try:
        return ModelFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise CheckpointError(f"{path}: field '{where}': {message}.") from error


def read_vocabulary(path: Path, modality: str) -> Vocabulary:
    """A vocabulary: FusionLens's own file, a run's vocabulary.json, or a JSON list of codes.

    The first code of a list is id 2 (0 pads, 1 is an unknown code). Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; name the codes of '{modality}'.")
    try:
        if path.stat().st_size > _MOST_VOCABULARY:
            raise ValueError("it is too long")
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get(modality), dict):
            content = content[modality]
        if isinstance(content, list):
            codes = tuple(map(str, content))
            return Vocabulary(codes, (0.0,) * len(codes), (1.0,) * len(codes))
        return Vocabulary.from_json(json.dumps(content))
    except (ValueError, RecursionError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not readable as a vocabulary ({error}); give a JSON list of codes."
        ) from error
