"""What a cohort folder says of itself: `cohort.yaml`, validated.

    COHORT/
      cohort.yaml            this schema
      subjects.parquet       subject_id int64, split, site, age_years, sex, index_time, source_id
      outcomes.parquet       subject_id, task, time_days float64, event int8   (survival)
                             subject_id, task, label int64                     (classification)
      imaging.parquet        modality, subject_id, path, view, acquired
                             (volume, signal: one file a row; video: one view a row)
      folds.parquet          subject_id, fold                                  (optional)
      ehr/data/*.parquet     MEDS 0.4: subject_id, time, code, numeric_value, text_value
      ehr/metadata/codes.parquet   code, description, parent_codes
      tables/NAME.parquet    subject_id + one column a variable               (table)
      bags/NAME.parquet      subject_id, instance, features list<float32>     (bag)
      features/MODALITY/ENCODER_HASH.safetensors   outputs of frozen encoders
      truth/                 simulated cohorts only

Only cohort.yaml, subjects.parquet and outcomes.parquet have fixed names; every other path is
named in cohort.yaml, relative to the folder, and never leaves it.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from analysis.plain_yaml import read_plain_yaml
from models.contracts import Kind
from models.refusal import RefusalError

SCHEMA_VERSION = 1
COHORT_FILE = "cohort.yaml"
SUBJECTS_FILE = "subjects.parquet"
OUTCOMES_FILE = "outcomes.parquet"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Split(StrEnum):
    """Where a patient's data may be used."""

    TRAIN = "train"
    TUNING = "tuning"
    INTERNAL = "internal"
    EXTERNAL = "external"


class CohortError(RefusalError):
    """A cohort cannot be used; the message says what, where and the remedy in one sentence."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _inside(value: str) -> str:
    """A relative path that stays inside the cohort folder."""
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or not value:
        raise ValueError(f"path {value!r} must be relative and stay inside the cohort folder")
    return value


class Column(_Strict):
    """One variable of a table. Nominal columns hold category names as strings."""

    kind: Literal["continuous", "binary", "ordinal", "nominal"] = "continuous"
    unit: str = ""
    title: str = ""
    categories: tuple[str, ...] = ()


class ModalitySpec(_Strict):
    """One modality of the cohort. `path` is the file or folder named in the module docstring."""

    kind: Kind
    title: str
    path: str
    unit: str = ""
    columns: dict[str, Column] = {}
    feature_width: int | None = Field(default=None, gt=0, description="bag: width of an instance")
    instance_name: str = "instance"
    spacing_mm: tuple[float, float, float] | None = None
    shape: tuple[int, int, int] | None = None

    _path = field_validator("path")(_inside)

    @model_validator(mode="after")
    def _complete(self) -> ModalitySpec:
        if self.kind is Kind.TABLE and not self.columns:
            raise ValueError("a table modality names its columns")
        if self.kind is Kind.BAG and self.feature_width is None:
            raise ValueError("a bag modality states feature_width")
        if self.spacing_mm and min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm must be positive")
        return self


class TaskSpec(_Strict):
    """One prediction task. For survival, `event_title` says what counts as the event."""

    kind: Literal["survival", "classification"]
    title: str
    event_title: str = ""
    horizon_days: float | None = Field(default=None, gt=0)
    classes: tuple[str, ...] = ()


class Provenance(_Strict):
    """Where the data come from and under which licence; `simulated` data carry a truth."""

    source: str
    licence: str = ""
    simulated: bool = False
    seed: int | None = None
    citation: str = ""


class Pseudonyms(_Strict):
    """Ids are keyed hashes and each person's times are moved. check: recognises the key."""

    check: str = Field(pattern=r"^[0-9a-f]{16}$")


class CohortSpec(_Strict):
    """The whole of cohort.yaml. One that is being put together may have no modality yet."""

    schema_version: Literal[1] = 1
    name: Name
    title: str
    description: str = ""
    index_event: str = Field(default="", description="what happened at time zero")
    modalities: dict[Name, ModalitySpec]
    tasks: dict[Name, TaskSpec] = Field(min_length=1)
    provenance: Provenance
    truth: str | None = None
    folds: str | None = None
    follows: str = Field(
        default="", description="cohort whose tasks and modalities this one has; its runs fit here"
    )
    pseudonyms: Pseudonyms | None = None

    @field_validator("truth", "folds")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        return None if value is None else _inside(value)

    def task(self, name: str) -> TaskSpec:
        """The task of that name. Raises CohortError listing the known ones."""
        if name not in self.tasks:
            raise CohortError(
                f"{COHORT_FILE}: there is no task '{name}'; choose one of {', '.join(self.tasks)}."
            )
        return self.tasks[name]


def read_spec(folder: Path) -> CohortSpec:
    """The validated cohort.yaml of a folder. Raises CohortError naming the field and the remedy."""
    path = folder / COHORT_FILE
    if not path.is_file():
        raise CohortError(
            f"{folder}: there is no {COHORT_FILE}; name a cohort folder, or make one with "
            "'fusionlens sample' or 'fusionlens import'."
        )
    try:
        content = read_plain_yaml(path)
    except (OSError, ValueError) as error:
        raise CohortError(f"{path}: not readable as YAML ({error}); mend or rewrite it.") from error
    try:
        return CohortSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CohortError(f"{path}: field '{where}': {first['msg']}.") from error


def write_spec(spec: CohortSpec, folder: Path) -> None:
    """Write cohort.yaml; keys in schema order, so the same spec gives the same bytes."""
    content = spec.model_dump(mode="json", exclude_defaults=False)
    # Written only where they say something: cohorts from before the fields keep their fingerprint.
    if not spec.follows:
        del content["follows"]
    if spec.pseudonyms is None:
        del content["pseudonyms"]
    (folder / COHORT_FILE).write_text(
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def fingerprint(folder: Path) -> str:
    """A short hash of what the cohort states (spec, subjects, outcomes); names it in a run."""
    digest = hashlib.sha256()
    for name in (COHORT_FILE, SUBJECTS_FILE, OUTCOMES_FILE):
        digest.update(name.encode())
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]
