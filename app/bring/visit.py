"""What one visitor of the import page has chosen and asked for, from one look to the next."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from analysis.importing.model_file import ModelFile
from app.bring.belongings import Belongings
from app.bring.description import NAME, Bounds, retitled, settle
from app.bring.importer import Importer
from app.bring.inbox import Inbox
from app.workspace import Workspace, WorkspaceError

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Source:
    """A checkpoint that was chosen. name: for people; stamp: changes when its bytes may have."""

    name: str
    path: Path
    stamp: tuple[int, int]

    @classmethod
    def of(cls, name: str, path: Path) -> Source:
        """The checkpoint at a path. Raises WorkspaceError when it has gone meanwhile."""
        try:
            facts = path.stat()
        except OSError as error:
            raise WorkspaceError(f"{name}: is not there any more; choose another one.") from error
        return cls(name, path, (facts.st_size, facts.st_mtime_ns))


@dataclass(frozen=True)
class Compared:
    """A comparison that was asked for. job: its name; config: the settled description."""

    source: Source
    text: str
    file: ModelFile
    config: Path
    cohort: str
    job: str

    @property
    def task(self) -> str:
        """The task as addresses name it."""
        return f"{self.cohort}/{self.file.task}"


@dataclass
class Visit:
    """State of the page between two of a visitor's clicks.

    look: name of the job that looked into `looked_at`. text: of model.yaml when it is edited by
    hand; beside: the folder of the inbox it was taken from. naming: the run that `importing` is to
    write. answers: what the controls were set to when it was asked for. kept: what the form was
    set to.
    """

    look: str = ""
    looked_at: tuple[Source, str] | None = None
    text: str = ""
    beside: Path | None = None
    compared: Compared | None = None
    importing: str = ""
    naming: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    imported: Mapping[str, Any] | None = None
    refused: list[str] = field(default_factory=list)
    uploads: int = 0
    checked: tuple[str, bool, str] | None = None
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """Everything the page works with: the workspace, the inbox, the visitor's files, the worker."""

    workspace: Workspace
    inbox: Inbox
    mine: Belongings
    importer: Importer
    visit: Visit

    def look(self, source: Source, within: str) -> str:
        """Have somebody look into a checkpoint, once; the name of the job."""
        if self.visit.looked_at != (source, within):
            if self.visit.look:
                self.importer.forget(self.visit.look)
            self.visit.looked_at = (source, within)
            self.visit.look = self._ask("look", source=str(source.path), within=within)
        return self.visit.look

    def compare(self, source: Source, text: str) -> None:
        """Have a checkpoint compared with a description. Raises WorkspaceError in one sentence."""
        uploaded = {label: brought.path for label, brought in self.mine.files.items()}
        bounds = Bounds(self.workspace, self.inbox, self.visit.beside, uploaded)
        config = self.mine.new(".yaml")
        file = settle(text, bounds, config)
        job = self._ask(
            "compare",
            source=str(source.path),
            config=str(config),
            encoders=str(self.workspace.encoders.absolute()),
        )
        cohort = bounds.cohort(file.cohort).name
        self.visit.importing, self.visit.imported = "", None
        self.visit.compared = Compared(source, text, file, config, cohort, job)

    def accept(self, name: str, title: str, allowed: Sequence[str]) -> None:
        """Have the compared checkpoint written as a run. Raises WorkspaceError in one sentence."""
        compared = self.visit.compared
        assert compared is not None
        reason = why_not_named(self.workspace, name) or why_read_only(self.workspace)
        if reason:
            raise WorkspaceError(reason)
        config = self.mine.new(".yaml")
        retitled(compared.config, title, config)
        out = (self.workspace.folder / "runs" / name).absolute()
        self.mine.borrow()
        self.visit.naming = name
        self.visit.importing = self.importer.ask(
            "import",
            partial(_ended, self.mine, out.with_name(f".{name}.partial")),
            source=str(compared.source.path),
            config=str(config),
            out=str(out),
            allow_missing=list(allowed),
            encoders=str(self.workspace.encoders.absolute()),
            name=compared.source.name,
        )

    def check(self, cohort: Path, deep: bool) -> None:
        """Have a cohort checked."""
        job = self.importer.ask("check", cohort=str(cohort.absolute()), deep=deep)
        self.visit.checked = (cohort.name, deep, job)

    def _ask(self, do: str, **content: Any) -> str:
        self.mine.borrow()
        return self.importer.ask(do, self.mine.give_back, **content)

    def in_words(self, error: str) -> str:
        """A sentence of the worker with names that the visitor knows in place of our paths."""
        known: dict[str, str] = {}
        if self.visit.looked_at is not None:
            source = self.visit.looked_at[0]
            known[str(source.path)] = source.name
        if self.visit.compared is not None:
            source = self.visit.compared.source
            known |= {str(source.path): source.name, str(self.visit.compared.config): NAME}
            known[self.visit.compared.config.name] = NAME
        for label, brought in self.mine.files.items():
            known |= {str(brought.path): label, brought.path.name: label}
        for folder in (self.mine.folder, self.inbox.folder, self.workspace.folder):
            known |= {f"{folder.resolve()}/": "", f"{folder.absolute()}/": "", f"{folder}/": ""}
        for path in sorted(known, key=len, reverse=True):
            error = error.replace(path, known[path])
        return error


def _ended(mine: Belongings, partly: Path) -> None:
    """An import is over: what one that was killed had begun goes, and so may the uploads."""
    shutil.rmtree(partly, ignore_errors=True)
    mine.give_back()


def why_not_named(workspace: Workspace, name: str) -> str:
    """Why a new run cannot have that name; empty when it can."""
    if not RUN_NAME.fullmatch(name):
        return (
            "The name of a run has letters, digits, dots, dashes and underscores, begins with a "
            "letter or digit, and is at most 80 long."
        )
    if os.path.lexists(workspace.folder / "runs" / name):
        return f"There is a run {name} already; choose another name."
    return ""


def why_read_only(workspace: Workspace) -> str:
    """Why nothing can be written here; empty when something can."""
    runs = workspace.folder / "runs"
    if os.access(runs if runs.exists() else workspace.folder, os.W_OK):
        return ""
    return (
        "This workspace can only be read, so nothing can be imported into it. What a checkpoint "
        "holds and how it fits can be seen all the same."
    )


def free_name(workspace: Workspace, source: str) -> str:
    """A name for the run of a checkpoint that no run has yet."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", source.rpartition("/")[2].partition(".")[0]).strip("-")
    stem = (stem or "imported")[:60]
    names = [stem, *(f"{stem}-{n}" for n in range(2, 100))]
    return next((n for n in names if not why_not_named(workspace, n)), stem)
