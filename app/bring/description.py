"""model.yaml on a page: drafted from a form, and settled so that it names nothing out of bounds.

On the command line the paths in model.yaml are its owner's own. Here the text comes from a
browser, so every path in it must be a cohort of the workspace, a file in the inbox, an uploaded
file, or what a run of the workspace keeps beside its weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis.cohort.schema import ModalitySpec
from analysis.importing.model_file import ModelFile, read_model_file
from analysis.predict import kind_on_file
from app.bring.inbox import Inbox
from app.workspace import Workspace, WorkspaceError
from models.checkpoint import BASELINE_FILE, VOCABULARY_FILE
from models.encoders.base import ENCODERS
from models.importing.pickles import CheckpointError, short

NAME = "model.yaml"
_MOST_LETTERS = 200_000
_OF_A_RUN = re.compile(
    rf"runs/[A-Za-z0-9][A-Za-z0-9._-]*/({re.escape(VOCABULARY_FILE)}|{re.escape(BASELINE_FILE)})"
)
_RULE = re.compile(r"\s*(?:->|→)\s*")


@dataclass(frozen=True)
class Part:
    """A modality in the form. encoder: a name, or the hash of a stored one if `stored`.

    vocabulary, weights: names of files; empty for none.
    """

    encoder: str
    stored: bool = False
    vocabulary: str = ""
    weights: str = ""


@dataclass(frozen=True)
class Form:
    """What a newcomer chooses; `as_yaml` makes model.yaml of it."""

    title: str
    cohort: str
    task: str
    strategy: str
    parts: Mapping[str, Part]
    rename: Sequence[Mapping[str, str]] = ()
    within: str = ""
    baseline: str = ""

    @property
    def as_yaml(self) -> str:
        """The text of model.yaml; what is not chosen is left out."""
        content: dict[str, Any] = {
            **({"title": self.title} if self.title else {}),
            "task": self.task,
            "cohort": self.cohort,
            "strategy": self.strategy,
            "modalities": {name: _modality(part) for name, part in self.parts.items()},
        }
        if self.rename:
            content["rename"] = [dict(rule) for rule in self.rename]
        for name in ("within", "baseline"):
            if getattr(self, name):
                content[name] = getattr(self, name)
        text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        return text


def _modality(part: Part) -> dict[str, Any]:
    encoder: Any = {"stored": part.encoder} if part.stored else part.encoder
    if part.weights and not part.stored:
        encoder = {"name": part.encoder, "weights": part.weights}
    return {"encoder": encoder, **({"vocabulary": part.vocabulary} if part.vocabulary else {})}


def encoders_for(spec: ModalitySpec) -> list[str]:
    """Names of the encoders that read a modality of the cohort."""
    return [name for name in ENCODERS if kind_on_file(ENCODERS.get(name).kind) is spec.kind]


def read_rules(text: str) -> list[dict[str, str]]:
    """Rename rules of lines 'found -> instead'; /found/ is a regular expression.

    Raises WorkspaceError with the number of the line that is no rule.
    """
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found, *instead = _RULE.split(line.strip(), maxsplit=1)
        if not found or not instead:
            raise WorkspaceError(
                f"rename rules, line {number}: write 'found -> instead'; what is to go has nothing "
                "after the arrow."
            )
        regex = len(found) > 2 and found.startswith("/") and found.endswith("/")
        what = {"regex": found[1:-1]} if regex else {"prefix": found}
        rules.append({**what, "to": instead[0]})
    return rules


# ---------------------------------------------------------------- within bounds


@dataclass(frozen=True)
class Bounds:
    """Where a description may point.

    beside: the folder of the inbox in which the text lay, if it lay there. uploaded: {label: path}.
    """

    workspace: Workspace
    inbox: Inbox
    beside: Path | None = None
    uploaded: Mapping[str, Path] = field(default_factory=dict)

    def cohort(self, value: str) -> Path:
        """The folder of a cohort of the workspace. Raises WorkspaceError naming those there are."""
        known = {e.folder.resolve(): e for e in self.workspace.cohorts() if e.cohort is not None}
        homes = [self.beside] if self.beside else []
        for home in (*homes, self.workspace.folder):
            there = _resolved(home, value)
            if there in known:
                return there
        names = ", ".join(f"cohorts/{e.folder.name}" for e in known.values()) or "none"
        raise WorkspaceError(
            f"{NAME}: field 'cohort': {short(value)} is no cohort of this workspace; it has "
            f"{names}."
        )

    def file(self, value: str, where: str) -> Path:
        """A file that the description names. Raises WorkspaceError when it is out of bounds."""
        if value in self.uploaded:
            return self.uploaded[value]
        for home in filter(None, (self.beside, self.inbox.folder)):
            there = _resolved(home, value)
            if there is not None and there.exists() and self.inbox.inside(there):
                return there
        if _OF_A_RUN.fullmatch(value):
            there = _resolved(self.workspace.folder, value)
            runs = (self.workspace.folder / "runs").resolve()
            if there is not None and there.is_file() and there.is_relative_to(runs):
                return there
        raise WorkspaceError(
            f"{NAME}: field '{where}': {short(value)} is neither uploaded nor in the inbox; upload "
            "it under that name."
        )


def _resolved(home: Path, value: str) -> Path | None:
    try:
        return (home / value).resolve()
    except (OSError, ValueError, RuntimeError):
        return None


def settle(text: str, bounds: Bounds, path: Path) -> ModelFile:
    """Write the description with its paths made whole to `path`; gives what was read of the text.

    Raises WorkspaceError in one sentence when it is not valid or points out of bounds.
    """
    if len(text) > _MOST_LETTERS:
        raise WorkspaceError(f"{NAME}: is longer than the description of a model can be.")
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        file = read_model_file(path)
    except CheckpointError as error:
        raise WorkspaceError(str(error).replace(str(path), NAME)) from error
    finally:
        path.unlink()
    content = file.model_dump(mode="json", exclude_none=True)
    content["cohort"] = str(bounds.cohort(file.cohort))
    if file.baseline is not None:
        content["baseline"] = str(bounds.file(file.baseline, "baseline"))
    _check_settings(file.strategy.config, "strategy.config")
    for name, part in file.modalities.items():
        where = f"modalities.{name}"
        given = content["modalities"][name]
        if part.vocabulary is not None:
            given["vocabulary"] = str(bounds.file(part.vocabulary, f"{where}.vocabulary"))
        if part.encoder.weights is not None:
            at = f"{where}.encoder.weights"
            given["encoder"]["weights"] = str(bounds.file(part.encoder.weights, at))
        settings = dict(part.encoder.config)
        # The one setting of an encoder that is a place on this machine.
        if isinstance(settings.get("path"), str):
            folder = bounds.file(settings.pop("path"), f"{where}.encoder.config.path")
            given["encoder"]["config"]["path"] = str(folder)
        _check_settings(settings, f"{where}.encoder.config")
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def retitled(path: Path, title: str, to: Path) -> None:
    """Write a settled description once more under another title."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    to.write_text(yaml.safe_dump({**content, "title": title}, sort_keys=False), encoding="utf-8")


def _check_settings(value: Any, where: str) -> None:
    """Refuse settings that look like places on this machine. Raises WorkspaceError."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "path":
                raise WorkspaceError(f"{NAME}: field '{where}.path': is not taken from a page.")
            _check_settings(inner, f"{where}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            _check_settings(inner, where)
    elif isinstance(value, str) and ("/" in value or "\\" in value):
        raise WorkspaceError(
            f"{NAME}: field '{where}': {short(value)} may be a path, which a page does not take; "
            "use 'fusionlens import checkpoint'."
        )
